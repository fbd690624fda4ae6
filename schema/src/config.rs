//! The typed, validated configuration: what the rest of `sbx` reads.
//!
//! Everything is resolved here: defaults and profiles merged, variables and `~` expanded, paths absolute, replicas
//! counted out, references checked. Types are plain; where something was written is kept apart in [`Origins`].

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::Name;
pub use crate::origins::{Location, Origins};

mod egress;

pub use egress::{Assertion, Egress, EgressMode, Exception, Expectation, NameGlob, PolicyTest, Reach, Transport};

/// One project, ready to become desired state.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// Scope of ownership and of pruning.
    pub project: Name,
    /// How many sandboxes may exist.
    pub quotas: Quotas,
    /// Images by name. Only those a sandbox uses need to exist on the engine; a used built-in `host` is included.
    pub images: IndexMap<Name, Image>,
    /// Where secret values come from; never the values.
    pub secrets: IndexMap<Name, SecretSource>,
    /// Named volumes.
    pub volumes: IndexMap<Name, Volume>,
    /// Networks between sandboxes.
    pub networks: IndexMap<Name, Network>,
    /// Sandboxes by final name: `api`, or `api-1` … `api-n` with `replicas`.
    pub sandboxes: IndexMap<Name, Sandbox>,
    /// What the policies have to say, target by target.
    pub tests: Vec<PolicyTest>,
    /// What no sandbox may reach.
    pub assertions: Vec<Assertion>,
    /// Where each thing was written.
    #[serde(skip)]
    pub origins: Origins,
}

impl Config {
    /// Keys of [`Config::secrets`] that a sandbox is given.
    pub fn used_secrets(&self) -> BTreeSet<&Name> {
        self.sandboxes.values().flat_map(Sandbox::secrets).collect()
    }

    /// Keys of [`Config::secrets`] that a sandbox is given, or that are written into requests on their way from a sandbox
    /// or a set-up: the value of any other is never read.
    pub fn read_secrets(&self) -> BTreeSet<&Name> {
        let egress = self.sandboxes.values().map(|sandbox| &sandbox.egress).chain(self.setups());
        self.used_secrets().into_iter().chain(egress.flat_map(|egress| egress.policy.secrets())).collect()
    }

    /// Egress of the set-ups that images of sandboxes are made by.
    fn setups(&self) -> impl Iterator<Item = &Egress> {
        let mut wanted: Vec<&Name> = self.sandboxes.values().map(|sandbox| &sandbox.image).collect();
        let mut seen: BTreeSet<&Name> = BTreeSet::new();
        let mut setups = Vec::new();
        while let Some(name) = wanted.pop() {
            if seen.insert(name)
                && let Some(Image::Setup { from, egress, .. }) = self.images.get(name)
            {
                setups.push(egress);
                wanted.push(from);
            }
        }
        setups.into_iter()
    }
}

impl Sandbox {
    /// Keys of [`Config::secrets`] this sandbox is given, once for each use.
    pub fn secrets(&self) -> impl Iterator<Item = &Name> {
        self.env.values().filter_map(|value| match value {
            EnvValue::Secret(name) => Some(name),
            EnvValue::Text(_) => None,
        })
    }
}

/// Ceilings checked by `plan`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Quotas {
    /// Sandboxes one owner may have on the engine, over all projects. Default 5.
    pub per_owner: u32,
    /// Sandboxes on the engine in all. Default 7.
    pub total: u32,
}

/// Where a root filesystem comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Image {
    /// An empty root with host directories mounted read-only.
    Host {
        /// Absolute host directories, mounted at the same place. Default `/usr /lib /lib64`.
        dirs: Vec<PathBuf>,
        /// Entries of the host's `/etc`, relative names. Default `ssl ca-certificates alternatives ld.so.cache`.
        etc: Vec<String>,
    },
    /// An image of a registry.
    Ref {
        /// As written: `docker.io/library/debian:bookworm`.
        reference: String,
        /// When to pull.
        pull: Pull,
    },
    /// Built from a Containerfile.
    Build {
        /// Context directory, absolute.
        context: PathBuf,
        /// Containerfile, absolute. Default `Containerfile` in the context.
        containerfile: PathBuf,
        /// Build arguments.
        args: IndexMap<String, String>,
        /// Target stage.
        target: Option<String>,
    },
    /// A docker-archive or oci-archive, plain or gzip; absolute.
    Archive {
        /// The tar file.
        path: PathBuf,
    },
    /// A root filesystem: a directory or a tar file; absolute.
    Rootfs {
        /// Directory or tar.
        path: PathBuf,
    },
    /// Another image with commands run once in it.
    Setup {
        /// The image to start from.
        from: Name,
        /// Shell commands, in order.
        run: Vec<String>,
        /// Network of the builder.
        egress: Egress,
    },
}

/// When an image of a registry is pulled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pull {
    /// When the engine does not have it.
    #[default]
    Missing,
    /// At every apply; a moved digest replaces the sandbox.
    Always,
    /// Never; absent is an error.
    Never,
}

/// Where a secret's value is read at apply time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretSource {
    /// An environment variable of the caller.
    Env(String),
    /// A file, absolute.
    File(PathBuf),
    /// The standard output of a command, without its last newline.
    Command(Vec<String>),
}

/// A named volume. User data: never removed without a flag that names it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Volume {}

