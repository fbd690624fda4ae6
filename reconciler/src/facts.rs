//! What is there: one snapshot of engine, git and host, taken before planning. Plain values, recorded in fixtures.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::resource::Labels;
use crate::spec::LimitSpec;

/// A fact that may be beyond reach. Unknown never leads to a creation or a deletion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Observed<T> {
    /// It is not there.
    Absent,
    /// It is there.
    Present(T),
    /// It could not be looked at; why.
    Unknown(String),
}

/// The engine itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineFacts {
    /// `podman`.
    pub kind: String,
    /// `5.4.2`.
    pub version: String,
    /// Whether it runs without root.
    pub rootless: bool,
    /// Whether it can enforce cpu, memory and pids ceilings.
    pub limits: BTreeSet<String>,
    /// Whether the restart policy can be changed in place.
    pub updates_restart: bool,
    /// Whether it runs on this host, so that `/proc` and bind sources can be looked at.
    pub local: bool,
}

/// State of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Never started.
    Created,
    /// Running.
    Running,
    /// Paused.
    Paused,
    /// Ended or stopped.
    Exited,
    /// Anything in between, or unknown to us.
    Other,
}

/// A container with our labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerFacts {
    /// Full id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Labels, those of its image included.
    pub labels: Labels,
    /// State.
    pub state: State,
    /// Exit code of the last run.
    pub exit_code: Option<i32>,
    /// Full id of its image.
    pub image_id: String,
    /// Image as it was named at creation.
    pub image: String,
    /// Networks, sorted.
    pub networks: Vec<String>,
    /// Targets of its mounts, sorted.
    pub mount_targets: Vec<String>,
    /// PID 1 on the host, 0 when not running or not local.
    pub pid: u32,
    /// Time of its creation as the engine writes it, RFC 3339; empty when that is not known.
    pub created_at: String,
    /// Seconds since the epoch of the last start, 0 when never.
    pub started_at: i64,
    /// Seconds since the epoch of the end of the last run that has ended, 0 when none has.
    pub exited_at: i64,
    /// Ceilings in force, read from the kernel; only for running containers of a local engine.
    pub limits: Observed<LimitFacts>,
    /// Bind targets whose source has been replaced by another file since the start.
    pub replaced_binds: Vec<PathBuf>,
}

/// Ceilings in force, each where its controller can be read; `None` is no ceiling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitFacts {
    /// Thousandths of a CPU.
    pub cpus_milli: Observed<Option<u64>>,
    /// Bytes.
    pub memory: Observed<Option<u64>>,
    /// Processes and threads.
    pub pids: Observed<Option<u64>>,
}

impl From<LimitSpec> for LimitFacts {
    fn from(LimitSpec { cpus_milli, memory, pids }: LimitSpec) -> Self {
        let [cpus_milli, memory, pids] = [cpus_milli, memory, pids].map(Observed::Present);
        Self { cpus_milli, memory, pids }
    }
}

/// An image of the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    /// Full id.
    pub id: String,
    /// Tags.
    pub tags: Vec<String>,
    /// `name@sha256:…`.
    pub digests: Vec<String>,
    /// Labels.
    pub labels: Labels,
    /// Whether a container uses it.
    pub in_use: bool,
}

/// A volume, network or secret of the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectFacts {
    /// Name.
    pub name: String,
    /// Labels; for secrets of engines that cannot label them, what their driver options carry.
    pub labels: Labels,
    /// Networks: whether it is internal.
    pub internal: bool,
}

/// A bare clone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryFacts {
    /// Address of `origin`.
    pub remote: String,
    /// Whether it is bare.
    pub bare: bool,
}

/// A worktree, or what is in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorktreeFacts {
    /// Common directory it belongs to.
    pub clone: PathBuf,
    /// Name of its administrative directory in there.
    pub admin: String,
    /// Branch checked out; `None` when detached.
    pub branch: Option<String>,
    /// Reason of its lock; `None` when it is not locked, or not ready to be shown to a sandbox: locking sees to both.
    pub lock: Option<String>,
    /// Files changed or not tracked; `None` when not looked at.
    pub dirty: Option<u32>,
    /// Files ignored, a directory that is ignored as such being one; `None` when not looked at.
    #[serde(default)]
    pub ignored: Option<u32>,
    /// Commits that are on no remote; `None` when not looked at.
    pub unpushed: Option<u32>,
}

impl WorktreeFacts {
    /// What would be lost with it.
    pub fn unsaved(&self) -> Unsaved {
        Unsaved { dirty: self.dirty, ignored: self.ignored, unpushed: self.unpushed }
    }
}

