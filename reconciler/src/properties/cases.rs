//! One case each: states that a generator seldom makes, and what the plan says about them.

use super::*;
use crate::backend::{BackendError, Observe as _};

pub(super) fn one(variant: Variant) -> Shape {
    (vec![Some(variant), None, None], 0)
}

pub(super) fn plain() -> Variant {
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
        policy: 0,
    }
}

pub(super) fn change_of<'a>(plan: &'a Plan, id: &str) -> &'a crate::plan::Change {
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
fn a_saved_plan_says_what_more_would_be_lost() {
    let mut bench = Bench::new();
    bench.converge(&one(plain()));
    let changed = one(Variant { env: 1, ..plain() });
    let with = |bench: &mut Bench, files: u64, sessions: &[&str]| {
        for container in bench.backend.world().containers.values_mut() {
            container.probe.changed_files = files;
            container.probe.exec_sessions = sessions.iter().map(|&command| command.to_owned()).collect();
        }
        bench.plan(&changed, &PlanOptions::default())
    };
    let saved = with(&mut bench, 2, &["sh", "vim"]);
    let text = serde_json::to_string(&saved).expect("plans serialize");
    let saved: Plan = serde_json::from_str(&text).expect("and back");
    for (files, sessions, more) in [
        (2, &["sh", "vim"][..], None),
        (1, &["vim"], None),
        (3, &["sh", "vim"], Some("writable layer, 3 files, 0 B")),
        (2, &["sh", "sh"], Some("exec session, sh")),
        (0, &["sh", "make"], Some("exec session, make")),
    ] {
        let now = with(&mut bench, files, sessions);
        let expected: Vec<_> =
            more.iter().map(|more| format!("container/api: what would be lost has changed: {more}")).collect();
        assert_eq!(crate::planner::moved(&saved, &now), expected);
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
fn a_stop_and_a_restart_ask_for_what_is_in_memory() {
    let mut bench = Bench::new();
    let shape = one(Variant { home: 2, ..plain() });
    bench.converge(&shape);
    let api = || "api".to_owned();
    let wish = |intent, restart: bool| PlanOptions {
        intents: BTreeMap::from([(api(), intent)]),
        restart: if restart { [api()].into() } else { BTreeSet::new() },
        targets: [api()].into(),
        state_only: true,
        ..PlanOptions::default()
    };
    for files in [0, 1] {
        for container in bench.backend.world().containers.values_mut() {
            container.probe.tmpfs.insert("/home/dev".into(), (files, 5));
        }
        for options in [wish(Intent::Stopped, false), wish(Intent::Running, true)] {
            let plan = bench.plan(&shape, &options);
            assert_eq!(change_of(&plan, "container/api").action, Action::Update);
            assert_eq!(plan.unaccepted(&[]).count(), usize::try_from(files).expect("small"), "{plan:#?}");
            assert_eq!(plan.unaccepted(&["container/api".to_owned()]).count(), 0);
        }
    }
}

#[test]
fn a_ceiling_that_cannot_be_read_hides_no_other_and_is_not_set_for_ever() {
    let mut bench = Bench::new();
    let with = |memory| one(Variant { memory: Some(memory), pids: Some(100), ..plain() });
    bench.converge(&with(1 << 30));
    bench.converge(&with(2 << 30));
    let ceilings = |bench: &Bench, pids: u64| {
        for container in bench.backend.world().containers.values_mut() {
            container.facts.limits = Observed::Present(LimitFacts {
                memory: Observed::Unknown("no controller".into()),
                ..LimitSpec { cpus_milli: None, memory: None, pids: Some(pids) }.into()
            });
        }
    };
    // The label still says what it was made with; only what is known to be in force counts.
    ceilings(&bench, 100);
    bench.settled(&with(2 << 30));
    ceilings(&bench, 7);
    let plan = bench.plan(&with(2 << 30), &PlanOptions::default());
    let change = change_of(&plan, "container/api");
    let fields: Vec<_> = change.fields.iter().map(|field| field.path.as_str()).collect();
    assert_eq!((change.action, fields.as_slice()), (Action::Update, &["limits.pids"][..]), "{change:#?}");
}

#[test]
fn what_was_made_from_a_base_that_moved_is_made_anew() {
    let mut bench = Bench::new();
    let shape = one(Variant { image: "derived", ..plain() });
    // The base's id is not known when this is planned, and the next plan is empty all the same.
    bench.converge(&shape);
    let moved = {
        let mut world = bench.backend.world();
        let old = world.images.values_mut().find(|image| image.tags.contains(&"example.test/debian:12".to_owned()));
        old.expect("pulled").tags.clear();
        let (id, tags) = ("moved".to_owned(), vec!["example.test/debian:12".to_owned()]);
        let image = crate::facts::ImageFacts {
            id: id.clone(),
            tags,
            digests: Vec::new(),
            labels: Labels::new(),
            in_use: false,
        };
        world.images.insert(id.clone(), image);
        id
    };
    let plan = bench.plan(&shape, &PlanOptions::default());
    assert_eq!(change_of(&plan, "image/derived").action, Action::Create);
    assert_eq!(change_of(&plan, "container/api").action, Action::Replace);
    bench.converge(&shape);
    let world = bench.backend.world();
    let derived = world.images.values().filter(|image| image.labels.get(label::BASE) == Some(&moved)).count();
    assert_eq!(derived, 1);
}

#[test]
fn a_lockfile_that_pins_what_is_there_changes_nothing() {
    let mut bench = Bench::new();
    let shape = one(Variant { image: "debian", ..plain() });
    bench.converge(&shape);
    let (reference, digest) = ("example.test/debian:12", format!("sha256:{}", "0a".repeat(32)));
    for image in bench.backend.world().images.values_mut() {
        image.digests.push(format!("example.test/debian@{digest}"));
    }
    let mut pinned = host(&shape);
    pinned.locked.insert(reference.to_owned(), digest);
    let plan = bench.plan_of(&config(&shape), &pinned, &PlanOptions::default());
    assert!(plan.is_empty(), "{plan:#?}");
    // Beside it: another digest is another image.
    pinned.locked.insert(reference.to_owned(), format!("sha256:{}", "0b".repeat(32)));
    let plan = bench.plan_of(&config(&shape), &pinned, &PlanOptions::default());
    assert_eq!(change_of(&plan, "container/api").action, Action::Replace);
}

#[test]
fn another_user_of_the_hosts_tools_leaves_the_others_alone() {
    let mut bench = Bench::new();
    let shape: Shape = (vec![Some(plain()), Some(plain()), None], 0);
    bench.converge(&shape);
    let mut changed = config(&shape);
    changed.sandboxes[1].user = User { name: "other".into(), uid: 1001, gid: 1001, home: "/home/other".into() };
    let plan = bench.plan_of(&changed, &host(&shape), &PlanOptions::default());
    let effective: Vec<_> = plan.effective().map(|change| (change.kind.as_str(), change.action)).collect();
    assert_eq!(effective, [("image", Action::Create), ("container", Action::Replace)], "{plan:#?}");
    assert_eq!(change_of(&plan, "container/api").action, Action::Noop);
    assert!(bench.execute(&plan).is_done());
    assert!(bench.plan_of(&changed, &host(&shape), &PlanOptions::default()).is_empty());
    // Back again: the image nobody uses goes, and that of the first stays.
    bench.converge(&shape);
    assert_eq!(bench.backend.world().images.len(), 1);
}

#[test]
fn what_was_applied_and_is_gone_was_removed_by_somebody() {
    let mut bench = Bench::new();
    let shape = one(plain());
    bench.converge(&shape);
    let there = bench.plan(&shape, &PlanOptions::default());
    let known = there.basis.iter().filter_map(|basis| Some((basis.resource.clone(), basis.desired.clone()?)));
    let applied: BTreeMap<_, _> = known.collect();
    bench.backend.world().containers.clear();
    let refresh = |applied: &BTreeMap<_, _>| PlanOptions {
        applied: applied.clone(),
        refresh_only: true,
        ..PlanOptions::default()
    };
    let plan = bench.plan(&shape, &refresh(&applied));
    let change = change_of(&plan, "container/api");
    assert_eq!((change.action, change.drift), (Action::Create, true), "{change:#?}");
    // Never made, or wished otherwise by now, it is the file's doing.
    assert!(bench.plan(&shape, &refresh(&BTreeMap::new())).is_empty());
    assert!(bench.plan(&one(Variant { env: 1, ..plain() }), &refresh(&applied)).is_empty());
    assert!(bench.apply(&shape, &refresh(&applied)).is_done());
    bench.settled(&shape);
}

/// Never comes to an end, and has to tidy after that.
#[derive(Default)]
struct Endless {
    inner: MemoryBackend,
    tidy: std::sync::atomic::AtomicBool,
}

#[async_trait::async_trait]
impl crate::backend::Observe for Endless {
    async fn snapshot(&self, query: &crate::facts::Query) -> Result<crate::facts::Snapshot, BackendError> {
        self.inner.snapshot(query).await
    }

    async fn probe(&self, query: &crate::facts::ProbeQuery) -> Result<crate::facts::Probes, BackendError> {
        self.inner.probe(query).await
    }
}

#[async_trait::async_trait]
impl crate::backend::Perform for Endless {
    async fn perform(&self, _: &crate::op::Op, _: crate::backend::Progress<'_>) -> Result<(), BackendError> {
        std::future::pending().await
    }

    async fn settle(&self) {
        self.tidy.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn what_ran_out_of_time_is_tidied_before_the_end() {
    let plan = Bench::new().plan(&one(plain()), &PlanOptions::default());
    let backend = Endless::default();
    let (_keep, stop) = watch::channel(false);
    let soon = std::time::Duration::from_millis(20);
    let options = ExecuteOptions { step_timeout: soon, transfer_timeout: soon, ..ExecuteOptions::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    assert!(!runtime.block_on(execute(&plan, &backend, &options, stop, &|_| {})).is_done());
    assert!(backend.tidy.load(std::sync::atomic::Ordering::Relaxed));
}

#[test]
fn a_replacement_behind_a_policy_is_refused_on_another_machine() {
    let mut bench = Bench::new();
    let shape = |env, policy| one(Variant { env, policy, ..plain() });
    bench.converge(&shape(0, 1));
    let query = crate::facts::Query::default();
    let looks = bench.backend.snapshot(&query);
    let mut snapshot = futures_util::FutureExt::now_or_never(looks).expect("at once").expect("looks");
    snapshot.engine.local = false;
    snapshot.daemon = Observed::Unknown("elsewhere".to_owned());
    let told = |shape: &Shape| {
        let desired = crate::planner::desire(&config(shape), &host(shape), &snapshot);
        let (probes, options) = (crate::facts::Probes::default(), PlanOptions::default());
        let draft = crate::planner::plan(&desired, &snapshot, &probes, &options, "now", &mut || "uid".to_owned());
        draft.plan.errors().map(|notice| format!("{}: {}", notice.code, notice.message)).collect::<Vec<_>>()
    };
    assert_eq!(told(&shape(0, 1)), Vec::<String>::new(), "nothing is to be done");
    let needs = "needs a daemon, and the engine runs on another machine: the namespaces of its sandboxes cannot be entered \
                 from here";
    assert_eq!(told(&shape(1, 1)), [format!("sbx::egress-unavailable: container/api {needs}")], "its policy stays");
    assert_eq!(told(&shape(1, 2)), [format!("sbx::egress-unavailable: policy/api {needs}")], "told once");
}

#[test]
fn of_two_values_of_a_secret_that_nobody_reads_the_one_that_is_used_counts() {
    for value in 0..2_u8 {
        let shape = (one(Variant { secret: true, ..plain() }).0, value);
        let mut bench = Bench::new();
        bench.converge(&shape);
        // What a run that was cut short left behind.
        let other = secret_hash("acme", "token", &[1 - value]);
        let naming = crate::resource::Naming::new("acme");
        let mut labels = crate::ownership::labels(&naming, "secret", "token", "uid-x".to_owned(), &other);
        labels.insert(crate::kinds::secret::VALUE_HASH.to_owned(), other.clone());
        bench.backend.world().secrets.insert(naming.secret("token", &other), labels);
        let unread = HostFacts { secrets: BTreeMap::new(), unread: ["token".to_owned()].into(), ..host(&shape) };
        let plan = bench.plan_of(&config(&shape), &unread, &PlanOptions::default());
        let effective: Vec<_> = plan.effective().map(|change| change.resource.to_string()).collect();
        assert_eq!(effective, [format!("secret/token@{}", crate::resource::short(&other))], "{value}: {plan:#?}");
    }
}

/// Neither what is there nor what a plan rests on depends on the time.
#[test]
fn a_clock_that_was_set_asks_for_nothing() {
    const YEARS: i64 = 10 * 365 * 86_400;
    let mut bench = Bench::new();
    let shape = one(Variant { home: 1, networked: true, policy: 1, ..plain() });
    bench.converge(&shape);
    let before = bench.plan(&shape, &PlanOptions::default()).basis;
    for years in [YEARS, -YEARS] {
        for container in bench.backend.world().containers.values_mut() {
            container.facts.started_at += years;
        }
        let plan = bench.plan(&shape, &PlanOptions::default());
        assert_eq!(plan.effective().count(), 0, "{plan:#?}");
        assert_eq!(plan.basis, before, "a saved plan is no older for that");
        bench.apply(&shape, &PlanOptions { restart: ["api".to_owned()].into(), ..PlanOptions::default() });
        bench.settled(&shape);
    }
}
