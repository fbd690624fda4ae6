//! Where a connection was meant to go.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::SockRef;
use tokio::net::TcpStream;

/// Where a connection was meant to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meant {
    /// Here: its client knows that this is a proxy.
    Proxy,
    /// Elsewhere.
    Address(SocketAddr),
}

/// Knows where connections were meant to go.
pub trait Destination: Send + Sync {
    /// Where `stream` was.
    fn of(&self, stream: &TcpStream) -> io::Result<Meant>;

    /// Where a datagram was that came to the address `to`.
    fn of_datagram(&self, to: IpAddr) -> IpAddr {
        to
    }
}

/// The kernel knows it of connections that its rules sent here.
#[derive(Debug, Clone, Copy)]
pub struct ByKernel;

impl Destination for ByKernel {
    fn of(&self, stream: &TcpStream) -> io::Result<Meant> {
        let here = stream.local_addr()?;
        let socket = SockRef::from(stream);
        let original = if here.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
        let meant = match original {
            Ok(address) => address.as_socket().ok_or(io::ErrorKind::InvalidData)?,
            // The kernel tracks no connection it did not send here.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOPROTOOPT)) => here,
            Err(error) => return Err(error),
        };
        Ok(if meant == here { Meant::Proxy } else { Meant::Address(meant) })
    }
}
