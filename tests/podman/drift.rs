//! Edits behind `sbx`'s back: each is seen, told from a change of the configuration, and put right.

use std::fs;
use std::time::Duration;

use crate::engine::{Engine, Kind};
use crate::on_every_engine;
use crate::project::text;
use crate::wait::wait_for;

/// Nothing is left to do once the daemon has seen the sandbox, which was nobody's for it under another name.
#[track_caller]
fn settles(engine: &Engine) {
    wait_for("the daemon to serve it again", Duration::from_secs(10), || {
        (engine.sbx(&["plan", "--detailed-exitcode"]).run().code == 0).then_some(())
    });
}

/// `diff` ends with 1, and names `resource` with what differs of it.
#[track_caller]
fn differs(engine: &Engine, resource: &str, what: &str) {
    let text = engine.sbx(&["diff"]).run().expect_code(1).stdout;
    let document = text.split_once(&format!("{resource}\t")).map(|(_, rest)| rest);
    let document = document.unwrap_or_else(|| panic!("{what}: {text}")).lines().skip(1);
    let mut differences =
        document.take_while(|line| !line.starts_with("--- ")).filter(|line| !line.starts_with("+++ "));
    assert!(differences.any(|line| line.starts_with(['-', '+'])), "{what}: {text}");
}

