//! A command to run on an engine's side of the namespaces, and what came of it.

use std::ffi::OsStr;
use std::io::{Read, Write as _};
use std::marker::PhantomData;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process};

use crate::engine::Engine;

/// A command that runs as the engine's user, in its namespaces, with its environment and nothing of ours.
pub struct Invocation<'e> {
    engine: &'e Engine,
    /// For what has no method here.
    pub command: Command,
    input: Vec<u8>,
}

/// A finished command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The command line, for messages.
    pub line: String,
    /// `128 + n` when signal `n` ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl<'e> Invocation<'e> {
    pub(crate) fn new(engine: &'e Engine, command: Command) -> Self {
        Self { engine, command, input: Vec::new() }
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    pub fn env_remove(mut self, key: &str) -> Self {
        self.command.env_remove(key);
        self
    }

    pub fn cwd(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Text for its standard input, which is empty otherwise.
    pub fn input(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.input = text.into();
        self
    }

    /// Starts it, with standard input, output and error as set on `command` (else those of the test).
    #[track_caller]
    pub fn spawn(mut self) -> Running<'e> {
        let line = self.line();
        let child = self.engine.namespaces().spawn(&mut self.command).unwrap_or_else(|e| panic!("{line}: {e}"));
        Running { child, line, _engine: PhantomData }
    }

    /// Starts it with its standard output and error caught, its input empty or as given.
    #[track_caller]
    pub fn start(mut self) -> Running<'e> {
        let input = std::mem::take(&mut self.input);
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = self.spawn();
        let mut pipe = running.child.stdin.take().expect("stdin is piped");
        // A command need not read what it is given.
        std::thread::spawn(move || drop(pipe.write_all(&input)));
        running
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(self) -> Finished {
        self.start().finish()
    }

    /// Runs it, demands exit code 0, gives its standard output without the last newline.
    #[track_caller]
    pub fn ok(self) -> String {
        self.run().expect_code(0).stdout.trim_end_matches('\n').to_owned()
    }

    fn line(&self) -> String {
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
    }
}

/// A command under way. Dropping it kills it: PID 1 of an engine cannot go while a child of ours in there is not reaped.
pub struct Running<'e> {
    /// For what has no method here. Its id is that of the command itself.
    pub child: Child,
    line: String,
    _engine: PhantomData<&'e Engine>,
}

impl Running<'_> {
    /// Sends a signal to the command, and to nothing else.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap_or_else(|e| panic!("{signal:?} to `{}`: {e}", self.line));
    }

    /// Waits until it has said `text` on standard error, which is caught; the rest is left to [`Running::finish`].
    #[track_caller]
    pub fn hear(&mut self, text: &str) {
        let stderr = self.child.stderr.as_mut().expect("stderr is caught");
        let mut heard = Vec::new();
        while !heard.ends_with(text.as_bytes()) {
            let mut byte = [0];
            let read = stderr.read(&mut byte).expect("a pipe can be read");
            assert!(read == 1, "`{}` did not say {text:?}: {}", self.line, String::from_utf8_lossy(&heard));
            heard.extend(byte);
        }
    }

    /// Waits for its end and gives what it said since it was started (as far as that was caught).
    #[track_caller]
    pub fn finish(mut self) -> Finished {
        let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
        let collect = |pipe: Option<Box<dyn Read + Send>>| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                pipe.map(|mut pipe| pipe.read_to_end(&mut bytes)).transpose().map(|_| bytes)
            })
        };
        let stdout = collect(stdout.map(|pipe| Box::new(pipe) as _));
        let stderr = collect(stderr.map(|pipe| Box::new(pipe) as _));
        let status = self.child.wait().unwrap_or_else(|e| panic!("{}: {e}", self.line));
        let text = |thread: JoinHandle<std::io::Result<Vec<u8>>>| {
            let bytes = thread.join().expect("the reading thread does not panic");
            String::from_utf8_lossy(&bytes.expect("a pipe can be read")).into_owned()
        };
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        Finished { line: std::mem::take(&mut self.line), code, stdout: text(stdout), stderr: text(stderr) }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Finished {
    /// Panics with everything it said unless it ended with `code`.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert!(
            self.code == code,
            "`{}` ended with {} instead of {code}\n--- stdout\n{}\n--- stderr\n{}",
            self.line,
            self.code,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Standard error with every line break and indentation as one space: what it says, however it was wrapped.
    pub fn told(&self) -> String {
        self.stderr.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("`{}`: {e}\n{}", self.line, self.stdout))
    }
}
