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
