//! What the two ends of one HTTP/1 connection tell each other: the reader of requests and the one who answers them.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Context;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

use super::head::Malformed;

/// Shared by [`super::guard::Guard`] and the service behind it.
#[derive(Debug)]
pub(super) struct Gate {
    /// Requests that were read and not answered in full.
    pending: AtomicUsize,
    open: AtomicBool,
    waker: AtomicWaker,
    fault: Mutex<Option<Malformed>>,
    made: Instant,
    /// When the last answer was given, in milliseconds since this was made.
    answered: AtomicU64,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            pending: AtomicUsize::new(0),
            open: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            fault: Mutex::default(),
            made: Instant::now(),
            answered: AtomicU64::new(0),
        }
    }
}

impl Gate {
    /// A request has been read.
    pub(super) fn begin(&self) {
        self.pending.fetch_add(1, Ordering::AcqRel);
    }

    /// One has been answered in full.
    pub(super) fn answered(&self) {
        let since = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.answered.store(since, Ordering::Release);
        self.pending.fetch_sub(1, Ordering::AcqRel);
        self.waker.wake();
    }

    /// The upgrade that was asked for is granted: what follows is no request.
    pub(super) fn open(&self) {
        self.open.store(true, Ordering::Release);
        self.waker.wake();
    }

    pub(super) fn is_busy(&self) -> bool {
        self.pending.load(Ordering::Acquire) > 0
    }

    /// When the last answer was given.
    pub(super) fn rests_since(&self) -> Instant {
        self.made + Duration::from_millis(self.answered.load(Ordering::Acquire))
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Has whoever polls woken when any of this changes.
    pub(super) fn wait(&self, cx: &Context<'_>) {
        self.waker.register(cx.waker());
    }

    /// Wakes whoever waits, for what the reader itself has seen.
    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    /// Tells what was wrong with a body, for whoever has to explain.
    pub(super) fn fail(&self, malformed: Malformed) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(malformed);
    }

    /// What was wrong, if anything.
    pub(super) fn fault(&self) -> Option<Malformed> {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
