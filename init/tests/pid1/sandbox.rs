//! A process namespace with one PID 1, and ways to watch it from outside.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

pub const INIT: &str = env!("CARGO_BIN_EXE_sbx-init");

/// Far longer than anything here takes, and shorter than patience.
const DEADLINE: Duration = Duration::from_secs(10);

/// Waits until the condition holds.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "did not come true: {what}");
        #[allow(clippy::disallowed_methods, reason = "the one place where these tests sleep, between two looks")]
        thread::sleep(Duration::from_millis(2));
    }
}

/// What makes the namespace; the words of PID 1 are to follow.
pub fn namespace() -> Command {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--pid", "--mount-proc"]).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// A namespace whose PID 1 is the program under test.
pub fn init(words: &[&str]) -> Command {
    let mut command = namespace();
    command.args(["--fork", "--kill-child", "--", INIT]).args(words);
    command
}

/// The same without the program under test: the command itself is PID 1.
pub fn without_init(words: &[&str]) -> Command {
    let mut command = namespace();
    command.args(["--fork", "--kill-child", "--"]).args(words);
    command
}

/// A running namespace. Dropping it kills everything inside.
pub struct Sandbox {
    parent: Child,
    stdout: BufReader<ChildStdout>,
    pub pid1: Pid,
}

impl Sandbox {
    pub fn start(mut command: Command) -> Self {
        let mut parent = command.spawn().unwrap();
        let stdout = BufReader::new(parent.stdout.take().unwrap());
        let mut pid1 = None;
        eventually("a PID 1", || {
            pid1 = children(parent.id()).first().copied();
            pid1.is_some() || parent.try_wait().unwrap().is_some()
        });
        Self { parent, stdout, pid1: pid1.expect("PID 1 outlives its own start") }
    }

    /// Starts the program under test, and waits until it says that it is ready.
    pub fn ready(words: &[&str]) -> Self {
        let sandbox = Self::start(init(words));
        eventually("ready", || name(sandbox.pid1) == "sbx-init:ready");
        sandbox
    }

    pub fn send(&self, signal: Signal) {
        kill_process(self.pid1, signal).unwrap();
    }

    /// The next line of output.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Everything that is still to come, until no process holds the output any more.
    pub fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        rest
    }

    /// Waits until PID 1 has ended, and returns its code, or 128 + signal: of a PID 1 that a signal ended, versions of
    /// `unshare` tell in either way.
    #[track_caller]
    pub fn end(&mut self) -> i32 {
        let mut end = None;
        eventually("the end of PID 1", || {
            end = self.parent.try_wait().unwrap();
            end.is_some()
        });
        let end = end.unwrap();
        end.code().or(end.signal().map(|signal| 128 + signal)).unwrap()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.parent.kill();
        let _ = self.parent.wait();
    }
}

/// A command that enters some of the namespaces.
pub fn entering(sandbox: &Sandbox, namespaces: &[&str], words: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--target", &sandbox.pid1.to_string()]);
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--preserve-credentials"]);
    }
    command.args(namespaces).arg("--").args(words).stdin(Stdio::null());
    command
}

/// The children of a process, those that wait to be collected too.
pub fn children(process: u32) -> Vec<Pid> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|id| Pid::from_raw(id.parse().ok()?)).collect()
}

/// A process's name.
pub fn name(process: Pid) -> String {
    let name = fs::read_to_string(format!("/proc/{}/comm", process.as_raw_nonzero())).unwrap_or_default();
    name.trim_end().to_owned()
}

/// Whether a process has ended and was not collected.
pub fn is_zombie(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap_or_default();
    // The name in parentheses can itself contain anything.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

/// Whether a process lives on, and the signals that were sent to it are gone without a trace.
pub fn is_deaf(process: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", process.as_raw_nonzero())).unwrap_or_default();
    status.contains("\nState:\tS") && status.contains("\nShdPnd:\t0000000000000000\n")
}
