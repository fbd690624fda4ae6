//! Starting, stopping and ending: intents that last, and nothing left behind.

use std::fs;

use crate::engine::{Engine, Kind};
use crate::on_every_engine;

on_every_engine! {
    /// A stop on purpose is not drift, survives applies and replacements, and the loss of local state; a start ends it.
    fn intents_last(engine) {
        engine.configure("sandboxes: { dev: { image: host }, web: { image: host } }");
        engine.converge();
        engine.sbx(&["stop", "dev"]).run().expect_code(0);
        assert_eq!(engine.containers()["demo_dev"], "exited");
        fs::remove_dir_all(engine.home().join(".local/state/sbx")).unwrap();
        engine.converge();
        assert_eq!(engine.containers()["demo_dev"], "exited");

        engine.configure("sandboxes: { dev: { image: host, env: { A: '1' } }, web: { image: host } }");
        engine.converge();
        let state = &engine.containers()["demo_dev"];
        assert!(["created", "exited"].contains(&state.as_str()), "replaced, and still not running: {state}");

        // Somebody starts it anyway: that is drift.
        engine.podman(&["start", "demo_dev"]);
        assert_eq!(engine.planned(), ["update container/dev"]);
        engine.converge();
        assert_eq!(engine.containers()["demo_dev"], "exited");

        engine.sbx(&["start", "dev"]).run().expect_code(0);
        assert_eq!(engine.containers()["demo_dev"], "running");
        engine.expect_nothing_to_do();
        engine.sbx(&["start", "dev"]).run().expect_code(0);

        let (id, before) = (engine.id("dev"), engine.container("dev")["State"]["StartedAt"].clone());
        let neighbour = engine.container("web")["State"]["StartedAt"].clone();
        engine.sbx(&["restart", "dev"]).run().expect_code(0);
        assert_eq!(engine.id("dev"), id);
        assert_ne!(engine.container("dev")["State"]["StartedAt"], before);
        assert_eq!(engine.container("web")["State"]["StartedAt"], neighbour);
        engine.expect_nothing_to_do();
        engine.sbx(&["stop", "nobody"]).run().expect_code(64);
    }

    /// What is in memory is lost by a stop and by a restart: both ask, and change nothing until they are answered. What
    /// else the file asks for by now is left to `apply`.
    fn memory_is_lost_by_consent(engine) {
        let file = |more: &str| format!("sandboxes: {{ dev: {{ image: host, home: {{ tmpfs: 8MiB }}{more} }}, web: {{ image: host }} }}");
        engine.configure(&file(""));
        engine.converge();
        let id = engine.id("dev");
        // With nothing in it there is nothing to ask.
        engine.sbx(&["restart", "dev"]).run().expect_code(0);
        engine.shell("dev", "echo draft > ~/draft");
        engine.configure(&file(", env: { A: '1' }"));
        let before = engine.state();
        for command in ["stop", "restart"] {
            let refused = engine.sbx(&[command, "dev"]).run().expect_code(73);
            for part in ["container/dev loses tmpfs: ", ": 1 file, 6 B", "--accept-loss container/dev"] {
                assert!(refused.told().contains(part), "{command}, {part}: {}", refused.stderr);
            }
            engine.sbx(&[command, "dev", "--accept-loss", "container/web"]).run().expect_code(73);
        }
        assert_eq!(engine.state(), before);
        assert_eq!(engine.shell("dev", "cat ~/draft"), "draft");
        engine.sbx(&["restart", "dev", "--accept-loss", "container/dev"]).run().expect_code(0);
        assert_eq!(engine.shell("dev", "ls ~"), "");
        engine.shell("dev", "echo again > ~/draft");
        engine.sbx(&["stop", "dev", "--accept-loss", "container/dev"]).run().expect_code(0);
        assert_eq!(engine.containers()["demo_dev"], "exited");
        assert_eq!(engine.id("dev"), id, "the changed file is for `apply`");
        engine.sbx(&["start", "dev"]).run().expect_code(0);
        engine.sbx(&["stop", "web"]).run().expect_code(0);
    }

    /// What a destroy leaves is the user's; what it is told to take goes too; then there is nothing.
    fn destroy_leaves_user_data(engine) {
        engine.bare_repository("origin.git");
        engine.write("token", "value");
        engine.podman(&["volume", "create", "other"]);
        let pristine = engine.state();
        engine.configure(
            "secrets: { token: { file: ./token } }\n\
             volumes: { data: {} }\n\
             networks: { inner: {} }\n\
             sandboxes:\n\
             \x20 dev: { image: host, networks: [inner], home: { volume: data }, env: { T: { secret: token } },\n\
             \x20   worktrees: [{ repo: ./origin.git, branch: work, base: main, path: ./trees/work }] }\n\
             \x20 web: { image: host }",
        );
        engine.converge();
        let tree = engine.project().join("trees/work");
        engine.shell("dev", "echo kept > ~/file");
        engine.sbx(&["stop", "web"]).run().expect_code(0);

        engine.sbx(&["destroy", "--auto-approve", "--target", "web"]).run().expect_code(0);
        assert_eq!(engine.containers().keys().collect::<Vec<_>>(), ["demo_dev"]);
        let left = |engine: &crate::engine::Engine| {
            let state = engine.state().into_keys().filter(|key| !pristine.contains_key(key));
            state.map(|key| key.split('.').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        engine.sbx(&["destroy", "--auto-approve"]).run().expect_code(0);
        assert_eq!(left(engine), ["secret demo_token", "volume demo_data"]);
        assert!(tree.join("file").exists());
        engine.sbx(&["destroy", "--auto-approve"]).run().expect_code(0);
        assert_eq!(left(engine), ["secret demo_token", "volume demo_data"]);

        engine.apply();
        assert_eq!(engine.shell("dev", "cat ~/file"), "kept");
        engine.sbx(&["destroy", "--auto-approve", "--volumes", "--worktrees", "--secrets"]).run().expect_code(0);
        assert_eq!(engine.state(), pristine, "nothing is left, and nothing of others is gone");
        assert!(!tree.exists());

        // Nor a process or a mount. (The engine's monitors of exec sessions stay for five minutes, by its own design.)
        let processes = "grep -lsE '^(sbx-init|aardvark)' /proc/[0-9]*/comm | wc -l";
        let gone = || (engine.as_root("sh").args(["-c", processes]).ok() == "0").then_some(());
        crate::wait::wait_for("the last process to go", std::time::Duration::from_secs(10), gone);
        // The storage driver mounts its own directory while a process uses it; what counts lies below.
        let mounts = engine.as_root("grep").args(["-c", "storage/graph/overlay/", "/proc/mounts"]).run();
        assert_eq!(mounts.stdout.trim(), "0");
    }
}

/// What was shown before is there; whatever else the file wants to be shown by now is not needed for a start.
#[test]
fn a_start_needs_no_space_on_this_host() {
    let engine = Engine::start(Kind::Rootless4);
    engine.configure("sandboxes: { dev: { image: host } }");
    engine.converge();
    engine.sbx(&["stop", "dev"]).run().expect_code(0);
    let data = engine.home().join(".local/share/sbx");
    engine.as_root("mount").arg("--bind").args([&data, &data]).ok();
    engine.as_root("mount").args(["-o", "remount,bind,ro"]).arg(&data).ok();
    engine.configure("sandboxes: { dev: { image: host, egress: { transport: socket, allow: [{ host: a.test }] } } }");
    let started = engine.sbx(&["start", "dev"]).run().expect_code(0);
    assert!(started.told().contains("read-only file system"), "{}", started.stderr);
    assert_eq!(engine.containers(), [("demo_dev".into(), "running".into())].into());
    let refused = engine.try_apply(&[]);
    assert!(refused.code != 0 && refused.told().contains("read-only file system"), "{}", refused.stderr);
}
