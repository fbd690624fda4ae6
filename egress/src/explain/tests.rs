//! What people are told, and that it is true.

use std::net::IpAddr;

use jiff::civil::date;
use proptest::prelude::*;
use schema::policy::{Policy, Protocol, Rule, Target};

use super::*;
use crate::compiled::properties::{TODAY, asked, policy as any_policy};
use crate::direct::openings;
use crate::generation::Generation;
use crate::route::Route;
use crate::testing::rules::{With as _, fleet, policy, rule};

fn ours() -> Policy {
    let mut policy = policy(
        [
            rule("github.com").ports(&[22, 443]),
            rule("api.github.com").methods(&["GET", "HEAD"]).paths(&["/repos/**"]),
            rule("api.anthropic.com").methods(&["POST"]).paths(&["/v1/**"]).secret(),
            rule("**.example.org"),
            Rule { expires: Some(date(2026, 6, 14)), ..rule("old.test") },
            Rule { expires: Some(date(2026, 6, 16)), reason: Some(String::from("until we move")), ..rule("soon.test") },
            rule("ntp.test").ports(&[123]).protocol(Protocol::Udp),
            rule("db.test").ports(&[5432]).protocol(Protocol::Tcp),
            rule("10.0.0.0/8").ports(&[443]),
            rule("strict.test").protocol(Protocol::Tls),
            rule("gist.github.com"),
            rule("0.0.0.0/0"),
            rule("*.test").ports(&[5432]),
        ],
        [rule("gist.github.com").every_port(), rule("**.example.org").methods(&["DELETE"]).every_port()],
    );
    policy.hosts.insert("mapped.test".parse().unwrap(), vec!["10.1.2.3".parse().unwrap()]);
    policy.hosts.insert("inside.test".parse().unwrap(), vec!["10.1.2.4".parse().unwrap()]);
    policy.dial_allow.push("10.1.2.4/32".parse().unwrap());
    policy
}

fn shown(policy: &Policy, line: &str) -> String {
    let (method, url) = line.split_once(' ').map_or((None, line), |(method, url)| (Some(method), url));
    let target = Target::parse(url).unwrap();
    let Explanation { allowed, because, message, rule, allow, notes } =
        by_policy(policy, &target, method, &(), &[], TODAY);
    let mut text = format!("{line}\n  {} ({because}): {message}\n", if allowed { "allowed" } else { "denied" });
    if let Some(WrittenRule { text: rule, at, decided, .. }) = rule {
        text += &format!("  {} {rule} at {at}\n", if decided { "rule" } else { "nearest" });
    }
    if let Some(allow) = allow {
        text += &format!("  add {allow}\n");
    }
    for note in notes {
        text += &format!("  note {note}\n");
    }
    text
}

#[test]
fn every_answer_in_words() {
    let policy = ours();
    let lines = [
        "https://github.com/acme/api",
        "ssh://github.com",
        "https://evil.test/collect",
        "POST https://evil.test/collect?data=1",
        "https://evil.test",
        "ssh://evil.test",
        "tcp://evil.test:443",
        "udp://evil.test:53",
        "http://[2001:db8::1]:8080/",
        "GET https://api.github.com/repos/acme/api",
        "POST https://api.github.com/repos/acme/api/issues",
        "https://api.github.com/user",
        "https://api.github.com/repos/a%2Fb",
        "wss://api.github.com/repos/stream",
        "wss://www.example.org/stream",
        "ws://www.example.org/stream",
        "http://www.example.org/a%2Fb",
        "https://github.com:8443/",
        "POST https://api.anthropic.com/v1/messages",
        "POST http://api.anthropic.com/v1/messages",
        "https://gist.github.com/",
        "DELETE https://www.example.org/x",
        "GET https://www.example.org/x",
        "tcp://www.example.org:443",
        "https://old.test/",
        "https://soon.test/",
        "udp://ntp.test:123",
        "tcp://ntp.test:123",
        "postgres://db.test/name",
        "udp://db.test:5432",
        "https://10.1.2.3/",
        "https://192.0.2.1/",
        "https://127.0.0.1/",
        "tcp://mapped.test:5432",
        "tcp://inside.test:5432",
        "http://strict.test/",
        "https://api.github.com/repos/a*b",
        "POST https://evil.test/a*b",
        "TRACE https://api.github.com/repos/x",
        "TRACE https://evil.test/",
    ];
    let text: String = lines.iter().map(|line| shown(&policy, line)).collect();
    insta::assert_snapshot!(text);
}

