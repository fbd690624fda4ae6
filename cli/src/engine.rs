//! The engine and the host's git behind one value: one that looks, and one that does.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reconciler::backend::{BackendError, ErrorKind, Observe, Perform, SecretSource};
use reconciler::facts::{ContainerFacts, ObjectFacts, Observed, ProbeQuery, Probes, Query, Snapshot, State};
use reconciler::git::{Git, GitOptions};
use reconciler::host::{Depth, HostEnv};
use reconciler::host_facts::HostFacts;
use reconciler::kinds::policy;
use reconciler::op::Op;
use reconciler::ownership;
use reconciler::podman::{Connect, Podman, Reader};
use reconciler::prepare::{Prepared, prepare};
use reconciler::resource::{Naming, label};
use reconciler::{Intent, PlanOptions};
use schema::Config;

use crate::args::Global;
use crate::caller::{Directories, Person, engine_sockets, variable};
use crate::carried::INIT_HASH;
use crate::commands::Run;
use crate::configuration::Surroundings;
use crate::daemon::{Place, facts, start};
use crate::engine_address::own_sockets;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::history::{History, Ids, Memory};
use crate::trust::{TrustPlace, Trusted};
use crate::{host, lockfile, placed_etc, placed_init, project_files};

/// Looks, and can do nothing else.
pub struct Engine {
    reader: Reader,
    git: Git,
    host: HostFacts,
    env: HostEnv,
    history: History,
    daemon: Place,
    project: String,
    address: String,
}

/// Looks and does.
pub struct Acting<'a> {
    engine: &'a Engine,
    podman: Podman,
    secrets: Arc<host::Secrets>,
    /// Held while a daemon is started: many steps may need one at once.
    daemon: tokio::sync::Mutex<()>,
}

/// What a command is about to do, by which it has to know more or less of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Reach what is there: nothing of the host matters.
    Reach,
    /// Stop or remove what is there.
    Remove,
    /// Start what is there.
    Start,
    /// Tell how things stand.
    Tell,
    /// Say what would be done.
    Plan,
    /// Do it.
    Make,
}

impl Purpose {
    /// Of what `options` wish for; `plans` when it is only said.
    pub fn of(options: &PlanOptions, plans: bool) -> Self {
        if options.destroy.is_some() {
            return Self::Remove;
        }
        match (options.state_only, plans) {
            (true, _) if options.intents.values().all(|intent| *intent == Intent::Stopped) => Self::Remove,
            (true, _) => Self::Start,
            (false, true) => Self::Plan,
            (false, false) => Self::Make,
        }
    }

    /// How closely the host is looked at; `None` is not at all.
    fn depth(self) -> Option<Depth> {
        match self {
            Self::Reach => None,
            Self::Remove | Self::Start => Some(Depth::Places),
            Self::Tell => Some(Depth::Unasked),
            Self::Plan | Self::Make => Some(Depth::Whole),
        }
    }

    /// Whether files that sandboxes are shown have to be there, or to be what they will be.
    fn shows(self) -> bool {
        matches!(self, Self::Start | Self::Plan | Self::Make)
    }
}

/// An engine that answers.
pub struct Reached {
    reader: Reader,
    address: String,
}

impl Reached {
    /// Finds the engine.
    pub async fn find(run: &Run<'_>, surroundings: &Surroundings) -> Result<Self, Failure> {
        let Surroundings { person, directories } = surroundings;
        let options = connect_options(&run.global, person, directories);
        let reader = Reader::connect(&options).await.map_err(unreachable)?;
        crate::runtime::settles(reader.clone());
        let address = reader.address().to_owned();
        tracing::debug!(address, version = reader.facts().version, "connected");
        Ok(Self { reader, address })
    }

    /// What tells this engine from others, for the project lock; the same for every spelling of its address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Lets the engine list its containers while the host is looked at. Whoever is going to change something holds the
    /// project lock by now.
    pub fn look_ahead(&self) {
        self.reader.look_ahead();
    }

