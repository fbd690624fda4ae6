//! Killed at every step: at most two applies converge, the plan after that is empty, nothing of the user's is lost.

use std::time::Duration;

use crate::engine::{Engine, Kind};
use crate::invocation::Invocation;
use crate::wait::wait_for;

/// Every kind of resource, each with data of the user's where it can hold some.
fn body(value: u8) -> String {
    format!(
        "secrets: {{ token: {{ file: ./token }} }}\n\
         volumes: {{ data: {{}} }}\n\
         networks: {{ inner: {{}} }}\n\
         sandboxes:\n\
         \x20 dev:\n\
         \x20   image: host\n\
         \x20   home: {{ volume: data }}\n\
         \x20   networks: [inner]\n\
         \x20   env: {{ V: '{value}', TOKEN: {{ secret: token }} }}\n\
         \x20   mounts: [{{ source: ./work, target: /work, mode: rw }}]\n\
         \x20   worktrees: [{{ repo: ./origin.git, branch: work, base: main, path: ./trees/work }}]"
    )
}

fn prepared(kind: Kind) -> Engine {
    let engine = Engine::start(kind);
    engine.bare_repository("origin.git");
    engine.write("token", "value");
    engine.write("work/file", "workspace");
    engine
}

/// Runs `command` again and again, killed before and after its first operation, its second, and so on, until it runs
/// through; `check` is called after each kill. Gives the number of kills.
fn killed_everywhere<'e>(command: impl Fn() -> Invocation<'e>, mut check: impl FnMut(&str)) -> usize {
    let mut kills = 0;
    for operation in 0..40 {
        for when in ["before", "after"] {
            let point = format!("{when}:{operation}");
            let finished = command().env("SBX_FAILPOINT", &point).run();
            if finished.code == 0 {
                return kills;
            }
            finished.expect_code(137);
            kills += 1;
            check(&point);
        }
    }
    panic!("it never ran through");
}

fn converges_within_two(engine: &Engine, point: &str) {
    let first = engine.try_apply(&[]);
    if first.code != 0 {
        eprintln!("{point}: the first apply ended with {}: {}", first.code, first.stderr);
        engine.apply();
    }
    engine.expect_nothing_to_do();
    assert_eq!(engine.containers(), [("demo_dev".into(), "running".into())].into(), "{point}");
}

/// Checksums of all that is the user's: the volume, the worktree, the workspace.
fn user_data(engine: &Engine) -> String {
    let tree = engine.project().join("trees/work");
    let script = format!(
        "cd ~ && cat file | sha256sum && cd {} && cat file new | sha256sum && git log -1 --format=%H && cat /work/file | sha256sum",
        tree.display()
    );
    engine.shell("dev", &script)
}

fn fill(engine: &Engine) {
    let tree = engine.project().join("trees/work");
    engine.shell("dev", &format!("echo home > ~/file; echo work >> {0}/file; echo new > {0}/new", tree.display()));
}

fn a_create(kind: Kind) {
    let engine = prepared(kind);
    engine.configure(&body(1));
    let destroy = ["destroy", "--auto-approve", "--volumes", "--worktrees", "--secrets"];
    let kills = killed_everywhere(
        || engine.sbx(&["apply", "--auto-approve", "--parallelism", "1"]),
        |point| {
            converges_within_two(&engine, point);
            assert_eq!(std::fs::read_to_string(engine.project().join("work/file")).unwrap(), "workspace");
            engine.sbx(&destroy).run().expect_code(0);
            std::fs::remove_dir_all(engine.home().join(".local/share/sbx/clones")).ok();
        },
    );
    assert!(kills >= 12, "image, volume, network, secret, clone, worktree, container: {kills}");
    engine.expect_nothing_to_do();
}

