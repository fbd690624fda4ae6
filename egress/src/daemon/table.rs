//! What is served, what should be, and the step from one to the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use schema::Name;
use schema::policy::{MOST_UDP_PORTS, Policy};
use secrecy::SecretSlice;
use tokio::time::Instant;

use super::secrets::SecretStore;
use super::world::{Key, Running, Serving, Stored, Way};
use crate::control::handover::Passed;
use crate::generation::Generation;
use crate::listeners::{Listeners, udp_ports};
use crate::recorder::Recorder;

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
    /// What is being handed over: nothing is served any more.
    pub(super) frozen: Option<Vec<Running>>,
    /// Sandboxes that are let out to learn what they need, and until when.
    pub(super) learning: BTreeMap<Key, Timestamp>,
    /// Ports for datagrams that are listened on for one sandbox, at most.
    pub(super) udp_ports: usize,
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
    /// Told what is to be in force; what it takes until that is so is for [`Serving::enforced`] to say.
    pub(super) serving: Box<dyn Serving>,
    /// Other descriptors of the same sockets, for a successor.
    pub(super) listeners: Listeners,
    /// Hash of the policy in force; `None` is the empty policy of a sandbox without one.
    pub(super) hash: Option<String>,
    pub(super) number: u64,
    /// Since when that one is in force.
    pub(super) since: Timestamp,
    pub(super) missing: Vec<String>,
    /// The policy without what learning allows, if it is in force with that.
    pub(super) without_learning: Option<Box<Strict>>,
}

impl Served {
    /// Another generation is in force from now on.
    fn next(&mut self) {
        self.number += 1;
        self.since = Timestamp::now();
    }
}

/// A policy by itself, and its secrets.
pub(super) type Strict = (Policy, BTreeMap<Name, Arc<SecretSlice<u8>>>);

/// A policy ready to be put in force.
pub(super) struct Loaded {
    pub(super) hash: Option<String>,
    pub(super) policy: Policy,
    pub(super) secrets: BTreeMap<Name, Arc<SecretSlice<u8>>>,
    pub(super) missing: Vec<String>,
    /// Whether somebody learns what else is needed.
    pub(super) learning: bool,
}

impl Loaded {
    /// As generation `number`.
    pub(super) fn generation(self, number: u64) -> Generation {
        let Self { policy, secrets, learning, .. } = self;
        if learning { Generation::learning(number, policy, secrets) } else { Generation::new(number, policy, secrets) }
    }

    /// What is to be in force when learning ends and nothing newer loads.
    pub(super) fn strict(&self) -> Option<Box<Strict>> {
        self.learning.then(|| Box::new((self.policy.clone(), self.secrets.clone())))
    }
}

/// Tells what serves a sandbox who else is on its networks.
pub(super) fn meet(table: &mut Table, id: &str, running: Running) {
    let Some(Entry { running: before, phase: Phase::Served(served), .. }) = table.entries.get_mut(id) else { return };
    if !before.is_networked_as(&running) {
        served.serving.set_peers(&running);
        *before = running;
    }
}

/// Puts `loaded` in force where something else is; whether that was so.
pub(super) fn renew(served: &mut Served, running: &Running, loaded: Loaded, recorder: &Recorder) -> bool {
    let as_before = loaded.learning == served.without_learning.is_some();
    if loaded.hash == served.hash && loaded.missing == served.missing && as_before {
        return false;
    }
    let (hash, missing, learning) = (loaded.hash.clone(), loaded.missing.clone(), loaded.learning);
    served.without_learning = loaded.strict();
    served.next();
    recorder.in_force(&running.project, &running.sandbox, &loaded.policy);
    served.serving.swap(loaded.generation(served.number));
    tracing::info!(
        project = running.project,
        sandbox = running.sandbox,
        policy = hash,
        generation = served.number,
        learning,
        "another policy is in force"
    );
    served.hash = hash;
    served.missing = missing;
    true
}

/// Puts the newest policy in force where another one is; one that does not load leaves the last good one.
pub(super) fn refresh(table: &mut Table, id: &str, recorder: &Recorder) {
    let Some(entry) = table.entries.get(id) else { return };
    let loaded = load(table, &entry.running);
    let learns = table.learning.contains_key(&(entry.running.project.clone(), entry.running.sandbox.clone()));
    let Some(Entry { running, phase: Phase::Served(served), trouble }) = table.entries.get_mut(id) else { return };
    match loaded {
        Err(why) => {
            tracing::warn!(project = running.project, sandbox = running.sandbox, why, "policy does not load");
            *trouble = Some(why);
            if !learns && let Some(strict) = served.without_learning.take() {
                let (policy, secrets) = *strict;
                served.next();
                served.serving.swap(Generation::new(served.number, policy, secrets));
            }
        }
        Ok(loaded) => {
            *trouble = None;
            renew(served, running, loaded, recorder);
        }
    }
}

impl Table {
    /// The entry of a container that is still being attached to as the one that it was then; none when nothing is served any
    /// more.
    pub(super) fn attaching(&mut self, running: &Running) -> Option<&mut Entry> {
        if self.frozen.is_some() {
            return None;
        }
        let entry = self.entries.get_mut(&running.identity.container)?;
        (entry.running.identity == running.identity && matches!(entry.phase, Phase::Attaching)).then_some(entry)
    }

    /// Whether there is anything of a sandbox: it runs, or has a policy.
    pub(super) fn knows(&self, key: &Key) -> bool {
        let of = |entry: &Entry| entry.running.project == key.0 && entry.running.sandbox == key.1;
        self.policies.contains_key(key) || self.entries.values().any(of)
    }
}

pub(super) fn load(table: &Table, running: &Running) -> Result<Loaded, String> {
    let key = (running.project.clone(), running.sandbox.clone());
    let learning = table.learning.contains_key(&key);
    let Some(stored) = table.policies.get(&key) else {
        // It waits at its gate and has no policy: it is let in, and reaches nothing.
        let (policy, secrets, missing) = (Policy::default(), BTreeMap::new(), Vec::new());
        return Ok(Loaded { hash: None, policy, secrets, missing, learning });
    };
    let policy: Policy = serde_json::from_str(&stored.text)
        .map_err(|error| format!("policy {} on the engine does not load: {error}", stored.hash))?;
    // Of another version, or nobody's whom we know, if it has more than the language allows.
    let (ports, most) = (udp_ports(&policy).len(), table.udp_ports);
    if running.way == Way::Proxy && ports > most {
        let more = if most < MOST_UDP_PORTS { ": let the daemon open more files" } else { "" };
        return Err(format!(
            "policy {} on the engine does not load: it has {ports} ports for datagrams, more than {most}{more}",
            stored.hash
        ));
    }
    let mut secrets = BTreeMap::new();
    let mut missing = Vec::new();
    for name in policy.secrets() {
        match stored.secrets.get(name).and_then(|hash| table.secrets.get(hash)) {
            Some(value) => drop(secrets.insert(name.clone(), value)),
            None => missing.push(name.to_string()),
        }
    }
    Ok(Loaded { hash: Some(stored.hash.clone()), policy, secrets, missing, learning })
}
