//! The gate: nothing runs before somebody from outside opens it.

use std::fs::{self, File};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal};

use crate::sandbox::{INIT, Sandbox, children, entering, eventually, name, namespace, without_init};

/// Says something to the gate, waits for its answer or its end, and tells which of both came.
const SPEAK: &str = "use Socket; $SIG{PIPE} = \"IGNORE\"; socket(S, PF_UNIX, SOCK_STREAM, 0) or die; \
    connect(S, pack_sockaddr_un(\"\\0sbx-gate\")) or die \"no gate: $!\\n\"; \
    syswrite(S, $ARGV[0]); print \"connected\\n\"; $| = 1; print sysread(S, $b, 1) ? \"answered\\n\" : \"closed\\n\"";

/// A gated namespace with a network of its own, where the gate's name is free.
fn gated(words: &[&str]) -> Command {
    let mut command = namespace();
    command.args(["--net", "--fork", "--kill-child", "--", INIT, "--gate"]).args(words);
    command
}

fn waiting(words: &[&str]) -> Sandbox {
    let sandbox = Sandbox::start(gated(words));
    eventually("a shut gate", || name(sandbox.pid1) == "sbx-init:gate");
    sandbox
}

/// The same words from a process that is only in the network namespace, as the daemon's helper is.
fn from_outside(sandbox: &Sandbox, word: &str) -> Output {
    entering(sandbox, &["--net"], &["perl", "-e", SPEAK, word]).output().unwrap()
}

/// The same words from a process that is in the sandbox.
fn from_inside(sandbox: &Sandbox, word: &str) -> Output {
    entering(sandbox, &["--net", "--pid"], &["perl", "-e", SPEAK, word]).output().unwrap()
}

fn commands(process: Pid) -> Vec<Pid> {
    children(process.as_raw_nonzero().get().cast_unsigned())
}

#[test]
fn nothing_runs_until_the_gate_opens() {
    let mut sandbox = waiting(&["--", "sh", "-c", "echo ran; exec sleep 1000"]);
    assert!(commands(sandbox.pid1).is_empty());
    let said = from_outside(&sandbox, "o");
    assert!(said.status.success(), "{said:?}");
    assert_eq!(sandbox.line(), "ran");
    eventually("ready", || name(sandbox.pid1) == "sbx-init:ready");
}

#[test]
fn whoever_is_inside_cannot_open_it() {
    let mut sandbox = waiting(&["sh", "-c", "echo ran"]);
    for _ in 0..3 {
        let forged = from_inside(&sandbox, "o");
        assert_eq!(String::from_utf8_lossy(&forged.stdout), "connected\nclosed\n", "{forged:?}");
    }
    assert_eq!((name(sandbox.pid1).as_str(), commands(sandbox.pid1).len()), ("sbx-init:gate", 0));
    // The very same from outside.
    assert_eq!(String::from_utf8_lossy(&from_outside(&sandbox, "o").stdout), "connected\nclosed\n");
    assert_eq!(sandbox.line(), "ran");
}

#[test]
fn anything_but_the_byte_is_forgotten() {
    let mut sandbox = waiting(&["sh", "-c", "echo ran"]);
    for word in ["", "x", "xo"] {
        // Said by one who goes away, who is hence not waited for.
        let silent = if word.is_empty() { "close S; exit; " } else { "" };
        let script = SPEAK.replace("syswrite", &format!("{silent}syswrite"));
        let said = entering(&sandbox, &["--net"], &["perl", "-e", &script, word]).output().unwrap();
        assert!(said.status.success(), "{said:?}");
    }
    assert_eq!((name(sandbox.pid1).as_str(), commands(sandbox.pid1).len()), ("sbx-init:gate", 0));
    from_outside(&sandbox, "o");
    assert_eq!(sandbox.line(), "ran");
}

#[test]
fn of_two_who_came_the_later_one_counts() {
    let mut sandbox = waiting(&["sh", "-c", "echo ran"]);
    let mut first = entering(&sandbox, &["--net"], &["perl", "-e", SPEAK, ""]).stdout(Stdio::piped()).spawn().unwrap();
    let mut heard = std::io::BufReader::new(first.stdout.take().unwrap());
    eventually("a connection", || {
        let connections = fs::read_to_string(format!("/proc/{}/net/unix", sandbox.pid1)).unwrap();
        // The listener, and what came of it.
        connections.matches("@sbx-gate").count() >= 2
    });
    from_outside(&sandbox, "o");
    assert_eq!(sandbox.line(), "ran");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut heard, &mut text).unwrap();
    assert_eq!(text, "connected\nclosed\n");
    first.wait().unwrap();
}

