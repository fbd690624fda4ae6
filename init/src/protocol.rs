//! What the host may rely on: how PID 1 tells that it is ready, how it is held back until then, where secrets come from,
//! and what exit codes mean.
//!
//! Readiness is told through the process's own name, `/proc/<pid>/comm`: it needs no mount, no socket and no file in the
//! sandbox, only the process itself can change it, and it is gone with the process. The host compares that one line with
//! [`READY`]. It is a report from inside a sandbox all the same, and decides nothing but whether to go on waiting.
//!
//! | name | meaning |
//! |---|---|
//! | [`STARTING`] | signals may not be held yet, the command does not run yet, or could not be started |
//! | [`WAITING`] | the gate is shut: nothing of the sandbox's own was started yet |
//! | [`READY`] | the command's program has replaced its forked image (exec succeeded), or there is none and PID 1 idles |
//!
//! # The gate
//! Started as `sbx-init --gate`, PID 1 starts nothing until the host says that the egress policy is in force; whoever
//! started the container, and each time. It listens on the abstract socket [`GATE`] of its network namespace, where no
//! file is needed, and where nobody was before it. A connection counts when its peer is *outside* of PID 1's own process
//! namespace: the kernel then tells its number as 0, which no process inside can bring about. Everybody else's is
//! closed unread. The first byte of such a connection opens the gate if it is [`OPEN`]; a connection that ends or says
//! anything else is forgotten, and of two the later one counts: a daemon's successor does not have to know of the first.
//!
//! A stop is answered at once while the gate is shut. `sbx-init exec` refuses meanwhile, with [`EXIT_USAGE`]: it would
//! otherwise be the way past the gate. It goes on only where PID 1's name is [`STARTING`] or [`READY`]; a name that was
//! not given yet, or cannot be read, says nothing. What a container engine enters by itself, without `sbx-init exec`, is the doing
//! of whoever may use the engine, and not held.

use std::ffi::CStr;
use std::time::Duration;

/// The process's name until the command runs.
pub const STARTING: &CStr = c"sbx-init:start";

/// The process's name while its gate is shut.
pub const WAITING: &CStr = c"sbx-init:gate";

/// The process's name from the moment the command runs, or, without one, signals are answered.
pub const READY: &CStr = c"sbx-init:ready";

/// The variable that says which variables get their value from which file: `TOKEN=/run/sbx/secrets/a:KEY=/run/sbx/secrets/b`.
///
/// Read by PID 1 for its command, and by `sbx-init exec` for a command that an engine enters into the sandbox; neither
/// command sees it. A file that cannot be read, or holds a NUL byte, keeps the command from starting, with
/// [`EXIT_USAGE`]; but `exec` as another user goes without what that user may not read.
pub const SECRET_ENV: &str = "SBX_SECRET_ENV";

/// The kernel cuts names off after this many bytes; a name that was cut would never compare equal.
const COMM_MAX: usize = 15;
const _: () =
    assert!(STARTING.count_bytes() <= COMM_MAX && WAITING.count_bytes() <= COMM_MAX && READY.count_bytes() <= COMM_MAX);

/// The abstract socket of the gate.
pub const GATE: &[u8] = b"sbx-gate";

/// The byte that opens it.
pub const OPEN: u8 = b'o';

/// How long PID 1 waits at its gate before it says so on standard error, once. With a daemon it is milliseconds.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Exit code: the arguments make no sense, a secret cannot be had, or the gate cannot be set up or is not known to be open. Container engines use the same code for failures of their own.
pub const EXIT_USAGE: u8 = 125;

/// Exit code: the command is there but cannot be run.
pub const EXIT_NOT_EXECUTABLE: u8 = 126;

/// Exit code: there is no such command.
pub const EXIT_NOT_FOUND: u8 = 127;

/// Exit code: this plus the number of the signal that ended the command.
pub const EXIT_SIGNAL: u8 = 128;

/// How long processes that outlive the command get between their TERM and the end of the sandbox. With the time an
/// engine needs to take a container down, a stop stays under 200 ms.
pub const STOP_GRACE: Duration = Duration::from_millis(100);

/// Changes the process's name. Fails for no valid string, so there is nothing to report.
pub fn announce(state: &CStr) {
    let _ = rustix::thread::set_name(state);
}
