//! Removes worktrees.

use std::path::Path;

use super::admin::{registration as registered, same_path};
use super::failure::file;
use super::mount::{OURS, root};
use super::observe::{look_closer, place};
use super::view::{CloneConfig, View};
use super::{Git, guard, tree, worktree};
use crate::backend::{BackendError, ErrorKind};
use crate::facts::{Observed, Unsaved, WorktreeFacts, WorktreePlace};
use crate::spec::WorktreeSpec;

/// Unlocks and removes the worktree of `spec`; the branch stays in the clone.
///
/// # Errors
/// `Stale` when more would be lost than was `consented` to. `Conflict` when something would be lost without any consent, when the place holds something else, when somebody other
/// than `sbx` has locked it, and when the branch is checked out at another place.
pub(super) async fn remove(git: &Git, spec: &WorktreeSpec, consented: Option<Unsaved>) -> Result<(), BackendError> {
    let _lock = guard::lock(&spec.clone).await?;
    let trash = guard::sibling(&spec.path, "removed");
    match place(&spec.path, &spec.clone) {
        Observed::Unknown(why) => return Err(BackendError::new(ErrorKind::Failed, why)),
        // Nothing of ours: an empty directory may be anybody's.
        Observed::Absent | Observed::Present(WorktreePlace::Empty) => refuse_elsewhere(spec)?,
        Observed::Present(WorktreePlace::Other(what)) => {
            let message = format!("{} is {what}", spec.path.display());
            return Err(
                BackendError::new(ErrorKind::Conflict, message).with_help("remove it by hand if nobody needs it")
            );
        }
        Observed::Present(WorktreePlace::Missing(facts)) => {
            // Killed between the steps below, or deleted by somebody: no files are lost here.
            refuse_foreign_lock(spec, &facts)?;
            if consented.is_none()
                && let Some(stale) = registered(&spec.clone, &facts.admin)
            {
                let config = CloneConfig::read(git, &spec.clone).await?;
                let view = View::open(git, &spec.clone, &config, "ref: refs/heads/none")?;
                worktree::refuse_lone_commits(&view, spec, &stale).await?;
            }
            tree::remove(&trash)?;
            registration(&spec.clone, &facts.admin)?;
        }
        Observed::Present(WorktreePlace::Worktree(mut facts)) => {
            if !same_path(&facts.clone, &spec.clone) {
                let message = format!("{} is a worktree of {}", spec.path.display(), facts.clone.display());
                return Err(BackendError::new(ErrorKind::Conflict, message));
            }
            refuse_foreign_lock(spec, &facts)?;
            // Where nobody could look, that is what was consented to.
            if consented != Some(Unsaved::default()) {
                look_closer(git, &spec.path, &mut facts).await?;
                refuse_loss(spec, facts.unsaved(), consented)?;
            }
            // The place is free at once. The registration goes last: while it is there, the next run knows of what a
            // kill left.
            tree::remove(&trash)?;
            std::fs::rename(&spec.path, &trash).map_err(|error| file("remove", &spec.path, &error))?;
            tree::remove(&trash)?;
            registration(&spec.clone, &facts.admin)?;
        }
    }
    Ok(())
}

/// Removes an administrative directory, and the root its sandbox saw.
pub(super) fn registration(clone: &Path, name: &str) -> Result<(), BackendError> {
    let (admin, trash) = (clone.join("worktrees").join(name), clone.join(OURS).join(format!("removed-{name}")));
    let ours = clone.join(OURS);
    std::fs::create_dir_all(&ours).map_err(|error| file("create", &ours, &error))?;
    tree::remove(&trash)?;
    std::fs::rename(&admin, &trash).map_err(|error| file("remove", &admin, &error))?;
    tree::remove(&trash)?;
    tree::remove(&root(clone, name))
}

/// Refuses what nobody consented to: somebody may have worked there since the plan was made.
fn refuse_loss(spec: &WorktreeSpec, there: Unsaved, consented: Option<Unsaved>) -> Result<(), BackendError> {
    let most = consented.unwrap_or(Unsaved { dirty: Some(0), ignored: Some(0), unpushed: Some(0) });
    let count = |count: Option<u32>, most: Option<u32>, one: &str, many: &str| match count {
        _ if most.is_none() => None,
        Some(count) if Some(count) <= most => None,
        Some(1) => Some(format!("1 {one}")),
        Some(count) => Some(format!("{count} {many}")),
        None => Some(format!("an unknown number of {many}")),
    };
    let losses = [
        count(there.dirty, most.dirty, "changed or untracked file", "changed or untracked files"),
        count(there.ignored, most.ignored, "ignored file or directory", "ignored files or directories"),
        count(there.unpushed, most.unpushed, "commit that is on no remote", "commits that are on no remote"),
    ];
    let losses: Vec<String> = losses.into_iter().flatten().collect();
    if losses.is_empty() {
        return Ok(());
    }
    let message = format!("{} has {}", spec.path.display(), losses.join(" and "));
    if consented.is_some() {
        let message = format!("{message}, more than was consented to");
        return Err(
            BackendError::new(ErrorKind::Stale, message).with_help("plan again, and look at what would be lost")
        );
    }
    Err(BackendError::new(ErrorKind::Conflict, message).with_help("commit and push, or consent to the loss by name"))
}

fn refuse_foreign_lock(spec: &WorktreeSpec, facts: &WorktreeFacts) -> Result<(), BackendError> {
    // Read again: facts show a lock only when the worktree is ready for a sandbox.
    let lock = registered(&spec.clone, &facts.admin).and_then(|registration| registration.lock);
    match lock {
        Some(reason) if !reason.starts_with("sbx ") => {
            let why = if reason.is_empty() { "without a reason".to_owned() } else { format!("because: {reason}") };
            let message = format!("{} was locked by somebody else, {why}", spec.path.display());
            Err(BackendError::new(ErrorKind::Conflict, message).with_help("unlock it with `git worktree unlock`"))
        }
        _ => Ok(()),
    }
}

fn refuse_elsewhere(spec: &WorktreeSpec) -> Result<(), BackendError> {
    let taken = super::observe::checkouts(&worktree::list(&spec.clone)?);
    match taken.get(&spec.branch) {
        Some(path) => {
            let message = format!("the branch {:?} is checked out at {}, not here", spec.branch, path.display());
            Err(BackendError::new(ErrorKind::Conflict, message).with_help("remove it there with `git worktree remove`"))
        }
        None => Ok(()),
    }
}
