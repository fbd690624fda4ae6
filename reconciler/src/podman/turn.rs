//! One at a time, over all processes of a user, for what an engine cannot do twice at once.

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use tokio::time::{Instant, sleep};

use crate::resource::{sha256, short};

/// How long others may take. Each turn is a fraction of a second; whoever has not come up by then goes ahead.
const PATIENCE: Duration = Duration::from_secs(45);
/// The kernel has no wait for a lock with a deadline.
const PAUSE: Duration = Duration::from_millis(5);

/// A place in the line before one engine.
///
/// # Guarantees
/// Of all holders of places before the same engine, in this process and in others with the same runtime directory, one
/// at a time has the turn. A dead process has none.
///
/// # Caveats
/// It keeps an engine well, not a promise: where the lock cannot be made, or somebody sits on it, the turn is given
/// all the same.
#[derive(Debug)]
pub(crate) struct Turn {
    path: PathBuf,
    /// The kernel's lock belongs to an open file; tasks of one process wait here.
    here: tokio::sync::Mutex<()>,
}

/// The turn, until dropped.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    _here: tokio::sync::MutexGuard<'a, ()>,
    _file: Option<File>,
}

impl Turn {
    /// Before the engine called `engine`; the lock's file is in `runtime_dir`.
    pub(crate) fn before(engine: &str, runtime_dir: &Path) -> Self {
        let user = rustix::process::geteuid().as_raw();
        let name = format!("sbx-{user}-{}.turn", short(&sha256(engine.as_bytes())));
        Self { path: runtime_dir.join(name), here: tokio::sync::Mutex::default() }
    }

    /// Waits for the turn.
    pub(crate) async fn take(&self) -> Held<'_> {
        let here = self.here.lock().await;
        let file = match self.lock().await {
            Ok(file) => Some(file),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "going ahead without a turn");
                None
            }
        };
        Held { _here: here, _file: file }
    }

    async fn lock(&self) -> io::Result<File> {
        // The directory may be one where others write too.
        let flags = i32::try_from(OFlags::NOFOLLOW.bits()).map_err(io::Error::other)?;
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(flags)
            .open(&self.path)?;
        if file.metadata()?.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("the file is somebody else's"));
        }
        let begun = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(Errno::WOULDBLOCK | Errno::INTR) if begun.elapsed() < PATIENCE => sleep(PAUSE).await,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn one_at_a_time_before_an_engine() {
        let dir = tempfile::tempdir().expect("a directory");
        // Each has a file of its own open, as two processes would.
        let (one, two) = (Turn::before("unix:///a", dir.path()), Turn::before("unix:///a", dir.path()));
        let held = one.take().await;
        assert!(one.take().now_or_never().is_none(), "in one process");
        assert!(two.take().now_or_never().is_none(), "in two");
        assert!(Turn::before("unix:///b", dir.path()).take().now_or_never().is_some(), "another engine");
        drop(held);
        two.lock().await.expect("free again");
    }

    #[tokio::test]
    async fn without_a_place_for_the_lock_the_turn_is_given() {
        let turn = Turn::before("unix:///a", Path::new("/not/there"));
        turn.lock().await.expect_err("nowhere");
        turn.take().await;
    }
}
