//! What is found in policies, and what is not.

use proptest::prelude::*;
use schema::policy::{HeaderEdits, Policy, PortRange, Protocol, Rule};

use super::*;
use crate::compiled::Compiled;
use crate::compiled::properties::{asked, passes, policy as any_policy};
use crate::testing::rules::{With as _, fleet, policy as of, rule};

/// What is found, and the place of the rule.
type Found = Vec<(Kind, String)>;

fn kinds(policy: &Policy) -> Found {
    super::policy(policy).into_iter().map(|finding| (finding.kind, finding.at)).collect()
}

/// Every unwise policy with its wise neighbour, which nothing is said about.
#[test]
fn unwise_rules_are_found_and_wise_ones_left_alone() {
    let deny = |host: &str| rule(host).every_port();
    let removing = |rule: Rule| Rule {
        request: HeaderEdits { remove: vec![String::from("cookie")], ..HeaderEdits::default() },
        ..rule
    };
    let first = |kind| vec![(kind, String::from("a.yaml:10:9"))];
    let second = |kind| vec![(kind, String::from("a.yaml:11:9"))];
    let wide = PortRange { first: 1, last: 40_000 };
    let cases: Vec<(&str, Policy, Found)> = vec![
        ("shadowed", of([rule("gist.github.com")], [deny("**.github.com")]), first(Kind::Shadowed)),
        ("on all its ports", of([rule("gist.github.com")], [rule("**.github.com")]), first(Kind::Shadowed)),
        ("not on one port", of([rule("gist.github.com").ports(&[22, 443])], [rule("**.github.com")]), vec![]),
        ("not the host itself", of([rule("github.com")], [deny("**.github.com")]), vec![]),
        (
            "by requests",
            of([rule("a.test").methods(&["GET"])], [deny("a.test").methods(&["GET", "POST"])]),
            first(Kind::Shadowed),
        ),
        ("not all methods", of([rule("a.test").methods(&["GET", "PUT"])], [deny("a.test").methods(&["GET"])]), vec![]),
        ("by path", of([rule("a.test").paths(&["/a/b"])], [deny("a.test").paths(&["/a/**"])]), first(Kind::Shadowed)),
        (
            "not datagrams",
            of([rule("a.test").ports(&[53]).protocol(Protocol::Udp)], [deny("a.test").protocol(Protocol::Tcp)]),
            vec![],
        ),
        ("twice", of([rule("a.test"), rule("a.test")], []), second(Kind::Redundant)),
        ("within", of([rule("a.example.test"), rule("*.example.test")], []), first(Kind::Redundant)),
        (
            "narrower",
            of([rule("**.example.test"), rule("a.example.test").methods(&["GET"])], []),
            second(Kind::Redundant),
        ),
        ("with changes", of([rule("**.example.test"), removing(rule("a.example.test"))], []), vec![]),
        ("with a secret", of([rule("**.example.test"), rule("a.example.test").secret().ports(&[443])], []), vec![]),
        ("more ports", of([rule("a.example.test").ports(&[443, 8443]), rule("*.example.test")], []), vec![]),
        (
            "tls in auto",
            of([rule("a.test").ports(&[443]).protocol(Protocol::Tls), rule("a.test")], []),
            first(Kind::Redundant),
        ),
        (
            "http beside auto",
            of([rule("a.test").protocol(Protocol::Http), rule("a.test")], []),
            second(Kind::Redundant),
        ),
        (
            "tcp beside auto",
            of([rule("a.test").ports(&[443]).protocol(Protocol::Tcp), rule("a.test").ports(&[443])], []),
            second(Kind::Redundant),
        ),
        (
            "lasts longer",
            of([rule("a.test"), Rule { expires: Some(jiff::civil::date(2030, 1, 1)), ..rule("*.test") }], []),
            vec![],
        ),
        ("everything", of([rule("**")], []), first(Kind::TooWide)),
        ("a registry", of([rule("*.com")], []), first(Kind::TooWide)),
        ("not a registry", of([rule("**.internal")], []), vec![]),
        ("anybody's", of([rule("**.github.io")], []), first(Kind::TooWide)),
        ("somebody's", of([rule("acme.github.io")], []), vec![]),
        ("the Internet", of([rule("0.0.0.0/0")], []), first(Kind::TooWide)),
        ("the other Internet", of([rule("2000::/3")], []), first(Kind::TooWide)),
        ("a network", of([rule("10.0.0.0/8")], []), vec![]),
        ("all ports", of([Rule { ports: vec![wide], ..rule("a.test") }], []), first(Kind::TooWide)),
        ("denying all is fine", of([rule("a.test")], [deny("*.com"), deny("0.0.0.0/0")]), vec![]),
        ("encoded", of([rule("a.test").paths(&["/a%2Fb"])], []), first(Kind::NeverMatches)),
        ("encoded and taken", of([Rule { encoded_separators: true, ..rule("a.test").paths(&["/a%2Fb"]) }], []), vec![]),
        ("a secret in the open", of([rule("a.test").secret().ports(&[80])], []), first(Kind::NeverMatches)),
        ("half in the open", of([rule("a.test").secret()], []), vec![]),
        ("asked for", of([rule("a.test").secret().protocol(Protocol::Http)], []), vec![]),
        ("no GET", of([Rule { upgrade: true, ..rule("a.test").methods(&["POST"]) }], []), first(Kind::NeverMatches)),
        ("GET", of([Rule { upgrade: true, ..rule("a.test").methods(&["GET"]) }], []), vec![]),
        (
            "ssh under requests",
            of([rule("a.test").ports(&[22, 443])], [deny("a.test").paths(&["/x"])]),
            first(Kind::NeedsHttp),
        ),
        ("ssh beside requests", of([rule("a.test").ports(&[22, 443])], [rule("a.test").paths(&["/x"])]), vec![]),
        (
            "tcp under a rule",
            of([rule("a.test").ports(&[443]).protocol(Protocol::Tcp), rule("*.test").paths(&["/x"])], []),
            first(Kind::NeedsHttp),
        ),
        ("mixed scripts", of([rule("раураl.com")], []), first(Kind::Lookalike)),
        ("one script", of([rule("пример.test")], []), vec![]),
        ("a slip", of([rule("githab.com")], []), first(Kind::Lookalike)),
        ("a digit", of([rule("www.paypa1.com")], []), first(Kind::Lookalike)),
        ("like another", of([rule("acrne.test"), rule("acme.test")], []), second(Kind::Lookalike)),
        ("accents", of([rule("gïthub.com")], []), first(Kind::Lookalike)),
        ("both known", of([rule("gcr.io"), rule("ghcr.io"), rule("github.com"), rule("gitlab.com")], []), vec![]),
        ("numbers", of([rule("node-1.example.test"), rule("node-2.example.test")], []), vec![]),
    ];
    for (name, policy, expected) in cases {
        assert_eq!(kinds(&policy), expected, "{name}");
    }
}

