//! Where an engine notes the number of a container's first process.
//!
//! Asking for it costs the engine more than the start itself leaves over: an inspection, for one number that lies in a
//! small file of the engine's. Where those files are is learned from the first answer there is; whatever does not fit,
//! and whatever cannot be read from here, is asked for as before.

use std::collections::HashMap;
use std::fs;
use std::sync::{Mutex, PoisonError};

use super::kernel::Process;

/// Containers that were made here, and where their first processes are noted.
#[derive(Debug, Default)]
pub(super) struct Notes(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Ids of containers by name.
    ids: HashMap<String, String>,
    /// Ids of all that were made here, by the name they were made with.
    made: HashMap<String, String>,
    /// What stands before and after an id in the path of such a file.
    place: Option<(String, String)>,
}

impl Notes {
    /// `container` was made, and has the id `id`.
    pub(super) fn made(&self, container: &str, id: &str) {
        if !id.is_empty() {
            self.known(|known| {
                known.ids.insert(container.to_owned(), id.to_owned());
                known.made.insert(container.to_owned(), id.to_owned());
            });
        }
    }

    /// Ids of all that were made here, by the name they were made with, whatever became of them.
    pub(super) fn all(&self) -> HashMap<String, String> {
        self.known(|known| known.made.clone())
    }

    /// Nothing of that name is what was made here any more.
    pub(super) fn gone(&self, container: &str) {
        self.known(|known| known.ids.remove(container));
    }

    /// The engine notes the first process of the container `id` in the file `path`.
    pub(super) fn learn(&self, id: &str, path: &str) {
        if let Some((before, after)) =
            path.split_once(id).filter(|(before, _)| !id.is_empty() && before.starts_with('/'))
        {
            self.known(|known| known.place = Some((before.to_owned(), after.to_owned())));
        }
    }

    /// The number of the first process of a container that was made here, when that is known without asking: noted by the
    /// engine, and a process of that container as far as the kernel knows.
    pub(super) fn first_process(&self, container: &str) -> Option<u32> {
        let (id, path) = self.known(|known| {
            let id = known.ids.get(container)?;
            let (before, after) = known.place.as_ref()?;
            Some((id.clone(), format!("{before}{id}{after}")))
        })?;
        let pid = fs::read_to_string(path).ok()?.trim().parse().ok()?;
        Process::of_container(pid, &id).map(|_| pid)
    }

    fn known<T>(&self, act: impl FnOnce(&mut Known) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A part of the name of our own control groups.
    fn own() -> String {
        fs::read_to_string("/proc/self/cgroup").expect("procfs").chars().take(3).collect()
    }

    /// What is noted of `id` in a directory for each container.
    fn noted(dir: &Path, id: &str, pid: &str) -> String {
        let file = dir.join(id).join("pidfile");
        fs::create_dir_all(file.parent().expect("a directory")).expect("made");
        fs::write(&file, pid).expect("written");
        file.to_string_lossy().into_owned()
    }

    #[test]
    fn what_is_noted_counts_if_it_is_a_process_of_the_container() {
        let dir = tempfile::tempdir().expect("a directory");
        let (notes, own, me) = (Notes::default(), own(), std::process::id());
        notes.made("c", &own);
        noted(dir.path(), &own, &format!("{me}\n"));
        assert_eq!(notes.first_process("c"), None, "nobody knows where");
        notes.learn("another", &noted(dir.path(), "another", "1"));
        assert_eq!(notes.first_process("c"), Some(me));
        notes.gone("c");
        assert_eq!(notes.first_process("c"), None, "it has another name");
        // Made by somebody else; gone; somebody else's by now; no number.
        assert_eq!(notes.first_process("d"), None);
        notes.made("stranger", "in-no-group-of-this-name");
        for pid in [me.to_string(), "4194305".to_owned(), "0".to_owned(), String::new()] {
            noted(dir.path(), "in-no-group-of-this-name", &pid);
            assert_eq!(notes.first_process("stranger"), None, "{pid:?}");
        }
        notes.made("unnoted", "none");
        assert_eq!(notes.first_process("unnoted"), None);
    }

    #[test]
    fn places_that_do_not_name_the_container_teach_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let (notes, own) = (Notes::default(), own());
        notes.made("c", &own);
        noted(dir.path(), &own, &std::process::id().to_string());
        notes.learn("", &format!("{}/x/pidfile", dir.path().display()));
        notes.learn("another", "");
        notes.learn("another", &format!("{}/{own}/pidfile", dir.path().display()));
        notes.learn("another", "another/pidfile");
        assert_eq!(notes.first_process("c"), None);
    }
}
