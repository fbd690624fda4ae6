//! Orphans are collected, whoever left them.

use std::process::Command;

use crate::sandbox::{Sandbox, children, eventually, init, is_zombie, without_init};

/// Leaves three orphans that end a little later, and stays without ever collecting anything.
const LEAVE_ORPHANS: [&str; 3] = ["sh", "-c", "(sleep 0.3 & sleep 0.3 & sleep 0.3 &); echo left; exec sleep 1000"];

fn zombies(sandbox: &Sandbox) -> usize {
    let process = sandbox.pid1.as_raw_nonzero().get().cast_unsigned();
    children(process).into_iter().filter(|child| is_zombie(*child)).count()
}

fn leave_orphans(command: Command) -> Sandbox {
    let mut sandbox = Sandbox::start(command);
    assert_eq!(sandbox.line(), "left");
    sandbox
}

#[test]
fn orphans_are_collected() {
    let sandbox = leave_orphans(init(&LEAVE_ORPHANS));
    let process = sandbox.pid1.as_raw_nonzero().get().cast_unsigned();
    eventually("the command as the only child", || children(process).len() == 1);
    assert_eq!(zombies(&sandbox), 0);
}

#[test]
fn the_same_orphans_stay_without_it() {
    let sandbox = leave_orphans(without_init(&LEAVE_ORPHANS));
    eventually("three zombies", || zombies(&sandbox) == 3);
}

#[test]
fn a_flood_of_orphans_is_collected_and_the_exit_code_is_right() {
    let script = "i=0; while [ $i -lt 200 ]; do (true &); i=$((i+1)); done; exit 9";
    let mut sandbox = Sandbox::start(init(&["sh", "-c", script]));
    assert_eq!(sandbox.end(), 9);
}
