//! Sockets from one daemon to its successor: as messages with descriptors, over the control socket.
//!
//! After [`super::Response::Sandboxes`] the successor sends one byte; the other end answers with one message for each
//! sandbox: a JSON document, whose length comes first, and its descriptors in the order of [`Counts`]. Those that are
//! more than one message holds follow with a byte for each further part. A sandbox that cannot be sent is left out.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use super::SecretValue;
use crate::listeners::Listeners;

/// Most descriptors in one message that the kernel takes.
const MOST: usize = 253;
/// Longest description of a sandbox.
const LONGEST: usize = 1 << 16;

/// A sandbox on its way.
#[derive(Debug)]
pub struct Passed {
    /// Which container it is.
    pub identity: Identity,
    /// Its sockets.
    pub listeners: Listeners,
}

/// What a daemon that ends has for its successor: sandboxes with their sockets, and secrets by their salted hash.
pub type Bequest = (Vec<(Identity, Listeners)>, BTreeMap<String, SecretValue>);

/// A container that runs, told from itself after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Id of the container.
    pub container: String,
    /// PID 1.
    pub pid: u32,
    /// Seconds since the epoch of its start.
    pub started_at: i64,
}

/// How many descriptors of which sort follow. A daemon of a version that has no such sort yet says nothing of it.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Counts {
    tcp: usize,
    dns_tcp: usize,
    dns_udp: usize,
    udp: usize,
}

#[derive(Serialize, Deserialize)]
struct Head {
    #[serde(flatten)]
    identity: Identity,
    sockets: Counts,
}

/// Why a sandbox was not sent.
#[derive(Debug)]
pub enum Unsent {
    /// Nothing of it was: others can be.
    Nothing(io::Error),
    /// The stream ends in the midst of it.
    Broken(io::Error),
}

/// Sends those of `sandboxes` that can be sent.
///
/// # Errors
/// The stream is of no use any more: the other end has gone, or takes nothing ([`is_late`]).
pub fn send_all(stream: &mut UnixStream, sandboxes: &[(Identity, Listeners)]) -> io::Result<()> {
    for (identity, listeners) in sandboxes {
        match send(stream, identity, listeners) {
            Ok(()) => {}
            Err(Unsent::Nothing(error)) => {
                tracing::warn!(%error, container = identity.container, "not handed over: it is attached anew");
            }
            Err(Unsent::Broken(error)) => return Err(error),
        }
    }
    Ok(())
}

/// Sends one.
pub fn send(stream: &mut UnixStream, identity: &Identity, listeners: &Listeners) -> Result<(), Unsent> {
    let Listeners { tcp, dns_tcp, dns_udp, udp } = listeners;
    let sockets = Counts { tcp: tcp.len(), dns_tcp: dns_tcp.len(), dns_udp: dns_udp.len(), udp: udp.len() };
    let fds: Vec<BorrowedFd<'_>> = tcp
        .iter()
        .chain(dns_tcp)
        .map(std::os::fd::AsFd::as_fd)
        .chain(dns_udp.iter().chain(udp).map(std::os::fd::AsFd::as_fd))
        .collect();
    let head = serde_json::to_vec(&Head { identity: identity.clone(), sockets });
    let head = head.map_err(|error| Unsent::Nothing(error.into()))?;
    let length = u32::try_from(head.len()).map_err(|error| Unsent::Nothing(io::Error::other(error)))?.to_be_bytes();
    let (first, rest) = fds.split_at_checked(MOST).unwrap_or((&fds, &[]));
    // The descriptors travel with the first bytes; the document follows as plain bytes.
    let sent = send_with(stream, &length, first).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Unsent::Broken(error),
        _ if is_late(&error) => Unsent::Broken(error),
        _ => Unsent::Nothing(error),
    })?;
    let mut rest_of_it = || {
        stream.write_all(length.get(sent..).unwrap_or_default())?;
        stream.write_all(&head)?;
        // None of these is sent in part: each is one byte.
        rest.chunks(MOST).try_for_each(|part| send_with(stream, &[0], part).map(drop))
    };
    rest_of_it().map_err(Unsent::Broken)
}

