//! Collecting children that ended: our own, and every orphan of the sandbox.

use rustix::process::{Pid, WaitOptions, WaitStatus, wait};

use crate::protocol::EXIT_SIGNAL;

/// What is known after everything that had ended was collected.
#[derive(Debug, Default)]
pub struct Reaped {
    /// The exit code for the command, if it was among them.
    pub command: Option<u8>,
    /// Whether children are left that still run.
    pub others_run: bool,
}

/// Collects every child that has ended, without waiting. One SIGCHLD can stand for many of them.
pub fn reap(command: Option<Pid>) -> Reaped {
    let mut reaped = Reaped::default();
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((child, status))) if Some(child) == command => reaped.command = Some(exit_code(status)),
            Ok(Some(_)) => {}
            Ok(None) => {
                reaped.others_run = true;
                return reaped;
            }
            // No children at all.
            Err(_) => return reaped,
        }
    }
}

fn exit_code(status: WaitStatus) -> u8 {
    let code = match status.terminating_signal() {
        Some(signal) => i32::from(EXIT_SIGNAL) + signal,
        None => status.exit_status().unwrap_or_default(),
    };
    u8::try_from(code).unwrap_or(u8::MAX)
}
