//! The system calls that have no safe wrapper, each in the smallest function that is safe to call.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr;

/// `NS_GET_USERNS` of `linux/nsfs.h`.
const OWNING_USER_NAMESPACE: libc::Ioctl = 0xb701;

/// The user namespace that a namespace belongs to: capabilities over the one are those in the other.
pub fn owner(namespace: impl AsFd) -> io::Result<OwnedFd> {
    // SAFETY: the descriptor is borrowed for the length of the call, and this request takes no argument.
    let found = unsafe { libc::ioctl(namespace.as_fd().as_raw_fd(), OWNING_USER_NAMESPACE) };
    if found < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: on success the result is a new descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(found) })
}

/// Has the kernel tell with each datagram which address it was sent to.
pub fn tell_destinations(socket: impl AsFd, ipv6: bool) -> io::Result<()> {
    let on: libc::c_int = 1;
    let (level, option) =
        if ipv6 { (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO) } else { (libc::IPPROTO_IP, libc::IP_PKTINFO) };
    let length = libc::socklen_t::try_from(size_of_val(&on)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is borrowed for the length of the call, and the kernel reads `length` bytes of `on`.
    match unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, option, ptr::from_ref(&on).cast(), length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The number of the process at the other end of a Unix socket, as it was when that was made; 0 when our process
/// namespace has none for it.
///
/// Asked of the kernel directly: in `rustix` a process number cannot be 0.
pub fn peer(connection: impl AsFd) -> io::Result<u32> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = libc::socklen_t::try_from(size_of_val(&peer)).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `length` bytes to `peer`, of which any are a valid value.
    let result = unsafe {
        libc::getsockopt(
            connection.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    match result {
        0 => Ok(peer.pid.cast_unsigned()),
        _ => Err(io::Error::last_os_error()),
    }
}
