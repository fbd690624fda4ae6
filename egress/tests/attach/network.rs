//! An internal network: peers are reached, the bridge and the rest of it are not.

use std::process::Command;

use crate::sandbox::{Kind, Options, Sandbox, Staying, eventually, is_root};

/// A sandbox and its network; beyond it one namespace plays the bridge (`.1`) and two peers (`.4`, and `.3`,
/// from which it answers).
pub struct Network {
    pub sandbox: Sandbox,
    pub beyond: Sandbox,
    _echo: Staying,
}

impl Network {
    pub fn make(kind: Kind) -> Self {
        let (sandbox, beyond) = (Sandbox::start(kind), Sandbox::start(Kind::Host));
        let (here, there) = (sandbox.target.pid().to_string(), beyond.target.pid().to_string());
        let link = ["link", "add", "eth0", "netns", &here, "type", "veth", "peer", "name", "eth0", "netns", &there];
        assert!(Command::new("ip").args(link).status().unwrap().success());
        // From the host: `ip` inside a user namespace may not.
        for (pid, addresses) in [
            (&here, &["10.89.7.2/24", "fd07::2/64"][..]),
            (&there, &["10.89.7.3/24", "10.89.7.1/24", "10.89.7.4/24", "fd07::3/64", "fd07::1/64"]),
        ] {
            let ip = |words: &[&str]| {
                let mut command = Command::new("nsenter");
                command.args(["--target", pid, "--net", "--", "ip"]).args(words);
                assert!(command.status().unwrap().success(), "{words:?}");
            };
            for address in addresses {
                let more: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
                ip(&[&["address", "add", address, "dev", "eth0"], more].concat());
            }
            ip(&["link", "set", "lo", "up"]);
            ip(&["link", "set", "eth0", "up"]);
        }
        let mut echo = beyond.stay(&["echo", "7777"]);
        assert_eq!(echo.line(), "listens");
        Self { sandbox, beyond, _echo: echo }
    }
}

pub fn kinds() -> Vec<Kind> {
    // Others cannot put one end of a device into a namespace and the other into another.
    if is_root() { vec![Kind::Host, Kind::Private, Kind::KeepId] } else { Vec::new() }
}

const PEER: Options<'static> =
    Options { udp: "443", peers: "10.89.7.3,fd07::3", gate: false, started_later: 0, without: "-" };

#[test]
fn peers_are_reached_and_nothing_else_of_the_network() {
    for kind in kinds() {
        let network = Network::make(kind);
        let sandbox = &network.sandbox;
        for address in ["10.89.7.1:7777", "10.89.7.3:7777", "[fd07::1]:7777", "[fd07::3]:7777"] {
            assert_eq!(sandbox.tool(&["tcp", address]), "echo", "{kind:?}: without rules everything is reached");
        }
        let daemon = sandbox.daemon(&PEER);
        assert!(daemon.line.starts_with("attached"), "{kind:?}: {}", daemon.line);
        for address in ["10.89.7.3:7777", "[fd07::3]:7777"] {
            assert_eq!(sandbox.tool(&["tcp", address]), "echo", "{kind:?} {address}");
        }
        assert_eq!(sandbox.tool(&["udp", "10.89.7.3:7777"]), "echo ask from 10.89.7.3:7777", "{kind:?}");
        let before = sandbox.sent("eth0");
        for address in ["10.89.7.1:7777", "10.89.7.4:7777", "[fd07::1]:7777"] {
            assert_eq!(sandbox.tool(&["tcp", address]), format!("tcp for {address}"), "{kind:?}: to us");
            assert_eq!(sandbox.tool(&["udp", address]), "refused PermissionDenied", "{kind:?} {address}");
        }
        for address in ["10.89.7.1", "10.89.7.3", "10.89.7.255", "fd07::1", "fd07::3"] {
            let heard = sandbox.tool(&["ping", address]);
            assert!(heard.starts_with("refused "), "{kind:?} {address}: {heard}");
        }
        assert_eq!(sandbox.sent("eth0"), before, "{kind:?}: packets left");
    }
}

