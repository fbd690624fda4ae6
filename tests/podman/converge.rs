//! Apply, and again: the second plan is empty, the second apply changes nothing, edits converge, and so does whatever a
//! failure left. What belongs to others is not touched.

use std::fs;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::engine::{Engine, Kind};
use crate::on_every_engine;

const QUICKSTART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/quickstart.yaml");

on_every_engine! {
    /// What a newcomer does first: plan, apply, look, apply again, destroy.
    fn the_quickstart_converges(engine) {
        engine.write("sandboxes.yaml", fs::read(QUICKSTART).unwrap());
        engine.sbx(&["plan", "--detailed-exitcode"]).run().expect_code(2);
        assert!(engine.containers().is_empty(), "a plan changes nothing");

        engine.apply();
        let running = engine.containers();
        assert_eq!(running.keys().collect::<Vec<_>>(), ["quickstart_dev", "quickstart_web"]);
        assert!(running.values().all(|state| state == "running"), "{running:?}");

        let before = engine.state();
        engine.expect_nothing_to_do();
        engine.apply();
        assert_eq!(engine.state(), before);

        // The peer answers by name; the home is the volume; nothing else is in reach.
        let page = engine.sbx(&["exec", "dev", "--", "bash", "-c", FETCH]).ok();
        assert!(page.starts_with("HTTP/1.0 200"), "{page}");
        engine.shell("dev", "echo kept > ~/file");

        engine.sbx(&["destroy", "--auto-approve", "--accept-loss", "container/dev", "--accept-loss", "container/web"])
            .run().expect_code(0);
        let left: Vec<String> = engine.state().into_keys().filter(|key| key.contains("quickstart")).collect();
        assert_eq!(left, ["volume quickstart_dev-home"]);
        engine.apply();
        assert_eq!(engine.shell("dev", "cat ~/file"), "kept");
    }

    /// A registry that is not there: what is always pulled cannot be had from it, though an image of the name is there.
    fn always_means_at_each_apply(engine) {
        engine.podman(&["tag", engine.import_busybox(), "127.0.0.1:1/always:1"]);
        let file = |pull: &str| {
            format!("images: {{ always: {{ ref: '127.0.0.1:1/always:1', pull: {pull} }} }}\nsandboxes: {{ api: {{ image: always }} }}")
        };
        engine.configure(&file("missing"));
        engine.converge();
        engine.configure(&file("always"));
        let finished = engine.try_apply(&[]).expect_code(1);
        assert!(finished.stderr.contains("127.0.0.1:1"), "{}", finished.stderr);
    }

    /// Every kind at once, and then edits of every kind.
    fn edits_converge(engine) {
        engine.write("token", "first");
        engine.write("docs/page", "text");
        engine.configure(
            "secrets: { token: { file: ./token } }\n\
             volumes: { data: {} }\n\
             networks: { inner: {}, other: {} }\n\
             defaults: { image: host }\n\
             sandboxes:\n\
             \x20 api: { networks: [inner], home: { volume: data }, env: { TOKEN: { secret: token }, A: '1' } }\n\
             \x20 web: { networks: [inner, other], mounts: [{ source: ./docs, target: /srv/docs }] }\n\
             \x20 job: { command: [sleep, infinity], home: { tmpfs: 16MiB } }",
        );
        engine.converge();
        assert_eq!(engine.shell("api", "echo $TOKEN"), "first");
        assert_eq!(engine.inside("web", &["cat", "/srv/docs/page"]), "text");
        engine.shell("api", "echo mine > ~/mine");
        let (api, web, job) = (engine.id("api"), engine.id("web"), engine.id("job"));

        engine.write("token", "second");
        engine.configure(
            "secrets: { token: { file: ./token } }\n\
             volumes: { data: {} }\n\
             networks: { inner: {} }\n\
             defaults: { image: host }\n\
             sandboxes:\n\
             \x20 api: { networks: [inner], home: { volume: data }, env: { TOKEN: { secret: token }, A: '2' } }\n\
             \x20 web: { networks: [inner], mounts: [{ source: ./docs, target: /srv/docs }] }\n\
             \x20 late: {}",
        );
        engine.converge();
        assert_eq!(engine.shell("api", "echo $TOKEN $A; cat ~/mine"), "second 2\nmine");
        assert_ne!(engine.id("api"), api, "environment changes replace");
        assert_eq!(engine.id("web"), web, "networks change in place");
        let containers = engine.containers();
        assert_eq!(containers.keys().collect::<Vec<_>>(), ["demo_api", "demo_late", "demo_web"]);
        let all = format!("{:?}", engine.get("/containers/json?all=true"));
        assert!(!all.contains(&job));
        let kept: Vec<String> = engine.state().into_keys().filter(|key| key.contains("demo_")).collect();
        assert_eq!(kept.iter().filter(|key| key.starts_with("network")).count(), 1, "{kept:?}");
        assert_eq!(kept.iter().filter(|key| key.starts_with("secret")).count(), 1, "the old value went: {kept:?}");
    }

    /// Random configurations one after the other on the same engine, as people edit. Before some a sandbox never comes up,
    /// some are killed at any operation, and somebody stops, disconnects or removes what is there, before that, after that,
    /// and when all is well: at most two applies converge, and what others own stays as it is.
    fn random_edits_converge(engine) {
        let image = engine.import_busybox();
        let theirs = ["--label", "sbx.project=demo", "--label", "sbx.kind=container", "--label", "sbx.name=api"];
        engine.podman(&[&["create", "--name", "theirs", "--network", "none"][..], &theirs, &[image, "true"]].concat());
        engine.podman(&["volume", "create", "demo_theirs"]);
        engine.podman(&["network", "create", "--internal", "demo-theirs"]);
        let foreign = |state: std::collections::BTreeMap<String, String>| {
            state.into_iter().filter(|(key, _)| key.contains("theirs")).collect::<Vec<_>>()
        };
        let before = foreign(engine.state());
        assert_eq!(before.len(), 3);

        let cases = Config { cases: 6, failure_persistence: None, max_shrink_iters: 0, ..Config::default() };
        let mut runner = TestRunner::new(cases);
        let maybe = || prop::option::of(any_meddling());
        let drawn = (any_configuration(), any::<bool>(), any_kill(), maybe(), maybe(), any_meddling());
        runner
            .run(&drawn, |(body, fails, kill, before_all, after_the_kill, at_last)| {
                if let Some(meddling) = before_all {
                    meddle(engine, meddling);
                }
                if fails {
                    // A program that is not there keeps one sandbox from ever being ready; the rest is done.
                    engine.configure(&format!("{body}  broken: {{ image: host, command: [/no/such/program] }}\n"));
                    let failed = engine.try_apply(ACCEPT);
                    assert!(failed.code == 1 || revived(engine), "{} {}", failed.code, failed.stderr);
                }
                engine.configure(&body);
                if let Some(point) = kill {
                    let killed = engine.sbx(&["apply", "--auto-approve"]).args(ACCEPT).env("SBX_FAILPOINT", &point).run();
                    // Where it did not get that far, or has no such points, it ran through.
                    let fine = killed.code == 137 || killed.code == 0 || revived(engine);
                    assert!(fine, "{point}: {} {}", killed.code, killed.stderr);
                }
                if let Some(meddling) = after_the_kill {
                    meddle(engine, meddling);
                }
                let converge = || {
                    if engine.try_apply(ACCEPT).code != 0 {
                        revived(engine);
                        engine.try_apply(ACCEPT).expect_code(0);
                    }
                    engine.expect_nothing_to_do();
                    assert_eq!(foreign(engine.state()), before);
                };
                converge();
                // By nothing but this does the engine differ from the file now.
                meddle(engine, at_last);
                converge();
                Ok(())
            })
            .unwrap();
    }
}

