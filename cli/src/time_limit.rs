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
    /// Whether images were pulled.
    pulled: bool,
}

/// What a pull gets beyond the bound, so that a silent registry is named.
const GRACE: Duration = Duration::from_millis(500);

impl TimeLimit {
    /// Begins now.
    pub fn begin(limit: Option<Duration>) -> Self {
        Self { limit, begun: Instant::now(), thought: Duration::ZERO, pulled: false }
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
        self.bounded(Duration::ZERO, "the time was up", looking).await
    }

    /// The same for a pull of what is called `image`, which is told how long it may be silent and says then itself which
    /// registry is.
    pub async fn pulling<T, P>(&self, image: &str, pull: impl FnOnce(Option<Duration>) -> P) -> Result<T, Failure>
    where
        P: Future<Output = Result<T, Failure>>,
    {
        self.bounded(GRACE, &format!("the time was up while {image} was pulled"), pull(self.left())).await
    }

    async fn bounded<T>(
        &self,
        grace: Duration,
        why: &str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let Some(left) = self.left() else { return work.await };
        tokio::time::timeout(left + grace, work).await.unwrap_or_else(|_| Err(self.up(why)))
    }

    /// Tells that images were pulled, which stay.
    pub fn pulled(&mut self) {
        self.pulled = true;
    }

    /// Waits for another `sbx`, at most `patience`, with `wait`, which is told how long and fails by itself.
    pub async fn waiting<T, W>(&self, patience: Duration, wait: impl FnOnce(Duration) -> W) -> Result<T, Failure>
    where
        W: Future<Output = Result<T, Failure>>,
    {
        let left = self.left().unwrap_or(Duration::MAX);
        let waited = wait(patience.min(left)).await;
        waited.map_err(|failure| match failure.exit {
            Exit::TryAgain if left < patience => self.up(&format!("the time was up while {}", failure.message)),
            _ => failure,
        })
    }

    fn up(&self, why: &str) -> Failure {
        let changed =
            if self.pulled { "images were pulled, and nothing else was changed" } else { "nothing was changed" };
        Failure::new(Exit::TimedOut, "sbx::timed-out", format!("{why}; {changed}"))
            .with_help("give it longer with --timeout")
    }
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
    async fn a_pull_ends_with_the_time_however_much_it_says() {
        let mut limit = TimeLimit::begin(Some(SHORT));
        let begun = Instant::now();
        let talks = |_| async {
            loop {
                tokio::time::sleep(SHORT / 4).await;
            }
        };
        let failure = limit.pulling::<(), _>("image/far", talks).await.expect_err("the time is up");
        assert_eq!(failure.exit, Exit::TimedOut);
        assert_eq!(failure.message, "the time was up while image/far was pulled; nothing was changed");
        assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
        // One that is silent says so itself.
        let silent = |patience: Option<Duration>| async move {
            tokio::time::sleep(patience.expect("there is a bound")).await;
            Err::<(), _>(Failure::new(Exit::TimedOut, "sbx::timed-out", "the registry has been silent"))
        };
        let failure = limit.pulling("image/far", silent).await.expect_err("the time is up");
        assert_eq!(failure.message, "the registry has been silent");
        limit.pulled();
        let never = std::future::pending::<Result<(), Failure>>();
        let failure = limit.within(never).await.expect_err("the time is up");
        assert_eq!(failure.message, "the time was up; images were pulled, and nothing else was changed");
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