#[test]
fn findings_are_told_once_for_all_sandboxes_and_read_well() {
    let mut config = fleet(&["api allowlist", "web allowlist", "job allowlist"]);
    let shared = of(
        [
            rule("gist.github.com"),
            rule("**"),
            rule("api.example.test").methods(&["GET"]),
            rule("a.test").paths(&["/a%2Fb"]),
            rule("a.test").secret(),
            rule("a.test").ports(&[22]),
            rule("githab.com"),
            rule("*.com"),
            rule("0.0.0.0/0").every_port(),
            rule("раураl.com"),
            rule("a.test").paths(&["/a%2Fb"]),
        ],
        [rule("**.github.com").every_port(), rule("a.test").methods(&["PUT"]).every_port()],
    );
    for name in ["api", "web"] {
        config.sandboxes[name].egress.policy = shared.clone();
    }
    let findings = super::config(&config);
    let text = findings.iter().fold(String::new(), |text, Finding { kind, message, help, at, related }| {
        let related = related.as_ref().map(|(at, label)| format!("  {label}: {at}\n")).unwrap_or_default();
        text + &format!("{} {at}\n  {message}\n  help: {help}\n{related}", kind.code().code)
    });
    insta::assert_snapshot!(text);
    for Finding { message, help, .. } in &findings {
        for said in [message, help] {
            assert!(!said.starts_with(char::is_uppercase) && !said.ends_with('.'), "not a fragment: {said}");
        }
    }
    // Another policy is looked at for itself.
    config.sandboxes["job"].egress.policy = of([rule("*.org")], []);
    assert_eq!(super::config(&config).len(), findings.len() + 1);
}

