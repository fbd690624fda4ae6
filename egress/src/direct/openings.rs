//! What a policy opens, in the words of a packet filter: ports of a name, and addresses with ports. Pure.
//!
//! Nothing here decides: every run of ports, and of addresses, between two places where any rule begins or ends is asked
//! of the one evaluator, and of the one judge of addresses, by its first member.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use jiff::civil::Date;
use schema::policy::{Host, HostPattern, Policy, PortRange};

use crate::dial::{judge, may_reach};
use crate::generation::Generation;
use crate::verdict::{ConnectVerdict, Question, Transport};

/// Ports that are open, each list sorted and without overlaps.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    /// Of TCP.
    pub tcp: Vec<PortRange>,
    /// Of UDP.
    pub udp: Vec<PortRange>,
}

impl Ports {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tcp.is_empty() && self.udp.is_empty()
    }

    /// As people write them: `443`, `53/udp`.
    pub fn words(&self) -> Vec<String> {
        let tcp = self.tcp.iter().map(ToString::to_string);
        tcp.chain(self.udp.iter().map(|range| format!("{range}/udp"))).collect()
    }
}

/// From first to last.
pub type Run = (IpAddr, IpAddr);

/// Ports at which `generation` lets `host` be reached.
pub fn ports(generation: &Generation, host: &Host, today: Date) -> Ports {
    ports_if(generation, host, today, |_, _| true)
}

fn ports_if(generation: &Generation, host: &Host, today: Date, also: impl Fn(u16, Transport) -> bool) -> Ports {
    let starts = port_starts(&generation.policy);
    let open = |transport| {
        let mut found: Vec<PortRange> = Vec::new();
        let ends = starts.iter().skip(1).map(|next| next - 1).chain([u32::from(u16::MAX)]);
        for (first, last) in starts.iter().zip(ends) {
            let (Ok(first), Ok(last)) = (u16::try_from(*first), u16::try_from(last)) else { continue };
            let question = Question { host, port: first, transport };
            let verdict = generation.compiled.connect(question, today);
            if !matches!(verdict, ConnectVerdict::Allow { .. }) || !also(first, transport) {
                continue;
            }
            match found.last_mut() {
                Some(before) if before.last.checked_add(1) == Some(first) => before.last = last,
                _ => found.push(PortRange { first, last }),
            }
        }
        found
    };
    Ports { tcp: open(Transport::Tcp), udp: open(Transport::Udp) }
}

/// Where any rule begins to speak of ports, or ends to; ports of one run are all the same to every rule.
fn port_starts(policy: &Policy) -> BTreeSet<u32> {
    let ranges = policy.allow.iter().chain(&policy.deny).flat_map(|rule| &rule.ports);
    let mut starts = BTreeSet::from([1]);
    for PortRange { first, last } in ranges {
        starts.extend([u32::from(*first).max(1), u32::from(*last) + 1]);
    }
    starts.retain(|start| u16::try_from(*start).is_ok());
    starts
}

/// Addresses that rules open as such, without a name, by the ports at which they do. `own` are this machine's.
///
/// Never opened are those that stand for an IPv4 address (NAT64, 6to4, Teredo): what is judged of them is not where a run
/// of addresses begins or ends.
pub fn networks(generation: &Generation, own: &[IpNet], today: Date) -> BTreeMap<Ports, Vec<Run>> {
    let policy = &generation.policy;
    let mut found: BTreeMap<Ports, Vec<Run>> = BTreeMap::new();
    let allowed: Vec<IpNet> = policy.allow.iter().filter_map(network).collect();
    for v4 in [true, false] {
        if !allowed.iter().any(|network| network.addr().is_ipv4() == v4) {
            continue;
        }
        let starts = address_starts(policy, own, v4);
        let top = if v4 { u128::from(u32::MAX) } else { u128::MAX };
        let ends = starts.iter().skip(1).map(|next| next - 1).chain([top]);
        for (first, last) in starts.iter().zip(ends) {
            let (first, last) = (address(*first, v4), address(last, v4));
            if !allowed.iter().any(|network| network.contains(&first)) || judge::stands_for_v4(first) {
                continue;
            }
            let host = Host::Address(first);
            let ports = ports_if(generation, &host, today, |port, transport| {
                may_reach(policy, &host, port, transport, first, own, today)
            });
            if ports.is_empty() {
                continue;
            }
            let runs = found.entry(ports).or_default();
            match runs.last_mut() {
                Some((_, before)) if follows(*before, first) => *before = last,
                _ => runs.push((first, last)),
            }
        }
    }
    found
}