/// A network between sandboxes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Network {
    /// No way out of the network. Default true, the only value available yet.
    pub internal: bool,
}

/// One sandbox.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sandbox {
    /// Final name.
    pub name: Name,
    /// Who holds it, for quotas.
    pub owner: String,
    /// Key of [`Config::images`].
    pub image: Name,
    /// The user processes run as.
    pub user: User,
    /// What `$HOME` is made of.
    pub home: Home,
    /// Main process; `None` idles.
    pub command: Option<Vec<String>>,
    /// Working directory; absolute. Default the home directory.
    pub workdir: PathBuf,
    /// Bind mounts and volumes, in order.
    pub mounts: Vec<Mount>,
    /// A tree mounted last, file by file; absolute.
    pub overlay: Option<PathBuf>,
    /// Git worktrees.
    pub worktrees: Vec<Worktree>,
    /// Keys of [`Config::networks`].
    pub networks: Vec<Name>,
    /// What leaves the sandbox.
    pub egress: Egress,
    /// Ceilings; changed in place.
    pub limits: Limits,
    /// What the engine does when the main process ends; changed in place.
    pub restart: Restart,
    /// Sweep times.
    pub lifecycle: Lifecycle,
    /// Hardening.
    pub security: Security,
    /// Desktop access.
    pub gui: Gui,
    /// CDI names (`vendor/class=name`) or device paths.
    pub devices: Vec<String>,
    /// Environment, by name.
    pub env: IndexMap<String, EnvValue>,
}

/// The user inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User id; `caller` is resolved.
    pub uid: u32,
    /// Group id; `caller` is resolved.
    pub gid: u32,
    /// Home directory, absolute.
    pub home: PathBuf,
}

/// What the home directory is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Home {
    /// Whatever the image has there, in the writable layer.
    Image,
    /// A key of [`Config::volumes`].
    Volume(Name),
    /// A host directory, absolute.
    Workspace(PathBuf),
    /// A tmpfs of so many bytes.
    Tmpfs(u64),
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// What is mounted.
    pub source: MountSource,
    /// Absolute path inside.
    pub target: PathBuf,
    /// Whether it can be written.
    pub mode: Mode,
    /// SELinux relabelling, only where asked.
    pub relabel: Option<Relabel>,
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MountSource {
    /// A host path, absolute.
    Path(PathBuf),
    /// A key of [`Config::volumes`].
    Volume(Name),
}

/// Read-only or writable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Read-only.
    #[default]
    Ro,
    /// Writable.
    Rw,
}

/// SELinux relabelling of a bind source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Relabel {
    /// `z`: shared between containers.
    Shared,
    /// `Z`: this container only.
    Private,
}

/// A git worktree at the same path inside and outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Worktree {
    /// Remote address as git takes it; a relative or `~` path is made absolute.
    pub repo: String,
    /// Branch checked out.
    pub branch: String,
    /// Where a missing branch starts; `None` is the remote's default branch.
    pub base: Option<String>,
    /// Where the worktree is, absolute.
    pub path: PathBuf,
    /// The bare clone it belongs to, absolute. Default under the data directory, one per remote address.
    pub clone: PathBuf,
}

/// Ceilings. `None` is the engine's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Limits {
    /// Thousandths of a CPU.
    pub cpus_milli: Option<u64>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// What the engine does when the main process ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Nothing.
    #[default]
    No,
    /// Starts it again after a failure.
    OnFailure,
    /// Starts it again always.
    Always,
}

/// When the sweep stops and destroys. `None` is never.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lifecycle {
    /// Stop after so long without activity.
    pub idle_stop: Option<Duration>,
    /// Destroy after so long stopped.
    pub destroy_after: Option<Duration>,
    /// Whether a swept sandbox leaves its volumes.
    pub keep_volumes: bool,
}

/// Hardening.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Security {
    /// Read-only root filesystem, with tmpfs on `/tmp` and `/var/tmp` (512 MiB each), `/run`, and, where nothing else is
    /// there, the home directory (1 GiB) and `workdir` (512 MiB).
    pub read_only: bool,
    /// `no_new_privs`. Default true.
    pub no_new_privileges: bool,
    /// Capabilities dropped, upper case without `CAP_`, or `ALL`. Default `ALL`.
    pub cap_drop: Vec<String>,
    /// Capabilities given back. Default none.
    pub cap_add: Vec<String>,
    /// tmpfs mounts: absolute path to bytes.
    pub tmpfs: IndexMap<PathBuf, u64>,
    /// User namespace.
    pub userns: Userns,
}

/// User namespace of a sandbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Userns {
    /// `keep-id` on a rootless engine; on a rootful one a private namespace where the engine can map the caller.
    #[default]
    Auto,
    /// The caller's ids are the same inside.
    KeepId,
    /// The engine's own user namespace.
    Host,
}

/// Desktop access. All off by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Gui {
    /// The Wayland socket.
    pub wayland: bool,
    /// PipeWire and PulseAudio sockets.
    pub audio: bool,
    /// The D-Bus session socket.
    pub dbus: bool,
    /// `/dev/dri`.
    pub dri: bool,
}

/// Value of an environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EnvValue {
    /// The text itself.
    Text(String),
    /// A key of [`Config::secrets`]; given to the process by the engine, absent from every record.
    Secret(Name),
}
