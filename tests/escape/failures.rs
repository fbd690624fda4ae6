//! What holds sandboxes to their policies fails, piece by piece: nothing leaves, and what is allowed is there again once it
//! is whole.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use crate::attempts::{self, DATAGRAM, PLAIN, SECURE};
use crate::capture::Capture;
use crate::engine::{Engine, Kind};
use crate::inside::Inside;
use crate::invocation::Running;
use crate::table::is_foreign;
use crate::wait::wait_for;
use crate::world::World;

/// No network but ours: whatever leaves has left through what failed.
const CONFIGURATION: &str = "\
sandboxes:
  inner:
    image: host
    restart: always
    command: [bash, -c, 'echo started >>/starts/all; exec sleep infinity']
    mounts: [{ source: ./starts, target: /starts, mode: rw }]
    egress:
      allow:
        - { host: open.example.org }
        - { host: open.example.org, ports: [5353], protocol: udp }
";

/// Ways out that need no answer to be seen, one of each kind.
const WAYS: [&str; 6] = [
    "tcp-to-a-literal",
    "tcp-to-a-foreign-literal",
    "udp-to-a-literal",
    "quic",
    "another-resolver-over-udp",
    "sni-of-another-name",
];

/// Takes the sockets that everything is sent to, and keeps them.
const SQUATTER: &str = "
import socket, sys
taken = []
for kind, port in ((socket.SOCK_STREAM, TCP), (socket.SOCK_STREAM, DNS), (socket.SOCK_DGRAM, DNS)):
    s = socket.socket(socket.AF_INET, kind); s.bind(('127.0.0.1', port)); taken.append(s)
    if kind == socket.SOCK_STREAM: s.listen()
print('taken', flush=True); sys.stdin.read()
";

struct Scene<'e> {
    engine: &'e Engine,
    world: World,
    capture: Capture,
    number: usize,
}

impl<'e> Scene<'e> {
    fn set(engine: &'e Engine) -> Self {
        let world = World::start(engine);
        engine.write("starts/all", "");
        let trust = engine.write("world.pem", &world.authority);
        engine.configure(CONFIGURATION);
        engine.sbx(&["apply", "--auto-approve"]).env("SSL_CERT_FILE", trust).run().expect_code(0);
        Self { engine, world, capture: Capture::start(engine), number: 0 }
    }

    fn token(&mut self) -> String {
        self.number += 1;
        format!("token-{}-x", self.number)
    }

    /// What is allowed gets out.
    fn is_open(&mut self, inside: &mut Inside<'_>) {
        for script in [PLAIN, SECURE, DATAGRAM] {
            let token = self.token();
            let told = inside.try_out("allowed", script, &token);
            assert_eq!(told.said, "through", "{script}");
            assert!(!self.world.arrivals.with(&token).is_empty(), "{script}");
        }
    }

    /// Nothing does, allowed or not. All at once: without anybody who refuses, each waits for its own end.
    fn is_shut(&mut self, insides: &mut [Inside<'_>], when: &str) {
        let before = self.capture.count(is_foreign);
        let ways = attempts::all().filter(|attempt| WAYS.contains(&attempt.name));
        let ways = ways.map(|attempt| (attempt.name, attempt.attack));
        let ways: Vec<_> = ways.chain([("plain", PLAIN), ("secure", SECURE), ("datagram", DATAGRAM)]).collect();
        assert_eq!(ways.len(), insides.len());
        let mut begun = Vec::new();
        for ((name, script), inside) in ways.into_iter().zip(insides) {
            let token = self.token();
            inside.begin(name, script, &token);
            begun.push((name, token, inside));
        }
        for (name, token, inside) in begun {
            let told = inside.end(name);
            let arrived = self.world.arrivals.with(&token);
            assert!(told.said != "through" && arrived.is_empty(), "{when}, {name}: {}, {arrived:?}", told.said);
        }
        assert_eq!(self.capture.count(is_foreign), before, "{when}: packets were on the wire");
    }

    /// As many processes inside as there are ways out to try.
    fn insides(&self) -> Vec<Inside<'e>> {
        (0..WAYS.len() + 3).map(|_| Inside::of(self.engine, "inner")).collect()
    }

    fn daemon(&self) -> serde_json::Value {
        self.engine.sbx(&["daemon", "status", "--json"]).run().json()["daemon"].clone()
    }

    fn kill_daemon(&self) {
        let pid = self.daemon()["pid"].to_string();
        self.engine.as_root("kill").args(["-9", &pid]).ok();
        wait_for("its end", Duration::from_secs(5), || self.daemon().is_null().then_some(()));
    }

    fn start_daemon(&self) {
        let trust = self.engine.project().join("world.pem");
        self.engine.sbx(&["daemon", "start"]).env("SSL_CERT_FILE", trust).run().expect_code(0);
    }

    fn is_served(&self) {
        wait_for("the sandbox to be served", Duration::from_secs(10), || {
            self.daemon()["sandboxes"][0]["policy"].is_string().then_some(())
        });
    }

    fn flush_rules(&self) {
        let pid = self.engine.pid("inner").to_string();
        self.engine.as_root("nsenter").args(["--target", &pid, "--net", "nft", "flush", "ruleset"]).ok();
    }

    fn starts(&self) -> usize {
        fs::read_to_string(self.engine.project().join("starts/all")).unwrap().lines().count()
    }
}

/// A process inside that has the proxy's sockets.
fn squat(engine: &Engine) -> Running<'_> {
    let ports = [("TCP", egress::attach::TCP_PORT), ("DNS", egress::attach::DNS_PORT)];
    let script = ports.iter().fold(SQUATTER.to_owned(), |script, (name, port)| script.replace(name, &port.to_string()));
    let mut invocation = engine.sbx(&["exec", "-T", "inner", "--", "python3", "-c", &script]);
    invocation.command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut squatter = invocation.spawn();
    let mut said = String::new();
    BufReader::new(squatter.child.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "taken\n");
    squatter
}

