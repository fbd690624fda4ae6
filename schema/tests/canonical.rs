//! One canonical form of hosts, URLs and paths: spellings that mean the same become the same, what is ambiguous is refused.

use proptest::prelude::*;
use schema::policy::{DnsName, Host, HostError, HostPattern, PathError, PathPattern, RequestPath, Target, TargetError};

#[path = "canonical/paths.rs"]
mod paths;

fn host(text: &str) -> Result<String, HostError> {
    text.parse::<Host>().map(|host| host.to_string())
}

#[test]
fn spellings_of_a_host_become_one() {
    let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
    assert_eq!(long.len(), 253);
    let cases = [
        ("example.org", "example.org"),
        ("EXAMPLE.Org", "example.org"),
        ("example.org.", "example.org"),
        ("localhost", "localhost"),
        ("a", "a"),
        ("_dmarc.example.org", "_dmarc.example.org"),
        ("3com.com", "3com.com"),
        ("1.2.3.4.example", "1.2.3.4.example"),
        ("0x7f.example", "0x7f.example"),
        // IDN: composed and decomposed, upper case, as A-labels.
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("bu\u{308}cher.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.EXAMPLE.", "xn--bcher-kva.example"),
        ("faß.de", "xn--fa-hia.de"),
        ("例え.jp", "xn--r8jz45g.jp"),
        // Full-width letters are letters, as in every browser.
        ("ｅxample.org", "example.org"),
        // Lookalikes are other names: a Cyrillic а.
        ("аpple.com", "xn--pple-43d.com"),
        // Addresses.
        ("192.0.2.7", "192.0.2.7"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("[2001:0db8::0001]", "2001:db8::1"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("[::ffff:c000:207]", "192.0.2.7"),
        ("0:0:0:0:0:ffff:192.0.2.7", "192.0.2.7"),
    ];
    for (text, canonical) in cases {
        assert_eq!(host(text).as_deref(), Ok(canonical), "{text:?}");
    }
    assert_eq!(host(&long).as_deref(), Ok(&*long));
    assert_eq!(host(&format!("{long}.")).as_deref(), Ok(&*long));
}

#[test]
fn what_is_no_host_is_refused() {
    let cases = [
        "",
        ".",
        "..",
        "a..b",
        ".a",
        "a..",
        "-a.org",
        "a-.org",
        "a b",
        "a\tb",
        "a\0b",
        "a\0",
        "a\n",
        "a%2eb",
        "example%2Eorg",
        "a/b",
        "a\\b",
        "a:80",
        "user@a",
        "a@b",
        "a?b",
        "a#b",
        "a;b",
        "a,b",
        "a*b",
        "*",
        "*.a",
        "a!",
        "(a)",
        "a\u{7f}",
        // Addresses in every form but the usual one.
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.01",
        "127.0.0.256",
        "1.2.3",
        "1.2.3.4.5",
        "1.2.3.4.",
        "0x",
        "a.0x",
        "a.1",
        "999",
        "１２７.0.0.1",
        "①.①.①.①",
        // IPv6.
        "[::1",
        "::1]",
        "[]",
        "[1.2.3.4]",
        "[example.org]",
        "[[::1]]",
        "fe80::1%eth0",
        "[fe80::1%25eth0]",
        "[fe80::1%eth0]",
        ":::",
        "1:2:3",
        "::1.",
        "[::1].",
        // Separators in disguise, and characters that hide.
        "example。org",
        "example．org",
        "example｡org",
        "a／b",
        "a℀b",
        "a＠b",
        "a：80",
        "a％2e",
        "\u{202e}gro.elpmaxe",
        "xn--",
        "ex\u{200b}ample\u{2028}.org",
    ];
    for text in cases {
        assert!(host(text).is_err(), "{text:?} is {:?}", host(text));
    }
    let too_long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(62)].join(".");
    assert_eq!(host(&too_long), Err(HostError::TooLong));
    assert_eq!(host(&"a".repeat(64)), Err(HostError::TooLong));
    assert!(host(&"ü".repeat(64)).is_err());
}

#[test]
fn patterns_have_one_form_too() {
    let good = [
        ("**", "**"),
        ("*.Example.ORG.", "*.example.org"),
        ("**.bücher.example", "**.xn--bcher-kva.example"),
        ("*.org", "*.org"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.7/32", "192.0.2.7"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("::/0", "::/0"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("[::1]", "::1"),
        ("::1/128", "::1"),
        // Addresses are compared after unmapping, so that networks have to be unmapped too.
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
    ];
    for (text, canonical) in good {
        assert_eq!(text.parse::<HostPattern>().map(|host| host.to_string()).as_deref(), Ok(canonical), "{text}");
    }
    let bad = [
        "*",
        "***",
        "*.",
        "**.",
        "a.*",
        "a.*.org",
        "*a.org",
        "*.*.org",
        "**.*.org",
        "*.**.org",
        "*.1.2.3.4",
        "*.[::1]",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "10.0.0.0/08",
        "10.0.0.0/+8",
        "0x0a.0.0.0/8",
        "010.0.0.0/8",
        "10.0/8",
        "example.org/8",
        "10.0.0.0/",
        "/8",
        "10.0.0.0/8/8",
        "",
        "https://a.org",
        "a:443",
    ];
    for text in bad {
        assert!(text.parse::<HostPattern>().is_err(), "{text}");
    }
    assert_eq!("a*.org".parse::<HostPattern>(), Err(HostError::Star));
    assert_eq!(
        "10.1.2.3/8".parse::<HostPattern>(),
        Err(HostError::NetworkBits { written: String::from("10.1.2.3/8"), meant: String::from("10.0.0.0/8") })
    );
}

#[test]
fn urls_become_targets() {
    let cases = [
        ("https://example.org", "https://example.org/"),
        ("HTTPS://EXAMPLE.ORG.:443/a/../b?c#d", "https://example.org/b"),
        ("https://example.org:8443", "https://example.org:8443/"),
        ("https://example.org:0443/", "https://example.org/"),
        ("https://example.org:/", "https://example.org/"),
        ("http://example.org:443", "http://example.org:443/"),
        ("http://example.org?x", "http://example.org/"),
        ("http://example.org#x/../..", "http://example.org/"),
        ("wss://example.org/socket", "wss://example.org/socket"),
        ("https://bücher.example/é", "https://xn--bcher-kva.example/%C3%A9"),
        ("https://[2001:db8::1]:8443/", "https://[2001:db8::1]:8443/"),
        ("https://[::ffff:192.0.2.7]/", "https://192.0.2.7/"),
        ("ssh://github.com", "ssh://github.com"),
        ("ssh://github.com:22/acme/api.git", "ssh://github.com"),
        ("tcp://db.example.org:5432", "tcp://db.example.org:5432"),
        ("postgres://db.example.org/name", "postgres://db.example.org"),
        ("udp://ntp.example.org:123", "udp://ntp.example.org:123"),
    ];
    for (text, canonical) in cases {
        assert_eq!(Target::parse(text).map(|target| target.to_string()).as_deref(), Ok(canonical), "{text}");
    }
}

#[test]
fn urls_that_are_ambiguous_are_refused() {
    use TargetError::{Brackets, Port, Scheme, UserInfo};
    let cases = [
        ("example.org", Scheme),
        ("", Scheme),
        ("://example.org", Scheme),
        ("ht tp://example.org", Scheme),
        ("https:/example.org", Scheme),
        ("https://user@example.org", UserInfo),
        ("https://user:word@example.org/", UserInfo),
        ("https://@example.org/", UserInfo),
        ("https://allowed.org@evil.org/", UserInfo),
        ("https://allowed.org\\@evil.org/", UserInfo),
        ("ssh://git@github.com", UserInfo),
        ("https://example.org:0/", Port),
        ("https://example.org:65536/", Port),
        ("https://example.org:+443/", Port),
        ("https://example.org: 443/", Port),
        ("https://example.org:443:443/", Brackets),
        ("https://example.org:x/", Port),
        ("tcp://example.org", Port),
        ("udp://example.org", Port),
        ("http://::1/", Brackets),
        ("http://2001:db8::1:80/", Brackets),
    ];
    for (text, error) in cases {
        assert_eq!(Target::parse(text), Err(error), "{text}");
    }
    for text in [
        "https:///",
        "https://:443/",
        "https://a%2eb/",
        "https://a b/",
        "https://127.1/",
        "https://[::1%25lo]/",
        "https://[::1]x/",
    ] {
        assert!(matches!(Target::parse(text), Err(TargetError::Host(_))), "{text}: {:?}", Target::parse(text));
    }
}

/// Text near to hosts, URLs and paths.
fn pieces() -> impl Strategy<Value = String> {
    let pieces = vec![
        "a",
        "Z",
        "0",
        "9",
        ".",
        ".",
        "-",
        "_",
        "/",
        "/",
        "*",
        "**",
        "%2e",
        "%2F",
        "%5c",
        "%25",
        "%C3%A9",
        "%c0%af",
        "%2a",
        "%00",
        "é",
        "ü",
        "u\u{308}",
        "。",
        ":",
        "[",
        "]",
        "::1",
        "@",
        "?",
        "#",
        ";",
        "\\",
        "..",
        "http://",
        "ssh://",
        "127",
        "0x",
        "xn--",
        "ß",
        "\0",
        " ",
        ".org",
        "10.0.0.0/8",
        "ffff:",
        "４",
    ];
    proptest::collection::vec(prop::sample::select(pieces), 0..9).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn what_is_printed_reads_back_as_the_same(text in prop_oneof![pieces(), ".{0,20}"]) {
        if let Ok(host) = text.parse::<Host>() {
            prop_assert_eq!(host.to_string().parse::<Host>(), Ok(host));
        }
        if let Ok(pattern) = text.parse::<HostPattern>() {
            prop_assert_eq!(pattern.to_string().parse::<HostPattern>(), Ok(pattern));
        }
        for path in [text.clone(), format!("/{text}")] {
            if let Ok(path) = RequestPath::parse(&path) {
                prop_assert_eq!(RequestPath::parse(path.as_str()), Ok(path));
            }
            if let Ok(pattern) = path.parse::<PathPattern>() {
                prop_assert_eq!(pattern.to_string().parse::<PathPattern>(), Ok(pattern));
            }
        }
        for url in [text.clone(), format!("https://{text}"), format!("https://example.org/{text}")] {
            if let Ok(target) = Target::parse(&url) {
                prop_assert_eq!(Target::parse(&target.to_string()), Ok(target));
            }
        }
    }

    #[test]
    fn names_are_made_of_what_dns_has(text in prop_oneof![pieces(), "\\PC{0,20}"]) {
        if let Ok(name) = text.parse::<DnsName>() {
            prop_assert!(name.as_str().len() <= 253);
            for label in name.labels() {
                prop_assert!((1..=63).contains(&label.len()));
                prop_assert!(label.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_')));
            }
            prop_assert!(name.as_str().parse::<std::net::IpAddr>().is_err());
        }
    }

    #[test]
    fn case_and_a_last_dot_make_no_difference(name in "[a-z][a-z0-9]{0,5}(\\.[a-z][a-z0-9]{0,5}){0,3}", flips in any::<u64>()) {
        let spelled: String = name
            .chars()
            .enumerate()
            .map(|(index, c)| if flips >> (index % 64) & 1 == 1 { c.to_ascii_uppercase() } else { c })
            .collect();
        prop_assert_eq!(spelled.parse::<DnsName>(), name.parse::<DnsName>());
        prop_assert_eq!(format!("{spelled}.").parse::<DnsName>(), name.parse::<DnsName>());
    }

    /// The canonical path is what is sent on: nothing in it is left for a server to resolve.
    #[test]
    fn canonical_paths_have_no_dot_segments(text in pieces()) {
        if let Ok(path) = RequestPath::parse(&format!("/{text}")) {
            let path = path.as_str();
            prop_assert!(path.starts_with('/') && !path.contains("//") && !path.contains('\\'));
            prop_assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
        }
    }
}
