//! The process that makes the attempts.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{ChildStdout, Stdio};

use serde::Deserialize;
use serde_json::json;

use crate::engine::Engine;
use crate::invocation::{Invocation, Running};

/// What became of one attempt, as it tells it.
#[derive(Deserialize)]
pub struct Told {
    name: String,
    /// `through`, or what went wrong.
    pub said: String,
    /// How long it took.
    pub seconds: f64,
}

/// One in each sandbox that attempts are made from.
pub struct Insides<'e> {
    engine: &'e Engine,
    there: BTreeMap<&'static str, Inside<'e>>,
}

impl<'e> Insides<'e> {
    pub fn of(engine: &'e Engine) -> Self {
        Self { engine, there: BTreeMap::new() }
    }

    /// The one in `sandbox`.
    pub fn at(&mut self, sandbox: &'static str) -> &mut Inside<'e> {
        self.there.entry(sandbox).or_insert_with(|| Inside::of(self.engine, sandbox))
    }
}

/// It reads attempts from its standard input, one after the other.
pub struct Inside<'e> {
    running: Running<'e>,
    answers: BufReader<ChildStdout>,
}

impl<'e> Inside<'e> {
    /// One in a sandbox.
    pub fn of(engine: &'e Engine, sandbox: &str) -> Self {
        Self::start(engine.sbx(&["exec", "-T", sandbox, "--"]))
    }

    /// One that `invocation` starts, given what to start.
    pub fn start(invocation: Invocation<'e>) -> Self {
        let mut invocation = invocation.args(["python3", "-c", include_str!("prelude.py")]);
        invocation.command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = invocation.spawn();
        let answers = BufReader::new(running.child.stdout.take().expect("stdout is piped"));
        Self { running, answers }
    }

    /// Makes one attempt.
    pub fn try_out(&mut self, name: &str, script: &str, token: &str) -> Told {
        self.begin(name, script, token);
        self.end(name)
    }

    /// Begins one attempt.
    pub fn begin(&mut self, name: &str, script: &str, token: &str) {
        let script = format!("PROXY = {}\n{script}", egress::attach::TCP_PORT);
        let line = json!({ "name": name, "script": script, "token": token });
        writeln!(self.running.child.stdin.as_mut().expect("stdin is piped"), "{line}").expect("it reads");
    }

    /// What became of the attempt that was begun.
    pub fn end(&mut self, name: &str) -> Told {
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("it answers");
        let told: Told = serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{name}: {error}: {answer:?}"));
        assert_eq!(told.name, name);
        told
    }
}
