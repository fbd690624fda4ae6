//! Killed at every step: at most two applies converge, the plan after that is empty, nothing of the user's is lost.

use std::time::Duration;

use crate::engine::{Engine, Kind};
use crate::invocation::Invocation;
use crate::on_every_engine;
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

/// What a running sandbox is held to changes: after two applies at most it is the new rules, and nothing but them.
fn a_change_of_policy(kind: Kind) {
    let rules = |value: u8| {
        format!(
            "sandboxes: {{ dev: {{ image: host, egress: {{ hosts: {{ h{value}.test: [203.0.113.7] }}, \
             allow: [{{ host: h{value}.test, ports: [7], protocol: tcp }}] }} }} }}"
        )
    };
    let engine = Engine::start(kind);
    engine.configure(&rules(0));
    engine.converge();
    let container = engine.id("dev");
    let value = std::cell::Cell::new(0u8);
    let kills = killed_everywhere(
        || {
            value.set(value.get() + 1);
            engine.configure(&rules(value.get()));
            engine.sbx(&["apply", "--auto-approve", "--parallelism", "1"])
        },
        |point| {
            converges_within_two(&engine, point);
            let value = value.get();
            let asked =
                |value: u8| engine.sbx(&["exec", "-T", "dev", "--", "getent", "hosts", &format!("h{value}.test")]);
            asked(value).run().expect_code(0);
            asked(value - 1).run().expect_code(2);
            assert_eq!(engine.get("/volumes/json").as_array().map(Vec::len), Some(1), "{point}: one policy");
        },
    );
    assert!(kills >= 6, "a daemon, the policy, in force, the older one removed: {kills}");
    assert_eq!(engine.id("dev"), container, "rules replace no container");
}

/// An image is set up behind an allowlist: whatever a kill leaves of the builder and of what it is held to goes.
fn a_set_up(kind: Kind) {
    let engine = Engine::start(kind);
    let local = engine.import_busybox();
    let value = std::cell::Cell::new(0u8);
    let kills = killed_everywhere(
        || {
            value.set(value.get() + 1);
            let value = value.get();
            engine.configure(&format!(
                "images:\n  local: {{ ref: {local}, pull: never }}\n  tooled:\n    from: local\n    setup:\n      \
                 run: [echo {value} >/value]\n      egress: {{ allow: [{{ host: h.test }}] }}\n\
                 sandboxes: {{ dev: {{ image: tooled, home: {{ tmpfs: 8MiB }} }} }}\n"
            ));
            engine.sbx(&["apply", "--auto-approve", "--parallelism", "1"])
        },
        |point| {
            converges_within_two(&engine, point);
            assert_eq!(engine.shell("dev", "cat /value"), value.get().to_string(), "{point}");
            let volumes = engine.get("/volumes/json").to_string();
            assert!(!volumes.contains("builder"), "{point}: {volumes}");
        },
    );
    assert!(kills >= 6, "the image, a container, its policy: {kills}");
}

#[test]
fn a_change_of_policy_rootful_4() {
    a_change_of_policy(Kind::Rootful4);
}

#[test]
fn a_change_of_policy_rootless_5() {
    a_change_of_policy(Kind::Rootless5);
}

#[test]
fn a_set_up_rootful_5() {
    a_set_up(Kind::Rootful5);
}

#[test]
fn a_set_up_rootless_4() {
    a_set_up(Kind::Rootless4);
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
    /// The engine's storage has it, its list has not or has just got it.
    Stored,
    /// The list has it; it does not run yet.
    Listed,
    /// The same of one that is to take the place of another, which runs meanwhile.
    Successor,
}

/// Kills the engine's service, whose processes are found beforehand, once a file names the container. The moment is short:
/// this waits for it inside, without a pause.
const KILL_WHEN_STORED: &str = r#"
import os, sys, time
def is_service(pid):
    try: return pid.isdigit() and b"system\0service" in open(f"/proc/{pid}/cmdline", "rb").read()
    except OSError: return False
service = [int(pid) for pid in os.listdir("/proc") if is_service(pid)]
end = time.monotonic() + 20
while time.monotonic() < end:
    try:
        if '"demo_dev"' in open(sys.argv[1]).read():
            for pid in service: os.kill(pid, 9)
            sys.exit(0)
    except FileNotFoundError: pass
sys.exit("never there")
"#;

impl Moment {
    /// Waits for it, and kills the engine's service.
    fn kill(&self, engine: &Engine, storage: &str) {
        let limit = Duration::from_secs(20);
        let listed = |name| wait_for(name, limit, || engine.containers().contains_key(name).then_some(()));
        match self {
            Self::Stored => {
                let list = format!("{storage}/overlay-containers/containers.json");
                engine.as_root("python3").args(["-c", KILL_WHEN_STORED, &list]).ok();
            }
            Self::Listed => listed("demo_dev"),
            Self::Successor => listed("demo_dev.next"),
        }
        engine.kill_service();
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
    let storage = engine.podman(&["info", "--format", "{{.Store.GraphRoot}}"]);
    for (value, moment) in (1..).zip([Moment::Stored, Moment::Listed, Moment::Successor]) {
        if !matches!(moment, Moment::Successor) {
            engine.sbx(&["destroy", "--auto-approve"]).run().expect_code(0);
        }
        engine.configure(&body(value));
        let apply = engine.sbx(&["apply", "--auto-approve"]).start();
        moment.kill(&engine, &storage);
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

on_every_engine! {
    /// What the engine left in its storage is removed only if it is empty. One with something in it is somebody's, for all
    /// that can be known of it: it stays, and it is said how to go on.
    fn remains_with_something_in_them_stay(engine) {
        engine.configure("sandboxes: { dev: { image: host, home: { tmpfs: 8MiB } } }");
        let storage = engine.podman(&["info", "--format", "{{.Store.GraphRoot}}"]);
        let layer = (0..20).find_map(|_| {
            let apply = engine.sbx(&["apply", "--auto-approve"]).start();
            Moment::Stored.kill(engine, &storage);
            drop(apply.finish());
            engine.start_service();
            if engine.containers().is_empty() {
                let list = engine.as_root("cat").arg(format!("{storage}/overlay-containers/containers.json")).ok();
                let list: serde_json::Value = serde_json::from_str(&list).unwrap();
                return Some(crate::project::text(&list[0]["layer"]).to_owned());
            }
            // It was a moment late.
            if engine.try_apply(&[]).code != 0 {
                engine.apply();
            }
            engine.sbx(&["destroy", "--auto-approve"]).run().expect_code(0);
            None
        });
        let file = format!("{storage}/overlay/{}/diff/file", layer.expect("killed in time"));
        engine.as_root("touch").arg(&file).ok();
        for _ in 0..2 {
            let refused = engine.try_apply(&[]).expect_code(1);
            for part in ["only the engine's storage knows", "`podman rm demo_dev`"] {
                assert!(refused.told().contains(part), "{part}: {}", refused.stderr);
            }
        }
        engine.as_root("rm").arg(&file).ok();
        engine.converge();
    }
}
