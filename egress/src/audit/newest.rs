//! Reads records back, the newest first, and no more of them than was asked for.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Record;
use super::log::{CURRENT, KEPT, older};

/// Read at once.
const BLOCK: u64 = 64 * 1024;
/// A line that is longer is none of ours.
const LONGEST: usize = 1 << 20;

/// How much is read.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Most bytes.
    pub bytes: u64,
    /// Longest time.
    pub time: Duration,
}

/// The records of a sandbox, from the newest to the oldest.
///
/// # Guarantees
/// Reads what was there when it was made: a rotation meanwhile changes nothing. Memory is bounded by a block and a line.
#[derive(Debug)]
pub struct Newest {
    /// Files, the newest first, and how much of each is still to be read.
    files: Vec<(File, u64)>,
    at: usize,
    /// What was read of the current file and not given out: whole lines, and before them a part of one.
    kept: Vec<u8>,
    since: Option<Timestamp>,
    left: u64,
    deadline: Instant,
    cut: bool,
}

impl Newest {
    /// Reads what is in `directory`, back to `since`. That there is nothing is fine.
    pub fn open(directory: &Path, since: Option<Timestamp>, budget: Budget) -> io::Result<Self> {
        let mut files: Vec<(File, u64)> = Vec::new();
        let mut known: Vec<u64> = Vec::new();
        let paths = std::iter::once(directory.join(CURRENT)).chain((1..=KEPT).map(|number| older(directory, number)));
        for path in paths {
            match File::open(&path) {
                Ok(file) => {
                    let found = file.metadata()?;
                    // Renamed between two looks.
                    if !known.contains(&found.ino()) {
                        known.push(found.ino());
                        files.push((file, found.len()));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let deadline = Instant::now() + budget.time;
        Ok(Self { files, at: 0, kept: Vec::new(), since, left: budget.bytes, deadline, cut: false })
    }

    /// Whether there is anything to read at all.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Whether older records were left out because the budget was used up.
    pub fn was_cut(&self) -> bool {
        self.cut
    }

    /// The next older record. Lines that are no records are passed over.
    pub fn read(&mut self) -> io::Result<Option<Record>> {
        while let Some(line) = self.line()? {
            let Ok(record) = serde_json::from_slice::<Record>(&line) else { continue };
            if self.since.is_some_and(|since| record.time < since) {
                // Records are written when something ends and say when it began: a long one may be out of turn.
                if self.since.is_some_and(|since| record.lasted_until() < since) {
                    return Ok(None);
                }
                continue;
            }
            return Ok(Some(record));
        }
        Ok(None)
    }

    /// The next line from the end.
    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let Some((_, left)) = self.files.get(self.at) else { return Ok(None) };
            if self.kept.last() == Some(&b'\n') {
                self.kept.pop();
            }
            if let Some(newline) = self.kept.iter().rposition(|byte| *byte == b'\n') {
                return Ok(Some(self.kept.split_off(newline + 1)));
            }
            if *left == 0 {
                self.at += 1;
                if self.kept.is_empty() {
                    continue;
                }
                return Ok(Some(std::mem::take(&mut self.kept)));
            }
            if self.left == 0 || Instant::now() > self.deadline || self.kept.len() > LONGEST {
                self.cut = true;
                self.at = self.files.len();
                return Ok(None);
            }
            self.fill()?;
        }
    }

    /// Reads the block before what is kept.
    fn fill(&mut self) -> io::Result<()> {
        let Some((file, left)) = self.files.get_mut(self.at) else { return Ok(()) };
        let size = BLOCK.min(*left).min(self.left);
        let from = *left - size;
        let mut block = vec![0; usize::try_from(size).unwrap_or_default()];
        file.read_exact_at(&mut block, from)?;
        block.append(&mut self.kept);
        self.kept = block;
        (*left, self.left) = (from, self.left - size);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    const ALL: Budget = Budget { bytes: u64::MAX, time: Duration::from_mins(1) };

    fn record(second: i64) -> String {
        let record = Record {
            time: Timestamp::from_second(second).expect("a time"),
            host: "x".repeat(usize::try_from(second).expect("a length") % 300 + 1),
            ..testing::record()
        };
        serde_json::to_string(&record).expect("plain data") + "\n"
    }

    fn seconds(newest: &mut Newest) -> Vec<i64> {
        std::iter::from_fn(|| newest.read().expect("readable")).map(|record| record.time.as_second()).collect()
    }

    fn written(dir: &Path) {
        let text = |range: std::ops::Range<i64>| range.map(record).collect::<String>();
        std::fs::write(older(dir, 2), text(0..1000)).expect("written");
        std::fs::write(older(dir, 1), text(1000..2000) + "no record\n\n").expect("written");
        // The last line is still being written.
        std::fs::write(dir.join(CURRENT), text(2000..3000) + "{\"time\":").expect("written");
    }

    #[test]
    fn the_newest_comes_first_over_all_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut nothing = Newest::open(dir.path(), None, ALL).expect("opened");
        assert!(nothing.is_empty() && seconds(&mut nothing).is_empty() && !nothing.was_cut());
        written(dir.path());
        let mut newest = Newest::open(dir.path(), None, ALL).expect("opened");
        std::fs::rename(dir.path().join(CURRENT), older(dir.path(), 3)).expect("rotated meanwhile");
        assert!(seconds(&mut newest).into_iter().eq((0..3000).rev()));
        assert!(!newest.was_cut());
    }

    #[test]
    fn no_more_is_read_than_was_asked_for() {
        let dir = tempfile::tempdir().expect("a directory");
        written(dir.path());
        let since = Timestamp::from_second(1500).expect("a time");
        let mut newest = Newest::open(dir.path(), Some(since), ALL).expect("opened");
        assert!(seconds(&mut newest).into_iter().eq((1500..3000).rev()));
        assert!(!newest.was_cut(), "all that was asked for");
        let mut newest = Newest::open(dir.path(), None, Budget { bytes: 100_000, ..ALL }).expect("opened");
        let read = seconds(&mut newest);
        assert!(newest.was_cut() && read.len() < 1000 && read[0] == 2999, "{}", read.len());
        let mut newest = Newest::open(dir.path(), None, Budget { time: Duration::ZERO, ..ALL }).expect("opened");
        assert!(seconds(&mut newest).is_empty() && newest.was_cut());
    }
}
