//! The daemon itself: killed, replaced, supervised, asked by others, and in front of an engine that says nothing.

use std::os::unix::process::CommandExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::egress::{
    BOTH, Client, FAR, Far, KEPT, allowing, daemon, daemon_log, does_not_reach, listeners, reaches, socket,
};
use crate::engine::{Engine, Kind};
use crate::on_every_engine;
use crate::project::text;
use crate::wait::wait_for;

on_every_engine! {
    /// Killed: refused at once, and back as soon as there is a daemon, with the same container.
    fn the_daemon_killed(engine) {
        let kept = Far::at(engine, KEPT);
        engine.configure(&allowing("", &BOTH[..1]));
        engine.converge();
        reaches(engine, "kept.test", KEPT);
        let (id, pid) = (engine.id("dev"), engine.pid("dev"));
        let killed = daemon(engine)["pid"].to_string();
        engine.as_root("kill").args(["-9", &killed]).ok();
        wait_for("its end", Duration::from_secs(5), || engine.sbx(&["daemon", "status"]).run().stdout.contains("No daemon").then_some(()));
        let arrived = kept.accepted();
        does_not_reach(engine, "kept.test", KEPT);
        does_not_reach(engine, FAR, KEPT);
        assert_eq!(kept.accepted(), arrived, "nothing leaves without a daemon");
        let script = format!(
            "for i in 1 2 3 4 5; do s=${{EPOCHREALTIME/./}}; (exec 3<>/dev/tcp/{FAR}/{KEPT}) 2>/dev/null; e=${{EPOCHREALTIME/./}}; echo $(( (e - s) / 1000 )); done"
        );
        let times = engine.inside("dev", &["bash", "-c", &script]);
        let mut times: Vec<u64> = times.lines().map(|line| line.parse().unwrap()).collect();
        times.sort_unstable();
        assert!(times.len() == 5 && times[2] <= 100, "refused within {times:?} ms");

        let change = engine.planned_for("policy/dev");
        assert_eq!((text(&change["action"]), change["drift"].as_bool()), ("update", Some(true)), "{change}");
        let begun = Instant::now();
        engine.sbx(&["daemon", "start"]).run().expect_code(0);
        wait_for("the sandbox to be served again", Duration::from_secs(2).saturating_sub(begun.elapsed()), || {
            let status = daemon(engine);
            status["sandboxes"][0]["policy"].is_string().then_some(())
        });
        reaches(engine, "kept.test", KEPT);
        engine.expect_nothing_to_do();
        assert_eq!((engine.id("dev"), engine.pid("dev")), (id, pid));
    }

    /// The control socket is its owner's alone, by its mode and by who is at the other end.
    fn other_users(engine) {
        let _kept = Far::at(engine, KEPT);
        engine.configure(&allowing("", &BOTH[..1]));
        engine.converge();
        let socket = socket(engine);
        let mode = |path: &std::path::Path| {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
        };
        assert_eq!((mode(&socket), mode(socket.parent().unwrap())), (0o600, 0o700));
        let ask = |uid: u32| {
            let script = format!(
                "$SIG{{PIPE}} = 'IGNORE'; use Socket; socket(S, PF_UNIX, SOCK_STREAM, 0); connect(S, sockaddr_un('{}')) or die \"$!\"; \
                 syswrite S, qq({{\"ask\":\"hello\",\"protocol\":1,\"version\":\"1\"}}\\n); print scalar <S>;",
                socket.display()
            );
            let mut asked = engine.as_root("perl").args(["-e", &script]);
            asked.command.uid(uid).gid(uid);
            asked.run()
        };
        assert!(ask(engine.uid()).stdout.contains(r#""answer":"hello""#));
        assert_ne!(ask(4242).code, 0, "the directory is closed");
        // Opened by mistake, it still listens to its owner only.
        for directory in socket.ancestors().skip(1).take_while(|path| path.starts_with(engine.dir())) {
            engine.as_root("chmod").arg("a+x").arg(directory).ok();
        }
        engine.as_root("chmod").arg("666").arg(&socket).ok();
        let answer = ask(4242);
        assert!(answer.stdout.contains("may not give orders"), "{answer:?}");
    }

    /// A newer program's daemon takes the place of an older one without the sandboxes losing their sockets: they are the
    /// same ones, and whoever connects meanwhile is served by the one or the other.
    fn a_newer_daemon(engine) {
        let _kept = Far::at(engine, KEPT);
        engine.configure(&allowing("", &BOTH[..1]));
        engine.converge();
        let old = daemon(engine);
        engine.expect_nothing_to_do();
        let listening = listeners(engine, "dev");
        assert!(!listening.is_empty());
        let mut client = Client::connecting(engine, "kept.test", KEPT);
        let newer = engine.sbx(&["daemon", "start"]).env("SBX_DAEMON_VERSION", "99.0.0").run().expect_code(0);
        assert!(newer.stderr.contains("99.0.0"), "{}", newer.stderr);
        let new = daemon(engine);
        assert_ne!(new["pid"], old["pid"]);
        wait_for("the sandbox to be served", Duration::from_secs(2), || daemon(engine)["sandboxes"][0]["policy"].is_string().then_some(()));
        reaches(engine, "kept.test", KEPT);
        assert!(daemon_log(engine).contains("taking over"), "{}", daemon_log(engine));
        assert_eq!(listeners(engine, "dev"), listening);
        engine.inside("dev", &["touch", "/tmp/enough"]);
        let lines = std::iter::repeat_with(|| client.line());
        let said: Vec<String> = lines.take_while(|line| !["enough\n", ""].contains(&line.as_str())).collect();
        // What is open ends; what comes meanwhile waits for whoever serves next.
        let times = |what: &str| said.iter().filter(|line| *line == what).count();
        assert!(times("hello\n") + times("cut\n") == said.len() && times("cut\n") <= 1, "{said:?}");
        // An older program is content with a newer daemon.
        engine.sbx(&["daemon", "start"]).run().expect_code(0);
        assert_eq!(daemon(engine)["pid"], new["pid"]);
        // Nor does it oust it.
        let refused = engine.sbx(&["daemon", "run", "--replace", "--supervised"]).run().expect_code(75);
        assert!(refused.stderr.contains("a newer daemon runs: version 99.0.0"), "{}", refused.stderr);
    }

    /// A unit's daemon takes the place of one that `sbx` started by itself, of the same version; it ends for good when
    /// that is ordered, and not when another one takes over.
    fn a_supervised_daemon(engine) {
        engine.configure(&allowing("", &BOTH[..1]));
        engine.converge();
        let needed = daemon(engine);
        let supervise = || engine.sbx(&["daemon", "run", "--replace", "--supervised"]).start();
        let unit = supervise();
        let its = |before: &serde_json::Value| {
            wait_for("the successor", Duration::from_secs(10), || {
                let pid = daemon(engine)["pid"].clone();
                (pid.is_u64() && pid != *before).then_some(pid)
            })
        };
        let pid = its(&needed["pid"]);
        wait_for("the sandbox to be served", Duration::from_secs(5), || {
            daemon(engine)["sandboxes"][0]["policy"].is_string().then_some(())
        });
        // The same again is not to give way.
        engine.sbx(&["daemon", "run", "--replace", "--supervised"]).run().expect_code(75);
        engine.sbx(&["daemon", "start"]).env("SBX_DAEMON_VERSION", "99.0.0").run().expect_code(0);
        let finished = unit.finish();
        assert_eq!(finished.code, 1, "its manager has to start it again: {finished:?}");
        its(&pid);
        engine.sbx(&["daemon", "stop"]).run().expect_code(0);
        let unit = supervise();
        its(&serde_json::Value::Null);
        let stopped = engine.sbx(&["daemon", "stop"]).run().expect_code(0);
        assert!(stopped.stderr.contains("start sbx-daemon.service"), "{}", stopped.stderr);
        assert_eq!(unit.finish().code, 0);
        // The same for programs.
        let started = engine.sbx(&["daemon", "start", "--json"]).run().expect_code(0).json();
        let own = daemon(engine);
        assert_eq!((&started["pid"], &started["version"]), (&own["pid"], &own["version"]));
        let stopped = engine.sbx(&["daemon", "stop", "--json"]).run().expect_code(0).json();
        assert_eq!(
            stopped,
            serde_json::json!({ "format_version": "1.0", "stopped": true, "pid": own["pid"], "start_with": null })
        );
        if engine.kind().is_rootless() {
            let installed = engine.sbx(&["daemon", "install", "--json"]).run().expect_code(0).json();
            assert_eq!((&installed["format_version"], &installed["changed"]), (&"1.0".into(), &true.into()));
            assert!(installed["unit"].as_str().unwrap().ends_with("sbx-daemon.service"), "{installed}");
            assert!(installed["start_with"].as_str().unwrap().contains("enable --now"), "{installed}");
        }
    }
}

/// An engine that takes connections and says nothing keeps a daemon from nothing else: whoever ends it is heard.
#[test]
fn an_engine_that_says_nothing() {
    let engine = Engine::start(Kind::Rootless5);
    let silent = engine.dir().join("silent.sock");
    let listener = std::os::unix::net::UnixListener::bind(&silent).unwrap();
    std::fs::set_permissions(&silent, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept() {
            kept.push(stream);
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let url = format!("unix://{}", silent.display());
    let daemon = engine.sbx(&["--engine-url", &url, "daemon", "run"]).start();
    wait_for("it to ask", Duration::from_secs(10), || (asked.load(Ordering::SeqCst) > 0).then_some(()));
    let running = || engine.sbx(&["--engine-url", &url, "daemon", "status"]).run().code == 0;
    wait_for("it to answer", Duration::from_secs(10), || running().then_some(()));
    daemon.signal(Signal::HUP);
    // It goes on answering, so the signal has been taken by then.
    assert!(running());
    let ordered = Instant::now();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.finish().code, 0);
    // To end the threads takes two seconds at most; an answer is waited for five and longer.
    assert!(ordered.elapsed() < Duration::from_secs(4), "{:?}", ordered.elapsed());
}
