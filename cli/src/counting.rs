//! Quotas over all projects of an engine, while several runs create sandboxes at once.
//!
//! What a run is about to create is not on the engine yet, and to make its images may take minutes. It says so in a file on
//! which it holds a lock as long as it runs: whoever counts meanwhile counts that too. A dead process holds no lock.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reconciler::quotas::Held;
use rustix::fs::{FlockOperation, flock};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::project_lock::{acquire, failed, key, open};

/// The turn to count what there is, and to say what is about to be created. One process at a time has it.
#[derive(Debug)]
pub struct Counting {
    /// What runs have said: a file for each project.
    announced: PathBuf,
    _turn: File,
}

/// What this run is about to create, for others to count, until dropped.
#[derive(Debug)]
pub struct Announced {
    _file: File,
}

impl Counting {
    /// Waits for the turn at the engine called `engine`, at most `patience`.
    ///
    /// Whoever has it asks the engine for one list, and waits for nobody; it can be asked for with a project's lock held.
    pub fn begin(locks: &Path, engine: &str, patience: Duration) -> Result<Self, Failure> {
        let key = key(engine);
        // No project can be called like this.
        let path = locks.join(format!("{key}.counting"));
        let turn = open(&path)?;
        if !acquire(&turn, patience).map_err(|error| failed(&path, &error))? {
            let message = "another sbx has been counting the sandboxes of this engine for long";
            return Err(Failure::new(Exit::TryAgain, "sbx::lock-held", message)
                .with_help("wait until it is done; whether the engine answers, `sbx doctor` tells"));
        }
        Ok(Self { announced: locks.join(format!("{key}.creating")), _turn: turn })
    }

    /// What runs of other projects than `project`, which still go on, are about to create.
    pub fn others(&self, project: &str) -> Result<Held, Failure> {
        let failed = |error: std::io::Error| failed(&self.announced, &error);
        let mut held = Held::new();
        let files = match std::fs::read_dir(&self.announced) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(held),
            files => files.map_err(failed)?,
        };
        for file in files {
            let file = file.map_err(failed)?;
            let Ok(other) = file.file_name().into_string() else { continue };
            if other == project {
                continue;
            }
            let mut file = open(&file.path())?;
            if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
                // Whoever said this has ended.
                continue;
            }
            let mut text = String::new();
            file.read_to_string(&mut text).map_err(failed)?;
            let owners: BTreeMap<String, String> = serde_json::from_str(&text).unwrap_or_default();
            held.extend(owners.into_iter().map(|(name, owner)| ((other.clone(), name), owner)));
        }
        Ok(held)
    }

    /// Says what `project` is about to create, whose lock the caller holds.
    pub fn announce(&self, project: &str, created: Held) -> Result<Announced, Failure> {
        let path = self.announced.join(project);
        let mut file = open(&path)?;
        let owners: BTreeMap<String, String> = created.into_iter().map(|((_, name), owner)| (name, owner)).collect();
        let written = (|| {
            acquire(&file, Duration::ZERO)?;
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(crate::render::json::line(&owners).as_bytes())
        })();
        written.map_err(|error| failed(&path, &error))?;
        Ok(Announced { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(project: &str, sandboxes: &[(&str, &str)]) -> Held {
        let one = |(name, owner): &(&str, &str)| ((project.to_owned(), (*name).to_owned()), (*owner).to_owned());
        sandboxes.iter().map(one).collect()
    }

    #[test]
    fn what_is_announced_counts_for_others_as_long_as_its_run_goes_on() {
        let locks = tempfile::tempdir().expect("a directory");
        let counting = |engine: &str, patience| Counting::begin(locks.path(), engine, patience);
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
        drop(announced);
        assert!(turn.others("second").expect("read").is_empty(), "that run has ended");

        let _fewer = turn.announce("first", held("first", &[("a", "b")])).expect("written");
        assert_eq!(turn.others("second").expect("read"), held("first", &[("a", "b")]));
    }
}
