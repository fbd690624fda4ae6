//! Podman: looking through [`Reader`], doing through [`Podman`].
//!
//! `podman-api` makes and removes volumes and networks, and carries pulls and logs; a small client of our own does what it
//! gets wrong or lacks, create (it would lose `no_new_privileges`), inspect, update, hijacked streams and uploads, and the
//! lists, for which every no-op waits: only what is used of an answer is read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinSet;

use crate::backend::{BackendError, ErrorKind, Observe, Perform, Progress, SecretSource};
use crate::facts::{EngineFacts, Observed, ProbeQuery, Probes, Query, Snapshot};
use crate::op::Op;

mod address;
mod client;
mod connect;
mod container;
mod create;
mod entrance;
mod error;
mod exec;
#[cfg(test)]
mod fake;
mod image;
mod kernel;
mod logs;
mod object;
mod pid_file;
mod probe;
mod remains;
mod served;
mod snapshot;
mod turn;
mod wire;

pub use address::address;
pub use connect::{Connect, Origin, PING, ping};
pub use exec::{ExecSession, ExecSpec, Resizer};
pub use logs::{LogQuery, Output};
pub use served::{Changes, RunningSandbox, Served, StoredPolicy};

use client::Client;
use connect::Connection;
use turn::Turn;

/// Looks at an engine, and can do nothing else.
#[derive(Debug, Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

