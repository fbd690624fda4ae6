//! Runs the table on one engine of each kind.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use egress::audit::Record;
use jiff::{SignedDuration, Timestamp};

use crate::attempt::{Attempt, BESIDE, DIRECT, INNER, NEIGHBOUR, Own, Recorded, TUNNEL};
use crate::attempts;
use crate::capture::{Capture, Destination, TCP, UDP};
use crate::engine::{Engine, Kind};
use crate::inside::{Insides, address};
use crate::wait::eventually;
use crate::world::{EVERYWHERE, FOREIGN, FOREIGN_6, PRIVATE, SERVER, SHUT, World};

/// A refusal that takes longer is a denial of service.
const QUICK: f64 = 2.0;

/// How long what an attack sent may take to arrive after it has ended.
const LATE: Duration = Duration::from_millis(500);

/// How long the record of what has ended may take to be written.
const WRITTEN: Duration = Duration::from_secs(10);

/// How often the same refusal is recorded, of those that cost whoever is refused nothing.
const RECORDED_AGAIN: SignedDuration = SignedDuration::from_mins(1);

/// The sandboxes: those that try to get out, one that the first of them may talk to, and two that nobody may.
const CONFIGURATION: &str = "\
quotas: { perOwner: 7, total: 7 }
networks: { backend: {}, elsewhere: {} }
defaults: { image: host }
sandboxes:
  inner:
    networks: [backend]
    mounts: [{ source: ./shared, target: /srv/shared, mode: rw }]
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
  peer:
    networks: [{ name: backend, ports: [7000] }]
    command:
      - sh
      - -c
      - |
        python3 -m http.server 7000 --directory /usr/share/doc &
        python3 -m http.server 7001 --directory /usr/share/doc &
        exec python3 -c \"import socket; s = socket.socket(type=socket.SOCK_DGRAM); s.bind(('', 7000))
        while True: s.sendto(*s.recvfrom(99))\"
  beside:
    egress: { mode: open }
    command: [python3, -m, http.server, '7000', --directory, /usr/share/doc]
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

/// Writes [`CONFIGURATION`] and what follows, and what lies where it is shared.
pub fn configure(engine: &Engine, more: &str) {
    engine.write("shared/file", "text");
    engine.as_root("mknod").args(["-m", "666", "shared/zero", "c", "1", "5"]).ok();
    engine.configure(&format!("{CONFIGURATION}{more}"));
}