on_every_engine! {
    /// What happens to containers.
    fn containers(engine) {
        let rootful = !engine.kind().is_rootless();
        let limits = if rootful { ", limits: { pids: 100, memory: 64MiB }" } else { "" };
        engine.write("conf/file", "first");
        let image = engine.import_busybox();
        engine.configure(&format!(
            "volumes: {{ data: {{}} }}\n\
             networks: {{ inner: {{}} }}\n\
             sandboxes:\n\
             \x20 dev: {{ image: host, networks: [inner], home: {{ volume: data }}{limits}, \
             mounts: [{{ source: ./conf/file, target: /srv/file }}] }}\n\
             \x20 bystander: {{ image: host }}"
        ));
        engine.converge();
        engine.shell("dev", "echo kept > ~/file");
        let bystander = engine.container("bystander")["State"]["StartedAt"].clone();
        // Repairs in one apply, as drift, and leaves the neighbour alone.
        let repaired = |what: &str, action: &str| {
            let change = engine.planned_for("container/dev");
            assert_eq!((text(&change["action"]), change["drift"].as_bool()), (action, Some(true)), "{what}: {change}");
            differs(engine, "container/dev", what);
            engine.sbx(&["plan", "--refresh-only", "--detailed-exitcode"]).run().expect_code(2);
            engine.converge();
            assert_eq!(engine.shell("dev", "cat ~/file"), "kept", "{what}");
            assert_eq!(engine.container("bystander")["State"]["StartedAt"], bystander, "{what}");
        };
        let id = engine.id("dev");

        engine.podman(&["stop", "--time", "1", "demo_dev"]);
        repaired("stopped", "update");
        engine.podman(&["kill", "--signal", "KILL", "demo_dev"]);
        repaired("killed", "update");
        // Renamed: the engine's id tells it from a clone, and it has been seen.
        engine.podman(&["rename", "demo_dev", "elsewhere"]);
        assert!(text(&engine.planned_for("container/dev")["because"][0]).contains("renamed to elsewhere"));
        repaired("renamed", "update");
        assert_eq!(engine.id("dev"), id);
        assert!(!engine.containers().contains_key("elsewhere"));
        engine.podman(&["rename", "demo_dev", "elsewhere"]);
        engine.podman(&["container", "clone", "elsewhere", "copy"]);
        repaired("renamed, and a clone beside it", "update");
        assert_eq!(engine.id("dev"), id);
        engine.podman(&["rm", "--force", "--time", "0", "copy"]);
        // Its name given to somebody else, it is not taken from them.
        engine.podman(&["rename", "demo_dev", "elsewhere"]);
        engine.podman(&["create", "--name", "demo_dev", "--network", "none", image, "true"]);
        assert_eq!(text(&engine.planned_for("container/dev")["action"]), "forbidden");
        engine.try_apply(&[]).expect_code(73);
        engine.podman(&["rm", "demo_dev"]);
        repaired("renamed, and its name free again", "update");

        // Not seen by anybody who remembers: renamed, or cloned and the original gone. Neither is touched.
        let applied = engine.home().join(".local/state/sbx/applied");
        fs::remove_dir_all(&applied).unwrap();
        engine.podman(&["rename", "demo_dev", "somebody"]);
        let change = engine.planned_for("container/dev");
        assert_eq!(text(&change["action"]), "forbidden");
        assert!(text(&change["because"][0]).contains("podman rename somebody demo_dev"), "{change}");
        engine.try_apply(&[]).expect_code(73);
        assert_eq!(engine.containers()["somebody"], "running");
        engine.podman(&["rename", "somebody", "demo_dev"]);
        settles(engine);
        engine.podman(&["network", "disconnect", "demo_inner", "demo_dev"]);
        repaired("disconnected", "update");
        engine.podman(&["network", "create", "--internal", "elsewhere"]);
        engine.podman(&["network", "connect", "elsewhere", "demo_dev"]);
        repaired("connected", "update");
        assert!(engine.state().contains_key("network elsewhere"), "not ours to remove");
        if rootful {
            // Podman 4 has no flag for processes.
            let edit: &[&str] = if engine.kind().is_5() { &["--pids-limit", "7", "--memory", "32m"] } else { &["--memory", "32m"] };
            engine.podman(&[&["update"], edit, &["demo_dev"]].concat());
            repaired("limits", "update");
            engine.podman(&["pause", "demo_dev"]);
            repaired("paused", "update");
        }
        // Started, though it was stopped on purpose; a stop is what it is put right by.
        engine.sbx(&["stop", "dev"]).run().expect_code(0);
        engine.podman(&["start", "demo_dev"]);
        differs(engine, "container/dev", "started outside, though stopped on purpose");
        engine.converge();
        assert_eq!(engine.containers()["demo_dev"], "exited");
        engine.sbx(&["start", "dev"]).run().expect_code(0);
        // As a replacement leaves it that was cut short before its last step.
        engine.podman(&["rename", "demo_dev", "demo_dev.next"]);
        differs(engine, "container/dev", "a replacement was cut short");
        engine.apply();
        assert_eq!(engine.id("dev"), id);
        settles(engine);
        // The file that is mounted is another one now, as an editor leaves it.
        engine.write("conf/file.new", "second");
        fs::rename(engine.project().join("conf/file.new"), engine.project().join("conf/file")).unwrap();
        assert_eq!(engine.inside("dev", &["cat", "/srv/file"]), "first");
        repaired("bind source replaced", "update");
        assert_eq!(engine.inside("dev", &["cat", "/srv/file"]), "second");
        assert_eq!(engine.id("dev"), id, "none of this needs a new container");

        engine.podman(&["rm", "--force", "--time", "0", "demo_dev"]);
        repaired("removed", "create");

        // That it was there is remembered, and no more than that: without the memory it is as if it had never been.
        engine.podman(&["rm", "--force", "--time", "0", "demo_dev"]);
        fs::remove_dir_all(engine.home().join(".local/state/sbx/applied")).unwrap();
        assert_eq!(engine.planned_for("container/dev")["drift"], false);
        engine.sbx(&["plan", "--refresh-only", "--detailed-exitcode"]).run().expect_code(0);
        engine.converge();
        // What `sbx` itself removed is not missed.
        engine.sbx(&["destroy", "--auto-approve"]).run().expect_code(0);
        for change in engine.sbx(&["plan", "--json"]).run().expect_code(0).json()["changes"].as_array().unwrap() {
            assert_eq!(change["drift"], false, "{change}");
        }
    }

    /// Labels that are not ours any more: made by hand under our name, it is somebody else's.
    fn recreated_by_hand(engine) {
        engine.configure("sandboxes: { dev: { image: host } }");
        engine.converge();
        let labels = engine.container("dev")["Config"]["Labels"].clone();
        let image = text(&engine.container("dev")["ImageName"]).to_owned();
        engine.podman(&["rm", "--force", "--time", "0", "demo_dev"]);
        let create = |edit: &dyn Fn(&str, &str) -> Option<String>| {
            let mut line = vec!["create".to_owned(), "--name=demo_dev".into(), "--network=none".into()];
            for (key, value) in labels.as_object().unwrap() {
                line.extend(edit(key, text(value)).map(|value| format!("--label={key}={value}")));
            }
            line.extend([image.clone(), "/usr/bin/sleep".into(), "100".into()]);
            engine.podman(&line.iter().map(String::as_str).collect::<Vec<_>>());
        };
        // Without an identity it is a stranger's.
        create(&|key, value| (key != "sbx.uid").then(|| value.to_owned()));
        assert_eq!(engine.planned(), ["forbidden container/dev"]);
        let stranger = engine.id("dev");
        engine.try_apply(&[]).expect_code(73);
        assert_eq!(engine.id("dev"), stranger);
        engine.podman(&["rm", "demo_dev"]);

        // With one, and another specification, it is made anew.
        create(&|key, value| Some(if key == "sbx.spec" { "{}".into() } else { value.to_owned() }));
        assert_eq!(engine.planned(), ["replace container/dev"]);
        engine.converge();
        assert_eq!(engine.containers()["demo_dev"], "running");
    }

    /// A volume, a network and a worktree go missing.
    fn other_kinds(engine) {
        engine.bare_repository("origin.git");
        engine.configure(
            "volumes: { data: {} }\n\
             networks: { inner: {} }\n\
             sandboxes:\n\
             \x20 dev: { image: host, networks: [inner], home: { volume: data },\n\
             \x20   worktrees: [{ repo: ./origin.git, branch: work, base: main, path: ./trees/work }] }",
        );
        engine.converge();

        engine.podman(&["rm", "--force", "--time", "0", "demo_dev"]);
        engine.podman(&["volume", "rm", "demo_data"]);
        assert_eq!(engine.planned(), ["create volume/data", "create container/dev"]);
        // All of it was there, and nothing else is new: a refresh alone brings it back.
        assert_eq!(engine.planned_for("volume/data")["drift"], true);
        engine.sbx(&["plan", "--refresh-only", "--detailed-exitcode"]).run().expect_code(2);
        engine.converge();

        engine.podman(&["network", "rm", "--force", "--time", "0", "demo_inner"]);
        assert!(engine.planned().contains(&"create network/inner".to_owned()));
        engine.converge();

        let tree = engine.project().join("trees/work");
        fs::remove_dir_all(&tree).unwrap();
        let planned = engine.planned();
        assert!(planned[0].starts_with("create worktree/"), "{planned:?}");
        engine.converge();
        assert_eq!(engine.inside("dev", &["cat", &tree.join("file").to_string_lossy()]), "content");

        // A clone carries the labels and not the name: it is somebody's experiment.
        engine.podman(&["container", "clone", "demo_dev", "experiment"]);
        engine.expect_nothing_to_do();
        engine.apply();
        assert!(engine.containers().contains_key("experiment"));
        // So is a copy that somebody keeps beside our images.
        let copy = "localhost/sbx/demo/backup:v1";
        engine.podman(&["commit", "--quiet", "demo_dev", copy]);
        engine.expect_nothing_to_do();
        engine.apply();
        engine.podman(&["image", "exists", copy]);
        // With the original gone nothing tells whether it is that one: it stays, and no other is made beside it.
        engine.podman(&["rm", "--force", "--time", "0", "demo_dev"]);
        assert_eq!(text(&engine.planned_for("container/dev")["action"]), "forbidden");
        // It is attached to the network, which the engine does not give up then.
        let left = engine.sbx(&["destroy", "--auto-approve"]).run().expect_code(1);
        assert!(left.stdout.contains("experiment carries the labels of sandbox dev"), "{}", left.stdout);
        assert!(engine.containers().contains_key("experiment"));
        engine.podman(&["image", "exists", copy]);
        engine.podman(&["rm", "--force", "--time", "0", "experiment"]);
        engine.converge();
    }

    /// What differs in no attribute differs for `diff` as well.
    fn beyond_attributes(engine) {
        let image = engine.import_busybox();
        engine.bare_repository("origin.git");
        let configure = |sandbox: &str, more: &str| {
            engine.configure(&format!(
                "{more}images: {{ base: {{ ref: {image}, pull: never }} }}\n\
                 sandboxes:\n\
                 \x20 {sandbox}: {{ image: base, home: {{ tmpfs: 8MiB }}, egress: {{ allow: [{{ host: h.test }}] }},\n\
                 \x20   worktrees: [{{ repo: ./origin.git, branch: work, base: main, path: ./trees/work }}] }}"
            ));
        };
        configure("dev", "");
        engine.converge();
        let tree = engine.project().join("trees/work").display().to_string();
        let worktree = format!("worktree/{tree}");

        engine.sbx(&["daemon", "stop"]).run().expect_code(0);
        differs(engine, "policy/dev", "not in force");
        engine.converge();
        engine.git("trees/work", &["worktree", "unlock", &tree]);
        differs(engine, &worktree, "not locked");
        engine.converge();
        let id = engine.id("dev");
        let tar = engine.dir().join("busybox.tar").display().to_string();
        engine.podman(&["import", "--quiet", "--change", "LABEL newer=yes", &tar, image]);
        differs(engine, "container/dev", "image: digest moved");
        engine.converge();
        assert_ne!(engine.id("dev"), id);
        configure("other", "");
        differs(engine, &worktree, "taken over");
        engine.converge();

        // What is somebody else's is a difference too, though not one that `apply` removes.
        engine.podman(&["network", "create", "--internal", "demo_inner"]);
        configure("other", "networks: { inner: {} }\n");
        differs(engine, "network/inner", "somebody else's");
    }
}

