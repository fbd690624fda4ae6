//! What every table says of peers on internal networks.
//!
//! A sandbox may begin to speak to each of them; they to it at the ports that it declares. Which of both began a flow is what
//! the kernel keeps of it, and the one thing that is taken from there: what is let in, and what is answered, is asked of
//! every packet anew, so that a port that is not declared any more ends the flows to it with their next packet.

use std::net::IpAddr;

use schema::policy::PortRange;

use super::{list, set};
use crate::networks::Networks;

/// In the output chain, for what goes to peers.
pub const OUT: &str = "    ip daddr @peers4 meta l4proto { tcp, udp } jump to_peers
    ip6 daddr @peers6 meta l4proto { tcp, udp } jump to_peers
";

/// In the input chain, for what comes from them.
pub const IN: &str = "    ip saddr @peers4 meta l4proto { tcp, udp } jump from_peers
    ip6 saddr @peers6 meta l4proto { tcp, udp } jump from_peers
";

/// The chains that these lead to, which decide.
///
/// - A connection whose first packet nobody saw has no beginner: the kernel would take for that whoever speaks next.
/// - What is refused of a peer is told by a reset, which is let out; so is that of whoever ends a connection here.
pub const CHAINS: &str = "  chain to_peers {
    ct state new tcp flags & (fin | syn | rst | ack) != syn reject with tcp reset
    ct direction original accept
    ip saddr . meta l4proto . th sport @inbound4 accept
    ip6 saddr . meta l4proto . th sport @inbound6 accept
    tcp flags & rst == rst accept
    meta l4proto tcp reject with tcp reset
    reject with icmpx admin-prohibited
  }
  chain from_peers {
    ct direction reply accept
    ip daddr . meta l4proto . th dport @inbound4 accept
    ip6 daddr . meta l4proto . th dport @inbound6 accept
    meta l4proto tcp reject with tcp reset
    drop
  }
";

/// The sets of both: addresses of peers, and own ones with the ports at which they come in.
pub fn sets(networks: &Networks) -> String {
    let Networks { peers, inbound } = networks;
    let mut text = String::new();
    for (kind, of) in [(4, IpAddr::is_ipv4 as fn(&IpAddr) -> bool), (6, IpAddr::is_ipv6)] {
        let element =
            |address: &IpAddr, transport: &str, range: &PortRange| format!("{address} . {transport} . {range}");
        let own = inbound.iter().filter(|(address, _)| of(address));
        let elements: Vec<String> = own
            .flat_map(|(address, ports)| {
                let tcp = ports.tcp.iter().map(|range| element(address, "tcp", range));
                tcp.chain(ports.udp.iter().map(|range| element(address, "udp", range))).collect::<Vec<_>>()
            })
            .collect();
        let kinds = format!("ipv{kind}_addr . inet_proto . inet_service; flags interval");
        text.push_str(&format!("  {}\n", set(&format!("peers{kind}"), &format!("ipv{kind}_addr"), &list(peers, of))));
        text.push_str(&format!("  {}\n", set(&format!("inbound{kind}"), &kinds, &elements.join(", "))));
    }
    text
}