#[test]
fn peers_come_and_go_while_it_runs() {
    for kind in kinds() {
        let network = Network::make(kind);
        let sandbox = &network.sandbox;
        let mut daemon = sandbox.daemon(&PEER);
        let mut talk = sandbox.stay(&["talk", "10.89.7.3:7778"]);
        talk.say("a");
        assert_eq!(talk.line(), "heard a", "{kind:?}");
        assert_eq!(daemon.ask("peers 10.89.7.4"), "done", "{kind:?}");
        assert_eq!(sandbox.tool(&["tcp", "10.89.7.4:7777"]), "echo", "{kind:?}");
        assert_eq!(sandbox.tool(&["tcp", "10.89.7.3:7777"]), "tcp for 10.89.7.3:7777", "{kind:?}");
        // A connection to one that is gone ends with it.
        talk.say("b");
        assert!(talk.line().starts_with("lost "), "{kind:?}");
        assert_eq!(daemon.ask("peers -"), "done", "{kind:?}");
        assert_eq!(sandbox.tool(&["tcp", "10.89.7.4:7777"]), "tcp for 10.89.7.4:7777", "{kind:?}");
    }
}

/// The kernel lists it nowhere that one would look for addresses.
#[test]
fn whoever_routes_for_a_network_answers_at_its_first_address_too() {
    if !is_root() {
        return;
    }
    let Network { sandbox, beyond, _echo } = Network::make(Kind::Host);
    beyond.run(&["sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"]);
    eventually("an answer", || sandbox.tool(&["udp", "[fd07::]:7777"]).starts_with("echo ask from [fd07::"));
    let own = beyond.tool(&["own"]);
    for address in ["fd07::1/128", "fd07::/128", "10.89.7.1/32", "127.0.0.0/8"] {
        assert!(own.lines().any(|network| network == address), "{address}: {own}");
    }
}

#[test]
fn a_connection_that_began_before_the_rules_ends_with_them() {
    for kind in kinds() {
        let network = Network::make(kind);
        let mut talk = network.sandbox.stay(&["talk", "10.89.7.1:7778"]);
        talk.say("a");
        assert_eq!(talk.line(), "heard a", "{kind:?}");
        let _daemon = network.sandbox.daemon(&PEER);
        talk.say("b");
        assert!(talk.line().starts_with("lost "), "{kind:?}");
    }
}

#[test]
fn only_peers_come_in_and_none_of_them_uses_our_policy() {
    for kind in kinds() {
        let network = Network::make(kind);
        let (sandbox, beyond) = (&network.sandbox, &network.beyond);
        let _daemon = sandbox.daemon(&PEER);
        let mut echo = sandbox.stay(&["echo", "8888"]);
        assert_eq!(echo.line(), "listens");
        let from = |source, address| beyond.tool(&["udp-from", source, address]);
        assert_eq!(from("10.89.7.3", "10.89.7.2:8888"), "echo ask from 10.89.7.2:8888", "{kind:?}");
        for (source, address) in [
            ("10.89.7.1", "10.89.7.2:8888"),
            ("10.89.7.4", "10.89.7.2:8888"),
            // The relay is for what is sent inside.
            ("10.89.7.3", "10.89.7.2:443"),
            ("10.89.7.3", "10.89.7.2:64053"),
        ] {
            let heard = from(source, address);
            assert!(!heard.contains("ask") && !heard.contains(" for "), "{kind:?} {source} {address}: {heard}");
        }
        beyond.run(&["ip", "route", "add", "198.18.0.0/15", "via", "10.89.7.2"]);
        let heard = from("10.89.7.3", "198.18.1.7:443");
        assert!(!heard.contains(" for "), "{kind:?}: {heard}");
        assert!(sandbox.tool(&["udp", "198.18.1.7:443"]).starts_with("udp for 198.18.1.7"), "{kind:?}");
        for port in ["64080", "64053"] {
            let heard = beyond.tool(&["tcp", &format!("10.89.7.2:{port}")]);
            assert!(!heard.contains(" for "), "{kind:?} {port}: {heard}");
        }
    }
}

