//! Sockets of another network namespace.
//!
//! A socket belongs to the namespace it was made in, whoever uses it afterwards. So only its making happens inside, on a
//! thread of its own that ends right after: no thread that does anything else is ever in a foreign namespace.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Protocol, Socket, Type};

/// Why something was not done in another namespace.
#[derive(Debug)]
pub(super) enum Outside {
    /// It cannot be entered.
    Enter(io::Error),
    /// What was to be done there failed.
    Work(io::Error),
}

impl From<Outside> for io::Error {
    fn from(outside: Outside) -> Self {
        match outside {
            Outside::Enter(error) | Outside::Work(error) => error,
        }
    }
}

/// Runs `make` in the network namespace at `path`.
pub(super) async fn within<T: Send + 'static>(
    path: &Path,
    make: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Outside> {
    // Opened each time: a namespace that was made anew has the same path.
    let namespace = File::open(path).map_err(Outside::Enter)?;
    let (made, wait) = tokio::sync::oneshot::channel();
    let inside = move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|error| Outside::Enter(error.into()))?;
        make().map_err(Outside::Work)
    };
    let thread = std::thread::Builder::new().name("netns".to_owned());
    // Nobody waits any more when the dialling timed out.
    thread.spawn(move || drop(made.send(inside()))).map_err(Outside::Work)?;
    wait.await.unwrap_or_else(|_| Err(Outside::Work(io::Error::other("its thread ended early"))))
}

/// A TCP socket that is not connected, fit for `address`.
pub(super) fn tcp_socket(address: SocketAddr) -> io::Result<tokio::net::TcpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    Ok(tokio::net::TcpSocket::from_std_stream(socket.into()))
}

/// A UDP socket bound to `local`.
pub(super) fn udp_socket(local: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind(local)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
