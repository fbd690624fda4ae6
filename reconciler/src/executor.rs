//! Carries out a plan: independent changes at once up to a bound, the steps of a change in order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;

use crate::backend::{BackendError, ErrorKind, Perform};
use crate::op::{Op, Pace};
use crate::outcome::{Ending, Event, Outcome, Result as ChangeResult};
use crate::plan::{Action, Change, Plan};
use crate::resource::ResourceId;

#[cfg(test)]
mod tests;

/// How a plan is carried out.
#[derive(Debug, Clone, Copy)]
pub struct ExecuteOptions {
    /// Changes under way at once.
    pub parallelism: usize,
    /// How often a step that failed in passing is tried, the first time included.
    pub attempts: u32,
    /// Pause before the second attempt; doubled for each further one.
    pub backoff: Duration,
    /// Deadline of [`Pace::Ready`].
    pub ready_timeout: Duration,
    /// Deadline of [`Pace::Step`].
    pub step_timeout: Duration,
    /// Deadline of [`Pace::Transfer`]; backends also watch for silence.
    pub transfer_timeout: Duration,
}

impl Default for ExecuteOptions {
    fn default() -> Self {
        Self {
            parallelism: 8,
            attempts: 4,
            backoff: Duration::from_millis(100),
            ready_timeout: Duration::from_mins(1),
            step_timeout: Duration::from_mins(1),
            transfer_timeout: Duration::from_hours(1),
        }
    }
}

/// Carries out `plan`.
///
/// # Guarantees
/// - A failure keeps its dependants from being tried, and nothing else.
/// - A change that fails before its point of no return is taken back.
/// - After `stop` turns true, steps in hand are finished, their changes taken back or, past the point of no return,
///   finished, and nothing new is begun.
///
/// # Assumptions
/// The plan has no forbidden loss left and nobody else writes to the project: the caller holds its lock.
pub async fn execute(
    plan: &Plan,
    backend: &dyn Perform,
    options: &ExecuteOptions,
    stop: watch::Receiver<bool>,
    on_event: &(dyn Fn(Event) + Send + Sync),
) -> Outcome {
    let run = Run { backend, options, stop, on_event };
    let mut waiting: Vec<&Change> = plan.effective().collect();
    let mut blocked: BTreeSet<&ResourceId> = plan.forbidden().map(|change| &change.resource).collect();
    let mut unfinished: BTreeSet<&ResourceId> = waiting.iter().map(|change| &change.resource).collect();
    let mut endings: BTreeMap<&ResourceId, Ending> = BTreeMap::new();
    let mut under_way = FuturesUnordered::new();
    loop {
        // A change that waits for a failed one is not tried; that may keep others from being tried in turn.
        while let Some(index) = waiting.iter().position(|change| change.after.iter().any(|id| blocked.contains(id))) {
            let change = waiting.remove(index);
            let waited_for = change.after.iter().find(|id| blocked.contains(id)).cloned();
            blocked.insert(&change.resource);
            unfinished.remove(&change.resource);
            endings.insert(&change.resource, run.ended(change, Ending::NotTried { waited_for }));
        }
        while under_way.len() < options.parallelism.max(1) && !run.stopped() {
            let ready = waiting.iter().position(|change| !change.after.iter().any(|id| unfinished.contains(id)));
            let Some(index) = ready else { break };
            let change = waiting.remove(index);
            let run = &run;
            under_way.push(async move { (change, run.change(change).await) });
        }
        let Some((change, ending)) = under_way.next().await else { break };
        unfinished.remove(&change.resource);
        if ending != Ending::Done {
            blocked.insert(&change.resource);
        }
        endings.insert(&change.resource, run.ended(change, ending));
    }
    // A step that ran out of time was dropped where it stood; what it had made goes before anybody is told of the end.
    if tokio::time::timeout(options.step_timeout, backend.settle()).await.is_err() {
        tracing::warn!("what was given up is not all removed; the next apply does that");
    }
    // Left over: an interrupt, or an order that cannot be met, which planning excludes.
    for change in waiting {
        endings.insert(&change.resource, run.ended(change, Ending::NotTried { waited_for: None }));
    }
    let results =
        plan.effective().filter_map(|change| endings.remove(&change.resource).map(|ending| result(change, ending)));
    let results: Vec<_> = results.collect();
    // One that came too late to keep anything from being done has interrupted nothing.
    let interrupted = run.stopped() && results.iter().any(|result| result.ending != Ending::Done);
    Outcome { results, interrupted }
}

