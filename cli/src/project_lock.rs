//! One writer per project and engine: an advisory lock of the operating system, gone with its holder however it ends.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

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

impl ProjectLock {
    /// Takes the lock of `project` on the engine called `engine`, waiting at most `timeout`.
    ///
    /// # Guarantees
    /// - At most one process of this state directory holds it; a killed holder holds nothing.
    /// - The file stays behind, so that nobody can lock a file that another is about to delete.
    pub fn take(state: &Path, engine: &str, project: &str, timeout: Duration) -> Result<Self, Failure> {
        let path = path(state, engine, project);
        let mut file = open(&path)?;
        let deadline = Instant::now() + timeout;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => pause(),
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(held(project, &mut file)),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Failure::io(path.display(), &error.into())),
            }
        }
        // Only a courtesy to whoever waits; without space left on the disk the lock still holds.
        let _ = describe(&mut file);
        Ok(Self { _file: file })
    }
}

/// The kernel has no wait for a lock with a deadline.
#[expect(clippy::disallowed_methods, reason = "the condition is asked for again after each pause")]
fn pause() {
    std::thread::sleep(PAUSE);
}

fn path(state: &Path, engine: &str, project: &str) -> PathBuf {
    let engine = reconciler::resource::sha256(engine.as_bytes());
    state.join("locks").join(format!("{project}.{}", reconciler::resource::short(&engine)))
}

fn open(path: &Path) -> Result<File, Failure> {
    let failed = |error: std::io::Error| {
        Failure::io(format!("lock {}", path.display()), &error).with_help("choose another place with --state-dir")
    };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(failed)
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
}
