//! One writer per project and engine: an advisory lock of the operating system, gone with its holder however it ends.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use serde::{Deserialize, Serialize};

use crate::caller::Person;
use crate::configuration::Surroundings;
use crate::daemon;
use crate::exit::Exit;
use crate::failure::Failure;

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

const PAUSE: Duration = Duration::from_millis(50);

/// Where locks are. Whoever takes one takes it in each of the directories, in this order.
#[derive(Debug, Clone)]
pub struct Locks {
    directories: Vec<PathBuf>,
    person: Person,
}

impl Locks {
    /// Those of whoever runs this.
    ///
    /// Root's are not in a state directory: with sudo each caller has one of their own, and the engine is the same. In one
    /// that was named they are too: containers that share an engine may share that, and not what is at `/run`.
    pub fn of(surroundings: &Surroundings) -> Self {
        let Surroundings { person, directories } = surroundings;
        let root = rustix::process::geteuid().is_root();
        let roots = root.then(|| PathBuf::from(daemon::ROOT_RUNTIME));
        let own = (!root || directories.state_is_named).then(|| directories.state.clone());
        let directories = roots.into_iter().chain(own).map(|directory| directory.join("locks")).collect();
        Self { directories, person: person.clone() }
    }

    /// What is called `name` in each of the directories.
    pub fn places(&self, name: &str) -> impl Iterator<Item = PathBuf> {
        self.directories.iter().map(move |directory| directory.join(name))
    }

    /// The files called `name`, with their paths, made where they are not there.
    pub fn open(&self, name: &str) -> Result<Vec<(PathBuf, File)>, Failure> {
        let (mut files, mut seen) = (Vec::new(), BTreeSet::new());
        for path in self.places(name) {
            let file = self.person.act(&path, || open(&path))?;
            let found = file.metadata().map_err(|error| failed(&path, &error))?;
            // Whoever named root's own directory would wait for themselves.
            if seen.insert((found.dev(), found.ino())) {
                files.push((path, file));
            }
        }
        Ok(files)
    }
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
        for (path, mut file) in locks.open(&format!("{project}.{}", key(engine)))? {
            let left = timeout.saturating_sub(begun.elapsed());
            if !acquire(&file, left).map_err(|error| failed(&path, &error))? {
                return Err(held(project, &mut file));
            }
            // Only a courtesy to whoever waits; without space left on the disk the lock still holds.
            let _ = describe(&mut file);
            files.push(file);
        }
        Ok(Self { _files: files })
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
pub mod tests {
    use super::*;
    use crate::caller::Directories;

    /// Locks in `directories`.
    pub fn locks(directories: &[&Path]) -> Locks {
        Locks { directories: directories.iter().map(|&path| path.to_owned()).collect(), person: Person::find() }
    }

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

    #[test]
    fn the_locks_of_root_are_in_one_place_whoever_calls_and_where_somebody_says() {
        let root = rustix::process::geteuid().is_root();
        let of = |state: &str, state_is_named| {
            let (data, state) = ("/data".into(), state.into());
            let directories = Directories { data, state, state_is_named, runtime: None };
            Locks::of(&Surroundings { person: Person::find(), directories }).directories
        };
        let [alice, bob] = ["/home/alice/.local/state/sbx", "/home/bob/.local/state/sbx"].map(|it| of(it, false));
        assert_eq!(alice == bob, root);
        let named = of("/shared", true);
        let shared = PathBuf::from("/shared/locks");
        assert_eq!(named, if root { [alice, vec![shared]].concat() } else { vec![shared] });
    }
}
