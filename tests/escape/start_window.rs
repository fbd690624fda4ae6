//! The moment between the start of a sandbox and its policy: its process sends first thing, whoever starts it.

use std::net::IpAddr;
use std::time::Duration;

use egress::defence::WITHOUT;

use crate::capture::Capture;
use crate::engine::{Engine, Kind};
use crate::soak;
use crate::wait::{eventually, wait_for};
use crate::world::World;

/// Started at once.
const SANDBOXES: usize = 10;

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
    wait_for(&format!("all to be started ({by:?}, round {round})"), Duration::from_mins(1), || {
        (started(engine) >= before + SANDBOXES).then_some(())
    });
}

/// On a rootful engine, since there the bridge, and with it what a packet too early would reach, is where the world is.
#[test]
fn nothing_leaves_before_the_policy() {
    let engine = Engine::start(Kind::Rootful4);
    let world = World::start(&engine);
    engine.write("starts/script", SCRIPT);
    engine.configure(&configuration(0));
    engine.apply();
    let network = &engine.get("/networks/demo_backend/json")["subnets"][0]["gateway"];
    let gateway: IpAddr = network.as_str().expect("an address").parse().expect("an address");
    let capture = Capture::start(&engine);
    let sent = |capture: &Capture| capture.count(|seen| seen.address == gateway);

    let rounds = soak::times("SBX_SOAK_STARTS", 200).div_ceil(SANDBOXES);
    for round in 1..=rounds {
        let by = match round % 10 {
            1 => By::Apply,
            2 | 5 | 8 => By::Restart,
            3 | 6 | 9 => By::Start,
            _ => By::Policy,
        };
        start(&engine, by, round);
        let arrived = world.arrivals.with("started-");
        assert!(arrived.is_empty() && sent(&capture) == 0, "{by:?}, round {round}: {arrived:?}, {}", sent(&capture));
    }
    assert!(started(&engine) >= (rounds + 1) * SANDBOXES, "each of them did try to send");

    // Without the gate it is seen: what they send would arrive.
    engine.sbx(&["daemon", "stop"]).run().expect_code(0);
    engine.sbx(&["daemon", "start"]).env(WITHOUT, "Gate").run().expect_code(0);
    let seen = (0..10).any(|round| {
        start(&engine, By::Restart, round);
        eventually(Duration::from_secs(1), || (!world.arrivals.with("started-").is_empty()).then_some(())).is_some()
    });
    assert!(seen && sent(&capture) > 0, "a process that is let go too early is not seen");
}
