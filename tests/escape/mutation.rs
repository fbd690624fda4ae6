//! Each defence off in turn: what it is there for must get through then, or no test would notice if it were gone.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::unix::process::CommandExt as _;
use std::time::Duration;

use egress::defence::{Defence, WITHOUT};

use crate::attempt::{Attempt, ByEngine, DIRECT, INNER, Recorded, TUNNEL};
use crate::attempts;
use crate::capture::{Capture, TCP, UDP};
use crate::engine::{Engine, Kind};
use crate::inside::{Inside, Insides};
use crate::table::{configure, is_foreign};
use crate::wait::{eventually, wait_for};
use crate::world::{FOREIGN, METADATA, PRIVATE, World};

/// What is shown elsewhere, and where.
const ELSEWHERE: [(Defence, &str); 2] = [
    (Defence::Gate, "start_window::nothing_leaves_before_the_policy"),
    (Defence::ControlPeer, "the_control_socket_listens_to_others_without_its_defence"),
];

/// A sandbox that nobody serves and that the engine gives every network.
const LOOSE: &str = "  loose: { networks: [backend, elsewhere], egress: { mode: open } }\n";

/// How long what was sent may take to be seen.
const SEEN: Duration = Duration::from_secs(2);

struct Lane<'e> {
    engine: &'e Engine,
    world: World,
    number: usize,
    wrong: Vec<String>,
}

impl Lane<'_> {
    /// Puts a daemon in force that lacks `off`.
    fn without(&self, off: &[Defence]) {
        let names: Vec<String> = off.iter().map(|defence| format!("{defence:?}")).collect();
        self.engine.sbx(&["daemon", "stop"]).run().expect_code(0);
        let trust = self.engine.project().join("world.pem");
        let start = self.engine.sbx(&["daemon", "start"]).env(WITHOUT, names.join(",")).env("SSL_CERT_FILE", trust);
        start.run().expect_code(0);
        wait_for("the sandbox to be served", Duration::from_secs(10), || {
            let daemon = self.engine.sbx(&["daemon", "status", "--json"]).run().json()["daemon"].clone();
            let is_served = |wanted: &str| {
                let all = daemon["sandboxes"].as_array().into_iter().flatten();
                all.into_iter().any(|sandbox| sandbox["sandbox"] == wanted && sandbox["policy"].is_string())
            };
            [INNER, DIRECT, TUNNEL].into_iter().all(is_served).then_some(())
        });
    }

    /// Whether an attempt gets anywhere; and what it said.
    fn gets_through(&mut self, inside: &mut Inside<'_>, attempt: &Attempt, wait: bool) -> (bool, String) {
        self.number += 1;
        let token = format!("attack-{}-x", self.number);
        let told = inside.try_out(attempt.name, attempt.attack, &token);
        let seen = || {
            let arrived = !self.world.arrivals.with(&token).is_empty();
            (told.said == "through" || arrived).then_some(())
        };
        let through = if wait { eventually(SEEN, seen).is_some() } else { seen().is_some() };
        (through, told.said)
    }

    /// Demands that `attempt` gets through, or that it does not.
    fn expect(&mut self, inside: &mut Inside<'_>, attempt: &Attempt, through: bool, off: &str) {
        let (got, said) = self.gets_through(inside, attempt, through);
        if got != through {
            let what = if through { "is refused all the same" } else { "gets through" };
            self.wrong.push(format!("{}: without {off} it {what}: {said}", attempt.name));
        }
    }
}

/// Attempts that the engine's doing has a part in.
fn by_engine(part: ByEngine) -> impl Iterator<Item = &'static Attempt> {
    attempts::all().filter(move |attempt| attempt.by_engine == Some(part))
}

