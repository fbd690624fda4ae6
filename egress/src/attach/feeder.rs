//! What gives rules to a `direct` sandbox: a child that stays in its network namespace.

use std::net::IpAddr;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
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
/// After rules that were refused, or took too long, none are given any more: what they would have closed must not stay open,
/// so all is shut, by another child. When that they failed is told, nobody is at work on them any more.
#[derive(Debug)]
pub struct Feeder {
    wishes: Sender<Wish>,
}

impl Filter for Feeder {
    fn give(&self, rules: String) -> oneshot::Receiver<Result<(), String>> {
        let (tell, told) = oneshot::channel();
        // When nobody takes it, it is dropped, and whoever waits is told by that.
        let _ = self.wishes.send((rules, tell));
        told
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
    std::thread::Builder::new()
        .name("direct".to_owned())
        .spawn(move || grant(helper, &come, || Helper::at_work(&program, &target, Task::Shut).map(drop)))
        .map_err(|source| AttachError::Inside { what: "start the thread that opens addresses".to_owned(), source })?;
    Ok((Attached { listeners, gate, report }, Direct { feeder: Feeder { wishes }, standing }))
}

/// Has wishes granted until nobody can have any more or one cannot be. Those that came meanwhile go together: one transaction
/// for all.
fn grant(helper: Helper, wishes: &Receiver<Wish>, shut: impl FnOnce() -> Result<(), AttachError>) {
    while let Ok((mut rules, tell)) = wishes.recv() {
        let mut waiting = vec![tell];
        while rules.len() < TOGETHER
            && let Ok((more, tell)) = wishes.try_recv()
        {
            rules.push_str(&more);
            waiting.push(tell);
        }
        // Nothing to do: somebody waits for what was done before.
        let given = if rules.is_empty() { Ok(()) } else { helper.give(&rules) };
        let Err(error) = given else {
            for tell in waiting {
                // Whoever asked may have given up.
                let _ = tell.send(Ok(()));
            }
            continue;
        };
        // An answer that comes late must not be taken for that to the next rules, nor rules that come late into force after
        // those of whoever attaches anew: it ends first, and only then anybody is told.
        drop(helper);
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