#[test]
fn peers_are_reached_at_the_ports_that_they_declare() {
    let mut config = fleet(&["api none front back", "dbs none front back"]);
    let ask = |config: &Config, target: &str| {
        let target = Target::parse(target).unwrap();
        let explained = explain(config, "api", &target, None, &(), &[], TODAY).unwrap();
        (explained.because, explained.message, explained.notes.len())
    };
    let port = |port| vec![schema::policy::PortRange::one(port)];
    let mut narrow = |network: &str, tcp, udp| {
        let inbound = schema::policy::Inbound { tcp, udp };
        config.sandboxes["dbs"].egress.policy.inbound.insert(schema::Name::new(network).unwrap(), inbound);
    };
    narrow("front", port(5432), port(53));
    narrow("back", port(8080), Vec::new());
    let reached = |network: &str| ("network", format!("it is a sandbox on the same network, {network}"), 0);
    assert_eq!(ask(&config, "tcp://dbs:5432"), reached("front"));
    assert_eq!(ask(&config, "tcp://dbs:8080"), reached("back"));
    assert_eq!(ask(&config, "udp://dbs:53"), reached("front"));
    for target in ["udp://dbs:5432", "tcp://dbs:53", "tcp://dbs:22"] {
        let told = "it is a sandbox on the same network, front, and lets others in at tcp 5432; udp 53";
        assert_eq!(ask(&config, target), ("peer-port", told.to_owned(), 1), "{target}");
    }
}

#[test]
fn modes_and_networks_come_before_rules() {
    let mut config =
        fleet(&["api allowlist back", "open open", "none none", "dbs none back", "far none front", "wire direct"]);
    let evil = policy([rule("example.org").methods(&["GET"])], []);
    for sandbox in config.sandboxes.values_mut() {
        sandbox.egress.policy = evil.clone();
    }
    let ask = |sandbox: &str, url: &str| {
        let explained = explain(&config, sandbox, &Target::parse(url).unwrap(), Some("POST"), &(), &[], TODAY).unwrap();
        (explained.allowed, explained.because)
    };
    assert_eq!(ask("open", "https://anything.test/"), (true, "mode"));
    assert_eq!(ask("none", "https://example.org/"), (false, "mode"));
    assert_eq!(ask("api", "tcp://dbs:5432"), (true, "network"));
    assert_eq!(ask("api", "tcp://far:5432"), (false, "no-rule"));
    assert_eq!(ask("api", "tcp://api:5432"), (false, "no-rule"));
    assert_eq!(ask("api", "https://example.org/"), (false, "method"));
    // Nobody looks at methods there.
    assert_eq!(ask("wire", "https://example.org/"), (true, "rule"));
    assert_eq!(ask("wire", "https://example.org:444/"), (false, "port"));
}

#[test]
fn what_never_comes_to_rules_is_not_said_to_be_allowed() {
    let mut config = fleet(&["api allowlist", "wire direct", "door allowlist"]);
    for sandbox in config.sandboxes.values_mut() {
        let rules = ["ns.test", "192.0.2.0/24"].map(|host| rule(host).ports(&[53, 5353]));
        let udp = rules.clone().map(|rule| rule.protocol(Protocol::Udp));
        sandbox.egress.policy = policy([rules, udp].concat(), []);
    }
    if let Some(door) = config.sandboxes.get_mut("door") {
        door.egress.transport = schema::config::Transport::Socket;
    }
    let ask = |sandbox: &str, url: &str| {
        let explained = explain(&config, sandbox, &Target::parse(url).unwrap(), None, &(), &[], TODAY).unwrap();
        assert!(explained.allow.is_none(), "{explained:?}");
        (explained.allowed, explained.because)
    };
    for sandbox in ["api", "wire"] {
        for url in ["tcp://ns.test:53", "udp://ns.test:53", "tcp://192.0.2.1:53"] {
            assert_eq!(ask(sandbox, url), (false, "resolver"), "{sandbox} {url}");
        }
        assert_eq!(ask(sandbox, "udp://ns.test:5353"), (true, "rule"));
        assert_eq!(ask(sandbox, "tcp://192.0.2.1:5353"), (true, "rule"));
    }
    assert_eq!(ask("door", "tcp://ns.test:53"), (true, "rule"), "no rules redirect there");
    assert_eq!(ask("api", "udp://192.0.2.1:5353"), (false, "datagrams"));
    assert_eq!(ask("wire", "udp://192.0.2.1:5353"), (true, "rule"));
}