struct Shared {
    connection: Connection,
    /// What tells this engine from others.
    address: String,
    api: podman_api::Podman,
    facts: EngineFacts,
    /// Held while a container with `keep-id` is created: Podman asks libsubid for the caller's ids then, and two
    /// questions at once crash its service or get no answer, whoever asks.
    keep_id: Turn,
    /// Held while an archive is loaded: for that time its own names stand for it, and two archives may share one.
    load: tokio::sync::Mutex<()>,
    /// A list of containers that was begun before anybody asked.
    ahead: std::sync::Mutex<Option<snapshot::Ahead>>,
    /// Numbers of first processes of containers that were just started, for whoever waits for them next.
    entered: std::sync::Mutex<HashMap<String, u32>>,
    /// Where numbers of first processes are read.
    pid_files: pid_file::PidFiles,
    /// See [`Reader::made`].
    made: std::sync::Mutex<HashMap<String, String>>,
    /// Removes what operations left that were given up.
    tidying: std::sync::Mutex<JoinSet<()>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("connection", &self.connection)
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

impl Reader {
    /// Finds an engine, or starts one that lives as long as the last clone of this value.
    pub async fn connect(options: &Connect) -> Result<Self, BackendError> {
        let connection = Connection::open(options).await?;
        let facts = engine_facts(&connection).await?;
        let api = podman_api::Podman::unix(connection.client.socket());
        let address = connection.origin.address(&options.own);
        let keep_id = Turn::before(&address, &options.runtime_dir);
        let shared = Shared {
            connection,
            address,
            api,
            facts,
            keep_id,
            load: tokio::sync::Mutex::default(),
            ahead: std::sync::Mutex::default(),
            entered: std::sync::Mutex::default(),
            pid_files: pid_file::PidFiles::default(),
            made: std::sync::Mutex::default(),
            tidying: std::sync::Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// What is known of the engine itself.
    pub fn facts(&self) -> &EngineFacts {
        &self.shared.facts
    }

    /// What tells this engine from others: the same text for everybody here who reaches it, however it was found.
    pub fn address(&self) -> &str {
        &self.shared.address
    }

    /// A value that can also do. `secrets` reads secret values when an operation needs one.
    pub fn into_podman(self, secrets: Arc<dyn SecretSource>) -> Podman {
        Podman { reader: self, secrets, patience: Duration::MAX }
    }

    /// Ids of the containers that were made by way of this value or its clones, by the name they were made with, whatever
    /// became of them.
    pub fn made(&self) -> HashMap<String, String> {
        self.shared.made.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn made_as(&self, name: &str, id: &str) {
        if !id.is_empty() {
            let mut made = self.shared.made.lock().unwrap_or_else(PoisonError::into_inner);
            made.insert(name.to_owned(), id.to_owned());
            self.shared.pid_files.made(name, id);
        }
    }

    /// Waits until what operations left that were given up is removed.
    pub async fn settle(&self) {
        let mut tidying = std::mem::take(&mut *self.tidying());
        while tidying.join_next().await.is_some() {}
    }

    fn tidying(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.shared.tidying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(&self) -> &Client {
        &self.shared.connection.client
    }

    fn api(&self) -> &podman_api::Podman {
        &self.shared.api
    }
}

/// Changes an engine.
#[derive(Clone)]
pub struct Podman {
    reader: Reader,
    secrets: Arc<dyn SecretSource>,
    patience: Duration,
}

impl fmt::Debug for Podman {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Podman").field("reader", &self.reader).finish_non_exhaustive()
    }
}

impl Podman {
    /// The same that waits at most so long for a registry that says nothing.
    #[must_use]
    pub fn patient_for(mut self, limit: Duration) -> Self {
        self.patience = limit;
        self
    }

    /// The part that only looks.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    fn facts(&self) -> &EngineFacts {
        self.reader.facts()
    }

    fn client(&self) -> &Client {
        self.reader.client()
    }

    fn api(&self) -> &podman_api::Podman {
        self.reader.api()
    }

    fn tidying(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.reader.tidying()
    }

    fn secret_source(&self) -> &dyn SecretSource {
        &*self.secrets
    }
}

/// Learns what a plan depends on, without the engine's slow `info` where this host tells it too.
async fn engine_facts(connection: &Connection) -> Result<EngineFacts, BackendError> {
    let version = connection.version.clone();
    let local = connection.peer.is_some();
    let (rootless, controllers) = match connection.peer {
        Some(0) => (false, kernel::controllers(None)),
        Some(uid) => (true, kernel::controllers(Some(uid))),
        None => {
            let info: wire::Info = connection.client.get("/info").await?;
            (info.host.security.rootless, info.host.cgroup_controllers)
        }
    };
    let limits: BTreeSet<String> =
        controllers.into_iter().filter(|name| ["cpu", "memory", "pids"].contains(&name.as_str())).collect();
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if (major, minor) < (4, 3) {
        return Err(BackendError::new(ErrorKind::Failed, format!("Podman {version} is too old"))
            .with_help("Podman 4.3 or newer is needed"));
    }
    Ok(EngineFacts { kind: "podman".to_owned(), version, rootless, limits, updates_restart: major >= 5, local })
}

/// How often a look that failed in passing is taken, the first time included.
const LOOKS: u32 = 4;
/// Pause before the second look; doubled for each further one.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(100);

/// Looks until it works, or fails for good. Looking changes nothing, so it can be repeated.
async fn patiently<T, F>(mut look: impl FnMut() -> F) -> Result<T, BackendError>
where
    F: Future<Output = Result<T, BackendError>>,
{
    let mut pause = LOOK_AGAIN;
    for _ in 1..LOOKS {
        match look().await {
            Err(error) if error.kind == ErrorKind::Transient => {
                tracing::debug!(%error, "looking again");
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            outcome => return outcome,
        }
    }
    look().await
}

#[async_trait]
impl Observe for Reader {
    async fn snapshot(&self, query: &Query) -> Result<Snapshot, BackendError> {
        let objects = patiently(|| self.objects(query)).await?;
        Ok(Snapshot {
            engine: self.facts().clone(),
            containers: objects.containers,
            images: objects.images,
            volumes: objects.volumes,
            networks: objects.networks,
            secrets: objects.secrets,
            repositories: BTreeMap::default(),
            worktrees: BTreeMap::default(),
            checkouts: BTreeMap::default(),
            daemon: Observed::Absent,
        })
    }

    async fn probe(&self, query: &ProbeQuery) -> Result<Probes, BackendError> {
        patiently(|| self.probes(query)).await
    }
}

#[async_trait]
impl Observe for Podman {
    async fn snapshot(&self, query: &Query) -> Result<Snapshot, BackendError> {
        self.reader.snapshot(query).await
    }

    async fn probe(&self, query: &ProbeQuery) -> Result<Probes, BackendError> {
        self.reader.probe(query).await
    }
}

#[async_trait]
impl Perform for Podman {
    async fn perform(&self, op: &Op, progress: Progress<'_>) -> Result<(), BackendError> {
        match op {
            Op::CreateImage { object, spec } => self.create_image(object, spec, progress).await,
            Op::RemoveImage { image } => self.remove_image(image).await,
            Op::CreateVolume { object } => self.create_volume(object).await,
            Op::RemoveVolume { volume } => self.remove_volume(volume).await,
            Op::CreateNetwork { object, spec } => self.create_network(object, spec).await,
            Op::RemoveNetwork { network } => self.remove_network(network).await,
            Op::CreateSecret { object, secret, hash } => self.create_secret(object, secret, hash).await,
            Op::RemoveSecret { secret } => self.remove_secret(secret).await,
            Op::CreateContainer { name, labels, spec } => self.create_container(name, labels, spec).await,
            Op::StartContainer { container, entries } => self.enter_container(container, entries).await,
            Op::AwaitReady { container } => self.await_ready(container).await,
            Op::StopContainer { container } => self.stop_container(container).await,
            Op::RemoveContainer { container, uid } => self.remove_container(container, uid.as_deref()).await,
            Op::RenameContainer { container, to } => self.rename_container(container, to).await,
            Op::UpdateContainer { container, limits, restart } => {
                self.update_container(container, limits, restart.as_deref()).await
            }
            Op::ConnectNetwork { container, network, alias } => self.connect_network(container, network, alias).await,
            Op::DisconnectNetwork { container, network } => self.disconnect_network(container, network).await,
            Op::EnsureDaemon | Op::EnforcePolicy { .. } => {
                Err(BackendError::new(ErrorKind::Failed, "this operation is the daemon's, not the engine's"))
            }
            Op::CloneRepository { .. }
            | Op::AddWorktree { .. }
            | Op::LockWorktree { .. }
            | Op::RemoveWorktree { .. } => {
                Err(BackendError::new(ErrorKind::Failed, "this operation is git's, not the engine's"))
            }
        }
    }

    async fn settle(&self) {
        self.reader.settle().await;
    }
}

#[cfg(test)]
mod tests {
    use super::fake::{CUT, Fake, failed};
    use super::*;

    #[tokio::test]
    async fn a_look_that_fails_in_passing_is_taken_again() {
        // Each address fails once, each time in another way that passes.
        let mut seen = BTreeSet::new();
        let fake = Fake::start(move |asked| match seen.insert(asked.to_owned()) {
            true if asked.contains("/containers/") => failed(500, "database is locked"),
            true => failed(503, "busy"),
            false => Some((200, "[]".to_owned())),
        })
        .await;
        let reader = fake.podman.reader();
        let snapshot = reader.snapshot(&Query { project: "acme".to_owned(), ..Query::default() }).await.expect("looks");
        assert_eq!(snapshot.containers.len() + snapshot.volumes.len() + snapshot.networks.len(), 0);
        let probed = ["one".to_owned()].into();
        reader.probe(&ProbeQuery { volume_names: probed, ..ProbeQuery::default() }).await.expect("looks");
        // So is one at the containers alone.
        let mut fails = true;
        let fake =
            Fake::start(
                move |_| {
                    if std::mem::take(&mut fails) { failed(503, "busy") } else { Some((200, "[]".to_owned())) }
                },
            )
            .await;
        assert!(fake.podman.reader().containers().await.expect("looks").is_empty());
    }

    /// As an engine that ends meanwhile leaves it: an answer that is whole for HTTP, and one that is not.
    #[tokio::test]
    async fn half_an_answer_is_asked_for_again_and_told_if_it_stays_one() {
        for half in ["[{\"Id\":".to_owned(), format!("[{{\"Id\":{CUT}")] {
            let (mut seen, first) = (BTreeSet::new(), half.clone());
            let fake = Fake::start(move |asked| {
                let body = if seen.insert(asked.to_owned()) { first.clone() } else { "[]".to_owned() };
                Some((200, body))
            })
            .await;
            let query = Query { project: "acme".to_owned(), ..Query::default() };
            let snapshot = fake.podman.reader().snapshot(&query).await.expect("looks again");
            assert_eq!(snapshot.containers.len() + snapshot.volumes.len() + snapshot.networks.len(), 0);

            let told = half.trim_end_matches(CUT) == half;
            let fake = Fake::start(move |_| Some((200, half.clone()))).await;
            let cut = fake.podman.reader().snapshot(&query).await.expect_err("never whole");
            assert_eq!(cut.kind, ErrorKind::Transient, "{cut}");
            let why = if told { "cannot be read: EOF" } else { "the exchange with the engine broke off" };
            assert!(cut.message.contains(why), "{cut}");
        }
    }

    #[tokio::test]
    async fn an_engine_that_hangs_is_given_up() {
        let fake = Fake::start(|_| {
            loop {
                std::thread::park();
            }
        })
        .await;
        // Nobody waits for real: what there is to wait for is the deadline.
        tokio::time::pause();
        let query = Query { project: "acme".to_owned(), ..Query::default() };
        let hangs = fake.podman.reader().snapshot(&query).await.expect_err("no answer");
        assert_eq!(hangs.kind, ErrorKind::TimedOut, "{hangs}");
        assert!(hangs.message.contains("no answer from the engine for 30 s"), "{hangs}");
    }

    #[tokio::test]
    async fn a_look_that_fails_for_good_is_taken_once() {
        let fake = Fake::start(|_| failed(500, "broken")).await;
        let refused = fake.podman.reader().containers().await.expect_err("broken");
        assert_eq!((refused.kind, refused.message.as_str()), (ErrorKind::Failed, "broken"));
        let mut looks = 0;
        let look = || {
            looks += 1;
            std::future::ready(Err::<(), _>(refused.clone()))
        };
        assert_eq!(patiently(look).await.expect_err("broken").kind, ErrorKind::Failed);
        assert_eq!(looks, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_has_an_end() {
        let begun = tokio::time::Instant::now();
        let mut looks = Vec::new();
        let look = || {
            looks.push(begun.elapsed().as_millis());
            std::future::ready(Err::<(), _>(BackendError::new(ErrorKind::Transient, "busy")))
        };
        assert_eq!(patiently(look).await.expect_err("busy").kind, ErrorKind::Transient);
        assert_eq!(looks, [0, 100, 300, 700]);
    }
}
