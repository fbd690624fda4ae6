//! Times of alternatives, taken in turns.

use std::time::{Duration, Instant};

use crate::invocation::Invocation;

/// Times of one thing, in the order of the rounds.
#[derive(Debug, Clone, Default)]
pub struct Times(pub Vec<Duration>);

impl Times {
    /// The middle one; of two, the larger.
    pub fn median(&self) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted[sorted.len() / 2]
    }

    /// The middle one of the ratios to `other`, each taken within a round.
    pub fn ratio(&self, other: &Self) -> f64 {
        let pairs = self.0.iter().zip(&other.0);
        let mut ratios: Vec<f64> = pairs.map(|(ours, theirs)| ours.as_secs_f64() / theirs.as_secs_f64()).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        ratios[ratios.len() / 2]
    }
}

/// Runs every alternative once per round, after one round that does not count. Each other round goes the other way, so that
/// none always follows the same one.
pub fn in_turns<const N: usize>(rounds: usize, alternatives: &mut [&mut dyn FnMut() -> Duration; N]) -> [Times; N] {
    let mut times = [const { Times(Vec::new()) }; N];
    for round in 0..=rounds {
        for step in 0..N {
            let index = if round % 2 == 0 { step } else { N - 1 - step };
            let took = alternatives[index]();
            if round > 0 {
                times[index].0.push(took);
            }
        }
    }
    times
}

/// Time of a call.
pub fn time<T>(work: impl FnOnce() -> T) -> Duration {
    let begun = Instant::now();
    let kept = work();
    let took = begun.elapsed();
    drop(kept);
    took
}

/// Time of a whole process, which has to succeed.
#[track_caller]
pub fn time_process(invocation: Invocation<'_>) -> Duration {
    let begun = Instant::now();
    let finished = invocation.run();
    let took = begun.elapsed();
    finished.expect_code(0);
    took
}