/// Work in a worktree that is nowhere else; `None` where nobody could count it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsaved {
    /// Files changed or not tracked.
    pub dirty: Option<u32>,
    /// Files ignored.
    pub ignored: Option<u32>,
    /// Commits that are on no remote.
    pub unpushed: Option<u32>,
}

/// What stands at a path that should be a worktree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorktreePlace {
    /// A worktree.
    Worktree(WorktreeFacts),
    /// An empty directory.
    Empty,
    /// Something else; what.
    Other(String),
    /// Nothing, but the clone still lists a worktree here: its directory was deleted.
    Missing(WorktreeFacts),
}

/// A running daemon, as far as one project is concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonFacts {
    /// Its version.
    pub version: String,
    /// Containers it serves, or should.
    pub served: Vec<ServedFacts>,
}

/// A container in the daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedFacts {
    /// Full id of the container.
    pub container: String,
    /// Hash of the policy in force; `None` while none is.
    pub policy: Option<String>,
    /// What stands in the way.
    pub problem: Option<String>,
    /// Secrets whose values the daemon was not given.
    pub missing_secrets: Vec<String>,
}

/// Everything a plan looks at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The engine.
    pub engine: EngineFacts,
    /// Containers with a project label of any project: quotas count them all.
    pub containers: Vec<ContainerFacts>,
    /// Images with our labels, and those the configuration refers to.
    pub images: Vec<ImageFacts>,
    /// Volumes with our labels.
    pub volumes: Vec<ObjectFacts>,
    /// Networks with our labels.
    pub networks: Vec<ObjectFacts>,
    /// Secrets with our names.
    pub secrets: Vec<ObjectFacts>,
    /// Clones asked for.
    pub repositories: BTreeMap<PathBuf, Observed<RepositoryFacts>>,
    /// Worktrees asked for.
    pub worktrees: BTreeMap<PathBuf, Observed<WorktreePlace>>,
    /// Branch to worktree path, for every clone asked for: a branch can be checked out once.
    pub checkouts: BTreeMap<PathBuf, BTreeMap<String, PathBuf>>,
    /// The daemon that serves this engine's sandboxes.
    pub daemon: Observed<DaemonFacts>,
}

/// What the snapshot has to hold beyond what carries the project's labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// The project.
    pub project: String,
    /// Image references to look up.
    pub images: BTreeSet<String>,
    /// Clones to look at.
    pub clones: BTreeSet<PathBuf>,
    /// Worktrees to look at, with the clone each should belong to.
    pub worktrees: BTreeMap<PathBuf, PathBuf>,
    /// Whether a sandbox has a policy that a daemon has to serve.
    pub policies: bool,
}

/// A second, closer look at what a first plan wants to create, replace or delete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProbeQuery {
    /// Containers (by id) whose losses matter.
    pub containers: BTreeSet<String>,
    /// tmpfs targets per container id.
    pub tmpfs: BTreeMap<String, Vec<PathBuf>>,
    /// Worktrees (path to clone) whose dirty files and unpushed commits matter.
    pub worktrees: BTreeMap<PathBuf, PathBuf>,
    /// Names about to be created, to be told whether somebody holds them.
    pub container_names: BTreeSet<String>,
    /// Likewise for volumes.
    pub volume_names: BTreeSet<String>,
    /// Likewise for networks.
    pub network_names: BTreeSet<String>,
    /// Policies (sandbox to JSON) that may end open connections.
    pub policies: BTreeMap<String, serde_json::Value>,
}

impl ProbeQuery {
    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Answers to a [`ProbeQuery`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Probes {
    /// By container id.
    pub containers: BTreeMap<String, ContainerProbe>,
    /// By worktree path.
    pub worktrees: BTreeMap<PathBuf, Observed<WorktreePlace>>,
    /// Names held by somebody, with what is known of the holder.
    pub held_containers: BTreeMap<String, String>,
    /// Likewise for volumes.
    pub held_volumes: BTreeMap<String, String>,
    /// Likewise for networks.
    pub held_networks: BTreeMap<String, String>,
    /// Open connections that the policies asked about would end, by sandbox.
    pub cut_flows: BTreeMap<String, Vec<String>>,
}

/// What would be lost with a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerProbe {
    /// Files added or changed in the writable layer, mount points and what the engine itself writes left out.
    pub changed_files: u64,
    /// Bytes of the writable layer.
    pub changed_bytes: u64,
    /// Commands of running exec sessions.
    pub exec_sessions: Vec<String>,
    /// tmpfs target to files and bytes, where there are any.
    pub tmpfs: BTreeMap<PathBuf, (u64, u64)>,
    /// Restart policy in force.
    pub restart: Option<String>,
    /// What could not be looked at.
    pub unknown: Vec<String>,
}
