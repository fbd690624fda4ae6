//! Policies in force, from the file to the wire: real engines, real namespaces, a server beyond the engine's uplink.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::engine::Engine;
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
        let listener = engine.listen_outside(FAR, port);
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
pub fn allowing(rest: &str, names: &[(&str, u16)]) -> String {
    let rules: Vec<String> =
        names.iter().map(|(name, port)| format!("{{ host: {name}, ports: [{port}], protocol: tcp }}")).collect();
    format!(
        "sandboxes:\n  dev:\n    image: host\n{rest}    egress:\n      allow: [{}]\n      hosts: {{ kept.test: [{FAR}], cut.test: [{FAR}], other.test: [{FAR}] }}",
        rules.join(", ")
    )
}

pub const BOTH: [(&str, u16); 2] = [("kept.test", KEPT), ("cut.test", CUT)];

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

pub fn daemon_log(engine: &Engine) -> String {
    let directory = engine.home().join(".local/state/sbx/daemon");
    let logs = std::fs::read_dir(directory).into_iter().flatten().flatten();
    logs.map(|log| std::fs::read_to_string(log.path()).unwrap_or_default()).collect()
}

pub fn daemon(engine: &Engine) -> Value {
    engine.sbx(&["daemon", "status", "--json"]).run().json()["daemon"].clone()
}

/// The control socket, as seen from outside too.
pub fn socket(engine: &Engine) -> PathBuf {
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

    /// One that connects again and again, and says each time how it is greeted, `cut` where it is not, or `refused`; when
    /// there is a file `/tmp/enough`, it says `enough`.
    pub fn connecting(engine: &'e Engine, host: &str, port: u16) -> Self {
        let once = format!(
            "(exec 3<>/dev/tcp/{host}/{port} || {{ echo refused; exit; }}; \
             IFS= read -r line <&3 && echo \"$line\" || echo cut) 2>/dev/null"
        );
        Self::running(engine, &format!("until [ -e /tmp/enough ]; do {once}; done; echo enough"))
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

/// The TCP sockets that are listened at in the network of `sandbox`, by the numbers that the kernel knows them by.
pub fn listeners(engine: &Engine, sandbox: &str) -> BTreeSet<String> {
    const LISTEN: &str = "0A";
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(3) == Some(&LISTEN)).then(|| fields[9].to_owned())
    };
    engine.inside(sandbox, &["cat", "/proc/net/tcp", "/proc/net/tcp6"]).lines().filter_map(inode).collect()
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
