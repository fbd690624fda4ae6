use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn every_range_and_its_edges() {
    use Kind::{
        Benchmark, Broadcast, CarrierNat, LinkLocal, Loopback, Metadata, Multicast, Private, Reserved, Unspecified,
    };
    let cases: &[(&str, Option<Kind>)] = &[
        ("0.0.0.0", Some(Unspecified)),
        ("0.255.255.255", Some(Unspecified)),
        ("1.0.0.0", None),
        ("9.255.255.255", None),
        ("10.0.0.0", Some(Private)),
        ("10.255.255.255", Some(Private)),
        ("11.0.0.0", None),
        ("100.63.255.255", None),
        ("100.64.0.0", Some(CarrierNat)),
        ("100.100.100.200", Some(Metadata)),
        ("100.127.255.255", Some(CarrierNat)),
        ("100.128.0.0", None),
        ("126.255.255.255", None),
        ("127.0.0.1", Some(Loopback)),
        ("127.255.255.255", Some(Loopback)),
        ("128.0.0.0", None),
        ("168.63.129.16", Some(Metadata)),
        ("168.63.129.15", None),
        ("169.253.255.255", None),
        ("169.254.0.0", Some(LinkLocal)),
        ("169.254.169.254", Some(Metadata)),
        ("169.254.170.2", Some(Metadata)),
        ("169.254.170.23", Some(Metadata)),
        ("169.255.0.0", None),
        ("172.15.255.255", None),
        ("172.16.0.0", Some(Private)),
        ("172.31.255.255", Some(Private)),
        ("172.32.0.0", None),
        ("192.0.0.1", Some(Reserved)),
        ("192.0.0.192", Some(Metadata)),
        ("192.0.1.0", None),
        ("192.167.255.255", None),
        ("192.168.0.0", Some(Private)),
        ("192.168.255.255", Some(Private)),
        ("192.169.0.0", None),
        ("198.17.255.255", None),
        ("198.18.0.0", Some(Benchmark)),
        ("198.19.255.255", Some(Benchmark)),
        ("198.20.0.0", None),
        ("223.255.255.255", None),
        ("224.0.0.1", Some(Multicast)),
        ("239.255.255.255", Some(Multicast)),
        ("240.0.0.0", Some(Reserved)),
        ("255.255.255.254", Some(Reserved)),
        ("255.255.255.255", Some(Broadcast)),
        // Documentation: machines use them, and no neighbour answers there.
        ("192.0.2.1", None),
        ("198.51.100.1", None),
        ("203.0.113.1", None),
        ("2001:db8::1", None),
        ("::", Some(Unspecified)),
        ("::1", Some(Loopback)),
        ("::2", Some(Reserved)),
        // IPv4 in the last 32 bits, without a prefix.
        ("::7f00:1", Some(Reserved)),
        ("::ffff:8.8.8.8", None),
        ("::ffff:127.0.0.1", Some(Loopback)),
        ("::ffff:169.254.169.254", Some(Metadata)),
        ("64:ff9b::808:808", None),
        ("64:ff9b::7f00:1", Some(Loopback)),
        ("64:ff9b::a9fe:a9fe", Some(Metadata)),
        ("64:ff9b:1::808:808", Some(Reserved)),
        ("100::1", Some(Reserved)),
        ("2001::f7f7:f7f7", Some(Unspecified)),
        ("2001:0:808:808::f7f7:f7f7", None),
        ("2001:0:a00:1::f7f7:f7f7", Some(Private)),
        ("2001:0:808:808::80ff:fffe", Some(Loopback)),
        ("2001:2::1", Some(Benchmark)),
        ("2001:10::1", Some(Reserved)),
        ("2001:20::1", Some(Reserved)),
        ("2001:4860:4860::8888", None),
        ("2002:808:808::1", None),
        ("2002:7f00:1::1", Some(Loopback)),
        ("2002:c0a8:101::1", Some(Private)),
        ("2a00:1450::5efe:10.0.0.1", Some(Private)),
        ("2a00:1450::200:5efe:10.0.0.1", Some(Private)),
        ("2a00:1450::200:5efe:8.8.8.8", None),
        ("3fff::1", None),
        ("4000::1", Some(Reserved)),
        ("5f00::1", Some(Reserved)),
        ("8000::1", Some(Reserved)),
        ("fbff::1", Some(Reserved)),
        ("fc00::1", Some(Private)),
        ("fd00:ec2::254", Some(Metadata)),
        ("fd00:ec2::23", Some(Metadata)),
        ("fd20:ce::254", Some(Metadata)),
        ("fdff:ffff::1", Some(Private)),
        ("fe80::1", Some(LinkLocal)),
        ("fec0::1", Some(Private)),
        ("ff02::1", Some(Multicast)),
    ];
    for (text, expected) in cases {
        assert_eq!(classify(ip(text), &[]).map(|range| range.kind), *expected, "{text}");
    }
}