    /// Gathers what of the host matters to `config` and `purpose`.
    pub async fn gather(
        self,
        run: &Run<'_>,
        surroundings: &Surroundings,
        config: &Config,
        purpose: Purpose,
    ) -> Result<Engine, Failure> {
        let Surroundings { person, directories } = surroundings;
        let init = placed_init::path(&directories.data, INIT_HASH);
        let daemon = Place::find(&run.global, person, directories);
        let trust = TrustPlace::new(&daemon.data, config.project.as_str());
        match show(run, surroundings, config, &trust, purpose) {
            // What is only said needs no more space on this host. What is started has been shown these files before, or
            // those of another version; without them the engine does not start it.
            Err(failure) if matches!(purpose, Purpose::Plan | Purpose::Start) => {
                run.screen.warn(&failure.message, failure.help.as_deref());
            }
            shown => shown?,
        }
        let env = host::env(surroundings, &daemon, init, trust.shown(), lockfile::path(&run.global.file));
        let host = match purpose.depth() {
            Some(depth) => host::gather(config, &env, depth).await?,
            None => HostFacts::default(),
        };
        let mut git = GitOptions::new(env.env.clone(), crate::caller::scratch(person, directories));
        git.identity.clone_from(&env.identity);
        git.interactive = crate::attach::is_interactive() && !run.screen.json;
        let history = History::of(&directories.state, &self.address, config.project.as_str(), person);
        let (reader, address, project) = (self.reader, self.address, config.project.to_string());
        Ok(Engine { reader, git: Git::new(git), host, env, history, daemon, project, address })
    }
}

impl Engine {
    /// Finds the engine, and gathers what of the host matters to `config` and `purpose`. For commands that only look.
    pub async fn connect(
        run: &Run<'_>,
        surroundings: &Surroundings,
        config: &Config,
        locked: bool,
        purpose: Purpose,
    ) -> Result<Self, Failure> {
        lockfile::refuse_unlocked(&run.global.file, config, locked)?;
        let reached = Reached::find(run, surroundings).await?;
        reached.look_ahead();
        reached.gather(run, surroundings, config, purpose).await
    }

    /// What tells this engine from others.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What was there after the last apply.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// What of the host matters to the configuration.
    pub fn host(&self) -> &HostFacts {
        &self.host
    }

    /// Makes a plan.
    pub async fn prepare(&self, config: &Config, options: &PlanOptions) -> Result<Prepared, Failure> {
        let now = jiff::Timestamp::now().to_string();
        let Memory { applied, containers: seen, ceilings } = self.history.read();
        let options = PlanOptions { applied, seen, ceilings, ..options.clone() };
        prepare(config, &self.host, self, &options, &now, &mut new_uid)
            .await
            .map_err(|error| Failure::backend("", error))
    }

    /// Ids of the containers of sandboxes, of those in `snapshot` and of those that were made since.
    pub fn ids(&self, snapshot: &Snapshot) -> Ids {
        let naming = Naming::new(&self.project);
        let owned = ownership::containers(snapshot, &naming, &self.history.read().containers);
        let found =
            owned.current.into_iter().map(|(name, container)| (name.to_owned(), container.id.clone())).collect();
        let made = self.reader.made().into_iter();
        let made = made.filter_map(|(object, id)| Some((naming.sandbox_of(&object)?.to_owned(), id))).collect();
        Ids { found, made }
    }

    /// Whether `snapshot` has containers that are, or may be, sandboxes of the project, and are left alone for the names that
    /// somebody gave them.
    pub fn has_strays(&self, snapshot: &Snapshot) -> bool {
        let (naming, seen) = (Naming::new(&self.project), self.history.read().containers);
        let owned = ownership::containers(snapshot, &naming, &seen);
        let mut current = owned.current.iter();
        !owned.strays.is_empty() || current.any(|(name, container)| ownership::is_renamed(container, &naming, name))
    }

    /// The containers of all projects that are there by now.
    pub async fn containers(&self) -> Result<Vec<ContainerFacts>, Failure> {
        self.reader.containers().await.map_err(|error| Failure::backend("list containers", error))
    }

