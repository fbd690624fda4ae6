//! Writes records: JSON lines, a directory per sandbox, rotated by size. Each sandbox has room of its own: however much one
//! does, nobody else's records go for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::waiting::Waiting;
use super::{Record, rules};

/// The file that is written to.
pub const CURRENT: &str = "audit.jsonl";
/// Older files kept: `audit.1.jsonl` is the newest of them.
pub const KEPT: usize = 4;
/// Where a file is closed and the next one begun.
const MOST_BYTES: u64 = 8 << 20;
/// Records that may wait to be written; some milliseconds of a busy data path.
pub(super) const WAITING: usize = 8192;
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
    waiting: Arc<Waiting>,
    lost: Arc<AtomicU64>,
    writer: Option<std::thread::JoinHandle<()>>,
}

impl Log {
    /// A log below `root`.
    pub fn open(root: PathBuf) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(WAITING);
        let (waiting, lost) = (Arc::new(Waiting::default()), Arc::new(AtomicU64::new(0)));
        let (written, counted) = (Arc::clone(&waiting), Arc::clone(&lost));
        let writer = std::thread::Builder::new().name("audit".into()).spawn(move || {
            forget_all_unused(&root, SystemTime::now());
            Writer { root, files: BTreeMap::new(), waiting: written, lost: counted, limit: MOST_BYTES }.run(&receiver);
        })?;
        Ok(Self { sender: Some(sender), waiting, lost, writer: Some(writer) })
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

/// Project, and directory in it.
pub(super) type Whose = (String, String);

fn of_record(record: &Record) -> Whose {
    (record.project.clone(), shelf(&record.sandbox).to_owned())
}

struct Writer {
    root: PathBuf,
    files: BTreeMap<Whose, Open>,
    waiting: Arc<Waiting>,
    lost: Arc<AtomicU64>,
    limit: u64,
}

struct Open {
    file: File,
    bytes: u64,
}

impl Writer {
    fn run(mut self, receiver: &Receiver<Entry>) {
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
                    // Nobody asks which rules of a builder are of no use.
                    Entry::Rules { sandbox, .. } if sandbox.starts_with(BUILDERS) => {}
                    Entry::Rules { project, sandbox, rules, since } => {
                        let directory = directory(&self.root, &project);
                        if let Err(error) = rules::write(&directory, &sandbox, rules, since) {
                            tracing::warn!(%error, project, "the age of rules cannot be written");
                        }
                    }
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
            for written in flushes {
                // Whoever waited may have gone.
                let _ = written.send(());
            }
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
                forget_unused(&project, SystemTime::now());
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

/// Removes records of sandboxes of which none were written for long: names come and go, disks do not grow.
fn forget_unused(project: &Path, now: SystemTime) {
    let unused = |directory: &Path| {
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
    let gone = directories.iter().filter_map(|directory| directory.file_name()?.to_str());
    if let Err(error) = rules::forget(project, gone) {
        tracing::warn!(%error, project = %project.display(), "the age of rules cannot be written");
    }
}

/// The same for all projects, of which some have gone as well.
fn forget_all_unused(root: &Path, now: SystemTime) {
    for project in of_sandboxes(root).unwrap_or_default() {
        forget_unused(&project, now);
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
        let directory = of_sandbox(&directory(&root.path().join("egress"), "acme"), "api");
        let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&directory.join(CURRENT))), (0o700, 0o600));
        let text = std::fs::read_to_string(directory.join(CURRENT)).expect("there");
        let hosts: Vec<String> =
            text.lines().map(|line| serde_json::from_str::<Record>(line).expect("a record").host).collect();
        assert_eq!(hosts, ["host-0", "host-1", "host-2"]);
    }

    fn writer(root: &Path, limit: u64) -> Writer {
        Writer { root: root.into(), files: BTreeMap::new(), waiting: Arc::default(), lost: Arc::default(), limit }
    }

    fn whose(sandbox: &str) -> Whose {
        ("acme".into(), shelf(sandbox).into())
    }

    #[test]
    fn files_are_rotated_and_the_oldest_goes_but_no_other_sandboxes() {
        let root = tempfile::tempdir().expect("a directory");
        let mut writer = writer(root.path(), 100);
        writer.append(&whose("web"), b"what another did\n").expect("written");
        for index in 0..20 {
            let text = format!("{index:099}\n");
            writer.append(&whose("api"), text.as_bytes()).expect("written");
        }
        let project = directory(root.path(), "acme");
        let directory = of_sandbox(&project, "api");
        let first =
            |path: PathBuf| std::fs::read_to_string(path).expect("there").trim_start_matches('0').trim().to_owned();
        assert_eq!(first(directory.join(CURRENT)), "19");
        assert_eq!(first(older(&directory, 1)), "18");
        assert_eq!(first(older(&directory, KEPT)), "15");
        assert_eq!(std::fs::read_dir(&directory).expect("there").count(), KEPT + 1);
        assert_eq!(first(of_sandbox(&project, "web").join(CURRENT)), "what another did");
    }