/// What a sandbox on a network declares, and what others find there.
#[test]
fn peers_come_in_at_declared_ports_only() {
    for kind in kinds() {
        let network = Network::make(kind);
        let (sandbox, beyond) = (&network.sandbox, &network.beyond);
        let narrow = Options { peers: "10.89.7.3,fd07::3/tcp:8888/udp:9000", ..PEER };
        let mut daemon = sandbox.daemon(&narrow);
        assert!(daemon.line.starts_with("attached"), "{kind:?}: {}", daemon.line);
        // 8888 takes connections and datagrams, 8889 connections; 9000 both.
        let mut listening = ["8888", "9000"].map(|port| sandbox.stay(&["echo", port]));
        for echo in &mut listening {
            assert_eq!(echo.line(), "listens");
        }
        for (peer, here) in [("10.89.7.3", "10.89.7.2"), ("fd07::3", "[fd07::2]")] {
            let tcp = |port: &str| beyond.tool(&["tcp-from", peer, &format!("{here}:{port}")]);
            let udp = |port: &str| beyond.tool(&["udp-from", peer, &format!("{here}:{port}")]);
            assert_eq!(tcp("8888"), "echo", "{kind:?} {peer}");
            assert_eq!(udp("9000"), format!("echo ask from {here}:9000"), "{kind:?} {peer}");
            for port in ["8889", "9000", "9001"] {
                assert_eq!(tcp(port), "refused ConnectionRefused", "{kind:?} {peer} {port}");
            }
            let heard = udp("8888");
            assert!(!heard.contains("ask"), "{kind:?} {peer}: {heard}");
        }
        // The bridge and the rest of the network find nothing, not even there.
        for source in ["10.89.7.1", "10.89.7.4"] {
            let heard = beyond.tool(&["udp-from", source, "10.89.7.2:9000"]);
            assert!(!heard.contains("ask"), "{kind:?} {source}: {heard}");
        }
        // What it asks of others is answered, and what it says to itself heard.
        for address in ["10.89.7.3:7777", "[fd07::3]:7777", "127.0.0.1:8888", "10.89.7.2:9000"] {
            assert_eq!(sandbox.tool(&["tcp", address]), "echo", "{kind:?} {address}");
        }
        assert_eq!(sandbox.tool(&["udp", "10.89.7.3:7777"]), "echo ask from 10.89.7.3:7777", "{kind:?}");
        // None at all.
        assert_eq!(daemon.ask("peers 10.89.7.3,fd07::3/"), "done", "{kind:?}");
        assert_eq!(beyond.tool(&["tcp-from", "10.89.7.3", "10.89.7.2:8888"]), "refused ConnectionRefused", "{kind:?}");
        assert_eq!(sandbox.tool(&["tcp", "10.89.7.3:7777"]), "echo", "{kind:?}");
    }
}

