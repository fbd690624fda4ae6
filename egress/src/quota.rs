//! Places for what one sandbox has, which are also among those that all sandboxes have together.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One of a sandbox's own places and one of those of all, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Place {
    _own: OwnedSemaphorePermit,
    _shared: OwnedSemaphorePermit,
}

/// A place in both, if each has one left.
pub(crate) fn take(own: &Arc<Semaphore>, of_all: &Arc<Semaphore>) -> Option<Place> {
    let own = Arc::clone(own).try_acquire_owned().ok()?;
    among_all(own, of_all)
}

/// A place among those of all for whoever has one of the sandbox's own, if there is one left.
pub(crate) fn among_all(own: OwnedSemaphorePermit, of_all: &Arc<Semaphore>) -> Option<Place> {
    let shared = Arc::clone(of_all).try_acquire_owned().ok()?;
    Some(Place { _own: own, _shared: shared })
}
