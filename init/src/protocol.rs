//! What the host may rely on: how PID 1 tells that it is ready, where secrets come from, and what exit codes mean.
//!
//! Readiness is told through the process's own name, `/proc/<pid>/comm`: it needs no mount, no socket and no file in the
//! sandbox, only the process itself can change it, and it is gone with the process. The host compares that one line with
//! [`READY`]. It is a report from inside a sandbox all the same, and decides nothing but whether to go on waiting.
//!
//! | name | meaning |
//! |---|---|
//! | [`STARTING`] | signals may not be held yet, the command does not run yet, or could not be started |
//! | [`READY`] | the command's program has replaced its forked image (exec succeeded), or there is none and PID 1 idles |

use std::ffi::CStr;
use std::time::Duration;

/// The process's name until the command runs.
pub const STARTING: &CStr = c"sbx-init:start";

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
const _: () = assert!(STARTING.count_bytes() <= COMM_MAX && READY.count_bytes() <= COMM_MAX);

/// Exit code: the arguments make no sense, or a secret cannot be had. Container engines use the same code for failures of their own.
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
