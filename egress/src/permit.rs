//! Permits for what one sandbox has, which is also among what all sandboxes have together.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One of a sandbox's own permits and one of those of all, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Permit {
    _own: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Permit {
    /// One of each, if there is one left of both.
    pub(crate) fn take(own: &Arc<Semaphore>, of_all: &Arc<Semaphore>) -> Option<Self> {
        let own = Arc::clone(own).try_acquire_owned().ok()?;
        Self::among_all(own, of_all)
    }

    /// One of those of all for whoever has one of the sandbox's own, if there is one left.
    pub(crate) fn among_all(own: OwnedSemaphorePermit, of_all: &Arc<Semaphore>) -> Option<Self> {
        let of_all = Arc::clone(of_all).try_acquire_owned().ok()?;
        Some(Self { _own: own, _of_all: of_all })
    }
}
