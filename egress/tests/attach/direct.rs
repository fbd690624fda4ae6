//! A sandbox on the engine's network: what a name was resolved to is reached, as long as that is open.

use crate::network::{Network, kinds};
use crate::sandbox::{Daemon, Sandbox, eventually};

/// Names of the network's peers and of its bridge, each at one port and protocol.
const NAMES: [(&str, &str, &str, u16); 4] = [
    ("v4.test", "10.89.7.3", "tcp", 7777),
    ("datagrams.test", "10.89.7.3", "udp", 7777),
    ("v6.test", "fd07::1", "tcp", 7777),
    ("talk.test", "10.89.7.4", "tcp", 7778),
];

/// A policy that allows some of [`NAMES`], and these rules besides.
pub fn policy(names: &[&str], more: &str) -> String {
    let known = NAMES.iter().filter(|(name, ..)| names.contains(name));
    let rule = |(name, _, protocol, port): &(&str, &str, &str, u16)| {
        format!(
            r#"{{"host":"{name}","ports":[{{"first":{port},"last":{port}}}],"protocol":"{protocol}","place":{{"at":"x"}}}}"#
        )
    };
    let rules: Vec<String> = known.map(rule).chain((!more.is_empty()).then(|| more.to_owned())).collect();
    let hosts: Vec<String> = NAMES.iter().map(|(name, address, ..)| format!(r#""{name}":["{address}"]"#)).collect();
    format!(
        r#"{{"allow":[{}],"hosts":{{{},"host.test":["10.89.7.1"]}},"dialAllow":["10.89.7.3/32","10.89.7.4/32","fd07::/64"]}}"#,
        rules.join(","),
        hosts.join(",")
    )
}

pub fn all() -> String {
    let host = r#"{"host":"host.test","ports":[{"first":7777,"last":7777}],"protocol":"tcp","place":{"at":"x"}}"#;
    policy(&["v4.test", "datagrams.test", "v6.test", "talk.test"], host)
}

#[track_caller]
pub fn resolved(daemon: &mut Daemon, name: &str) {
    let said = daemon.ask(&format!("resolve {name}"));
    assert!(said.starts_with('['), "{name}: {said}");
}

#[track_caller]
pub fn refused(sandbox: &Sandbox, words: &[&str]) {
    let heard = sandbox.tool(words);
    assert!(heard.starts_with("refused"), "{words:?}: {heard}");
}

#[test]
fn what_is_opened_is_reached_and_nothing_else() {
    for kind in kinds() {
        let network = Network::make(kind);
        let sandbox = &network.sandbox;
        assert_eq!(sandbox.tool(&["tcp", "10.89.7.1:7777"]), "echo", "{kind:?}: without rules everything is reached");
        let mut daemon = sandbox.direct(&all());
        assert!(daemon.line.starts_with("attached Engine dns=2"), "{kind:?}: {}", daemon.line);
        for address in ["10.89.7.1:7777", "10.89.7.3:7777", "[fd07::1]:7777", "192.0.2.1:443"] {
            refused(sandbox, &["tcp", address]);
        }
        // Questions come to us, whoever is asked, and whatever routes there are.
        for resolver in ["10.89.7.1:53", "198.18.0.1:53", "[fd00:5b78::1]:53", "[fd07::1]:53"] {
            assert!(sandbox.tool(&["tcp", resolver]).starts_with("dns for "), "{kind:?} {resolver}");
        }

        resolved(&mut daemon, "v4.test");
        assert_eq!(sandbox.tool(&["tcp", "10.89.7.3:7777"]), "echo", "{kind:?}");
        for words in
            [["tcp", "10.89.7.3:7778"], ["tcp", "10.89.7.1:7777"], ["udp", "10.89.7.3:7777"], ["ping", "10.89.7.3"]]
        {
            refused(sandbox, &words);
        }
        resolved(&mut daemon, "datagrams.test");
        assert_eq!(sandbox.tool(&["udp", "10.89.7.3:7777"]), "echo ask from 10.89.7.3:7777", "{kind:?}");
        refused(sandbox, &["udp", "10.89.7.4:7777"]);
        resolved(&mut daemon, "v6.test");
        assert_eq!(sandbox.tool(&["tcp", "[fd07::1]:7777"]), "echo", "{kind:?}");
        for address in ["[fd07::3]:7777", "[fd07::1]:7778", "10.89.7.1:7777"] {
            refused(sandbox, &["tcp", address]);
        }
        // A name that is allowed means an address that is not to be dialled.
        let said = daemon.ask("resolve host.test");
        assert!(said.contains("Refused"), "{kind:?}: {said}");
        refused(sandbox, &["tcp", "10.89.7.1:7777"]);
        assert!(daemon.ask("resolve other.test").starts_with("failed"), "{kind:?}");
    }
}

#[test]
fn networks_of_rules_are_open_without_a_name() {
    for kind in kinds() {
        let network = Network::make(kind);
        let rule =
            r#"{"host":"10.89.7.0/30","ports":[{"first":7777,"last":7777}],"protocol":"tcp","place":{"at":"x"}}"#;
        let _daemon = network.sandbox.direct(&policy(&[], rule));
        assert_eq!(network.sandbox.tool(&["tcp", "10.89.7.3:7777"]), "echo", "{kind:?}");
        refused(&network.sandbox, &["tcp", "10.89.7.4:7777"]);
        refused(&network.sandbox, &["tcp", "10.89.7.3:7778"]);
    }
}

#[test]
fn what_is_open_outlives_a_daemon_and_is_judged_by_the_next_one() {
    for kind in kinds() {
        let network = Network::make(kind);
        let sandbox = &network.sandbox;
        let mut daemon = sandbox.direct(&all());
        for name in ["v4.test", "talk.test"] {
            resolved(&mut daemon, name);
        }
        let mut talk = sandbox.stay(&["talk", "10.89.7.4:7778"]);
        talk.say("a");
        assert_eq!(talk.line(), "heard a", "{kind:?}");
        drop(daemon);
        assert_eq!(sandbox.tool(&["tcp", "10.89.7.3:7777"]), "echo", "{kind:?}: last good is kept");
        refused(sandbox, &["tcp", "10.89.7.4:7777"]);
        refused(sandbox, &["tcp", "198.18.0.1:53"]);

        let daemon = sandbox.direct(&all());
        assert!(daemon.line.ends_with("open=2"), "{kind:?}: {}", daemon.line);
        talk.say("b");
        assert_eq!(talk.line(), "heard b", "{kind:?}: a flow lives on");
        drop(daemon);
        // The policy has changed meanwhile.
        let daemon = sandbox.direct(&policy(&["talk.test"], ""));
        assert!(daemon.line.ends_with("open=1"), "{kind:?}: {}", daemon.line);
        refused(sandbox, &["tcp", "10.89.7.3:7777"]);
        talk.say("c");
        assert_eq!(talk.line(), "heard c", "{kind:?}");
    }
}

/// Nobody would close what a change of the policy takes away.
#[test]
fn where_it_cannot_be_served_nothing_stays_open() {
    for kind in kinds() {
        let network = Network::make(kind);
        let sandbox = &network.sandbox;
        let mut daemon = sandbox.direct(&all());
        resolved(&mut daemon, "v4.test");
        drop(daemon);
        assert_eq!(sandbox.tool(&["tcp", "10.89.7.3:7777"]), "echo", "{kind:?}: last good is kept");
        let mut squatter = sandbox.stay(&["hold", "udp", "127.0.0.1:64053"]);
        assert_eq!(squatter.line(), "held");
        let daemon = sandbox.direct(&all());
        assert!(daemon.line.starts_with("failed"), "{kind:?}: {}", daemon.line);
        refused(sandbox, &["tcp", "10.89.7.3:7777"]);
    }
}

#[test]
fn a_change_cuts_the_flows_it_revokes_and_no_others() {
    for kind in kinds() {
        let network = Network::make(kind);
        let sandbox = &network.sandbox;
        let mut daemon = sandbox.direct(&all());
        for name in ["v4.test", "talk.test"] {
            resolved(&mut daemon, name);
        }
        let mut talk = sandbox.stay(&["talk", "10.89.7.4:7778"]);
        talk.say("a");
        assert_eq!(talk.line(), "heard a", "{kind:?}");
        assert_eq!(daemon.ask(&format!("policy {}", policy(&["talk.test"], ""))), "done", "{kind:?}");
        refused(sandbox, &["tcp", "10.89.7.3:7777"]);
        talk.say("b");
        assert_eq!(talk.line(), "heard b", "{kind:?}");
        assert_eq!(daemon.ask(&format!("policy {}", policy(&["v4.test"], ""))), "done", "{kind:?}");
        talk.say("c");
        assert!(talk.line().starts_with("lost "), "{kind:?}");
        assert_eq!(daemon.ask("open"), "0", "{kind:?}");
    }
}

#[test]
fn a_flow_ends_with_its_entry() {
    for kind in kinds() {
        let network = Network::make(kind);
        let sandbox = &network.sandbox;
        let mut daemon = sandbox.direct(&all());
        resolved(&mut daemon, "talk.test");
        let mut talk = sandbox.stay(&["talk", "10.89.7.4:7778"]);
        talk.say("a");
        assert_eq!(talk.line(), "heard a", "{kind:?}");
        let rules = sandbox.run(&["nft", "list", "ruleset"]);
        let set = rules.split("set ").find(|text| text.contains("10.89.7.4 timeout")).unwrap_or_default();
        assert!(set.contains("comment \"talk.test\"") && set.contains("expires"), "{kind:?}: {rules}");
        // As the kernel does when its time is up.
        let name = set.split_whitespace().next().unwrap_or_default();
        sandbox.run(&["nft", "delete", "element", "inet", "sbx", name, "{ 10.89.7.4 }"]);
        talk.say("b");
        assert!(talk.line().starts_with("lost "), "{kind:?}");
    }
}

#[test]
fn a_flow_that_began_before_the_rules_ends_with_them() {
    for kind in kinds() {
        let network = Network::make(kind);
        let mut talk = network.sandbox.stay(&["talk", "10.89.7.1:7778"]);
        talk.say("a");
        assert_eq!(talk.line(), "heard a", "{kind:?}");
        let _daemon = network.sandbox.direct(&all());
        talk.say("b");
        assert!(talk.line().starts_with("lost "), "{kind:?}");
    }
}

#[test]
fn nobody_comes_in_not_even_from_what_is_open() {
    for kind in kinds() {
        let network = Network::make(kind);
        let (sandbox, beyond) = (&network.sandbox, &network.beyond);
        let mut echo = sandbox.stay(&["echo", "8888"]);
        assert_eq!(echo.line(), "listens");
        let from = |source| beyond.tool(&["udp-from", source, "10.89.7.2:8888"]);
        assert!(from("10.89.7.3").contains("ask"), "{kind:?}: without rules everybody comes in");
        let mut daemon = sandbox.direct(&all());
        resolved(&mut daemon, "datagrams.test");
        for source in ["10.89.7.3", "10.89.7.1"] {
            let heard = from(source);
            assert!(!heard.contains("ask"), "{kind:?} {source}: {heard}");
        }
    }
}

#[test]
fn the_child_ends_with_the_sandbox() {
    for kind in kinds() {
        let mut network = Network::make(kind);
        let mut daemon = network.sandbox.direct(&all());
        resolved(&mut daemon, "v4.test");
        network.sandbox.end();
        let mut said = String::new();
        eventually("its end", || {
            said = daemon.ask(&format!("policy {}", all()));
            said.starts_with("failed ")
        });
        assert!(said.contains("the helper"), "{kind:?}: {said}");
    }
}

/// Peers are held to what is declared before rules that name their addresses are asked: both ways.
#[test]
fn peers_come_in_at_declared_ports_only() {
    for kind in kinds() {
        let network = Network::make(kind);
        let (sandbox, beyond) = (&network.sandbox, &network.beyond);
        // All of its network is open to it, at a port that peers can have, too.
        let rule =
            r#"{"host":"10.89.7.0/24","ports":[{"first":1024,"last":65535}],"protocol":"tcp","place":{"at":"x"}}"#;
        let with = |tcp: &str| {
            let inbound = format!(r#""inbound":{{"net":{{"tcp":[{tcp}],"udp":[{{"first":9000,"last":9000}}]}}}}"#);
            policy(&[], rule).replacen('{', &format!("{{{inbound},"), 1)
        };
        let one = r#"{"first":8888,"last":8888}"#;
        let mut daemon = sandbox.direct(&with(&format!(r#"{one},{{"first":9001,"last":9001}}"#)));
        assert!(daemon.line.starts_with("attached"), "{kind:?}: {}", daemon.line);
        let mut listening = ["8888", "9000"].map(|port| sandbox.stay(&["echo", port]));
        for echo in &mut listening {
            assert_eq!(echo.line(), "listens");
        }
        let heard = beyond.tool(&["udp-from", "10.89.7.3", "10.89.7.2:9000"]);
        assert!(!heard.contains("ask"), "{kind:?}: it is no peer yet: {heard}");
        assert_eq!(daemon.ask("peers 10.89.7.3,fd07::3"), "done", "{kind:?}");
        let mut talk = beyond.stay(&["talk-from", "10.89.7.3", "10.89.7.2:9001"]);
        talk.say("a");
        assert_eq!(talk.line(), "heard a", "{kind:?}");
        for (peer, here) in [("10.89.7.3", "10.89.7.2"), ("fd07::3", "[fd07::2]")] {
            assert_eq!(beyond.tool(&["tcp-from", peer, &format!("{here}:8888")]), "echo", "{kind:?} {peer}");
            let heard = beyond.tool(&["udp-from", peer, &format!("{here}:9000")]);
            assert_eq!(heard, format!("echo ask from {here}:9000"), "{kind:?}");
            let heard = beyond.tool(&["tcp-from", peer, &format!("{here}:8889")]);
            assert_eq!(heard, "refused ConnectionRefused", "{kind:?} {peer}");
            let heard = beyond.tool(&["udp-from", peer, &format!("{here}:8888")]);
            assert!(!heard.contains("ask"), "{kind:?} {peer}: {heard}");
        }
        assert_eq!(sandbox.tool(&["tcp", "10.89.7.3:7777"]), "echo", "{kind:?}");
        assert_eq!(sandbox.tool(&["tcp", "[fd07::3]:7777"]), "echo", "{kind:?}: a peer, whatever rules say");
        assert_eq!(daemon.ask(&format!("policy {}", with(one))), "done", "{kind:?}");
        talk.say("b");
        assert!(talk.line().starts_with("lost Connection"), "{kind:?}");
    }
}
