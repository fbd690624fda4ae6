//! Kills the process at a chosen operation, for tests of what a kill leaves behind. Compiled only when asked for.

use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use crate::backend::{BackendError, Observe, Perform, Progress};
use crate::facts::{ProbeQuery, Probes, Query, Snapshot};
use crate::op::Op;

/// Where to kill: `before:3` or `after:3`, operations counted from 0 in the order in which they begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failpoint {
    after: bool,
    operation: usize,
}

impl FromStr for Failpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not before:N or after:N");
        let (when, operation) = text.split_once(':').ok_or_else(wrong)?;
        let after = match when {
            "before" => false,
            "after" => true,
            _ => return Err(wrong()),
        };
        Ok(Self { after, operation: operation.parse().map_err(|_| wrong())? })
    }
}

/// A backend that dies at its failpoint.
pub struct Mortal<B> {
    inner: B,
    failpoint: Failpoint,
    begun: AtomicUsize,
}

impl<B> Mortal<B> {
    /// Wraps `inner`.
    pub fn new(inner: B, failpoint: Failpoint) -> Self {
        Self { inner, failpoint, begun: AtomicUsize::new(0) }
    }

    fn die_if(&self, after: bool, operation: usize) {
        if self.failpoint == (Failpoint { after, operation }) {
            // SIGKILL: no destructor runs and no handler helps, as when the machine kills it.
            let killed = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            debug_assert!(killed.is_ok(), "a process may kill itself");
        }
    }
}

#[async_trait]
impl<B: Observe> Observe for Mortal<B> {
    async fn snapshot(&self, query: &Query) -> Result<Snapshot, BackendError> {
        self.inner.snapshot(query).await
    }

    async fn probe(&self, query: &ProbeQuery) -> Result<Probes, BackendError> {
        self.inner.probe(query).await
    }
}

#[async_trait]
impl<B: Perform> Perform for Mortal<B> {
    async fn perform(&self, op: &Op, progress: Progress<'_>) -> Result<(), BackendError> {
        let operation = self.begun.fetch_add(1, Ordering::Relaxed);
        self.die_if(false, operation);
        let outcome = self.inner.perform(op, progress).await;
        self.die_if(true, operation);
        outcome
    }

    async fn settle(&self) {
        self.inner.settle().await;
    }
}
