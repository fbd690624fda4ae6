//! Properties of planning and execution on the backend in memory: from any state, whatever happened before.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use indexmap::IndexMap;
use proptest::prelude::*;
use schema::Name;
use schema::config::{
    Config, Egress, EnvValue, Gui, Home, Image, Lifecycle, Limits, Network, Origins, Pull, Quotas, Restart, Sandbox,
    SecretSource, Security, User, Userns, Volume, Worktree,
};
use schema::policy::{HeaderValue, Policy, Rule};
use tokio::sync::watch;

use crate::facts::{LimitFacts, Observed, State, WorktreePlace};
use crate::host_facts::HostFacts;
use crate::kinds::container::applied_spec;
use crate::options::{Destroy, Intent, PlanOptions};
use crate::outcome::Outcome;
use crate::plan::{Action, Plan};
use crate::resource::{Labels, ResourceId, label, secret_hash};
use crate::spec::LimitSpec;
use crate::testing::MemoryBackend;
use crate::{ExecuteOptions, execute, prepare};

mod cases;
mod ceilings;
mod older;
mod others;
mod owners;
mod replacements;
mod worktrees;

const SANDBOXES: [&str; 3] = ["api", "web", "worker"];

fn name(text: &str) -> Name {
    Name::new(text).expect("a valid name")
}

/// What varies of a sandbox.
#[derive(Debug, Clone)]
struct Variant {
    image: &'static str,
    memory: Option<u64>,
    pids: Option<u64>,
    networked: bool,
    home: u8,
    env: u8,
    restart: Restart,
    worktree: bool,
    secret: bool,
    /// No rules for 0, then more of them, at last with a secret.
    policy: u8,
}

/// What varies of a project: a sandbox or none for each name, and the value of the secret.
type Shape = (Vec<Option<Variant>>, u8);

fn variant() -> impl Strategy<Value = Variant> {
    (
        prop_oneof![Just("host"), Just("debian"), Just("derived")],
        prop_oneof![Just(None), Just(Some(1_u64 << 30)), Just(Some(2 << 30))],
        prop_oneof![Just(None), Just(Some(100))],
        any::<bool>(),
        0..3_u8,
        0..2_u8,
        prop_oneof![Just(Restart::No), Just(Restart::Always)],
        any::<bool>(),
        (any::<bool>(), 0..4_u8),
    )
        .prop_map(|(image, memory, pids, networked, home, env, restart, worktree, (secret, policy))| Variant {
            image,
            memory,
            pids,
            networked,
            home,
            env,
            restart,
            worktree,
            secret,
            policy,
        })
}

fn shape() -> impl Strategy<Value = Shape> {
    (proptest::collection::vec(proptest::option::of(variant()), SANDBOXES.len()), 0..2_u8)
}

fn config((variants, _): &Shape) -> Config {
    let sandboxes: IndexMap<Name, Sandbox> = SANDBOXES
        .iter()
        .zip(variants)
        .filter_map(|(sandbox, variant)| {
            variant.as_ref().map(|variant| (name(sandbox), self::sandbox(sandbox, variant)))
        })
        .collect();
    Config {
        project: name("acme"),
        quotas: Quotas { per_owner: 5, total: 7 },
        images: [
            (name("host"), Image::Host { dirs: vec!["/usr".into()], etc: vec!["ssl".into()] }),
            (name("debian"), Image::Ref { reference: "example.test/debian:12".into(), pull: Pull::Missing }),
            (
                name("derived"),
                Image::Setup { from: name("debian"), run: vec!["true".into()], egress: Egress::default() },
            ),
        ]
        .into(),
        secrets: [(name("token"), SecretSource::Env("TOKEN".into()))].into(),
        volumes: [(name("data"), Volume {})].into(),
        networks: [(name("backend"), Network { internal: true })].into(),
        sandboxes,
        tests: Vec::new(),
        assertions: Vec::new(),
        origins: Origins::default(),
    }
}