/// A port that is not declared any more ends its connections with their next packet, whoever sends it; others go on.
#[test]
fn a_port_that_is_closed_ends_its_connections() {
    for kind in kinds() {
        let network = Network::make(kind);
        let (sandbox, beyond) = (&network.sandbox, &network.beyond);
        let both = Options { peers: "10.89.7.3,fd07::3/tcp:8888-8889/tcp:9001", ..PEER };
        let mut daemon = sandbox.daemon(&both);
        let mut listening = ["8888", "9000"].map(|port| sandbox.stay(&["echo", port]));
        for echo in &mut listening {
            assert_eq!(echo.line(), "listens");
        }
        let mut closed = [
            beyond.stay(&["talk-from", "10.89.7.3", "10.89.7.2:8889"]),
            beyond.stay(&["talk-from", "fd07::3", "[fd07::2]:8889"]),
        ];
        let mut kept = beyond.stay(&["talk-from", "10.89.7.3", "10.89.7.2:9001"]);
        let mut own = sandbox.stay(&["talk", "10.89.7.3:7778"]);
        for talk in closed.iter_mut().chain([&mut kept, &mut own]) {
            talk.say("a");
            assert_eq!(talk.line(), "heard a", "{kind:?}");
        }
        assert_eq!(daemon.ask("peers 10.89.7.3,fd07::3/tcp:9001"), "done", "{kind:?}");
        for talk in &mut closed {
            talk.say("b");
            let heard = talk.line();
            assert!(heard.starts_with("lost Connection"), "{kind:?}: {heard}");
        }
        for talk in [&mut kept, &mut own] {
            talk.say("b");
            assert_eq!(talk.line(), "heard b", "{kind:?}");
        }
        assert_eq!(beyond.tool(&["tcp-from", "10.89.7.3", "10.89.7.2:8889"]), "refused ConnectionRefused", "{kind:?}");
        assert_eq!(daemon.ask("peers 10.89.7.3,fd07::3/tcp:8888-9001"), "done", "{kind:?}");
        assert_eq!(beyond.tool(&["tcp-from", "10.89.7.3", "10.89.7.2:8888"]), "echo", "{kind:?}");
    }
}

/// Each direction is held to it by itself: what a peer says is not heard, and what is said to it does not leave.
#[test]
fn neither_side_is_heard_at_a_port_that_is_closed() {
    for kind in kinds() {
        let network = Network::make(kind);
        let (sandbox, beyond) = (&network.sandbox, &network.beyond);
        let mut daemon = sandbox.daemon(&Options { peers: "10.89.7.3,fd07::3/tcp:8888-8889", ..PEER });
        let (mut ear, mut chatter) = (sandbox.stay(&["ear", "8888"]), sandbox.stay(&["chatter", "8889"]));
        assert_eq!((ear.line(), chatter.line()), ("listens".to_owned(), "listens".to_owned()));
        let mut talk = beyond.stay(&["talk-from", "10.89.7.3", "10.89.7.2:8888"]);
        let mut hearer = beyond.stay(&["hear-from", "10.89.7.3", "10.89.7.2:8889"]);
        assert_eq!(hearer.line(), "heard hello", "{kind:?}");
        talk.say("a");
        assert_eq!(talk.line(), "lost WouldBlock", "{kind:?}: nobody answers");
        ear.say("and?");
        assert_eq!(ear.line(), "heard a", "{kind:?}");
        assert_eq!(daemon.ask("peers 10.89.7.3,fd07::3/"), "done", "{kind:?}");
        talk.say("b");
        let lost = talk.line();
        assert!(lost.starts_with("lost Connection"), "{kind:?}: {lost}");
        ear.say("and?");
        assert_eq!(ear.line(), "heard a", "{kind:?}");
        chatter.say("c");
        let said = chatter.line();
        assert!(said.contains("ConnectionReset"), "{kind:?}: {said}");
    }
}

/// Who began to speak is what tells the two directions apart: a connection of before the rules has no beginner.
#[test]
fn a_connection_from_a_peer_that_began_before_the_rules_is_not_taken_for_our_own() {
    for kind in kinds() {
        let network = Network::make(kind);
        let (sandbox, beyond) = (&network.sandbox, &network.beyond);
        let mut listening = sandbox.stay(&["chatter", "8888"]);
        assert_eq!(listening.line(), "listens");
        let mut talk = beyond.stay(&["hear-from", "10.89.7.3", "10.89.7.2:8888"]);
        assert_eq!(talk.line(), "heard hello", "{kind:?}");
        let _daemon = sandbox.daemon(&Options { peers: "10.89.7.3,fd07::3/tcp:1", ..PEER });
        listening.say("anybody there?");
        let heard = listening.line();
        assert!(heard.contains("ConnectionReset"), "{kind:?}: {heard}");
    }
}
