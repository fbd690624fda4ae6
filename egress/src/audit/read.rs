//! Reads records back, the oldest first, and follows the files as they grow and are rotated.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::Record;
use super::log::{CURRENT, KEPT, of_sandbox, of_sandboxes, older};

/// Reads the records of a project, of all its sandboxes or of one.
#[derive(Debug)]
pub struct Records {
    project: PathBuf,
    sandbox: Option<String>,
    /// A reader for each sandbox, and the record of it that is next.
    readers: BTreeMap<PathBuf, (Reader, Option<Record>)>,
}

impl Records {
    /// Reads what is in `project`, of `sandbox` if one is named; that there is none yet is fine.
    pub fn new(project: PathBuf, sandbox: Option<&str>) -> Self {
        Self { project, sandbox: sandbox.map(str::to_owned), readers: BTreeMap::new() }
    }

    /// The next record: the oldest of those that are next of their sandboxes; `None` when there is none yet.
    pub fn read(&mut self) -> io::Result<Option<Record>> {
        if self.readers.values().all(|(_, next)| next.is_none()) {
            // Sandboxes that are recorded for the first time.
            let directories = match &self.sandbox {
                Some(sandbox) => vec![of_sandbox(&self.project, sandbox)],
                None => of_sandboxes(&self.project)?,
            };
            for directory in directories {
                self.readers.entry(directory.clone()).or_insert_with(|| (Reader::new(directory), None));
            }
            for (reader, next) in self.readers.values_mut() {
                *next = reader.read()?;
            }
        }
        let next = self.readers.values_mut().filter(|(_, next)| next.is_some());
        let Some((reader, next)) = next.min_by_key(|(_, next)| next.as_ref().map(|record| record.time)) else {
            return Ok(None);
        };
        Ok(std::mem::replace(next, reader.read()?))
    }
}

/// Reads the records of a sandbox.
#[derive(Debug)]
struct Reader {
    directory: PathBuf,
    /// The file being read, and which one it is.
    current: Option<(BufReader<File>, u64)>,
    /// Older files that are still to be read, the next one last.
    waiting: Vec<PathBuf>,
    /// Begin of a line whose rest is not written yet.
    partial: Vec<u8>,
}

impl Reader {
    /// Reads what is in `directory`; that there is none yet is fine.
    fn new(directory: PathBuf) -> Self {
        let waiting = (1..=KEPT).map(|number| older(&directory, number)).filter(|path| path.exists()).collect();
        Self { directory, current: None, waiting, partial: Vec::new() }
    }

    /// The next record; `None` when there is none yet. Lines that are no records are passed over: a crash can leave one.
    fn read(&mut self) -> io::Result<Option<Record>> {
        loop {
            if self.current.is_none() && !self.open_next()? {
                return Ok(None);
            }
            let Some((file, inode)) = &mut self.current else { return Ok(None) };
            if file.read_until(b'\n', &mut self.partial)? > 0 && self.partial.last() == Some(&b'\n') {
                let record = serde_json::from_slice(&self.partial).ok();
                self.partial.clear();
                if record.is_some() {
                    return Ok(record);
                }
                continue;
            }
            // The end for now. When this is not the file that is written to any more, go on with the next.
            if !self.waiting.is_empty() || !is(&self.directory.join(CURRENT), *inode) {
                // What was rotated away between two looks is read as a whole.
                if file.read_until(b'\n', &mut self.partial)? > 0 {
                    continue;
                }
                self.partial.clear();
                self.current = None;
                continue;
            }
            return Ok(None);
        }
    }

    fn open_next(&mut self) -> io::Result<bool> {
        let path = self.waiting.pop().unwrap_or_else(|| self.directory.join(CURRENT));
        match File::open(&path) {
            Ok(file) => {
                let inode = file.metadata()?.ino();
                self.current = Some((BufReader::new(file), inode));
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(!self.waiting.is_empty()),
            Err(error) => Err(error),
        }
    }
}

fn is(path: &Path, inode: u64) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.ino() == inode)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::testing;

    fn record(host: &str) -> String {
        let record = Record { host: host.into(), ..testing::record() };
        serde_json::to_string(&record).expect("plain data") + "\n"
    }

    fn rest(reader: &mut Reader) -> Vec<String> {
        std::iter::from_fn(|| reader.read().expect("readable")).map(|record| record.host).collect()
    }

    #[test]
    fn sandboxes_are_read_in_the_order_of_time_and_new_ones_are_found() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |second: i64, host: &str| {
            let mut record: Record = serde_json::from_str(&record(host)).expect("a record");
            record.time = jiff::Timestamp::from_second(second).expect("a time");
            serde_json::to_string(&record).expect("plain data") + "\n"
        };
        let write = |sandbox: &str, text: String| {
            let directory = of_sandbox(dir.path(), sandbox);
            std::fs::create_dir_all(&directory).expect("made");
            let path = directory.join(CURRENT);
            let mut file = File::options().append(true).create(true).open(path).expect("there");
            file.write_all(text.as_bytes()).expect("written");
        };
        let rest = |records: &mut Records| -> Vec<String> {
            std::iter::from_fn(|| records.read().expect("readable")).map(|record| record.host).collect()
        };
        let mut all = Records::new(dir.path().into(), None);
        let mut one = Records::new(dir.path().into(), Some("web"));
        assert!(rest(&mut all).is_empty() && rest(&mut one).is_empty(), "nothing there yet");
        std::fs::write(dir.path().join("rules.json"), "{}").expect("what else is there");
        write("api", at(1, "one") + &at(4, "four"));
        write("web", at(2, "two") + &at(3, "three"));
        assert_eq!(rest(&mut all), ["one", "two", "three", "four"]);
        assert_eq!(rest(&mut one), ["two", "three"]);
        write("late", at(5, "five"));
        write("web", at(6, "six"));
        assert_eq!(rest(&mut all), ["five", "six"]);
        assert_eq!(rest(&mut one), ["six"]);
    }

    #[test]
    fn the_oldest_comes_first_and_growth_is_followed_through_rotation() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut early = Reader::new(dir.path().into());
        assert!(rest(&mut early).is_empty(), "nothing there yet");
        std::fs::write(older(dir.path(), 2), record("one")).expect("written");
        std::fs::write(older(dir.path(), 1), record("two") + "no record\n").expect("written");
        let current = dir.path().join(CURRENT);
        std::fs::write(&current, record("three")).expect("written");
        let mut reader = Reader::new(dir.path().into());
        assert_eq!(rest(&mut reader), ["one", "two", "three"]);
        assert_eq!(rest(&mut early), ["three"], "begun before there were older ones");

        let text = record("four");
        let (begin, end) = text.split_at(9);
        let mut file = File::options().append(true).open(&current).expect("there");
        file.write_all(begin.as_bytes()).expect("written");
        assert!(rest(&mut reader).is_empty(), "half a line");
        file.write_all(end.as_bytes()).expect("written");
        assert_eq!(rest(&mut reader), ["four"]);
        file.write_all(record("five").as_bytes()).expect("written");
        std::fs::rename(&current, older(dir.path(), 1)).expect("rotated");
        std::fs::write(&current, record("six")).expect("written");
        assert_eq!(rest(&mut reader), ["five", "six"]);
    }
}
