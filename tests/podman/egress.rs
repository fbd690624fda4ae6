//! Policies in force, from the file to the wire: real engines, real namespaces, a server beyond the engine's uplink.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::engine::{Engine, Kind};
use crate::invocation::{Finished, Running};
use crate::on_every_engine;
use crate::project::text;
use crate::wait::wait_for;

/// The far end of the engine's uplink.
pub const FAR: &str = "198.51.100.1";
pub const KEPT: u16 = 7001;
pub const CUT: u16 = 7002;

/// A server beyond the uplink: greets, and notices when its client has gone.
pub struct Far {
    streams: Arc<Mutex<Vec<TcpStream>>>,
    accepted: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

impl Far {
    pub fn at(engine: &Engine, port: u16) -> Self {
        let listener =
            engine.namespaces().within_network(|| TcpListener::bind((FAR, port))).expect("the far end is ours");
        let far = Self { streams: Arc::default(), accepted: Arc::default(), ended: Arc::default() };
        let (streams, accepted, ended) = (Arc::clone(&far.streams), Arc::clone(&far.accepted), Arc::clone(&far.ended));
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                accepted.fetch_add(1, Ordering::SeqCst);
                let _ = stream.write_all(b"hello\n");
                streams.lock().unwrap().push(stream.try_clone().unwrap());
                let ended = Arc::clone(&ended);
                std::thread::spawn(move || {
                    let mut bytes = [0; 64];
                    while stream.read(&mut bytes).is_ok_and(|read| read > 0) {}
                    let _ = stream.shutdown(std::net::Shutdown::Both);
                    ended.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        far
    }

    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub fn ended(&self) -> usize {
        self.ended.load(Ordering::SeqCst)
    }

    /// Says something to everybody who is still there.
    pub fn say(&self, line: &str) {
        for stream in self.streams.lock().unwrap().iter_mut() {
            let _ = writeln!(stream, "{line}");
        }
    }
}

/// A configuration that allows these names, each at one port of the far end.
fn allowing(rest: &str, names: &[(&str, u16)]) -> String {
    let rules: Vec<String> =
        names.iter().map(|(name, port)| format!("{{ host: {name}, ports: [{port}], protocol: tcp }}")).collect();
    format!(
        "sandboxes:\n  dev:\n    image: host\n{rest}    egress:\n      allow: [{}]\n      hosts: {{ kept.test: [{FAR}], cut.test: [{FAR}], other.test: [{FAR}] }}",
        rules.join(", ")
    )
}

const BOTH: [(&str, u16); 2] = [("kept.test", KEPT), ("cut.test", CUT)];

/// What a client inside reads first; fails when it is not let out.
pub fn dial(engine: &Engine, host: &str, port: u16) -> Finished {
    let script = format!("exec 3<>/dev/tcp/{host}/{port} && IFS= read -r -t 5 line <&3 && echo \"$line\"");
    engine.sbx(&["exec", "-T", "dev", "--", "bash", "-c", &script]).run()
}

#[track_caller]
pub fn reaches(engine: &Engine, host: &str, port: u16) {
    let finished = dial(engine, host, port);
    if finished.code != 0 || finished.stdout != "hello\n" {
        let log = engine.sbx(&["egress", "log"]).run();
        let status = engine.sbx(&["daemon", "status"]).run();
        panic!("{host}:{port} is not reached: {finished:?}\n{}\n{}\n{}", log.stdout, status.stdout, daemon_log(engine));
    }
}

#[track_caller]
pub fn does_not_reach(engine: &Engine, host: &str, port: u16) {
    let finished = dial(engine, host, port);
    assert!(finished.code != 0 && finished.stdout.is_empty(), "{host}:{port} is reached: {finished:?}");
}

fn daemon_log(engine: &Engine) -> String {
    let directory = engine.home().join(".local/state/sbx/daemon");
    let logs = std::fs::read_dir(directory).into_iter().flatten().flatten();
    logs.map(|log| std::fs::read_to_string(log.path()).unwrap_or_default()).collect()
}

pub fn daemon(engine: &Engine) -> Value {
    engine.sbx(&["daemon", "status", "--json"]).run().json()["daemon"].clone()
}

/// The control socket, as seen from outside too.
fn socket(engine: &Engine) -> PathBuf {
    let runtime = engine.socket().parent().unwrap().parent().unwrap().join("sbx");
    let places = std::fs::read_dir(&runtime).into_iter().flatten().flatten();
    places.map(|place| place.path().join("daemon.sock")).find(|socket| socket.exists()).unwrap_or(runtime)
}

/// A client inside that stays, line by line.
pub struct Client<'e> {
    _running: Running<'e>,
    lines: BufReader<std::process::ChildStdout>,
}

impl<'e> Client<'e> {
    pub fn of(engine: &'e Engine, host: &str, port: u16) -> Self {
        Self::running(engine, &format!("exec 3<>/dev/tcp/{host}/{port}; cat <&3"))
    }

