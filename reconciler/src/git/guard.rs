//! Checks and locks before the host writes into a clone.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::failure::file;
use crate::backend::{BackendError, ErrorKind};

/// How long another process may hold a clone: a big clone in another project.
const PATIENCE: Duration = Duration::from_hours(1);

/// One writer per clone, over all projects. The lock dies with its holder.
pub(super) async fn lock(clone: &Path) -> Result<File, BackendError> {
    let path = sibling(clone, "lock");
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|error| file("create", parent, &error))?;
    }
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| file("open the lock", &path, &error))?;
    let wait = async {
        loop {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(()),
                Err(Errno::WOULDBLOCK | Errno::INTR) => tokio::time::sleep(Duration::from_millis(25)).await,
                Err(error) => return Err(file("lock", &path, &error.into())),
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| {
        Err(BackendError::new(
            ErrorKind::TimedOut,
            format!("another process has been using {} for an hour", clone.display()),
        ))
    })?;
    Ok(lock)
}

/// `.api.git.sbx-WHAT` beside `api.git`: on the same file system, and hidden.
pub(super) fn sibling(path: &Path, what: &str) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".sbx-{what}"));
    path.with_file_name(name)
}

/// Refuses when the references of `clone` hold links: a sandbox can write there, and git would write through them.
///
/// # Caveats
/// A sandbox that runs meanwhile can put a link there after the look. What git then writes is an object's name and a
/// newline, in a file called like a branch of the remote; reflogs are never written by the host's calls.
pub(super) fn refuse_links(clone: &Path) -> Result<(), BackendError> {
    for name in ["refs", super::mount::PACKED] {
        for entry in walkdir::WalkDir::new(clone.join(name)).follow_links(false) {
            let Ok(entry) = entry else { continue };
            if entry.file_type().is_symlink() {
                let message = format!("{} is a symbolic link, which git never makes there", entry.path().display());
                return Err(BackendError::new(ErrorKind::Conflict, message)
                    .with_help("find out who made it, remove it, and apply again"));
            }
        }
    }
    Ok(())
}
