//! Takes every record of the daemon: into the log, the numbers, and the short memory that `status` shows.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use schema::policy::Policy;

use crate::audit::log::Log;
use crate::audit::{Questions, Record, Sink};
use crate::metrics::Metrics;
use crate::written;

/// Refusals remembered for each sandbox.
const REMEMBERED: usize = 10;

/// The one sink of a daemon.
#[derive(Debug)]
pub struct Recorder {
    root: PathBuf,
    log: Log,
    metrics: Metrics,
    denied: Mutex<BTreeMap<(String, String), VecDeque<Record>>>,
}

impl Recorder {
    /// One that writes below `root`.
    pub fn open(root: PathBuf) -> io::Result<Self> {
        let log = Log::open(root.clone())?;
        Ok(Self { root, log, metrics: Metrics::default(), denied: Mutex::default() })
    }

    /// Where the records are.
    pub fn place(&self) -> &Path {
        &self.root
    }

    /// Records that were lost.
    pub fn lost(&self) -> u64 {
        self.log.lost()
    }

    /// The numbers.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What was refused to a sandbox last, newest last.
    pub fn denied(&self, project: &str, sandbox: &str) -> Vec<Record> {
        let denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
        let of = denied.get(&(project.to_owned(), sandbox.to_owned()));
        of.map(|records| records.iter().cloned().collect()).unwrap_or_default()
    }

    /// Says which policy is in force for a sandbox from now on.
    pub fn in_force(&self, project: &str, sandbox: &str, policy: &Policy) {
        let rules = policy.allow.iter().map(written::allow).collect();
        self.log.rules(project, sandbox, rules, Timestamp::now());
    }

    /// Says of whom there is a policy, or who runs: nothing of theirs is forgotten for its age.
    pub fn know<'a>(&self, sandboxes: impl Iterator<Item = (&'a str, &'a str)>) {
        self.log.know(sandboxes);
    }

    /// Waits until everything recorded before can be read.
    pub async fn flush(&self) {
        self.log.flush().await;
    }

    /// Forgets the numbers and refusals of sandboxes, by project and name, that are not among those to `keep`.
    pub fn retain(&self, keep: impl Fn(&(String, String)) -> bool) {
        self.denied.lock().unwrap_or_else(PoisonError::into_inner).retain(|of, _| keep(of));
        self.metrics.retain(keep);
    }
}

impl Recorder {
    fn keep(&self, record: Record) {
        if !record.allowed {
            let mut denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
            let of = denied.entry((record.project.clone(), record.sandbox.clone())).or_default();
            if of.len() == REMEMBERED {
                of.pop_front();
            }
            of.push_back(record.clone());
        }
        self.log.write(record);
    }
}

impl Sink for Recorder {
    fn record(&self, record: Record) {
        self.metrics.count(&record, Duration::from_millis(record.duration_ms));
        self.keep(record);
    }

    fn record_lasting(&self, record: Record, lasted: Duration) {
        self.metrics.count(&record, lasted);
        self.keep(record.lasted(lasted));
    }

    fn questions(&self, project: &str, sandbox: &str) -> Questions {
        self.metrics.questions(project, sandbox)
    }
}
