//! Runs the table on one engine of each kind.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;

use crate::attempt::{Attempt, DIRECT, INNER, Recorded, TUNNEL};
use crate::attempts;
use crate::capture::{Capture, Destination, TCP, UDP};
use crate::engine::{Engine, Kind};
use crate::inside::{Insides, neighbour};
use crate::wait::eventually;
use crate::world::{EVERYWHERE, FOREIGN, FOREIGN_6, PRIVATE, SERVER, SHUT, World};

/// A refusal that takes longer is a denial of service.
const QUICK: f64 = 2.0;

/// How long what an attack sent may take to arrive after it has ended.
const LATE: Duration = Duration::from_millis(500);

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
        - { host: private.example.org, ports: [5353], protocol: udp }
        - { host: metadata.example.org }
        - { host: host.example.org, ports: [7777] }
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
        - { host: host.example.org, ports: [7777], protocol: tcp }
  tunnel:
    egress:
      transport: socket
      allow:
        - { host: open.example.org, ports: [80, 443] }
        - { host: private.example.org }
  peer: { networks: [backend], command: [python3, -m, http.server, '7000', --directory, /usr/share/doc] }
  neighbour:
    networks: [elsewhere]
    command:
      - sh
      - -c
      - |
        python3 -m http.server 7000 --directory /usr/share/doc &
        exec python3 -c \"import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('', 7000))
        while True: s.sendto(*s.recvfrom(99))\"
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
    // What was under way when its attempt was over.
    if let Some(late) = eventually(LATE, || Some(world.arrivals.with("attack-")).filter(|late| !late.is_empty())) {
        failures.push(format!("attacks arrived: {late:?}"));
    }
    let neighbour = neighbour(engine).expect("it has an address");
    let left: BTreeSet<_> = capture.of(|seen| is_foreign(seen) || seen.address == neighbour).into_iter().collect();
    if !left.is_empty() {
        failures.push(format!("packets were on the wire for what nobody allowed: {left:?}"));
    }
    if capture.count(|seen| seen.address == IpAddr::V4(SERVER)) == 0 {
        failures.push("the capture saw nothing of what was allowed: it sees nothing at all".to_owned());
    }
    failures.extend(unasked(&world));
    failures.extend(unrecorded(engine, attempts, neighbour));
    failures
}

/// Whether neither a rule nor a control leads there, so that no packet for it is to be seen. Where rules lead to the
/// address and the port, and only not so, what arrives tells.
pub fn is_foreign(seen: &Destination) -> bool {
    let Destination { address, protocol, port } = *seen;
    let by_address = match address {
        IpAddr::V4(address) => {
            address.octets()[..3] == FOREIGN.octets()[..3] || address.is_link_local() || address == PRIVATE
        }
        IpAddr::V6(address) => address.segments()[..2] == FOREIGN_6.segments()[..2],
    };
    let inner = [80, 443, egress::attach::TCP_PORT];
    let by_port = port.is_some_and(|port| match protocol {
        TCP => SHUT.contains(&port) || EVERYWHERE.contains(&port) || (address.is_loopback() && inner.contains(&port)),
        UDP => port == 443 || EVERYWHERE.contains(&port),
        _ => false,
    });
    by_address || by_port
}

/// Names the world's name server was asked for although no rule names them.
fn unasked(world: &World) -> Vec<String> {
    let mut names = world.arrivals.with("dns ");
    names.retain(|arrival| arrival.ends_with(".example.net") || arrival.contains("attack"));
    names.into_iter().map(|name| format!("asked upstream although not listed: {name}")).collect()
}

/// Attempts whose refusal the audit log does not have. The same refusal is recorded once a minute, so that attempts may
/// share a record; but none has that of an attempt that it names.
fn unrecorded(engine: &Engine, attempts: &[&Attempt], neighbour: IpAddr) -> Vec<String> {
    let mut wrong = Vec::new();
    for sandbox in [INNER, DIRECT, TUNNEL] {
        let log = engine.sbx(&["egress", "log", sandbox, "--denied", "--json"]).ok();
        let records: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        for (number, attempt) in attempts.iter().enumerate().filter(|(_, attempt)| attempt.sandbox == sandbox) {
            let name = attempt.name;
            let Recorded::As { host, port, because } = attempt.recorded else { continue };
            let token = format!("attack-{number}-x");
            let host = host.replace("NEIGHBOUR", &neighbour.to_string()).replace('T', &token);
            let fits = |record: &&Value| {
                let path = record["path"].as_str().unwrap_or_default();
                record["host"] == host
                    && record["port"] == port
                    && record["because"] == because
                    && (!path.contains("attack-") || path.contains(&token))
            };
            if !records.iter().any(|record| fits(&record)) {
                let there = records.iter().filter(|record| record["host"] == host && record["port"] == port);
                let there: BTreeSet<String> = there.map(|record| record["because"].to_string()).collect();
                wrong.push(format!("{name}: no record of {host}:{port}, {because}, only {there:?}"));
            }
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
