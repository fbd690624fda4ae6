//! Quotas over all projects of an engine, while several runs create sandboxes at once.
//!
//! What a run is about to create is not on the engine yet, and to make its images may take minutes. It says so in a file on
//! which it holds a lock as long as it runs: whoever counts meanwhile counts that too. A dead process holds no lock.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use reconciler::quotas::Held;
use rustix::fs::{FlockOperation, flock};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::lock_file::{self, Locks};

/// The turn to count what there is, and to say what is about to be created. One process at a time has it.
#[derive(Debug)]
pub struct Counting {
    locks: Locks,
    /// Directory of what runs have said: a file for each project.
    announced: String,
    _turn: Vec<File>,
}

/// What this run is about to create, for others to count, until dropped.
#[derive(Debug)]
pub struct Announced {
    _files: Vec<File>,
}

impl Counting {
    /// Waits for the turn at the engine called `engine`, at most `patience`.
    ///
    /// Whoever has it asks the engine for one list, and waits for nobody; it can be asked for with a project's lock held.
    pub fn begin(locks: &Locks, engine: &str, patience: Duration) -> Result<Self, Failure> {
        let (begun, key) = (Instant::now(), lock_file::key(engine));
        let mut turn = Vec::new();
        // No project can be called like this.
        for (path, file) in locks.open(&format!("{key}.counting"))? {
            let left = patience.saturating_sub(begun.elapsed());
            if !lock_file::acquire(&path, &file, left)? {
                let message = "another sbx has been counting the sandboxes of this engine for long";
                return Err(Failure::new(Exit::TryAgain, "sbx::lock-held", message)
                    .with_help("wait until it is done; whether the engine answers, `sbx doctor` tells"));
            }
            turn.push(file);
        }
        Ok(Self { locks: locks.clone(), announced: format!("{key}.creating"), _turn: turn })
    }

    /// What runs of other projects than `project`, which still go on, are about to create.
    pub fn others(&self, project: &str) -> Result<Held, Failure> {
        let mut held = Held::new();
        for directory in self.locks.places(&self.announced) {
            others_in(&directory, project, &mut held)?;
        }
        Ok(held)
    }

    /// Says what `project` is about to create, whose lock the caller holds.
    pub fn announce(&self, project: &str, created: Held) -> Result<Announced, Failure> {
        let owners: BTreeMap<String, String> = created.into_iter().map(|((_, name), owner)| (name, owner)).collect();
        let text = crate::render::json::line(&owners);
        let mut files = Vec::new();
        for (path, mut file) in self.locks.open(&format!("{}/{project}", self.announced))? {
            // Nobody else takes it for long: the lock of the project is the caller's.
            lock_file::acquire(&path, &file, Duration::ZERO)?;
            let written = (|| {
                file.set_len(0)?;
                file.rewind()?;
                file.write_all(text.as_bytes())
            })();
            written.map_err(|error| lock_file::failed("write", &path, &error))?;
            files.push(file);
        }
        Ok(Announced { _files: files })
    }
}

/// Adds to `held` what is said in `directory`.
fn others_in(directory: &Path, project: &str, held: &mut Held) -> Result<(), Failure> {
    let unlisted = |error: std::io::Error| lock_file::failed("list", directory, &error);
    let files = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        files => files.map_err(unlisted)?,
    };
    for file in files {
        let file = file.map_err(unlisted)?;
        let Ok(other) = file.file_name().into_string() else { continue };
        if other == project {
            continue;
        }
        let path = file.path();
        let mut file = lock_file::open(&path)?;
        if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
            // Whoever said this has ended.
            continue;
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(|error| lock_file::failed("read", &path, &error))?;
        let owners: BTreeMap<String, String> = serde_json::from_str(&text).unwrap_or_default();
        held.extend(owners.into_iter().map(|(name, owner)| ((other.clone(), name), owner)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock_file::tests::locks;

    fn held(project: &str, sandboxes: &[(&str, &str)]) -> Held {
        let one = |(name, owner): &(&str, &str)| ((project.to_owned(), (*name).to_owned()), (*owner).to_owned());
        sandboxes.iter().map(one).collect()
    }

    #[test]
    fn what_is_announced_counts_for_others_as_long_as_its_run_goes_on() {
        let [first, second] = std::array::from_fn(|_| tempfile::tempdir().expect("a directory"));
        let both = locks(&[first.path(), second.path()]);
        let counting = |engine: &str, patience| Counting::begin(&both, engine, patience);
        let turn = counting("unix:///x", Duration::ZERO).expect("free");
        let failure = counting("unix:///x", Duration::ZERO).expect_err("one at a time");
        assert_eq!(failure.exit, Exit::TryAgain);
        counting("unix:///y", Duration::ZERO).expect("another engine");
        assert!(turn.others("second").expect("read").is_empty());

        let announced = turn.announce("first", held("first", &[("one", "alice"), ("two", "bob")])).expect("written");
        drop(turn);
        let turn = counting("unix:///x", Duration::ZERO).expect("free again");
        assert_eq!(turn.others("second").expect("read"), held("first", &[("one", "alice"), ("two", "bob")]));
        assert!(turn.others("first").expect("read").is_empty(), "its own are in its plan");
        drop(turn);
        // Who shares one of the places knows as well.
        for shared in [&first, &second] {
            let turn = Counting::begin(&locks(&[shared.path()]), "unix:///x", Duration::ZERO).expect("free");
            assert_eq!(turn.others("second").expect("read").len(), 2);
        }
        let turn = counting("unix:///x", Duration::ZERO).expect("free again");
        drop(announced);
        assert!(turn.others("second").expect("read").is_empty(), "that run has ended");

        let _fewer = turn.announce("first", held("first", &[("a", "b")])).expect("written");
        assert_eq!(turn.others("second").expect("read"), held("first", &[("a", "b")]));
    }
}
