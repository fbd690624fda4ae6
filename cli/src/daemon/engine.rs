//! The engine as the daemon asks it: found again whenever it was lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use egress::control::handover::Identity;
use egress::daemon::Daemon;
use egress::daemon::world::{self, Running, Stored, Way, World};
use reconciler::backend::{BackendError, ErrorKind};
use reconciler::podman::{Connect, Reader, RunningSandbox, Served, StoredPolicy};
use reconciler::spec;
use schema::Name;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

/// Pause before a lost engine is looked for again; doubled for each further time.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Longest pause.
const LOOK_AGAIN_AT_MOST: Duration = Duration::from_secs(10);
/// How long nothing is told until it is looked all the same: Podman 4 stops telling when the file of its events is begun
/// anew, which is at a megabyte.
const LOOK_ANYWAY: Duration = Duration::from_secs(5);
/// How many times as long as a look takes that is at least: a large engine is not to be kept busy.
const SHARE: u32 = 50;

/// Asks the engine.
#[derive(Clone)]
pub struct Engine {
    connect: Arc<Connect>,
    reader: Arc<Mutex<Option<Reader>>>,
}

impl Engine {
    /// The engine that `connect` leads to.
    pub fn new(connect: Connect) -> Self {
        Self { connect: Arc::new(connect), reader: Arc::default() }
    }

    async fn reader(&self) -> Result<Reader, BackendError> {
        let mut place = self.reader.lock().await;
        if let Some(reader) = &*place {
            return Ok(reader.clone());
        }
        let reader = Reader::connect(&self.connect).await?;
        if !reader.facts().local {
            return Err(BackendError::new(
                ErrorKind::Failed,
                "the engine runs on another machine; its namespaces cannot be entered from here",
            )
            .with_help("run sbx there"));
        }
        *place = Some(reader.clone());
        Ok(reader)
    }

    async fn forget(&self) {
        self.reader.lock().await.take();
    }

    /// Has `daemon` look whenever something has changed; never returns.
    pub async fn watch(&self, daemon: &Daemon) {
        let mut pause = LOOK_AGAIN;
        loop {
            match self.follow(daemon, &mut pause).await {
                Ok(Deaf) => {
                    tracing::warn!("the engine did not tell what has changed: asking it anew to do so");
                    continue;
                }
                Err(error) => {
                    tracing::debug!(%error, "the engine is out of reach");
                    self.forget().await;
                }
            }
            // Says what there is to say in `status`.
            let _ = daemon.look().await;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_AGAIN_AT_MOST);
        }
    }

    /// Looks whenever something is told, until it turns out that something was not.
    async fn follow(&self, daemon: &Daemon, pause: &mut Duration) -> Result<Deaf, BackendError> {
        let mut changes = self.reader().await?.changes().await?;
        let mut told = true;
        loop {
            let begun = Instant::now();
            let news = daemon.look().await.map_err(|why| BackendError::new(ErrorKind::Unreachable, why))?;
            if news && !told {
                return Ok(Deaf);
            }
            *pause = LOOK_AGAIN;
            let anyway = LOOK_ANYWAY.max(begun.elapsed() * SHARE);
            told = match timeout(anyway, changes.next()).await {
                Ok(next) => next.map(|()| true)?,
                Err(_) => false,
            };
        }
    }
}

/// The engine does not tell what happens.
struct Deaf;

#[async_trait]
impl world::Engine for Engine {
    async fn look(&self) -> Result<World, String> {
        let looked = async { self.reader().await?.served().await }.await;
        match looked {
            Ok(served) => Ok(world(served)),
            Err(error) => {
                if error.kind == ErrorKind::Unreachable {
                    self.forget().await;
                }
                Err(error.message)
            }
        }
    }
}

fn world(served: Served) -> World {
    let Served { running, policies } = served;
    let policies: BTreeMap<_, _> = policies.into_iter().map(stored).collect();
    let running = running
        .into_iter()
        .filter_map(|sandbox| {
            let RunningSandbox { container, project, sandbox, pid, started_at, open, gated, way, socket, own, peers } =
                sandbox;
            let way = match way {
                spec::Way::Proxy => Way::Proxy,
                spec::Way::Direct => Way::Direct,
                // Without the mount nobody inside would see it.
                spec::Way::Socket => Way::Socket(socket?),
            };
            // Without a policy and without a gate there is nothing to serve and nobody waits; and a network of the
            // engine's that leads out is not for us to close.
            let wanted =
                (!open || way == Way::Direct) && (gated || policies.contains_key(&(project.clone(), sandbox.clone())));
            let identity = Identity { container, pid, started_at };
            wanted.then_some(Running { identity, project, sandbox, gated, way, own, peers })
        })
        .collect();
    World { running, policies }
}

fn stored(policy: StoredPolicy) -> (world::Key, Stored) {
    let StoredPolicy { project, sandbox, hash, text, secrets } = policy;
    let secrets = secrets.into_iter().filter_map(|(name, hash)| Some((Name::new(&name).ok()?, hash))).collect();
    ((project, sandbox), Stored { hash, text, secrets })
}