#[test]
fn a_stop_is_answered_while_it_is_shut() {
    for (signal, code) in [(Signal::TERM, 128 + 15), (Signal::INT, 128 + 2), (Signal::QUIT, 128 + 3)] {
        let mut sandbox = waiting(&["sh", "-c", "echo ran"]);
        sandbox.send(Signal::HUP);
        sandbox.send(Signal::WINCH);
        let asked = Instant::now();
        sandbox.send(signal);
        assert_eq!(sandbox.end(), code);
        assert!(asked.elapsed().as_millis() < 1000, "{:?}", asked.elapsed());
        assert_eq!(sandbox.rest(), "", "nothing ran");
    }
}

#[test]
fn an_idle_sandbox_waits_too() {
    for words in [&[][..], &["--"]] {
        let mut sandbox = waiting(words);
        from_outside(&sandbox, "o");
        eventually("ready", || name(sandbox.pid1) == "sbx-init:ready");
        sandbox.send(Signal::TERM);
        assert_eq!(sandbox.end(), 0);
    }
}

#[test]
fn orphans_are_collected_while_it_is_shut() {
    let sandbox = waiting(&["sh", "-c", "echo ran"]);
    let left = entering(&sandbox, &["--pid"], &["sh", "-c", "(sleep 0.1 &)"]).status().unwrap();
    assert!(left.success());
    eventually("no children", || commands(sandbox.pid1).is_empty());
}

#[test]
fn a_long_wait_is_told_once() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let said = || fs::read_to_string(&log).unwrap();
    let mut command = gated(&["sh", "-c", "echo ran"]);
    command.stderr(File::create(&log).unwrap());
    let mut sandbox = Sandbox::start(command);
    eventually("words", || !said().is_empty());
    // Woken once more, after it has spoken.
    from_inside(&sandbox, "o");
    from_outside(&sandbox, "o");
    assert_eq!(sandbox.line(), "ran");
    let said = said();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("sbx-init: waiting for the sbx daemon") && said.contains("`sbx daemon start`"), "{said}");
}

#[test]
fn a_short_wait_is_not_told() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let mut command = gated(&["sh", "-c", "echo ran"]);
    command.stderr(File::create(&log).unwrap());
    let mut sandbox = Sandbox::start(command);
    eventually("a shut gate", || name(sandbox.pid1) == "sbx-init:gate");
    from_outside(&sandbox, "o");
    assert_eq!(sandbox.line(), "ran");
    assert_eq!(fs::read_to_string(&log).unwrap(), "");
}

#[test]
fn entering_is_no_way_past_it() {
    let mut sandbox = waiting(&["sh", "-c", "echo ran; exec sleep 1000"]);
    let enter = |sandbox: &Sandbox| {
        entering(sandbox, &["--pid", "--mount", "--net"], &[INIT, "exec", "--", "echo", "entered"]).output().unwrap()
    };
    let refused = enter(&sandbox);
    assert_eq!((refused.status.code(), refused.stdout.as_slice()), (Some(125), b"".as_slice()), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("waits for its egress policy"), "{refused:?}");
    from_outside(&sandbox, "o");
    assert_eq!(sandbox.line(), "ran");
    eventually("ready", || name(sandbox.pid1) == "sbx-init:ready");
    assert_eq!(enter(&sandbox).stdout, b"entered\n");
}

#[test]
fn entering_needs_a_pid_1_that_says_it_is_past_its_gate() {
    let enter = |sandbox: &Sandbox, before: &str| {
        let script = format!("{before} exec {INIT} exec -- echo entered");
        let mut command = entering(sandbox, &["--pid", "--mount"], &["unshare", "--mount", "sh", "-c", &script]);
        command.output().unwrap()
    };
    let refuses = |sandbox: &Sandbox, before: &str| {
        let refused = enter(sandbox, before);
        assert_eq!((refused.status.code(), refused.stdout.as_slice()), (Some(125), b"".as_slice()), "{refused:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("/proc/1/comm does not say"), "{refused:?}");
    };
    // As before PID 1 has given itself a name.
    let mut unnamed = Sandbox::start(without_init(&["sh", "-c", "echo up; exec sleep 1000"]));
    assert_eq!(unnamed.line(), "up");
    refuses(&unnamed, "");
    // One without a gate.
    let open = Sandbox::ready(&["sleep", "1000"]);
    assert_eq!(enter(&open, "").stdout, b"entered\n");
    refuses(&open, "mount -t tmpfs none /proc;");
}

#[test]
fn without_the_gates_name_nothing_runs() {
    let first = waiting(&[]);
    let mut command = entering(&first, &["--net"], &["unshare", "--pid", "--fork", "--kill-child", "--"]);
    let output = command.args([INIT, "--gate", "--", "echo", "ran"]).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(125), b"".as_slice()), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot set up the gate"), "{output:?}");
}
