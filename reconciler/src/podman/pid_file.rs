//! The files in which an engine keeps the number of each container's first process.
//!
//! To ask for that number means an inspection, which takes the engine longer than the start itself. So the number is read
//! from the file. Where such files are is learned from the first inspection that had to be made. Where a file cannot be
//! read, or what it says does not fit, the engine is asked.

use std::collections::HashMap;
use std::fs;
use std::sync::{Mutex, PoisonError};

use super::kernel::Process;

/// Where the files of containers that were made here are.
#[derive(Debug, Default)]
pub(super) struct PidFiles(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Ids of containers by name.
    ids: HashMap<String, String>,
    /// What stands before and after an id in the path of such a file.
    place: Option<(String, String)>,
}

impl PidFiles {
    /// `container` was made, and has the id `id`.
    pub(super) fn made(&self, container: &str, id: &str) {
        self.known(|known| known.ids.insert(container.to_owned(), id.to_owned()));
    }

    /// Nothing of that name is what was made here any more.
    pub(super) fn gone(&self, container: &str) {
        self.known(|known| known.ids.remove(container));
    }

    /// The file of the container `id` is `path`.
    pub(super) fn learn(&self, id: &str, path: &str) {
        if let Some((before, after)) =
            path.split_once(id).filter(|(before, _)| !id.is_empty() && before.starts_with('/'))
        {
            self.known(|known| known.place = Some((before.to_owned(), after.to_owned())));
        }
    }

    /// The number of the first process of a container that was made here, when its file tells: one that the kernel
    /// has in that container's groups.
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

    /// The file of `id`, in a directory for each container.
    fn written(dir: &Path, id: &str, pid: &str) -> String {
        let file = dir.join(id).join("pidfile");
        fs::create_dir_all(file.parent().expect("a directory")).expect("made");
        fs::write(&file, pid).expect("written");
        file.to_string_lossy().into_owned()
    }

    #[test]
    fn what_a_file_says_counts_if_it_is_a_process_of_the_container() {
        let dir = tempfile::tempdir().expect("a directory");
        let (files, own, me) = (PidFiles::default(), own(), std::process::id());
        files.made("c", &own);
        written(dir.path(), &own, &format!("{me}\n"));
        assert_eq!(files.first_process("c"), None, "nobody knows where");
        files.learn("another", &written(dir.path(), "another", "1"));
        assert_eq!(files.first_process("c"), Some(me));
        files.gone("c");
        assert_eq!(files.first_process("c"), None, "it has another name");
        // Made by somebody else; gone; somebody else's by now; no number.
        assert_eq!(files.first_process("d"), None);
        files.made("stranger", "in-no-group-of-this-name");
        for pid in [me.to_string(), "4194305".to_owned(), "0".to_owned(), String::new()] {
            written(dir.path(), "in-no-group-of-this-name", &pid);
            assert_eq!(files.first_process("stranger"), None, "{pid:?}");
        }
        files.made("unwritten", "none");
        assert_eq!(files.first_process("unwritten"), None);
    }

    #[test]
    fn places_that_do_not_name_the_container_teach_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let (files, own) = (PidFiles::default(), own());
        files.made("c", &own);
        written(dir.path(), &own, &std::process::id().to_string());
        files.learn("", &format!("{}/x/pidfile", dir.path().display()));
        files.learn("another", "");
        files.learn("another", &format!("{}/{own}/pidfile", dir.path().display()));
        files.learn("another", "another/pidfile");
        assert_eq!(files.first_process("c"), None);
    }
}
