//! What the daemon is told, and what it needs of the outside.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use schema::Name;
use schema::policy::Policy;

use crate::control::handover::Identity;
use crate::direct::Direct;
use crate::generation::Generation;
use crate::listeners::Listeners;
use crate::networks::Addresses;
use crate::sandbox::Sandbox;

/// A container that runs and belongs to a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Which, told from itself after a restart.
    pub identity: Identity,
    /// Project.
    pub project: String,
    /// Sandbox.
    pub sandbox: String,
    /// Whether its PID 1 waits to be let in at each start.
    pub gated: bool,
    /// How what it sends comes to us.
    pub way: Way,
    /// Its own addresses, by the name of the internal network.
    pub own: BTreeMap<String, Vec<IpAddr>>,
    /// Names and addresses of others on its internal networks.
    pub peers: BTreeMap<String, Vec<IpAddr>>,
}

impl Running {
    /// Whether its networks have the same addresses as those of `other`.
    pub fn is_networked_as(&self, other: &Self) -> bool {
        self.own == other.own && self.peers == other.peers
    }

    /// Takes over the addresses of `other`, which is the same container.
    pub fn network_as(&mut self, other: &Self) {
        self.own.clone_from(&other.own);
        self.peers.clone_from(&other.peers);
    }

    /// Where it and its peers are.
    pub fn addresses(&self) -> Addresses {
        Addresses { own: self.own.clone(), peers: self.peers.values().flatten().copied().collect() }
    }
}

/// How what a sandbox sends comes to the daemon, or does not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Way {
    /// Taken over inside of its network namespace.
    #[default]
    Proxy,
    /// Not at all: it connects by itself, over the engine's network and a packet filter (mode `direct`).
    Direct,
    /// Through a unix socket in this directory of the host, which is mounted into it (`transport: socket`).
    Socket(PathBuf),
}

/// The policy of a sandbox as the engine keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its hash.
    pub hash: String,
    /// The policy, JSON.
    pub text: String,
    /// Secrets that it writes into requests: name to salted hash.
    pub secrets: BTreeMap<Name, String>,
}

/// Project and sandbox.
pub type Key = (String, String);

/// What the engine says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    /// Containers that are ours to serve.
    pub running: Vec<Running>,
    /// Policies by project and sandbox, of sandboxes that do not run too.
    pub policies: BTreeMap<Key, Stored>,
}

/// Asks the engine.
#[async_trait]
pub trait Engine: Send + Sync {
    /// One look; why not, in words.
    async fn look(&self) -> Result<World, String>;
}

/// Goes into namespaces.
#[async_trait]
pub trait Attach: Send + Sync {
    /// Prepares the namespace of `running` and makes its sockets. Repeating it is fine once it has been told why not.
    async fn attach(&self, running: &Running, policy: &Policy) -> Result<Attached, Unattached>;
}

/// Why a container was not attached, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unattached {
    /// Its PID 1 is neither at its gate nor past it: it may only just have been started, or says so.
    NotAtGate(String),
    /// Anything else.
    Failed(String),
}

impl From<String> for Unattached {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// A container that has been attached.
pub struct Attached {
    /// Its sockets.
    pub listeners: Listeners,
    /// What lets its main process go; `None` when it does not wait.
    pub gate: Option<Box<dyn Gate>>,
    /// What opens addresses to it, if it goes [`Way::Direct`].
    pub direct: Option<Direct>,
}

/// Holds the main process of a sandbox.
pub trait Gate: Send {
    /// Lets it go.
    fn open(self: Box<Self>) -> Result<(), String>;
}

/// Serves connections.
pub trait Serve: Send + Sync {
    /// Begins to serve `sandbox` on `listeners`; ends with the value returned.
    fn serve(
        &self,
        running: &Running,
        sandbox: Arc<Sandbox>,
        listeners: Listeners,
        direct: Option<Direct>,
    ) -> Result<Box<dyn Serving>, String>;
}

/// What serves one sandbox. Dropping it closes its sockets and its flows.
pub trait Serving: Send + Sync {
    /// Puts another generation in force and ends the flows it does not allow. Where that takes longer than the call,
    /// [`Serving::enforced`] tells.
    fn swap(&self, generation: Generation);
    /// Waits until everything that was put in force before is so everywhere; why it is not, in words.
    fn enforced(&self) -> BoxFuture<'static, Result<(), String>>;
    /// Others are on its internal networks by now, or it is elsewhere on them. [`Serving::enforced`] tells when that is so.
    fn set_peers(&self, running: &Running);
    /// Open flows.
    fn flows(&self) -> usize;
    /// Open flows that `generation` would end, as people write them.
    fn cut_by(&self, generation: &Generation) -> Vec<String>;
    /// Why it has to be attached to anew, if so.
    fn broken(&self) -> Option<String>;
    /// Takes other descriptors of sockets that were made since it is served.
    fn more(&self) -> Listeners;
}
