//! Where packets go once a sandbox is attached.

use crate::sandbox::{Kind, Options, Sandbox};

/// Wherever TCP wanted to go, we are told.
#[test]
fn tcp_comes_to_us_with_its_destination() {
    for kind in Kind::possible() {
        let sandbox = Sandbox::start(kind);
        // Before, there is no way anywhere.
        assert!(sandbox.tool(&["tcp", "192.0.2.1:1234"]).starts_with("refused"));
        let daemon = sandbox.attach();
        for address in ["192.0.2.1:1234", "198.18.1.7:22", "198.51.100.1:443", "127.0.0.1:64080", "10.0.0.1:1"] {
            assert_eq!(sandbox.tool(&["tcp", address]), format!("tcp for {address}"), "{kind:?}");
        }
        if daemon.line.contains("ipv6=true") {
            for address in ["[2001:db8::1]:1234", "[fd00:5b78::8000:0:0:7]:22", "[::1]:64080"] {
                assert_eq!(sandbox.tool(&["tcp", address]), format!("tcp for {address}"), "{kind:?}");
            }
        }
    }
}

/// Whatever kernels lack, there is a dead end, and it makes no difference to anybody inside.
#[cfg(feature = "failpoints")]
#[test]
fn every_dead_end_will_do() {
    for kind in Kind::possible() {
        for (without, ends) in [("Dummy", ["Pair", "Loopback"]), ("Dummy,Pair", ["Loopback", "Loopback"])] {
            let sandbox = Sandbox::start(kind);
            let daemon = sandbox.daemon(&Options { udp: "443", without, ..Options::default() });
            let made = ends.iter().any(|end| daemon.line.starts_with(&format!("attached {end} ")));
            assert!(made, "{kind:?} without {without}: {}", daemon.line);
            assert_eq!(
                daemon.line.contains("neither a dummy nor a pair"),
                daemon.line.contains("Loopback"),
                "{}",
                daemon.line
            );
            assert_eq!(sandbox.tool(&["tcp", "192.0.2.1:1234"]), "tcp for 192.0.2.1:1234", "{kind:?} {without}");
            assert_eq!(sandbox.tool(&["udp", "192.0.2.53:53"]), "dns from 192.0.2.53:53", "{kind:?} {without}");
            let heard = sandbox.tool(&["udp", "198.18.1.7:443"]);
            assert!(heard.starts_with("udp for 198.18.1.7 from "), "{kind:?} {without}: {heard}");
            if daemon.line.contains("ipv6=true") {
                let address = "[2001:db8::1]:1234";
                assert_eq!(sandbox.tool(&["tcp", address]), format!("tcp for {address}"), "{kind:?} {without}");
            }
            assert!(sandbox.tool(&["udp", "192.0.2.1:443"]).starts_with("refused "), "{kind:?} {without}");
            for (device, count) in sandbox.devices() {
                assert!(device == "lo" || count == 0, "{kind:?} {without}: {count} packets left by {device}");
            }
        }
    }
}

/// The kernel of the machine that runs the tests has IPv6; a test that never saw it would prove nothing.
#[test]
fn ipv6_is_there_where_the_host_has_it() {
    let there = std::path::Path::new("/proc/net/if_inet6").exists();
    for kind in Kind::possible() {
        let daemon = Sandbox::start(kind).attach();
        assert_eq!(daemon.line.contains("ipv6=true"), there, "{kind:?}: {}", daemon.line);
    }
}

#[test]
fn without_ipv6_there_is_ipv4() {
    let sandbox = Sandbox::start(Kind::possible()[0]);
    sandbox.run(&["sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6"]);
    let daemon = sandbox.attach();
    assert!(daemon.line.contains("ipv6=false gate=false [1, 1, 1, 0]"), "{}", daemon.line);
    assert!(daemon.line.contains("no IPv6"), "{}", daemon.line);
    assert_eq!(sandbox.tool(&["tcp", "192.0.2.1:1234"]), "tcp for 192.0.2.1:1234");
    assert!(sandbox.tool(&["tcp", "[2001:db8::1]:1234"]).starts_with("refused"));
}

#[test]
fn dns_comes_to_us_whichever_resolver_was_meant() {
    for kind in Kind::possible() {
        let sandbox = Sandbox::start(kind);
        let daemon = sandbox.attach();
        let mut resolvers = vec!["198.18.0.1:53", "192.0.2.53:53"];
        if daemon.line.contains("ipv6=true") {
            resolvers.extend(["[fd00:5b78::1]:53", "[2001:db8::53]:53"]);
        }
        for resolver in resolvers {
            assert_eq!(sandbox.tool(&["tcp", resolver]), format!("dns for {resolver}"), "{kind:?}");
            assert_eq!(sandbox.tool(&["udp", resolver]), format!("dns from {resolver}"), "{kind:?}");
        }
    }
}

#[test]
fn what_listens_inside_is_reached_inside() {
    let sandbox = Sandbox::start(Kind::possible()[0]);
    let _daemon = sandbox.attach();
    let mut echo = sandbox.stay(&["echo", "7777"]);
    assert_eq!(echo.line(), "listens");
    let mut dns = sandbox.stay(&["echo", "53"]);
    assert_eq!(dns.line(), "listens");
    // By the loopback and by its own address, DNS by the loopback only.
    for address in ["127.0.0.1:7777", "[::1]:7777", "127.0.0.1:53"] {
        assert_eq!(sandbox.tool(&["tcp", address]), "echo", "{address}");
        assert!(sandbox.tool(&["udp", address]).starts_with("echo ask from"), "{address}");
    }
    assert_eq!(sandbox.tool(&["ping", "127.0.0.1"]), "answered");
}

