//! Runs the table on one engine of each kind.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::attempt::{Attempt, DIRECT, INNER, TUNNEL};
use crate::attempts;
use crate::capture::Capture;
use crate::engine::{Engine, Kind};
use crate::inside::Insides;
use crate::world::{FOREIGN, FOREIGN_6, World};

/// A refusal that takes longer is a denial of service.
const QUICK: f64 = 2.0;

/// The sandboxes: the one that tries to get out, one it may talk to, one it may not.
pub const CONFIGURATION: &str = "\
quotas: { perOwner: 6, total: 6 }
networks: { backend: {}, elsewhere: {} }
defaults: { image: host }
sandboxes:
  inner:
    networks: [backend]
    egress:
      allow:
        - { host: open.example.org, ports: [80, 443, 9999] }
        - { host: open.example.org, ports: [5353], protocol: udp }
        - { host: api.example.org, methods: [GET], paths: ['/v1/**'] }
        - { host: '*.wild.example.org', upgrade: true }
        - { host: loopback.example.org }
        - { host: private.example.org }
        - { host: metadata.example.org }
        - { host: alias.example.org }
        - { host: headers.example.org, headers: { x-team: acme } }
        - { host: expired.example.org, expires: 2020-01-01 }
      deny:
        - { host: denied.wild.example.org }
  direct:
    egress:
      mode: direct
      allow:
        - { host: open.example.org, ports: [80, 443, 9999], protocol: tcp }
        - { host: open.example.org, ports: [5353], protocol: udp }
        - { host: private.example.org, ports: [80], protocol: tcp }
  tunnel:
    egress:
      transport: socket
      allow:
        - { host: open.example.org, ports: [80, 443] }
        - { host: private.example.org }
  peer: { networks: [backend], command: [python3, -m, http.server, '7000', --directory, /usr/share/doc] }
  neighbour: { networks: [elsewhere], command: [python3, -m, http.server, '7000', --directory, /usr/share/doc] }
";

/// Everything that is wrong with how `attempts` went on `engine`, a line each.
fn failures(engine: &Engine, attempts: &[&Attempt]) -> Vec<String> {
    let world = World::start(engine);
    let trust = engine.write("world.pem", &world.authority);
    engine.configure(CONFIGURATION);
    engine.sbx(&["apply", "--auto-approve"]).env("SSL_CERT_FILE", &trust).run().expect_code(0);
    let capture = Capture::start(engine);
    let mut inside = Insides::of(engine);
    let mut failures = Vec::new();
    for (number, attempt) in attempts.iter().enumerate() {
        let name = attempt.name;
        let (attack, control) = (format!("attack-{number}-x"), format!("control-{number}-x"));
        let inside = inside.at(attempt.sandbox);
        let told = inside.try_out(name, attempt.attack, &attack);
        let mut fail = |what: String| failures.push(format!("{name}: {what}"));
        if told.said == "through" {
            fail("the attack got through".to_owned());
        }
        let arrived = world.arrivals.with(&attack);
        if !arrived.is_empty() {
            fail(format!("the attack arrived: {arrived:?}"));
        }
        if told.seconds > QUICK {
            fail(format!("refused after {:.1} s: {}", told.seconds, told.said));
        }
        let told = inside.try_out(name, attempt.control, &control);
        if told.said != "through" {
            fail(format!("the control failed: {}", told.said));
        }
        if attempt.arrives && world.arrivals.with(&control).is_empty() {
            fail("the control did not arrive".to_owned());
        }
    }
    let left = capture.count(is_foreign);
    if left != 0 {
        failures.push(format!("{left} packets for addresses that nobody allowed were on the wire"));
    }
    if capture.count(|address| address == IpAddr::V4(crate::world::SERVER)) == 0 {
        failures.push("the capture saw nothing of what was allowed: it sees nothing at all".to_owned());
    }
    failures.extend(unasked(&world));
    failures.extend(unaudited(engine, attempts));
    failures
}

/// Whether no rule leads to an address, and no packet for it is to be seen.
pub fn is_foreign(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[..3] == FOREIGN.octets()[..3] || address.is_link_local(),
        IpAddr::V6(address) => address.segments()[..2] == FOREIGN_6.segments()[..2],
    }
}

/// Names the world's name server was asked for although no rule names them.
fn unasked(world: &World) -> Vec<String> {
    let mut names = world.arrivals.with("dns ");
    names.retain(|arrival| arrival.ends_with(".example.net") || arrival.contains("attack"));
    names.into_iter().map(|name| format!("asked upstream although not listed: {name}")).collect()
}

/// Attempts whose refusal the audit log does not have. Refusals are counted by host and port, as attempts share them.
fn unaudited(engine: &Engine, attempts: &[&Attempt]) -> Vec<String> {
    let mut wrong = Vec::new();
    for sandbox in [INNER, DIRECT, TUNNEL] {
        let log = engine.sbx(&["egress", "log", sandbox, "--denied", "--json"]).ok();
        let mut denied: BTreeMap<String, usize> = BTreeMap::new();
        for line in log.lines() {
            let record: serde_json::Value = serde_json::from_str(line).expect("a record is JSON");
            *denied.entry(record["host"].to_string()).or_default() += 1;
        }
        let expected = attempts.iter().filter(|attempt| attempt.audited && attempt.sandbox == sandbox).count();
        let found: usize = denied.values().sum();
        if found < expected {
            wrong.push(format!("{expected} refusals are expected of {sandbox}, {found} are recorded: {denied:?}"));
        }
    }
    wrong
}

fn check(kind: Kind) {
    let engine = Engine::start(kind);
    let failures = failures(&engine, &attempts::all().collect::<Vec<_>>());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn nothing_gets_out_rootful_4() {
    check(Kind::Rootful4);
}

#[test]
fn nothing_gets_out_rootless_4() {
    check(Kind::Rootless4);
}

#[test]
fn nothing_gets_out_rootful_5() {
    check(Kind::Rootful5);
}

#[test]
fn nothing_gets_out_rootless_5() {
    check(Kind::Rootless5);
}
