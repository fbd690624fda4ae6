//! Bounds on how often something happens.

use std::collections::HashSet;
use std::hash::Hash;
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
        let rest = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.left = (self.left + rest * self.rate).min(self.rate);
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
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
