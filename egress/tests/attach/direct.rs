//! A sandbox on the engine's network: what was opened to it is reached, as long as it is open.

use crate::network::{Network, kinds};
use crate::sandbox::eventually;

#[test]
fn what_is_opened_is_reached_and_nothing_else() {
    for kind in kinds() {
        let network = Network::make(kind);
        let sandbox = &network.sandbox;
        assert_eq!(sandbox.tool(&["tcp", "10.89.7.1:7777"]), "echo", "{kind:?}: without rules everything is reached");
        let mut daemon = sandbox.direct();
        assert!(daemon.line.starts_with("attached Engine dns=2"), "{kind:?}: {}", daemon.line);
        for address in ["10.89.7.1:7777", "10.89.7.3:7777", "[fd07::1]:7777", "192.0.2.1:443"] {
            assert!(sandbox.tool(&["tcp", address]).starts_with("refused"), "{kind:?} {address}");
        }
        assert_eq!(sandbox.tool(&["tcp", "192.0.2.53:53"]), "dns for 192.0.2.53:53", "{kind:?}");

        assert_eq!(daemon.ask("10.89.7.3 tcp 7777 600"), "done", "{kind:?}");
        assert_eq!(sandbox.tool(&["tcp", "10.89.7.3:7777"]), "echo", "{kind:?}");
        for words in
            [["tcp", "10.89.7.3:7778"], ["tcp", "10.89.7.1:7777"], ["udp", "10.89.7.3:7777"], ["ping", "10.89.7.3"]]
        {
            let heard = sandbox.tool(&words);
            assert!(heard.starts_with("refused"), "{kind:?} {words:?}: {heard}");
        }
        assert_eq!(daemon.ask("10.89.7.3 udp 7777 600"), "done", "{kind:?}");
        assert_eq!(sandbox.tool(&["udp", "10.89.7.3:7777"]), "echo ask from 10.89.7.3:7777", "{kind:?}");
        assert_eq!(daemon.ask("fd07::1 600"), "done", "{kind:?}");
        assert_eq!(sandbox.tool(&["tcp", "[fd07::1]:7777"]), "echo", "{kind:?}");

        // Another daemon: what is open stays open.
        drop(daemon);
        assert_eq!(sandbox.tool(&["tcp", "10.89.7.3:7777"]), "echo", "{kind:?}");
        let _daemon = sandbox.direct();
        assert_eq!(sandbox.tool(&["tcp", "10.89.7.3:7777"]), "echo", "{kind:?}");
    }
}

#[test]
fn a_flow_ends_with_its_entry_and_lives_on_with_another() {
    for kind in kinds() {
        let network = Network::make(kind);
        let sandbox = &network.sandbox;
        let mut daemon = sandbox.direct();
        // The second begins the time of the first anew, to the longer one.
        assert_eq!(daemon.ask("10.89.7.3 tcp 7778 1"), "done", "{kind:?}");
        assert_eq!(daemon.ask("10.89.7.3 tcp 7778 600"), "done", "{kind:?}");
        assert_eq!(daemon.ask("10.89.7.1 tcp 7778 2"), "done", "{kind:?}");
        let mut stays = sandbox.stay(&["talk", "10.89.7.3:7778"]);
        let mut ends = sandbox.stay(&["talk", "10.89.7.1:7778"]);
        ends.say("a");
        assert_eq!(ends.line(), "heard a", "{kind:?}");
        eventually("the entry's end", || !sandbox.run(&["nft", "list", "ruleset"]).contains("10.89.7.1 . tcp"));
        ends.say("b");
        assert!(ends.line().starts_with("lost "), "{kind:?}");
        stays.say("c");
        assert_eq!(stays.line(), "heard c", "{kind:?}");
    }
}

#[test]
fn a_flow_that_began_before_the_rules_ends_with_them() {
    for kind in kinds() {
        let network = Network::make(kind);
        let mut talk = network.sandbox.stay(&["talk", "10.89.7.1:7778"]);
        talk.say("a");
        assert_eq!(talk.line(), "heard a", "{kind:?}");
        let _daemon = network.sandbox.direct();
        talk.say("b");
        assert!(talk.line().starts_with("lost "), "{kind:?}");
    }
}

#[test]
fn the_child_ends_with_the_sandbox() {
    for kind in kinds() {
        let mut network = Network::make(kind);
        let mut daemon = network.sandbox.direct();
        assert_eq!(daemon.ask("10.89.7.3 tcp 7777 600"), "done", "{kind:?}");
        network.sandbox.end();
        let mut said = String::new();
        eventually("its end", || {
            said = daemon.ask("10.89.7.3 tcp 7777 600");
            said.starts_with("failed ")
        });
        assert!(said.contains("the helper"), "{kind:?}: {said}");
    }
}