#[test]
fn datagrams_go_to_relays_of_their_port_at_synthetic_addresses() {
    for kind in Kind::possible() {
        let sandbox = Sandbox::start(kind);
        let mut daemon = sandbox.daemon(&Options { udp: "443,123", ..Options::default() });
        assert!(daemon.line.contains("[2, 2, 2, 4]"), "{kind:?}: {}", daemon.line);
        for (address, meant) in [("198.18.1.7:443", "198.18.1.7"), ("198.19.255.254:123", "198.19.255.254")] {
            let heard = sandbox.tool(&["udp", address]);
            assert!(heard.starts_with(&format!("udp for {meant} from ")), "{kind:?} {address}: {heard}");
        }
        let heard = sandbox.tool(&["udp", "[fd00:5b78::8000:0:0:7]:443"]);
        assert!(heard.starts_with("udp for fd00:5b78::8000:0:0:7 from "), "{kind:?}: {heard}");
        // No other port, and nowhere else.
        assert_eq!(sandbox.tool(&["udp", "192.0.2.1:443"]), "refused PermissionDenied", "{kind:?}");
        assert!(!sandbox.tool(&["udp", "198.18.1.7:444"]).contains("udp for"), "{kind:?}");
        assert_eq!(daemon.ask("udp 444"), "done", "{kind:?}");
        assert!(sandbox.tool(&["udp", "198.18.1.7:444"]).starts_with("udp for 198.18.1.7"), "{kind:?}");
    }
}

#[test]
fn everything_else_is_refused_at_once_and_meets_no_device() {
    for kind in Kind::possible() {
        let sandbox = Sandbox::start(kind);
        let daemon = sandbox.attach();
        for words in [
            ["udp", "192.0.2.1:443"],
            ["udp", "[2001:db8::1]:443"],
            ["udp", "224.0.0.251:5353"],
            ["udp", "[ff02::fb]:5353"],
            ["udp", "255.255.255.255:67"],
            ["udp", "169.254.169.254:80"],
            ["ping", "192.0.2.1"],
            ["ping", "2001:db8::1"],
        ] {
            if kind == Kind::Alone && words[0] == "ping" {
                // Nobody there may send such a packet in the first place.
                continue;
            }
            let heard = sandbox.tool(&words);
            assert!(heard.starts_with("refused "), "{kind:?} {words:?}: {heard}");
        }
        assert_eq!(sandbox.tool(&["tcp", "192.0.2.1:443"]), "tcp for 192.0.2.1:443", "{kind:?}");
        for (device, count) in sandbox.devices() {
            assert!(device == "lo" || count == 0, "{kind:?}: {count} packets left by {device}; {}", daemon.line);
        }
    }
}

/// Had it not been for the rules, the same packets would have reached the device: the counters do count.
#[test]
fn without_the_rules_packets_meet_the_dead_end_and_go_nowhere() {
    for kind in Kind::possible() {
        let sandbox = Sandbox::start(kind);
        let daemon = sandbox.attach();
        let device = if daemon.line.contains("Loopback") { "lo" } else { "sbx0" };
        let before = sandbox.sent(device);
        assert_eq!(sandbox.tool(&["tcp", "192.0.2.1:443"]), "tcp for 192.0.2.1:443");
        if kind == Kind::Alone {
            // There, nobody inside may flush anything. The host's root may.
            assert!(!sandbox.inside(&["nft", "flush", "ruleset"]).status().unwrap().success());
            continue;
        }
        sandbox.run(&["nft", "flush", "ruleset"]);
        let mut attempts = vec![["udp", "192.0.2.1:443"], ["ping", "192.0.2.1"]];
        if kind == Kind::possible()[0] {
            // The kernel asks for seconds who has the address.
            attempts.push(["tcp", "192.0.2.1:443"]);
        }
        for words in attempts {
            let heard = sandbox.tool(&words);
            assert!(heard.starts_with("late ") || heard.starts_with("refused "), "{kind:?} {words:?}: {heard}");
        }
        assert!(sandbox.sent(device) > before, "{kind:?}: the counters count");
        // No device leads out: both ends of the pair, where there is one, are in here.
        let names: Vec<_> = sandbox.devices().into_iter().map(|(name, _)| name).collect();
        let known: &[&[&str]] = &[&["lo"], &["lo", "sbx0"], &["lo", "sbx0", "sbx1"]];
        assert!(known.contains(&names.iter().map(String::as_str).collect::<Vec<_>>().as_slice()), "{names:?}");
    }
}

#[test]
fn without_the_daemon_everything_is_refused_at_once() {
    let sandbox = Sandbox::start(Kind::possible()[0]);
    let daemon = sandbox.daemon(&Options { udp: "443", ..Options::default() });
    assert_eq!(sandbox.tool(&["tcp", "192.0.2.1:443"]), "tcp for 192.0.2.1:443");
    drop(daemon);
    for words in
        [["tcp", "192.0.2.1:443"], ["tcp", "198.18.1.7:22"], ["tcp", "192.0.2.1:53"], ["tcp", "[2001:db8::1]:1"]]
    {
        assert_eq!(sandbox.tool(&words), "refused ConnectionRefused", "{words:?}");
    }
    for address in ["198.18.1.7:443", "192.0.2.1:53"] {
        assert!(!sandbox.tool(&["udp", address]).contains(" for "), "{address}");
    }
}