    /// One that does too.
    pub fn acting<'a>(&'a self, config: &Config) -> Acting<'a> {
        let secrets = Arc::new(host::Secrets::new(config, &self.env));
        let podman = self.reader.clone().into_podman(Arc::clone(&secrets) as Arc<dyn SecretSource>);
        Acting { engine: self, podman, secrets, daemon: tokio::sync::Mutex::new(()) }
    }

    /// How things stand in the daemon, when one runs and can be asked.
    pub async fn daemon(&self) -> Option<egress::control::Status> {
        facts::status(&self.daemon).await.ok().flatten()
    }

    /// Removes what the project has on this host besides sandboxes, which are all gone.
    pub async fn forget_project(&self, surroundings: &Surroundings) -> Result<(), Failure> {
        project_files::remove(surroundings, &self.daemon, &self.history, &self.project).await
    }

    /// Where the daemon's records are, or would be.
    pub async fn records(&self) -> PathBuf {
        self.daemon().await.map_or_else(|| self.daemon.records.clone(), |status| status.records.into())
    }

    /// The part that reads logs.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// A sandbox's container. One of that name that is somebody else's is none.
    pub async fn present(&self, config: &Config, sandbox: &str) -> Result<ContainerFacts, Failure> {
        let query = Query { project: config.project.to_string(), ..Query::default() };
        let snapshot =
            self.reader.snapshot(&query).await.map_err(|error| Failure::backend("list containers", error))?;
        let seen = self.history.read().containers;
        let owned = ownership::containers(&snapshot, &Naming::new(config.project.as_str()), &seen);
        let origin = config.origins.find(&format!("sandboxes.{sandbox}")).map(|place| place.to_string());
        owned.current.get(sandbox).copied().cloned().ok_or_else(|| {
            Failure::failed("sbx::not-created", format!("sandbox {sandbox} is not there"))
                .with_origin(origin)
                .with_help("create it with `sbx apply`")
        })
    }

    /// The same, refused when it does not run.
    pub async fn running(&self, config: &Config, sandbox: &str) -> Result<ContainerFacts, Failure> {
        let container = self.present(config, sandbox).await?;
        if container.state == State::Running {
            return if waits_at_its_gate(&container) { Err(at_its_gate(sandbox)) } else { Ok(container) };
        }
        Err(Failure::failed("sbx::not-running", format!("sandbox {sandbox} does not run"))
            .with_help(format!("start it with `sbx start {sandbox}`; `sbx logs {sandbox}` shows what it wrote last")))
    }
}

impl Acting<'_> {
    async fn ensure_daemon(&self) -> Result<(), BackendError> {
        if !self.engine.reader.facts().local {
            let message =
                "the engine runs on another machine: the namespaces of its sandboxes cannot be entered from here";
            return Err(BackendError::new(ErrorKind::Failed, message)
                .with_help("run sbx there, or write `egress: { mode: none }`"));
        }
        let _alone = self.daemon.lock().await;
        start::ensure(&self.engine.daemon).await.map(drop).map_err(|failure| facts::backend(&failure))
    }

    /// The same that waits at most so long for a registry that says nothing.
    pub fn patient_for(mut self, limit: Option<Duration>) -> Self {
        if let Some(limit) = limit {
            self.podman = self.podman.patient_for(limit);
        }
        self
    }

    /// The engine itself.
    pub fn podman(&self) -> &Podman {
        &self.podman
    }
}

/// Has on this host what `purpose` wants sandboxes to be shown.
fn show(
    run: &Run<'_>,
    surroundings: &Surroundings,
    config: &Config,
    trust: &TrustPlace,
    purpose: Purpose,
) -> Result<(), Failure> {
    if !purpose.shows() {
        return Ok(());
    }
    let Surroundings { person, directories } = surroundings;
    person.act(&directories.data, || placed_init::place(&directories.data).map(drop))?;
    person.act(&directories.data, || placed_etc::place(&directories.data, config))?;
    if config.sandboxes.values().any(reconciler::kinds::container::trust::is_shown) {
        // The daemon's user's, as the daemon is who signs.
        if let Some(Trusted { renewed: Some(why), .. }) = trust.ensure_shown()? {
            run.screen.say(&renewal(&why));
        }
    }
    Ok(())
}

/// Where an engine may be.
pub fn connect_options(global: &Global, person: &Person, directories: &Directories) -> Connect {
    // The user's own socket first; as root, the system's is the own one.
    let mut candidates: Vec<PathBuf> = engine_sockets(person, directories)
        .into_iter()
        .filter(|socket| socket.ends_with("podman/podman.sock"))
        .filter(|socket| !rustix::process::geteuid().is_root() || socket.starts_with("/run/podman"))
        .collect();
    candidates.sort_by_key(|socket| socket.starts_with("/run/podman") || socket.starts_with("/var/run"));
    Connect {
        url: global.engine_url.clone(),
        container_host: variable("CONTAINER_HOST"),
        candidates,
        own: own_sockets(directories),
        runtime_dir: directories.runtime.clone().filter(|dir| dir.is_dir()).unwrap_or_else(std::env::temp_dir),
        program: crate::caller::program("podman"),
    }
}

/// The name PID 1 gives itself while it waits to be let in.
const AT_ITS_GATE: &str = "sbx-init:gate";

/// Whether nothing of a running sandbox's own runs yet. Beyond `/proc` of this host nobody can tell, and `sbx-init exec`
/// refuses by itself.
pub fn waits_at_its_gate(container: &ContainerFacts) -> bool {
    let comm = || std::fs::read_to_string(format!("/proc/{}/comm", container.pid));
    container.pid > 0 && comm().is_ok_and(|name| name.trim_end() == AT_ITS_GATE)
}

