//! A sandbox as the data path knows it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};
use jiff::civil::Date;
use schema::policy::{DnsName, HostPattern};

use crate::audit::Sink;
use crate::flows::Flows;
use crate::generation::Generation;
use crate::pool::Pool;
use crate::shared::Shared;

/// Names of peers on internal networks, and their addresses there. Reached directly, not through the daemon.
pub type Peers = BTreeMap<DnsName, Vec<IpAddr>>;

/// Shared by everything that serves one sandbox.
pub struct Sandbox {
    /// Project.
    pub project: String,
    /// Name.
    pub name: String,
    /// Where records go.
    pub sink: Arc<dyn Sink>,
    /// What is open.
    pub flows: Flows,
    /// Which synthetic address stands for which name.
    pub pool: Pool,
    current: ArcSwap<Generation>,
    peers: ArcSwap<Peers>,
    /// Counts changes of what DNS answers follow from.
    epoch: AtomicU64,
}

impl Sandbox {
    /// A sandbox served by `generation`.
    pub fn new(project: String, name: String, sink: Arc<dyn Sink>, generation: Generation) -> Self {
        Self {
            project,
            name,
            sink,
            flows: Flows::default(),
            pool: Pool::new(Instant::now()),
            current: ArcSwap::from_pointee(generation),
            peers: ArcSwap::default(),
            epoch: AtomicU64::new(0),
        }
    }

    /// The generation in force. A decision takes it once and asks it only.
    pub fn generation(&self) -> Guard<Arc<Generation>> {
        self.current.load()
    }

    /// Puts another generation in force; returns the one before. Flows it does not allow are cut.
    pub fn swap(&self, generation: Generation, shared: &Shared) -> Arc<Generation> {
        let generation = Arc::new(generation);
        self.spell(&generation, shared);
        let before = self.current.swap(generation);
        self.epoch.fetch_add(1, Ordering::Release);
        self.flows.judge_again(|| self.in_force(shared));
        before
    }

    /// The generation in force, and the day by which it is.
    pub(crate) fn in_force(&self, shared: &Shared) -> (Arc<Generation>, Date) {
        (self.current.load_full(), shared.today())
    }

    /// Gives addresses to the names that the rules of `generation` spell out.
    pub(crate) fn spell(&self, generation: &Generation, shared: &Shared) {
        let spelled = generation.policy.allow.iter().filter_map(|rule| match &rule.host {
            HostPattern::Exact(name) => Some(name),
            _ => None,
        });
        self.pool.spell(spelled, shared.limits.pattern_names, Instant::now());
    }

    /// Peers on internal networks.
    pub fn peers(&self) -> Guard<Arc<Peers>> {
        self.peers.load()
    }

    /// Says where the peers on internal networks are.
    pub fn set_peers(&self, peers: Peers) {
        self.peers.store(Arc::new(peers));
        self.epoch.fetch_add(1, Ordering::Release);
    }

    /// Another number after each change of policy or peers.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("project", &self.project).field("name", &self.name).finish_non_exhaustive()
    }
}
