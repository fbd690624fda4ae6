//! What gives rules to a `direct` sandbox: a child that stays in its network namespace.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::conversation::{self, Answer, Helper};
use super::wire::Task;
use super::{AttachError, Attached, Target};
use crate::direct::Filter;

/// Most bytes of rules that wait together for one transaction.
const TOGETHER: usize = 1 << 20;

/// An address that is open since before the daemon attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The address.
    pub address: IpAddr,
    /// The name that it was given out for.
    pub name: String,
    /// For how long it would stay open.
    pub left: Duration,
}

/// What a sandbox on the engine's network has beyond an [`Attached`].
#[derive(Debug)]
pub struct Direct {
    /// Takes its rules.
    pub feeder: Feeder,
    /// What is open already, by rules of an earlier daemon.
    pub standing: Vec<Standing>,
}

/// Rules, and where it is told what became of them.
type Wish = (String, oneshot::Sender<Result<(), String>>);

/// Gives rules to one sandbox, in the order in which they come.
///
/// Dropping it ends the child. What is open stays so until its time is up, and the rest stays shut.
///
/// # Guarantees
/// Once it is dropped, nobody is at work on its rules: those that the kernel is being given are waited for, and those that
/// wait are given never.
///
/// After rules that were refused, or took too long, none are given any more: what they would have closed must not stay open,
/// so all is shut, by another child. When that they failed is told, nobody is at work on them any more.
#[derive(Debug)]
pub struct Feeder {
    /// None once it ends.
    wishes: Option<Sender<Wish>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Filter for Feeder {
    fn give(&self, rules: String) -> oneshot::Receiver<Result<(), String>> {
        let (tell, told) = oneshot::channel();
        // When nobody takes it, it is dropped, and whoever waits is told by that.
        let _ = self.wishes.as_ref().map(|wishes| wishes.send((rules, tell)));
        told
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Release);
        drop(self.wishes.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported.
            let _ = thread.join();
        }
    }
}

/// Attaches to a sandbox on the engine's network: its DNS comes to us, and nothing leaves but to what is opened to it by
/// rules that the [`Feeder`] is given.
///
/// # Guarantees
/// Nothing is reached that was not opened: flows that began before the rules end with them, and flows end with the entry
/// that they began by. Attaching again leaves the rules of an earlier daemon in force until others are given.
///
/// # Errors
/// See [`super::attach`].
pub async fn attach_direct(program: &Path, target: &Target, gate: bool) -> Result<(Attached, Direct), AttachError> {
    let (helper, answer) = conversation::begin(program, target, Task::Direct { gate }).await?;
    let Answer { listeners, gate, report, standing } = answer;
    let Some(report) = report else { return Err(AttachError::Helper("did not say what it did".to_owned())) };
    let (wishes, come) = channel();
    let (program, target) = (program.to_owned(), target.clone());
    let ends = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&ends);
    let thread = std::thread::Builder::new()
        .name("direct".to_owned())
        .spawn(move || {
            let shut = || Helper::at_work(&program, &target, Task::Shut).map(drop);
            grant(move |rules| helper.give(rules), &come, &ended, shut);
        })
        .map_err(|source| AttachError::Inside { what: "start the thread that opens addresses".to_owned(), source })?;
    let feeder = Feeder { wishes: Some(wishes), ends, thread: Some(thread) };
    Ok((Attached { listeners, gate, report }, Direct { feeder, standing }))
}

/// Has wishes granted until it `ends` or one cannot be. Those that came meanwhile go together: one transaction for all.
fn grant(
    give: impl Fn(&str) -> Result<(), AttachError>,
    wishes: &Receiver<Wish>,
    ends: &AtomicBool,
    shut: impl FnOnce() -> Result<(), AttachError>,
) {
    while let Ok((mut rules, tell)) = wishes.recv() {
        // Whoever comes next judges anew what is open.
        if ends.load(Ordering::Acquire) {
            return;
        }
        let mut waiting = vec![tell];
        while rules.len() < TOGETHER
            && let Ok((more, tell)) = wishes.try_recv()
        {
            rules.push_str(&more);
            waiting.push(tell);
        }
        // Nothing to do: somebody waits for what was done before.
        let given = if rules.is_empty() { Ok(()) } else { give(&rules) };
        let Err(error) = given else {
            for tell in waiting {
                // Whoever asked may have given up.
                let _ = tell.send(Ok(()));
            }
            continue;
        };
        // An answer that comes late must not be taken for that to the next rules, nor rules that come late into force after
        // those of whoever attaches anew: the child ends first, and only then anybody is told.
        drop(give);
        let why = match shut() {
            // Its network has ended with it.
            Ok(()) | Err(AttachError::Gone { .. }) => error.to_string(),
            Err(worse) => format!("{error}, and what is open could not be shut: {worse}"),
        };
        for tell in waiting.into_iter().chain(wishes.try_iter().map(|(_, tell)| tell)) {
            let _ = tell.send(Err(why.clone()));
        }
        return;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A feeder, rules that are being given, and what lets them be in force.
    fn slow() -> (Feeder, Receiver<String>, Sender<()>) {
        let ((wishes, come), (begin, begun), (go, gone)) = (channel(), channel(), channel());
        let ends = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&ends);
        let give = move |rules: &str| {
            begin.send(rules.to_owned()).unwrap();
            gone.recv().unwrap();
            Ok(())
        };
        let thread = std::thread::spawn(move || grant(give, &come, &ended, || panic!("nothing is refused")));
        (Feeder { wishes: Some(wishes), ends, thread: Some(thread) }, begun, go)
    }

    #[test]
    fn rules_that_come_meanwhile_go_together() {
        let (feeder, begun, go) = slow();
        let mut told = vec![feeder.give("a".to_owned())];
        assert_eq!(begun.recv().unwrap(), "a");
        told.extend(["b", "", "c"].map(|rules| feeder.give(rules.to_owned())));
        go.send(()).unwrap();
        assert_eq!(begun.recv().unwrap(), "bc");
        go.send(()).unwrap();
        for told in told {
            assert_eq!(told.blocking_recv().unwrap(), Ok(()));
        }
    }

    #[test]
    fn what_ends_waits_for_rules_on_their_way_and_gives_no_others() {
        let (feeder, begun, go) = slow();
        let first = feeder.give("a".to_owned());
        assert_eq!(begun.recv().unwrap(), "a");
        let second = feeder.give("b".to_owned());
        let ends = Arc::clone(&feeder.ends);
        let ending = std::thread::spawn(move || drop(feeder));
        while !ends.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        assert!(!ending.is_finished(), "the kernel is still being given rules");
        go.send(()).unwrap();
        ending.join().unwrap();
        assert_eq!(begun.try_iter().count(), 0, "nothing else was begun");
        assert_eq!(first.blocking_recv().unwrap(), Ok(()));
        second.blocking_recv().unwrap_err();
    }
}