fn sandbox(text: &str, variant: &Variant) -> Sandbox {
    let tree = Worktree {
        repo: "git@example.test:acme/api.git".into(),
        branch: format!("work-{text}"),
        base: None,
        path: PathBuf::from(format!("/trees/{text}")),
        clone: "/clones/api.git".into(),
    };
    let mut env: IndexMap<String, EnvValue> = [("LEVEL".to_owned(), EnvValue::Text(variant.env.to_string()))].into();
    if variant.secret {
        env.insert("TOKEN".to_owned(), EnvValue::Secret(name("token")));
    }
    Sandbox {
        name: name(text),
        owner: "alice".into(),
        image: name(variant.image),
        user: User { name: "dev".into(), uid: 1000, gid: 1000, home: "/home/dev".into() },
        home: match variant.home {
            0 => Home::Image,
            1 => Home::Volume(name("data")),
            _ => Home::Tmpfs(1 << 20),
        },
        command: None,
        workdir: "/home/dev".into(),
        mounts: Vec::new(),
        overlay: None,
        worktrees: if variant.worktree { vec![tree] } else { Vec::new() },
        networks: if variant.networked { vec![name("backend")] } else { Vec::new() },
        egress: egress(variant.policy),
        limits: Limits { cpus_milli: None, memory: variant.memory, pids: variant.pids },
        restart: variant.restart,
        lifecycle: Lifecycle { idle_stop: None, destroy_after: None, keep_volumes: true },
        security: Security {
            read_only: false,
            no_new_privileges: true,
            cap_drop: vec!["ALL".into()],
            cap_add: Vec::new(),
            tmpfs: IndexMap::new(),
            userns: Userns::Auto,
        },
        gui: Gui::default(),
        devices: Vec::new(),
        env,
    }
}

