//! The command a sandbox is for: how it is started, and in words why it could not be.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, getpid, getsid, ioctl_tiocsctty, setpgid, setsid};
use rustix::stdio::stdin;
use rustix::termios::{isatty, tcsetpgrp};

use crate::kernel;
use crate::protocol::{EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, EXIT_USAGE};
use crate::secret::{Secrets, Unusable};

/// Starts the command as a child, looked up along `PATH` as `execvp` does.
///
/// # Assumptions
/// Signals are held.
///
/// # Guarantees
/// Success means that the program runs: an exec that fails in the child comes back as an error here.
pub fn start(program: &OsStr, arguments: &[OsString], secrets: &Secrets) -> Result<Pid, NotStarted> {
    let mut command = Command::new(program);
    command.args(arguments);
    secrets.give(&mut command)?;
    kernel::before_exec(&mut command, place_for_child());
    let child = command.spawn().map_err(|error| NotStarted::Program { program: program.to_owned(), error })?;
    // Dropped without a wait: whoever reaps, reaps this one too.
    Ok(Pid::from_child(&child))
}

/// Becomes the command, looked up in the same way. Returns only if that fails.
///
/// # Guarantees
/// The process stays the one the caller started: number, session, terminal and descriptors are the command's.
pub fn become_it(program: &OsStr, arguments: &[OsString], secrets: &Secrets) -> NotStarted {
    let mut command = Command::new(program);
    command.args(arguments);
    if let Err(error) = secrets.give(&mut command) {
        return error.into();
    }
    let error = command.exec();
    NotStarted::Program { program: program.to_owned(), error }
}

/// Decides which session and terminal the child gets, and returns what it has to do for that itself.
fn place_for_child() -> fn() -> io::Result<()> {
    if !isatty(stdin()) {
        return lead_session;
    }
    let leads = getsid(None).is_ok_and(|session| session == getpid());
    if !leads {
        // Not as an engine starts a container: the terminal belongs to someone else's session, which we must stay in.
        return take_foreground;
    }
    if kernel::release_terminal(stdin()).is_ok() {
        // The kernel hangs up on the session that lets go of its terminal: on us, and we asked for it.
        kernel::forget(&[libc::SIGHUP, libc::SIGCONT]);
    }
    lead_session_on_terminal
}

fn lead_session() -> io::Result<()> {
    setsid()?;
    Ok(())
}

/// A session of its own rather than only a group in ours: nobody here would continue a command that Ctrl-Z stopped, and
/// in an orphaned group the kernel does not let it stop.
fn lead_session_on_terminal() -> io::Result<()> {
    setsid()?;
    // Refused where another session still holds the terminal; the command can do without job control.
    let _ = ioctl_tiocsctty(stdin());
    Ok(())
}

fn take_foreground() -> io::Result<()> {
    setpgid(None, None)?;
    let _ = tcsetpgrp(stdin(), getpid());
    Ok(())
}

/// Why the command does not run.
#[derive(Debug)]
pub enum NotStarted {
    Program { program: OsString, error: io::Error },
    Secret(Unusable),
}

impl From<Unusable> for NotStarted {
    fn from(error: Unusable) -> Self {
        Self::Secret(error)
    }
}

impl NotStarted {
    /// The exit code that shells use for this.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Program { error, .. } if error.kind() == io::ErrorKind::NotFound => EXIT_NOT_FOUND,
            Self::Program { .. } => EXIT_NOT_EXECUTABLE,
            Self::Secret(_) => EXIT_USAGE,
        }
    }
}

/// The kernel says "not found" of a program whose interpreter or loader is what is missing.
fn lacks_interpreter(program: &OsStr, error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound && program.as_bytes().contains(&b'/') && Path::new(program).exists()
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (program, error) = match self {
            Self::Program { program, error } => (program, error),
            Self::Secret(error) => return error.fmt(f),
        };
        let reason = error.to_string();
        // The number says nothing that the words do not.
        let reason = reason.split(" (os error").next().unwrap_or(&reason);
        write!(f, "cannot run {:?}: {reason}", program.to_string_lossy())?;
        if lacks_interpreter(program, error) {
            write!(f, " (the file is there; the interpreter or loader that it names is not)")?;
        }
        Ok(())
    }
}