#[test]
fn addresses_that_are_not_dialled_are_not_said_to_be_reached() {
    let mut config = fleet(&["api allowlist", "wire direct"]);
    for sandbox in config.sandboxes.values_mut() {
        let tcp = rule("10.1.2.3").ports(&[5000]).protocol(Protocol::Tcp);
        let udp = rule("0.0.0.0/0").ports(&[5000]).protocol(Protocol::Udp);
        sandbox.egress.policy = policy([rule("0.0.0.0/0").ports(&[22]), rule("db.test").ports(&[22]), tcp, udp], []);
        sandbox.egress.policy.hosts.insert("db.test".parse().unwrap(), vec!["10.1.2.3".parse().unwrap()]);
    }
    let own = ["192.0.2.9/32".parse().unwrap()];
    let ask = |sandbox: &str, url: &str| {
        let explained = explain(&config, sandbox, &Target::parse(url).unwrap(), None, &(), &own, TODAY).unwrap();
        (explained.allowed, explained.because)
    };
    for sandbox in ["api", "wire"] {
        assert_eq!(ask(sandbox, "tcp://192.0.2.8:22"), (true, "rule"));
        // This machine's own.
        assert_eq!(ask(sandbox, "tcp://192.0.2.9:22"), (false, "address-refused"));
        assert_eq!(ask(sandbox, "tcp://10.1.2.3:22"), (false, "address-refused"));
        assert_eq!(ask(sandbox, "tcp://db.test:22"), (false, "address-refused"));
        assert_eq!(ask(sandbox, "tcp://10.1.2.3:5000"), (true, "rule"));
    }
    // That a rule for connections names it says nothing of datagrams.
    assert_eq!(ask("wire", "udp://10.1.2.3:5000"), (false, "address-refused"));
    assert_eq!(ask("wire", "udp://192.0.2.8:5000"), (true, "rule"));
}

/// With `mode: direct`, what is said of addresses by number is what the packet filter opens.
#[test]
fn what_is_said_of_addresses_is_what_is_opened() {
    let addresses = [
        "192.0.2.8",
        "10.1.2.3",
        "127.0.0.1",
        "169.254.169.254",
        "2003::1",
        "2001:db8::1",
        "fc00::1",
        // 6to4, NAT64, Teredo, ISATAP: of what is public, and of what is not.
        "2002:808:808::1",
        "2002:a01:203::1",
        "64:ff9b::808:808",
        "64:ff9b::a01:203",
        "2001:0:808:808::f7f7:f7f7",
        "2001:db8::5efe:808:808",
        "2001:db8::200:5efe:a01:203",
    ];
    let networks = ["0.0.0.0/0", "10.0.0.0/8", "::/0", "2002::/16", "64:ff9b::/96", "2001::/32", "2001:db8::/32"];
    // As the packet filter's rule has it.
    let is_isatap = |address: IpAddr| match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.segments()[4] & !0x0200 == 0 && address.segments()[5] == 0x5efe,
    };
    let mut seen = std::collections::BTreeMap::<_, u32>::new();
    for network in networks.into_iter().chain(addresses) {
        for address in addresses {
            let parsed: IpAddr = address.parse().unwrap();
            for dialled in [vec![], vec![IpNet::from(parsed)]] {
                let policy = Policy { dial_allow: dialled, ..policy([rule(network).ports(&[443])], []) };
                let generation = Generation::new(1, policy.clone(), std::collections::BTreeMap::new());
                let mut runs = openings::networks(&generation, &[], TODAY).into_values().flatten();
                let opened = runs.any(|(first, last)| first <= parsed && parsed <= last);
                let (host, path) = (Host::Address(parsed), None);
                let target = Target { scheme: String::from("tcp"), host, port: 443, path };
                let explained = direct(&policy, &target, &[], TODAY);
                *seen.entry(explained.because).or_default() += 1;
                assert_eq!(explained.allowed, opened && !is_isatap(parsed), "{network} {address} {explained:?}");
            }
        }
    }
    assert!(["rule", "no-rule", "address-refused"].iter().all(|because| seen.contains_key(because)), "{seen:?}");
}

