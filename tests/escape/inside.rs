//! The process that makes the attempts.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::IpAddr;
use std::process::{ChildStdout, Stdio};

use serde::Deserialize;
use serde_json::json;

use crate::attempt::{BESIDE, NEIGHBOUR};
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
    start: fn(&'e Engine, &str) -> Inside<'e>,
    there: BTreeMap<&'static str, Inside<'e>>,
}

impl<'e> Insides<'e> {
    pub fn of(engine: &'e Engine) -> Self {
        Self { engine, start: Inside::of, there: BTreeMap::new() }
    }

    /// Those that the engine gives every capability.
    #[cfg(feature = "failpoints")]
    pub fn privileged(engine: &'e Engine) -> Self {
        Self { engine, start: Inside::privileged, there: BTreeMap::new() }
    }

    /// The one in `sandbox`.
    pub fn at(&mut self, sandbox: &'static str) -> &mut Inside<'e> {
        self.there.entry(sandbox).or_insert_with(|| (self.start)(self.engine, sandbox))
    }
}

/// It reads attempts from its standard input, one after the other.
pub struct Inside<'e> {
    running: Running<'e>,
    answers: BufReader<ChildStdout>,
    /// What every script begins with.
    given: String,
}

impl<'e> Inside<'e> {
    /// One in a sandbox.
    pub fn of(engine: &'e Engine, sandbox: &str) -> Self {
        Self::start(engine, engine.sbx(&["exec", "-T", sandbox, "--"]))
    }

    /// One that the engine gives every capability in a sandbox.
    #[cfg(feature = "failpoints")]
    fn privileged(engine: &'e Engine, sandbox: &str) -> Self {
        let container = format!("demo_{sandbox}");
        Self::start(
            engine,
            engine.podman_command(&["exec", "--interactive", "--privileged", "--user", "0", &container]),
        )
    }

    /// One that `invocation` starts, given what to start.
    pub fn start(engine: &'e Engine, invocation: Invocation<'e>) -> Self {
        let mut invocation = invocation.args(["python3", "-c", include_str!("prelude.py")]);
        invocation.command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = invocation.spawn();
        let answers = BufReader::new(running.child.stdout.take().expect("stdout is piped"));
        Self { running, answers, given: given(engine) }
    }

    /// Makes one attempt.
    pub fn try_out(&mut self, name: &str, script: &str, token: &str) -> Told {
        self.begin(name, script, token);
        self.end(name)
    }

    /// Begins one attempt.
    pub fn begin(&mut self, name: &str, script: &str, token: &str) {
        let script = format!("{}{script}", self.given);
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

/// What attempts may aim at, of which nothing inside tells where it is.
fn given(engine: &Engine) -> String {
    let at = |sandbox| address(engine, sandbox).map(|address| address.to_string()).unwrap_or_default();
    let (neighbour, beside) = (at(NEIGHBOUR), at(BESIDE));
    let (proxy, ports) = (egress::attach::TCP_PORT, listening(engine));
    format!("PROXY = {proxy}\nNEIGHBOUR = {neighbour:?}\nBESIDE = {beside:?}\nLISTENING = {ports:?}\n")
}

/// The address of a sandbox on one network, if there is such a one.
pub fn address(engine: &Engine, sandbox: &str) -> Option<IpAddr> {
    const ADDRESS: &str = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let container = format!("demo_{sandbox}");
    engine.podman_command(&["inspect", "--format", ADDRESS, &container]).run().stdout.trim().parse().ok()
}

/// The TCP ports that anybody listens at on this engine's host, on whatever address.
fn listening(engine: &Engine) -> BTreeSet<u16> {
    const LISTEN: &str = "0A";
    let sockets = engine.as_root("cat").args(["/proc/net/tcp", "/proc/net/tcp6"]).ok();
    let port = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (own, _, state) = (fields.next()?, fields.next()?, fields.next()?);
        u16::from_str_radix(own.rsplit(':').next()?, 16).ok().filter(|_| state == LISTEN)
    };
    sockets.lines().filter_map(port).collect()
}
