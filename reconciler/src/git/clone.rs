//! Makes bare clones.

use std::path::Path;

use super::admin::read_line;
use super::command::Reads;
use super::failure::file;
use super::{Git, Progress, guard, layout, redact, same_remote, tree};
use crate::backend::{BackendError, ErrorKind};
use crate::git::view::{CloneConfig, View};

/// Clones `repo` into `clone`, or finds that it was.
///
/// # Guarantees
/// What is at `clone` afterwards is whole: it is made beside it and renamed.
pub(super) async fn clone_repository(
    git: &Git,
    repo: &str,
    clone: &Path,
    progress: Progress<'_>,
) -> Result<(), BackendError> {
    let _lock = guard::lock(clone).await?;
    if clone.join("config").exists() {
        return adopt(git, repo, clone).await;
    }
    let is_free =
        clone.symlink_metadata().is_err() || std::fs::read_dir(clone).is_ok_and(|mut list| list.next().is_none());
    if !is_free {
        let message = format!("{} is there and is no clone", clone.display());
        return Err(BackendError::new(ErrorKind::Conflict, message).with_help("move it away, or set another `clone`"));
    }
    // What a killed run left.
    let stage = guard::sibling(clone, "clone");
    tree::remove(&stage)?;
    let result = clone_into(git, repo, &stage, progress).await;
    let result = match result {
        Ok(()) => std::fs::rename(stage.join(".git"), clone).map_err(|error| file("make", clone, &error)),
        Err(error) => Err(error),
    };
    let cleared = tree::remove(&stage);
    result.and(cleared)
}

async fn adopt(git: &Git, repo: &str, clone: &Path) -> Result<(), BackendError> {
    let config = CloneConfig::read(git, clone).await?;
    let conflict = |message: String| {
        Err(BackendError::new(ErrorKind::Conflict, message).with_help("move it away, or set another `clone`"))
    };
    match config.remote {
        _ if !config.bare => conflict(format!("{} is not a bare clone", clone.display())),
        Some(remote) if same_remote(&remote, repo) => Ok(()),
        Some(remote) => conflict(format!("{} is a clone of {}", clone.display(), redact(&remote))),
        None => conflict(format!("{} is a repository without a remote called origin", clone.display())),
    }
}

async fn clone_into(git: &Git, repo: &str, stage: &Path, progress: Progress<'_>) -> Result<(), BackendError> {
    let args = [
        "clone".as_ref(),
        "--progress".as_ref(),
        // A bare clone would make a local branch of every remote one, old as soon as the remote moves.
        "--no-checkout".as_ref(),
        "--origin=origin".as_ref(),
        // A template may bring hooks.
        "--template=".as_ref(),
        "--no-recurse-submodules".as_ref(),
        "--reject-shallow".as_ref(),
        // Hard links would let a sandbox rewrite the objects of a repository it cannot see.
        "--no-local".as_ref(),
        "--".as_ref(),
        std::ffi::OsStr::new(repo),
        stage.as_os_str(),
    ];
    git.call(Reads::Users, args).progress(progress).run().await?;
    let clone = stage.join(".git");
    layout::set(git, &clone, "core.bare", "true").await?;
    forget_local_branch(git, &clone).await?;
    // Nothing has been checked out, so there is nothing that an index would be of.
    let _ = std::fs::remove_file(clone.join("index"));
    layout::prepare(git, &clone).await.map(drop)
}

/// Without a checkout git still makes a local branch; as it is used by nobody it would only grow old.
async fn forget_local_branch(git: &Git, clone: &Path) -> Result<(), BackendError> {
    let head = read_line(&clone.join("HEAD")).map_err(|error| file("read", clone, &error))?;
    let head = String::from_utf8_lossy(&head).into_owned();
    let Some(branch) = head.strip_prefix("ref: ") else { return Ok(()) };
    let config = CloneConfig::read(git, clone).await?;
    let view = View::open(git, clone, &config, "ref: refs/heads/none")?;
    if view.commit(branch).await?.is_some() {
        view.call(Reads::Nothing, ["update-ref", "--no-deref", "-d", branch]).run().await?;
    }
    Ok(())
}

/// Brings the remote-tracking branches of `clone` up to date. The address is the configuration's, not the clone's.
pub(super) async fn fetch(
    view: &View<'_>,
    repo: &str,
    clone: &Path,
    progress: Progress<'_>,
) -> Result<(), BackendError> {
    guard::refuse_links(clone)?;
    let args = [
        "fetch",
        "--progress",
        "--no-write-fetch-head",
        "--no-auto-gc",
        "--no-recurse-submodules",
        "--no-prune",
        "--no-write-commit-graph",
        "--",
        repo,
        "+refs/heads/*:refs/remotes/origin/*",
    ];
    view.call(Reads::Users, args).progress(progress).run().await.map(drop)
}
