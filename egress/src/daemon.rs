//! The daemon: holds no truth, serves what the engine says.
//!
//! ```text
//! engine → World → settle → attach (new ones) → Serving
//!                         → swap   (another policy)
//!                         → drop   (gone)
//! ```
//!
//! Level-triggered: an event, a question over the control socket and the clock all lead to the same look at the engine.
//! What attaches to namespaces, what serves connections and what asks the engine come in from outside, as traits.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use schema::Name;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::control::SecretValue;
use crate::control::handover::{Bequest, Identity, Passed};
use crate::listeners::Listeners;
use crate::recorder::Recorder;
use secrets::SecretStore;
use table::{Loaded, Phase, Served, Table, load, meet, refresh};
use world::{Attach, Engine, Key, Running, Serve, Way, World};

mod attaching;
mod learning;
pub mod secrets;
mod status;
mod table;
#[cfg(test)]
mod tests;
pub mod world;

/// Attachments under way at once: each is a process that works for some milliseconds.
const AT_ONCE: usize = 4;
/// How long sockets of a predecessor are kept for whoever the engine says that they belong to: nobody answers in them meanwhile.
const CLAIM_WITHIN: Duration = Duration::from_secs(5);
/// How long the answer to a question about a policy may take.
const ENFORCE_WITHIN: Duration = Duration::from_secs(30);

/// The daemon.
#[derive(Clone)]
pub struct Daemon {
    shared: Arc<Shared>,
}

/// What the daemon is made of.
pub struct Parts {
    /// Asks the engine.
    pub engine: Box<dyn Engine>,
    /// Goes into namespaces.
    pub attach: Box<dyn Attach>,
    /// Serves connections.
    pub serve: Box<dyn Serve>,
    /// Takes records.
    pub recorder: Arc<Recorder>,
    /// Where secrets outlive a restart; `None` keeps them in memory only.
    pub secrets: Option<PathBuf>,
    /// What a predecessor handed over.
    pub passed: Vec<Passed>,
    /// Its own version.
    pub version: String,
    /// Ports for datagrams that are listened on for one sandbox, at most.
    pub udp_ports: usize,
}

struct Shared {
    engine: Box<dyn Engine>,
    attach: Box<dyn Attach>,
    serve: Box<dyn Serve>,
    recorder: Arc<Recorder>,
    version: String,
    since: Timestamp,
    table: Mutex<Table>,
    /// Counts changes of the table.
    changed: watch::Sender<u64>,
    /// Held during a look, so that an older one never overtakes a newer one.
    looking: tokio::sync::Mutex<()>,
    /// Looks begun.
    looks: AtomicU64,
    permits: Arc<Semaphore>,
}

impl Daemon {
    /// A daemon that has not looked yet. What a predecessor handed over is let go where the first look fails or takes too long:
    /// who connects is refused then, and does not wait for an engine that is away.
    ///
    /// # Assumptions
    /// Made within a tokio runtime.
    pub fn new(parts: Parts) -> Self {
        let Parts { engine, attach, serve, recorder, secrets, passed, version, udp_ports } = parts;
        let unclaimed = !passed.is_empty();
        let table = Table { secrets: SecretStore::open(secrets), passed, udp_ports, ..Table::default() };
        let daemon = Self {
            shared: Arc::new(Shared {
                engine,
                attach,
                serve,
                recorder,
                version,
                since: Timestamp::now(),
                table: Mutex::new(table),
                changed: watch::Sender::new(0),
                looking: tokio::sync::Mutex::new(()),
                looks: AtomicU64::new(0),
                permits: Arc::new(Semaphore::new(AT_ONCE)),
            }),
        };
        if unclaimed {
            let daemon = daemon.clone();
            tokio::spawn(async move {
                tokio::time::sleep(CLAIM_WITHIN).await;
                daemon.let_go("the engine has not answered yet");
            });
        }
        daemon
    }

