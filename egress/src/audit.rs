//! One record per decision. Never a secret, a query, a header value or a body.

use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use serde::{Deserialize, Serialize};

pub mod log;
pub mod newest;
pub mod read;
pub mod rules;
mod waiting;

/// What was decided about one connection, request, question or flow of datagrams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When it was decided.
    pub time: Timestamp,
    /// Project.
    pub project: String,
    /// Sandbox.
    pub sandbox: String,
    /// Generation of the policy that decided; counts from 1 in each daemon.
    pub generation: u64,
    /// What was spoken.
    pub protocol: Spoken,
    /// Host as asked for, canonical where it could be read.
    pub host: String,
    /// Port.
    pub port: u16,
    /// HTTP method, where seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Canonical path without its query, where seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Whether it was let through.
    pub allowed: bool,
    /// Why not, or how it ended otherwise: `no-rule`, `denied`, `sni-mismatch`, `upstream-failed`. Kebab case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// The rule that decided, as people write it; where it is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Bytes from the sandbox.
    #[serde(default)]
    pub sent: u64,
    /// Bytes to the sandbox.
    #[serde(default)]
    pub received: u64,
    /// From the first byte to the last, milliseconds; 0 for what was refused at once.
    #[serde(default)]
    pub duration_ms: u64,
}

/// What was spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spoken {
    /// A DNS question.
    Dns,
    /// Bytes nobody looked at.
    Tcp,
    /// TLS, passed through.
    Tls,
    /// Plain HTTP.
    Http,
    /// HTTP inside TLS, intercepted.
    Https,
    /// Datagrams.
    Udp,
}

impl Spoken {
    /// As it is written in records.
    pub fn word(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Https => "https",
            Self::Udp => "udp",
        }
    }
}

/// Takes records. Called on the data path: must neither block nor fail.
pub trait Sink: Send + Sync {
    /// Takes one.
    fn record(&self, record: Record);

    /// Takes one of something that took exactly so long: numbers are finer than records.
    fn record_lasting(&self, record: Record, lasted: Duration) {
        self.record(record.lasted(lasted));
    }

    /// What counts questions of DNS, of which few are recorded.
    fn questions(&self, project: &str, sandbox: &str) -> Questions {
        let _ = (project, sandbox);
        Questions::default()
    }
}

/// Counts questions of DNS by what became of them. Copies count together.
#[derive(Debug, Clone, Default)]
pub struct Questions {
    /// About names that are known here.
    pub answered: Counter,
    /// About names that are not allowed.
    pub refused: Counter,
}

impl Record {
    /// Sets how long it took.
    #[must_use]
    pub fn lasted(mut self, duration: Duration) -> Self {
        self.duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// When it was over.
    pub fn lasted_until(&self) -> Timestamp {
        let lasted = jiff::SignedDuration::from_millis(i64::try_from(self.duration_ms).unwrap_or(i64::MAX));
        self.time.checked_add(lasted).unwrap_or(Timestamp::MAX)
    }
}
