//! PID 1 inside a sandbox, mounted into any image, an empty one too.
//!
//! Runs one command, or idles; collects orphans; hands signals on; ends with the command's exit code. With `--gate` it
//! does so once the host says that the egress policy is in force. `sbx-init exec`
//! is what commands that are entered later pass through, to get the same environment. What the host may rely on is in
//! [`protocol`].

mod command;
mod gate;
mod kernel;
mod protocol;
mod reap;
mod secret;

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use command::NotStarted;
use gate::{Passage, Seen};
use kernel::Signals;
use secret::Secrets;

const USAGE: &str = "\
usage: sbx-init [--gate] [--] [COMMAND [ARGUMENT...]]
       sbx-init exec [NAME...] -- COMMAND [ARGUMENT...]
       sbx-init --version";

/// How often is looked whether somebody is left.
const LOOK: Duration = Duration::from_millis(5);

fn main() -> ExitCode {
    let mut words: Vec<OsString> = env::args_os().skip(1).collect();
    let gated = words.first().is_some_and(|word| word == "--gate");
    // At once: until then the name is the engine's, and `exec`, which cannot tell whether there is a gate, refuses.
    protocol::announce(if gated { protocol::WAITING } else { protocol::STARTING });
    if gated {
        drop(words.remove(0));
    }
    match words.first().map(|word| word.as_encoded_bytes()) {
        Some(b"--version") if !gated => {
            let printed = writeln!(io::stdout(), "sbx-init {}", env!("CARGO_PKG_VERSION"));
            return if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        Some(b"exec") if !gated => return ExitCode::from(enter(&words[1..])),
        Some(b"--") => drop(words.remove(0)),
        Some([b'-', ..]) => {
            complain(format_args!("unknown option {:?}\n{USAGE}", words[0].to_string_lossy()));
            return ExitCode::from(protocol::EXIT_USAGE);
        }
        _ => {}
    }
    ExitCode::from(run(&words, gated))
}

fn run(words: &[OsString], gated: bool) -> u8 {
    let signals = Signals::hold();
    if gated {
        if let Some(code) = wait_at_gate(&signals) {
            dismiss(&signals);
            return code;
        }
        protocol::announce(protocol::STARTING);
    }
    let code = match words.split_first() {
        None => {
            protocol::announce(protocol::READY);
            idle(&signals);
            0
        }
        Some((program, arguments)) => match start(program, arguments) {
            Ok(command) => {
                protocol::announce(protocol::READY);
                attend(command, &signals)
            }
            Err(error) => {
                complain(format_args!("{error}"));
                error.exit_code()
            }
        },
    };
    dismiss(&signals);
    code
}

/// Returns an exit code when the command is not to be started.
fn wait_at_gate(signals: &Signals) -> Option<u8> {
    let waits = || {
        complain(format_args!(
            "waiting for the sbx daemon to put the egress policy in force; see `sbx daemon status`, and start it with \
             `sbx daemon start`"
        ));
    };
    match gate::wait(signals, waits) {
        Ok(Passage::Opened) => None,
        Ok(Passage::Stopped(signal)) => {
            Some(protocol::EXIT_SIGNAL.saturating_add(signal.try_into().unwrap_or(u8::MAX)))
        }
        Err(error) => {
            complain(format_args!("cannot set up the gate that holds the command back: {error}"));
            Some(protocol::EXIT_USAGE)
        }
    }
}

fn start(program: &OsStr, arguments: &[OsString]) -> Result<Pid, NotStarted> {
    command::start(program, arguments, &Secrets::of_environment()?)
}

/// Becomes a command with the environment of the main one, but for the variables whose names come first: those are the
/// caller's. Returns the exit code for why that failed.
fn enter(words: &[OsString]) -> u8 {
    let mut parts = words.splitn(2, |word| word == "--");
    let (kept, command) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let Some((program, arguments)) = command.split_first() else {
        complain(format_args!("exec without a command\n{USAGE}"));
        return protocol::EXIT_USAGE;
    };
    match gate::look() {
        Seen::Open => {}
        Seen::Shut => {
            complain(format_args!("not yet: the sandbox waits for its egress policy; see `sbx daemon status`"));
            return protocol::EXIT_USAGE;
        }
        Seen::Unknown => {
            complain(format_args!(
                "not yet: /proc/1/comm does not say whether the sandbox is held to its egress policy; try again, and \
                 if it stays so, make the sandbox anew with `sbx apply --replace SANDBOX`"
            ));
            return protocol::EXIT_USAGE;
        }
    }
    let failure = match Secrets::of_environment() {
        Ok(secrets) => command::become_it(program, arguments, &secrets.without(kept).readable()),
        Err(error) => error.into(),
    };
    complain(format_args!("{failure}"));
    failure.exit_code()
}

/// Collects orphans until someone asks to stop.
fn idle(signals: &Signals) {
    loop {
        match signals.next() {
            libc::SIGTERM | libc::SIGINT | libc::SIGQUIT => return,
            libc::SIGCHLD => drop(reap::reap(None)),
            _ => {}
        }
    }
}

/// Hands signals to the command until it ends, and returns its exit code.
fn attend(command: Pid, signals: &Signals) -> u8 {
    loop {
        match signals.next() {
            libc::SIGCHLD => {
                if let Some(code) = reap::reap(Some(command)).command {
                    return code;
                }
            }
            // The command is not collected yet, so its number still means it and nobody else.
            signal => kernel::send(command, signal),
        }
    }
}

/// Asks what is left to end, and gives it a moment: the kernel kills the rest when PID 1 exits.
///
/// Children, and by then that includes all orphans, are not the only ones: what an engine entered into the sandbox is
/// not ours to collect, and no signal tells of its end.
fn dismiss(signals: &Signals) {
    kernel::send_to_all_others(libc::SIGTERM);
    let deadline = Instant::now() + protocol::STOP_GRACE;
    while reap::reap(None).others_run || kernel::others_run() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        signals.next_within(left.min(LOOK));
    }
}

fn complain(message: std::fmt::Arguments<'_>) {
    // With stderr closed there is nobody to tell.
    let _ = writeln!(io::stderr(), "sbx-init: {message}");
}
