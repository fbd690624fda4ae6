//! One writer per project and engine: an advisory lock of the operating system, gone with its holder however it ends.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::lock_file::{self, Locks};

/// The lock, held until dropped or until the process ends.
#[derive(Debug)]
pub struct ProjectLock {
    _files: Vec<File>,
}

/// What the holder writes about itself. For people only: the lock is the kernel's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    pid: u32,
    command: String,
    since: String,
}

impl ProjectLock {
    /// Takes the lock of `project` on the engine called `engine`, waiting at most `timeout`.
    ///
    /// # Guarantees
    /// - At most one process with one of these directories of locks holds it; a killed holder holds nothing.
    /// - The file stays behind, so that nobody can lock a file that another is about to delete.
    pub fn take(locks: &Locks, engine: &str, project: &str, timeout: Duration) -> Result<Self, Failure> {
        let begun = Instant::now();
        let mut files = Vec::new();
        for (path, mut file) in locks.open(&format!("{project}.{}", lock_file::key(engine)))? {
            let left = timeout.saturating_sub(begun.elapsed());
            if !lock_file::acquire(&path, &file, left)? {
                return Err(held(project, &mut file));
            }
            // Only a courtesy to whoever waits; without space left on the disk the lock still holds.
            let _ = describe(&mut file);
            files.push(file);
        }
        Ok(Self { _files: files })
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
    use std::path::Path;

    use super::*;
    use crate::lock_file::tests::locks;

    #[test]
    fn one_holder_at_a_time_and_the_other_is_told_who() {
        let state = tempfile::tempdir().expect("a directory");
        let take = |engine, project| ProjectLock::take(&locks(&[state.path()]), engine, project, Duration::ZERO);
        let lock = take("unix:///x", "acme").expect("it is free");
        let failure = take("unix:///x", "acme").expect_err("it is held");
        assert_eq!(failure.exit, Exit::TryAgain);
        assert!(failure.message.contains(&std::process::id().to_string()), "{}", failure.message);
        take("unix:///x", "other").expect("another project");
        take("unix:///y", "acme").expect("another engine");
        drop(lock);
        take("unix:///x", "acme").expect("it is free again");
    }

    #[test]
    fn whoever_shares_one_directory_of_several_waits() {
        let [run, other, state] = std::array::from_fn(|_| tempfile::tempdir().expect("a directory"));
        let take = |directories: &[&Path]| ProjectLock::take(&locks(directories), "unix:///x", "acme", Duration::ZERO);
        let lock = take(&[run.path(), state.path()]).expect("it is free");
        for sharing in [&[run.path()][..], &[state.path()], &[other.path(), state.path()]] {
            take(sharing).expect_err("it is held");
        }
        // Nothing is left of what was taken in vain.
        let elsewhere = take(&[other.path()]).expect("nobody shares that");
        drop((lock, elsewhere));
        take(&[other.path(), state.path()]).expect("it is free again");
        take(&[run.path(), run.path()]).expect("one and the same");
    }
}
