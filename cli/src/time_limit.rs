//! The bound of a whole run: `--timeout`, from its beginning to its last step.

use std::future::Future;
use std::time::{Duration, Instant};

use crate::exit::Exit;
use crate::failure::Failure;

/// What may still be used of it. It does not run while a person thinks.
#[derive(Debug)]
pub struct TimeLimit {
    limit: Option<Duration>,
    begun: Instant,
    thought: Duration,
}

impl TimeLimit {
    /// Begins now.
    pub fn begin(limit: Option<Duration>) -> Self {
        Self { limit, begun: Instant::now(), thought: Duration::ZERO }
    }

    /// What is left; `None` without a bound.
    pub fn left(&self) -> Option<Duration> {
        self.limit.map(|limit| limit.saturating_sub(self.begun.elapsed().saturating_sub(self.thought)))
    }

    /// Waits for `asking`, whose time is a person's and not counted.
    pub async fn while_asking<T>(&mut self, asking: impl Future<Output = T>) -> T {
        let asked = Instant::now();
        let answer = asking.await;
        self.thought += asked.elapsed();
        answer
    }

    /// Does what changes nothing of the project and may hence be left where it is when the time is up.
    pub async fn within<T>(&self, looking: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        match self.left() {
            None => looking.await,
            Some(left) => tokio::time::timeout(left, looking).await.unwrap_or_else(|_| Err(up("the time was up"))),
        }
    }

    /// Waits for another `sbx`, at most `patience`, with `wait`, which is told how long and fails by itself.
    pub async fn waiting<T, W>(&self, patience: Duration, wait: impl FnOnce(Duration) -> W) -> Result<T, Failure>
    where
        W: Future<Output = Result<T, Failure>>,
    {
        let left = self.left().unwrap_or(Duration::MAX);
        let waited = wait(patience.min(left)).await;
        waited.map_err(|failure| match failure.exit {
            Exit::TryAgain if left < patience => up(&format!("the time was up while {}", failure.message)),
            _ => failure,
        })
    }
}

fn up(why: &str) -> Failure {
    Failure::new(Exit::TimedOut, "sbx::timed-out", format!("{why}; nothing was changed"))
        .with_help("give it longer with --timeout")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_mins(1);

    fn held() -> Failure {
        Failure::new(Exit::TryAgain, "sbx::lock-held", "project acme is being changed by another sbx")
    }

    #[tokio::test]
    async fn what_only_looks_ends_with_the_time() {
        let never = || std::future::pending::<Result<(), Failure>>();
        let failure = TimeLimit::begin(Some(SHORT)).within(never()).await.expect_err("the time is up");
        assert_eq!((failure.exit, failure.code), (Exit::TimedOut, "sbx::timed-out"));
        for limit in [None, Some(LONG)] {
            TimeLimit::begin(limit).within(async { Ok(()) }).await.expect("there is time");
        }
    }

    #[tokio::test]
    async fn a_person_may_think() {
        let mut limit = TimeLimit::begin(Some(LONG));
        let think = SHORT * 5;
        limit.while_asking(tokio::time::sleep(think)).await;
        assert!(limit.left().expect("there is one") + think > LONG, "{limit:?}");
    }

    #[tokio::test]
    async fn nobody_is_waited_for_longer_than_the_run_may_take() {
        let limit = TimeLimit::begin(Some(SHORT));
        let failure = limit
            .waiting(LONG, |patience| async move {
                assert!(patience <= SHORT, "{patience:?}");
                Err::<(), _>(held())
            })
            .await
            .expect_err("it is held");
        assert_eq!(failure.exit, Exit::TimedOut);
        assert!(failure.message.contains("project acme is being changed by another sbx"), "{}", failure.message);
        // It was the patience that ended.
        let limit = TimeLimit::begin(Some(LONG));
        let failure = limit.waiting(SHORT, |_| async { Err::<(), _>(held()) }).await.expect_err("it is held");
        assert_eq!(failure.exit, Exit::TryAgain);
    }
}
