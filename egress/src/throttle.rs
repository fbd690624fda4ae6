//! Bounds on how often something happens.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many in a second, and as many at once after a rest.
#[derive(Debug)]
pub struct Bucket {
    rate: f64,
    left: f64,
    filled: Instant,
}

impl Bucket {
    /// Lets `rate` happen in a second.
    pub fn new(rate: u32, now: Instant) -> Self {
        Self { rate: f64::from(rate), left: f64::from(rate), filled: now }
    }

    /// Whether it may happen once more.
    pub fn take(&mut self, now: Instant) -> bool {
        self.take_or_wait(now).is_ok()
    }

    /// The same; if not, how long until it may.
    pub fn take_or_wait(&mut self, now: Instant) -> Result<(), Duration> {
        let rest = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.left = (self.left + rest * self.rate).min(self.rate);
        if self.left < 1.0 {
            return Err(Duration::try_from_secs_f64((1.0 - self.left) / self.rate).unwrap_or(Duration::MAX));
        }
        self.left -= 1.0;
        Ok(())
    }
}

/// Makes wait what happens too often.
#[derive(Debug)]
pub struct Pace(Option<Mutex<Bucket>>);

impl Pace {
    /// Lets `rate` happen in a second; without bound if there is none.
    pub fn new(rate: Option<u32>, now: Instant) -> Self {
        Self(rate.map(|rate| Mutex::new(Bucket::new(rate, now))))
    }

    /// Whether it may happen now.
    pub fn now(&self) -> bool {
        let Some(bucket) = &self.0 else { return true };
        bucket.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now())
    }

    /// Returns once it may happen.
    pub async fn turn(&self) {
        let Some(bucket) = &self.0 else { return };
        loop {
            let taken = bucket.lock().unwrap_or_else(PoisonError::into_inner).take_or_wait(Instant::now());
            match taken {
                Ok(()) => return,
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
    }
}

/// Lets the same thing pass once in a period, and no more than so many things.
#[derive(Debug)]
pub struct Throttle<K> {
    most: u32,
    period: Duration,
    passed: HashSet<K>,
    /// When the period ends.
    until: Option<Instant>,
    left_out: u64,
}

impl<K: Hash + Eq> Throttle<K> {
    /// Lets `most` things pass in each `period`.
    pub fn new(most: u32, period: Duration) -> Self {
        Self { most, period, passed: HashSet::new(), until: None, left_out: 0 }
    }

    /// `None` if `thing` passed in this period already or too many did; else how many were left out before it for there
    /// being too many.
    pub fn admit(&mut self, thing: K, now: Instant) -> Option<u64> {
        if self.until.is_none_or(|until| now >= until) {
            self.until = Some(now + self.period);
            self.passed.clear();
        }
        if self.passed.contains(&thing) {
            return None;
        }
        if self.passed.len() >= self.most as usize {
            self.left_out += 1;
            return None;
        }
        self.passed.insert(thing);
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once_and_then_so_many_in_a_second() {
        let start = Instant::now();
        let mut bucket = Bucket::new(100, start);
        assert_eq!((0..1000).filter(|_| bucket.take(start)).count(), 100);
        let wait = bucket.take_or_wait(start).expect_err("nothing is left");
        assert!((Duration::from_millis(9)..=Duration::from_millis(10)).contains(&wait), "{wait:?}");
        let later = start + wait + Duration::from_micros(1);
        assert_eq!((bucket.take(later), bucket.take(later)), (true, false));
        assert_eq!((0..1000).filter(|_| bucket.take(later + Duration::from_mins(1))).count(), 100);
    }

    #[tokio::test]
    async fn what_happens_too_often_waits_and_nothing_is_left_out() {
        let begun = Instant::now();
        let pace = Pace::new(Some(200), begun);
        for _ in 0..260 {
            pace.turn().await;
        }
        assert!(begun.elapsed() >= Duration::from_millis(295), "{:?}", begun.elapsed());
        let unbounded = Pace::new(None, begun);
        for _ in 0..1_000_000 {
            unbounded.turn().await;
        }
    }
}
