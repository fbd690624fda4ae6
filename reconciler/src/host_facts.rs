//! Facts of the host that desired state depends on: gathered by I/O, read by pure code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What stands at a host path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A socket.
    Socket,
    /// A block or character device.
    Device,
    /// A FIFO or anything else.
    Other,
}

/// Which file a path led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FileId {
    /// Number of its file system.
    pub device: u64,
    /// Number in there.
    pub inode: u64,
}

/// One file of an overlay tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayFile {
    /// Path relative to the tree.
    pub path: PathBuf,
    /// Which it is, links followed.
    pub id: FileId,
}

/// A fact, or why it could not be had.
pub type Fact<T> = Result<T, String>;

/// All of them. Keys are what the configuration says, in absolute form.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Bind sources, sockets, devices, host directories, `/etc` entries: what is there, links followed.
    /// A path that is not there has no entry.
    pub paths: BTreeMap<PathBuf, PathKind>,
    /// Those that nobody could look at, and why: a directory above that may not be entered.
    pub unseen: BTreeMap<PathBuf, String>,
    /// Which file each path led to, those of overlay trees included. What is mounted later has to be the same.
    pub identities: BTreeMap<PathBuf, FileId>,
    /// Where a path really is, links resolved, when that differs: a bind source that hides an engine socket.
    pub resolved: BTreeMap<PathBuf, PathBuf>,
    /// Sockets of container engines, links resolved; nothing that is or contains one may be mounted.
    pub engine_sockets: Vec<PathBuf>,
    /// What only `sbx` itself may use: keys, the daemon's socket, secrets, records. As it was named, and links resolved;
    /// it need not be there yet. Nothing that is, contains or is in one of these may be mounted because somebody says so.
    pub own: Vec<PathBuf>,
    /// Paths by which one of `engine_sockets` or `own` is reached, and which: it is there, in there, or above. A bind mount
    /// of the host shows the same files at another path.
    #[serde(default)]
    pub aliases: BTreeMap<PathBuf, PathBuf>,
    /// Top-level links of the host's root that lead into a mounted directory: `/bin` to `usr/bin`.
    pub root_links: BTreeMap<PathBuf, PathBuf>,
    /// Content hash of archives and root filesystems.
    pub inputs: BTreeMap<PathBuf, Fact<String>>,
    /// Content hash of build contexts, by context and Containerfile.
    pub contexts: BTreeMap<PathBuf, BTreeMap<PathBuf, Fact<String>>>,
    /// Files of overlay trees, sorted.
    pub overlays: BTreeMap<PathBuf, Fact<Vec<OverlayFile>>>,
    /// Salted hash of each secret that a sandbox uses.
    pub secrets: BTreeMap<String, Fact<String>>,
    /// Secrets whose commands were not run; what was applied last is taken for their values.
    #[serde(default)]
    pub unread: BTreeSet<String>,
    /// Image reference to digest, from the lockfile.
    pub locked: BTreeMap<String, String>,
    /// CDI device names the host offers; `None` when no CDI directory exists.
    pub cdi: Option<Vec<String>>,
    /// Where `sbx` keeps its data; files that sandboxes are shown are placed there by their content.
    pub data: PathBuf,
    /// Where `sbx-init` is on the host.
    pub init: PathBuf,
    /// The directory of what the project's sandboxes trust for TLS.
    pub trust: PathBuf,
    /// The caller's runtime directory, for desktop sockets.
    pub runtime_dir: Option<PathBuf>,
    /// Desktop variables of the caller: `WAYLAND_DISPLAY`, `DBUS_SESSION_BUS_ADDRESS`, `PULSE_SERVER`, …
    pub desktop: BTreeMap<String, String>,
}