    /// Closes sockets of a predecessor that nobody has claimed: whose they are is attached to anew.
    fn let_go(&self, why: &str) {
        let passed = std::mem::take(&mut self.table().passed);
        if !passed.is_empty() {
            tracing::warn!(why, sandboxes = passed.len(), "what was handed over is let go");
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.shared.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) {
        self.shared.changed.send_modify(|count| *count += 1);
    }

    /// Looks at the engine and acts on it; whether anything was there that it did not know. A look that began after this was
    /// called is as good as one of its own.
    ///
    /// # Errors
    /// When the engine cannot be asked; what is served stays served.
    pub async fn look(&self) -> Result<bool, String> {
        let asked = self.shared.looks.load(Ordering::Acquire);
        let _alone = self.shared.looking.lock().await;
        if self.shared.looks.load(Ordering::Acquire) > asked {
            return self.table().trouble.clone().map_or(Ok(false), Err);
        }
        let look = self.shared.looks.fetch_add(1, Ordering::AcqRel) + 1;
        match self.shared.engine.look().await {
            Ok(world) => Ok(self.settle(world, look)),
            Err(why) => {
                self.table().trouble = Some(why.clone());
                self.let_go(&why);
                self.change();
                Err(why)
            }
        }
    }

    /// Brings what is served in line with what the look number `look` found; whether that is anything else than before.
    fn settle(&self, world: World, look: u64) -> bool {
        let mut gone = Vec::new();
        let mut table = self.table();
        if table.frozen.is_some() {
            return false;
        }
        let World { running, policies } = world;
        table.trouble = None;
        table.secrets.retain(policies.values().flat_map(|stored| stored.secrets.values()), look);
        let before = std::mem::replace(&mut table.policies, policies);
        let wanted: BTreeMap<&str, &Running> =
            running.iter().map(|running| (running.identity.container.as_str(), running)).collect();
        let leaving: Vec<String> = table
            .entries
            .iter()
            .filter(|(id, entry)| {
                wanted.get(id.as_str()).is_none_or(|running| running.identity != entry.running.identity)
            })
            .map(|(id, _)| id.clone())
            .collect();
        let known = |running: &Running| {
            table.entries.get(&running.identity.container).is_some_and(|entry| entry.running == *running)
        };
        let news = before != table.policies || !leaving.is_empty() || !running.iter().all(known);
        for id in leaving {
            gone.extend(table.entries.remove(&id));
        }
        for running in running {
            let id = running.identity.container.clone();
            match table.entries.get(&id).map(|entry| &entry.phase) {
                None => self.begin(&mut table, running),
                Some(Phase::Failed { again_at, .. }) if *again_at <= Instant::now() => self.begin(&mut table, running),
                Some(Phase::Served(served)) if served.serving.broken().is_some() => self.begin(&mut table, running),
                Some(Phase::Served(_)) => {
                    meet(&mut table, &id, running);
                    refresh(&mut table, &id, &self.shared.recorder);
                }
                Some(Phase::Attaching | Phase::Failed { .. }) => {
                    // Told to what serves it once something does.
                    if let Some(entry) = table.entries.get_mut(&id) {
                        entry.running.network_as(&running);
                    }
                }
            }
        }
        // Whoever was handed over and does not run any more is let go.
        table.passed.clear();
        let named = table.policies.keys().map(|(project, sandbox)| (project.as_str(), sandbox.as_str()));
        let running = table.entries.values().map(|entry| &entry.running);
        let running = running.map(|running| (running.project.as_str(), running.sandbox.as_str()));
        self.shared.recorder.know(named.chain(running));
        drop(table);
        for entry in &gone {
            tracing::info!(project = entry.running.project, sandbox = entry.running.sandbox, "gone");
        }
        // Outside of the lock: ending flows takes its time.
        drop(gone);
        // Flows have their records when they end. Those that end later are forgotten by the next look.
        let table = self.table();
        self.shared.recorder.retain(|key| table.knows(key));
        drop(table);
        self.change();
        news
    }

    /// The policy of a sandbox, read and given its secrets.
    fn load(&self, running: &Running) -> Result<Loaded, String> {
        load(&self.table(), running)
    }

    /// Takes secrets, looks, and waits until `policy` is in force for every running container of the sandbox, with them.
    ///
    /// # Errors
    /// Says what stands in the way; the last good policy stays in force, or nothing is open any more.
    pub async fn enforce(
        &self,
        project: &str,
        sandbox: &str,
        policy: Option<&str>,
        secrets: BTreeMap<Name, SecretValue>,
    ) -> Result<(), String> {
        let given: BTreeSet<String> = secrets.keys().map(ToString::to_string).collect();
        self.take(secrets).map_err(|error| format!("secrets cannot be kept: {error}"))?;
        // Somebody waits for this: what failed is tried at once.
        self.forgive(project, sandbox);
        let mut changed = self.shared.changed.subscribe();
        self.look().await?;
        let key = (project.to_owned(), sandbox.to_owned());
        let enforced = async {
            let told = loop {
                if let Some(answer) = self.in_force(&key, policy, &given) {
                    break answer?;
                }
                changed.changed().await.map_err(|_| "the daemon has ended".to_owned())?;
            };
            for enforced in told {
                enforced.await?;
            }
            Ok(())
        };
        tokio::time::timeout(ENFORCE_WITHIN, enforced)
            .await
            .unwrap_or_else(|_| Err(format!("the policy was not in force within {} s", ENFORCE_WITHIN.as_secs())))
    }

    fn forgive(&self, project: &str, sandbox: &str) {
        for entry in self.table().entries.values_mut() {
            if entry.running.project == project
                && entry.running.sandbox == sandbox
                && let Phase::Failed { again_at, .. } = &mut entry.phase
            {
                *again_at = Instant::now();
            }
        }
    }

    /// Whether `policy` is in force, with the secrets that were `given`; `None` when that is not decided yet. What serves
    /// its containers has been told, then, and what is returned waits until it is so.
    fn in_force(
        &self,
        key: &Key,
        policy: Option<&str>,
        given: &BTreeSet<String>,
    ) -> Option<Result<Vec<Enforced>, String>> {
        let table = self.table();
        if table.frozen.is_some() {
            return Some(Err("the daemon is being replaced".to_owned()));
        }
        let stored = table.policies.get(key).map(|stored| stored.hash.as_str());
        if stored != policy {
            let found = stored.map_or_else(|| "none".to_owned(), |hash| format!("policy {hash}"));
            return Some(Err(format!("the engine has {found} for it, not the one that should be in force")));
        }
        let (mut whole, mut told) = (true, Vec::new());
        for entry in table.entries.values() {
            if entry.running.project != key.0 || entry.running.sandbox != key.1 {
                continue;
            }
            if let Some(why) = &entry.trouble {
                return Some(Err(why.clone()));
            }
            match &entry.phase {
                Phase::Failed { why, .. } => return Some(Err(why.clone())),
                Phase::Served(served) => {
                    if let Some(why) = served.serving.broken() {
                        return Some(Err(why));
                    }
                    whole &= served.hash.as_deref() == policy;
                    if let Some(name) = served.missing.iter().find(|name| given.contains(*name)) {
                        return Some(Err(format!("the policy needs another value of secret {name} than was given")));
                    }
                    told.push(served.serving.enforced());
                }
                Phase::Attaching => whole = false,
            }
        }
        whole.then_some(Ok(told))
    }

    /// Whether something that failed is to be tried again by now.
    pub fn is_due(&self) -> bool {
        let now = Instant::now();
        self.table().entries.values().any(|entry| match &entry.phase {
            Phase::Failed { again_at, .. } => *again_at <= now,
            Phase::Served(served) => served.serving.broken().is_some(),
            Phase::Attaching => false,
        })
    }

    /// Whether nobody needs it: the engine was asked and has neither policies nor anything to serve.
    pub fn is_idle(&self) -> bool {
        let table = self.table();
        table.trouble.is_none() && table.entries.is_empty() && table.policies.is_empty()
    }

    /// Stops serving, and gives what a successor needs; `None` when that was done before.
    pub fn freeze(&self) -> Option<Bequest> {
        let mut table = self.table();
        if table.frozen.is_some() {
            return None;
        }
        let secrets = table.secrets.all();
        let entries = std::mem::take(&mut table.entries);
        table.frozen = Some(entries.values().map(|entry| entry.running.clone()).collect());
        drop(table);
        self.change();
        let sockets = entries.into_values().filter_map(|entry| match entry.phase {
            // What else than sockets of its namespace serves it ends with us: it is attached to anew.
            Phase::Served(_) if entry.running.way != Way::Proxy => None,
            Phase::Served(Served { mut listeners, serving, .. }) => {
                listeners.udp.extend(serving.more().udp);
                Some((entry.running.identity, listeners))
            }
            _ => None,
        });
        Some((sockets.collect(), secrets))
    }

    /// Serves again what was served before [`Daemon::freeze`], which gave `sockets`: nobody has taken them.
    ///
    /// The engine is not asked for that; the next look puts right what has changed since.
    pub fn thaw(&self, sockets: Vec<(Identity, Listeners)>) {
        let mut table = self.table();
        let Some(before) = table.frozen.take() else { return };
        table.passed.extend(sockets.into_iter().map(|(identity, listeners)| Passed { identity, listeners }));
        for running in before {
            self.begin(&mut table, running);
        }
        drop(table);
        self.change();
    }

    /// Whether everything was handed over.
    pub fn is_frozen(&self) -> bool {
        self.table().frozen.is_some()
    }

    /// Somebody asked something.
    pub fn touch(&self) {
        self.table().asked = Some(Instant::now());
    }

    /// For how long nobody has asked anything.
    pub fn quiet_for(&self) -> Duration {
        self.table().asked.map_or(Duration::MAX, |asked| asked.elapsed())
    }

    /// Takes the secrets of a predecessor.
    pub fn inherit(&self, secrets: BTreeMap<String, SecretValue>) -> std::io::Result<()> {
        self.take(secrets)
    }

    fn take<K>(&self, secrets: BTreeMap<K, SecretValue>) -> std::io::Result<()> {
        if secrets.is_empty() {
            return Ok(());
        }
        let mut table = self.table();
        let looks = self.shared.looks.load(Ordering::Acquire);
        table.secrets.insert(secrets.into_values(), looks)
    }
}

/// Tells when what was put in force is so everywhere.
type Enforced = BoxFuture<'static, Result<(), String>>;

impl std::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Daemon").field("version", &self.shared.version).finish_non_exhaustive()
    }
}
