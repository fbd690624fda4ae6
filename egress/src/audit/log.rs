//! Writes records: JSON lines, one file per project, rotated by size.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::{Record, rules};

/// The file that is written to.
pub const CURRENT: &str = "audit.jsonl";
/// Older files kept: `audit.1.jsonl` is the newest of them.
pub const KEPT: usize = 4;
/// Where a file is closed and the next one begun.
const MOST_BYTES: u64 = 8 << 20;
/// Records that may wait to be written; some milliseconds of a busy data path.
const WAITING: usize = 8192;
/// Records written at once.
const BATCH: usize = 512;

/// The directory of a project's records below `root`.
pub fn directory(root: &Path, project: &str) -> PathBuf {
    root.join(project)
}

/// The older file number `number`.
pub fn older(directory: &Path, number: usize) -> PathBuf {
    directory.join(format!("audit.{number}.jsonl"))
}

/// What is written.
enum Entry {
    Record(Box<Record>),
    /// These rules are in force from then on.
    Rules {
        project: String,
        sandbox: String,
        rules: Vec<String>,
        since: Timestamp,
    },
    /// Whoever waits is told that all before it is written.
    Flush(oneshot::Sender<()>),
}

/// Takes records, and writes them on a thread of its own.
///
/// # Guarantees
/// Taking one neither blocks nor fails: what comes faster than it can be written is counted and dropped. Dropping the
/// last handle writes what waits.
#[derive(Debug)]
pub struct Log {
    sender: Option<SyncSender<Entry>>,
    lost: Arc<AtomicU64>,
    writer: Option<std::thread::JoinHandle<()>>,
}

impl Log {
    /// A log below `root`.
    pub fn open(root: PathBuf) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        let writer = std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || Writer { root, files: BTreeMap::new(), lost: counted, limit: MOST_BYTES }.run(&receiver))?;
        Ok(Self { sender: Some(sender), lost, writer: Some(writer) })
    }

    /// Takes one.
    pub fn write(&self, record: Record) {
        if !self.send(Entry::Record(Box::new(record))) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says which rules are in force from `since` on.
    pub fn rules(&self, project: &str, sandbox: &str, rules: Vec<String>, since: Timestamp) {
        let (project, sandbox) = (project.to_owned(), sandbox.to_owned());
        // Left out, it makes rules younger than they are: nothing is said of them for longer.
        self.send(Entry::Rules { project, sandbox, rules, since });
    }

    /// Waits until everything taken before is written.
    pub async fn flush(&self) {
        let (written, wait) = oneshot::channel();
        if self.send(Entry::Flush(written)) {
            let _ = wait.await;
        }
    }

    fn send(&self, entry: Entry) -> bool {
        self.sender.as_ref().is_some_and(|sender| sender.try_send(entry).is_ok())
    }

    /// Records that were lost.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        drop(self.sender.take());
        if let Some(writer) = self.writer.take() {
            // A panic there has been reported.
            let _ = writer.join();
        }
    }
}

struct Writer {
    root: PathBuf,
    files: BTreeMap<String, Open>,
    lost: Arc<AtomicU64>,
    limit: u64,
}

struct Open {
    file: File,
    bytes: u64,
}

impl Writer {
    fn run(mut self, receiver: &Receiver<Entry>) {
        let mut complained = false;
        while let Ok(first) = receiver.recv() {
            let mut batches: BTreeMap<String, (Vec<u8>, u64)> = BTreeMap::new();
            let mut waiting = Vec::new();
            for entry in std::iter::once(first).chain(receiver.try_iter().take(BATCH)) {
                match entry {
                    Entry::Record(record) => {
                        let (text, count) = batches.entry(record.project.clone()).or_default();
                        // Records are plain data; writing to a vector does not fail.
                        if serde_json::to_writer(&mut *text, &record).is_ok() {
                            text.push(b'\n');
                            *count += 1;
                        }
                    }
                    Entry::Rules { project, sandbox, rules, since } => {
                        let directory = directory(&self.root, &project);
                        if let Err(error) = rules::write(&directory, &sandbox, rules, since) {
                            tracing::warn!(%error, project, "the age of rules cannot be written");
                        }
                    }
                    Entry::Flush(written) => waiting.push(written),
                }
            }
            for (project, (text, count)) in batches {
                if let Err(error) = self.append(&project, &text) {
                    self.files.remove(&project);
                    self.lost.fetch_add(count, Ordering::Relaxed);
                    // Once: a full disk must not fill the log as well.
                    if !complained {
                        tracing::error!(%error, project, "records cannot be written");
                    }
                    complained = true;
                } else {
                    complained = false;
                }
            }
            for written in waiting {
                // Whoever waited may have gone.
                let _ = written.send(());
            }
        }
    }