fn result(change: &Change, ending: Ending) -> ChangeResult {
    ChangeResult { resource: change.resource.clone(), action: change.action, origin: change.origin.clone(), ending }
}

struct Run<'a> {
    backend: &'a dyn Perform,
    options: &'a ExecuteOptions,
    stop: watch::Receiver<bool>,
    on_event: &'a (dyn Fn(Event) + Send + Sync),
}

impl Run<'_> {
    fn stopped(&self) -> bool {
        *self.stop.borrow()
    }

    fn ended(&self, change: &Change, ending: Ending) -> Ending {
        (self.on_event)(Event::Ended(result(change, ending.clone())));
        ending
    }

    async fn change(&self, change: &Change) -> Ending {
        (self.on_event)(Event::Started { resource: change.resource.clone(), action: change.action });
        let mut committed = false;
        for (index, step) in change.steps.iter().enumerate() {
            // Once the new state is the good one, only what is left to do leads to a whole one.
            let outcome = if self.stopped() && !committed {
                Err(BackendError::new(ErrorKind::Failed, "interrupted").with_help("run it again to finish"))
            } else {
                committed |= step.commits;
                (self.on_event)(Event::Step { resource: change.resource.clone(), message: step.title.clone() });
                self.step(&change.resource, &step.op).await
            };
            if let Err(error) = outcome {
                let undo: Vec<&Op> = change.steps[..=index].iter().rev().flat_map(|step| &step.undo).collect();
                let can_be_taken_back = !committed && !undo.is_empty() && change.action == Action::Replace;
                let rolled_back = can_be_taken_back && self.take_back(change, &undo).await;
                let BackendError { kind, message, help } = error;
                return Ending::Failed { step: step.title.clone(), message, help, rolled_back, kind };
            }
        }
        Ending::Done
    }

    /// Whether everything could be taken back. Tried to the end: one failure does not make the others needless.
    async fn take_back(&self, change: &Change, undo: &[&Op]) -> bool {
        let mut whole = true;
        for op in undo {
            (self.on_event)(Event::Step { resource: change.resource.clone(), message: "taking back".to_owned() });
            match self.step(&change.resource, op).await {
                Ok(()) => {}
                Err(error) if error.kind == ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(resource = %change.resource, %error, "could not be taken back");
                    whole = false;
                }
            }
        }
        whole
    }

    async fn step(&self, resource: &ResourceId, op: &Op) -> Result<(), BackendError> {
        let progress = |message: &str| {
            (self.on_event)(Event::Step { resource: resource.clone(), message: message.to_owned() });
        };
        let deadline = self.deadline(op);
        let mut pause = self.options.backoff;
        let mut attempt = 1;
        loop {
            let outcome = match tokio::time::timeout(deadline, self.backend.perform(op, &progress)).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    Err(BackendError::new(ErrorKind::TimedOut, format!("no answer within {}", seconds(deadline))))
                }
            };
            match outcome {
                Err(error) if error.kind == ErrorKind::Transient && attempt < self.options.attempts.max(1) => {
                    attempt += 1;
                    let (resource, message) = (resource.clone(), error.message);
                    (self.on_event)(Event::Retry { resource, message, attempt });
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                outcome => return outcome,
            }
        }
    }

    fn deadline(&self, op: &Op) -> Duration {
        match op.pace() {
            Pace::Step => self.options.step_timeout,
            Pace::Transfer => self.options.transfer_timeout,
            Pace::Ready => self.options.ready_timeout,
        }
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}