fn whatever_fails(kind: Kind) {
    let engine = Engine::start(kind);
    let mut scene = Scene::set(&engine);
    let mut insides = scene.insides();
    scene.is_open(&mut insides[0]);

    scene.flush_rules();
    scene.is_shut(&mut insides, "without rules");
    scene.kill_daemon();
    scene.is_shut(&mut insides, "without rules and daemon");
    scene.start_daemon();
    scene.is_served();
    scene.is_open(&mut insides[0]);

    scene.kill_daemon();
    scene.is_shut(&mut insides, "without daemon");
    let squatter = squat(&engine);
    scene.is_shut(&mut insides, "with somebody else at the proxy's sockets");
    scene.start_daemon();
    wait_for("the daemon to say so", Duration::from_secs(10), || {
        let problem = scene.daemon()["sandboxes"][0]["problem"].clone();
        problem.as_str().is_some_and(|text| text.contains("port")).then_some(())
    });
    scene.is_shut(&mut insides, "with a daemon that cannot have its sockets");
    drop(squatter);
    // What runs in the sandbox ends with the client only if it is told to.
    engine.sbx(&["exec", "-T", "inner", "--", "pkill", "-f", "print.'taken'"]).run();
    scene.is_served();
    scene.is_open(&mut insides[0]);
}

#[test]
fn nothing_leaves_whatever_fails_rootful_4() {
    whatever_fails(Kind::Rootful4);
}

#[test]
fn nothing_leaves_whatever_fails_rootless_5() {
    whatever_fails(Kind::Rootless5);
}

/// After a reboot, sandboxes are there before any daemon is, and nothing that only memory held is left.
fn after_a_reboot(kind: Kind) {
    let engine = Engine::start(kind);
    let mut scene = Scene::set(&engine);
    scene.is_open(&mut Inside::of(&engine, "inner"));
    assert_eq!(scene.starts(), 1);

    scene.kill_daemon();
    // Who would start a container again, or tidy up after it, ends first: a reboot leaves nobody.
    let end = "for name in conmon sbx-init; do \
               for pid in $(grep -l ^$name /proc/[0-9]*/comm 2>/dev/null | cut -d/ -f3); do kill -9 $pid; done; done; true";
    engine.as_root("sh").args(["-c", end]).ok();
    engine.kill_service();
    let left =
        "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -Eq '[c]onmon|container [c]leanup|sbx/[i]nit'";
    wait_for("their end", Duration::from_secs(10), || {
        (engine.as_root("sh").args(["-c", left]).run().code != 0).then_some(())
    });
    let runtime = engine.socket().ancestors().nth(2).expect("a directory").to_owned();
    let gone = ["sbx", "libpod", "runc", "crun", "netns", "containers"].map(|name| runtime.join(name));
    for gone in gone.into_iter().chain([engine.dir().join("storage/run")]) {
        engine.as_root("rm").args(["-rf"]).arg(gone).ok();
    }
    let started = scene.starts();
    engine.start_service();
    // As `podman-restart.service` does.
    engine.podman(&["start", "--all", "--filter", "restart-policy=always"]);
    let name = |scene: &Scene<'_>| scene.engine.as_root("cat").arg(format!("/proc/{}/comm", engine.pid("inner"))).ok();
    wait_for("PID 1 to wait", Duration::from_secs(5), || (name(&scene) == "sbx-init:gate").then_some(()));
    engine.sbx(&["exec", "inner", "--", "true"]).run().expect_code(1);
    let told = engine.sbx(&["status", "inner", "--json"]).run().expect_code(0).json();
    let ready = &told["sandboxes"][0]["conditions"][0];
    assert!(ready["status"] == "False" && ready["reason"] == "AtItsGate", "{told}");
    assert_eq!(scene.starts(), started, "nothing of the sandbox's own ran");

    scene.start_daemon();
    scene.is_served();
    wait_for("its command", Duration::from_secs(5), || (scene.starts() == started + 1).then_some(()));
    let mut insides = scene.insides();
    scene.is_open(&mut insides[0]);
    scene.kill_daemon();
    scene.is_shut(&mut insides, "without daemon after a reboot");
}

#[test]
fn after_a_reboot_sandboxes_wait_for_their_policy_rootful_4() {
    after_a_reboot(Kind::Rootful4);
}

#[test]
fn after_a_reboot_sandboxes_wait_for_their_policy_rootless_5() {
    after_a_reboot(Kind::Rootless5);
}

/// An engine that tells nothing any more, as Podman 4 does once the file of its events was begun anew.
#[test]
fn what_starts_is_served_although_the_engine_does_not_tell() {
    let engine = Engine::start(Kind::Rootful4);
    let mut scene = Scene::set(&engine);
    assert_eq!(scene.starts(), 1);
    let files = engine.as_root("find").arg(engine.dir()).args(["-name", "events.log"]).ok();
    let [file] = files.lines().collect::<Vec<_>>()[..] else { panic!("one file of events: {files}") };
    let copied = format!("{file}.new");
    engine.as_root("cp").args([file, &copied]).ok();
    engine.as_root("mv").args([&copied, file]).ok();

    for round in 2..4 {
        engine.as_root("kill").args(["-9", &engine.pid("inner").to_string()]).ok();
        wait_for("its command", Duration::from_secs(20), || (scene.starts() == round).then_some(()));
        scene.is_open(&mut Inside::of(&engine, "inner"));
    }
}