#[test]
fn ranges_of_the_policy_open_what_they_cover() {
    let judged = |address: &str, ranges: &[&str]| {
        let ranges = nets(ranges);
        judge(ip(address), &[], Consent { ranges: &ranges, literal: &[] }).is_ok()
    };
    assert!(judged("8.8.8.8", &[]));
    assert!(!judged("10.1.2.3", &[]));
    assert!(!judged("10.1.2.3", &["10.1.3.0/24"]));
    assert!(judged("10.1.2.3", &["10.1.2.0/24"]));
    assert!(judged("::ffff:10.1.2.3", &["10.1.2.0/24"]));
    assert!(judged("64:ff9b::10.1.2.3", &["10.1.2.0/24"]));
    assert!(judged("127.0.0.1", &["0.0.0.0/0"]));
    assert!(!judged("::1", &["0.0.0.0/0"]));
}

#[test]
fn metadata_addresses_want_to_be_named() {
    let judged = |ranges: &[&str]| {
        let ranges = nets(ranges);
        judge(ip("169.254.169.254"), &[], Consent { ranges: &ranges, literal: &ranges }).is_ok()
    };
    assert!(!judged(&["0.0.0.0/0"]));
    assert!(!judged(&["169.254.0.0/16"]));
    assert!(judged(&["169.254.169.254/32"]));
}

#[test]
fn a_rule_for_a_literal_consents_to_the_range_it_lies_in() {
    let judged = |address: &str, rules: &[&str]| {
        let literal = nets(rules);
        judge(ip(address), &[], Consent { ranges: &[], literal: &literal }).is_ok()
    };
    assert!(judged("10.1.2.3", &["10.0.0.0/8"]));
    assert!(judged("10.1.2.3", &["10.1.2.3/32"]));
    assert!(!judged("10.1.2.3", &["0.0.0.0/0"]));
    assert!(!judged("127.0.0.1", &["0.0.0.0/0", "10.0.0.0/8"]));
    assert!(judged("fe80::1", &["fe80::/64"]));
    assert!(!judged("::1", &["::/0"]));
}

#[test]
fn what_would_allow_it_does() {
    for address in ["10.0.0.1", "127.0.0.1", "169.254.169.254", "64:ff9b::7f00:1", "fd00::1", "2002:a00:1::1", "::1"] {
        let address = ip(address);
        let range = judge(address, &[], Consent::default()).unwrap_err();
        let ranges = [range.would_allow(address)];
        assert_eq!(judge(address, &[], Consent { ranges: &ranges, literal: &[] }), Ok(()), "{address}");
    }
}

#[test]
fn what_is_this_machines_wants_to_be_named_whatever_else_it_is() {
    let own = nets(&["203.0.113.5/32", "2001:db8::5/128", "10.1.2.3/32", "127.0.0.0/8", "198.51.100.0/24"]);
    let kind = |address: &str| classify(ip(address), &own).map(|range| range.kind);
    for address in
        ["203.0.113.5", "2001:db8::5", "10.1.2.3", "198.51.100.77", "64:ff9b::203.0.113.5", "::ffff:10.1.2.3"]
    {
        assert_eq!(kind(address), Some(Kind::Machine), "{address}");
    }
    assert_eq!(kind("203.0.113.6"), None);
    assert_eq!(kind("2001:db8::6"), None);
    assert_eq!(kind("10.1.2.4"), Some(Kind::Private));
    assert_eq!(kind("127.0.0.1"), Some(Kind::Loopback));
    let judged = |address: &str, ranges: &[&str], rules: &[&str]| {
        judge(ip(address), &own, Consent { ranges: &nets(ranges), literal: &nets(rules) }).is_ok()
    };
    assert!(judged("203.0.113.6", &[], &[]));
    assert!(!judged("203.0.113.5", &[], &[]));
    // Who opens a network means others in it.
    assert!(!judged("203.0.113.5", &["203.0.113.0/24"], &["0.0.0.0/0"]));
    assert!(!judged("10.1.2.3", &["10.0.0.0/8"], &["10.0.0.0/8"]));
    assert!(judged("10.1.2.4", &["10.0.0.0/8"], &[]));
    assert!(judged("203.0.113.5", &["203.0.113.5/32"], &[]));
    assert!(judged("203.0.113.5", &[], &["203.0.113.5/32"]));
    assert!(judged("64:ff9b::203.0.113.5", &["203.0.113.5/32"], &[]));
    let range = classify(ip("203.0.113.5"), &own).unwrap();
    assert_eq!(range.to_string(), "an address of this machine (203.0.113.5/32)");
    assert_eq!(range.would_allow(ip("203.0.113.5")).to_string(), "203.0.113.5/32");
}
