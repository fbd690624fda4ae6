//! Clones and worktrees on the host, through the git program.
//!
//! ```text
//! observe: files of the clone, read as text ─────────────→ RepositoryFacts, WorktreePlace, checkouts
//! probe:   a view of the clone + a copy of the index ────→ dirty, ignored, unpushed
//! perform: clone │ fetch and check out through a view │ remove by descriptor
//! mounts:  WorktreeSpec → what a sandbox sees (pure)
//! ```
//!
//! # Guarantees
//! - No program runs because a file says so that a sandbox can write: git is never started inside a worktree and never
//!   opens a clone as a repository. It opens a *view*, a directory made for one call, with a configuration of ours and
//!   the clone's objects and references. What a worktree's administrative directory says is read as text.
//! - Only calls that reach a remote see the user's own configuration, for credentials and transports.
//! - A kill at any point leaves no half clone or half worktree in the place of a whole one.
//!
//! # Caveats
//! Filters (`filter.*` of gitattributes) never run on the host: files kept by such a filter are checked out as stored.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::backend::{BackendError, ErrorKind};
use crate::facts::{Observed, RepositoryFacts, WorktreePlace};
use crate::identity::{Identity, Words};
use crate::op::Op;

mod admin;
mod clone;
mod command;
mod failure;
mod guard;
mod layout;
mod mount;
mod observe;
mod remote;
mod remove;
mod start;
mod tree;
mod view;
mod worktree;

pub use admin::admin_name;
pub use mount::mounts;
pub use remote::{redact, same_remote};

/// How git is run.
#[derive(Debug, Clone)]
pub struct GitOptions {
    /// The program: a path, or a name looked up in `PATH` of `env`.
    pub program: PathBuf,
    /// The caller's environment. `GIT_*` is dropped, but for what concerns transports in calls that reach a remote.
    pub env: BTreeMap<OsString, OsString>,
    /// Whether somebody at a terminal can be asked for a password.
    pub interactive: bool,
    /// Where directories that live for one call are made.
    pub scratch: PathBuf,
    /// Who looks and does, when that is not the user of this process.
    pub identity: Option<Identity>,
    /// Deadline of a call that reaches a remote.
    pub remote_deadline: Duration,
    /// Deadline of any other call.
    pub local_deadline: Duration,
}

impl GitOptions {
    /// `git` of the `PATH` in `env`, nobody to ask, an hour for remotes and ten minutes for the rest.
    pub fn new(env: BTreeMap<OsString, OsString>, scratch: impl Into<PathBuf>) -> Self {
        Self {
            program: PathBuf::from("git"),
            env,
            interactive: false,
            scratch: scratch.into(),
            identity: None,
            remote_deadline: Duration::from_hours(1),
            local_deadline: Duration::from_mins(10),
        }
    }
}

/// The host's git.
#[derive(Debug, Clone)]
pub struct Git {
    options: GitOptions,
}

/// What [`Git::observe`] found; the fields of [`crate::facts::Snapshot`] with the same names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitFacts {
    /// By clone.
    pub repositories: BTreeMap<PathBuf, Observed<RepositoryFacts>>,
    /// By worktree path.
    pub worktrees: BTreeMap<PathBuf, Observed<WorktreePlace>>,
    /// By clone: branch to worktree path.
    pub checkouts: BTreeMap<PathBuf, BTreeMap<String, PathBuf>>,
}

/// Told about long calls, in words for people.
pub type Progress<'a> = &'a (dyn Fn(&str) + Send + Sync);

impl Git {
    /// A git that runs as `options` say.
    pub fn new(options: GitOptions) -> Self {
        Self { options }
    }

    /// Looks at clones, and at worktrees with the clone each should belong to. Changes nothing and runs nothing but
    /// `git config --file`.
    pub async fn observe(&self, clones: &BTreeSet<PathBuf>, worktrees: &BTreeMap<PathBuf, PathBuf>) -> GitFacts {
        let Some(identity) = &self.options.identity else { return observe::observe(self, clones, worktrees).await };
        let (git, all, places) = (self.clone(), clones.clone(), worktrees.clone());
        let work = move |_| async move { observe::observe(&git, &all, &places).await };
        identity.attend(&|_| (), work).await.unwrap_or_else(|error| GitFacts {
            repositories: clones.iter().map(|path| (path.clone(), Observed::Unknown(error.to_string()))).collect(),
            worktrees: unknown(worktrees, &error),
            checkouts: BTreeMap::new(),
        })
    }

    /// Looks closer at worktrees (path to clone): what removing them would lose.
    pub async fn probe(&self, worktrees: &BTreeMap<PathBuf, PathBuf>) -> BTreeMap<PathBuf, Observed<WorktreePlace>> {
        let Some(identity) = &self.options.identity else { return observe::probe(self, worktrees).await };
        let (git, places) = (self.clone(), worktrees.clone());
        let work = move |_| async move { observe::probe(&git, &places).await };
        identity.attend(&|_| (), work).await.unwrap_or_else(|error| unknown(worktrees, &error))
    }

    /// Performs `op`; `None` when it is not one of git's.
    ///
    /// # Errors
    /// `Conflict` when something else is in the place or holds the branch, `NotFound` for a missing remote or base,
    /// `Denied` for refused credentials, `Unreachable` and `TimedOut` for remotes that do not answer.
    pub async fn perform(&self, op: &Op, progress: Progress<'_>) -> Option<Result<(), BackendError>> {
        let is_ours = matches!(
            op,
            Op::CloneRepository { .. } | Op::AddWorktree { .. } | Op::LockWorktree { .. } | Op::RemoveWorktree { .. }
        );
        if !is_ours {
            return None;
        }
        let Some(identity) = &self.options.identity else { return self.perform_here(op, progress).await };
        let (git, op) = (self.clone(), op.clone());
        let work = move |words: Words| async move { git.perform_here(&op, &*words).await };
        let done = identity.attend(progress, work).await;
        done.unwrap_or_else(|error| Some(Err(BackendError::new(ErrorKind::Failed, error.to_string()))))
    }

    async fn perform_here(&self, op: &Op, progress: Progress<'_>) -> Option<Result<(), BackendError>> {
        Some(match op {
            Op::CloneRepository { repo, clone } => clone::clone_repository(self, repo, clone, progress).await,
            Op::AddWorktree { spec, holder } => worktree::add(self, spec, holder, progress).await,
            Op::LockWorktree { spec, holder, from } => worktree::lock(self, spec, holder, from.as_deref()).await,
            Op::RemoveWorktree { spec, consented } => remove::remove(self, spec, *consented).await,
            _ => return None,
        })
    }

    fn scratch(&self) -> &Path {
        &self.options.scratch
    }
}

fn unknown(
    worktrees: &BTreeMap<PathBuf, PathBuf>,
    error: &std::io::Error,
) -> BTreeMap<PathBuf, Observed<WorktreePlace>> {
    worktrees.keys().map(|path| (path.clone(), Observed::Unknown(error.to_string()))).collect()
}