    #[test]
    fn no_more_files_are_open_than_may_be_and_names_stay_below_their_project() {
        let root = tempfile::tempdir().expect("a directory");
        let mut writer = writer(root.path(), 100);
        for index in 0..=2 * MOST_OPEN {
            writer.append(&whose(&format!("s{index}")), b"x\n").expect("written");
            assert!(writer.files.len() <= MOST_OPEN);
        }
        for hash in ["01", "02"] {
            writer.append(&whose(&format!("builder.{hash}")), b"x\n").expect("written");
        }
        let project = directory(root.path(), "acme");
        assert_eq!(of_sandboxes(&project).expect("readable").len(), 2 * MOST_OPEN + 2);
        for elsewhere in ["..", ".", "", "a/../../b"] {
            writer.append(&whose(elsewhere), b"x\n").expect_err(elsewhere);
        }
        writer.append(&("..".into(), "api".into()), b"x\n").expect_err("another's directory");
        assert_eq!(std::fs::read_dir(root.path()).expect("there").count(), 1);
    }

    #[test]
    fn what_nobody_writes_any_more_goes_when_somebody_else_begins() {
        let root = tempfile::tempdir().expect("a directory");
        let mut writer = writer(root.path(), 100);
        writer.append(&whose("old"), b"x\n").expect("written");
        writer.append(&whose("recent"), b"x\n").expect("written");
        let project = directory(root.path(), "acme");
        let aged = |sandbox: &str, days: u64| {
            let file = File::options().append(true).open(of_sandbox(&project, sandbox).join(CURRENT)).expect("there");
            file.set_modified(SystemTime::now() - Duration::from_hours(24 * days)).expect("a file of ours");
        };
        aged("old", 91);
        aged("recent", 89);
        for sandbox in ["old", "recent"] {
            rules::write(&project, sandbox, vec!["example.org".into()], Timestamp::now()).expect("written");
        }
        writer.append(&whose("new"), b"x\n").expect("written");
        let left = of_sandboxes(&project).expect("readable");
        assert_eq!(left, [of_sandbox(&project, "new"), of_sandbox(&project, "recent")]);
        assert_eq!(rules::read(&project).into_keys().collect::<Vec<_>>(), ["recent"]);
        // Its file was open all the while: what comes now is not written to one that is gone.
        writer.append(&whose("old"), b"again\n").expect("written");
        assert_eq!(std::fs::read(of_sandbox(&project, "old").join(CURRENT)).expect("there"), b"again\n");
    }

    #[test]
    fn of_projects_that_are_gone_nothing_is_left_in_the_end() {
        let root = tempfile::tempdir().expect("a directory");
        let project = directory(root.path(), "acme");
        writer(root.path(), 100).append(&whose("api"), b"x\n").expect("written");
        rules::write(&project, "api", vec!["example.org".into()], Timestamp::now()).expect("written");
        let after = |days: u64| forget_all_unused(root.path(), SystemTime::now() + Duration::from_hours(24 * days));
        after(89);
        assert!(of_sandbox(&project, "api").join(CURRENT).exists());
        after(91);
        assert!(!project.exists());
    }

    #[test]
    fn builders_come_and_go_without_a_word_about_their_rules() {
        let root = tempfile::tempdir().expect("a directory");
        let log = Log::open(root.path().into()).expect("opened");
        for sandbox in ["builder.01", "builder.02", "api"] {
            log.rules("acme", sandbox, vec!["example.org".into()], Timestamp::now());
        }
        drop(log);
        assert_eq!(rules::read(&directory(root.path(), "acme")).into_keys().collect::<Vec<_>>(), ["api"]);
    }

    #[test]
    fn what_is_written_gives_its_room_back() {
        let root = tempfile::tempdir().expect("a directory");
        let log = Log::open(root.path().into()).expect("opened");
        for index in 0..100 {
            log.write(record("acme", &format!("host-{index}")));
        }
        let waiting = Arc::clone(&log.waiting);
        drop(log);
        assert!(waiting.is_empty());
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