fn a_replace(kind: Kind) {
    let engine = prepared(kind);
    engine.configure(&body(0));
    engine.converge();
    fill(&engine);
    let data = user_data(&engine);
    let value = std::cell::Cell::new(0u8);
    let kills = killed_everywhere(
        || {
            value.set(value.get() + 1);
            engine.configure(&body(value.get()));
            engine.sbx(&["apply", "--auto-approve", "--parallelism", "1"])
        },
        |point| {
            converges_within_two(&engine, point);
            assert_eq!(engine.shell("dev", "echo $V"), value.get().to_string(), "{point}");
            assert_eq!(user_data(&engine), data, "{point}");
        },
    );
    assert!(kills >= 10, "create, stop, start, ready, remove, rename: {kills}");
}

fn a_destroy(kind: Kind) {
    let engine = prepared(kind);
    engine.configure(&body(0));
    engine.converge();
    fill(&engine);
    let data = user_data(&engine);
    let kills = killed_everywhere(
        || engine.sbx(&["destroy", "--auto-approve", "--parallelism", "1"]),
        |point| {
            converges_within_two(&engine, point);
            assert_eq!(user_data(&engine), data, "{point}");
        },
    );
    assert!(kills >= 6, "stop, remove, network: {kills}");
    assert_eq!(engine.containers().len(), 0);
    engine.converge();
    assert_eq!(user_data(&engine), data);
}

#[test]
fn a_create_rootful_4() {
    a_create(Kind::Rootful4);
}

#[test]
fn a_create_rootless_5() {
    a_create(Kind::Rootless5);
}

#[test]
fn a_replace_rootless_4() {
    a_replace(Kind::Rootless4);
}

#[test]
fn a_replace_rootful_5() {
    a_replace(Kind::Rootful5);
}

#[test]
fn a_destroy_rootful_4() {
    a_destroy(Kind::Rootful4);
}

#[test]
fn a_destroy_rootless_5() {
    a_destroy(Kind::Rootless5);
}

/// Something that is there only while a container is made.
#[derive(Debug)]
enum Moment {
    /// The engine lists it; it does not run yet.
    Listed,
    /// The same of one that is to take the place of another, which runs meanwhile.
    Successor,
}

impl Moment {
    fn wait(&self, engine: &Engine) {
        let name = match self {
            Self::Listed => "demo_dev",
            Self::Successor => "demo_dev.next",
        };
        wait_for(name, Duration::from_secs(20), || engine.containers().contains_key(name).then_some(()));
    }
}

/// The engine's service is killed while it makes a container: `sbx` says so, and what runs next on a new service
/// converges with all that is the user's.
fn the_engine_in_mid_create(kind: Kind) {
    let engine = prepared(kind);
    engine.configure(&body(0));
    engine.converge();
    fill(&engine);
    let data = user_data(&engine);
    for (value, moment) in (1..).zip([Moment::Listed, Moment::Successor]) {
        if !matches!(moment, Moment::Successor) {
            engine.sbx(&["destroy", "--auto-approve"]).run().expect_code(0);
        }
        engine.configure(&body(value));
        let apply = engine.sbx(&["apply", "--auto-approve"]).start();
        moment.wait(&engine);
        engine.kill_service();
        let finished = apply.finish();
        assert!(finished.code == 69 || finished.code == 1, "{moment:?}: {} {}", finished.code, finished.stderr);
        assert!(finished.stderr.contains("engine"), "{moment:?}: {}", finished.stderr);
        engine.start_service();
        converges_within_two(&engine, &format!("{moment:?}"));
        assert_eq!(engine.shell("dev", "echo $V"), value.to_string(), "{moment:?}");
        assert_eq!(user_data(&engine), data, "{moment:?}");
    }
}

#[test]
fn the_engine_in_mid_create_rootful_4() {
    the_engine_in_mid_create(Kind::Rootful4);
}

#[test]
fn the_engine_in_mid_create_rootless_4() {
    the_engine_in_mid_create(Kind::Rootless4);
}

#[test]
fn the_engine_in_mid_create_rootful_5() {
    the_engine_in_mid_create(Kind::Rootful5);
}

#[test]
fn the_engine_in_mid_create_rootless_5() {
    the_engine_in_mid_create(Kind::Rootless5);
}
