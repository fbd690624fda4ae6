//! The user's wishes beyond the file.

use std::collections::{BTreeMap, BTreeSet};

use crate::resource::ResourceId;
use crate::spec::LimitSpec;

/// Whether a sandbox should run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// It should.
    Running,
    /// It was stopped on purpose.
    Stopped,
}

/// What `destroy` takes beyond containers, networks and images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Destroy {
    /// Volumes too.
    pub volumes: bool,
    /// Worktrees too.
    pub worktrees: bool,
    /// The engine's copies of secrets too.
    pub secrets: bool,
}

/// The user's wishes beyond the file.
#[derive(Debug, Clone)]
pub struct PlanOptions {
    /// Only these sandboxes and what they need; empty is everything.
    pub targets: BTreeSet<String>,
    /// Remove everything.
    pub destroy: Option<Destroy>,
    /// Sandboxes to make anew.
    pub replace: BTreeSet<String>,
    /// Sandboxes to stop and start.
    pub restart: BTreeSet<String>,
    /// Sandboxes to start or stop, recorded.
    pub intents: BTreeMap<String, Intent>,
    /// Losses consented to, as `kind/name`.
    pub accepted: BTreeSet<String>,
    /// Only what was changed from outside.
    pub refresh_only: bool,
    /// Wait until started sandboxes are ready.
    pub wait: bool,
    /// Start, stop or restart the targets and change nothing else, whatever the file says by now.
    pub state_only: bool,
    /// What was there after earlier applies: hashes of the specifications that were met. Only a hint, which tells what
    /// was removed by somebody from what was never made.
    pub applied: BTreeMap<ResourceId, String>,
    /// Ids of the containers that sandboxes had after earlier applies. Only a hint, which tells a container that somebody
    /// renamed from a copy of it.
    pub seen: BTreeMap<String, String>,
    /// Ceilings that these containers were given by then, by sandbox. Only a hint, for a start of one that is stopped: it
    /// gets none that are looser than those of the file.
    pub ceilings: BTreeMap<String, LimitSpec>,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            targets: BTreeSet::new(),
            destroy: None,
            replace: BTreeSet::new(),
            restart: BTreeSet::new(),
            intents: BTreeMap::new(),
            accepted: BTreeSet::new(),
            refresh_only: false,
            wait: true,
            state_only: false,
            applied: BTreeMap::new(),
            seen: BTreeMap::new(),
            ceilings: BTreeMap::new(),
        }
    }
}
