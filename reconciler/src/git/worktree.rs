//! Adds and locks worktrees.

use std::io::{self, Write as _};
use std::path::Path;

use super::admin::{self, Head, Registration, admin_name, same_path};
use super::failure::file;
use super::mount::OURS;
use super::observe::{checkouts, place};
use super::view::View;
use super::{Git, Progress, guard, layout, observe, start, tree};
use crate::backend::{BackendError, ErrorKind};
use crate::facts::{Observed, WorktreeFacts, WorktreePlace};
use crate::spec::WorktreeSpec;

/// Reason of the lock of a worktree held by `holder`.
pub(super) fn reason(holder: &str) -> String {
    format!("sbx {holder}")
}

/// Adds the worktree of `spec`, or finds that it was, and locks it.
///
/// # Guarantees
/// - Files appear at `spec.path` all at once: they are checked out beside it and renamed.
/// - The administrative directory of a worktree made here is called as [`admin_name`] says.
pub(super) async fn add(
    git: &Git,
    spec: &WorktreeSpec,
    holder: &str,
    progress: Progress<'_>,
) -> Result<(), BackendError> {
    let clone_lock = guard::lock(&spec.clone).await?;
    match place(&spec.path, &spec.clone) {
        Observed::Present(WorktreePlace::Worktree(_)) => {
            drop(clone_lock);
            return lock(git, spec, holder, None).await;
        }
        Observed::Present(WorktreePlace::Other(what)) => return Err(in_the_way(spec, &what)),
        Observed::Unknown(why) => return Err(BackendError::new(ErrorKind::Failed, why)),
        Observed::Absent | Observed::Present(WorktreePlace::Empty | WorktreePlace::Missing(_)) => {}
    }
    let config = layout::prepare(git, &spec.clone).await?;
    let view = View::open(git, &spec.clone, &config, &format!("ref: refs/heads/{}", spec.branch))?;
    let registered = list(&spec.clone)?;
    for stale in registered.iter().filter(|registration| same_path(&registration.path, &spec.path)) {
        forget(&view, spec, stale).await?;
    }
    let name = admin_name(&spec.path);
    let registered = list(&spec.clone)?;
    if let Some(moved) = registered.iter().find(|registration| registration.name == name) {
        let message = format!("the worktree made for this path was moved to {}", moved.path.display());
        return Err(BackendError::new(ErrorKind::Conflict, message).with_help("move it back, or remove it"));
    }
    refuse_taken(spec, &registered)?;
    let start = start::branch(&view, spec, progress).await?;
    if start.tracks {
        layout::set(git, &spec.clone, &format!("branch.{}.remote", spec.branch), "origin").await?;
        let merge = format!("branch.{}.merge", spec.branch);
        layout::set(git, &spec.clone, &merge, &format!("refs/heads/{}", spec.branch)).await?;
    }
    let (new_admin, new_tree) = (spec.clone.join(OURS).join(format!("new-{name}")), guard::sibling(&spec.path, "new"));
    // What a killed run left.
    tree::remove(&new_admin)?;
    tree::remove(&new_tree)?;
    make_directory(&new_admin)?;
    make_directory(&new_tree)?;
    let written = write_admin(&new_admin, &new_tree, spec, &name, holder);
    written.map_err(|error| file("write", &new_admin, &error))?;
    if start.born {
        let index = new_admin.join("index");
        let args = ["read-tree", "--reset", "-u", "-v", "--no-recurse-submodules", "HEAD"];
        if let Err(error) = view.call_in(&new_tree, &index, &args).progress(progress).run().await {
            tree::remove(&new_tree)?;
            tree::remove(&new_admin)?;
            return Err(error);
        }
    }
    layout::make_root(&spec.clone, &name)?;
    let admin = spec.clone.join("worktrees").join(&name);
    std::fs::rename(&new_admin, &admin).map_err(|error| file("make", &admin, &error))?;
    // A kill here leaves a worktree without its directory, which the next run makes anew.
    std::fs::rename(&new_tree, &spec.path).map_err(|error| file("make", &spec.path, &error))
}

