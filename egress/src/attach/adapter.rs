//! The dead end that routes to everywhere lead to, so that every packet meets the rules.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::error::Refusal;
use super::netlink::{LOOPBACK, Netlink, Route};
use super::socket::has_address;
use crate::defence::Device;
use crate::synthetic::{ADAPTER_V4, ADAPTER_V6, POOL_V4, POOL_V6, RESOLVER_V4, RESOLVER_V6};

/// The name of the device inside.
const NAME: &str = "sbx0";

/// The name of the other end of a pair.
const OTHER: &str = "sbx1";

/// What the dead end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Adapter {
    /// A dummy device.
    Dummy,
    /// A pair of devices whose both ends are inside.
    Pair,
    /// `lo` itself, where the kernel has neither.
    Loopback,
    /// None: the engine's own network, behind a packet filter.
    Engine,
    /// None, and no network but `lo` and internal ones.
    Nothing,
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dummy => "dummy device",
            Self::Pair => "closed pair of veth devices",
            Self::Loopback => "route on lo",
            Self::Engine => "engine's network",
            Self::Nothing => "nothing",
        })
    }
}

/// What was installed.
#[derive(Debug)]
pub struct Installed {
    pub adapter: Adapter,
    pub ipv6: bool,
    pub problems: Vec<String>,
}

/// A dead end that nothing leads to yet.
#[derive(Debug)]
pub struct DeadEnd {
    netlink: Netlink,
    adapter: Adapter,
    /// The device, and the other end if it has one.
    devices: Vec<u32>,
    problems: Vec<String>,
}

/// What a sandbox on the engine's network has instead: that, and `lo`. The resolver is there whatever routes the engine
/// has made: its addresses are our own.
pub fn engines_network() -> Result<Installed, Refusal> {
    let netlink = Netlink::open().map_err(|error| Refusal::inside("open netlink", error))?;
    netlink.bring_up(LOOPBACK).map_err(|error| Refusal::inside("bring up lo", error))?;
    let v4 = netlink.set_route(IpNet::from(IpAddr::V4(RESOLVER_V4)), Route::Local, Ipv4Addr::LOCALHOST.into());
    v4.map_err(|error| Refusal::inside("make the resolver an address of", error))?;
    // Without IPv6 there is the other.
    let _ = netlink.set_route(IpNet::from(IpAddr::V6(RESOLVER_V6)), Route::Local, Ipv6Addr::LOCALHOST.into());
    let ipv6 = has_address(Ipv6Addr::LOCALHOST);
    let problems = if ipv6 { Vec::new() } else { vec!["no IPv6: lo has no such address".to_owned()] };
    Ok(Installed { adapter: Adapter::Engine, ipv6, problems })
}

impl DeadEnd {
    /// Makes the device unless it is there. It stays down.
    pub fn make() -> Result<Self, Refusal> {
        let netlink = Netlink::open().map_err(|error| Refusal::inside("open netlink", error))?;
        let mut problems = Vec::new();
        let (adapter, devices) = device(&netlink).unwrap_or_else(|error| {
            problems.push(format!("neither a dummy nor a pair of veth devices can be made: {error}"));
            (Adapter::Loopback, vec![LOOPBACK])
        });
        Ok(Self { netlink, adapter, devices, problems })
    }

    /// Brings it up, and `lo`, and routes everything to it but what is synthetic: that is local, so that datagrams for
    /// any such address reach whoever listens on the port.
    pub fn connect(mut self) -> Result<Installed, Refusal> {
        let netlink = &self.netlink;
        netlink.bring_up(LOOPBACK).map_err(|error| Refusal::inside("bring up lo", error))?;
        for device in &self.devices {
            // Without IPv6 there is nothing to keep quiet.
            let _ = netlink.keep_quiet(*device);
            netlink.bring_up(*device).map_err(|error| Refusal::inside("bring up the dead-end device", error))?;
        }
        let index = self.devices.first().copied().unwrap_or(LOOPBACK);
        let v4 = family(netlink, index, ADAPTER_V4.into(), IpNet::V4(ALL_V4), IpNet::V4(POOL_V4));
        v4.map_err(|(what, error)| Refusal::inside(what, error))?;
        let v6 = family(netlink, index, ADAPTER_V6.into(), IpNet::V6(ALL_V6), IpNet::V6(POOL_V6));
        let ipv6 = v6.is_ok();
        if let Err((what, error)) = v6 {
            self.problems.push(format!("no IPv6: cannot {what}: {error}"));
        }
        Ok(Installed { adapter: self.adapter, ipv6, problems: self.problems })
    }
}

const ALL_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0);
const ALL_V6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0);

/// The device, and the other end if it has one, made unless they are there.
fn device(netlink: &Netlink) -> io::Result<(Adapter, Vec<u32>)> {
    if Netlink::index(NAME).is_err() {
        let made = Device::Dummy.possible().and_then(|()| netlink.add_dummy(NAME));
        if made.is_err() {
            Device::Pair.possible()?;
            netlink.add_pair(NAME, OTHER)?;
        }
    }
    let index = Netlink::index(NAME)?;
    Ok(match Netlink::index(OTHER) {
        Ok(other) => (Adapter::Pair, vec![index, other]),
        Err(_) => (Adapter::Dummy, vec![index]),
    })
}

/// Address and routes of one family.
fn family(
    netlink: &Netlink,
    index: u32,
    address: IpAddr,
    everything: IpNet,
    pool: IpNet,
) -> Result<(), (&'static str, io::Error)> {
    netlink.add_address(index, address).map_err(|error| ("give the dead end its address", error))?;
    netlink.set_route(pool, Route::Local, address).map_err(|error| ("make synthetic addresses local", error))?;
    netlink
        .set_route(everything, Route::Out(index), address)
        .map_err(|error| ("route everything to the dead end", error))
}
