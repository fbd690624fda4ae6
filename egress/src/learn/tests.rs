use proptest::prelude::*;
use schema::policy::Policy;

use super::*;
use crate::compiled::properties::{Asked, TODAY, asked, policy as any_policy};
use crate::dial::may_reach;
use crate::generation::Generation;
use crate::judge::Wish;
use crate::route::Route;
use crate::testing;
use crate::testing::rules::{With as _, policy, rule};
use crate::verdict::{RequestVerdict, Speech};
use crate::written;

fn record(protocol: Spoken, host: &str, port: u16, request: Option<(&str, &str)>) -> Record {
    Record {
        protocol,
        host: host.to_owned(),
        port,
        method: request.map(|(method, _)| method.to_owned()),
        path: request.map(|(_, path)| path.to_owned()),
        rule: Some(PLACE.to_owned()),
        ..testing::record()
    }
}

fn learned(policy: &Policy, records: &[Record]) -> (Vec<String>, Learned) {
    let learned = learn(policy, records, TODAY);
    (learned.rules.iter().map(written::allow).collect(), learned)
}

#[test]
fn rules_are_as_narrow_as_what_was_done() {
    let ours = policy([rule("known.test").ports(&[443]), rule("api.test").ports(&[443]).methods(&["GET"])], []);
    let records = [
        record(Spoken::Dns, "new.test", 53, None),
        record(Spoken::Tls, "new.test", 443, None),
        record(Spoken::Tls, "new.test", 8443, None),
        record(Spoken::Tcp, "git.test", 22, None),
        record(Spoken::Tcp, "git.test", 2222, None),
        record(Spoken::Tcp, "192.0.2.7", 5432, None),
        record(Spoken::Http, "mirror.test", 80, Some(("GET", "/debian/dists/stable/Release"))),
        record(Spoken::Http, "mirror.test", 80, Some(("HEAD", "/debian/dists/stable/Release"))),
        record(Spoken::Http, "mirror.test", 80, Some(("POST", "/report/17"))),
        record(Spoken::Https, "api.test", 443, Some(("POST", "/v1/x%2Fy"))),
        Record { rule: Some(UPGRADED.to_owned()), ..record(Spoken::Https, "api.test", 443, Some(("GET", "/socket"))) },
        // By rules of its own, and by rules that the file has by now.
        Record { rule: Some("a.yaml:10:9".to_owned()), ..record(Spoken::Tls, "own.test", 443, None) },
        record(Spoken::Tls, "known.test", 443, None),
    ];
    let (rules, learned) = learned(&ours, &records);
    assert_eq!(
        rules,
        [
            "{ host: \"192.0.2.7\", ports: [5432] }",
            "{ host: api.test, ports: [443], methods: [POST], paths: [\"/v1/x%2Fy\"], encodedSeparators: true }",
            "{ host: api.test, ports: [443], methods: [GET], paths: [\"/socket\"], upgrade: true }",
            "{ host: git.test, ports: [22, 2222] }",
            "{ host: mirror.test, ports: [80], methods: [GET, HEAD], paths: [\"/debian/dists/stable/Release\"] }",
            "{ host: mirror.test, ports: [80], methods: [POST], paths: [\"/report/*\"] }",
            "{ host: new.test, ports: [443] }",
            "{ host: new.test, ports: [8443], protocol: tls }",
        ]
    );
    assert_eq!(learned.uses, 10, "questions of DNS are none");
    assert_eq!(learned.refused, []);
}

#[test]
fn what_led_nowhere_and_what_was_refused_is_told_and_not_proposed() {
    let because = |because: &str, allowed: bool, host: &str| Record {
        because: Some(because.to_owned()),
        allowed,
        ..record(Spoken::Tls, host, 443, None)
    };
    let records = [
        because("no-such-host", true, "typo.test"),
        because("address-refused", false, "inside.test"),
        because("denied", false, "gist.test"),
        because("denied", false, "gist.test"),
        // The client went away: it was there all the same.
        because("broken-off", true, "good.test"),
        Record { protocol: Spoken::Dns, ..because("denied", false, "gist.test") },
    ];
    let (rules, learned) = learned(&Policy::default(), &records);
    assert_eq!(rules, ["{ host: good.test, ports: [443] }"]);
    let refused: Vec<_> = learned
        .refused
        .iter()
        .map(|refused| (refused.host.as_str(), refused.because.as_str(), refused.times))
        .collect();
    let expected =
        [("gist.test", "denied", 2), ("inside.test", "address-refused", 1), ("typo.test", "no-such-host", 1)];
    assert_eq!(refused, expected);
}