/// Everything that is wrong with how `attempts` went on `engine`, a line each.
fn failures(engine: &Engine, attempts: &[&Attempt]) -> Vec<String> {
    let world = World::start(engine);
    let trust = engine.write("world.pem", &world.authority);
    configure(engine, "");
    engine.sbx(&["apply", "--auto-approve"]).env("SSL_CERT_FILE", &trust).run().expect_code(0);
    let capture = Capture::start(engine);
    let mut inside = Insides::of(engine);
    let mut failures = Vec::new();
    let mut made = Vec::new();
    for (number, attempt) in attempts.iter().enumerate() {
        let name = attempt.name;
        let (attack, control) = (attack(number), control(number));
        let inside = inside.at(attempt.sandbox);
        let (told, attacked) = timed(|| inside.try_out(name, attempt.attack, &attack));
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
        let (told, controlled) = timed(|| inside.try_out(name, attempt.control, &control));
        made.push(Made { attacked, controlled });
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
    let [neighbour, beside] = [NEIGHBOUR, BESIDE].map(|it| address(engine, it).expect("it has an address"));
    let is_forbidden = |seen: &Destination| is_foreign(seen) || [neighbour, beside].contains(&seen.address);
    let left: BTreeSet<_> = capture.of(is_forbidden).into_iter().collect();
    if !left.is_empty() {
        failures.push(format!("packets were on the wire for what nobody allowed: {left:?}"));
    }
    if capture.count(|seen| seen.address == IpAddr::V4(SERVER)) == 0 {
        failures.push("the capture saw nothing of what was allowed: it sees nothing at all".to_owned());
    }
    failures.extend(unasked(&world));
    // Flows of datagrams would rest for a minute before they are recorded.
    drop(inside);
    engine.sbx(&["stop", INNER]).run().expect_code(0);
    let missing = || unrecorded(engine, attempts, &made, neighbour);
    if eventually(WRITTEN, || missing().is_empty().then_some(())).is_none() {
        failures.extend(missing());
    }
    failures
}

/// When an attempt was made. One follows the other, so that nothing of another one was decided in this time.
struct Made {
    attacked: RangeInclusive<Timestamp>,
    controlled: RangeInclusive<Timestamp>,
}

/// What `work` gives, and when it was done.
fn timed<T>(work: impl FnOnce() -> T) -> (T, RangeInclusive<Timestamp>) {
    let begun = Timestamp::now();
    let done = work();
    (done, begun..=Timestamp::now())
}

/// The token of an attack.
fn attack(number: usize) -> String {
    format!("attack-{number}-x")
}

/// The token of a control.
fn control(number: usize) -> String {
    format!("control-{number}-x")
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

/// Attempts whose refusal the audit log does not have, and controls that it does not have: each has a record of its own,
/// decided while it was made.
fn unrecorded(engine: &Engine, attempts: &[&Attempt], made: &[Made], neighbour: IpAddr) -> Vec<String> {
    let mut wrong = Vec::new();
    for sandbox in [INNER, DIRECT, TUNNEL] {
        let log = engine.sbx(&["egress", "log", sandbox, "--json"]).ok();
        let records: Vec<Record> = log.lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
        wrong.extend(
            records.iter().filter(|record| record.generation == 0).map(|record| format!("{record:?}: by no policy")),
        );
        for (number, (attempt, made)) in attempts.iter().zip(made).enumerate() {
            if attempt.sandbox == sandbox {
                wrong.extend(unrecorded_attack(attempt, &records, &made.attacked, &attack(number), neighbour));
                wrong.extend(unrecorded_control(attempt, &records, &made.controlled, &control(number)));
            }
        }
    }
    wrong
}

fn unrecorded_attack(
    attempt: &Attempt,
    records: &[Record],
    attacked: &RangeInclusive<Timestamp>,
    token: &str,
    neighbour: IpAddr,
) -> Option<String> {
    let Recorded::As { host, port, because, own } = attempt.recorded else { return None };
    let host = host.replace("NEIGHBOUR", &neighbour.to_string()).replace('T', token);
    let since = match own {
        Own::Yes => *attacked.start(),
        Own::OnceAMinute => *attacked.start() - RECORDED_AGAIN,
    };
    let about = || {
        let denied =
            records.iter().filter(|record| !record.allowed && (since..=*attacked.end()).contains(&record.time));
        denied.filter(|record| record.host == host && record.port == port)
    };
    if about().any(|record| record.because.as_deref() == Some(because) && is_of(record, token)) {
        return None;
    }
    let there: BTreeSet<_> = about().map(|record| record.because.as_deref()).collect();
    Some(format!("{}: no record of {host}:{port}, {because}, only {there:?}", attempt.name))
}

/// Peers are reached without us, and so is everything that a name means in mode `direct`, once that is open.
fn unrecorded_control(
    attempt: &Attempt,
    records: &[Record],
    controlled: &RangeInclusive<Timestamp>,
    token: &str,
) -> Option<String> {
    if !attempt.arrives || attempt.sandbox == DIRECT {
        return None;
    }
    let mut allowed = records.iter().filter(|record| record.allowed && controlled.contains(&record.time));
    let found = allowed.any(|record| attempt.control.contains(&record.host) && is_of(record, token));
    (!found).then(|| format!("{}: no record of the control", attempt.name))
}

/// Whether the path of a record, if it names what was tried, names this.
fn is_of(record: &Record, token: &str) -> bool {
    let path = record.path.as_deref().unwrap_or_default();
    !(path.contains("attack-") || path.contains("control-")) || path.contains(token)
}

/// A record that counts for several attempts is named as such, and is one that an earlier attempt has for itself.
#[test]
fn attempts_share_a_record_only_where_they_are_refused_the_same() {
    let all: Vec<_> = attempts::all().collect();
    for (index, attempt) in all.iter().enumerate() {
        let Recorded::As { host, port, because, own: Own::OnceAMinute } = attempt.recorded else { continue };
        let own = |earlier: &&Attempt| match earlier.recorded {
            Recorded::As { host, port, because, own: Own::Yes } => Some((earlier.sandbox, host, port, because)),
            _ => None,
        };
        let earlier = all.iter().take(index).filter_map(own).any(|own| own == (attempt.sandbox, host, port, because));
        assert!(earlier, "{}: nobody was refused that before", attempt.name);
    }
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
