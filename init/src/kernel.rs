//! The system calls that have no safe wrapper, each in the smallest function that is safe to call.
//!
//! This is the one module with `unsafe`: signal sets and the hook between fork and exec exist only as C interfaces.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::time::Duration;

use rustix::process::Pid;

/// A signal by its number: real-time signals have no names, and some images use one to stop.
pub type Signal = libc::c_int;

/// Raised by the processor for an instruction of our own; holding them back would only hide a crash.
const FAULTS: [Signal; 6] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS];

/// The last signal number of Linux.
const LAST_SIGNAL: Signal = 64;

/// The kernel's own "default action", all zeros. The C library would not let us reset the signals it keeps for itself,
/// and a parent may have left them ignored.
const DEFAULT: [u64; 4] = [0; 4];

/// The size of the kernel's signal set, which is not the C library's.
const SIGNAL_SET_BYTES: usize = 8;

/// All signals, held back from interrupting and taken one at a time instead.
///
/// # Guarantees
/// While held, a signal is queued even for PID 1, from which the kernel keeps every signal without a handler.
pub struct Signals {
    held: libc::sigset_t,
}

impl Signals {
    /// Holds every signal but those that report a crash.
    pub fn hold() -> Self {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigfillset initializes the set before anything reads it, and cannot fail on a valid pointer; the
        // process has one thread, whose mask this is.
        unsafe {
            libc::sigfillset(set.as_mut_ptr());
            for fault in FAULTS {
                libc::sigdelset(set.as_mut_ptr(), fault);
            }
            // An inherited "ignore" would make the kernel reap children itself, and lose the command's exit code.
            libc::signal(libc::SIGCHLD, libc::SIG_DFL);
            libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), ptr::null_mut());
            Self { held: set.assume_init() }
        }
    }

    /// Waits for the next signal.
    pub fn next(&self) -> Signal {
        loop {
            // SAFETY: the set is initialized, and a null info pointer is allowed.
            let signal = unsafe { libc::sigwaitinfo(&raw const self.held, ptr::null_mut()) };
            // Anything else is an interruption by a stop and continue.
            if signal > 0 {
                return signal;
            }
        }
    }

    /// Waits for the next signal, or until the time is up. An interrupted wait counts as one that is up: callers
    /// have their own deadline.
    pub fn next_within(&self, limit: Duration) -> Option<Signal> {
        wait_within(&self.held, limit)
    }

    /// A descriptor that can be read from while a held signal is queued, to wait for signals beside other things.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        // SAFETY: the set is initialized, and -1 asks for a new descriptor.
        let descriptor = unsafe { libc::signalfd(-1, &raw const self.held, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it was just made, and nobody else knows it.
        Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
    }
}

/// The number of the process at the other end of a Unix socket, in our own process namespace; 0 when it is outside.
///
/// Asked of the kernel directly: in `rustix` a process number cannot be 0.
pub fn peer(connection: impl AsFd) -> io::Result<libc::pid_t> {
    let mut peer = libc::ucred { pid: -1, uid: 0, gid: 0 };
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
        0 => Ok(peer.pid),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Forgets one queued instance of each of these held signals.
pub fn forget(signals: &[Signal]) {
    for &signal in signals {
        let mut only = MaybeUninit::uninit();
        // SAFETY: sigemptyset initializes the set before anything reads it.
        let only = unsafe {
            libc::sigemptyset(only.as_mut_ptr());
            libc::sigaddset(only.as_mut_ptr(), signal);
            only.assume_init()
        };
        wait_within(&only, Duration::ZERO);
    }
}

fn wait_within(set: &libc::sigset_t, limit: Duration) -> Option<Signal> {
    let limit = libc::timespec {
        tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(limit.subsec_nanos().cast_signed()),
    };
    // SAFETY: both pointers are to live, initialized values, and a null info pointer is allowed.
    let signal = unsafe { libc::sigtimedwait(set, ptr::null_mut(), &raw const limit) };
    (signal > 0).then_some(signal)
}

/// Sends a signal to one process. That it may have ended already is no failure.
pub fn send(process: Pid, signal: Signal) {
    // SAFETY: kill takes two numbers and touches no memory of ours.
    unsafe { libc::kill(process.as_raw_nonzero().get(), signal) };
}

/// Sends a signal to every process in the namespace but the caller.
///
/// Does nothing unless the caller is PID 1: anywhere else "every process" would reach beyond the sandbox.
pub fn send_to_all_others(signal: Signal) {
    if rustix::process::getpid().is_init() {
        // SAFETY: kill takes two numbers and touches no memory of ours.
        unsafe { libc::kill(-1, signal) };
    }
}

/// Whether any process but the caller is left in the namespace: children, and what was entered from outside.
///
/// Says no unless the caller is PID 1, as above.
pub fn others_run() -> bool {
    // SAFETY: kill takes two numbers and touches no memory of ours; signal 0 is not sent.
    rustix::process::getpid().is_init() && unsafe { libc::kill(-1, 0) } == 0
}

/// Gives up the controlling terminal, so that another session can take it.
pub fn release_terminal(terminal: impl AsFd) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed for the length of the call, and this request takes no argument.
    match unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCNOTTY) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes the command start with no signal blocked or ignored, after `prepare` ran in the forked child.
///
/// `prepare` must not allocate or take locks: system calls only. It still runs with all signals held, so taking the
/// foreground of a terminal does not stop it.
pub fn before_exec(command: &mut Command, prepare: fn() -> io::Result<()>) {
    let hook = move || {
        prepare()?;
        let mut none = MaybeUninit::uninit();
        // SAFETY: the kernel reads at most the four words of DEFAULT; these calls are async-signal-safe; sigemptyset initializes the set before it is read.
        unsafe {
            for signal in 1..=LAST_SIGNAL {
                // Fails for KILL and STOP, which cannot be ignored.
                libc::syscall(
                    libc::SYS_rt_sigaction,
                    signal,
                    DEFAULT.as_ptr(),
                    ptr::null_mut::<u64>(),
                    SIGNAL_SET_BYTES,
                );
            }
            libc::sigemptyset(none.as_mut_ptr());
            libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
        }
        Ok(())
    };
    // SAFETY: the hook makes system calls only, and the process has one thread, so no lock can be held across the fork.
    unsafe { command.pre_exec(hook) };
}