/// The engine neither stops nor starts nor removes a paused container. Rootful only: without version 2 of control groups,
/// and a part of them that is theirs, containers of ordinary users have none that could be frozen.
fn paused_sandboxes_go_on_and_go_away(kind: Kind) {
    let engine = Engine::start(kind);
    engine.configure("defaults: { image: host }\nsandboxes: { api: { home: { tmpfs: 16MiB } } }");
    engine.converge();
    engine.shell("api", "echo mine > ~/mine");
    engine.podman(&["pause", "demo_api"]);
    engine.converge();
    assert_eq!(engine.shell("api", "cat ~/mine"), "mine");
    engine.podman(&["pause", "demo_api"]);
    engine.sbx(&["destroy", "--auto-approve"]).run().expect_code(73);
    engine.sbx(&["destroy", "--auto-approve", "--accept-loss", "container/api"]).run().expect_code(0);
    assert!(engine.containers().is_empty());
}

#[test]
fn paused_sandboxes_go_on_and_go_away_rootful_4() {
    paused_sandboxes_go_on_and_go_away(Kind::Rootful4);
}

#[test]
fn paused_sandboxes_go_on_and_go_away_rootful_5() {
    paused_sandboxes_go_on_and_go_away(Kind::Rootful5);
}

/// What somebody does behind the back of `sbx`, and to which of the project's containers, whichever there are.
#[derive(Debug, Clone, Copy)]
enum Meddling {
    Stop(usize),
    /// From a network, one that is in any.
    Disconnect(usize),
    Remove(usize),
}

