//! The table of a sandbox on the engine's network that may reach what our resolver has let it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::attach::{DNS_PORT, Opening, Port};

/// Sets whose entries live as long as an answer is good, with their types.
const SETS: [(&str, &str); 4] = [
    ("open4", "ipv4_addr . inet_proto . inet_service"),
    ("open6", "ipv6_addr . inet_proto . inet_service"),
    ("hosts4", "ipv4_addr"),
    ("hosts6", "ipv6_addr"),
];

/// Chains, each with what it hooks into.
const CHAINS: [(&str, &str); 4] = [
    ("to_us", "type nat hook output priority -100; policy accept;"),
    ("output", "type filter hook output priority 0; policy drop;"),
    ("input", "type filter hook input priority 0; policy drop;"),
    ("forward", "type filter hook forward priority 0; policy drop;"),
];

/// The table. Entries of its sets stay where it is there already: answers that were given remain good.
///
/// Only DNS comes to us. Everything else goes where it wants if an answer of ours named the address: each packet is held
/// against the sets, whenever its flow began, and a flow ends with its entry. What comes in is an answer to that, or
/// comes from a peer.
pub fn direct(peers: &BTreeSet<IpAddr>) -> String {
    let mut text = String::from("add table inet sbx\n");
    for (name, kind) in [("peers4", "ipv4_addr"), ("peers6", "ipv6_addr")] {
        text.push_str(&format!("add set inet sbx {name} {{ type {kind}; }}\n"));
    }
    for (name, kind) in SETS {
        text.push_str(&format!("add set inet sbx {name} {{ type {kind}; flags timeout; }}\n"));
    }
    for (name, hook) in CHAINS {
        text.push_str(&format!("add chain inet sbx {name} {{ {hook} }}\nflush chain inet sbx {name}\n"));
    }
    text.push_str(&super::peers(peers));
    text.push_str(&format!(
        "\
table inet sbx {{
  chain to_us {{
    ip daddr 127.0.0.0/8 return
    ip6 daddr ::1 return
    ip daddr @peers4 return
    ip6 daddr @peers6 return
    meta l4proto {{ tcp, udp }} th dport 53 redirect to :{DNS_PORT}
  }}
  chain output {{
    ip daddr 127.0.0.0/8 accept
    ip6 daddr ::1 accept
    fib daddr type local accept
    ip daddr @peers4 meta l4proto {{ tcp, udp }} accept
    ip6 daddr @peers6 meta l4proto {{ tcp, udp }} accept
    ip daddr . meta l4proto . th dport @open4 accept
    ip6 daddr . meta l4proto . th dport @open6 accept
    ip daddr @hosts4 meta l4proto {{ tcp, udp }} accept
    ip6 daddr @hosts6 meta l4proto {{ tcp, udp }} accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} ip6 hoplimit 255 accept
    meta l4proto tcp reject with tcp reset
    reject with icmpx admin-prohibited
  }}
  chain input {{
    iifname lo accept
    ip saddr @peers4 meta l4proto {{ tcp, udp }} accept
    ip6 saddr @peers6 meta l4proto {{ tcp, udp }} accept
    ct state established ip saddr . meta l4proto . th sport @open4 accept
    ct state established ip6 saddr . meta l4proto . th sport @open6 accept
    ct state established ip saddr @hosts4 accept
    ct state established ip6 saddr @hosts6 accept
    ct state related meta l4proto {{ icmp, icmpv6 }} accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} ip6 hoplimit 255 accept
  }}
}}
"
    ));
    text
}

/// Adds entries, or begins their time anew: an entry that is there goes and comes within the transaction, since nft has
/// no other way to say that.
pub fn openings(openings: &[Opening]) -> String {
    let mut entries: BTreeMap<(&str, String), Duration> = BTreeMap::new();
    for Opening { address, port, lifetime } in openings {
        let v4 = address.is_ipv4();
        let entry = match port {
            Some(Port { udp, number }) => {
                let set = if v4 { "open4" } else { "open6" };
                (set, format!("{address} . {} . {number}", if *udp { "udp" } else { "tcp" }))
            }
            None => (if v4 { "hosts4" } else { "hosts6" }, address.to_string()),
        };
        let longest = entries.entry(entry).or_default();
        *longest = (*longest).max(*lifetime);
    }
    let mut text = String::new();
    for ((set, key), lifetime) in entries {
        let seconds = lifetime.as_secs().max(1);
        text.push_str(&format!("add element inet sbx {set} {{ {key} }}\n"));
        text.push_str(&format!("delete element inet sbx {set} {{ {key} }}\n"));
        text.push_str(&format!("add element inet sbx {set} {{ {key} timeout {seconds}s }}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules() {
        let peers = ["10.89.1.2"].map(|text| text.parse().expect("an address"));
        insta::assert_snapshot!(direct(&BTreeSet::from(peers)));
    }

    #[test]
    fn the_longest_of_two_lives_counts() {
        let opening = |address: &str, port, seconds| Opening {
            address: address.parse().expect("an address"),
            port,
            lifetime: Duration::from_secs(seconds),
        };
        let https = Some(Port { udp: false, number: 443 });
        let of = [
            opening("192.0.2.1", https, 30),
            opening("192.0.2.1", https, 60),
            opening("192.0.2.1", https, 10),
            opening("192.0.2.1", Some(Port { udp: true, number: 443 }), 0),
            opening("2001:db8::1", None, 5),
        ];
        insta::assert_snapshot!(openings(&of));
        assert_eq!(openings(&[]), "");
    }
}
