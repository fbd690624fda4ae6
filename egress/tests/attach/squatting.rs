//! Attaching again, whoever has been there.

use crate::sandbox::{Kind, Options, Sandbox};

#[test]
fn a_second_daemon_takes_over_from_one_that_was_killed() {
    for kind in Kind::possible() {
        let sandbox = Sandbox::start(kind);
        for _ in 0..3 {
            let daemon = sandbox.daemon(&Options { udp: "443", ..Options::default() });
            assert!(daemon.line.starts_with("attached"), "{kind:?}: {}", daemon.line);
            assert_eq!(sandbox.tool(&["tcp", "192.0.2.1:443"]), "tcp for 192.0.2.1:443", "{kind:?}");
            assert!(sandbox.tool(&["udp", "198.18.1.7:443"]).starts_with("udp for"), "{kind:?}");
            drop(daemon);
        }
    }
}

#[test]
fn rules_that_somebody_changed_are_put_right() {
    let sandbox = Sandbox::start(Kind::possible()[0]);
    drop(sandbox.attach());
    let rules = sandbox.run(&["nft", "-s", "list", "ruleset"]);
    assert!(rules.contains("chain to_us"), "{rules}");
    sandbox.run(&["nft", "flush", "chain", "inet", "sbx", "to_us"]);
    sandbox.run(&["nft", "add", "rule", "inet", "sbx", "output", "accept"]);
    drop(sandbox.attach());
    assert_eq!(sandbox.run(&["nft", "-s", "list", "ruleset"]), rules);
}

/// Whoever takes a port of ours gets what is redirected there, and nothing leaves all the same; we say so.
#[test]
fn a_port_that_is_taken_is_named_and_nothing_opens() {
    for (protocol, address, named) in [
        ("tcp", "127.0.0.1:64080", "somebody inside holds TCP port 64080"),
        ("tcp", "[::1]:64080", "somebody inside holds TCP port 64080"),
        ("tcp", "0.0.0.0:64053", "somebody inside holds TCP port 64053"),
        ("udp", "127.0.0.1:64053", "somebody inside holds UDP port 64053"),
        ("udp", "198.18.1.7:443", "somebody inside holds UDP port 443"),
    ] {
        let sandbox = Sandbox::start(Kind::possible()[0]);
        let options = Options { udp: "443", ..Options::default() };
        drop(sandbox.daemon(&options));
        let mut squatter = sandbox.stay(&["hold", protocol, address]);
        assert_eq!(squatter.line(), "held");
        let daemon = sandbox.daemon(&options);
        assert!(daemon.line.starts_with("failed") && daemon.line.contains(named), "{address}: {}", daemon.line);
        // Still no way out, at once.
        assert_eq!(sandbox.tool(&["udp", "192.0.2.1:443"]), "refused PermissionDenied");
        let sent: u64 = sandbox.devices().into_iter().filter(|(name, _)| name != "lo").map(|(_, count)| count).sum();
        assert_eq!(sent, 0);
        drop(squatter);
        assert!(sandbox.daemon(&options).line.starts_with("attached"), "{address}");
    }
}

/// The rules are there before the sockets: also where the first daemon finds its port taken.
#[test]
fn a_first_daemon_that_fails_leaves_the_rules() {
    let sandbox = Sandbox::start(Kind::possible()[0]);
    let mut squatter = sandbox.stay(&["hold", "tcp", "127.0.0.1:64080"]);
    assert_eq!(squatter.line(), "held");
    assert!(sandbox.daemon(&Options::default()).line.starts_with("failed"));
    assert!(sandbox.run(&["nft", "list", "ruleset"]).contains("policy drop"));
}

#[test]
fn two_daemons_do_not_share() {
    let sandbox = Sandbox::start(Kind::possible()[0]);
    let first = sandbox.attach();
    assert!(sandbox.daemon(&Options::default()).line.contains("Squatted"));
    assert_eq!(sandbox.tool(&["tcp", "192.0.2.1:443"]), "tcp for 192.0.2.1:443");
    drop(first);
}
