//! The table of a sandbox on the engine's network that may reach what our resolver has let it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use schema::policy::PortRange;
use serde::Deserialize;

use super::{IN_PLACE, peers};
use crate::attach::{DNS_PORT, Standing};
use crate::direct::openings::{Ports, Run};
use crate::networks::Networks;

/// The chain by which a table is known to be of this kind.
const MARK: &str = "opened";

/// Addresses that stand for IPv4 ones by their second half are in no network; the judge has looked at those of names.
const ISATAP: &str = "ip6 daddr & ::fdff:ffff:0:0 == ::5efe:0:0 return";

/// Longest name that an entry can carry; the kernel's own bound is a little above.
const LONGEST: usize = 120;

/// Hosts that are open at the same ports.
#[derive(Debug, Clone, Copy)]
pub struct Group<'a> {
    /// The ports.
    pub ports: &'a Ports,
    /// Addresses that are open whatever names mean.
    pub networks: &'a [Run],
    /// Addresses that names mean.
    pub entries: &'a [Entry],
}

/// An address that is open for a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The address.
    pub address: IpAddr,
    /// The name that it was given out for.
    pub name: String,
    /// How long from now. Whole seconds, at least one.
    pub lifetime: Duration,
}

/// The table; whatever is there of that name goes in the same transaction.
///
/// Only DNS comes to us. Everything else goes where it wants if an answer of ours named the address: each packet is held
/// against the sets, whenever its flow began, so that a flow ends with its entry. What comes in is an answer to that, or
/// comes from a peer: those are asked about first, since rules may name their addresses too.
pub fn direct(networks: &Networks, groups: &[Group<'_>]) -> String {
    let (of_peers, chains, out, come_in) = (peers::sets(networks), peers::CHAINS, peers::OUT, peers::IN);
    let sets: String = groups.iter().enumerate().map(|(index, group)| sets_of(index, group)).collect();
    let rules = |of: &str, end: char| -> String {
        let rule = |index: usize, family: &str, kind: u8| {
            format!("    {family} {end}addr @{of}{kind}_{index} meta l4proto . th {end}port @ports_{index} accept\n")
        };
        (0..groups.len()).flat_map(|index| [rule(index, "ip", 4), rule(index, "ip6", 6)]).collect()
    };
    let (opened, networks) = (rules("open", 'd'), rules("nets", 'd'));
    let answers = rules("open", 's') + &rules("nets", 's');
    super::as_tested(format!(
        "\
{IN_PLACE}table inet sbx {{
{of_peers}{sets}  chain to_us {{
    type nat hook output priority -100; policy accept;
    ip daddr 127.0.0.0/8 return
    ip6 daddr ::1 return
    ip daddr @peers4 return
    ip6 daddr @peers6 return
    meta l4proto {{ tcp, udp }} th dport 53 redirect to :{DNS_PORT}
  }}
  chain {MARK} {{
{opened}    {ISATAP}
{networks}  }}
  chain answers {{
{answers}  }}
{chains}  chain output {{
    type filter hook output priority 0; policy drop;
    ip daddr 127.0.0.0/8 accept
    ip6 daddr ::1 accept
    fib daddr type local accept
{out}    jump {MARK}
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} ip6 hoplimit 255 accept
    meta l4proto tcp reject with tcp reset
    reject with icmpx admin-prohibited
  }}
  chain input {{
    type filter hook input priority 0; policy drop;
    iifname lo accept
{come_in}    ct state established jump answers
    ct state related meta l4proto {{ icmp, icmpv6 }} accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} ip6 hoplimit 255 accept
  }}
  chain forward {{
    type filter hook forward priority 0; policy drop;
  }}
}}
"
    ))
}

/// The sets of one group: its ports, its networks, and what names mean, which has its time.
fn sets_of(index: usize, group: &Group<'_>) -> String {
    let Group { ports, networks, entries } = *group;
    let transports = [("tcp", &ports.tcp), ("udp", &ports.udp)];
    let range = |transport: &str, range: &PortRange| format!("{transport} . {range}");
    let ports: Vec<String> =
        transports.iter().flat_map(|(name, ranges)| ranges.iter().map(|it| range(name, it))).collect();
    let mut text = format!(
        "  set ports_{index} {{ type inet_proto . inet_service; flags interval; elements = {{ {} }}; }}\n",
        ports.join(", ")
    );
    let merged = merged(entries);
    for (kind, v4) in [(4, true), (6, false)] {
        let run = |(first, last): &Run| if first == last { first.to_string() } else { format!("{first}-{last}") };
        let runs: Vec<String> = networks.iter().filter(|(first, _)| first.is_ipv4() == v4).map(run).collect();
        let open: Vec<String> =
            merged.values().filter(|entry| entry.address.is_ipv4() == v4).map(|entry| element(entry)).collect();
        for (name, flag, elements) in [("nets", "interval", runs), ("open", "timeout", open)] {
            let elements =
                if elements.is_empty() { String::new() } else { format!(" elements = {{ {} }};", elements.join(", ")) };
            text.push_str(&format!("  set {name}{kind}_{index} {{ type ipv{kind}_addr; flags {flag};{elements} }}\n"));
        }
    }
    text
}

