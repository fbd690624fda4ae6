//! One writer per project: many at once do no harm, and a dead one holds nothing.

use std::time::Duration;

use rustix::process::Signal;

use crate::engine::{Engine, Kind};
use crate::wait::wait_for;

const BODY: &str = "sandboxes: { dev: { image: host }, web: { image: host } }";

/// Of twenty at once one wins at a time; the others say who holds the lock and to try again.
#[test]
fn twenty_applies() {
    let engine = Engine::start(Kind::Rootless5);
    engine.configure(BODY);
    let all: Vec<_> = (0..20).map(|_| engine.sbx(&["apply", "--auto-approve"]).start()).collect();
    let finished: Vec<_> = all.into_iter().map(crate::invocation::Running::finish).collect();
    let count = |code| finished.iter().filter(|one| one.code == code).count();
    assert!(count(0) >= 1);
    assert_eq!(count(0) + count(75), 20, "{:?}", finished.iter().map(|one| one.code).collect::<Vec<_>>());
    for one in finished.iter().filter(|one| one.code == 75) {
        assert!(one.stderr.contains("is being changed by"), "{}", one.stderr);
        assert!(one.stderr.contains("--lock-timeout"), "{}", one.stderr);
    }
    engine.expect_nothing_to_do();
    assert_eq!(engine.containers().len(), 2);
}

/// The same, waiting for each other: all succeed, and only one of them did anything.
#[test]
fn twenty_patient_applies() {
    let engine = Engine::start(Kind::Rootful4);
    engine.configure(BODY);
    let apply = || engine.sbx(&["apply", "--auto-approve", "--lock-timeout", "100s"]).start();
    let all: Vec<_> = (0..20).map(|_| apply()).collect();
    let finished: Vec<_> = all.into_iter().map(|one| one.finish().expect_code(0)).collect();
    assert_eq!(finished.iter().filter(|one| one.stderr.contains("created")).count(), 1);
    engine.expect_nothing_to_do();
    assert_eq!(engine.containers().len(), 2);
}

/// A holder that is killed holds nothing, its lock file hinders nobody, and what it was making is cleared away.
#[test]
fn a_killed_holder() {
    let engine = Engine::start(Kind::Rootless4);
    let root = engine.rootfs("root");
    let images = |setup: &str| {
        engine.configure(&format!(
            "images: {{ bare: {{ rootfs: {} }}, made: {{ from: bare, setup: {{ run: [{setup}] }} }} }}\n\
             sandboxes: {{ dev: {{ image: made }} }}",
            root.display()
        ));
    };
    // The lock is held for as long as this takes.
    images("sleep 1000");
    let holder = engine.sbx(&["apply", "--auto-approve"]).start();
    wait_for("the commands to run", Duration::from_secs(30), || (engine.containers().len() == 1).then_some(()));
    let refused = engine.try_apply(&[]).expect_code(75);
    assert!(refused.stderr.contains(&format!("process {}", inner_pid(&engine))), "{}", refused.stderr);
    // Nobody waits longer than the run may take.
    let bound = engine.try_apply(&["--lock-timeout", "100s", "--timeout", "500ms"]).expect_code(124);
    assert!(bound.told().contains("the time was up while project"), "{}", bound.stderr);
    // However the engine is called: by a link to its socket, and by not being named at all.
    let alias = engine.dir().join("alias.sock");
    std::os::unix::fs::symlink(engine.socket(), &alias).unwrap();
    engine.try_apply(&["--engine-url", &format!("unix://{}", alias.display())]).expect_code(75);
    engine.sbx(&["apply", "--auto-approve"]).env_remove("CONTAINER_HOST").run().expect_code(75);
    holder.signal(Signal::KILL);
    holder.finish().expect_code(137);

    images("touch /made");
    engine.converge();
    assert_eq!(engine.containers(), [("demo_dev".into(), "running".into())].into());
    engine.inside("dev", &["ls", "/made"]);
}

/// Process id of the running `sbx apply`, as seen inside the engine.
fn inner_pid(engine: &Engine) -> String {
    let script = "for dir in /proc/[0-9]*; do grep -qs '^sbx$' $dir/comm && basename $dir; done; true";
    engine.as_root("sh").args(["-c", script]).ok()
}

/// Two projects on one engine, each with its own lock: creations that the engine cannot do at once take turns. Podman 5.4
/// dies of two questions for subordinate ids at a time, or one of them gets no answer.
#[test]
fn two_projects_at_once() {
    let engine = Engine::start(Kind::Rootless5);
    let sandboxes =
        ["one", "two", "three", "four", "five", "six"].map(|name| format!("\x20 {name}: {{ image: host }}\n")).concat();
    for project in ["left", "right"] {
        let quotas = "quotas: { perOwner: 20, total: 20 }\n";
        engine.write(
            format!("{project}/sandboxes.yaml"),
            format!("apiVersion: sbx/v1\nproject: {project}\n{quotas}sandboxes:\n{sandboxes}"),
        );
    }
    let both = |command: &[&str]| {
        let start = |project| engine.sbx(command).args(["--auto-approve"]).cwd(engine.project().join(project)).start();
        let running = ["left", "right"].map(start);
        for one in running {
            one.finish().expect_code(0);
        }
    };
    for _ in 0..3 {
        both(&["apply", "--parallelism", "6"]);
        assert_eq!(engine.containers().values().filter(|state| *state == "running").count(), 12);
        both(&["destroy"]);
    }
    assert!(engine.answers());
}
