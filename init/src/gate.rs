//! Holds the command back until the host says that the egress policy is in force (see [`protocol`]).

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::kernel::{self, Signal, Signals};
use crate::{protocol, reap};

/// How the wait ended.
pub enum Passage {
    /// The policy is in force.
    Opened,
    /// Somebody asked to stop before.
    Stopped(Signal),
}

/// Waits at the gate. `complain` is called once, when it takes long.
///
/// # Errors
/// The gate could not be set up: somebody has its name already, so this is not the sandbox's first process.
pub fn wait(signals: &Signals, complain: impl FnOnce()) -> io::Result<Passage> {
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(protocol::GATE)?)?;
    listener.set_nonblocking(true)?;
    let queued = signals.descriptor()?;
    let mut complain = Some(complain);
    let patience = Instant::now() + protocol::PATIENCE;
    let mut opener: Option<UnixStream> = None;
    loop {
        let limit = complain.is_some().then(|| patience.saturating_duration_since(Instant::now()));
        let more = opener.as_ref().map_or(queued.as_fd(), AsFd::as_fd);
        // Whatever it was, an interruption too: all of them are looked at.
        let _ = poll(&mut [wanted(&queued), wanted(&listener), wanted(&more)], limit.map(timespec).as_ref());

        while let Some(signal) = signals.next_within(Duration::ZERO) {
            match signal {
                libc::SIGTERM | libc::SIGINT | libc::SIGQUIT => return Ok(Passage::Stopped(signal)),
                libc::SIGCHLD => drop(reap::reap(None)),
                _ => {}
            }
        }
        if let Ok((connection, _)) = listener.accept()
            && comes_from_outside(&connection)
        {
            opener = Some(connection);
        }
        if let Some(connection) = &mut opener {
            let mut byte = [0];
            match connection.read(&mut byte) {
                Ok(1) if byte[0] == protocol::OPEN => return Ok(Passage::Opened),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                _ => opener = None,
            }
        }
        if Instant::now() >= patience
            && let Some(complain) = complain.take()
        {
            complain();
        }
    }
}

/// What a gate looks like from beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// PID 1 of the namespace we are in says that it is past its gate, or has none.
    Open,
    /// It says that it waits.
    Shut,
    /// It says nothing of the kind, or cannot be looked at.
    Unknown,
}

/// Looks at the gate of the namespace we are in.
pub fn look() -> Seen {
    // Until PID 1 gives itself a name it has the engine's; whether it has a gate nobody knows by then.
    fs::read("/proc/1/comm").map_or(Seen::Unknown, |name| seen(name.trim_ascii_end()))
}

fn seen(name: &[u8]) -> Seen {
    if [protocol::STARTING, protocol::READY].iter().any(|open| open.to_bytes() == name) {
        Seen::Open
    } else if name == protocol::WAITING.to_bytes() {
        Seen::Shut
    } else {
        Seen::Unknown
    }
}

fn comes_from_outside(connection: &UnixStream) -> bool {
    connection.set_nonblocking(true).is_ok() && kernel::peer(connection).is_ok_and(|process| process == 0)
}

fn wanted(descriptor: &impl AsFd) -> PollFd<'_> {
    PollFd::new(descriptor, PollFlags::IN)
}

fn timespec(limit: Duration) -> Timespec {
    // At most the patience: seconds that fit.
    Timespec { tv_sec: limit.as_secs().cast_signed(), tv_nsec: limit.subsec_nanos().into() }
}
