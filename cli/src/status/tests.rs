use reconciler::facts::{EngineFacts, ImageFacts, ObjectFacts};
use reconciler::ownership::{STOP_MARKER, labels};
use reconciler::resource::Labels;

use super::*;
use crate::example::config;
use crate::render::sample;

/// Labels of the container of a sandbox.
fn of(sandbox: &str) -> Labels {
    labels(&Naming::new("acme"), "container", sandbox, format!("uid of {sandbox}"), "")
}

fn container(name: &str, labels: Labels, image: &str) -> ContainerFacts {
    ContainerFacts {
        id: format!("id of {name}"),
        name: name.to_owned(),
        labels,
        state: State::Running,
        exit_code: None,
        image_id: image.to_owned(),
        image: image.to_owned(),
        networks: Vec::new(),
        mount_targets: Vec::new(),
        pid: 1,
        created_at: "1970-01-01T00:01:40.5Z".to_owned(),
        started_at: 200,
        exited_at: 300,
        limits: Observed::Absent,
        replaced_binds: Vec::new(),
    }
}

/// An engine with an image whose labels are those of a container of ours.
fn snapshot(containers: Vec<ContainerFacts>) -> Snapshot {
    let engine = EngineFacts {
        kind: "podman".to_owned(),
        version: "5.4.2".to_owned(),
        rootless: true,
        limits: std::collections::BTreeSet::new(),
        updates_restart: true,
        local: true,
    };
    let (tags, digests) = (Vec::new(), Vec::new());
    let kept = ImageFacts { id: "kept".to_owned(), tags, digests, labels: of("api"), in_use: true };
    Snapshot {
        engine,
        containers,
        images: vec![kept],
        volumes: Vec::new(),
        networks: Vec::new(),
        secrets: Vec::new(),
        repositories: BTreeMap::new(),
        worktrees: BTreeMap::new(),
        checkouts: BTreeMap::new(),
        daemon: Observed::Absent,
    }
}

/// Name, phase, and reason of the first condition.
fn told(config: &Config, snapshot: &Snapshot, waits: bool) -> Vec<(String, &'static str, String)> {
    let report = report(config, snapshot, &sample::empty(), None, 0, |_| waits, &BTreeMap::new());
    let one = |sandbox: Sandbox| (sandbox.name, sandbox.phase, sandbox.conditions[0].reason.clone());
    report.sandboxes.into_iter().map(one).collect()
}

fn row(name: &str, phase: &'static str, reason: &str) -> (String, &'static str, String) {
    (name.to_owned(), phase, reason.to_owned())
}

#[test]
fn nothing_is_ready_that_waits_at_its_gate() {
    let config = config("sandboxes: { api: { image: host } }");
    let snapshot = snapshot(vec![container("acme_api", of("api"), "host")]);
    assert_eq!(told(&config, &snapshot, false), [row("api", "Running", "Running")]);
    assert_eq!(told(&config, &snapshot, true), [row("api", "Running", "AtItsGate")]);
    let report = report(&config, &snapshot, &sample::empty(), None, 0, |_| true, &BTreeMap::new());
    let ready = &report.sandboxes[0].conditions[0];
    assert_eq!((ready.kind, ready.status), ("Ready", Truth::False));
}

/// Since when it is so is told by whoever knows: of the container its engine, of its policy the daemon.
#[test]
fn a_condition_tells_since_when() {
    let written = "sandboxes: { api: { image: host, egress: { allow: [{ host: example.com }] } } }";
    let config = config(written);
    let when = |state, stopped, problem: Option<&str>, learning| {
        let container = ContainerFacts { state, ..container("acme_api", of("api"), "host") };
        let served = egress::control::SandboxStatus {
            container: container.id.clone(),
            generation: 1,
            in_force_since: Some("1970-01-01T00:10:00Z".to_owned()),
            problem: problem.map(str::to_owned),
            learning,
            ..egress::control::SandboxStatus::default()
        };
        let daemon = egress::control::Status {
            version: String::new(),
            pid: 1,
            since: String::new(),
            engine: None,
            records: String::new(),
            lost_records: 0,
            sandboxes: vec![served],
        };
        let mut all = snapshot(vec![container]);
        let marker = labels(&Naming::new("acme"), STOP_MARKER, "api", "uid".to_owned(), "");
        if stopped {
            let name = Naming::new("acme").stop_marker("api");
            all.volumes = vec![ObjectFacts { name, labels: marker, internal: false }];
        }
        let report = report(&config, &all, &sample::empty(), Some(&daemon), 0, |_| false, &BTreeMap::new());
        let told = |condition: Condition| (condition.kind, condition.reason, condition.last_transition);
        report.sandboxes[0].conditions.iter().cloned().map(told).collect::<Vec<_>>()
    };
    let row = |kind, reason: &str, when: Option<&str>| (kind, reason.to_owned(), when.map(str::to_owned));
    let (started, ended) = (Some("1970-01-01T00:03:20Z"), Some("1970-01-01T00:05:00Z"));
    let synced = row("Synced", "UpToDate", None);
    let ready = row("Ready", "Running", started);
    for (problem, learning, reason, at) in [
        (None, None, "InForce", Some("1970-01-01T00:10:00Z")),
        (None, Some("later"), "Learning", Some("1970-01-01T00:10:00Z")),
        (Some("it does not load"), None, "OlderPolicy", None),
    ] {
        let told = when(State::Running, false, problem, learning.map(str::to_owned));
        assert_eq!(told, [ready.clone(), synced.clone(), row("EgressEnforced", reason, at)]);
    }
    for (state, stopped, reason, at) in [
        (State::Created, false, "NotStarted", Some("1970-01-01T00:01:40Z")),
        (State::Exited, false, "Exited", ended),
        (State::Exited, true, "StoppedOnPurpose", ended),
        (State::Paused, false, "Paused", None),
        (State::Other, false, "Unknown", None),
    ] {
        assert_eq!(when(state, stopped, None, None), [row("Ready", reason, at), synced.clone()]);
    }
}

