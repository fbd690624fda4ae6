//! What a clone must have before it can be shown to a sandbox; made once, and repaired.

use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::command::Reads;
use super::failure::file;
use super::mount::{COMMON, OURS, PACKED, root};
use super::view::CloneConfig;
use super::{Git, tree};
use crate::backend::{BackendError, ErrorKind};

/// Settings of a clone whose worktrees are in sandboxes, with the reason; set unless the user has set them.
const SETTINGS: &[(&str, &str)] = &[
    // Bare clones made by hand have no tracking branches without it: nothing could be called pushed.
    ("remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"),
    // gc would expire the reflogs of other worktrees, which it cannot write from inside one.
    ("gc.reflogExpire", "never"),
    ("gc.reflogExpireUnreachable", "never"),
    // Both write to directories that are read-only inside.
    ("gc.writeCommitGraph", "false"),
    ("repack.updateServerInfo", "false"),
    // gc inside sees no path of another worktree; the lock keeps ours, this keeps those the user added.
    ("gc.worktreePruneExpire", "never"),
];

const PACKED_LINK: &str = "sbx/packed/packed-refs";

/// Makes `clone` ready; repeating it changes nothing.
pub(super) async fn prepare(git: &Git, clone: &Path) -> Result<CloneConfig, BackendError> {
    let config = CloneConfig::read(git, clone).await?;
    let refuse = |why: &str, help: &str| {
        Err(BackendError::new(ErrorKind::Conflict, format!("the clone {} {why}", clone.display())).with_help(help))
    };
    if config.ref_storage.as_deref().is_some_and(|format| format != "files") {
        return refuse("does not keep its references in files", "run `git refs migrate --ref-format=files` in it");
    }
    if clone.join("shallow").exists() {
        return refuse("is shallow", "run `git fetch --unshallow` in it");
    }
    if clone.join("objects/info/alternates").exists() {
        return refuse(
            "borrows objects from elsewhere",
            "run `git repack -a -d` in it and remove objects/info/alternates",
        );
    }
    for (key, value) in SETTINGS {
        if !config.keys.iter().any(|set| set.eq_ignore_ascii_case(key)) {
            set(git, clone, key, value).await?;
        }
    }
    let directories = ["hooks", "info", "logs", "worktrees", "objects/info", PACKED, "sbx/roots"];
    for directory in directories.map(|name| clone.join(name)) {
        std::fs::create_dir_all(&directory).map_err(|error| file("create", &directory, &error))?;
    }
    share_packed_refs(clone)?;
    Ok(config)
}

/// Whether [`prepare`] and [`make_root`] were done for the worktree `admin`.
pub(super) fn is_prepared(clone: &Path, admin: &str) -> bool {
    std::fs::read_link(clone.join("packed-refs")).is_ok_and(|target| target == Path::new(PACKED_LINK))
        && root_is_whole(&root(clone, admin))
        && clone.join("worktrees").join(admin).join("config.worktree").symlink_metadata().is_ok_and(|m| m.is_file())
}

/// Sets one key of the clone's configuration.
pub(super) async fn set(git: &Git, clone: &Path, key: &str, value: &str) -> Result<(), BackendError> {
    let path = clone.join("config");
    let args = ["config".as_ref(), "--file".as_ref(), path.as_os_str(), key.as_ref(), value.as_ref()];
    git.call(Reads::Nothing, args).run().await.map(drop)
}

/// Moves `packed-refs` into a directory of its own and leaves a link, which git follows when it writes the file anew.
fn share_packed_refs(clone: &Path) -> Result<(), BackendError> {
    let (outer, inner) = (clone.join("packed-refs"), clone.join(PACKED_LINK));
    let failed = |error: io::Error| file("move", &outer, &error);
    if std::fs::read_link(&outer).is_ok_and(|target| target == Path::new(PACKED_LINK)) {
        return match std::fs::File::options().write(true).create_new(true).open(&inner) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(error)),
            _ => Ok(()),
        };
    }
    // The lock every git takes before it writes the file.
    let lock = clone.join("packed-refs.lock");
    std::fs::File::options().write(true).create_new(true).open(&lock).map_err(|error| {
        let message = format!("cannot lock the references of {}: {error}", clone.display());
        BackendError::new(ErrorKind::Transient, message)
            .with_help(format!("if no git runs there, remove {}", lock.display()))
    })?;
    let moved = (|| {
        match std::fs::symlink_metadata(&outer) {
            // Another program wrote the file in place of the link; what it wrote includes what was there.
            Ok(_) => std::fs::copy(&outer, clone.join("sbx/packed-refs.new"))
                .and_then(|_| std::fs::rename(clone.join("sbx/packed-refs.new"), &inner))?,
            Err(_) => std::fs::write(&inner, "")?,
        }
        let link = clone.join("sbx/packed-refs.link");
        let _ = std::fs::remove_file(&link);
        symlink(PACKED_LINK, &link)?;
        std::fs::rename(&link, &outer)
    })();
    let unlocked = std::fs::remove_file(&lock);
    moved.and(unlocked).map_err(failed)
}

/// Makes the root that the sandbox of `admin` sees in place of the clone's.
pub(super) fn make_root(clone: &Path, admin: &str) -> Result<(), BackendError> {
    let root = root(clone, admin);
    if root_is_whole(&root) {
        return Ok(());
    }
    // Somebody has changed it; all that counts is made anew.
    let trash = clone.join(OURS).join(format!("old-root-{admin}"));
    tree::remove(&trash)?;
    if root.symlink_metadata().is_ok() {
        std::fs::rename(&root, &trash).map_err(|error| file("move", &root, &error))?;
        tree::remove(&trash)?;
    }
    let stage = clone.join(OURS).join(format!("new-root-{admin}"));
    tree::remove(&stage)?;
    let made = (|| {
        for name in MOUNT_POINTS.iter().chain(&[COMMON]) {
            std::fs::create_dir_all(stage.join(name))?;
        }
        symlink(PACKED_LINK, stage.join("packed-refs"))?;
        symlink(Path::new(COMMON).join("config"), stage.join("config"))?;
        std::fs::copy(clone.join("HEAD"), stage.join("HEAD"))?;
        std::fs::rename(&stage, &root)
    })();
    made.map_err(|error| file("make", &root, &error))
}

const MOUNT_POINTS: &[&str] = &["objects", "refs", "logs", "hooks", "info", "worktrees", PACKED];

fn root_is_whole(root: &Path) -> bool {
    let is_directory = |path: &Path| path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    // Parents too: a link in the middle would lead a mount elsewhere.
    is_directory(root)
        && is_directory(&root.join(OURS))
        && MOUNT_POINTS.iter().chain(&[COMMON]).all(|name| is_directory(&root.join(name)))
        && root.join("packed-refs").symlink_metadata().is_ok()
        && root.join("config").symlink_metadata().is_ok()
}
