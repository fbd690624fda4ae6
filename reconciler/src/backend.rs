//! What the reconciler needs of the outside: looking, and doing.

use async_trait::async_trait;

use crate::facts::{ProbeQuery, Probes, Query, Snapshot};
use crate::op::Op;

/// Looks, and can do nothing else: `plan`, `diff` and `status` hold only this.
#[async_trait]
pub trait Observe: Send + Sync {
    /// One look at everything a plan needs.
    async fn snapshot(&self, query: &Query) -> Result<Snapshot, BackendError>;
    /// A closer look at some of it.
    async fn probe(&self, query: &ProbeQuery) -> Result<Probes, BackendError>;
}

/// Told about long operations, in words for people. A name of its own, because `async_trait` would bind the inner
/// lifetime.
pub type Progress<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// Does.
#[async_trait]
pub trait Perform: Observe {
    /// Performs one operation to its end. `progress` is told about long ones, in words for people.
    async fn perform(&self, op: &Op, progress: Progress<'_>) -> Result<(), BackendError>;

    /// Waits until what operations left that were dropped before their end is removed.
    async fn settle(&self) {}
}

/// What went wrong, as far as it decides what happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Nobody answers.
    Unreachable,
    /// It is not there.
    NotFound,
    /// Somebody else holds the name, or the state forbids it.
    Conflict,
    /// Not allowed.
    Denied,
    /// The deadline passed.
    TimedOut,
    /// No space left.
    NoSpace,
    /// The plan no longer fits what is there.
    Stale,
    /// May pass when tried again.
    Transient,
    /// Anything else.
    Failed,
}

/// A failed operation.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct BackendError {
    /// What decides what happens next.
    pub kind: ErrorKind,
    /// What happened, without the resource's name: the caller knows it.
    pub message: String,
    /// What to do, where that is known.
    pub help: Option<String>,
}

impl BackendError {
    /// An error of `kind`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), help: None }
    }

    /// With what to do about it.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Reads secret values, from wherever the configuration says, when an operation needs one.
#[async_trait]
pub trait SecretSource: Send + Sync {
    /// The value of the secret called `name` in the configuration.
    async fn read(&self, name: &str) -> Result<secrecy::SecretSlice<u8>, BackendError>;
}
