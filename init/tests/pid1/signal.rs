//! Signals reach the command, and a stop is a matter of moments.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::sandbox::{INIT, Sandbox, entering, eventually, is_deaf, without_init};

#[test]
fn signals_reach_the_command() {
    for (name, signal) in [
        ("HUP", Signal::HUP),
        ("INT", Signal::INT),
        ("QUIT", Signal::QUIT),
        ("USR1", Signal::USR1),
        ("USR2", Signal::USR2),
        ("ALRM", Signal::ALARM),
        ("TERM", Signal::TERM),
        ("CONT", Signal::CONT),
        ("WINCH", Signal::WINCH),
    ] {
        let script = format!("trap 'exit 42' {name}; echo up; sleep 1000 & wait");
        let mut sandbox = Sandbox::ready(&["sh", "-c", &script]);
        assert_eq!(sandbox.line(), "up");
        sandbox.send(signal);
        assert_eq!(sandbox.end(), 42, "{name}");
    }
}

#[test]
fn signals_without_a_name_reach_the_command() {
    let mut sandbox = Sandbox::ready(&["sh", "-c", "trap 'exit 42' 37; echo up; sleep 1000 & wait"]);
    assert_eq!(sandbox.line(), "up");
    let process = sandbox.pid1.to_string();
    assert!(Command::new("sh").args(["-c", "kill -37 \"$0\"", &process]).status().unwrap().success());
    assert_eq!(sandbox.end(), 42);
}

#[test]
fn a_command_that_does_not_handle_term_ends_by_it() {
    let mut sandbox = Sandbox::ready(&["sleep", "1000"]);
    sandbox.send(Signal::TERM);
    assert_eq!(sandbox.end(), 128 + 15);
}

#[test]
fn the_same_command_is_deaf_as_pid_1() {
    let mut sandbox = Sandbox::start(without_init(&["sh", "-c", "echo up; exec sleep 1000"]));
    assert_eq!(sandbox.line(), "up");
    sandbox.send(Signal::TERM);
    eventually("a discarded signal", || is_deaf(sandbox.pid1));
}

#[test]
fn idle_ends_at_once_when_asked_to_and_only_then() {
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let mut sandbox = Sandbox::ready(&[]);
        sandbox.send(Signal::HUP);
        sandbox.send(Signal::USR1);
        sandbox.send(Signal::WINCH);
        sandbox.send(signal);
        assert_eq!(sandbox.end(), 0, "{signal:?}");
    }
}

#[test]
fn what_outlives_the_command_is_asked_to_end() {
    let script = "(trap 'echo bye; exit' TERM; echo up; sleep 1000 & wait) & exec sleep 1000";
    let mut sandbox = Sandbox::ready(&["sh", "-c", script]);
    assert_eq!(sandbox.line(), "up");
    sandbox.send(Signal::TERM);
    assert_eq!(sandbox.rest(), "bye\n");
    assert_eq!(sandbox.end(), 128 + 15);
}

#[test]
fn what_was_entered_is_given_time_to_end() {
    for words in [&[][..], &["sleep", "1000"]] {
        let sandbox = Sandbox::ready(words);
        let script = "trap 'sleep 0.03; echo bye; exit' TERM; echo up; sleep 1000 & wait";
        let mut command = entering(&sandbox, &["--pid"], &["sh", "-c", script]);
        let mut entered = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(entered.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "up\n");
        sandbox.send(Signal::TERM);
        let mut rest = String::new();
        said.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "bye\n", "{words:?}");
        entered.wait().unwrap();
    }
}

/// Time from TERM to the end with `code`: the best of five, for the sake of a busy machine.
fn quickest_end(code: i32, start: impl Fn() -> Sandbox) -> Duration {
    let took = |_| {
        let mut sandbox = start();
        let asked = Instant::now();
        sandbox.send(Signal::TERM);
        assert_eq!(sandbox.end(), code);
        asked.elapsed()
    };
    (0..5).map(took).min().unwrap()
}

#[test]
fn with_nobody_there_the_end_waits_for_nobody() {
    let quickest = quickest_end(0, || Sandbox::ready(&[]));
    assert!(quickest < Duration::from_millis(80), "{quickest:?}");
}

#[test]
fn what_does_not_listen_does_not_hold_up_the_end() {
    let script = "(trap '' TERM; echo up; exec sleep 1000) & wait";
    let quickest = quickest_end(128 + 15, || {
        let mut sandbox = Sandbox::ready(&["sh", "-c", script]);
        assert_eq!(sandbox.line(), "up");
        sandbox
    });
    // The whole of what a stop may take; it is given its time before that.
    assert!(quickest < Duration::from_millis(200), "{quickest:?}");
    assert!(quickest >= Duration::from_millis(50), "{quickest:?}");
}

#[test]
fn anywhere_but_as_pid_1_bystanders_are_left_alone() {
    // A bystander that was asked to end would be reported as 143.
    let script = "sleep 1000 & \"$0\" sh -c 'exit 3'; echo $?; kill -KILL $!; wait $!; echo $?";
    let mut sandbox = Sandbox::start(without_init(&["sh", "-c", script, INIT]));
    assert_eq!(sandbox.rest(), "3\n137\n");
    sandbox.end();
}