/// Locks a worktree that is there, and makes it ready to be shown to a sandbox. The lock of the holder `from` gives way,
/// with whatever that one has checked out.
pub(super) async fn lock(git: &Git, spec: &WorktreeSpec, holder: &str, from: Option<&str>) -> Result<(), BackendError> {
    let _lock = guard::lock(&spec.clone).await?;
    let facts = match place(&spec.path, &spec.clone) {
        Observed::Present(WorktreePlace::Worktree(facts)) => facts,
        Observed::Present(WorktreePlace::Other(what)) => return Err(in_the_way(spec, &what)),
        Observed::Unknown(why) => return Err(BackendError::new(ErrorKind::Failed, why)),
        Observed::Absent | Observed::Present(WorktreePlace::Empty | WorktreePlace::Missing(_)) => {
            return Err(BackendError::new(ErrorKind::Stale, format!("{} is not there", spec.path.display())));
        }
    };
    let WorktreeFacts { clone, admin: name, branch, .. } = facts;
    if !same_path(&clone, &spec.clone) {
        return Err(in_the_way(spec, &format!("a worktree of {}", clone.display())));
    }
    if from.is_none() && branch.as_deref() != Some(&spec.branch) {
        let there = branch.map_or_else(|| "no branch".to_owned(), |branch| format!("the branch {branch:?}"));
        let message = format!("{} has {there} checked out, not {:?}", spec.path.display(), spec.branch);
        return Err(BackendError::new(ErrorKind::Conflict, message)
            .with_help("check the branch out there, or set it in `branch`"));
    }
    layout::prepare(git, &spec.clone).await?;
    layout::make_root(&spec.clone, &name)?;
    let admin = spec.clone.join("worktrees").join(&name);
    let own_config = admin.join("config.worktree");
    match std::fs::File::options().write(true).create_new(true).open(&own_config) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(file("write", &own_config, &error)),
        _ => {}
    }
    let reason = reason(holder);
    match admin::registration(&spec.clone, &name).and_then(|registration| registration.lock) {
        Some(other) if from.is_some_and(|from| other == self::reason(from)) => {
            // Beside it first: it is locked at any time.
            let (path, new) = (admin.join("locked"), spec.clone.join(OURS).join(format!("lock-{name}")));
            tree::remove(&new)?;
            std::fs::write(&new, format!("{reason}\n"))
                .and_then(|()| std::fs::rename(&new, &path))
                .map_err(|error| file("lock", &path, &error))
        }
        Some(other) if other.starts_with("sbx ") && other != reason => {
            let message = format!("{} is held by {:?}", spec.path.display(), other.trim_start_matches("sbx "));
            Err(BackendError::new(ErrorKind::Conflict, message).with_help("one worktree belongs to one sandbox"))
        }
        // Locked by the user, for reasons of their own: it is safe from pruning.
        Some(_) => Ok(()),
        None => {
            let path = admin.join("locked");
            tree::remove(&path)?;
            let opened = std::fs::File::options().write(true).create_new(true).open(&path);
            opened.and_then(|mut file| writeln!(file, "{reason}")).map_err(|error| file("lock", &path, &error))
        }
    }
}

fn write_admin(admin: &Path, tree: &Path, spec: &WorktreeSpec, name: &str, holder: &str) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let line = |before: &str, path: &Path| [before.as_bytes(), path.as_os_str().as_bytes(), b"\n"].concat();
    std::fs::write(admin.join("HEAD"), format!("ref: refs/heads/{}\n", spec.branch))?;
    std::fs::write(admin.join("commondir"), "../..\n")?;
    std::fs::write(admin.join("gitdir"), line("", &spec.path.join(".git")))?;
    std::fs::write(admin.join("config.worktree"), "")?;
    std::fs::write(admin.join("locked"), format!("{}\n", reason(holder)))?;
    std::fs::create_dir(admin.join("logs"))?;
    std::fs::write(tree.join(".git"), line("gitdir: ", &spec.clone.join("worktrees").join(name)))
}

/// Drops the registration of a worktree whose directory was deleted, unless it alone knows some commits.
async fn forget(view: &View<'_>, spec: &WorktreeSpec, stale: &Registration) -> Result<(), BackendError> {
    refuse_lone_commits(view, spec, stale).await?;
    super::remove::registration(&spec.clone, &stale.name)
}

/// Refuses when the worktree alone knows some commits.
pub(super) async fn refuse_lone_commits(
    view: &View<'_>,
    spec: &WorktreeSpec,
    stale: &Registration,
) -> Result<(), BackendError> {
    if let Head::Commit(id, _) = &stale.head
        && observe::only_here(view, id).await?
    {
        let message = format!("the deleted worktree {} had commits that no branch has", stale.path.display());
        return Err(BackendError::new(ErrorKind::Conflict, message)
            .with_help(format!("keep them: `git --git-dir={} branch rescued {id}`", spec.clone.display())));
    }
    Ok(())
}

pub(super) fn list(clone: &Path) -> Result<Vec<Registration>, BackendError> {
    admin::registrations(clone).map_err(|error| file("read the worktrees of", clone, &error))
}

fn refuse_taken(spec: &WorktreeSpec, registered: &[Registration]) -> Result<(), BackendError> {
    match checkouts(registered).get(&spec.branch) {
        Some(path) => {
            let message = format!("the branch {:?} is checked out at {}", spec.branch, path.display());
            Err(BackendError::new(ErrorKind::Conflict, message)
                .with_help("a branch can be in one worktree only: use that one, or another branch"))
        }
        None => Ok(()),
    }
}

fn in_the_way(spec: &WorktreeSpec, what: &str) -> BackendError {
    BackendError::new(ErrorKind::Conflict, format!("{} is {what}", spec.path.display()))
        .with_help("move it away, or set another `path`")
}

fn make_directory(path: &Path) -> Result<(), BackendError> {
    std::fs::create_dir_all(path).map_err(|error| file("create", path, &error))
}
