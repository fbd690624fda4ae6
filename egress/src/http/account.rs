//! The record of one request, from its verdict to the last byte of its answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use jiff::Timestamp;
use schema::policy::Rule;

use super::asked::MAX_PATH;
use super::target::Target;
use crate::audit::{Record, Spoken};
use crate::requests::RequestGuard;

/// An allowed request that is under way; recorded when this is dropped.
pub(super) struct Account {
    pub(super) target: Arc<Target>,
    pub(super) request: RequestGuard,
    /// Generation that allowed it.
    pub(super) generation: u64,
    rule: Arc<Rule>,
    time: Timestamp,
    begun: Instant,
    /// How it ended; before that, how it ends if nobody says otherwise.
    because: Option<&'static str>,
    allowed: bool,
}

impl Account {
    pub(super) fn new(target: Arc<Target>, request: RequestGuard, generation: u64, rule: Arc<Rule>) -> Self {
        let time = (target.session.shared.clock)();
        Self {
            target,
            request,
            generation,
            rule,
            time,
            begun: Instant::now(),
            because: Some("broken-off"),
            allowed: true,
        }
    }

    /// Says how it ended; `None` is as it should.
    pub(super) fn end(&mut self, because: Option<&'static str>) {
        self.because = because;
    }

    /// Says that it was refused after all.
    pub(super) fn refuse(&mut self, because: &'static str) {
        self.because = Some(because);
        self.allowed = false;
    }

    /// Counts bytes of the answer.
    pub(super) fn received(&self, bytes: u64) {
        self.request.received.fetch_add(bytes, Ordering::Relaxed);
        self.target.session.flow.received(bytes);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let asked = &self.request.asked;
        let record = Record {
            method: Some(asked.method.as_str().to_owned()),
            path: Some(asked.path.as_str().chars().take(MAX_PATH).collect()),
            allowed: self.allowed,
            because: self.because.map(str::to_owned),
            rule: Some(self.rule.place.to_string()),
            sent: self.request.sent.load(Ordering::Relaxed),
            received: self.request.received.load(Ordering::Relaxed),
            ..self.target.record(self.time, self.generation)
        };
        self.target.session.sandbox.sink.record_lasting(record, self.begun.elapsed());
    }
}

impl Target {
    /// A record about this host at `time`, of something that generation `generation` allowed, with nothing else said.
    pub(super) fn record(&self, time: Timestamp, generation: u64) -> Record {
        let session = &self.session;
        Record {
            time,
            project: session.sandbox.project.clone(),
            sandbox: session.sandbox.name.clone(),
            generation,
            protocol: if self.tls { Spoken::Https } else { Spoken::Http },
            host: session.host.to_string(),
            port: session.port,
            method: None,
            path: None,
            allowed: true,
            because: None,
            rule: None,
            sent: 0,
            received: 0,
            duration_ms: 0,
        }
    }
}
