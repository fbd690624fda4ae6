//! The moment between the start of a sandbox and its policy: its process sends first thing, whoever starts it.

use std::io::{BufRead as _, BufReader};
use std::net::IpAddr;
use std::process::Stdio;
use std::time::Duration;

use egress::defence::WITHOUT;

use crate::capture::Capture;
use crate::engine::{Engine, Kind};
use crate::invocation::Running;
use crate::soak;
use crate::wait::{eventually, wait_for};
use crate::world::World;

/// Started at once.
const SANDBOXES: usize = 10;

/// After so many rounds the network is made anew: Podman 4.3 keeps the address of a container whose restart has failed, and
/// a network has 253 of them.
const FRESH_NETWORK: usize = 25;

/// Sends to the bridge's own address, which nothing but the rules keeps it from, and then says that it was there.
const SCRIPT: &str = "\
{ while read -r device network _ && [[ $device != eth0 ]]; do :; done; } </proc/net/route
gateway=$((16#${network:6:2})).$((16#${network:4:2})).$((16#${network:2:2})).1
echo \"started-$1\" 2>/dev/null >/dev/udp/$gateway/7777
echo \"$1\" >>/starts/all
exec sleep infinity
";

/// Who starts them.
#[derive(Debug, Clone, Copy)]
enum By {
    Apply,
    Restart,
    Start,
    Policy,
}

/// Sandboxes that run the script, all on one internal network; another `round` makes them others.
fn configuration(round: usize) -> String {
    let mut text = String::from(
        "quotas: { perOwner: 20, total: 20 }\nnetworks: { backend: {} }\ndefaults: { image: host }\nsandboxes:\n",
    );
    for number in 0..SANDBOXES {
        text.push_str(&format!(
            "  dev-{number}:\n    networks: [backend]\n    restart: always\n    env: {{ ROUND: '{round}' }}\n    \
             command: [bash, /starts/script, dev-{number}]\n    \
             mounts: [{{ source: ./starts, target: /starts, mode: rw }}]\n    \
             egress: {{ allow: [{{ host: open.example.org }}] }}\n"
        ));
    }
    text
}

fn names() -> Vec<String> {
    (0..SANDBOXES).map(|number| format!("demo_dev-{number}")).collect()
}

/// How many processes have sent so far.
fn started(engine: &Engine) -> usize {
    let text = std::fs::read_to_string(engine.project().join("starts/all")).unwrap_or_default();
    text.lines().count()
}

/// Starts all of them anew, and waits until each has tried to send.
fn start(engine: &Engine, by: By, round: usize) {
    let before = started(engine);
    let podman = |verb: &[&str]| drop(engine.podman_command(verb).args(names()).ok());
    match by {
        By::Apply => {
            engine.configure(&configuration(round));
            engine.apply();
        }
        By::Restart => podman(&["restart", "--time", "0"]),
        By::Start => {
            podman(&["stop", "--time", "0"]);
            podman(&["start"]);
        }
        By::Policy => {
            let pids = engine.podman_command(&["inspect", "--format", "{{.State.Pid}}"]).args(names()).ok();
            engine.as_root("kill").arg("-9").args(pids.lines()).ok();
        }
    }
    let all = || (started(engine) >= before + SANDBOXES).then_some(());
    if matches!(by, By::Policy) && eventually(Duration::from_secs(20), all).is_none() {
        // A restart that falls into the moment when Podman 4.3 shortens its file of events fails, and is the engine's to make
        // again. What runs, and waits at its gate, is not among those.
        let states = engine.podman_command(&["inspect", "--format", "{{.Name}} {{.State.Status}}"]).args(names()).ok();
        let rows = states.lines().filter_map(|row| row.split_once(' '));
        let given_up: Vec<&str> = rows.filter(|(_, state)| *state != "running").map(|(name, _)| name).collect();
        assert!(!given_up.is_empty(), "round {round}: {states}");
        drop(engine.podman_command(&["start"]).args(given_up).ok());
    }
    wait_for(&format!("all to be started ({by:?}, round {round})"), Duration::from_mins(1), all);
}

/// Where a witness beside the bridge of a rootless engine writes.
const SEEN: &str = "seen";

/// Takes what comes to the bridge's own address.
const WITNESS: &str = "\
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((sys.argv[1], 7777))
seen = open(sys.argv[2], 'ab', buffering=0); print('bound', flush=True)
while True: seen.write(s.recv(99) + b'\\n')
";

/// Who gets what is sent too early: whoever is at the bridge's own address.
enum Witness<'e> {
    /// The world, with a capture beside it, since the bridge of a rootful engine is on the host.
    World(World, Capture, IpAddr),
    /// A process where the bridges of a rootless engine are.
    Process { engine: &'e Engine, gateway: IpAddr, _running: Running<'e> },
}

impl<'e> Witness<'e> {
    fn beside(engine: &'e Engine) -> Self {
        let gateway = gateway(engine);
        if !engine.kind().is_rootless() {
            return Self::World(World::start(engine), Capture::start(engine), gateway);
        }
        let arguments = ["unshare", "--rootless-netns", "python3", "-c", WITNESS, &gateway.to_string(), SEEN];
        let mut invocation = engine.podman_command(&arguments);
        invocation.command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut running = invocation.spawn();
        let mut said = String::new();
        BufReader::new(running.child.stdout.take().expect("it is piped")).read_line(&mut said).expect("it speaks");
        assert_eq!(said, "bound\n");
        Self::Process { engine, gateway, _running: running }
    }

    /// Goes to where the network is that was made anew.
    fn follow(&mut self, engine: &Engine) {
        match self {
            Self::World(_, _, there) => *there = gateway(engine),
            Self::Process { gateway: there, .. } => assert_eq!(*there, gateway(engine), "it takes what comes there"),
        }
    }

    /// How much each of those saw that look.
    fn saw(&self) -> Vec<usize> {
        match self {
            Self::World(world, capture, gateway) => {
                vec![world.arrivals.with("started-").len(), capture.count(|seen| seen.address == *gateway)]
            }
            Self::Process { engine, .. } => {
                let seen = std::fs::read_to_string(engine.project().join(SEEN)).expect("its file");
                vec![seen.lines().count()]
            }
        }
    }
}

/// The address of the bridge.
fn gateway(engine: &Engine) -> IpAddr {
    let network = &engine.get("/networks/demo_backend/json")["subnets"][0]["gateway"];
    network.as_str().expect("an address").parse().expect("an address")
}

/// Nothing is seen of so many starts, however they come about; and something, once there is no gate to wait at.
fn nothing_leaves(kind: Kind, starts: usize) {
    let engine = Engine::start(kind);
    engine.write("starts/script", SCRIPT);
    engine.configure(&configuration(0));
    engine.apply();
    let mut witness = Witness::beside(&engine);

    let rounds = soak::times("SBX_SOAK_STARTS", starts).div_ceil(SANDBOXES);
    for round in 1..=rounds {
        let by = match round % 10 {
            1 => By::Apply,
            2 | 5 | 8 => By::Restart,
            3 | 6 | 9 => By::Start,
            _ => By::Policy,
        };
        if round % FRESH_NETWORK == 0 {
            engine.sbx(&["destroy", "--auto-approve"]).run().expect_code(0);
            engine.configure(&configuration(round));
            engine.apply();
            witness.follow(&engine);
        }
        start(&engine, by, round);
        let saw = witness.saw();
        assert!(saw.iter().all(|count| *count == 0), "{by:?}, round {round}: {saw:?}");
    }
    assert!(started(&engine) >= (rounds + 1) * SANDBOXES, "each of them did try to send");

    // Without the gate it is seen: what they send would arrive.
    engine.sbx(&["daemon", "stop"]).run().expect_code(0);
    engine.sbx(&["daemon", "start"]).env(WITHOUT, "Gate").run().expect_code(0);
    let seen = (0..10).any(|round| {
        start(&engine, By::Restart, round);
        eventually(Duration::from_secs(1), || witness.saw().into_iter().all(|count| count > 0).then_some(())).is_some()
    });
    assert!(seen, "a process that is let go too early is not seen");
}

#[test]
fn nothing_leaves_before_the_policy_rootful_4() {
    nothing_leaves(Kind::Rootful4, 200);
}

#[test]
fn nothing_leaves_before_the_policy_rootless_5() {
    nothing_leaves(Kind::Rootless5, 50);
}
