//! Assertions hold when nothing leads to what they name, and say what leads there when something does.

use jiff::civil::date;
use proptest::prelude::*;
use proptest::sample::select;
use schema::config::{Exception, NameGlob};

use super::*;
use crate::compiled::properties::{HOSTS, TODAY, policy as any_policy};
use crate::testing::rules::{With as _, fleet, policy, rule};

fn never(sandboxes: &str, reaches: &[&str]) -> Assertion {
    let reach = |text: &&str| match *text {
        "front" | "back" => Reach::Network(Name::new(*text).unwrap()),
        text => Reach::Host(text.parse().unwrap()),
    };
    Assertion {
        sandboxes: NameGlob::new(sandboxes).unwrap(),
        reaches: reaches.iter().map(reach).collect(),
        unless: Exception::default(),
        at: Location { file: String::from("a.yaml"), line: 90, column: 5, end_line: 90, end_column: 10 },
    }
}

fn shown(config: &Config) -> String {
    prove(config, TODAY).iter().fold(String::new(), |text, breach| text + &breach.to_string() + "\n")
}

#[test]
fn ways_are_found_through_rules_networks_and_peers() {
    let mut config = fleet(&[
        "web allowlist front",
        "api none front back",
        "dbs none back",
        "lone allowlist",
        "open open",
        "shut none",
    ]);
    config.sandboxes["web"].egress.policy = policy([rule("github.com"), rule("**.example.org").ports(&[8443])], []);
    let cases: &[(&str, &[&str], &str)] = &[
        ("web", &["github.com"], "github.com by web → github.com:443, by { host: github.com } at a.yaml:10:9\n"),
        ("web", &["*.github.com"], ""),
        ("web", &["back"], "back by web → network front → api → network back\n"),
        ("web", &["front"], "front by web → network front\n"),
        ("web", &["dbs"], "dbs by web → network front → api → network back → dbs\n"),
        (
            "dbs",
            &["www.example.org"],
            "www.example.org by dbs → network back → api → network front → web → www.example.org:8443, by { host: \"**.example.org\", ports: [8443] } at a.yaml:11:9\n",
        ),
        ("lone", &["**"], ""),
        ("shut", &["**"], ""),
        ("shut", &["front"], ""),
        ("open", &["**"], "** by open → example.com, by `mode: open`\n"),
        ("open", &["10.0.0.0/8"], "10.0.0.0/8 by open → 10.0.0.0, by `mode: open`\n"),
        ("open", &["*.github.com"], "*.github.com by open → any.github.com, by `mode: open`\n"),
        // Both together, or it is no breach.
        ("open", &["back", "**"], ""),
        (
            "web",
            &["back", "github.com"],
            "back by web → network front → api → network back; and github.com by web → github.com:443, by { host: github.com } at a.yaml:10:9\n",
        ),
    ];
    for (sandbox, reaches, expected) in cases {
        config.assertions = vec![never(sandbox, reaches)];
        assert_eq!(shown(&config), *expected, "{sandbox} {reaches:?}");
    }
}

#[test]
fn who_lets_nobody_in_is_reached_by_nobody_of_its_kind() {
    let mut config = fleet(&["web allowlist front", "api none front", "dbs none front back"]);
    config.sandboxes["web"].egress.policy = policy([rule("github.com")], []);
    let shut = |config: &mut Config, names: &[&str]| {
        for name in names {
            let front = Name::new("front").unwrap();
            config.sandboxes[*name].egress.policy.inbound.insert(front, Inbound::default());
        }
    };
    config.assertions = vec![never("dbs", &["github.com"])];
    let github = "github.com:443, by { host: github.com } at a.yaml:10:9\n";
    shut(&mut config, &["web"]);
    // The other one lets it in, and is told.
    assert_eq!(shown(&config), format!("github.com by dbs → network front → web → {github}"));
    shut(&mut config, &["dbs"]);
    assert_eq!(shown(&config), format!("github.com by dbs → network front → api → network front → web → {github}"));
    shut(&mut config, &["api"]);
    assert_eq!(shown(&config), "");
}

