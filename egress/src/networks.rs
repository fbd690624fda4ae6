//! The internal networks of a sandbox, as the packet filter inside has to know them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use schema::policy::{Inbound, Policy};
use serde::{Deserialize, Serialize};

/// Where a sandbox and its peers are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The sandbox's own, by the name of the network that they are on.
    pub own: BTreeMap<String, Vec<IpAddr>>,
    /// Those of its peers.
    pub peers: BTreeSet<IpAddr>,
}

/// Who else is on them, and where they come in. Empty lets nobody in, and out to nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Networks {
    /// Addresses of peers. The bridge's own address is none of them.
    pub peers: BTreeSet<IpAddr>,
    /// Own addresses, each of which stands for its network, and the ports at which peers come in there.
    pub inbound: BTreeMap<IpAddr, Inbound>,
}

impl Networks {
    /// Of those at `addresses`, by what `policy` says of networks.
    pub fn new(addresses: &Addresses, policy: &Policy) -> Self {
        let Addresses { own, peers } = addresses;
        let of = |network: &String| policy.inbound.get(network.as_str()).cloned().unwrap_or_else(Inbound::all);
        let inbound = own.iter().flat_map(|(network, own)| own.iter().map(|address| (*address, of(network))));
        Self { peers: peers.clone(), inbound: inbound.collect() }
    }
}

#[cfg(test)]
mod tests {
    use schema::policy::PortRange;

    use super::*;

    #[test]
    fn an_address_has_the_ports_of_its_network() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let narrow = Inbound { tcp: vec![PortRange::one(5432)], udp: Vec::new() };
        let name = schema::Name::new("backend").unwrap();
        let policy = Policy { inbound: [(name, narrow.clone())].into(), ..Policy::default() };
        let own = [
            ("backend".to_owned(), vec![address("10.89.1.2"), address("fd00::2")]),
            ("metrics".to_owned(), vec![address("10.89.2.2")]),
        ];
        let networks = Networks::new(&Addresses { own: own.into(), peers: [address("10.89.1.3")].into() }, &policy);
        let expected = [("10.89.1.2", narrow.clone()), ("fd00::2", narrow), ("10.89.2.2", Inbound::all())];
        assert_eq!(networks.inbound, expected.map(|(text, inbound)| (address(text), inbound)).into());
    }
}
