use jiff::civil::date;
use proptest::prelude::*;
use schema::policy::Protocol;

use super::*;
use crate::audit::Spoken;
use crate::compiled::properties::TODAY;
use crate::testing;
use crate::testing::rules::{With as _, policy, rule};

fn record(protocol: Spoken, host: &str, port: u16, request: Option<(&str, &str)>) -> Record {
    Record {
        protocol,
        host: host.to_owned(),
        port,
        method: request.map(|(method, _)| method.to_owned()),
        path: request.map(|(_, path)| path.to_owned()),
        ..testing::record()
    }
}

fn counted(policy: &Policy, records: &[Record]) -> Count {
    let mut count = Count::new(policy, TODAY);
    for record in records {
        count.add(record);
    }
    count
}

#[test]
fn a_rule_that_has_others_examined_is_told_from_one_that_has_not() {
    let paths = rule("api.test").ports(&[443, 8443]).paths(&["/v1/**"]);
    let remove = Tighter::Remove;
    let beside = |other: Rule, change: &Tighter| {
        let both = policy([paths.clone(), other], []);
        unexamined(&both, &both.allow[0], change).map(|rule| rule.host.to_string())
    };
    assert_eq!(beside(rule("*.test").ports(&[443]), &remove).as_deref(), Some("*.test"));
    assert_eq!(beside(rule("api.test").ports(&[8443]), &remove).as_deref(), Some("api.test"));
    for harmless in [
        rule("other.test").ports(&[443]),
        rule("api.test").ports(&[80]),
        rule("api.test").ports(&[443]).protocol(Protocol::Udp),
    ] {
        assert_eq!(beside(harmless, &remove), None);
    }
    let narrow = |ports: &[u16]| Tighter::Narrow {
        ports: Some(ports.iter().copied().map(PortRange::one).collect()),
        methods: None,
        paths: None,
    };
    assert_eq!(beside(rule("*.test").ports(&[443]), &narrow(&[443])), None, "it stays where the other is");
    assert_eq!(beside(rule("*.test").ports(&[443]), &narrow(&[8443])).as_deref(), Some("*.test"));
    // What one method or path did would be done by the other rule, without what this one takes out.
    let methods = Tighter::Narrow { ports: None, methods: Some(vec!["GET".into()]), paths: None };
    let paths = Tighter::Narrow { ports: None, methods: None, paths: Some(vec!["/v1/**".parse().expect("a pattern")]) };
    let plain = rule("api.test").ports(&[443]).methods(&["GET", "POST"]).paths(&["/v1/**", "/v2/**"]);
    let mut edits = plain.clone();
    edits.request.remove.push("authorization".into());
    for (ours, expected) in [(plain, None), (edits, Some("*.test"))] {
        let both = policy([ours, rule("*.test").ports(&[443])], []);
        for fewer in [&methods, &paths] {
            let found = unexamined(&both, &both.allow[0], fewer).map(|rule| rule.host.to_string());
            assert_eq!(found.as_deref(), expected);
        }
    }
    // A rule that examines nothing can go.
    let plain = policy([rule("api.test"), rule("*.test")], []);
    assert_eq!(unexamined(&plain, &plain.allow[0], &remove), None);
}