/// What the sandboxes of a project trust goes with the last of them, and not before: one under another name may use it.
#[test]
fn what_a_stray_uses_stays() {
    let engine = Engine::start(Kind::Rootless5);
    engine.configure("sandboxes: { dev: { image: host, egress: { allow: [{ host: h.test, methods: [GET] }] } } }");
    let data = engine.home().join(".local/share/sbx");
    let left = || ["authority/demo.pem", "trust/demo"].map(|path| data.join(path).exists());
    let destroy = || engine.sbx(&["destroy", "--auto-approve"]).run().expect_code(0);
    engine.converge();
    engine.podman(&["container", "clone", "demo_dev", "experiment"]);
    engine.podman(&["rm", "--force", "--time", "0", "demo_dev"]);
    let destroyed = destroy();
    assert!(destroyed.stdout.contains("experiment carries the labels of sandbox dev"), "{}", destroyed.stdout);
    assert_eq!(left(), [true, true]);
    engine.podman(&["rm", "--force", "--time", "0", "experiment"]);
    destroy();
    assert_eq!(left(), [false, false]);

    // One that was set aside is there as well, though it is remembered.
    engine.converge();
    engine.podman(&["rename", "demo_dev", "aside"]);
    let destroyed = destroy();
    assert!(destroyed.stdout.contains("aside carries the labels of sandbox dev"), "{}", destroyed.stdout);
    assert_eq!((engine.containers().len(), left()), (1, [true, true]));
    engine.podman(&["rm", "--force", "--time", "0", "aside"]);
    destroy();
    assert_eq!(left(), [false, false]);
}