#[test]
fn a_list_is_not_blamed_for_what_stands_beside_it() {
    let listed = |rule: Rule, at: &str| Rule {
        place: schema::policy::Place { at: at.to_owned(), list: Some(String::from("shared")) },
        ..rule
    };
    let shared = [listed(rule("www.example.test"), "a.yaml:5:7"), listed(rule("*.example.test"), "a.yaml:6:7")];
    let mut policy = of([rule("*.test").ports(&[80])], [rule("**.example.test").every_port()]);
    policy.allow.extend(shared.clone());
    // Within a list it is a mistake of the list.
    assert_eq!(kinds(&policy), [(Kind::Redundant, String::from("a.yaml:5:7"))]);
    // A list that is used twice says nothing twice.
    let twice = Policy { allow: [shared[1].clone(), shared[1].clone()].into(), ..Policy::default() };
    assert_eq!(kinds(&twice), []);
    // What a list allows already need not be written beside it.
    let mut beside = of([rule("a.example.test")], []);
    beside.allow.extend(shared);
    assert_eq!(kinds(&beside)[0], (Kind::Redundant, String::from("a.yaml:10:9")));
}

#[test]
fn findings_underline_the_rule_they_are_about() {
    let text = "sandboxes:\n  api: { egress: { allow: [{ host: \"*.com\", ports: [443] }, { host: '**' }] } }\n    - host: a.test # x\n";
    let source = schema::Source { name: "a.yaml".into(), directory: "/".into(), text: text.into() };
    let sources = [source];
    let places = Places::new(&sources);
    let column = |part: &str| text.lines().nth(1).and_then(|line| line.find(part)).unwrap() + 1;
    let (first, second) = (column("host: \"*"), column("host: '"));
    for (at, underlined) in [
        (format!("a.yaml:2:{first}"), Some("host: \"*.com\"")),
        (format!("a.yaml:2:{second}"), Some("host: '**'")),
        (String::from("a.yaml:3:7"), Some("host: a.test")),
        (String::from("b.yaml:3:7"), None),
        (String::from("a.yaml:9:1"), None),
        (String::from("a.yaml"), None),
        (String::new(), None),
    ] {
        let span = places.span(&at);
        assert_eq!(span.map(|span| &text[span.start..span.end]), underlined, "{at}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// A rule of which it is said that nothing comes of it can go, and nothing that was allowed is denied, nor the other way.
    #[test]
    fn what_is_said_to_do_nothing_does_nothing(policy in any_policy(), asked in proptest::collection::vec(asked(), 8)) {
        for finding in super::policy(&policy) {
            if !matches!(finding.kind, Kind::Shadowed | Kind::Redundant) {
                continue;
            }
            let index = policy.allow.iter().position(|rule| rule.place.at == finding.at).unwrap();
            // Where it makes requests be looked at, it makes what is not HTTP be refused.
            if policy.allow[index].needs_requests() {
                continue;
            }
            let mut without = policy.clone();
            without.allow.remove(index);
            let (with, without) = (Compiled::new(&policy), Compiled::new(&without));
            for asked in &asked {
                prop_assert_eq!(passes(&with, asked), passes(&without, asked), "{:?}", finding);
            }
        }
    }
}
