//! Writes records: JSON lines, a directory per sandbox, rotated by size. Each sandbox has room of its own: however much one
//! does, nobody else's records go for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::waiting::Waiting;
use super::{Record, rules};
use crate::tighten::Ages;

/// The file that is written to.
pub const CURRENT: &str = "audit.jsonl";
/// Older files kept: `audit.1.jsonl` is the newest of them.
pub const KEPT: usize = 4;
/// Where a file is closed and the next one begun.
const MOST_BYTES: u64 = 8 << 20;
/// Records that may wait to be written; some milliseconds of a busy data path.
pub(super) const WAITING: usize = 8192;
/// Pause before it is tried again to find room for something that has to wait for all before it.
const FULL: Duration = Duration::from_millis(5);
/// Records written at once.
const BATCH: usize = 512;
/// Files open at a time.
const MOST_OPEN: usize = 64;
/// How long records are kept of a sandbox of which none are written any more.
const KEPT_UNUSED: Duration = Duration::from_hours(24 * 90);
/// Where the builders of images write: each set-up has its own, of no use once it is over.
const BUILDERS: &str = "builder.";

/// The directory of a project's records below `root`.
pub fn directory(root: &Path, project: &str) -> PathBuf {
    root.join(project)
}

/// The directory of a sandbox's records below that of its project.
pub fn of_sandbox(project: &Path, sandbox: &str) -> PathBuf {
    project.join(shelf(sandbox))
}

/// The name of that directory.
fn shelf(sandbox: &str) -> &str {
    if sandbox.starts_with(BUILDERS) { BUILDERS } else { sandbox }
}