fn renewal(why: &str) -> String {
    format!(
        "The project's certificate authority was made anew ({why}). Programs that run in its sandboxes may refuse HTTPS to \
         hosts whose requests are judged, until they are started again."
    )
}

fn at_its_gate(sandbox: &str) -> Failure {
    let message =
        format!("sandbox {sandbox} waits at its gate: no daemon holds it to its policy yet, and nothing runs in it");
    Failure::failed("sbx::at-gate", message)
        .with_help("run `sbx daemon start`, or `sbx apply`; `sbx daemon status` tells what stands in the way")
}

/// Whatever keeps us from the engine, the exit code is the one for that.
fn unreachable(error: BackendError) -> Failure {
    let help = error.help.clone();
    let mut failure = Failure::backend("", error);
    failure.exit = Exit::Unreachable;
    failure.code = "sbx::engine-unreachable";
    let help = help.unwrap_or_else(|| {
        String::from("start it with `systemctl --user start podman.socket`, or name another with --engine-url; `sbx doctor` tells more")
    });
    failure.with_help(help)
}

/// An error of git's as one of this run: it is the engine alone that is meant where nobody answers.
fn of_remote(error: BackendError) -> BackendError {
    match error.kind {
        ErrorKind::Unreachable => BackendError { kind: ErrorKind::Failed, ..error },
        _ => error,
    }
}

/// Sixteen random bytes in hex.
fn new_uid() -> String {
    use std::fmt::Write as _;
    use std::io::Read as _;
    let mut bytes = [0u8; 16];
    // Without the kernel's generator nothing else of this program works either; the clock still tells objects apart.
    if std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).is_err() {
        bytes = jiff::Timestamp::now().as_nanosecond().to_be_bytes();
    }
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[async_trait]
impl Observe for Engine {
    async fn snapshot(&self, query: &Query) -> Result<Snapshot, BackendError> {
        let (engine, git) =
            tokio::join!(self.reader.snapshot(query), self.git.observe(&query.clones, &query.worktrees));
        let snapshot =
            Snapshot { repositories: git.repositories, worktrees: git.worktrees, checkouts: git.checkouts, ..engine? };
        let policy = |volume: &ObjectFacts| {
            let labelled = |key, value: &str| volume.labels.get(key).is_some_and(|label| label == value);
            labelled(label::KIND, policy::NOUN) && labelled(label::PROJECT, &query.project)
        };
        if !query.policies && !snapshot.volumes.iter().any(policy) {
            // Nobody has to serve anything: the daemon is not asked.
            return Ok(snapshot);
        }
        let daemon = if self.reader.facts().local {
            facts::observe(&self.daemon, &query.project).await
        } else {
            // Whoever serves it does so there.
            Observed::Unknown("the engine is on another machine".to_owned())
        };
        Ok(Snapshot { daemon, ..snapshot })
    }

    async fn probe(&self, query: &ProbeQuery) -> Result<Probes, BackendError> {
        let (engine, worktrees) = tokio::join!(self.reader.probe(query), self.git.probe(&query.worktrees));
        let cut_flows = facts::cut_flows(&self.daemon, &self.project, &query.policies).await;
        Ok(Probes { worktrees, cut_flows, ..engine? })
    }
}

#[async_trait]
impl Observe for Acting<'_> {
    async fn snapshot(&self, query: &Query) -> Result<Snapshot, BackendError> {
        self.engine.snapshot(query).await
    }

    async fn probe(&self, query: &ProbeQuery) -> Result<Probes, BackendError> {
        self.engine.probe(query).await
    }
}

#[async_trait]
impl Perform for Acting<'_> {
    async fn perform(&self, op: &Op, progress: reconciler::backend::Progress<'_>) -> Result<(), BackendError> {
        match op {
            Op::EnsureDaemon => self.ensure_daemon().await,
            Op::EnforcePolicy { project, sandbox, policy, secrets } => {
                if policy.is_some() {
                    self.ensure_daemon().await?;
                }
                let (place, source) = (&self.engine.daemon, &*self.secrets);
                facts::enforce(place, source, project, sandbox, policy.as_deref(), secrets).await
            }
            op => match self.engine.git.perform(op, progress).await {
                Some(done) => done.map_err(of_remote),
                None => self.podman.perform(op, progress).await,
            },
        }
    }

    async fn settle(&self) {
        self.podman.settle().await;
    }
}
