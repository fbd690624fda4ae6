//! Specifications of what is created on the engine: plain values, hashed, stored with the object, compared by field.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schema::policy::Policy;
use serde::{Deserialize, Serialize};

use crate::resource::Labels;

/// A container in the terms every engine shares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The image.
    pub image: ImageUse,
    /// Host name inside.
    pub hostname: String,
    /// The user processes run as.
    pub user: UserSpec,
    /// Main process behind `sbx-init`; empty idles.
    pub command: Vec<String>,
    /// Working directory.
    pub workdir: PathBuf,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// Environment variable to engine secret name.
    pub secret_env: BTreeMap<String, String>,
    /// Mounts in order; the overlay's files come last.
    pub mounts: Vec<MountSpec>,
    /// Network attachment.
    pub network: NetworkSpec,
    /// Ceilings.
    pub limits: LimitSpec,
    /// `no`, `on-failure` or `always`.
    pub restart: String,
    /// Read-only root filesystem.
    pub read_only: bool,
    /// `no_new_privs`.
    pub no_new_privileges: bool,
    /// Capabilities dropped.
    pub cap_drop: Vec<String>,
    /// Capabilities added.
    pub cap_add: Vec<String>,
    /// User namespace.
    pub userns: UsernsSpec,
    /// Device nodes on the host.
    pub devices: Vec<PathBuf>,
    /// CDI devices.
    pub cdi_devices: Vec<String>,
    /// Supplementary groups (`keep-groups`, or ids).
    pub groups: Vec<String>,
    /// Whether PID 1 waits at each start until its policy is in force.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gate: bool,
    /// How what it sends comes to the daemon, or does not.
    #[serde(default, skip_serializing_if = "Way::is_default")]
    pub way: Way,
}

/// How what a sandbox sends comes to the daemon, or does not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Taken over inside of its network namespace.
    #[default]
    Proxy,
    /// Not at all: over the engine's own network and a packet filter.
    Direct,
    /// Through a unix socket that is mounted into it.
    Socket,
}

impl Way {
    /// Whether it is what it is where nothing is written.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes what it may skip by reference")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The image of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageUse {
    /// Name in the configuration.
    pub name: String,
    /// Reference the engine resolves.
    pub reference: String,
    /// What it stands for: a digest, or the hash of the inputs; empty while an unpinned reference is unresolved.
    pub key: String,
}

/// The user inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSpec {
    /// Login name.
    pub name: String,
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
    /// Home directory.
    pub home: PathBuf,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// What is mounted.
    #[serde(flatten)]
    pub source: MountOrigin,
    /// Absolute path inside.
    pub target: PathBuf,
    /// Whether it is read-only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// `z` or `Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relabel: Option<String>,
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum MountOrigin {
    /// A host path.
    Bind {
        /// Absolute host path.
        source: PathBuf,
    },
    /// An engine volume.
    Volume {
        /// Name on the engine.
        volume: String,
    },
    /// Memory.
    Tmpfs {
        /// Bytes.
        size: u64,
        /// Permission bits, octal: 0o1777 for `/tmp`, 0o700 for a home.
        mode: u32,
        /// Whether what the image has there is in it at every start.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        copied: bool,
    },
}

/// Network attachment of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "lowercase")]
pub enum NetworkSpec {
    /// Only `lo`.
    None,
    /// Engine networks by engine name; the sandbox answers to `alias` on each.
    Bridge {
        /// Engine network names, sorted.
        networks: Vec<String>,
        /// Name on them.
        alias: String,
    },
}

/// Ceilings; `None` is no ceiling of ours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitSpec {
    /// Thousandths of a CPU.
    pub cpus_milli: Option<u64>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// User namespace of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UsernsSpec {
    /// `keep-id` of a rootless engine.
    KeepId,
    /// A private namespace of a rootful engine in which only the user's own id is a real one (Podman 5).
    Private,
    /// A private namespace of a rootful engine with the same numbers inside (Podman 4: overlay refuses interleaved
    /// maps there). Capabilities inside still mean nothing outside.
    Identity,
    /// The engine's own.
    Host,
}

/// How an image is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ImageSpec {
    /// An empty root: directories that mounts need, and the usual links.
    Host {
        /// Directories to create, absolute.
        directories: Vec<PathBuf>,
        /// Links to create: absolute path to target.
        links: BTreeMap<PathBuf, PathBuf>,
        /// Home directory of its user, with uid and gid.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        homes: BTreeMap<PathBuf, (u32, u32)>,
    },
    /// Pulled from a registry.
    Ref {
        /// As written.
        reference: String,
        /// Digest of the lockfile.
        digest: Option<String>,
        /// `missing`, `always`, `never`.
        pull: String,
    },
    /// Built.
    Build {
        /// Context directory.
        context: PathBuf,
        /// Containerfile.
        containerfile: PathBuf,
        /// Arguments.
        args: BTreeMap<String, String>,
        /// Target stage.
        target: Option<String>,
        /// Hash of the context.
        inputs: String,
    },
    /// Loaded from an archive.
    Archive {
        /// File.
        path: PathBuf,
        /// Hash of the file.
        inputs: String,
    },
    /// Imported from a root filesystem.
    Rootfs {
        /// Directory or tar.
        path: PathBuf,
        /// Hash of the content.
        inputs: String,
    },
    /// Another image with commands run in it.
    Setup {
        /// The image to start from.
        from: ImageUse,
        /// Shell commands.
        run: Vec<String>,
        /// `none`, `open` or `allowlist`.
        egress: String,
        /// What they may reach, with `allowlist`. The image is made from it as from the commands: an image that was made
        /// under a wider list is not the one that a narrower list makes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        policy: Option<Box<Policy>>,
        /// A file of ours that says who is asked for names, with `allowlist`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resolv_conf: Option<PathBuf>,
        /// Id of the image to start from, where nothing else pins it and it is known: when it moves, this is another
        /// image.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        base: Option<String>,
    },
}

/// A network between sandboxes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineNetworkSpec {
    /// No way out.
    pub internal: bool,
}

/// A worktree of a clone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorktreeSpec {
    /// Remote address.
    pub repo: String,
    /// Bare clone.
    pub clone: PathBuf,
    /// Branch.
    pub branch: String,
    /// Where a missing branch starts.
    pub base: Option<String>,
    /// The worktree.
    pub path: PathBuf,
}

/// A new engine object: its name and labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewObject {
    /// Name on the engine.
    pub name: String,
    /// Labels.
    pub labels: Labels,
}
