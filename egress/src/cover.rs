//! Sets of hosts, ports and paths: what patterns have in common, and which lie within which.

use schema::policy::{DnsName, HostPattern, PathPattern, PortRange};

/// The hosts that match both patterns, as one pattern; `None` when there are none.
pub(crate) fn common(one: &HostPattern, other: &HostPattern) -> Option<HostPattern> {
    // Patterns nest or are apart: there is no third way for two of them to meet.
    if covers(one, other) { Some(other.clone()) } else { covers(other, one).then(|| one.clone()) }
}

/// Whether every host that matches `inner` matches `outer`.
pub(crate) fn covers(outer: &HostPattern, inner: &HostPattern) -> bool {
    use HostPattern::{Any, AnyDepth, Exact, Network, OneLabel};
    match (outer, inner) {
        (Network(outer), Network(inner)) => outer.contains(inner),
        (Any, inner) => !matches!(inner, Network(_)),
        (Exact(outer), Exact(inner)) | (OneLabel(outer), OneLabel(inner)) => outer == inner,
        (OneLabel(suffix), Exact(name)) => {
            name.as_str().split_once('.').is_some_and(|(_, rest)| rest == suffix.as_str())
        }
        (AnyDepth(suffix), Exact(name)) => is_below(name, suffix),
        // What stands for labels before `inner` stands for labels before every end of it.
        (AnyDepth(outer), OneLabel(inner) | AnyDepth(inner)) => outer == inner || is_below(inner, outer),
        _ => false,
    }
}

/// Whether `name` is one or more labels and `suffix`.
fn is_below(name: &DnsName, suffix: &DnsName) -> bool {
    name.as_str().strip_suffix(suffix.as_str()).is_some_and(|rest| rest.ends_with('.'))
}

/// Whether every port of `inner` is one of `outer`; both sorted.
pub(crate) fn covers_ports(outer: &[PortRange], inner: &[PortRange]) -> bool {
    inner.iter().all(|range| {
        let mut next = u32::from(range.first);
        for other in outer {
            if u32::from(other.first) <= next && next <= u32::from(other.last) {
                next = u32::from(other.last) + 1;
            }
        }
        next > u32::from(range.last)
    })
}

/// The ports of both, range by range.
pub(crate) fn common_ports<'a>(one: &'a [PortRange], other: &'a [PortRange]) -> impl Iterator<Item = PortRange> + 'a {
    let pairs = one.iter().flat_map(|one| other.iter().map(move |other| (one, other)));
    pairs
        .map(|(one, other)| PortRange { first: one.first.max(other.first), last: one.last.min(other.last) })
        .filter(|range| range.first <= range.last)
}

/// Whether every path that matches `inner` surely matches `outer`. `false` where that is hard to tell.
pub(crate) fn covers_path(outer: &PathPattern, inner: &PathPattern) -> bool {
    let (outer, inner) = (outer.as_str(), inner.as_str());
    if outer == inner {
        return true;
    }
    // `/a/**` covers whatever begins with `/a/`.
    if let Some(start) = outer.strip_suffix("**") {
        return !start.contains('*') && inner.starts_with(start);
    }
    // `/a/*` covers `/a/b` and `/a/b*`.
    outer.strip_suffix('*').is_some_and(|start| {
        !start.contains('*')
            && inner.strip_prefix(start).is_some_and(|rest| !rest.contains('/') && !rest.contains("**"))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use schema::policy::Host;

    use super::*;

    const PATTERNS: &[&str] = &[
        "**",
        "org",
        "*.org",
        "**.org",
        "a.org",
        "*.a.org",
        "**.a.org",
        "b.a.org",
        "**.b.a.org",
        "xa.org",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.2.3",
        "0.0.0.0/0",
        "::/0",
    ];
    const HOSTS: &[&str] = &[
        "org",
        "a.org",
        "xa.org",
        "b.a.org",
        "z.a.org",
        "c.b.a.org",
        "d.c.b.a.org",
        "com",
        "10.1.2.3",
        "10.1.2.4",
        "10.2.0.0",
        "11.0.0.0",
        "::1",
    ];

    /// What the evaluator says of one host.
    fn matches(pattern: &HostPattern, host: &str) -> bool {
        match host.parse().expect(host) {
            Host::Name(name) => covers(pattern, &HostPattern::Exact(name)),
            Host::Address(address) => covers(pattern, &HostPattern::Network(address.into())),
        }
    }

    #[test]
    fn what_patterns_have_in_common_is_what_matches_both() {
        for one in PATTERNS {
            for other in PATTERNS {
                let (one, other): (HostPattern, HostPattern) = (one.parse().expect(one), other.parse().expect(other));
                let common = common(&one, &other);
                for host in HOSTS {
                    let both = matches(&one, host) && matches(&other, host);
                    assert_eq!(
                        common.as_ref().is_some_and(|common| matches(common, host)),
                        both,
                        "{one} {other} {host}"
                    );
                }
                // The hosts above tell any two patterns apart.
                let all = HOSTS.iter().all(|host| matches(&one, host) || !matches(&other, host));
                assert_eq!(covers(&one, &other), all, "{one} covers {other}");
            }
        }
    }

    fn ranges() -> impl Strategy<Value = Vec<PortRange>> {
        proptest::collection::vec(0_u16..20, 2..7).prop_map(|mut ends| {
            ends.sort_unstable();
            ends.dedup();
            ends.chunks_exact(2).map(|ends| PortRange { first: ends[0], last: ends[1] }).collect()
        })
    }

    proptest! {
        #[test]
        fn ports_are_compared_one_by_one(one in ranges(), other in ranges()) {
            let has = |ranges: &[PortRange], port| ranges.iter().any(|range| range.contains(port));
            prop_assert_eq!(covers_ports(&one, &other), (0..20).all(|port| has(&one, port) || !has(&other, port)));
            let common: Vec<PortRange> = common_ports(&one, &other).collect();
            prop_assert!((0..20).all(|port| has(&common, port) == (has(&one, port) && has(&other, port))));
        }

        #[test]
        fn a_covered_path_is_matched_by_the_cover(
            outer in prop::sample::select(vec!["/**", "/*", "/a/**", "/a/*", "/a*", "/a**", "/*/b", "/a/b", "/**/b"]),
            inner in prop::sample::select(vec!["/**", "/*", "/a/**", "/a/*", "/a*", "/a**", "/*/b", "/a/b", "/**/b", "/", "/ab"]),
            text in "/[ab/]{0,6}",
        ) {
            let (outer, inner): (PathPattern, PathPattern) = (outer.parse().expect(outer), inner.parse().expect(inner));
            if covers_path(&outer, &inner) && crate::compiled::matches_path(&inner, &text) {
                prop_assert!(crate::compiled::matches_path(&outer, &text), "{} {}", outer, inner);
            }
        }
    }
}
