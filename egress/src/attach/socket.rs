//! The sockets that are born inside.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, Socket, Type};

use super::error::Refusal;
use super::wire::Role;
use super::{DNS_PORT, TCP_PORT, kernel};

/// Connections that may wait for the daemon; the kernel's own bound may be lower.
const BACKLOG: i32 = 4096;

/// The sockets that every sandbox has.
pub fn listeners(ipv6: bool) -> Result<Vec<(Role, OwnedFd)>, Refusal> {
    let mut sockets = Vec::new();
    for address in families(ipv6, Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST) {
        sockets.push((Role::Tcp, stream(address, TCP_PORT)?));
        sockets.push((Role::DnsTcp, stream(address, DNS_PORT)?));
        sockets.push((Role::DnsUdp, datagram(address, DNS_PORT)?.into()));
    }
    Ok(sockets)
}

/// Sockets that take what is sent to any synthetic address, one per port and family.
///
/// # Guarantees
/// They hear what is sent inside only: members of an internal network, which could use the policy of this sandbox, do
/// not reach them.
pub fn relays(ports: &BTreeSet<u16>, ipv6: bool) -> Result<Vec<(Role, OwnedFd)>, Refusal> {
    let mut sockets = Vec::new();
    for address in families(ipv6, Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED) {
        for port in ports {
            let socket = datagram(address, *port)?;
            let prepare = || {
                socket.bind_device(Some(b"lo"))?;
                kernel::tell_destinations(&socket, address.is_ipv6())
            };
            prepare().map_err(|error| Refusal::inside(format!("prepare UDP port {port}"), error))?;
            sockets.push((Role::Udp, socket.into()));
        }
    }
    Ok(sockets)
}

/// Whether `address` is one of this namespace's own.
pub fn has_address(address: Ipv6Addr) -> bool {
    let address = SocketAddr::from((address, 0));
    Socket::new(Domain::IPV6, Type::DGRAM, None).and_then(|socket| socket.bind(&address.into())).is_ok()
}

fn families(ipv6: bool, v4: Ipv4Addr, v6: Ipv6Addr) -> impl Iterator<Item = IpAddr> {
    [IpAddr::V4(v4), IpAddr::V6(v6)].into_iter().take(if ipv6 { 2 } else { 1 })
}

fn stream(address: IpAddr, port: u16) -> Result<OwnedFd, Refusal> {
    let made = || {
        let socket = new(address, Type::STREAM, Protocol::TCP)?;
        // Connections of an earlier daemon may linger. This does not let two listen.
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((address, port)).into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    made().map_err(|error| held("TCP", port, error))
}

fn datagram(address: IpAddr, port: u16) -> Result<Socket, Refusal> {
    let made = || {
        // Never to be shared: whoever bound the port too could take what is sent to it.
        let socket = new(address, Type::DGRAM, Protocol::UDP)?;
        socket.bind(&SocketAddr::from((address, port)).into())?;
        Ok(socket)
    };
    made().map_err(|error| held("UDP", port, error))
}

fn new(address: IpAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, kind.nonblocking(), Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn held(protocol: &str, port: u16, error: io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::AddrInUse => Refusal::Squatted { protocol: protocol.to_owned(), port },
        _ => Refusal::inside(format!("listen on {protocol} port {port}"), error),
    }
}
