//! What is served, what should be, and the step from one to the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use schema::Name;
use schema::policy::Policy;
use secrecy::SecretSlice;
use tokio::time::Instant;

use super::secrets::SecretStore;
use super::world::{Key, Running, Serving, Stored};
use crate::control::handover::Passed;
use crate::generation::Generation;
use crate::listeners::Listeners;

#[derive(Default)]
pub(super) struct Table {
    pub(super) entries: BTreeMap<String, Entry>,
    pub(super) policies: BTreeMap<Key, Stored>,
    pub(super) secrets: SecretStore,
    /// Why the engine cannot be asked.
    pub(super) trouble: Option<String>,
    /// Sockets of a predecessor that nobody has claimed.
    pub(super) passed: Vec<Passed>,
    /// When somebody asked something last.
    pub(super) asked: Option<Instant>,
    /// Handing over: nothing is served any more.
    pub(super) frozen: bool,
}

pub(super) struct Entry {
    pub(super) running: Running,
    pub(super) phase: Phase,
    /// Why the newest policy is not in force.
    pub(super) trouble: Option<String>,
}

pub(super) enum Phase {
    Attaching,
    Served(Served),
    Failed { why: String, again_at: Instant, pause: Duration },
}

pub(super) struct Served {
    pub(super) serving: Box<dyn Serving>,
    /// Other descriptors of the same sockets, for a successor.
    pub(super) listeners: Listeners,
    /// Hash of the policy in force; `None` is the empty policy of a sandbox without one.
    pub(super) hash: Option<String>,
    pub(super) number: u64,
    pub(super) missing: Vec<String>,
}

/// A policy ready to be put in force.
pub(super) struct Loaded {
    pub(super) hash: Option<String>,
    pub(super) policy: Policy,
    pub(super) secrets: BTreeMap<Name, Arc<SecretSlice<u8>>>,
    pub(super) missing: Vec<String>,
}

/// Tells what serves a sandbox who else is on its networks.
pub(super) fn meet(table: &mut Table, id: &str, running: Running) {
    let Some(Entry { running: before, phase: Phase::Served(served), .. }) = table.entries.get_mut(id) else { return };
    if before.peers != running.peers {
        served.serving.set_peers(&running);
        *before = running;
    }
}

/// Puts the newest policy in force where another one is; one that does not load leaves the last good one.
pub(super) fn refresh(table: &mut Table, id: &str) {
    let Some(entry) = table.entries.get(id) else { return };
    let loaded = load(table, &entry.running);
    let Some(Entry { running, phase: Phase::Served(served), trouble }) = table.entries.get_mut(id) else { return };
    match loaded {
        Err(why) => {
            tracing::warn!(project = running.project, sandbox = running.sandbox, why, "policy does not load");
            *trouble = Some(why);
        }
        Ok(loaded) => {
            *trouble = None;
            if loaded.hash == served.hash && loaded.missing == served.missing {
                return;
            }
            let Loaded { hash, policy, secrets, missing } = loaded;
            served.number += 1;
            served.serving.swap(Generation::new(served.number, policy, secrets));
            tracing::info!(
                project = running.project,
                sandbox = running.sandbox,
                policy = hash,
                generation = served.number,
                "another policy is in force"
            );
            served.hash = hash;
            served.missing = missing;
        }
    }
}

pub(super) fn load(table: &Table, running: &Running) -> Result<Loaded, String> {
    let key = (running.project.clone(), running.sandbox.clone());
    let Some(stored) = table.policies.get(&key) else {
        // It waits at its gate and has no policy: it is let in, and reaches nothing.
        return Ok(Loaded { hash: None, policy: Policy::default(), secrets: BTreeMap::new(), missing: Vec::new() });
    };
    let policy: Policy = serde_json::from_str(&stored.text)
        .map_err(|error| format!("policy {} on the engine does not load: {error}", stored.hash))?;
    let mut secrets = BTreeMap::new();
    let mut missing = Vec::new();
    for name in policy.secrets() {
        match stored.secrets.get(name).and_then(|hash| table.secrets.get(hash)) {
            Some(value) => drop(secrets.insert(name.clone(), value)),
            None => missing.push(name.to_string()),
        }
    }
    Ok(Loaded { hash: Some(stored.hash.clone()), policy, secrets, missing })
}
