//! Killed at every step: at most two applies converge, the plan after that is empty, nothing of the user's is lost.

use std::path::Path;
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

/// The engine's service dies while containers are made: `sbx` says so, and the next run on a new service converges.
#[test]
fn the_engine_in_mid_create() {
    for kind in [Kind::Rootless4, Kind::Rootful5] {
        let engine = prepared(kind);
        engine.configure(&body(1));
        let apply = engine.sbx(&["apply", "--auto-approve"]).start();
        wait_for("the first object", Duration::from_secs(20), || {
            (!engine.get("/volumes/json").as_array().unwrap().is_empty()).then_some(())
        });
        engine.kill_service();
        let finished = apply.finish();
        assert!(finished.code == 69 || finished.code == 1 || finished.code == 0, "{}", finished.stderr);
        assert!(finished.code == 0 || finished.stderr.contains("engine"), "{}", finished.stderr);
        engine.start_service();
        converges_within_two(&engine, "engine killed");
        assert!(Path::new(&engine.project().join("trees/work/file")).exists());
        assert_eq!(std::fs::read_to_string(engine.project().join("work/file")).unwrap(), "workspace");
    }
}