#[test]
fn where_connections_pass_unseen_requests_stay_unseen() {
    let ours = policy([rule("a.test").ports(&[8080])], []);
    let records = [record(Spoken::Http, "a.test", 8080, Some(("GET", "/a%2Fb")))];
    assert_eq!(learned(&ours, &records).0, ["{ host: a.test, ports: [8080], encodedSeparators: true }"]);
}

#[test]
fn while_somebody_learns_deny_rules_hold_and_no_inner_address_is_dialled() {
    let ours = policy([rule("api.test").ports(&[443])], [rule("evil.test").every_port()]);
    let before = Generation::new(1, ours.clone(), BTreeMap::new());
    let open = Generation::learning(2, ours, BTreeMap::new());
    let allowed = |generation: &Generation, host: &str, port: u16| {
        let host: Host = host.parse().unwrap();
        let question = Question { host: &host, port, transport: Transport::Tcp };
        matches!(generation.compiled.connect(question, TODAY), ConnectVerdict::Allow { .. })
    };
    for (host, port) in [("any.test", 443), ("api.test", 22), ("192.0.2.1", 80), ("2001:db8::1", 443)] {
        assert!(allowed(&open, host, port) && !allowed(&before, host, port), "{host}:{port}");
    }
    assert!(!allowed(&open, "evil.test", 443));
    // What may be dialled is asked of the policy, which does not name the address.
    for inside in ["10.0.0.1", "169.254.169.254", "127.0.0.1", "fd00::1"] {
        let address = inside.parse().unwrap();
        let host = Host::Address(address);
        assert!(!may_reach(&open.policy, &host, 443, Transport::Tcp, address, &[], TODAY), "{inside}");
    }
}

/// The record of what a client does, if it is let out by what learning adds.
fn done(generation: &Generation, asked: &Asked) -> Option<Record> {
    let compiled = &generation.compiled;
    let ConnectVerdict::Allow { inspect, .. } = compiled.connect(asked.question(), TODAY) else { return None };
    let speech = if asked.tls { Speech::Tls } else { Speech::Http };
    let (protocol, seen) = match Route::of(inspect, asked.port, Some(speech)) {
        Route::Refuse => return None,
        Route::Pass => (if asked.tls { Spoken::Tls } else { Spoken::Tcp }, false),
        Route::Requests => (Spoken::Http, true),
        Route::Intercept => (Spoken::Https, true),
    };
    let request = Some(asked.request());
    let verdict = compiled.judge(&Wish { question: asked.question(), speech, request }, TODAY);
    let RequestVerdict::Allow(rule) = verdict else { return None };
    let request = seen.then(|| (asked.method(), asked.path().as_str()));
    let record = record(protocol, &asked.host.to_string(), asked.port, request);
    Some(Record { rule: Some(rule.place.at.clone()), ..record }).filter(is_learned)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Headers are in no record: rules that ask for some say nothing about what was learned.
    #[test]
    fn with_what_was_learned_it_is_allowed(mut policy in any_policy(), all in prop::collection::vec(asked(), 1..8)) {
        policy.allow.retain(|rule| rule.headers.is_empty());
        policy.deny.retain(|rule| rule.headers.is_empty());
        let open = Generation::learning(2, policy.clone(), BTreeMap::new());
        let all: Vec<_> = all.iter().filter(|asked| asked.question().transport == Transport::Tcp).collect();
        let records: Vec<_> = all.iter().filter_map(|asked| done(&open, asked)).collect();
        let learned = learn(&policy, &records, TODAY);
        let rules = learned.rules.len();
        policy.allow.extend(learned.rules);
        let compiled = Compiled::new(&policy);
        for asked in all.iter().filter(|asked| done(&open, asked).is_some()) {
            let speech = if asked.tls { Speech::Tls } else { Speech::Http };
            let wish = Wish { question: asked.question(), speech, request: Some(asked.request()) };
            let verdict = compiled.judge(&wish, TODAY);
            prop_assert!(matches!(verdict, RequestVerdict::Allow(_)), "{:?} {:?}", verdict, policy.allow);
        }
        // No more rules than there is something that needs one.
        prop_assert!(rules <= records.len());
    }
}