/// Not in proportion to the square of it, or to its cube: this ends.
#[test]
fn a_large_fleet_is_no_trouble() {
    let lines: Vec<String> = (0..3_000).map(|number| format!("box-{number} none front back")).collect();
    let mut config = fleet(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    config.assertions = vec![never("*", &["**"]), never("box-1", &["box-2"])];
    assert_eq!(shown(&config), "box-2 by box-1 → network front → box-2\n");
}

#[test]
fn exceptions_are_for_who_starts_not_for_who_passes_on() {
    let mut config = fleet(&["web allowlist front", "api none front"]);
    config.sandboxes["web"].egress.policy = policy([rule("github.com")], []);
    let unless = |mode| Exception { egress: Some(mode), sandboxes: None };
    config.assertions = vec![Assertion { unless: unless(EgressMode::None), ..never("*", &["**"]) }];
    assert_eq!(prove(&config, TODAY).iter().map(|breach| breach.sandbox.as_str()).collect::<Vec<_>>(), ["web"]);
    config.assertions = vec![Assertion { unless: unless(EgressMode::Allowlist), ..never("*", &["**"]) }];
    assert_eq!(
        shown(&config),
        "** by api → network front → web → github.com:443, by { host: github.com } at a.yaml:10:9\n"
    );
}

#[test]
fn what_deny_rules_leave_is_found() {
    let ask = |allow: Vec<Rule>, deny: Vec<Rule>, pattern: &str| {
        let policy = policy(allow, deny);
        witness(&policy, &pattern.parse().unwrap(), TODAY).map(|end| match end {
            End::Rule { host, port, .. } => format!("{host} {port}"),
            end => format!("{end:?}"),
        })
    };
    let some = |text: &str| Some(text.to_owned());
    let deny = |host: &str| rule(host).every_port();
    assert_eq!(ask(vec![rule("*.a.org")], vec![deny("any.a.org")], "**"), some("any1.a.org 443"));
    assert_eq!(ask(vec![rule("**.a.org")], vec![deny("*.a.org")], "**.a.org"), some("any.any.a.org 443"));
    assert_eq!(ask(vec![rule("**.a.org")], vec![deny("*.a.org")], "*.a.org"), None);
    assert_eq!(ask(vec![rule("**.a.org")], vec![deny("**.a.org")], "**"), None);
    assert_eq!(ask(vec![rule("**.a.org")], vec![deny("**.b.a.org"), deny("*.a.org")], "**.b.a.org"), None);
    assert_eq!(ask(vec![rule("**")], vec![deny("example.com")], "**"), some("any.any 443"));
    assert_eq!(ask(vec![rule("a.org").every_port()], vec![rule("**")], "a.org"), some("a.org 1"));
    assert_eq!(ask(vec![rule("a.org")], vec![rule("**")], "a.org"), None);
    assert_eq!(ask(vec![rule("10.0.0.0/8")], vec![deny("10.0.0.0/9")], "10.0.0.0/8"), some("10.128.0.0 443"));
    assert_eq!(ask(vec![rule("10.0.0.0/8")], vec![deny("10.0.0.0/9"), deny("10.128.0.0/9")], "**"), None);
    assert_eq!(ask(vec![rule("0.0.0.0/0")], vec![], "**"), some("0.0.0.0 443"));
    let old = Rule { expires: Some(date(2026, 6, 14)), ..rule("a.org") };
    assert_eq!(ask(vec![old], vec![], "**"), None);
    // Requests are not reasoned about.
    assert_eq!(ask(vec![rule("a.org")], vec![deny("a.org").methods(&["GET"])], "**"), some("a.org 443"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// A witness is one the evaluator allows, and where there is none, nothing that was thought of is allowed.
    #[test]
    fn a_proof_is_complete_and_its_witness_is_real(
        policy in any_policy(),
        pattern in select(vec!["**", "*.org", "**.org", "example.org", "*.example.org", "**.example.org", "10.0.0.0/8", "::/0"]),
    ) {
        let pattern: HostPattern = pattern.parse().unwrap();
        let compiled = Compiled::new(&policy);
        let connects = |host: &Host, port, transport| {
            matches!(compiled.connect(Question { host, port, transport }, TODAY), ConnectVerdict::Allow { .. })
        };
        let matches = |host: &Host| pattern == HostPattern::Any || cover::covers(&pattern, &match host {
            Host::Name(name) => HostPattern::Exact(name.clone()),
            Host::Address(address) => HostPattern::Network((*address).into()),
        });
        match witness(&policy, &pattern, TODAY) {
            Some(End::Rule { host, port, udp, .. }) => {
                let host: Host = host.parse().unwrap();
                prop_assert!(matches(&host), "{}", host);
                let transport = if udp { Transport::Udp } else { Transport::Tcp };
                prop_assert!(connects(&host, port, transport));
            }
            Some(end) => prop_assert!(false, "{:?}", end),
            None => {
                let more = ["zz.org", "zz.example.org", "zz.zz.example.org", "zz.a.example.org", "zz", "zz.zz", "10.0.0.0", "10.255.255.255", "::", "2001::"];
                for text in HOSTS.iter().chain(&more) {
                    let host: Host = text.parse().unwrap();
                    for port in [1, 2, 22, 23, 79, 80, 81, 399, 400, 442, 443, 444, 8443, 9000, 9001, 65535] {
                        for transport in [Transport::Tcp, Transport::Udp] {
                            prop_assert!(!matches(&host) || !connects(&host, port, transport), "{} {}", text, port);
                        }
                    }
                }
            }
        }
    }
}
