//! The daemon from the side of the command line: where it is, how it is started, what it runs on.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use reconciler::data;
use reconciler::resource::{sha256, short};

use crate::args::Global;
use crate::caller::{Directories, Person, variable};
use crate::engine_address::engine_address;

pub mod authorities;
pub mod data_path;
pub mod engine;
pub mod facts;
pub mod namespaces;
pub mod run;
pub mod start;
#[cfg(test)]
mod tests;
pub mod unit;
pub mod upkeep;

/// Version of this program, as daemons tell it to each other.
pub fn version() -> String {
    #[cfg(feature = "failpoints")]
    if let Some(version) = variable("SBX_DAEMON_VERSION") {
        return version;
    }
    env!("CARGO_PKG_VERSION").to_owned()
}

/// Where the daemon of one user and engine keeps its things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its runtime directory, its user's alone.
    pub directory: PathBuf,
    /// Its log, when it was started in the background.
    pub log: PathBuf,
    /// Its records.
    pub records: PathBuf,
    /// State directory of its user.
    pub state: PathBuf,
    /// Where its user's certificate authorities are, and what sandboxes trust.
    pub data: PathBuf,
    /// The engine it serves, when that is not the user's own.
    pub engine_url: Option<String>,
}

impl Place {
    /// The one for the engine that `global` names.
    pub fn find(global: &Global, person: &Person, directories: &Directories) -> Self {
        let named = global.engine_url.clone().or_else(|| variable("CONTAINER_HOST"));
        let key = engine_address(named.as_deref(), directories);
        let key = sha256(key.as_bytes());
        // With sudo the daemon is root's, and so is what it writes: nothing of root's is written below a home of others.
        let state = match &global.state_dir {
            None if person.through_sudo => PathBuf::from("/root/.local/state/sbx"),
            _ => directories.state.clone(),
        };
        let data = if person.through_sudo { "/root/.local/share/sbx".into() } else { directories.data.clone() };
        Self {
            directory: runtime(directories, &state).join(short(&key)),
            log: state.join("daemon").join(format!("{}.log", short(&key))),
            records: state.join("egress").join(short(&key)),
            state,
            data,
            engine_url: named,
        }
    }

    /// What no sandbox may be shown, as far as it can be known: the sockets, secrets and records of this daemon and of any
    /// other of this user or of `person`, whatever variables it was started with, and the files by which its sandboxes
    /// trust and begin. Links are not resolved.
    pub fn own(&self, person: &Person, directories: &Directories) -> Vec<PathBuf> {
        let sessions = [rustix::process::geteuid().as_raw(), person.uid].map(session);
        let sockets = directories.runtime.iter().chain(&sessions).map(|runtime| runtime.join("sbx"));
        let usual = Directories::find(person, None).ok();
        let states = [Some(self.state.clone()), Some(directories.state.clone()), usual.map(|usual| usual.state)];
        let parts = [&self.data, &directories.data].into_iter().flat_map(|data| data::OWN.map(|part| data.join(part)));
        let all =
            [PathBuf::from(ROOT_RUNTIME)].into_iter().chain(sockets).chain(states.into_iter().flatten()).chain(parts);
        all.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Where other daemons of the same user may be, each for another engine.
    pub fn others(&self) -> Vec<Self> {
        let beside = self.directory.parent().and_then(|root| std::fs::read_dir(root).ok());
        let beside = beside.into_iter().flatten().flatten().map(|entry| entry.path());
        let others = beside.filter(|directory| *directory != self.directory && directory.is_dir());
        others.map(|directory| Self { directory, ..self.clone() }).collect()
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("daemon.sock")
    }

    /// The lock that one daemon holds.
    pub fn lock(&self) -> PathBuf {
        self.directory.join("daemon.lock")
    }

    /// Values of secrets.
    pub fn secrets(&self) -> PathBuf {
        self.directory.join("secrets")
    }

    /// Where metrics are served.
    pub fn metrics(&self) -> PathBuf {
        self.directory.join("metrics.sock")
    }
}

/// What is root's own and goes when the system is started anew: a directory for each of its daemons, and its locks.
pub const ROOT_RUNTIME: &str = "/run/sbx";

/// Where sessions of `uid` have what lives as long as they do.
fn session(uid: u32) -> PathBuf {
    PathBuf::from(format!("/run/user/{uid}"))
}

/// The directory for sockets: in memory, gone with the user's last session, where the system has such a thing.
fn runtime(directories: &Directories, state: &Path) -> PathBuf {
    let uid = rustix::process::geteuid().as_raw();
    if uid == 0 {
        // Not that of a session: with sudo and without it is the same daemon.
        return PathBuf::from(ROOT_RUNTIME);
    }
    let usual = session(uid);
    let ours = |directory: &PathBuf| directory.metadata().is_ok_and(|found| found.is_dir() && found.uid() == uid);
    let found = directories.runtime.iter().chain([&usual]).find(|directory| ours(directory));
    found.map_or_else(|| state.join("run"), |directory| directory.join("sbx"))
}