/// Nothing but the age depends on the time.
#[test]
fn a_clock_that_was_set_changes_an_age_and_nothing_else() {
    const YEARS: i64 = 10 * 365 * 86_400;
    let config = config("sandboxes: { api: { image: host } }");
    let started = 1_800_000_000;
    let mut api = container("acme_api", of("api"), "host");
    api.started_at = started;
    let snapshot = snapshot(vec![api]);
    for (now, age) in [(started + 60, "60s"), (started - YEARS, "0s"), (started + YEARS, "3650d"), (i64::MIN, "0s")] {
        let report = report(&config, &snapshot, &sample::empty(), None, now, |_| false, &BTreeMap::new());
        let api = &report.sandboxes[0];
        assert_eq!(api.age.as_deref(), Some(age), "{now}");
        assert_eq!((api.phase, api.conditions[0].reason.as_str()), ("Running", "Running"), "{now}");
        assert_eq!(api.conditions[0].last_transition.as_deref(), Some("2027-01-15T08:00:00Z"), "{now}");
    }
}

#[test]
fn what_an_image_brings_its_labels_to_is_no_sandbox() {
    let config = config("sandboxes: { api: { image: host } }");
    // Somebody's container of our image, and one that even has the name.
    let theirs = |name: &str| container(name, of("api"), "kept");
    for name in ["scratch", "acme_api"] {
        let snapshot = snapshot(vec![theirs(name)]);
        assert_eq!(told(&config, &snapshot, false), [row("api", "Pending", "NotCreated")], "{name}");
    }
    // So says the plan.
    let mut plan = sample::empty();
    let mut held = sample::change(Action::Forbidden, "container", "api");
    held.because = vec!["the name is held".to_owned()];
    plan.changes.push(held);
    let report = report(&config, &snapshot(vec![theirs("acme_api")]), &plan, None, 0, |_| false, &BTreeMap::new());
    assert_eq!(report.sandboxes[0].conditions[0].message, "it is not there, and cannot be created: the name is held");
}

#[test]
fn what_a_replacement_left_is_part_of_its_sandbox() {
    let next = |sandbox: &str| container(&format!("acme_{sandbox}.next"), of(sandbox), "host");
    let all = snapshot(vec![
        container("acme_api", of("api"), "host"),
        next("api"),
        container("acme_old", of("old"), "host"),
        next("old"),
        next("older"),
        // A clone is somebody's experiment.
        container("experiment", of("api"), "host"),
    ]);
    let expected = [
        row("api", "Running", "Running"),
        row("old", "Orphaned", "NotWritten"),
        row("older", "Orphaned", "NotWritten"),
    ];
    assert_eq!(told(&config("sandboxes: { api: { image: host } }"), &all, false), expected);
}

#[test]
fn a_volume_that_only_has_the_name_stops_nobody() {
    let config = config("sandboxes: { api: { image: host } }");
    let mut stopped = container("acme_api", of("api"), "host");
    stopped.state = State::Exited;
    let naming = Naming::new("acme");
    let mut all = snapshot(vec![stopped]);
    let marker = |labels| ObjectFacts { name: naming.stop_marker("api"), labels, internal: false };
    all.volumes = vec![marker(Labels::new())];
    assert_eq!(told(&config, &all, false), [row("api", "Stopped", "Exited")]);
    all.volumes = vec![marker(labels(&naming, STOP_MARKER, "api", "uid".to_owned(), ""))];
    assert_eq!(told(&config, &all, false), [row("api", "Stopped", "StoppedOnPurpose")]);
}

#[test]
fn what_another_machine_is_held_to_nobody_here_can_tell() {
    let config = config("sandboxes: { api: { image: host, egress: { allow: [{ host: a.example }] } } }");
    let mut all = snapshot(vec![container("acme_api", of("api"), "host")]);
    let told = |all: &Snapshot| {
        let report = report(&config, all, &sample::empty(), None, 0, |_| false, &BTreeMap::new());
        let enforced = report.sandboxes[0].conditions.iter().find(|condition| condition.kind == "EgressEnforced");
        enforced.map(|condition| (condition.status, condition.reason.clone())).expect("it has a policy")
    };
    assert_eq!(told(&all), (Truth::False, "NotServed".to_owned()));
    all.engine.local = false;
    assert_eq!(told(&all), (Truth::Unknown, "Elsewhere".to_owned()));
}

#[test]
fn one_that_was_set_aside_is_no_orphan() {
    let config = config("sandboxes: { api: { image: host } }");
    let all = snapshot(vec![container("keep", of("old"), "host")]);
    let seen = [("old".to_owned(), "id of keep".to_owned())].into();
    let report = report(&config, &all, &sample::empty(), None, 0, |_| false, &seen);
    assert_eq!(report.sandboxes.iter().map(|sandbox| sandbox.name.as_str()).collect::<Vec<_>>(), ["api"]);
}