#[test]
fn what_was_never_used_goes_and_what_was_half_used_becomes_narrower() {
    let ours = policy(
        [
            rule("web.test"),
            rule("api.test").ports(&[443]).methods(&["GET", "POST", "DELETE"]),
            rule("never.test"),
            rule("seldom.test"),
            rule("range.test").every_port(),
            Rule { expires: Some(date(2020, 1, 1)), ..rule("old.test") },
            rule("ntp.test").ports(&[123]).protocol(Protocol::Udp),
            rule("docs.test").ports(&[443]).paths(&["/v1/**", "/v1/a/*", "/v2/**"]),
            rule("half.test").ports(&[443]).paths(&["/v1/**", "/v2/**"]),
        ],
        [],
    );
    let mut records = vec![record(Spoken::Tls, "seldom.test", 443, None), record(Spoken::Tls, "old.test", 443, None)];
    records.push(record(Spoken::Udp, "ntp.test", 123, None));
    // Asked for by name only, and refused: no use of it.
    records.push(record(Spoken::Dns, "never.test", 53, None));
    records.push(Record { allowed: false, ..record(Spoken::Tls, "never.test", 443, None) });
    records.push(Record { rule: Some(learn::PLACE.to_owned()), ..record(Spoken::Tls, "never.test", 443, None) });
    for _ in 0..FEWEST_USES {
        records.push(record(Spoken::Tls, "web.test", 443, None));
        records.push(record(Spoken::Https, "api.test", 443, Some(("GET", "/"))));
        records.push(record(Spoken::Https, "api.test", 443, Some(("POST", "/"))));
        records.push(record(Spoken::Tls, "range.test", 443, None));
        records.push(record(Spoken::Https, "docs.test", 443, Some(("GET", "/v1/a/b"))));
        records.push(record(Spoken::Https, "half.test", 443, Some(("GET", "/v1/a"))));
        records.push(record(Spoken::Https, "half.test", 443, Some(("GET", "/v2/a"))));
    }
    let count = counted(&ours, &records);
    let told: Vec<Option<Tighter>> =
        ours.allow.iter().zip(&count.usage).map(|(rule, usage)| tighter(rule, usage)).collect();
    let narrow = |ports: Option<u16>, methods: Option<&[&str]>| {
        Some(Tighter::Narrow {
            ports: ports.map(|port| vec![PortRange::one(port)]),
            methods: methods.map(|methods| methods.iter().map(|method| (*method).to_owned()).collect()),
            paths: None,
        })
    };
    let paths = ["/v1/**", "/v1/a/*"].map(|path| path.parse().expect(path)).to_vec();
    assert_eq!(
        told,
        [
            narrow(Some(443), None),
            narrow(None, Some(&["GET", "POST"])),
            Some(Tighter::Remove),
            None,
            None,
            Some(Tighter::Remove),
            None,
            Some(Tighter::Narrow { ports: None, methods: None, paths: Some(paths) }),
            None,
        ]
    );
    assert_eq!(count.usage[1].uses, 2 * FEWEST_USES);
    assert_eq!(count.evidence.records, 3 + 1 + 7 * FEWEST_USES);
}

#[test]
fn a_rule_that_a_header_or_an_upgrade_may_decide_for_is_in_use() {
    let header = schema::policy::HeaderMatch { name: String::from("x-team"), value: None };
    let ours = policy(
        [
            Rule { headers: vec![header], ..rule("a.test").ports(&[443]) },
            rule("a.test").ports(&[443]).methods(&["GET"]),
            Rule { upgrade: true, ..rule("a.test").ports(&[443]).paths(&["/socket"]) },
        ],
        [],
    );
    let count = counted(&ours, &[record(Spoken::Https, "a.test", 443, Some(("GET", "/socket")))]);
    assert!(count.usage.iter().all(|usage| usage.uses == 1), "{:?}", count.usage);
}

#[test]
fn only_what_is_allowed_now_can_be_lost() {
    let ours = policy([rule("stays.test"), rule("goes.test")], []);
    let comparison = Comparison::new(&ours, &policy([rule("stays.test")], []), TODAY);
    let breaks = |host: &str| comparison.breaks(&record(Spoken::Tls, host, 443, None));
    assert!(breaks("goes.test"));
    assert!(!breaks("stays.test") && !breaks("went-long-ago.test"));
    let denied = Record { allowed: false, ..record(Spoken::Tls, "goes.test", 443, None) };
    assert!(!comparison.breaks(&denied));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Taking out the rules that nothing was decided by, and the paths of others that nothing matched, changes nothing that
    /// was recorded, unless it was what made requests be seen.
    #[test]
    fn without_unused_rules_everything_recorded_is_still_allowed(
        policy in crate::compiled::properties::policy(),
        all in prop::collection::vec(crate::compiled::properties::asked(), 1..8),
    ) {
        let compiled = Compiled::new(&policy);
        let seen = |asked: &crate::compiled::properties::Asked| {
            let protocol = if asked.tls { Spoken::Https } else { Spoken::Http };
            record(protocol, &asked.host.to_string(), asked.port, Some((asked.method(), asked.path().as_str())))
        };
        let records: Vec<Record> =
            all.iter().map(seen).filter(|record| replay::allows(&compiled, record, TODAY)).collect();
        let count = counted(&policy, &records);
        let mut tight = policy.clone();
        let mut usage = count.usage.iter();
        tight.allow.retain_mut(|rule| {
            let usage = usage.next().expect("one for each");
            rule.paths.retain(|pattern| usage.paths.contains(pattern.as_str()));
            usage.uses > 0
        });
        let tight = Compiled::new(&tight);
        for record in &records {
            prop_assert!(replay::allows(&tight, record, TODAY), "{:?}", record);
        }
    }
}
