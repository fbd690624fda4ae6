//! One writer per project and engine: an advisory lock of the operating system, gone with its holder however it ends.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use serde::{Deserialize, Serialize};

use crate::daemon;
use crate::exit::Exit;
use crate::failure::Failure;

/// The lock, held until dropped or until the process ends.
#[derive(Debug)]
pub struct ProjectLock {
    _file: File,
}

/// What the holder writes about itself. For people only: the lock is the kernel's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    pid: u32,
    command: String,
    since: String,
}

const PAUSE: Duration = Duration::from_millis(50);

/// Where locks are, for a user whose state directory is `state`.
///
/// Root's are not in a state directory: with sudo each caller has one of their own, and the engine is the same.
pub fn directory(state: &Path) -> PathBuf {
    let root = rustix::process::geteuid().is_root();
    if root { Path::new(daemon::ROOTS) } else { state }.join("locks")
}

impl ProjectLock {
    /// Takes the lock of `project` on the engine called `engine`, waiting at most `timeout`.
    ///
    /// # Guarantees
    /// - At most one process with this directory of locks holds it; a killed holder holds nothing.
    /// - The file stays behind, so that nobody can lock a file that another is about to delete.
    pub fn take(directory: &Path, engine: &str, project: &str, timeout: Duration) -> Result<Self, Failure> {
        let path = directory.join(format!("{project}.{}", key(engine)));
        let mut file = open(&path)?;
        if !acquire(&file, timeout).map_err(|error| failed(&path, &error))? {
            return Err(held(project, &mut file));
        }
        // Only a courtesy to whoever waits; without space left on the disk the lock still holds.
        let _ = describe(&mut file);
        Ok(Self { _file: file })
    }
}

/// Short name of the engine called `engine`.
pub fn key(engine: &str) -> String {
    let hash = reconciler::resource::sha256(engine.as_bytes());
    reconciler::resource::short(&hash).to_owned()
}

/// Locks `file` for this process alone, waiting at most `timeout`; whether that was possible.
pub fn acquire(file: &File, timeout: Duration) -> std::io::Result<bool> {
    let begun = Instant::now();
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) if begun.elapsed() < timeout => pause(),
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(false),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The kernel has no wait for a lock with a deadline.
#[expect(clippy::disallowed_methods, reason = "the condition is asked for again after each pause")]
fn pause() {
    std::thread::sleep(PAUSE);
}

/// The file of a lock, made if it is not there, and its directory, which is its user's alone.
pub fn open(path: &Path) -> Result<File, Failure> {
    let open = || {
        let directory = path.parent().unwrap_or(path);
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let flags = i32::try_from(OFlags::NOFOLLOW.bits()).map_err(std::io::Error::other)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(path)
    };
    open().map_err(|error| failed(path, &error))
}

/// That something of the lock at `path` went wrong.
pub fn failed(path: &Path, error: &std::io::Error) -> Failure {
    let failure = Failure::io(format!("lock {}", path.display()), error);
    // Root's locks are where everybody with sudo has them.
    if rustix::process::geteuid().is_root() {
        failure
    } else {
        failure.with_help("choose another place with --state-dir")
    }
}

fn describe(file: &mut File) -> std::io::Result<()> {
    let words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let holder =
        Holder { pid: std::process::id(), command: words.join(" "), since: jiff::Timestamp::now().to_string() };
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(crate::render::json::line(&holder).as_bytes())
}

fn held(project: &str, file: &mut File) -> Failure {
    let mut text = String::new();
    // The holder may be just about to write; then nothing is known of it.
    let _ = file.rewind().and_then(|()| file.read_to_string(&mut text));
    let holder = serde_json::from_str::<Holder>(&text).ok();
    let who = holder.map_or_else(
        || String::from("another sbx"),
        |holder| {
            format!("process {} ({}, since {})", holder.pid, crate::render::text::safe(&holder.command), holder.since)
        },
    );
    Failure::new(Exit::TryAgain, "sbx::lock-held", format!("project {project} is being changed by {who}"))
        .with_help("wait until it is done, or let sbx wait with --lock-timeout 5m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time_and_the_other_is_told_who() {
        let state = tempfile::tempdir().expect("a directory");
        let lock = ProjectLock::take(state.path(), "unix:///x", "acme", Duration::ZERO).expect("it is free");
        let failure = ProjectLock::take(state.path(), "unix:///x", "acme", Duration::ZERO).expect_err("it is held");
        assert_eq!(failure.exit, Exit::TryAgain);
        assert!(failure.message.contains(&std::process::id().to_string()), "{}", failure.message);
        ProjectLock::take(state.path(), "unix:///x", "other", Duration::ZERO).expect("another project");
        ProjectLock::take(state.path(), "unix:///y", "acme", Duration::ZERO).expect("another engine");
        drop(lock);
        ProjectLock::take(state.path(), "unix:///x", "acme", Duration::ZERO).expect("it is free again");
    }

    #[test]
    fn the_locks_of_root_are_in_one_place_whoever_calls() {
        let [alice, bob] =
            ["/home/alice/.local/state/sbx", "/home/bob/.local/state/sbx"].map(|it| directory(Path::new(it)));
        assert_eq!(alice == bob, rustix::process::geteuid().is_root());
    }
}