/// Adds entries to a group of the table that is there, or begins their time anew: an entry that is there goes and comes
/// within the transaction, since nft has no other way to say that.
pub fn entries(group: usize, entries: &[Entry]) -> String {
    let mut text = String::new();
    for entry in merged(entries).values() {
        let set = format!("open{}_{group}", if entry.address.is_ipv4() { 4 } else { 6 });
        text.push_str(&format!("add element inet sbx {set} {{ {} }}\n", entry.address));
        text.push_str(&format!("delete element inet sbx {set} {{ {} }}\n", entry.address));
        text.push_str(&format!("add element inet sbx {set} {{ {} }}\n", element(entry)));
    }
    text
}

/// Each address once, for the longest time.
fn merged(entries: &[Entry]) -> BTreeMap<IpAddr, &Entry> {
    let mut found: BTreeMap<IpAddr, &Entry> = BTreeMap::new();
    for entry in entries {
        let place = found.entry(entry.address).or_insert(entry);
        if entry.lifetime > place.lifetime {
            *place = entry;
        }
    }
    found
}

fn element(Entry { address, name, lifetime }: &Entry) -> String {
    let seconds = lifetime.as_secs().max(1);
    // Names are letters, digits, dots, dashes and underscores.
    let comment = if name.len() <= LONGEST { format!(" comment \"{name}\"") } else { String::new() };
    format!("{address} timeout {seconds}s{comment}")
}

/// What is open by the table that `nft -j list` told of; `None` if it is not one of this kind. An entry whose name it does
/// not carry is left out: nobody can tell whether it may stay.
pub fn standing(listed: &str) -> Option<Vec<Standing>> {
    /// What else there may be is of no interest.
    #[derive(Deserialize)]
    struct Listed {
        nftables: Vec<Item>,
    }
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Item {
        chain: Option<Chain>,
        set: Option<Set>,
    }
    #[derive(Deserialize)]
    struct Chain {
        name: String,
    }
    #[derive(Deserialize)]
    struct Set {
        name: String,
        #[serde(default)]
        elem: Vec<serde_json::Value>,
    }
    let Listed { nftables } = serde_json::from_str(listed).ok()?;
    if !nftables.iter().any(|item| item.chain.as_ref().is_some_and(|chain| chain.name == MARK)) {
        return None;
    }
    let open = |set: &Set| set.name.starts_with("open4_") || set.name.starts_with("open6_");
    let sets = nftables.into_iter().filter_map(|item| item.set).filter(open);
    let read = |value: serde_json::Value| {
        let element = value.get("elem")?;
        let text = |key: &str| element.get(key).and_then(serde_json::Value::as_str);
        Some(Standing {
            address: text("val")?.parse().ok()?,
            name: text("comment")?.to_owned(),
            left: Duration::from_secs(element.get("expires")?.as_u64()?),
        })
    };
    Some(sets.flat_map(|set| set.elem).filter_map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn entry(text: &str, name: &str, seconds: u64) -> Entry {
        Entry { address: address(text), name: name.into(), lifetime: Duration::from_secs(seconds) }
    }

    #[test]
    fn the_rules() {
        assert!(!direct(&Networks::default(), &[]).contains("elements"), "nothing is open");
        let all = schema::policy::Inbound::all();
        let networks = Networks { peers: [address("10.89.1.2")].into(), inbound: [(address("10.89.1.9"), all)].into() };
        let ports = Ports {
            tcp: vec![PortRange::one(443), PortRange { first: 8000, last: 8010 }],
            udp: vec![PortRange::one(53)],
        };
        let run = (address("192.0.2.0"), address("192.0.2.127"));
        let open = [entry("198.51.100.1", "a.example", 60), entry("2001:db8::1", "a.example", 60)];
        let group = Group { ports: &ports, networks: &[run], entries: &open };
        insta::assert_snapshot!(direct(&networks, &[group]));
    }

    #[test]
    fn the_longest_of_two_lives_counts() {
        let of = [
            entry("192.0.2.1", "a.example", 30),
            entry("192.0.2.1", "b.example", 60),
            entry("192.0.2.1", "c.example", 10),
            entry("192.0.2.2", &format!("{}example", "long.".repeat(30)), 0),
            entry("2001:db8::1", "v6.example", 5),
        ];
        insta::assert_snapshot!(entries(3, &of));
        assert_eq!(entries(0, &[]), "");
    }

    #[test]
    fn what_is_open_is_read_back_with_its_names() {
        let listed = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}}, {"chain": {"name": "opened"}},
            {"set": {"name": "open4_0", "elem": [
              {"elem": {"val": "192.0.2.1", "timeout": 600, "expires": 599, "comment": "a.example"}},
              {"elem": {"val": "192.0.2.2", "timeout": 600, "expires": 599}}]}},
            {"set": {"name": "peers4", "elem": ["10.89.1.2"]}}]}"#;
        let left = Duration::from_secs(599);
        let standing = super::standing(listed).unwrap();
        assert_eq!(standing, [Standing { address: address("192.0.2.1"), name: "a.example".into(), left }]);
        assert_eq!(super::standing(&listed.replace("\"opened\"", "\"output\"")), None, "not of this kind");
        assert_eq!(super::standing("{}"), None);
    }
}