#[test]
fn nobody_explains_for_sandboxes_that_are_not_there() {
    let config = fleet(&["api allowlist"]);
    assert_eq!(explain(&config, "missing", &Target::parse("ssh://a").unwrap(), None, &(), &[], TODAY), None);
}

#[test]
fn a_refused_client_is_told_what_to_ask_for_and_nothing_else() {
    let policy = ours();
    let compiled = Compiled::new(&policy);
    let mut text = String::new();
    for line in ["POST https://api.github.com/repos/x", "GET http://evil.test/", "GET https://gist.github.com/"] {
        let (method, url) = line.split_once(' ').unwrap();
        let target = Target::parse(url).unwrap();
        let wish = Wish::new(&target, method, &());
        let RequestVerdict::Deny(denial) = compiled.judge(&wish, TODAY) else { panic!("{line} is allowed") };
        let refused = Refused { sandbox: "api", wish, denial: &denial };
        text += &refusal_text(&refused, &compiled, TODAY);
        text += &format!("{:#}\n", refusal_json(&refused, &compiled, TODAY));
    }
    assert!(!text.contains("a.yaml"), "{text}");
    insta::assert_snapshot!(text);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Judged step by step as the data path does, and by the explanation: the same, and what is suggested helps.
    #[test]
    fn explanations_are_true(policy in any_policy(), asked in asked(), scheme in 0..6_usize, named in any::<bool>()) {
        let scheme = ["https", "http", "wss", "ssh", "udp", "rediss"][scheme];
        let host = match &asked.host {
            Host::Address(std::net::IpAddr::V6(address)) => format!("[{address}]"),
            host => host.to_string(),
        };
        let path = asked.path().as_str();
        let target = Target::parse(&format!("{scheme}://{host}:{}{path}", asked.port)).unwrap();
        let method = asked.method();
        let compiled = Compiled::new(&policy);
        let wish = Wish::new(&target, if named { method } else { "GET" }, &());

        let by_steps = match compiled.connect(wish.question, TODAY) {
            ConnectVerdict::Deny(_) => false,
            ConnectVerdict::Allow { inspect, .. } => match Route::of(inspect, wish.question.port, Some(wish.speech)) {
                Route::Pass => true,
                Route::Refuse => false,
                Route::Requests | Route::Intercept => wish.request.is_some_and(|request| {
                    is_sent_on(request.method)
                        && matches!(compiled.request(wish.question, &request, TODAY), RequestVerdict::Allow(_))
                }),
            },
        };
        let named = named.then_some(method);
        let explained = by_policy(&policy, &target, named, &(), &[], TODAY);
        // What is dialled is another question: here, whether rules allow it.
        prop_assert_eq!(explained.allowed || explained.because == "address-refused", by_steps);

        if let RequestVerdict::Deny(denial) = compiled.judge(&wish, TODAY) {
            let suggested = suggest::rule(&compiled, &wish, &denial, named.is_some(), TODAY);
            prop_assert_eq!(explained.allow, suggested.as_ref().map(written::allow));
            let mut more = policy.clone();
            if let Some(rule) = suggested {
                more.allow.push(rule);
                let after = by_policy(&more, &target, named, &(), &[], TODAY);
                prop_assert!(after.allowed || after.because == "address-refused", "{:?}", after);
            } else if wish.request.is_none_or(|request| is_sent_on(request.method)) {
                // Nothing helps, then: not even the widest rules there are.
                for host in ["**", "0.0.0.0/0", "::/0"] {
                    for protocol in [Protocol::Tcp, Protocol::Udp] {
                        let all = rule(host).every_port().protocol(protocol);
                        more.allow.push(Rule { encoded_separators: true, upgrade: true, ..all });
                    }
                }
                prop_assert!(!by_policy(&more, &target, named, &(), &[], TODAY).allowed);
            }
        }
    }
}