    fn append(&mut self, project: &str, text: &[u8]) -> io::Result<()> {
        let directory = directory(&self.root, project);
        if self.files.get(project).is_some_and(|open| open.bytes >= self.limit) {
            self.files.remove(project);
            rotate(&directory)?;
        }
        let open = match self.files.entry(project.to_owned()) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Open::at(&directory)?),
        };
        open.file.write_all(text)?;
        open.bytes += text.len() as u64;
        Ok(())
    }
}

impl Open {
    fn at(directory: &Path) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let path = directory.join(CURRENT);
        let file = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { file, bytes })
    }
}

/// Makes room for a new current file.
fn rotate(directory: &Path) -> io::Result<()> {
    let missing_is_fine = |result: io::Result<()>| match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    for number in (1..KEPT).rev() {
        missing_is_fine(std::fs::rename(older(directory, number), older(directory, number + 1)))?;
    }
    missing_is_fine(std::fs::rename(directory.join(CURRENT), older(directory, 1)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::audit::Spoken;

    pub(super) fn record(project: &str, host: &str) -> Record {
        Record {
            time: jiff::Timestamp::UNIX_EPOCH,
            project: project.into(),
            sandbox: "api".into(),
            generation: 1,
            protocol: Spoken::Tls,
            host: host.into(),
            port: 443,
            method: None,
            path: None,
            allowed: false,
            because: Some("no-rule".into()),
            rule: None,
            sent: 0,
            received: 0,
            duration_ms: 0,
        }
    }

    #[test]
    fn what_was_taken_is_written_for_its_owner_alone() {
        let root = tempfile::tempdir().expect("a directory");
        let log = Log::open(root.path().join("egress")).expect("opened");
        for index in 0..3 {
            log.write(record("acme", &format!("host-{index}")));
        }
        log.write(record("other", "elsewhere"));
        drop(log);
        let directory = directory(&root.path().join("egress"), "acme");
        let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&directory.join(CURRENT))), (0o700, 0o600));
        let text = std::fs::read_to_string(directory.join(CURRENT)).expect("there");
        let hosts: Vec<String> =
            text.lines().map(|line| serde_json::from_str::<Record>(line).expect("a record").host).collect();
        assert_eq!(hosts, ["host-0", "host-1", "host-2"]);
    }

    #[test]
    fn files_are_rotated_and_the_oldest_goes() {
        let root = tempfile::tempdir().expect("a directory");
        let (sender, receiver) = sync_channel(1);
        let limit = 100;
        let mut writer = Writer { root: root.path().into(), files: BTreeMap::new(), lost: Arc::default(), limit };
        drop((sender as SyncSender<Entry>, receiver));
        for index in 0..20 {
            let text = format!("{index:099}\n");
            writer.append("acme", text.as_bytes()).expect("written");
        }
        let directory = directory(root.path(), "acme");
        let first =
            |path: PathBuf| std::fs::read_to_string(path).expect("there").trim_start_matches('0').trim().to_owned();
        assert_eq!(first(directory.join(CURRENT)), "19");
        assert_eq!(first(older(&directory, 1)), "18");
        assert_eq!(first(older(&directory, KEPT)), "15");
        assert_eq!(std::fs::read_dir(&directory).expect("there").count(), KEPT + 1);
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let root = tempfile::NamedTempFile::new().expect("a file where the directory should be");
        let log = Log::open(root.path().into()).expect("opened");
        let lost = Arc::clone(&log.lost);
        log.write(record("acme", "host"));
        drop(log);
        assert_eq!(lost.load(Ordering::Relaxed), 1);
    }
}