fn any_meddling() -> impl Strategy<Value = Meddling> {
    let which = 0..6_usize;
    prop_oneof![
        which.clone().prop_map(Meddling::Stop),
        which.clone().prop_map(Meddling::Disconnect),
        which.prop_map(Meddling::Remove)
    ]
}

/// Where `sbx` is killed, if it is.
fn any_kill() -> impl Strategy<Value = Option<String>> {
    let point = (any::<bool>(), 0..8_u8);
    prop::option::weighted(0.8, point.prop_map(|(after, n)| format!("{}:{n}", if after { "after" } else { "before" })))
}

/// Starts the engine's service again, as systemd would, if it has crashed by itself: that of 5.4 does now and then. Whether
/// it had.
fn revived(engine: &Engine) -> bool {
    let crashed = !engine.answers();
    if crashed {
        engine.kill_service();
        engine.start_service();
    }
    crashed
}

fn meddle(engine: &Engine, meddling: Meddling) {
    revived(engine);
    let containers: Vec<String> = engine.containers().into_keys().filter(|name| name.starts_with("demo_")).collect();
    let networks = |name: &String| {
        let networks = engine.get(&format!("/containers/{name}/json"))["NetworkSettings"]["Networks"].clone();
        let names = networks.as_object().into_iter().flat_map(|networks| networks.keys().cloned()).collect::<Vec<_>>();
        names
            .into_iter()
            .filter(|network| network.starts_with("demo_"))
            .map(|network| (network, name.clone()))
            .collect()
    };
    let memberships: Vec<(String, String)> = containers.iter().flat_map(|name| -> Vec<_> { networks(name) }).collect();
    match meddling {
        Meddling::Stop(index) if !containers.is_empty() => {
            engine.podman(&["stop", "--time", "1", &containers[index % containers.len()]]);
        }
        Meddling::Disconnect(index) if !memberships.is_empty() => {
            let (network, name) = &memberships[index % memberships.len()];
            engine.podman(&["network", "disconnect", "--force", network, name]);
        }
        Meddling::Remove(index) if !containers.is_empty() => {
            engine.podman(&["rm", "--force", "--time", "1", &containers[index % containers.len()]]);
        }
        Meddling::Stop(_) | Meddling::Disconnect(_) | Meddling::Remove(_) => {}
    }
}

/// A page of the peer, by nothing but bash.
const FETCH: &str = "exec 3<>/dev/tcp/web/8000 || exit 1; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; IFS= read -r line <&3; echo \"$line\"";

const ACCEPT: &[&str] = &[
    "--accept-loss",
    "container/one",
    "--accept-loss",
    "container/two",
    "--accept-loss",
    "container/six",
    "--accept-loss",
    "container/broken",
];

/// Up to three sandboxes, each with some of what can change in place and some of what cannot.
fn any_configuration() -> impl Strategy<Value = String> {
    let sandbox = (
        prop::option::of(prop::sample::subsequence(vec!["near", "far"], 0..=2)),
        prop::option::of(0..3u8),
        prop::option::of(prop::sample::select(vec!["{ tmpfs: 8MiB }", "{ volume: kept }"])),
        prop::option::of(prop::sample::select(vec!["no", "always", "on-failure"])),
        prop::option::of(prop::sample::select(vec![
            "{ pids: 64 }",
            "{ memory: 64MiB }",
            "{ pids: 128, memory: 64MiB }",
        ])),
        any::<bool>(),
    );
    prop::collection::btree_map(prop::sample::select(vec!["one", "two", "six"]), sandbox, 1..=3).prop_map(|sandboxes| {
        let mut text = String::from("volumes: { kept: {} }\nnetworks: { near: {}, far: {} }\nsandboxes:\n");
        for (name, (networks, variable, home, restart, limits, read_only)) in sandboxes {
            let mut fields = vec![String::from("image: host")];
            fields.extend(networks.map(|names| format!("networks: [{}]", names.join(", "))));
            fields.extend(variable.map(|value| format!("env: {{ V: '{value}' }}")));
            fields.extend(home.map(|home| format!("home: {home}")));
            fields.extend(restart.map(|restart| format!("restart: {restart}")));
            fields.extend(limits.map(|limits| format!("limits: {limits}")));
            fields.push(format!("security: {{ readOnly: {read_only} }}"));
            text += &format!("  {name}: {{ {} }}\n", fields.join(", "));
        }
        text
    })
}
