//! The process whose namespaces are entered, and proof that it is still that one.

use std::fs;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::AttachError;

/// A running process, held by a pidfd: a number alone may be given to somebody else at any time.
#[derive(Debug, Clone)]
pub struct Target {
    pid: u32,
    started: u64,
    pidfd: Arc<OwnedFd>,
}

impl Target {
    /// Takes hold of process `pid`, in our own process namespace.
    ///
    /// What is known of a process by its number (its control group, its name) counts when it is read *after* this and
    /// [`Target::is_alive`] holds *after* that.
    pub fn hold(pid: u32) -> Result<Self, AttachError> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(AttachError::Gone { pid })?;
        let pidfd = match pidfd_open(number, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return Err(AttachError::Gone { pid }),
            Err(error) => return Err(AttachError::Target { pid, source: error.into() }),
        };
        let started = directory(pid)
            .and_then(|directory| started(directory.as_fd()))
            .map_err(|source| AttachError::Target { pid, source })?;
        let target = Self { pid, started, pidfd: Arc::new(pidfd) };
        if target.is_alive() { Ok(target) } else { Err(AttachError::Gone { pid }) }
    }

    /// The same, if it is still the process that began at `started`.
    pub fn of(pid: u32, started: u64) -> Result<Self, AttachError> {
        let target = Self::hold(pid)?;
        if target.started == started { Ok(target) } else { Err(AttachError::Gone { pid }) }
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// When it began, in clock ticks after the machine did (field 22 of `/proc/PID/stat`).
    pub fn started(&self) -> u64 {
        self.started
    }

    /// Whether it has not ended yet.
    pub fn is_alive(&self) -> bool {
        is_alive(self.pidfd())
    }

    /// Readable once it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Whether the process of `pidfd` has not ended yet.
pub fn is_alive(pidfd: BorrowedFd<'_>) -> bool {
    let mut wait = [PollFd::new(&pidfd, PollFlags::IN)];
    matches!(poll(&mut wait, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0))
}

/// The process's directory: it stays that process's, and is empty once that has ended.
pub fn directory(pid: u32) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty())?)
}

/// When the process of a directory began.
pub fn started(directory: BorrowedFd<'_>) -> io::Result<u64> {
    let stat = rustix::fs::openat(directory, "stat", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut text = Vec::new();
    fs::File::from(stat).read_to_end(&mut text)?;
    // The name, in parentheses, can itself contain anything.
    let rest = text.iter().rposition(|byte| *byte == b')').and_then(|end| text.get(end + 1..));
    rest.and_then(|rest| str::from_utf8(rest).ok())
        .and_then(|rest| rest.split_ascii_whitespace().nth(19))
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

    use super::*;

    #[test]
    fn another_process_of_the_same_number_is_told_apart() {
        let own = Target::hold(std::process::id()).unwrap();
        assert!(own.is_alive() && own.started() > 0);
        assert!(Target::of(own.pid(), own.started()).is_ok());
        let other = Target::of(own.pid(), own.started() + 1);
        assert!(matches!(other, Err(AttachError::Gone { .. })), "{other:?}");
    }

    #[test]
    fn what_has_ended_is_gone() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let target = Target::hold(child.id()).unwrap();
        assert!(target.is_alive());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!target.is_alive());
        assert!(matches!(Target::hold(target.pid()), Err(AttachError::Gone { .. })));
        for impossible in [0, u32::MAX] {
            assert!(matches!(Target::hold(impossible), Err(AttachError::Gone { .. })));
        }
    }
}