fn network(rule: &schema::policy::Rule) -> Option<IpNet> {
    match rule.host {
        HostPattern::Network(network) => Some(network),
        _ => None,
    }
}

fn address_starts(policy: &Policy, own: &[IpNet], v4: bool) -> BTreeSet<u128> {
    let rules = policy.allow.iter().chain(&policy.deny).filter_map(network);
    let all = rules.chain(policy.dial_allow.iter().chain(own).copied()).chain(judge::ranges());
    let mut starts = BTreeSet::from([0]);
    for network in all.filter(|network| network.addr().is_ipv4() == v4) {
        starts.insert(bits(network.network()));
        // The last network of all ends where nothing begins.
        starts.extend(bits(network.broadcast()).checked_add(1).filter(|next| !v4 || *next <= u128::from(u32::MAX)));
    }
    starts
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn address(bits: u128, v4: bool) -> IpAddr {
    match u32::try_from(bits) {
        Ok(bits) if v4 => Ipv4Addr::from_bits(bits).into(),
        _ => Ipv6Addr::from_bits(bits).into(),
    }
}

fn follows(before: IpAddr, next: IpAddr) -> bool {
    before.is_ipv4() == next.is_ipv4() && bits(before).checked_add(1) == Some(bits(next))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use schema::policy::{Protocol, Rule};

    use super::*;
    use crate::testing::rules::{With as _, rule};

    const TODAY: Date = jiff::civil::date(2026, 1, 1);

    fn generation(allow: Vec<Rule>, deny: Vec<Rule>, dial: &[&str]) -> Generation {
        let dial_allow = dial.iter().map(|range| range.parse().unwrap()).collect();
        Generation::new(1, Policy { allow, deny, dial_allow, ..Policy::default() }, BTreeMap::new())
    }

    fn words(generation: &Generation, host: &str) -> String {
        ports(generation, &host.parse().unwrap(), TODAY).words().join(" ")
    }

    fn opened(generation: &Generation) -> Vec<String> {
        let row = |(ports, runs): (Ports, Vec<Run>)| {
            let runs: Vec<String> = runs.iter().map(|(first, last)| format!("{first}-{last}")).collect();
            format!("{}: {}", ports.words().join(" "), runs.join(" "))
        };
        networks(generation, &[], TODAY).into_iter().map(row).collect()
    }

    #[test]
    fn ports_are_those_that_the_evaluator_allows() {
        let range = |first, last| PortRange { first, last };
        let mut wide = rule("a.example").protocol(Protocol::Udp);
        wide.ports = vec![range(100, 200), range(150, 300)];
        let mut denied = rule("**.example").ports(&[443, 120]);
        denied.protocol = Protocol::Udp;
        let policy = generation(
            vec![rule("a.example"), rule("a.example").ports(&[81]).protocol(Protocol::Tcp), wide, rule("b.test")],
            vec![denied],
            &[],
        );
        assert_eq!(words(&policy, "a.example"), "80-81 443 100-119/udp 121-300/udp");
        assert_eq!(words(&policy, "b.test"), "80 443");
        assert_eq!(words(&policy, "c.test"), "");
        let all = generation(vec![rule("a.example").every_port().protocol(Protocol::Tcp)], vec![], &[]);
        assert_eq!(words(&all, "a.example"), "1-65535");
    }

    #[test]
    fn networks_leave_out_what_is_not_dialled_unless_it_is_named() {
        let everything = generation(vec![rule("0.0.0.0/0").ports(&[443])], vec![], &[]);
        let text = opened(&everything).join("\n");
        for closed in ["10.0.0.0", "127.0.0.0", "169.254.169.254", "192.168.0.0", "198.18.0.0"] {
            assert!(!text.contains(&format!("{closed}-")), "{closed} in {text}");
        }
        assert!(text.contains("11.0.0.0-100.63.255.255") && text.contains("9.255.255.255"), "{text}");

        let named = generation(vec![rule("10.1.0.0/16").ports(&[22])], vec![rule("10.1.2.0/24").ports(&[22])], &[]);
        assert_eq!(opened(&named), ["22: 10.1.0.0-10.1.1.255 10.1.3.0-10.1.255.255"]);
        let opens = generation(vec![rule("0.0.0.0/0").ports(&[22])], vec![], &["10.1.2.3/32"]);
        assert!(opened(&opens).join("").contains("10.1.2.3-10.1.2.3"));
    }

    #[test]
    fn a_rule_for_connections_is_no_consent_to_datagrams() {
        let tcp = rule("10.1.2.3").ports(&[5000]).protocol(Protocol::Tcp);
        let udp = rule("0.0.0.0/0").ports(&[5000]).protocol(Protocol::Udp);
        let both = opened(&generation(vec![tcp, udp], vec![], &[]));
        assert!(both.contains(&"5000: 10.1.2.3-10.1.2.3".to_owned()), "{both:?}");
        assert!(both.iter().any(|row| row.starts_with("5000/udp: 1.0.0.0-9.255.255.255 ")), "{both:?}");
    }

    #[test]
    fn addresses_that_stand_for_others_are_never_opened_by_networks() {
        let everything = generation(vec![rule("::/0").ports(&[443])], vec![], &[]);
        let text = opened(&everything).join("\n");
        for closed in [" ::-", "fc00::", "fe80::", "64:ff9b::-", " 2002::-", " 2001::-"] {
            assert!(!text.contains(closed), "{closed} in {text}");
        }
        assert!(text.contains("2003::-"), "{text}");
    }

    proptest! {
        /// Whatever the rules: a port is in the runs exactly if it is allowed.
        #[test]
        fn runs_are_the_evaluators_own_answers(
            allow in prop::collection::vec((0..200_u16, 0..60_u16, any::<bool>()), 0..6),
            deny in prop::collection::vec((0..200_u16, 0..60_u16), 0..4),
            asked in 1..300_u16,
            udp in any::<bool>(),
        ) {
            let ranged = |first: u16, length: u16, protocol| {
                let mut rule = rule("a.example").protocol(protocol);
                rule.ports = vec![PortRange { first: first.max(1), last: first.max(1) + length }];
                rule
            };
            let protocol = |udp| if udp { Protocol::Udp } else { Protocol::Tcp };
            let allow = allow.into_iter().map(|(first, length, udp)| ranged(first, length, protocol(udp))).collect();
            let deny = deny.into_iter().map(|(first, length)| ranged(first, length, Protocol::Auto)).collect();
            let generation = generation(allow, deny, &[]);
            let host: Host = "a.example".parse().unwrap();
            let transport = if udp { Transport::Udp } else { Transport::Tcp };
            let verdict = generation.compiled.connect(Question { host: &host, port: asked, transport }, TODAY);
            let ports = ports(&generation, &host, TODAY);
            let runs = if udp { ports.udp } else { ports.tcp };
            let open = runs.iter().any(|range| range.contains(asked));
            prop_assert_eq!(open, matches!(verdict, ConnectVerdict::Allow { .. }));
        }
    }
}