    /// One that goes on sending, and says `cut` when that fails.
    pub fn sending(engine: &'e Engine, host: &str, port: u16) -> Self {
        let send = "while printf x >&3; do read -r -t 0.05 -u 3 more; done 2>/dev/null";
        Self::running(
            engine,
            &format!(
                "trap '' PIPE; exec 3<>/dev/tcp/{host}/{port}; IFS= read -r line <&3; echo \"$line\"; {send}; echo cut"
            ),
        )
    }

    fn running(engine: &'e Engine, script: &str) -> Self {
        let mut running = engine.sbx(&["exec", "-T", "dev", "--", "bash", "-c", script]).start();
        let lines = BufReader::new(running.child.stdout.take().expect("stdout is piped"));
        let mut client = Self { _running: running, lines };
        assert_eq!(client.line(), "hello\n");
        client
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }
}

fn volumes(engine: &Engine) -> Vec<String> {
    let rows = engine.get("/volumes/json");
    rows.as_array().unwrap_or(&Vec::new()).iter().map(|row| text(&row["Name"]).to_owned()).collect()
}

on_every_engine! {
    /// What is named is reached, nothing else is, and a change of the policy is live.
    fn an_allowlist(engine) {
        let (kept, cut) = (Far::at(engine, KEPT), Far::at(engine, CUT));
        engine.configure(&allowing("", &BOTH));
        let planned = engine.planned();
        assert!(planned.contains(&"create policy/dev".to_owned()), "{planned:?}");
        engine.converge();
        reaches(engine, "kept.test", KEPT);
        reaches(engine, "cut.test", CUT);
        let before = (kept.accepted(), cut.accepted());
        does_not_reach(engine, "kept.test", CUT);
        does_not_reach(engine, "other.test", KEPT);
        does_not_reach(engine, "nowhere.test", KEPT);
        does_not_reach(engine, FAR, KEPT);
        does_not_reach(engine, "127.0.0.1", 22);
        assert_eq!((kept.accepted(), cut.accepted()), before, "nothing arrived that should not");

        let log = engine.sbx(&["egress", "log", "--json", "--denied"]).ok();
        let denied: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(denied.iter().any(|record| record["host"] == "nowhere.test"), "{log}");
        assert!(denied.iter().all(|record| record["allowed"] == false && record["sandbox"] == "dev"), "{log}");
        wait_for("the record of a connection that has ended", Duration::from_secs(2), || {
            let all = engine.sbx(&["egress", "log", "dev"]).ok();
            all.contains(&format!("allowed tcp kept.test:{KEPT}")).then_some(())
        });
        let status = engine.sbx(&["status", "--json"]).run().json();
        assert_eq!(status["sandboxes"][0]["egress"]["attached"], true, "{status}");
        assert!(!status["sandboxes"][0]["egress"]["denied"].as_array().unwrap().is_empty(), "{status}");

        // Live: same container, one flow goes on, the other is cut.
        let id = engine.id("dev");
        let mut stays = Client::of(engine, "kept.test", KEPT);
        let _goes = Client::of(engine, "cut.test", CUT);
        let ended = (kept.ended(), cut.ended());
        engine.configure(&allowing("", &BOTH[..1]));
        let change = engine.planned_for("policy/dev");
        assert_eq!((text(&change["action"]), &change["cuts"][0]), ("update", &format!("cut.test:{CUT}").into()), "{change}");
        assert_eq!(change["fields"][0]["path"], format!("allow[cut.test:{CUT}]"), "{change}");
        assert_eq!(engine.planned(), ["update policy/dev"]);
        let replay = &engine.sbx(&["plan", "--json"]).run().json()["replay"];
        assert_eq!(replay["closed"][0]["host"], "cut.test", "{replay}");
        assert_eq!(replay["opened"], serde_json::json!([]), "{replay}");
        let told = engine.sbx(&["plan"]).ok();
        // Lines end where there is room for no more.
        let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(told.contains("Replay of") && told.contains("would now be denied"), "{told}");
        engine.apply();
        wait_for("the revoked flow to be cut", Duration::from_secs(1), || (cut.ended() > ended.1).then_some(()));
        kept.say("still here");
        assert_eq!(stays.line(), "still here\n");
        assert_eq!(kept.ended(), ended.0, "no flow that is still allowed was reset");
        assert_eq!(engine.id("dev"), id);
        does_not_reach(engine, "cut.test", CUT);
        engine.expect_nothing_to_do();
        assert_eq!(volumes(engine).iter().filter(|name| name.contains(".policy.")).count(), 1, "the old one is gone");

        // Nothing is allowed any more.
        drop(stays);
        engine.configure("sandboxes: { dev: { image: host } }");
        engine.converge();
        assert_eq!(engine.id("dev"), id);
        does_not_reach(engine, "kept.test", KEPT);

        engine.sbx(&["destroy", "--auto-approve"]).run().expect_code(0);
        assert!(!volumes(engine).iter().any(|name| name.contains(".policy.")));
        wait_for("the daemon to forget it", Duration::from_secs(5), || {
            (daemon(engine)["sandboxes"] == serde_json::json!([])).then_some(())
        });
        let control = socket(engine);
        assert!(control.exists());
        engine.sbx(&["daemon", "stop"]).run().expect_code(0);
        assert!(!control.exists());
        engine.sbx(&["daemon", "status"]).run().expect_code(1);
        let left = engine.as_root("sh").args(["-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c '[s]bx daemon run'"]).run();
        assert_eq!(left.stdout.trim(), "0", "no process is left");
    }

    /// Let out for as long as the command runs, and no longer, however it ends; what was done is proposed.
    fn learning(engine) {
        let (_kept, new) = (Far::at(engine, KEPT), Far::at(engine, CUT));
        engine.configure(&allowing("", &BOTH[..1]));
        engine.converge();
        does_not_reach(engine, "other.test", CUT);
        let learning = || daemon(engine)["sandboxes"][0]["learning"].is_string();
        let begin = |more: &[&str]| {
            let running = engine.sbx(&[&["egress", "learn", "dev", "--for", "1h"], more].concat()).start();
            wait_for("learning to begin", Duration::from_secs(5), || learning().then_some(()));
            running
        };

        let running = begin(&["--json"]);
        let status = engine.sbx(&["status"]).ok();
        assert!(status.contains("LEARNING"), "{status}");
        reaches(engine, "other.test", CUT);
        reaches(engine, "kept.test", KEPT);
        does_not_reach(engine, "10.1.2.3", 5432);
        running.signal(rustix::process::Signal::INT);
        let finished = running.finish().expect_code(0);
        assert!(finished.told().contains("LEARNING: sandbox dev is let out"), "{}", finished.stderr);
        let learned = finished.json();
        assert_eq!(learned["rules"], serde_json::json!([format!("{{ host: other.test, ports: [{CUT}] }}")]), "{learned}");
        assert_eq!(learned["refused"][0]["because"], "address-refused", "{learned}");
        assert!(!learning());
        does_not_reach(engine, "other.test", CUT);

        // Killed: nobody is left to say that it is over.
        let running = begin(&[]);
        reaches(engine, "other.test", CUT);
        running.signal(rustix::process::Signal::KILL);
        wait_for("learning to end", Duration::from_secs(5), || (!learning()).then_some(()));
        does_not_reach(engine, "other.test", CUT);
        drop(running);

        let running = begin(&["--write"]);
        reaches(engine, "other.test", CUT);
        running.signal(rustix::process::Signal::INT);
        let finished = running.finish().expect_code(0);
        assert!(finished.stdout.contains(&format!(", {{ host: other.test, ports: [{CUT}] }}]")), "{}", finished.stdout);
        let arrived = new.accepted();
        does_not_reach(engine, "other.test", CUT);
        assert_eq!(new.accepted(), arrived, "written is not applied");
        engine.converge();
        reaches(engine, "other.test", CUT);
    }

    /// Names are asked of us, whatever the image says, and nobody inside changes that; a policy that comes or goes is no
    /// reason for another container.
    fn files_of_ours(engine) {
        let _kept = Far::at(engine, KEPT);
        engine.configure("sandboxes: { dev: { image: host }, open: { image: host, egress: { mode: none } } }");
        engine.converge();
        // Without a network some engines make no such file at all.
        let shows = |sandbox: &str| engine.shell(sandbox, "cat /etc/resolv.conf /etc/hostname 2>/dev/null; true");
        assert_eq!(shows("dev"), "nameserver 198.18.0.1\nnameserver fd00:5b78::1\ndev");
        assert!(engine.inside("dev", &["cat", "/etc/hosts"]).contains("127.0.1.1 dev"));
        assert!(!shows("open").contains("198.18.0.1"), "where nothing is served the engine's own are right");
        for file in ["resolv.conf", "hosts", "hostname"] {
            let refused = engine.sbx(&["exec", "dev", "--", "sh", "-c", &format!("echo x >>/etc/{file}")]).run();
            assert_ne!(refused.code, 0, "/etc/{file} was written");
        }
        let id = engine.id("dev");
        engine.configure(&allowing("", &BOTH[..1]));
        assert_eq!(engine.planned(), ["create policy/dev", "delete container/open"]);
        engine.converge();
        reaches(engine, "kept.test", KEPT);
        assert_eq!(engine.id("dev"), id);
    }

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
        let fastest = times.lines().map(|line| line.parse::<u64>().unwrap()).min().unwrap();
        assert!(fastest <= 100, "refused within {times} ms");

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

    /// Whoever starts it: nothing of the sandbox's own runs before its policy is in force.
    fn the_gate(engine) {
        let _kept = Far::at(engine, KEPT);
        let command = "    command: [bash, -c, 'date +%s%N >>/tmp/starts; exec sleep 1000']\n";
        engine.configure(&allowing(command, &BOTH[..1]));
        engine.converge();
        let starts = || engine.inside("dev", &["wc", "-l", "/tmp/starts"]).split(' ').next().unwrap().to_owned();
        assert_eq!(starts(), "1");
        // With a daemon it is let in by itself.
        engine.podman(&["restart", "--time", "1", "demo_dev"]);
        wait_for("the daemon to let it in", Duration::from_secs(5), || {
            (engine.sbx(&["exec", "dev", "--", "true"]).run().code == 0).then_some(())
        });
        assert_eq!(starts(), "2");
        reaches(engine, "kept.test", KEPT);

        engine.sbx(&["daemon", "stop"]).run().expect_code(0);
        engine.podman(&["stop", "--time", "1", "demo_dev"]);
        engine.podman(&["start", "demo_dev"]);
        let refused = engine.sbx(&["exec", "dev", "--", "true"]).run().expect_code(1);
        assert!(refused.told().contains("waits at its gate"), "{}", refused.stderr);
        let inside = engine.podman(&["exec", "demo_dev", "wc", "-l", "/tmp/starts"]);
        assert!(inside.starts_with("2 "), "nothing ran: {inside}");
        engine.sbx(&["daemon", "start"]).run().expect_code(0);
        wait_for("the daemon to let it in", Duration::from_secs(5), || {
            (engine.sbx(&["exec", "dev", "--", "true"]).run().code == 0).then_some(())
        });
        assert_eq!(starts(), "3");
        reaches(engine, "kept.test", KEPT);
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

    /// A newer program's daemon takes the place of an older one without the sandboxes losing their sockets.
    fn a_newer_daemon(engine) {
        let kept = Far::at(engine, KEPT);
        engine.configure(&allowing("", &BOTH[..1]));
        engine.converge();
        let old = daemon(engine);
        engine.expect_nothing_to_do();
        let newer = engine.sbx(&["daemon", "start"]).env("SBX_DAEMON_VERSION", "99.0.0").run().expect_code(0);
        assert!(newer.stderr.contains("99.0.0"), "{}", newer.stderr);
        let new = daemon(engine);
        assert_ne!(new["pid"], old["pid"]);
        wait_for("the sandbox to be served", Duration::from_secs(2), || daemon(engine)["sandboxes"][0]["policy"].is_string().then_some(()));
        reaches(engine, "kept.test", KEPT);
        assert!(daemon_log(engine).contains("taking over"), "{}", daemon_log(engine));
        // An older program is content with a newer daemon.
        engine.sbx(&["daemon", "start"]).run().expect_code(0);
        assert_eq!(daemon(engine)["pid"], new["pid"]);
        // Nor does it oust it.
        let refused = engine.sbx(&["daemon", "run", "--replace", "--supervised"]).run().expect_code(75);
        assert!(refused.stderr.contains("a newer daemon runs: version 99.0.0"), "{}", refused.stderr);
        let _ = kept;
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

    /// On a network without a single rule: peers by name, and not the host behind the bridge, whoever starts it.
    fn a_network_without_rules(engine) {
        let serve = "command: [python3, -m, http.server, '8000', --directory, /usr/share/doc]";
        engine.configure(&format!(
            "networks: {{ backend: {{}} }}\n\
             defaults: {{ image: host }}\n\
             sandboxes:\n\
             \x20 bare: {{ networks: [backend] }}\n\
             \x20 none: {{ networks: [backend], egress: {{ mode: none }} }}\n\
             \x20 loose: {{ networks: [backend], egress: {{ mode: open }} }}\n\
             \x20 peer: {{ networks: [backend], {serve} }}"
        ));
        engine.converge();
        let subnet = engine.get("/networks/demo_backend/json")["subnets"][0]["subnet"].clone();
        let bridge = text(&subnet).replace(".0/24", ".1");
        // The engine's resolver listens there, and knows containers by names of which ours knows nothing.
        let ask = format!(
            "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2); \
             s.sendto(bytes.fromhex('000101000001000000000000') + b'\\x09demo_peer\\0\\0\\1\\0\\1', ('{bridge}', 53)); \
             sys.exit(s.recv(512)[7] == 0)"
        );
        let answered = |sandbox: &str| engine.sbx(&["exec", sandbox, "--", "python3", "-c", &ask]).run().code == 0;
        let fetch = "exec 3<>/dev/tcp/peer/8000";
        let connects = |sandbox: &str| engine.sbx(&["exec", sandbox, "--", "bash", "-c", fetch]).run().code == 0;
        assert!(answered("loose"), "{bridge} answers those who may ask");
        for sandbox in ["bare", "none"] {
            wait_for("the peer to serve", Duration::from_secs(10), || connects(sandbox).then_some(()));
            assert!(!answered(sandbox), "{sandbox} reaches {bridge}");
        }
        engine.podman(&["restart", "--time", "1", "demo_bare"]);
        wait_for("the daemon to let it in", Duration::from_secs(5), || connects("bare").then_some(()));
        assert!(!answered("bare"), "it reaches {bridge} after a restart");
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