/// One engine is enough: what is turned off is in the daemon, and the same on all. A rootful one, since its bridges, and
/// so the gateways of internal networks, are where the world is.
#[test]
fn without_its_defence_each_attempt_gets_through() {
    let engine = Engine::start(Kind::Rootful4);
    let world = World::start(&engine);
    engine.write("world.pem", &world.authority);
    configure(&engine, LOOSE);
    engine.apply();
    let capture = Capture::start(&engine);
    let mut lane = Lane { engine: &engine, world, number: 0, wrong: Vec::new() };
    let mut insides = Insides::of(&engine);
    let mut privileged = Insides::privileged(&engine);

    // One by one. Where several stand in the way, each of them is enough.
    for defence in Defence::ALL {
        let concerned = || attempts::all().filter(move |attempt| attempt.defences.contains(&defence));
        if concerned().next().is_none() {
            continue;
        }
        lane.without(&[defence]);
        for attempt in concerned() {
            let alone = attempt.defences.len() == 1 && attempt.by_engine.is_none();
            lane.expect(insides.at(attempt.sandbox), attempt, alone, &format!("{defence:?}"));
            if attempt.by_engine == Some(ByEngine::Confinement) {
                lane.expect(privileged.at(attempt.sandbox), attempt, true, &format!("{defence:?} and confinement"));
            }
        }
    }
    // Together.
    let several: BTreeSet<&[Defence]> =
        attempts::all().map(|attempt| attempt.defences).filter(|defences| defences.len() > 1).collect();
    for defences in several {
        lane.without(defences);
        for attempt in attempts::all().filter(|attempt| attempt.defences == defences) {
            lane.expect(insides.at(attempt.sandbox), attempt, true, &format!("{defences:?}"));
        }
    }
    // What the engine does.
    lane.without(&[]);
    for attempt in by_engine(ByEngine::Confinement) {
        lane.expect(privileged.at(attempt.sandbox), attempt, attempt.defences.is_empty(), "confinement");
    }
    let mut loose = Inside::of(&engine, "loose");
    for attempt in by_engine(ByEngine::Networks) {
        lane.expect(&mut loose, attempt, true, "a network of its own");
    }
    let mut outside = Inside::start(&engine, engine.command("env"));
    for attempt in by_engine(ByEngine::Namespaces) {
        lane.expect(&mut outside, attempt, true, "namespaces of its own");
    }
    // What the tables' captures would not see, either.
    let ports = [(TCP, 853), (TCP, 2375), (TCP, 7777), (TCP, 8080), (UDP, 443), (UDP, 7777)];
    for (protocol, port) in ports {
        if capture.count(|seen| is_foreign(seen) && (seen.protocol, seen.port) == (protocol, Some(port))) == 0 {
            lane.wrong.push(format!("the capture saw nothing for port {port} of protocol {protocol}"));
        }
    }
    for address in [FOREIGN, PRIVATE, METADATA] {
        if capture.count(|seen| is_foreign(seen) && seen.address == IpAddr::V4(address)) == 0 {
            lane.wrong.push(format!("the capture saw nothing for {address}"));
        }
    }
    assert!(lane.wrong.is_empty(), "{}", lane.wrong.join("\n"));
}

/// Nothing without a defence, no defence without something that it defends against.
#[test]
fn every_defence_is_named_and_every_attempt_names_one() {
    for attempt in attempts::all() {
        assert!(
            !attempt.defences.is_empty() || attempt.by_engine.is_some(),
            "{}: what stands in its way?",
            attempt.name
        );
        assert!(!matches!(attempt.recorded, Recorded::Unsaid), "{}: what is recorded?", attempt.name);
        if let Some(ByEngine::Fixed(why)) = attempt.by_engine {
            assert!(!why.is_empty() && attempt.defences.is_empty(), "{}", attempt.name);
        }
    }
    for defence in Defence::ALL {
        let named = attempts::all().any(|attempt| attempt.defences.contains(&defence));
        let elsewhere = ELSEWHERE.iter().any(|(shown, _)| *shown == defence);
        assert!(named != elsewhere, "{defence:?}: what gets through without it?");
    }
}

/// Orders from another user are refused for who asks, whatever the mode of the socket has become.
#[test]
fn the_control_socket_listens_to_others_without_its_defence() {
    let engine = Engine::start(Kind::Rootful4);
    let ask = || {
        let socket = engine.dir().join("run/sbx");
        let places = std::fs::read_dir(&socket).expect("the daemon's directory").map(|place| place.unwrap().path());
        let socket = places.map(|place| place.join("daemon.sock")).find(|socket| socket.exists()).expect("a socket");
        for directory in socket.ancestors().skip(1).take_while(|path| path.starts_with(engine.dir())) {
            engine.as_root("chmod").arg("a+x").arg(directory).ok();
        }
        engine.as_root("chmod").arg("666").arg(&socket).ok();
        let script = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
try: s.sendall(b'{\"ask\":\"hello\",\"protocol\":1,\"version\":\"1\"}\\n')
except BrokenPipeError: pass
print(s.recv(4096).decode())";
        let mut asked = engine.as_root("python3").args(["-c", script]).arg(&socket);
        asked.command.uid(4242).gid(4242);
        asked.ok()
    };
    for (off, answer) in [("", "may not give orders"), ("ControlPeer", "\"answer\":\"hello\"")] {
        engine.sbx(&["daemon", "start"]).env(WITHOUT, off).run().expect_code(0);
        let said = ask();
        assert!(said.contains(answer), "without {off:?}: {said}");
        engine.sbx(&["daemon", "stop"]).run().expect_code(0);
    }
}
