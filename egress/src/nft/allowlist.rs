//! The table of a sandbox that has no way out but us.

use super::{IN_PLACE, peers};
use crate::attach::{DNS_PORT, TCP_PORT};
use crate::networks::Networks;
use crate::synthetic::{POOL_V4, POOL_V6};

/// The table; whatever is there of that name goes in the same transaction.
///
/// - In the first chain, which sees the first packet of a flow only, destinations change: TCP goes to us, and DNS. A
///   redirected packet is one to a loopback address afterwards, and goes where no device leads out.
/// - The second sees every packet, and asks only where it goes *now*. It knows no "established": what began before the
///   rules, or to a peer that is none any more, ends with its next packet ([`peers`] has the rest). Addresses of our own
///   include the synthetic ones, by a local route. The answers to what is refused go to ourselves too, by `lo`.
/// - Neighbour discovery is how addresses of IPv6 peers are found; it is sent by the kernel, over one link.
pub fn allowlist(networks: &Networks) -> String {
    let (sets, chains, out, come_in) = (peers::sets(networks), peers::CHAINS, peers::OUT, peers::IN);
    super::as_tested(format!(
        "\
{IN_PLACE}table inet sbx {{
{sets}  chain to_us {{
    type nat hook output priority -100; policy accept;
    ip daddr 127.0.0.0/8 return
    ip6 daddr ::1 return
    ip daddr @peers4 return
    ip6 daddr @peers6 return
    meta l4proto {{ tcp, udp }} th dport 53 redirect to :{DNS_PORT}
    ip daddr {POOL_V4} meta l4proto tcp redirect to :{TCP_PORT}
    ip6 daddr {POOL_V6} meta l4proto tcp redirect to :{TCP_PORT}
    fib daddr type local return
    meta l4proto tcp redirect to :{TCP_PORT}
  }}
{chains}  chain output {{
    type filter hook output priority 0; policy drop;
    ip daddr 127.0.0.0/8 accept
    ip6 daddr ::1 accept
    fib daddr type local accept
{out}    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} ip6 hoplimit 255 accept
    meta l4proto tcp reject with tcp reset
    reject with icmpx admin-prohibited
  }}
  chain input {{
    type filter hook input priority 0; policy drop;
    iifname lo accept
{come_in}    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} ip6 hoplimit 255 accept
  }}
  chain forward {{
    type filter hook forward priority 0; policy drop;
  }}
}}
"
    ))
}

#[cfg(test)]
mod tests {
    use schema::policy::{Inbound, PortRange};

    use super::*;

    #[test]
    fn the_rules() {
        let address = |text: &str| text.parse().expect("an address");
        let some = Inbound {
            tcp: vec![PortRange::one(5432), PortRange { first: 8000, last: 8010 }],
            udp: vec![PortRange::one(53)],
        };
        let inbound = [("10.89.1.9", some), ("fd00::9", Inbound::all()), ("10.89.2.9", Inbound::default())];
        insta::assert_snapshot!(allowlist(&Networks {
            peers: ["10.89.1.2", "fd00::7", "10.89.1.3"].map(address).into(),
            inbound: inbound.map(|(own, ports)| (address(own), ports)).into(),
        }));
    }

    #[test]
    fn nobody_is_let_in_where_nobody_is_known() {
        let table = allowlist(&Networks::default());
        assert!(!table.contains("elements"), "{table}");
    }
}