/// The directories of all sandboxes below that of their project; that there is none is fine.
pub fn of_sandboxes(project: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(project) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// The older file number `number`.
pub fn older(directory: &Path, number: usize) -> PathBuf {
    directory.join(format!("audit.{number}.jsonl"))
}

/// What is written.
enum Entry {
    Record(Box<Record>),
    /// There is something else to do.
    Wake,
    /// Whoever waits is told that all before it is written.
    Flush(oneshot::Sender<()>),
}

/// These rules are in force from then on.
struct InForce {
    project: String,
    sandbox: String,
    rules: Vec<String>,
    since: Timestamp,
}

/// What is told to the writer beside its queue, so that no number of records is in the way.
#[derive(Default)]
struct Beside {
    rules: Vec<InForce>,
    /// Of whom there is a policy, or who runs; `None` until somebody knows. Nothing of theirs is forgotten.
    known: Option<Arc<BTreeSet<Whose>>>,
}

/// Takes records, and writes them on a thread of its own.
///
/// # Guarantees
/// Taking one neither blocks nor fails: what comes faster than it can be written is counted and dropped, but for rules.
/// Dropping the last handle writes what waits.
pub struct Log {
    sender: Option<SyncSender<Entry>>,
    beside: Arc<Mutex<Beside>>,
    waiting: Arc<Waiting>,
    lost: Arc<AtomicU64>,
    writer: Option<std::thread::JoinHandle<()>>,
}

impl Log {
    /// A log below `root`.
    pub fn open(root: PathBuf) -> io::Result<Self> {
        let (mut log, receiver, writer) = Self::idle(root);
        log.writer = Some(std::thread::Builder::new().name("audit".into()).spawn(move || writer.run(&receiver))?);
        Ok(log)
    }

    /// The same, of which nobody has begun to write yet.
    fn idle(root: PathBuf) -> (Self, Receiver<Entry>, Writer) {
        let (sender, receiver) = sync_channel(WAITING);
        let writer = Writer::new(root, MOST_BYTES);
        let (beside, waiting, lost) =
            (Arc::clone(&writer.beside), Arc::clone(&writer.waiting), Arc::clone(&writer.lost));
        (Self { sender: Some(sender), beside, waiting, lost, writer: None }, receiver, writer)
    }

    /// Takes one.
    pub fn write(&self, record: Record) {
        let whose = of_record(&record);
        if self.waiting.take(&whose) {
            if self.send(Entry::Record(Box::new(record))) {
                return;
            }
            self.waiting.give_back(&whose, 1);
        }
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Says which rules are in force from `since` on.
    pub fn rules(&self, project: &str, sandbox: &str, rules: Vec<String>, since: Timestamp) {
        let (project, sandbox) = (project.to_owned(), sandbox.to_owned());
        beside(&self.beside).rules.push(InForce { project, sandbox, rules, since });
        // Where there is no room, the writer has something to do anyhow, and looks beside when it has done it.
        self.send(Entry::Wake);
    }

    /// Says of whom there is a policy, or who runs: nothing of theirs is forgotten, and what there is of others may be.
    pub fn know<'a>(&self, sandboxes: impl Iterator<Item = (&'a str, &'a str)>) {
        let known = sandboxes.map(|(project, sandbox)| (project.to_owned(), shelf(sandbox).to_owned())).collect();
        let first = beside(&self.beside).known.replace(Arc::new(known)).is_none();
        if first {
            self.send(Entry::Wake);
        }
    }

    /// Waits until everything taken before is written.
    pub async fn flush(&self) {
        let (written, wait) = oneshot::channel();
        let mut entry = Entry::Flush(written);
        let Some(sender) = &self.sender else { return };
        loop {
            match sender.try_send(entry) {
                Ok(()) => break,
                // Records wait for the disk: so does whoever wants to read them.
                Err(TrySendError::Full(unsent)) => entry = unsent,
                Err(TrySendError::Disconnected(_)) => return,
            }
            tokio::time::sleep(FULL).await;
        }
        let _ = wait.await;
    }

    fn send(&self, entry: Entry) -> bool {
        self.sender.as_ref().is_some_and(|sender| sender.try_send(entry).is_ok())
    }

    /// Records that were lost.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("waiting", &self.waiting).field("lost", &self.lost).finish_non_exhaustive()
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

/// Project, and directory in it.
pub(super) type Whose = (String, String);

fn of_record(record: &Record) -> Whose {
    (record.project.clone(), shelf(&record.sandbox).to_owned())
}

fn beside(beside: &Mutex<Beside>) -> MutexGuard<'_, Beside> {
    beside.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Writer {
    root: PathBuf,
    files: BTreeMap<Whose, Open>,
    beside: Arc<Mutex<Beside>>,
    waiting: Arc<Waiting>,
    lost: Arc<AtomicU64>,
    limit: u64,
}

struct Open {
    file: File,
    bytes: u64,
}

impl Writer {
    fn new(root: PathBuf, limit: u64) -> Self {
        let (beside, waiting, lost) = (Arc::default(), Arc::default(), Arc::default());
        Self { root, files: BTreeMap::new(), beside, waiting, lost, limit }
    }

    fn run(mut self, receiver: &Receiver<Entry>) {
        let mut tidied = false;
        // Once of each: a full disk must not fill the log as well.
        let mut complained: BTreeSet<Whose> = BTreeSet::new();
        while let Ok(first) = receiver.recv() {
            let mut batches: BTreeMap<Whose, (Vec<u8>, usize)> = BTreeMap::new();
            let mut flushes = Vec::new();
            for entry in std::iter::once(first).chain(receiver.try_iter().take(BATCH)) {
                match entry {
                    Entry::Record(record) => {
                        let (text, count) = batches.entry(of_record(&record)).or_default();
                        *count += 1;
                        // Records are plain data; writing to a vector does not fail.
                        if serde_json::to_writer(&mut *text, &record).is_ok() {
                            text.push(b'\n');
                        }
                    }
                    Entry::Wake => {}
                    Entry::Flush(written) => flushes.push(written),
                }
            }
            for (whose, (text, count)) in batches {
                let appended = self.append(&whose, &text);
                self.waiting.give_back(&whose, count);
                if let Err(error) = appended {
                    self.files.remove(&whose);
                    self.lost.fetch_add(count as u64, Ordering::Relaxed);
                    if !complained.contains(&whose) {
                        let (project, sandbox) = &whose;
                        tracing::error!(%error, project, sandbox, "records cannot be written");
                        complained.insert(whose);
                    }
                } else {
                    complained.remove(&whose);
                }
            }
            let (rules, known) = {
                let mut beside = beside(&self.beside);
                (std::mem::take(&mut beside.rules), beside.known.clone())
            };
            for rules in rules {
                self.keep(rules);
            }
            // Once it is known of whom nothing is to be forgotten.
            if let Some(known) = known
                && !tidied
            {
                tidied = true;
                forget_all_unused(&self.root, &known, SystemTime::now());
            }
            for written in flushes {
                // Whoever waited may have gone.
                let _ = written.send(());
            }
        }
    }

    fn keep(&self, rules: InForce) {
        let InForce { project, sandbox, rules, since } = rules;
        // Nobody asks which rules of a builder are of no use.
        if sandbox.starts_with(BUILDERS) {
            return;
        }
        let directory = directory(&self.root, &project);
        if let Err(error) = rules::write(&directory, &sandbox, rules, since) {
            tracing::warn!(%error, project, "the age of rules cannot be written");
        }
    }

    fn append(&mut self, whose: &Whose, text: &[u8]) -> io::Result<()> {
        let (project, sandbox) = whose;
        // Names of both are checked where they come from; a path that leads elsewhere is nobody's to write.
        let plain = |name: &str| !matches!(name, "" | "." | "..") && !name.contains('/');
        if !plain(project) || !plain(sandbox) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let project = directory(&self.root, project);
        let directory = of_sandbox(&project, sandbox);
        if self.files.get(whose).is_some_and(|open| open.bytes >= self.limit) {
            self.files.remove(whose);
            rotate(&directory)?;
        }
        if !self.files.contains_key(whose) {
            if self.files.len() == MOST_OPEN {
                self.files.clear();
            }
            if !directory.exists() {
                // None that is removed is to be written to.
                self.files.clear();
                let known = beside(&self.beside).known.clone();
                if let Some(known) = known {
                    forget_unused(&project, &known, SystemTime::now());
                }
            }
            self.files.insert(whose.clone(), Open::at(&directory)?);
        }
        if let Some(open) = self.files.get_mut(whose) {
            open.file.write_all(text)?;
            open.bytes += text.len() as u64;
        }
        Ok(())
    }
}

/// Removes records of sandboxes that there are no more, and of which none were written for long: names come and go, disks
/// do not grow. One that is silent is still there, and how old its rules are is asked all the same. Of one that never had
/// records, the ages go as long after its last rule has come.
fn forget_unused(project: &Path, known: &BTreeSet<Whose>, now: SystemTime) {
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let unused = |directory: &Path| {
        if known.contains(&(name(project), name(directory))) {
            return false;
        }
        let written = std::fs::metadata(directory.join(CURRENT)).and_then(|found| found.modified());
        written.ok().and_then(|written| now.duration_since(written).ok()).is_some_and(|age| age > KEPT_UNUSED)
    };
    let directories: Vec<PathBuf> =
        of_sandboxes(project).unwrap_or_default().into_iter().filter(|it| unused(it)).collect();
    for directory in &directories {
        if let Err(error) = std::fs::remove_dir_all(directory) {
            tracing::warn!(%error, directory = %directory.display(), "old records cannot be removed");
        }
    }
    let is_old = |since: &Timestamp| now.duration_since((*since).into()).is_ok_and(|age| age > KEPT_UNUSED);
    let gone = |sandbox: &str, ages: &Ages| {
        let directory = of_sandbox(project, sandbox);
        let unrecorded = !known.contains(&(name(project), name(&directory))) && !directory.exists();
        directories.contains(&directory) || unrecorded && ages.values().all(is_old)
    };
    if let Err(error) = rules::forget(project, gone) {
        tracing::warn!(%error, project = %project.display(), "the age of rules cannot be written");
    }
}

/// The same for all projects, of which some have gone as well.
fn forget_all_unused(root: &Path, known: &BTreeSet<Whose>, now: SystemTime) {
    for project in of_sandboxes(root).unwrap_or_default() {
        forget_unused(&project, known, now);
        // Of one without any records or rules nothing is left.
        let _ = std::fs::remove_dir(project);
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
mod tests;
