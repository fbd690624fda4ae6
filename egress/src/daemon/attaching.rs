//! From a container that runs to one that is served, and let go.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Daemon;
use super::table::{Entry, Phase, Served, Table, load, renew};
use super::world::{Attached, Gate, Running, Unattached};
use crate::control::handover::Passed;
use crate::listeners::udp_ports;
use crate::sandbox::Sandbox;

/// How long one may take: longer than all that is waited for on the way takes together. What was given up half-way could
/// change rules after the next attempt did.
const ATTACH_WITHIN: Duration = Duration::from_mins(1);
/// How long PID 1 may take from its start to its gate.
pub(super) const AT_GATE_WITHIN: Duration = Duration::from_secs(10);
/// Pause before it is looked again whether PID 1 has come to its gate; doubled for each further time.
const AT_GATE_AGAIN: Duration = Duration::from_millis(20);
/// Longest of these pauses.
const AT_GATE_AGAIN_AT_MOST: Duration = Duration::from_secs(1);
/// Pause before a second attempt to attach; doubled for each further one.
pub(super) const TRY_AGAIN: Duration = Duration::from_millis(500);
/// Longest pause between attempts.
const TRY_AGAIN_AT_MOST: Duration = Duration::from_secs(30);

/// What is served, and what holds its main process until it may go.
struct Begun {
    served: Served,
    gate: Option<Box<dyn Gate>>,
}

impl Daemon {
    /// Attaches in the background, or takes over what a predecessor had.
    pub(super) fn begin(&self, table: &mut Table, running: Running) {
        let id = running.identity.container.clone();
        let pause = match table.entries.get(&id).map(|entry| &entry.phase) {
            Some(Phase::Failed { pause, .. }) => (*pause * 2).min(TRY_AGAIN_AT_MOST),
            _ => TRY_AGAIN,
        };
        let passed = table.passed.iter().position(|passed| passed.identity == running.identity);
        let passed = passed.map(|index| table.passed.swap_remove(index));
        table.entries.insert(id, Entry { running: running.clone(), phase: Phase::Attaching, trouble: None });
        let daemon = self.clone();
        tokio::spawn(async move {
            let begun = match passed {
                Some(Passed { listeners, .. }) => {
                    let begun = daemon.start(&running, Attached { listeners, gate: None, direct: None });
                    // The predecessor may have missed the last change, or been in the middle of it.
                    begun.inspect(|begun| begun.served.serving.set_peers(&running))
                }
                None => daemon.attach(&running).await,
            };
            let outcome = match begun {
                Ok(begun) => daemon.let_in(&running, begun).await,
                Err(why) => Err(why),
            };
            if let Err(why) = outcome {
                daemon.failed(&running, why, pause);
            }
            daemon.change();
        });
    }

    async fn attach(&self, running: &Running) -> Result<Begun, String> {
        let deadline = Instant::now() + AT_GATE_WITHIN;
        let mut pause = AT_GATE_AGAIN;
        loop {
            match self.attach_once(running).await {
                Ok((attached, by)) => {
                    let begun = self.start(running, attached)?;
                    if begun.served.hash != by {
                        // The rules of its networks are those of another policy.
                        begun.served.serving.set_peers(running);
                    }
                    return Ok(begun);
                }
                Err(Unattached::Failed(why)) => return Err(why),
                Err(Unattached::NotAtGate(why)) if Instant::now() >= deadline => return Err(why),
                // Without a permit: what a sandbox says of its PID 1 must not keep others from being attached.
                Err(Unattached::NotAtGate(_)) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(AT_GATE_AGAIN_AT_MOST);
        }
    }

    /// Also tells by which policy.
    async fn attach_once(&self, running: &Running) -> Result<(Attached, Option<String>), Unattached> {
        let loaded = self.load(running)?;
        let _permit = Arc::clone(&self.shared.permits).acquire_owned().await;
        let attaching = self.shared.attach.attach(running, &loaded.policy);
        let attached = tokio::time::timeout(ATTACH_WITHIN, attaching).await.unwrap_or_else(|_| {
            let why = format!("its namespace was not entered within {} s", ATTACH_WITHIN.as_secs());
            Err(Unattached::Failed(why))
        })?;
        Ok((attached, loaded.hash))
    }

    /// Serves.
    fn start(&self, running: &Running, attached: Attached) -> Result<Begun, String> {
        let Attached { mut listeners, gate, direct } = attached;
        // Read again: another policy may have come meanwhile.
        let loaded = self.load(running)?;
        listeners.keep(&udp_ports(&loaded.policy));
        let (hash, missing, without_learning) = (loaded.hash.clone(), loaded.missing.clone(), loaded.strict());
        self.shared.recorder.in_force(&running.project, &running.sandbox, &loaded.policy);
        let spare = listeners.try_clone().map_err(|error| format!("its sockets: {error}"))?;
        let sandbox = Arc::new(Sandbox::new(
            running.project.clone(),
            running.sandbox.clone(),
            Arc::clone(&self.shared.recorder) as Arc<dyn crate::audit::Sink>,
            loaded.generation(1),
        ));
        let serving = self.shared.serve.serve(running, sandbox, listeners, direct)?;
        let since = Timestamp::now();
        let served = Served { serving, listeners: spare, hash, number: 1, since, missing, without_learning };
        Ok(Begun { served, gate })
    }

    /// Lets the main process go once what it is to be held to by then is in force.
    async fn let_in(&self, running: &Running, begun: Begun) -> Result<(), String> {
        let Begun { mut served, gate } = begun;
        let mut told = running.clone();
        loop {
            served.serving.enforced().await?;
            let mut table = self.table();
            let loaded = load(&table, running)?;
            // Gone, started anew or handed over meanwhile: what was made is dropped, and the gate stays shut. A successor
            // comes to it by itself.
            let Some(entry) = table.attaching(running) else { return Ok(()) };
            // Another policy may have come meanwhile, and others on its networks.
            let mut news = renew(&mut served, running, loaded, &self.shared.recorder);
            if !entry.running.is_networked_as(&told) {
                told.network_as(&entry.running);
                served.serving.set_peers(&entry.running);
                news = true;
            }
            if news {
                continue;
            }
            if let Some(gate) = gate {
                gate.open()?;
            }
            tracing::info!(project = running.project, sandbox = running.sandbox, policy = served.hash, "served");
            entry.phase = Phase::Served(served);
            return Ok(());
        }
    }

    fn failed(&self, running: &Running, why: String, pause: Duration) {
        if let Some(entry) = self.table().attaching(running) {
            tracing::warn!(project = running.project, sandbox = running.sandbox, why, "not attached");
            entry.phase = Phase::Failed { why, again_at: Instant::now() + pause, pause };
        }
    }
}
