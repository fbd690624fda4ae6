//! Requests that are under way on a connection, and what becomes of them when the policy changes.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use jiff::civil::Date;
use schema::policy::Host;
use tokio::time::Instant;

use crate::generation::Generation;
use crate::http::Asked;
use crate::verdict::RequestVerdict;

/// Those of one connection.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    open: Mutex<Vec<Arc<UnderWay>>>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct UnderWay {
    /// What was asked.
    pub(crate) asked: Asked,
    /// Bytes of its body, and of what followed an upgrade, from the sandbox.
    pub(crate) sent: AtomicU64,
    /// The same to the sandbox.
    pub(crate) received: AtomicU64,
    /// Whether all of its body has been sent on.
    pub(crate) uploaded: AtomicBool,
    begun: Instant,
    /// When something of its body was sent on last, in milliseconds since it began.
    moved: AtomicU64,
    cut: AtomicBool,
    /// One waits at a time: first whoever sends it on, then the body of the answer.
    waker: AtomicWaker,
}

/// A request that is registered for as long as this lives.
#[derive(Debug)]
pub(crate) struct RequestGuard {
    requests: Arc<Requests>,
    request: Arc<UnderWay>,
}

impl Requests {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<UnderWay>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts those that `generation` does not allow.
    pub(crate) fn judge_again(&self, generation: &Generation, host: &Host, port: u16, today: Date) {
        for request in &*self.lock() {
            if let RequestVerdict::Deny(_) = request.asked.judge(generation, host, port, today) {
                request.cut();
            }
        }
    }

    /// Those that `generation` would cut, `GET /v1/x`.
    pub(crate) fn cut_by(&self, generation: &Generation, host: &Host, port: u16, today: Date) -> Vec<String> {
        let denied = |request: &&Arc<UnderWay>| {
            matches!(request.asked.judge(generation, host, port, today), RequestVerdict::Deny(_))
        };
        self.lock().iter().filter(denied).map(|request| request.asked.to_string()).collect()
    }

    /// All of them, as people write them.
    pub(crate) fn all(&self) -> Vec<String> {
        self.lock().iter().map(|request| request.asked.to_string()).collect()
    }

    /// Cuts all.
    pub(crate) fn cut(&self) {
        for request in &*self.lock() {
            request.cut();
        }
    }
}

impl UnderWay {
    fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Counts a piece of its body that is sent on.
    pub(crate) fn uploads(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        let since = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(since, Ordering::Relaxed);
    }

    /// Returns once nothing of it has been sent on for `limit`.
    pub(crate) async fn rests(&self, limit: Duration) {
        loop {
            let until = self.begun + Duration::from_millis(self.moved.load(Ordering::Relaxed)) + limit;
            if Instant::now() >= until {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }

    /// Whether it has to end.
    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    /// Waits until it has to end.
    pub(crate) fn poll_cut(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_cut() {
            return Poll::Ready(());
        }
        self.waker.register(cx.waker());
        if self.is_cut() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl RequestGuard {
    /// Registers a request; it is to be judged after that, so that no change of the policy is missed.
    pub(crate) fn new(requests: &Arc<Requests>, asked: Asked) -> Self {
        let request = Arc::new(UnderWay {
            asked,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            uploaded: AtomicBool::new(false),
            begun: Instant::now(),
            moved: AtomicU64::new(0),
            cut: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        requests.lock().push(Arc::clone(&request));
        Self { requests: Arc::clone(requests), request }
    }

    /// The request, for parts of it that may outlive its registration.
    pub(crate) fn share(&self) -> Arc<UnderWay> {
        Arc::clone(&self.request)
    }
}

impl Deref for RequestGuard {
    type Target = UnderWay;

    fn deref(&self) -> &UnderWay {
        &self.request
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let mut open = self.requests.lock();
        if let Some(at) = open.iter().position(|request| Arc::ptr_eq(request, &self.request)) {
            open.swap_remove(at);
        }
    }
}
