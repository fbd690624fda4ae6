//! A command on a terminal has that terminal, keys that send signals included.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::sandbox::{INIT, Sandbox, namespace};

/// Starts PID 1 as an engine does for a terminal: it leads the session that the terminal controls.
fn on_terminal(words: &[&str]) -> (Sandbox, File) {
    let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&near).unwrap();
    unlockpt(&near).unwrap();
    let far = ptsname(&near, Vec::new()).unwrap().into_string().unwrap();
    let far = OpenOptions::new().read(true).write(true).open(far).unwrap();

    let mut command = namespace();
    command.args(["--fork", "--kill-child", "--", "setsid", "--ctty"]).args(words).stdin(far);
    (Sandbox::start(command), File::from(near))
}

fn wait_for(terminal: &mut File, words: &str) {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(words) {
        let mut bytes = [0; 64];
        let count = terminal.read(&mut bytes).unwrap();
        seen.extend_from_slice(&bytes[..count]);
    }
}

/// Fails to say "up" unless the terminal controls its session.
const SCRIPT: &str = "echo up >/dev/tty && exec sleep 1000";

#[test]
fn keys_that_send_signals_reach_the_command() {
    let (mut sandbox, mut terminal) = on_terminal(&[INIT, "sh", "-c", SCRIPT]);
    wait_for(&mut terminal, "up");
    // Were it stopped by the first key, nobody would continue it for the second to end it.
    terminal.write_all(b"\x1a\x03").unwrap();
    assert_eq!(sandbox.end(), 128 + 2);
}

#[test]
fn a_command_keeps_job_control() {
    // In such a shell each job takes the foreground and gives it back, which needs a terminal of its own.
    let (mut sandbox, mut terminal) =
        on_terminal(&[INIT, "sh", "-c", "set -m; sh -c 'echo up >/dev/tty; exec sleep 1000'; exit $(($? - 100))"]);
    wait_for(&mut terminal, "up");
    terminal.write_all(b"\x1c").unwrap();
    assert_eq!(sandbox.end(), 31);
}
