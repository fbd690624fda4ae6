//! The addresses that stand for names, and the few of them that stand for something else.
//!
//! DNS answers an allowed name with an address out of these ranges. Nothing outside of a sandbox ever sees one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// IPv4 addresses that stand for names; the range for benchmarks (RFC 2544), which no network routes.
pub const POOL_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 0), 15);

/// IPv6 addresses that stand for names: a unique local prefix.
pub const POOL_V6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0x5b78, 0, 0, 0, 0, 0, 0), 64);

/// The resolver, as `/etc/resolv.conf` inside names it.
pub const RESOLVER_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// The same by IPv6.
pub const RESOLVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x5b78, 0, 0, 0, 0, 0, 1);

/// The dead-end adapter's own address.
pub const ADAPTER_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);

/// The same by IPv6.
pub const ADAPTER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x5b78, 0, 0, 0, 0, 0, 2);

/// How many IPv4 addresses at the start of the pool never stand for a name.
pub const RESERVED_V4: u32 = 256;

/// Interface identifiers below this never stand for a name.
pub const RESERVED_V6: u64 = 1 << 63;

/// Whether `address` lies in a pool: it means a name, one of our own services, or nothing; never itself.
pub fn contains(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => POOL_V4.contains(&address),
        IpAddr::V6(address) => POOL_V6.contains(&address),
    }
}

/// Whether a name may have `address`.
pub fn stands_for_names(address: IpAddr) -> bool {
    contains(address)
        && match address {
            IpAddr::V4(address) => address.to_bits() - POOL_V4.network().to_bits() >= RESERVED_V4,
            IpAddr::V6(address) => interface_id(address) >= RESERVED_V6,
        }
}

/// The lower half of an address.
#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is asked for")]
pub const fn interface_id(address: Ipv6Addr) -> u64 {
    address.to_bits() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_addresses_are_in_the_pools_and_stand_for_no_name() {
        for own in [RESOLVER_V4.into(), ADAPTER_V4.into(), RESOLVER_V6.into(), ADAPTER_V6.into()] {
            assert!(contains(own) && !stands_for_names(own), "{own}");
        }
        assert!(stands_for_names(Ipv4Addr::new(198, 18, 1, 0).into()));
        assert!(stands_for_names(Ipv4Addr::new(198, 19, 255, 255).into()));
        assert!(!contains(Ipv4Addr::new(198, 20, 0, 0).into()));
        assert!(!contains(Ipv6Addr::LOCALHOST.into()));
    }
}
