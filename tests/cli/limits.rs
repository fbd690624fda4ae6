//! What the documentation says of limits is what is in force.

use egress::limits::Limits;

#[test]
fn the_documentation_has_the_limits_that_are_in_force() {
    let security = include_str!("../../docs/SECURITY.md");
    let (default, most) = (Limits::default(), Limits::within(65_536));
    assert_eq!(most, Limits { connections_of_all: most.connections_of_all, ..default.clone() });
    let number = |number: u64| {
        let text = number.to_string();
        // No limit has more digits.
        match text.len() {
            0..=3 => text,
            length => format!("{},{}", &text[..length - 3], &text[length - 3..]),
        }
    };
    let count = |count: usize| number(count as u64);
    let rate = |rate: Option<u32>| number(u64::from(rate.expect("there is a bound")));
    let rows = [
        (
            "TCP connections at once, those to servers of requests included, with 65,536 descriptors or more",
            count(most.connections),
        ),
        ("TCP connections at once that are not established yet", count(default.opening)),
        ("clients of the proxy at once, at its port or its socket", count(default.proxy_clients)),
        ("new TCP connections in a second", rate(default.connection_rate)),
        ("seconds for a client to show what it speaks", number(default.handshake.as_secs())),
        ("questions of DNS in a second", rate(default.dns_rate)),
        ("of those, in a second, that were not answered lately", rate(default.dns_new)),
        ("TCP connections to the resolver at once", count(default.dns_clients)),
        ("questions of DNS at once that are looked up, with `mode: direct`", count(default.lookups)),
        ("names at once because patterns allow them", count(default.pattern_names)),
        ("ports for datagrams of all rules, but with `mode: direct`", count(default.udp_ports)),
        ("flows of datagrams at once", count(default.udp_flows)),
        ("new flows of datagrams in a second", rate(default.connection_rate)),
        (
            "records a minute of refusals that cost nothing, of names and of the rest each",
            rate(Some(default.refusal_records)),
        ),
    ];
    for (what, limit) in rows {
        let row = format!("| {what} | {limit} |\n");
        assert!(security.contains(&row), "docs/SECURITY.md lacks the row {row}");
    }
}
