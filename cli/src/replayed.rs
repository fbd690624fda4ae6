//! What the policies of a plan would have meant for what was really asked for, by the daemon's records.

use std::collections::BTreeSet;
use std::time::Duration;

use egress::audit::log::{directory, of_sandbox};
use egress::audit::newest::{Budget, Newest};
use egress::replay::{Replay, replay};
use jiff::{SignedDuration, Timestamp};
use reconciler::kinds::policy;
use reconciler::plan::Plan;
use schema::Config;
use serde::Serialize;

use crate::configuration;
use crate::engine::Engine;

/// How far back.
const DAYS: i64 = 7;
/// Most that is read and judged, of all sandboxes together: nobody waits long for a plan because of what happened before it.
const BUDGET: Budget = Budget { bytes: 16 << 20, time: Duration::from_millis(700) };

/// Recorded requests under the new policies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replayed {
    /// Days that were looked back.
    pub days: i64,
    /// Records that were judged again.
    pub records: u64,
    /// Whether there are more, which were left out to save time.
    pub cut: bool,
    /// What came of it.
    #[serde(flatten)]
    pub replay: Replay,
}

/// Judges what was recorded of the sandboxes whose policies `plan` changes; `None` where nothing is changed or recorded.
/// Only information: what cannot be read is as if it were not there.
pub async fn replayed(engine: &Engine, config: &Config, plan: &Plan) -> Option<Replayed> {
    let changed: BTreeSet<&str> = plan
        .effective()
        .filter(|change| change.kind == policy::NOUN && !change.fields.is_empty())
        .filter_map(|change| change.sandbox.as_deref())
        .collect();
    if changed.is_empty() {
        return None;
    }
    let directory = directory(&engine.records().await, config.project.as_str());
    let since = Timestamp::now().checked_sub(SignedDuration::from_hours(24 * DAYS)).ok();
    // Each has its share: one that does much leaves the others theirs.
    let share = u32::try_from(changed.len()).unwrap_or(u32::MAX);
    let budget = Budget { bytes: BUDGET.bytes / u64::from(share), time: BUDGET.time / share };
    let (mut records, mut cut) = (0, false);
    let mut waiting = changed.iter();
    let mut open: Option<Newest> = None;
    let ours = std::iter::from_fn(|| {
        loop {
            if let Some(newest) = &mut open {
                if let Some(record) = newest.read().ok().flatten() {
                    records += 1;
                    return Some(record);
                }
                cut |= newest.was_cut();
            }
            open = Newest::open(&of_sandbox(&directory, waiting.next()?), since, budget).ok();
        }
    });
    let replay = replay(config, ours, configuration::today());
    (records > 0).then_some(Replayed { days: DAYS, records, cut, replay })
}

impl Replayed {
    /// In a sentence; nothing where nothing would have been different.
    pub fn told(&self) -> Option<String> {
        let Self { days, records, cut, replay } = self;
        if replay.opened.is_empty() && replay.closed.is_empty() {
            return None;
        }
        let of = if *cut { format!("the newest {records} records") } else { format!("{records} records") };
        Some(format!("Replay of {of} of the last {days} days: {replay}."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_changes_nothing_that_was_done_is_not_told() {
        let mut replayed =
            Replayed { days: 7, records: 3, cut: false, replay: Replay { same: 3, ..Replay::default() } };
        assert_eq!(replayed.told(), None);
        replayed.cut = true;
        replayed.replay.closed.push(egress::replay::Group {
            sandbox: "api".into(),
            host: "api.example".into(),
            port: Some(443),
            requests: 2,
            example: Some("POST /x".into()),
            because: Some("method"),
        });
        assert_eq!(
            replayed.told().as_deref(),
            Some(
                "Replay of the newest 3 records of the last 7 days: 0 hosts opened, 2 recorded requests would now be \
                 denied: api → api.example:443 POST /x (2)."
            )
        );
    }
}
