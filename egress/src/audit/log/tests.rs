use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::testing;

fn record(project: &str, host: &str) -> Record {
    Record { project: project.into(), host: host.into(), allowed: false, ..testing::record() }
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
    let writer = Writer::new(root.into(), limit);
    beside(&writer.beside).known = Some(Arc::default());
    writer
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
    let first = |path: PathBuf| std::fs::read_to_string(path).expect("there").trim_start_matches('0').trim().to_owned();
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
    let after = |days: u64| {
        forget_all_unused(root.path(), &BTreeSet::new(), SystemTime::now() + Duration::from_hours(24 * days));
    };
    after(89);
    assert!(of_sandbox(&project, "api").join(CURRENT).exists());
    after(91);
    assert!(!project.exists());
}

#[test]
fn ages_of_rules_of_whoever_never_had_records_go_too() {
    let root = tempfile::tempdir().expect("a directory");
    let project = directory(root.path(), "acme");
    for sandbox in ["there", "gone"] {
        rules::write(&project, sandbox, vec!["example.org".into()], Timestamp::now()).expect("written");
    }
    let after = |days: u64, known: &[Whose]| {
        let known = known.iter().cloned().collect();
        forget_all_unused(root.path(), &known, SystemTime::now() + Duration::from_hours(24 * days));
        rules::read(&project).into_keys().collect::<Vec<_>>()
    };
    assert_eq!(after(89, &[]), ["gone", "there"]);
    assert_eq!(after(91, &[whose("there")]), ["there"]);
    assert!(after(91, &[]).is_empty());
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

/// Of this project, and last written so many days ago.
fn aged(project: &Path, sandbox: &str, days: u64) {
    let directory = of_sandbox(project, sandbox);
    let file = Open::at(&directory).expect("made").file;
    file.set_modified(SystemTime::now() - Duration::from_hours(24 * days)).expect("a file of ours");
    rules::write(project, sandbox, vec!["example.org".into()], Timestamp::now()).expect("written");
}

#[test]
fn nobody_who_is_there_is_forgotten_for_being_silent() {
    let root = tempfile::tempdir().expect("a directory");
    let project = directory(root.path(), "acme");
    for sandbox in ["silent", "gone"] {
        aged(&project, sandbox, 91);
    }
    let left = || rules::read(&project).into_keys().collect::<Vec<_>>();
    // Somebody begins to write before anybody knows who is there.
    let log = Log::open(root.path().into()).expect("opened");
    log.write(record("acme", "host"));
    drop(log);
    assert!(of_sandbox(&project, "api").exists());
    assert_eq!(left(), ["gone", "silent"]);
    let log = Log::open(root.path().into()).expect("opened");
    log.know([("acme", "silent"), ("acme", "api")].into_iter());
    drop(log);
    assert_eq!(left(), ["silent"]);
    assert!(of_sandbox(&project, "silent").join(CURRENT).exists() && !of_sandbox(&project, "gone").exists());
    // The same when a sibling begins to write later.
    aged(&project, "gone", 91);
    let log = Log::open(root.path().into()).expect("opened");
    beside(&log.beside).known = Some(Arc::new([("acme".into(), "silent".into())].into()));
    log.write(Record { sandbox: "another".into(), ..record("acme", "host") });
    drop(log);
    assert_eq!(left(), ["silent"]);
}

#[tokio::test]
async fn what_waits_for_the_disk_delays_whoever_wants_to_read_it_and_loses_no_rules() {
    const SANDBOXES: usize = 8;
    let root = tempfile::tempdir().expect("a directory");
    let (log, receiver, writer) = Log::idle(root.path().into());
    let name = |index: usize| format!("s{}", index % SANDBOXES);
    for index in 0..WAITING {
        log.write(Record { sandbox: name(index), ..record("acme", "host") });
    }
    assert_eq!(log.lost(), 0);
    log.write(record("acme", "one too many"));
    assert_eq!(log.lost(), 1, "there is no room");
    log.rules("acme", "api", vec!["example.org".into()], Timestamp::now());
    let mut flush = Box::pin(log.flush());
    assert!(tokio::time::timeout(4 * FULL, &mut flush).await.is_err(), "nobody has written anything yet");
    let writing = std::thread::spawn(move || writer.run(&receiver));
    flush.await;
    let project = directory(root.path(), "acme");
    let lines = |index: usize| {
        let text = std::fs::read_to_string(of_sandbox(&project, &name(index)).join(CURRENT)).expect("there");
        text.lines().count()
    };
    assert_eq!((0..SANDBOXES).map(lines).sum::<usize>(), WAITING);
    assert_eq!(rules::read(&project).into_keys().collect::<Vec<_>>(), ["api"]);
    drop(log);
    writing.join().expect("no panic");
}
