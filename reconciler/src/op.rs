//! The operations a plan is made of: each one call a backend can do, repeat and time out.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::facts::Unsaved;
use crate::host_facts::FileId;
use crate::resource::Labels;
use crate::spec::{ContainerSpec, EngineNetworkSpec, ImageSpec, LimitSpec, NewObject, WorktreeSpec};

/// One operation on the engine or on the host's git.
///
/// # Guarantees a backend gives
/// - Repeating an operation that had taken effect succeeds without another effect: creating what is there with the
///   same uid label, starting what runs, removing what is gone.
/// - Creating under a name somebody else holds fails with [`crate::backend::ErrorKind::Conflict`].
/// - Containers are addressed by id where the plan knew it, by name where the plan makes them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Op {
    /// Makes `tag` stand for the image of `spec`: pulls, builds, loads, imports or runs setup commands.
    CreateImage {
        /// Name and labels; the name is a tag of ours, except for `Ref`, where it is the reference itself.
        object: NewObject,
        /// How.
        spec: ImageSpec,
    },
    /// Removes a tag, and the image when nothing else uses it.
    RemoveImage {
        /// Tag or id.
        image: String,
    },
    /// Creates a volume.
    CreateVolume {
        /// Name and labels.
        object: NewObject,
    },
    /// Removes a volume.
    RemoveVolume {
        /// Name.
        volume: String,
    },
    /// Has a daemon run that serves the sandboxes of this engine.
    EnsureDaemon,
    /// Waits until the daemon holds every running container of a sandbox to a policy. Without a policy there is nothing to
    /// be held to any more.
    EnforcePolicy {
        /// Project.
        project: String,
        /// Sandbox.
        sandbox: String,
        /// Hash of the policy, which is on the engine.
        policy: Option<String>,
        /// Secrets whose values the daemon is given: name to the salted hash the value must have.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        secrets: BTreeMap<String, String>,
    },
    /// Creates a network.
    CreateNetwork {
        /// Name and labels.
        object: NewObject,
        /// Its specification.
        spec: EngineNetworkSpec,
    },
    /// Removes a network that has no members.
    RemoveNetwork {
        /// Name.
        network: String,
    },
    /// Creates a secret from a source of the configuration. The value is read when the operation runs.
    CreateSecret {
        /// Name and labels.
        object: NewObject,
        /// Key of [`schema::Config::secrets`].
        secret: String,
        /// Hash the value must have; another one means the plan is stale.
        hash: String,
    },
    /// Removes a secret.
    RemoveSecret {
        /// Name.
        secret: String,
    },
    /// Makes a bare clone.
    CloneRepository {
        /// Remote address.
        repo: String,
        /// Where.
        clone: PathBuf,
    },
    /// Adds a worktree, making the branch when it is missing, and locks it.
    AddWorktree {
        /// Its specification.
        spec: WorktreeSpec,
        /// `project/sandbox`, kept in the lock's reason.
        holder: String,
    },
    /// Locks a worktree that is there already.
    LockWorktree {
        /// Its specification.
        spec: WorktreeSpec,
        /// `project/sandbox`, kept in the lock's reason.
        holder: String,
        /// Whose lock this one takes the place of. Any other holder's stays.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<String>,
    },
    /// Unlocks and removes a worktree; refuses when it has more to lose than was consented to.
    RemoveWorktree {
        /// Its specification.
        spec: WorktreeSpec,
        /// What it had to lose when the user named it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        consented: Option<Unsaved>,
    },
    /// Creates a container, not started.
    CreateContainer {
        /// Name.
        name: String,
        /// Labels.
        labels: Labels,
        /// Its specification.
        spec: Box<ContainerSpec>,
    },
    /// Starts a container.
    StartContainer {
        /// Id or name.
        container: String,
        /// What it has to see before anything in it runs.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        entries: Vec<Entry>,
    },
    /// Waits until PID 1 says that the main process runs.
    AwaitReady {
        /// Id or name.
        container: String,
    },
    /// Stops a container.
    StopContainer {
        /// Id or name.
        container: String,
    },
    /// Removes a stopped container with its anonymous volumes.
    RemoveContainer {
        /// Id or name.
        container: String,
        /// Only the container with this uid; one that was made under a name has no id yet when a plan is made, and the
        /// name can be somebody else's by then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uid: Option<String>,
    },
    /// Renames a container.
    RenameContainer {
        /// Id or name.
        container: String,
        /// New name.
        to: String,
    },
    /// Changes ceilings and restart policy in place.
    UpdateContainer {
        /// Id or name.
        container: String,
        /// New ceilings.
        limits: LimitSpec,
        /// New restart policy, where the engine can change it; `None` leaves it.
        restart: Option<String>,
    },
    /// Attaches a container to a network.
    ConnectNetwork {
        /// Id or name.
        container: String,
        /// Network.
        network: String,
        /// Name on it.
        alias: String,
    },
    /// Detaches a container from a network.
    DisconnectNetwork {
        /// Id or name.
        container: String,
        /// Network.
        network: String,
    },
}

/// What an operation takes its time for, which says how long it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// A request to the engine.
    Step,
    /// Moves images, or is git's: whoever works in a clone may have to wait for another that makes it.
    Transfer,
    /// A sandbox that becomes ready.
    Ready,
}

impl Op {
    /// Its pace.
    pub fn pace(&self) -> Pace {
        match self {
            Op::CreateImage { .. }
            | Op::CloneRepository { .. }
            | Op::AddWorktree { .. }
            | Op::LockWorktree { .. }
            | Op::RemoveWorktree { .. } => Pace::Transfer,
            Op::AwaitReady { .. } => Pace::Ready,
            Op::RemoveImage { .. }
            | Op::CreateVolume { .. }
            | Op::RemoveVolume { .. }
            | Op::EnsureDaemon
            | Op::EnforcePolicy { .. }
            | Op::CreateNetwork { .. }
            | Op::RemoveNetwork { .. }
            | Op::CreateSecret { .. }
            | Op::RemoveSecret { .. }
            | Op::CreateContainer { .. }
            | Op::StartContainer { .. }
            | Op::StopContainer { .. }
            | Op::RemoveContainer { .. }
            | Op::RenameContainer { .. }
            | Op::UpdateContainer { .. }
            | Op::ConnectNetwork { .. }
            | Op::DisconnectNetwork { .. } => Pace::Step,
        }
    }
}

/// A mount as a container has to see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where, inside.
    pub target: PathBuf,
    /// Whether nothing there may be written, mounts below it included.
    pub read_only: bool,
    /// What has to be there; `None` where nothing is known of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// A file of the host that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Where it was.
    pub path: PathBuf,
    /// Which it was.
    pub id: FileId,
}
