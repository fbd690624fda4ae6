//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// Polls `probe` until it gives a value; panics with `what` after `limit`.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, probe: impl FnMut() -> Option<T>) -> T {
    eventually(limit, probe).unwrap_or_else(|| panic!("waited {limit:?} in vain for {what}"))
}

/// Polls `probe` until it gives a value; nothing after `limit`.
pub fn eventually<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        #[allow(clippy::disallowed_methods, reason = "the one place where a test sleeps, between two looks")]
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