/// Whether the other end does not take what is sent, in the time that the stream gives it.
pub fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Sends bytes with descriptors; how many bytes it were.
fn send_with(stream: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = vec![MaybeUninit::uninit(); SendAncillaryMessage::ScmRights(fds).size()];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("no room for the descriptors"));
    }
    Ok(sendmsg(stream.as_fd(), &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
}

/// Receives bytes, and descriptors that are added to `fds`; how many bytes it were.
fn receive_with(stream: &UnixStream, bytes: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(stream.as_fd(), &mut [IoSliceMut::new(bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok(got.bytes)
}

/// Receives up to `count`, until there are no more.
pub fn receive_all(stream: &mut UnixStream, count: usize) -> Vec<Passed> {
    let mut all = Vec::new();
    for _ in 0..count {
        match receive(stream) {
            Ok(Some(passed)) => all.push(passed),
            Ok(None) => tracing::warn!("a sandbox came without its sockets: it is attached anew"),
            Err(error) => {
                tracing::warn!(%error, received = all.len(), announced = count, "not all was handed over");
                break;
            }
        }
    }
    all
}

/// Receives one; `None` for one whose descriptors did not all arrive, for want of room for them.
///
/// # Errors
/// Nothing can follow: the other end has gone, or says something else.
pub fn receive(stream: &mut UnixStream) -> io::Result<Option<Passed>> {
    let mut length = [0; 4];
    let mut fds: Vec<OwnedFd> = Vec::new();
    let got = receive_with(stream, &mut length, &mut fds)?;
    stream.read_exact(length.get_mut(got..).unwrap_or_default())?;
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)?;
    if got == 0 || length > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no description of a sandbox"));
    }
    let mut head = vec![0; length];
    stream.read_exact(&mut head)?;
    let Head { identity, sockets } = serde_json::from_slice(&head)?;
    let Counts { tcp, dns_tcp, dns_udp, udp } = sockets;
    let announced = [dns_tcp, dns_udp, udp].into_iter().fold(tcp, usize::saturating_add);
    for _ in 1..announced.div_ceil(MOST) {
        if receive_with(stream, &mut [0], &mut fds)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    if fds.len() != announced {
        return Ok(None);
    }
    let mut fds = fds.into_iter();
    let listeners = Listeners {
        tcp: fds.by_ref().take(tcp).map(TcpListener::from).collect(),
        dns_tcp: fds.by_ref().take(dns_tcp).map(TcpListener::from).collect(),
        dns_udp: fds.by_ref().take(dns_udp).map(UdpSocket::from).collect(),
        udp: fds.by_ref().take(udp).map(UdpSocket::from).collect(),
    };
    Ok(Some(Passed { identity, listeners }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_arrive_as_what_they_are() {
        let (mut here, mut there) = UnixStream::pair().expect("a pair");
        let listeners = Listeners {
            tcp: vec![TcpListener::bind("127.0.0.1:0").expect("bound")],
            dns_tcp: vec![TcpListener::bind("127.0.0.1:0").expect("bound")],
            dns_udp: vec![UdpSocket::bind("127.0.0.1:0").expect("bound")],
            udp: Vec::new(),
        };
        let identity = Identity { container: "abc".into(), pid: 7, started_at: 42 };
        send(&mut here, &identity, &listeners).expect("sent");
        send(&mut here, &Identity { pid: 8, ..identity.clone() }, &Listeners::default()).expect("sent");
        let passed = receive(&mut there).expect("received").expect("with its sockets");
        assert_eq!(passed.identity, identity);
        let address = |listener: &TcpListener| listener.local_addr().expect("bound");
        assert_eq!(address(&passed.listeners.tcp[0]), address(&listeners.tcp[0]));
        assert_eq!(address(&passed.listeners.dns_tcp[0]), address(&listeners.dns_tcp[0]));
        assert_eq!(
            passed.listeners.dns_udp[0].local_addr().expect("bound"),
            listeners.dns_udp[0].local_addr().expect("bound")
        );
        let second = receive(&mut there).expect("received").expect("with all of none");
        assert_eq!((second.identity.pid, second.listeners.tcp.len()), (8, 0));
        // A connection made to the original is taken by what was passed on.
        let target = address(&listeners.tcp[0]);
        drop(listeners);
        let client = std::net::TcpStream::connect(target).expect("somebody listens");
        let (taken, _) = passed.listeners.tcp[0].accept().expect("taken");
        assert_eq!(taken.peer_addr().expect("connected"), client.local_addr().expect("connected"));
        drop(here);
        receive(&mut there).expect_err("nothing follows");
    }

    /// What other versions say of a sandbox: the same, less, or more of what has no descriptors.
    #[test]
    fn a_sandbox_is_described_the_same_in_all_versions() {
        let identity = Identity { container: "abc".into(), pid: 7, started_at: 42 };
        let head = Head { identity: identity.clone(), sockets: Counts { tcp: 1, ..Counts::default() } };
        let now = r#"{"container":"abc","pid":7,"started_at":42,"sockets":{"tcp":1,"dns_tcp":0,"dns_udp":0,"udp":0}}"#;
        assert_eq!(serde_json::to_string(&head).expect("plain data"), now);
        for head in [
            r#"{"container":"abc","pid":7,"started_at":42,"sockets":{}}"#,
            r#"{"container":"abc","pid":7,"started_at":42,"sockets":{"tcp":0},"mood":"fine"}"#,
        ] {
            let (mut here, mut there) = UnixStream::pair().expect("a pair");
            let length = u32::try_from(head.len()).expect("short").to_be_bytes();
            here.write_all(&[&length, head.as_bytes()].concat()).expect("sent");
            assert_eq!(receive(&mut there).expect("received").expect("with all of none").identity, identity);
        }
    }

    /// As many sockets as a sandbox may have, and far more.
    #[test]
    fn any_number_of_sockets_arrives_and_nobody_else_is_lost_for_it() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let of = |many: usize| {
            let udp = (0..many).map(|_| socket.try_clone().expect("another descriptor")).collect();
            Listeners { udp, ..Listeners::default() }
        };
        let identity = |pid: u32| Identity { container: "abc".into(), pid, started_at: 42 };
        let counts = [MOST - 1, MOST, MOST + 1, 2 * MOST, 2 * MOST + 1, 1];
        let sandboxes: Vec<_> = (0..).zip(counts).map(|(pid, many)| (identity(pid), of(many))).collect();
        let (mut here, mut there) = UnixStream::pair().expect("a pair");
        let received = std::thread::scope(|scope| {
            let receiving = scope.spawn(|| receive_all(&mut there, counts.len() + 1));
            send_all(&mut here, &sandboxes).expect("somebody listens");
            // One fewer than was announced: what came is kept.
            here.shutdown(std::net::Shutdown::Both).expect("connected");
            receiving.join().expect("no panic")
        });
        let received = received.into_iter().map(|passed| (passed.identity.pid, passed.listeners.udp.len()));
        assert_eq!(received.collect::<Vec<_>>(), (0..).zip(counts).collect::<Vec<_>>());
    }

    #[test]
    fn who_takes_nothing_is_not_waited_for_again_for_each_sandbox() {
        let (mut here, _there) = UnixStream::pair().expect("a pair");
        here.set_write_timeout(Some(std::time::Duration::from_millis(10))).expect("set");
        let sandboxes: Vec<_> = (0..1000)
            .map(|pid| (Identity { container: "abc".into(), pid, started_at: 42 }, Listeners::default()))
            .collect();
        let late = send_all(&mut here, &sandboxes).expect_err("nobody takes them");
        assert!(is_late(&late), "{late}");
    }

    #[test]
    fn a_sandbox_whose_sockets_are_lost_on_the_way_is_no_obstacle_to_the_next() {
        let (mut here, mut there) = UnixStream::pair().expect("a pair");
        let identity = Identity { container: "abc".into(), pid: 7, started_at: 42 };
        let head = Head { identity: identity.clone(), sockets: Counts { udp: MOST + 1, ..Counts::default() } };
        let head = serde_json::to_vec(&head).expect("plain data");
        let length = u32::try_from(head.len()).expect("short").to_be_bytes();
        here.write_all(&[&length[..], &head, &[0]].concat()).expect("sent");
        send(&mut here, &Identity { pid: 8, ..identity }, &Listeners::default()).expect("sent");
        let received = receive_all(&mut there, 2);
        assert_eq!(received.iter().map(|passed| passed.identity.pid).collect::<Vec<_>>(), [8]);
    }
}
