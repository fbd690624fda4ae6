//! The name by which PID 1 says that it is ready.

use std::process::Stdio;

use rustix::process::Signal;

use crate::sandbox::{INIT, Sandbox, children, eventually, is_zombie, name, namespace};

/// The name with which PID 1 ended: its parent never collects it, so the last one stays readable.
fn last_name(words: &[&str]) -> String {
    let mut command = namespace();
    // Without a fork of its own, the first child of the shell is PID 1; then the shell becomes something that never waits.
    command.args(["--", "sh", "-c", "\"$@\" & exec sleep 1000", "sh", INIT]).args(words).stderr(Stdio::null());
    let sandbox = Sandbox::start(command);
    eventually("an ended PID 1", || is_zombie(sandbox.pid1));
    name(sandbox.pid1)
}

#[test]
fn a_command_that_started_was_ready() {
    assert_eq!(last_name(&["true"]), "sbx-init:ready");
    assert_eq!(last_name(&["false"]), "sbx-init:ready");
}

#[test]
fn a_command_that_could_not_start_never_was() {
    assert_eq!(last_name(&["no-such-command"]), "sbx-init:start");
    assert_eq!(last_name(&["/"]), "sbx-init:start");
}

#[test]
fn ready_means_that_the_program_runs() {
    let sandbox = Sandbox::ready(&["sleep", "1000"]);
    let command = children(sandbox.pid1.as_raw_nonzero().get().cast_unsigned());
    assert_eq!(command.iter().map(|child| name(*child)).collect::<Vec<_>>(), ["sleep"]);
}

#[test]
fn without_a_command_ready_means_that_signals_are_answered() {
    for words in [&[][..], &["--"]] {
        let mut sandbox = Sandbox::ready(words);
        sandbox.send(Signal::TERM);
        assert_eq!(sandbox.end(), 0);
    }
}
