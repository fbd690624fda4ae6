//! The sockets through which everything of one sandbox comes.

use std::collections::BTreeSet;
use std::io;
use std::net::{TcpListener, UdpSocket};

use schema::policy::{Policy, Protocol};

use crate::defence::Defence;

/// Sockets that were made inside a sandbox's network namespace and are served outside of it.
///
/// All are non-blocking. Where a sandbox has no IPv6, there is no socket for it.
#[derive(Debug, Default)]
pub struct Listeners {
    /// Take every TCP connection, wherever it was meant to go; the kernel tells by `SO_ORIGINAL_DST`. A connection whose
    /// original destination is the socket's own address was dialled directly: an explicit proxy's client.
    pub tcp: Vec<TcpListener>,
    /// Take TCP connections meant for port 53.
    pub dns_tcp: Vec<TcpListener>,
    /// Take datagrams meant for port 53.
    pub dns_udp: Vec<UdpSocket>,
    /// One per UDP port of the policy and family; bound to every address, so that `IP_PKTINFO` tells the synthetic one.
    pub udp: Vec<UdpSocket>,
}

/// Ports for datagrams that a policy speaks of.
pub fn udp_ports(policy: &Policy) -> BTreeSet<u16> {
    let udp = policy.allow.iter().filter(|rule| rule.protocol == Protocol::Udp || Defence::UdpPorts.is_off());
    udp.flat_map(|rule| rule.ports.iter().flat_map(|range| range.first..=range.last)).collect()
}

impl Listeners {
    /// Closes sockets for datagrams but those of `ports`: a predecessor may have been made to listen on others before.
    pub fn keep(&mut self, ports: &BTreeSet<u16>) {
        self.udp.retain(|socket| socket.local_addr().is_ok_and(|address| ports.contains(&address.port())));
    }

    /// Other descriptors of the same sockets.
    pub fn try_clone(&self) -> io::Result<Self> {
        let Self { tcp, dns_tcp, dns_udp, udp } = self;
        Ok(Self {
            tcp: tcp.iter().map(TcpListener::try_clone).collect::<io::Result<_>>()?,
            dns_tcp: dns_tcp.iter().map(TcpListener::try_clone).collect::<io::Result<_>>()?,
            dns_udp: dns_udp.iter().map(UdpSocket::try_clone).collect::<io::Result<_>>()?,
            udp: udp.iter().map(UdpSocket::try_clone).collect::<io::Result<_>>()?,
        })
    }
}
