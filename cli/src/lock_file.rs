//! Files that processes of `sbx` lock against each other. The lock is the operating system's, and dies with its holder.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};

use crate::caller::Person;
use crate::configuration::Surroundings;
use crate::daemon;
use crate::failure::Failure;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// Where they are. Whoever takes one takes it in each of the directories, in this order.
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
            let found = file.metadata().map_err(|error| failed("look at", &path, &error))?;
            // Whoever named root's own directory would wait for themselves.
            if seen.insert((found.dev(), found.ino())) {
                files.push((path, file));
            }
        }
        Ok(files)
    }
}

/// Short name of the engine called `engine`.
pub fn key(engine: &str) -> String {
    let hash = reconciler::resource::sha256(engine.as_bytes());
    reconciler::resource::short(&hash).to_owned()
}

/// Locks `file`, which is at `path`, for this process alone, waiting at most `timeout`; whether that was possible.
pub fn acquire(path: &Path, file: &File, timeout: Duration) -> Result<bool, Failure> {
    let begun = Instant::now();
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) if begun.elapsed() < timeout => pause(),
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(false),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed("lock", path, &error.into())),
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
    open().map_err(|error| failed("open", path, &error))
}

/// That one cannot `verb` what is at `path`, a lock or a directory of them.
pub fn failed(verb: &str, path: &Path, error: &std::io::Error) -> Failure {
    let failure = Failure::io(format!("cannot {verb} {}", path.display()), error);
    // Root's locks are where everybody with sudo has them.
    if rustix::process::geteuid().is_root() {
        failure
    } else {
        failure.with_help("choose another place with --state-dir")
    }
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

    #[test]
    fn what_cannot_be_done_is_named_with_its_place() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("held");
        std::fs::create_dir(&path).expect("made");
        let failure = open(&path).expect_err("a directory is no file");
        assert!(failure.message.starts_with(&format!("cannot open {}: ", path.display())), "{}", failure.message);
    }
}
