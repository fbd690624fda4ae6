//! Properties of planning and execution on the backend in memory: from any state, whatever happened before.
//!
//! Longer than most files: every property shares the same generators and the same bench, and is read beside them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use indexmap::IndexMap;
use proptest::prelude::*;
use schema::Name;
use schema::config::{
    Config, Egress, EnvValue, Gui, Home, Image, Lifecycle, Limits, Network, Origins, Pull, Quotas, Restart, Sandbox,
    SecretSource, Security, User, Userns, Volume, Worktree,
};
use tokio::sync::watch;

use crate::facts::{Observed, State, WorktreePlace};
use crate::host_facts::HostFacts;
use crate::options::{Destroy, Intent, PlanOptions};
use crate::outcome::Outcome;
use crate::plan::{Action, Plan};
use crate::resource::{Labels, label, secret_hash};
use crate::spec::LimitSpec;
use crate::testing::MemoryBackend;
use crate::{ExecuteOptions, execute, prepare};

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
        any::<bool>(),
    )
        .prop_map(|(image, memory, pids, networked, home, env, restart, worktree, secret)| Variant {
            image,
            memory,
            pids,
            networked,
            home,
            env,
            restart,
            worktree,
            secret,
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
            (name("derived"), Image::Setup { from: name("debian"), run: vec!["true".into()], egress: Egress::None }),
        ]
        .into(),
        secrets: [(name("token"), SecretSource::Env("TOKEN".into()))].into(),
        volumes: [(name("data"), Volume {})].into(),
        networks: [(name("backend"), Network { internal: true })].into(),
        sandboxes,
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
        egress: Egress::None,
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

fn host((_, secret): &Shape) -> HostFacts {
    HostFacts {
        paths: [("/usr".into(), crate::host_facts::PathKind::Directory)].into(),
        secrets: [("token".to_owned(), Ok(secret_hash("acme", "token", &[*secret])))].into(),
        init: "/opt/sbx-init".into(),
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
        let uids = &mut self.uids;
        let mut new_uid = || {
            *uids += 1;
            format!("uid-{uids}")
        };
        let (config, host) = (config(shape), host(shape));
        let prepared = prepare(&config, &host, &self.backend, options, "2026-01-01T00:00:00Z", &mut new_uid);
        futures_util::FutureExt::now_or_never(prepared)
            .expect("memory answers at once")
            .expect("memory does not fail to look")
            .plan
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

    fn settled(&mut self, shape: &Shape) {
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
    Rename,
    Limits,
    Restart,
    Disconnect,
    ReplaceBind,
    DeleteWorktree,
    DropSecret,
    DropImageTag,
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        Just(Edit::Stop),
        Just(Edit::Pause),
        Just(Edit::Remove),
        Just(Edit::Rename),
        Just(Edit::Limits),
        Just(Edit::Restart),
        Just(Edit::Disconnect),
        Just(Edit::ReplaceBind),
        Just(Edit::DeleteWorktree),
        Just(Edit::DropSecret),
        Just(Edit::DropImageTag),
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
            Edit::Rename => container.facts.name = format!("renamed-{which}"),
            Edit::Limits => {
                container.facts.limits =
                    Observed::Present(LimitSpec { cpus_milli: None, memory: Some(4096), pids: Some(7) });
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
        bench.converge(&after);
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

fn one(variant: Variant) -> Shape {
    (vec![Some(variant), None, None], 0)
}

fn plain() -> Variant {
    Variant {
        image: "host",
        memory: None,
        pids: None,
        networked: false,
        home: 0,
        env: 0,
        restart: Restart::No,
        worktree: false,
        secret: false,
    }
}

fn change_of<'a>(plan: &'a Plan, id: &str) -> &'a crate::plan::Change {
    plan.changes.iter().find(|change| change.resource.to_string() == id).expect("in the plan")
}

#[test]
fn a_stop_on_purpose_outlives_applies_and_a_start_ends_it() {
    let mut bench = Bench::new();
    let shape = one(plain());
    bench.converge(&shape);
    let wish = |intent| PlanOptions {
        intents: BTreeMap::from([("api".to_owned(), intent)]),
        targets: ["api".to_owned()].into(),
        state_only: true,
        ..PlanOptions::default()
    };
    assert!(bench.apply(&shape, &wish(Intent::Stopped)).is_done());
    let state = |bench: &Bench| bench.backend.world().containers.values().next().expect("one").facts.state;
    assert_eq!(state(&bench), State::Exited);
    bench.settled(&shape);
    // Even a replacement leaves it stopped.
    bench.converge(&one(Variant { env: 1, ..plain() }));
    assert_ne!(state(&bench), State::Running);
    // A start changes nothing else, though the file has moved on.
    let moved_on = one(Variant { env: 0, ..plain() });
    let plan = bench.plan(&moved_on, &wish(Intent::Running));
    assert_eq!(change_of(&plan, "container/api").action, Action::Update);
    assert!(bench.execute(&plan).is_done());
    assert_eq!(state(&bench), State::Running);
    bench.settled(&one(Variant { env: 1, ..plain() }));
}

#[test]
fn a_clone_of_ours_is_somebody_elses_and_a_renamed_one_is_ours() {
    let mut bench = Bench::new();
    let shape = one(plain());
    bench.converge(&shape);
    let ours = bench.backend.world().containers.values().next().expect("one").facts.clone();
    // A clone copies every label, the uid too.
    let clone = bench.backend.world().add_container("acme_api-clone", ours.labels.clone(), &ours.image_id);
    bench.settled(&shape);
    let options = PlanOptions { destroy: Some(Destroy::default()), ..PlanOptions::default() };
    let plan = bench.plan(&shape, &options);
    assert!(!serde_json::to_string(&plan).expect("serializes").contains(&clone), "a step names the clone");
    // Beside it: the same labels on a container whose proper name nobody has are ours.
    bench.backend.world().containers.remove(&clone);
    bench.backend.world().containers.get_mut(&ours.id).expect("there").facts.name = "renamed".into();
    let plan = bench.plan(&shape, &PlanOptions::default());
    assert_eq!(change_of(&plan, "container/api").because, ["renamed to renamed outside"]);
    bench.converge(&shape);
}

#[test]
fn a_replacement_that_never_gets_ready_brings_the_old_one_back() {
    let mut bench = Bench::new();
    let shape = one(plain());
    bench.converge(&shape);
    let old = bench.backend.world().containers.keys().next().expect("one").clone();
    let mut plan = bench.plan(&one(Variant { env: 1, ..plain() }), &PlanOptions::default());
    assert_eq!(change_of(&plan, "container/api").action, Action::Replace);
    for step in plan.changes.iter_mut().flat_map(|change| &mut change.steps) {
        if let crate::op::Op::CreateContainer { spec, .. } = &mut step.op {
            spec.command = vec!["broken".into()];
        }
    }
    bench.backend.broken_commands.insert("broken".into());
    let outcome = bench.execute(&plan);
    assert!(
        matches!(&outcome.results[0].ending, crate::outcome::Ending::Failed { rolled_back: true, .. }),
        "{outcome:#?}"
    );
    let world = bench.backend.world();
    assert_eq!(world.containers.len(), 1);
    let back = &world.containers[&old].facts;
    assert_eq!((back.name.as_str(), back.state), ("acme_api", State::Running));
}

#[test]
fn names_held_by_others_are_forbidden_and_dependants_not_tried() {
    let mut bench = Bench::new();
    bench.backend.world().volumes.insert("acme_data".into(), Labels::new());
    let shape = one(Variant { home: 1, ..plain() });
    let plan = bench.plan(&shape, &PlanOptions::default());
    assert_eq!(change_of(&plan, "volume/data").action, Action::Forbidden);
    let outcome = bench.execute(&plan);
    let container = outcome.results.iter().find(|result| result.resource.kind == "container").expect("in the outcome");
    assert!(matches!(container.ending, crate::outcome::Ending::NotTried { waited_for: Some(_) }), "{outcome:#?}");
    assert!(bench.backend.world().containers.is_empty());
    // Beside it: the same file converges once the name is free.
    bench.backend.world().volumes.clear();
    bench.converge(&shape);
}

#[test]
fn a_failure_stops_dependants_and_nothing_else() {
    let mut bench = Bench::new();
    let shape = one(Variant { home: 1, networked: true, ..plain() });
    bench.backend.world().fail_after = Some(0);
    let outcome = bench.apply(&shape, &PlanOptions::default());
    let ending = |kind: &str| &outcome.results.iter().find(|result| result.resource.kind == kind).expect(kind).ending;
    for tried in ["image", "volume", "network"] {
        assert!(matches!(ending(tried), crate::outcome::Ending::Failed { .. }), "{tried}: {outcome:#?}");
    }
    assert!(matches!(ending("container"), crate::outcome::Ending::NotTried { waited_for: Some(_) }), "{outcome:#?}");
}

#[test]
fn a_removed_volume_is_kept_until_it_is_named() {
    let mut bench = Bench::new();
    let shape = one(plain());
    bench.converge(&shape);
    let mut without = config(&shape);
    without.volumes.clear();
    let plan = |bench: &mut Bench, accepted: &[&str]| {
        let options =
            PlanOptions { accepted: accepted.iter().map(|&text| text.to_owned()).collect(), ..PlanOptions::default() };
        let mut new_uid = || "uid-x".to_owned();
        let facts = host(&shape);
        let prepared = prepare(&without, &facts, &bench.backend, &options, "now", &mut new_uid);
        futures_util::FutureExt::now_or_never(prepared).expect("at once").expect("looks").plan
    };
    let kept = plan(&mut bench, &[]);
    assert!(kept.is_empty());
    assert!(kept.warnings.iter().any(|notice| notice.code == "sbx::volume-kept"));
    let named = plan(&mut bench, &["volume/data"]);
    assert_eq!(change_of(&named, "volume/data").action, Action::Delete);
    assert_eq!(named.unaccepted(&[]).count(), 1);
    assert_eq!(named.unaccepted(&["volume/data".to_owned()]).count(), 0);
}

#[test]
fn quotas_name_who_holds_what() {
    let mut bench = Bench::new();
    let shape = (vec![Some(plain()), Some(plain()), None], 0);
    let mut config = config(&shape);
    config.quotas = Quotas { per_owner: 1, total: 7 };
    let mut new_uid = || "uid".to_owned();
    let options = PlanOptions::default();
    let facts = host(&shape);
    let prepared = prepare(&config, &facts, &bench.backend, &options, "now", &mut new_uid);
    let plan = futures_util::FutureExt::now_or_never(prepared).expect("at once").expect("looks").plan;
    let notice = plan.warnings.iter().find(|notice| notice.code == "sbx::quota").expect("refused");
    assert_eq!(notice.message, "alice would hold 2 sandboxes, 1 are allowed: acme/api, acme/web");
    // Beside it: the default quotas let the same file through.
    bench.converge(&shape);
}

#[test]
fn a_saved_plan_says_what_moved() {
    let mut bench = Bench::new();
    let shape = one(plain());
    let saved = bench.plan(&shape, &PlanOptions::default());
    let text = serde_json::to_string(&saved).expect("plans serialize");
    let saved: Plan = serde_json::from_str(&text).expect("and back");
    let again = bench.plan(&shape, &PlanOptions::default());
    assert_eq!(crate::planner::moved(&saved, &again), Vec::<String>::new());
    bench.converge(&shape);
    let later = bench.plan(&shape, &PlanOptions::default());
    let moved = crate::planner::moved(&saved, &later);
    assert!(moved.contains(&"container/api: its state changed".to_owned()), "{moved:?}");
}

#[test]
fn a_container_that_has_the_successors_name_is_untouched() {
    let mut bench = Bench::new();
    bench.converge(&one(plain()));
    let changed = one(Variant { env: 1, ..plain() });
    // Made before the name was taken: nothing in it knows of somebody else.
    let early = bench.plan(&changed, &PlanOptions::default());
    let theirs = {
        let mut world = bench.backend.world();
        let id = world.add_container("acme_api.next", Labels::new(), "theirs");
        world.containers.get_mut(&id).expect("added").facts.state = State::Exited;
        id
    };
    let outcome = bench.execute(&early);
    assert!(
        matches!(&outcome.results[0].ending, crate::outcome::Ending::Failed { rolled_back: true, .. }),
        "{outcome:#?}"
    );
    assert!(bench.backend.world().containers.contains_key(&theirs), "taking back took somebody else's");
    let late = bench.plan(&changed, &PlanOptions::default());
    assert_eq!(change_of(&late, "container/api").action, Action::Forbidden);
    // Beside it: with the name free, the same file converges.
    bench.backend.world().containers.remove(&theirs);
    bench.converge(&changed);
}

#[test]
fn an_interrupt_before_the_point_of_no_return_brings_the_old_one_back() {
    for (heard_at, expected) in [("wait until", "old"), ("remove acme_api", "new")] {
        let mut bench = Bench::new();
        bench.converge(&one(plain()));
        let old = bench.backend.world().containers.keys().next().expect("one").clone();
        let plan = bench.plan(&one(Variant { env: 1, ..plain() }), &PlanOptions::default());
        let (interrupt, stop) = watch::channel(false);
        let on_event = |event| {
            if let crate::outcome::Event::Step { message, .. } = event
                && message.starts_with(heard_at)
            {
                interrupt.send_replace(true);
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let options = ExecuteOptions { attempts: 1, ..ExecuteOptions::default() };
        let outcome = runtime.block_on(execute(&plan, &bench.backend, &options, stop, &on_event));
        assert!(outcome.interrupted);
        let world = bench.backend.world();
        let left: Vec<_> = world.containers.values().map(|container| &container.facts).collect();
        assert_eq!(left.len(), 1, "{left:#?}");
        assert_eq!((left[0].name.as_str(), left[0].state), ("acme_api", State::Running));
        assert_eq!(left[0].id == old, expected == "old", "{heard_at}: {outcome:#?}");
    }
}

#[test]
fn members_come_back_to_a_network_that_cannot_be_made_anew() {
    let mut bench = Bench::new();
    let shape = one(Variant { networked: true, ..plain() });
    bench.converge(&shape);
    let theirs = bench.backend.world().add_container("theirs", Labels::new(), "theirs");
    bench.backend.world().containers.get_mut(&theirs).expect("added").facts.networks = vec!["acme_backend".into()];
    let mut open = config(&shape);
    open.networks.insert(name("backend"), Network { internal: false });
    let (options, facts) = (PlanOptions::default(), host(&shape));
    let mut new_uid = || "uid-x".to_owned();
    let prepared = prepare(&open, &facts, &bench.backend, &options, "now", &mut new_uid);
    let plan = futures_util::FutureExt::now_or_never(prepared).expect("at once").expect("looks").plan;
    assert_eq!(change_of(&plan, "network/backend").action, Action::Replace);
    let before = bench.backend.world().networks.clone();
    let outcome = bench.execute(&plan);
    assert!(
        matches!(&outcome.results[0].ending, crate::outcome::Ending::Failed { rolled_back: true, .. }),
        "{outcome:#?}"
    );
    assert_eq!(bench.backend.world().networks, before);
    bench.settled(&shape);
}

#[test]
fn a_paused_sandbox_goes_on_where_it_was() {
    let mut bench = Bench::new();
    let shape = one(Variant { home: 2, ..plain() });
    bench.converge(&shape);
    bench.backend.world().containers.values_mut().for_each(|container| container.facts.state = State::Paused);
    let plan = bench.plan(&shape, &PlanOptions::default());
    let stops = |plan: &Plan| serde_json::to_string(plan).expect("serializes").contains("stop-container");
    assert!(!stops(&plan), "what is in its memory would be lost: {plan:#?}");
    // Made anew it does lose that, and says so.
    for container in bench.backend.world().containers.values_mut() {
        container.probe.tmpfs.insert("/home/dev".into(), (1, 5));
    }
    let options = PlanOptions { replace: ["api".to_owned()].into(), ..PlanOptions::default() };
    let plan = bench.plan(&shape, &options);
    assert!(stops(&plan));
    assert_eq!(change_of(&plan, "container/api").loses.len(), 1);
    bench.converge(&shape);
}

#[test]
fn a_successor_that_is_all_there_is_goes_with_consent_only() {
    let mut bench = Bench::new();
    bench.converge(&one(plain()));
    for container in bench.backend.world().containers.values_mut() {
        container.facts.name = "acme_api.next".into();
        container.probe.changed_files = 3;
    }
    // Killed before the renaming, used since, and now the file says something else.
    let plan = bench.plan(&one(Variant { env: 1, ..plain() }), &PlanOptions::default());
    let change = change_of(&plan, "container/api");
    assert_eq!((change.action, change.loses.len()), (Action::Create, 1), "{change:#?}");
    // Beside it: where the file is the same, it takes its place and loses nothing.
    let plan = bench.plan(&one(plain()), &PlanOptions::default());
    assert_eq!(change_of(&plan, "container/api").loses.len(), 0);
    bench.converge(&one(plain()));
}

#[test]
fn what_could_not_be_looked_at_counts_as_lost_by_a_restart() {
    let mut bench = Bench::new();
    bench.converge(&one(plain()));
    for container in bench.backend.world().containers.values_mut() {
        container.facts.replaced_binds = vec!["/etc/x".into()];
        container.probe.unknown = vec!["/home/dev: no answer".into()];
    }
    let plan = bench.plan(&one(plain()), &PlanOptions::default());
    assert_eq!(plan.unaccepted(&[]).count(), 1);
}

#[test]
fn a_worktree_whose_removal_was_cut_short_is_removed() {
    let mut bench = Bench::new();
    let shape = one(Variant { worktree: true, ..plain() });
    bench.converge(&shape);
    for place in bench.backend.world().worktrees.values_mut() {
        if let WorktreePlace::Worktree(facts) = place {
            *place = WorktreePlace::Missing(facts.clone());
        }
    }
    let everything = Destroy { volumes: true, worktrees: true, secrets: true };
    let options = PlanOptions { destroy: Some(everything), ..PlanOptions::default() };
    let plan = bench.plan(&shape, &options);
    assert_eq!(plan.unaccepted(&[]).count(), 0, "no files are left to lose");
    assert!(bench.execute(&plan).is_done());
    assert!(bench.backend.world().worktrees.is_empty());
}

#[test]
fn passwords_of_remotes_are_not_shown() {
    let mut bench = Bench::new();
    let shape = one(Variant { worktree: true, ..plain() });
    let mut secret = config(&shape);
    secret.sandboxes[0].worktrees[0].repo = "https://me:hunter2@example.test/api.git".into();
    let (options, facts) = (PlanOptions::default(), host(&shape));
    let shown = |bench: &Bench| {
        let mut new_uid = || "uid-x".to_owned();
        let prepared = prepare(&secret, &facts, &bench.backend, &options, "now", &mut new_uid);
        let mut plan = futures_util::FutureExt::now_or_never(prepared).expect("at once").expect("looks").plan;
        for step in plan.changes.iter_mut().flat_map(|change| &mut change.steps) {
            // The operation itself needs it.
            step.op = crate::op::Op::RemoveImage { image: String::new() };
        }
        format!("{plan:?}")
    };
    let text = shown(&bench);
    assert!(text.contains("example.test") && !text.contains("hunter2"), "{text}");
    bench.backend.world().repositories.insert("/clones/api.git".into(), "https://me:hunter3@example.test/b".into());
    let text = shown(&bench);
    assert!(text.contains("is a clone of") && !text.contains("hunter"), "{text}");
    bench.backend.world().repositories.clear();
    bench.converge(&shape);
}