fn egress(policy: u8) -> Egress {
    let rule = |host: &str| {
        let text = format!(r#"{{"host":"{host}.example","ports":[{{"first":443,"last":443}}],"place":{{"at":"x"}}}}"#);
        serde_json::from_str::<Rule>(&text).expect("a rule")
    };
    let mut allow = match policy {
        0 => Vec::new(),
        1 => vec![rule("a")],
        _ => vec![rule("a"), rule("b")],
    };
    if policy == 3 {
        allow[1].request.set.push(("authorization".to_owned(), HeaderValue::Secret(name("token"))));
    }
    Egress { policy: Policy { allow, ..Policy::default() }, ..Egress::default() }
}

fn host((_, secret): &Shape) -> HostFacts {
    HostFacts {
        paths: [("/usr".into(), crate::host_facts::PathKind::Directory)].into(),
        secrets: [("token".to_owned(), Ok(secret_hash("acme", "token", &[*secret])))].into(),
        data: "/data".into(),
        init: "/opt/sbx-init".into(),
        trust: "/opt/trust".into(),
        ..HostFacts::default()
    }
}

/// One project on one backend.
struct Bench {
    backend: MemoryBackend,
    uids: u64,
}

impl Bench {
    fn new() -> Self {
        Self { backend: MemoryBackend::default(), uids: 0 }
    }

    fn plan(&mut self, shape: &Shape, options: &PlanOptions) -> Plan {
        self.plan_of(&config(shape), &host(shape), options)
    }

    fn plan_of(&mut self, config: &Config, host: &HostFacts, options: &PlanOptions) -> Plan {
        let uids = &mut self.uids;
        let mut new_uid = || {
            *uids += 1;
            format!("uid-{uids}")
        };
        let prepared = prepare(config, host, &self.backend, options, "2026-01-01T00:00:00Z", &mut new_uid);
        let plan = futures_util::FutureExt::now_or_never(prepared)
            .expect("memory answers at once")
            .expect("memory does not fail to look")
            .plan;
        // Starting and stopping by name is no difference, and `diff` has nothing else to tell.
        let untold = plan.effective().find(|change| change.because.is_empty() && change.fields.is_empty());
        assert!(options.state_only || untold.is_none(), "nothing says why: {untold:#?}");
        plan
    }

    fn execute(&self, plan: &Plan) -> Outcome {
        let (_keep, stop) = watch::channel(false);
        let options = ExecuteOptions { attempts: 1, ..ExecuteOptions::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(execute(plan, &self.backend, &options, stop, &|_| {}))
    }

    fn apply(&mut self, shape: &Shape, options: &PlanOptions) -> Outcome {
        let plan = self.plan(shape, options);
        self.execute(&plan)
    }

    fn converge(&mut self, shape: &Shape) {
        let outcome = self.apply(shape, &PlanOptions::default());
        assert!(outcome.is_done(), "{outcome:#?}");
        self.settled(shape);
    }

    /// Nothing runs that is not held to its policy, and nobody else's object stands for one.
    fn held(&self, shape: &Shape) {
        let world = self.backend.world();
        // A container that waits at a gate needs a policy, an empty one too, or nobody would let it in.
        let gated = |name: &str| {
            let container = world.containers.values().find(|container| container.facts.name == format!("acme_{name}"));
            container.is_some_and(|container| applied_spec(&container.facts)["gate"] == true)
        };
        let wanted: Vec<&str> = SANDBOXES
            .iter()
            .zip(&shape.0)
            .filter(|(name, variant)| variant.as_ref().is_some_and(|variant| variant.policy > 0 || gated(name)))
            .map(|(name, _)| *name)
            .collect();
        let mut objects: Vec<&str> = world
            .volumes
            .keys()
            .filter_map(|name| name.strip_prefix("acme_")?.split_once(".policy."))
            .map(|(name, _)| name)
            .collect();
        objects.sort_unstable();
        assert_eq!(objects, wanted, "one policy for each sandbox that has rules or a gate");
        for container in world.containers.values().filter(|container| container.facts.state == State::Running) {
            let Some(name) = container.facts.name.strip_prefix("acme_").filter(|name| wanted.contains(name)) else {
                continue;
            };
            let served = world.daemon.as_ref().and_then(|served| served.get(&container.facts.id)).cloned().flatten();
            assert!(served.is_some() && served == world.newest_policy(name), "{name} is held to {served:?}");
        }
    }

    fn settled(&mut self, shape: &Shape) {
        self.held(shape);
        let plan = self.plan(shape, &PlanOptions::default());
        let rest: Vec<_> = plan.effective().map(|c| (c.resource.to_string(), c.action, c.because.clone())).collect();
        assert!(rest.is_empty(), "the second plan is not empty: {rest:#?}");
    }
}

/// Things done behind our back.
#[derive(Debug, Clone, Copy)]
enum Edit {
    Stop,
    Pause,
    Remove,
    Limits,
    Restart,
    Disconnect,
    ReplaceBind,
    DeleteWorktree,
    DropSecret,
    DropImageTag,
    KillDaemon,
    DropPolicy,
    NewerPolicy,
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        Just(Edit::Stop),
        Just(Edit::Pause),
        Just(Edit::Remove),
        Just(Edit::Limits),
        Just(Edit::Restart),
        Just(Edit::Disconnect),
        Just(Edit::ReplaceBind),
        Just(Edit::DeleteWorktree),
        Just(Edit::DropSecret),
        Just(Edit::DropImageTag),
        Just(Edit::KillDaemon),
        Just(Edit::DropPolicy),
        Just(Edit::NewerPolicy),
    ]
}

impl Bench {
    fn edit(&self, edit: Edit, which: usize) {
        let mut world = self.backend.world();
        let ids: Vec<String> = world.containers.keys().cloned().collect();
        let Some(id) = ids.get(which % ids.len().max(1)) else { return };
        if matches!(edit, Edit::Remove) {
            world.containers.remove(id);
            return;
        }
        let container = world.containers.get_mut(id).expect("listed");
        match edit {
            Edit::Stop => container.facts.state = State::Exited,
            Edit::Pause => container.facts.state = State::Paused,
            Edit::Limits => {
                container.facts.limits =
                    Observed::Present(LimitSpec { cpus_milli: None, memory: Some(4096), pids: Some(7) }.into());
            }
            Edit::Restart => container.restart = "on-failure".into(),
            Edit::Disconnect => container.facts.networks.clear(),
            Edit::ReplaceBind => container.facts.replaced_binds = vec!["/etc/x".into()],
            Edit::DeleteWorktree => {
                for place in world.worktrees.values_mut() {
                    if let WorktreePlace::Worktree(facts) = place {
                        *place = WorktreePlace::Missing(facts.clone());
                    }
                }
            }
            Edit::DropSecret => world.secrets.clear(),
            Edit::DropImageTag => world.images.values_mut().for_each(|image| image.tags.clear()),
            Edit::KillDaemon => world.daemon = None,
            Edit::DropPolicy => world.volumes.retain(|name, _| !name.contains(".policy.")),
            Edit::NewerPolicy => {
                // As a run leaves it that was cut short before it went back to what is written now.
                let policies: Vec<(String, Labels)> = world
                    .volumes
                    .iter()
                    .filter_map(|(name, labels)| Some((name.split_once(".policy.")?.0.to_owned(), labels.clone())))
                    .collect();
                for (name, mut labels) in policies {
                    labels.insert(label::SERIAL.to_owned(), "99".to_owned());
                    labels.insert(label::HASH.to_owned(), "sha256:0".to_owned());
                    world.volumes.insert(format!("{name}.policy.0"), labels);
                }
            }
            Edit::Remove => unreachable!("handled above"),
        }
    }
}

fn foreign(bench: &Bench) -> (String, Labels) {
    let mut world = bench.backend.world();
    // An image that carries our labels, and somebody's container made from it.
    let labels: Labels = [
        (label::PROJECT, "acme"),
        (label::KIND, "container"),
        (label::NAME, "api"),
        (label::UID, "from-image"),
        (label::HASH, "x"),
        (label::SPEC, "{}"),
        (label::OWNER, "mallory"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let image = crate::facts::ImageFacts {
        id: "hostile".into(),
        tags: vec!["example.test/hostile:1".into()],
        digests: Vec::new(),
        labels: labels.clone(),
        in_use: true,
    };
    world.images.insert("hostile".into(), image);
    let id = world.add_container("somebody", labels.clone(), "hostile");
    world.volumes.insert("somebody-data".into(), Labels::new());
    world.volumes.insert("acme_other".into(), Labels::new());
    (id, labels)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn second_plan_is_empty_from_any_start(steps in proptest::collection::vec(shape(), 1..4)) {
        let mut bench = Bench::new();
        for shape in &steps {
            bench.converge(shape);
        }
    }

    #[test]
    fn edits_from_outside_are_repaired(
        before in shape(),
        edits in proptest::collection::vec((edit(), 0..3_usize), 1..4),
        after in proptest::option::of(shape()),
    ) {
        let mut bench = Bench::new();
        bench.converge(&before);
        for (edit, which) in edits {
            bench.edit(edit, which);
        }
        // Half of the time nothing but the edits asks for a change.
        bench.converge(&after.unwrap_or(before));
    }

    #[test]
    fn failure_at_any_operation_then_one_more_apply_converges(before in shape(), after in shape(), at in 0..24_usize, dead in any::<bool>()) {
        let mut bench = Bench::new();
        bench.converge(&before);
        {
            let mut world = bench.backend.world();
            let now = world.performed.len();
            if dead { world.fail_after = Some(now + at) } else { world.fail_at = Some(now + at) }
        }
        bench.apply(&after, &PlanOptions::default());
        bench.backend.world().fail_after = None;
        bench.backend.world().fail_at = None;
        // Somebody works in what was left running, its replacement not yet finished.
        let names = SANDBOXES.map(|name| format!("acme_{name}"));
        let mut used = Vec::new();
        for container in bench.backend.world().containers.values_mut() {
            if container.facts.state == State::Running && !names.contains(&container.facts.name) {
                container.probe.changed_files = 1;
                used.push(container.facts.id.clone());
            }
        }
        let asked = bench.plan(&after, &PlanOptions::default()).unaccepted(&[]).count() > 0;
        bench.converge(&after);
        let world = bench.backend.world();
        prop_assert!(asked || used.iter().all(|id| world.containers.contains_key(id)), "it went unasked");
    }

    #[test]
    fn foreign_objects_are_untouched(steps in proptest::collection::vec(shape(), 1..3), destroy in any::<bool>()) {
        let mut bench = Bench::new();
        let (id, labels) = foreign(&bench);
        for shape in &steps {
            bench.converge(shape);
        }
        if destroy {
            let everything = Destroy { volumes: true, worktrees: true, secrets: true };
            let options = PlanOptions { destroy: Some(everything), ..PlanOptions::default() };
            bench.apply(&steps[0], &options);
        }
        let world = bench.backend.world();
        let container = world.containers.get(&id).expect("still there");
        prop_assert_eq!(&container.facts.labels, &labels);
        prop_assert_eq!(container.facts.state, State::Running);
        prop_assert!(world.images.contains_key("hostile"));
        prop_assert!(world.volumes.contains_key("somebody-data") && world.volumes.contains_key("acme_other"));
    }

    #[test]
    fn destroy_leaves_user_data_and_nothing_else(shape in shape()) {
        let mut bench = Bench::new();
        bench.converge(&shape);
        let trees = bench.backend.world().worktrees.clone();
        let options = PlanOptions { destroy: Some(Destroy::default()), ..PlanOptions::default() };
        prop_assert!(bench.apply(&shape, &options).is_done());
        let world = bench.backend.world();
        prop_assert!(world.containers.is_empty() && world.networks.is_empty());
        prop_assert!(world.volumes.contains_key("acme_data"));
        prop_assert_eq!(&world.worktrees, &trees);
    }

    #[test]
    fn destroy_takes_what_is_named(shape in shape()) {
        let mut bench = Bench::new();
        bench.converge(&shape);
        let everything = Destroy { volumes: true, worktrees: true, secrets: true };
        let options = PlanOptions { destroy: Some(everything), ..PlanOptions::default() };
        let outcome = bench.apply(&shape, &options);
        prop_assert!(outcome.is_done(), "{:#?}", outcome);
        let world = bench.backend.world();
        prop_assert!(world.containers.is_empty() && world.networks.is_empty() && world.volumes.is_empty());
        prop_assert!(world.secrets.is_empty() && world.worktrees.is_empty());
    }
}
