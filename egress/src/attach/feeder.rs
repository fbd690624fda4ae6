//! What keeps a `direct` sandbox's sets filled: a child that stays in its network namespace.

use std::net::IpAddr;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::conversation::{self, Answer, Helper};
use super::wire::Task;
use super::{AttachError, Attached, Plan, Target};

/// Openings that one transaction takes; a message has a bound too.
const BATCH: usize = 512;

/// An address that a `direct` sandbox may reach for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// The address, judged by whoever resolved the name.
    pub address: IpAddr,
    /// The port; none for all of them.
    pub port: Option<Port>,
    /// How long from now. Whole seconds, at least one.
    pub lifetime: Duration,
}

/// A port of an [`Opening`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    /// UDP, else TCP.
    pub udp: bool,
    /// The number.
    pub number: u16,
}

/// A wish, and where it is told whether it came true.
type Wish = (Vec<Opening>, oneshot::Sender<Result<(), String>>);

/// Opens addresses to one sandbox.
///
/// Dropping it ends the child. What is open stays so until its time is up, and the rest stays shut.
#[derive(Debug)]
pub struct Feeder {
    wishes: Sender<Wish>,
}

impl Feeder {
    /// Opens these, or begins their time anew. An answer to a question for names must not be sent before.
    ///
    /// # Errors
    /// The kernel did not take them, or the sandbox is gone: say that the name cannot be resolved now.
    pub async fn open(&self, openings: Vec<Opening>) -> Result<(), AttachError> {
        let (tell, told) = oneshot::channel();
        let gone = || AttachError::Helper("has ended: attach to the sandbox again".to_owned());
        self.wishes.send((openings, tell)).map_err(|_| gone())?;
        told.await.map_err(|_| gone())?.map_err(AttachError::Helper)
    }
}

/// Attaches to a sandbox on the engine's network: its DNS comes to us, and nothing leaves but to what was opened to it by
/// the [`Feeder`].
///
/// # Guarantees
/// Nothing is reached that was not opened: flows that began before the rules end with them, and flows end with the entry
/// that they began by. Attaching again keeps what is open.
///
/// # Errors
/// See [`super::attach`].
pub async fn attach_direct(program: &Path, target: &Target, plan: &Plan) -> Result<(Attached, Feeder), AttachError> {
    // Datagrams need no relay: they go where they want, once that is open.
    let Plan { udp: _, peers, gate } = plan.clone();
    let (helper, answer) = conversation::begin(program, target, Task::Direct { peers, gate }).await?;
    let Answer { listeners, gate, report } = answer;
    let Some(report) = report else { return Err(AttachError::Helper("did not say what it did".to_owned())) };
    let (wishes, come) = channel();
    std::thread::Builder::new()
        .name("direct".to_owned())
        .spawn(move || grant(&helper, &come))
        .map_err(|source| AttachError::Inside { what: "start the thread that opens addresses".to_owned(), source })?;
    Ok((Attached { listeners, gate, report }, Feeder { wishes }))
}

/// Has wishes granted until nobody can have any more. Those that came meanwhile go together: one transaction for all.
fn grant(helper: &Helper, wishes: &Receiver<Wish>) {
    while let Ok((mut openings, tell)) = wishes.recv() {
        let mut waiting = vec![tell];
        while openings.len() < BATCH
            && let Ok((more, tell)) = wishes.try_recv()
        {
            openings.extend(more);
            waiting.push(tell);
        }
        let result = openings.chunks(BATCH).try_for_each(|part| helper.open(part)).map_err(|error| error.to_string());
        for tell in waiting {
            // Whoever asked may have given up.
            let _ = tell.send(result.clone());
        }
    }
}
