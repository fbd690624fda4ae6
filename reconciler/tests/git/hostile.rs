//! Nothing a sandbox can write makes the host run, read or remove something.

use std::os::unix::fs::symlink;
use std::path::Path;

use reconciler::backend::ErrorKind;
use reconciler::facts::{Observed, WorktreePlace};
use reconciler::git::admin_name;

use crate::fixture::Host;

/// A program that leaves a mark.
fn trap(host: &Host) -> (String, std::path::PathBuf) {
    let mark = host.path("mark");
    (format!("touch {}; cat", mark.display()), mark)
}

#[tokio::test]
async fn no_program_is_run_that_the_tree_names() {
    let host = Host::with_remote("git".as_ref());
    let (program, mark) = trap(&host);
    // A user whose own configuration has drivers, and a tree that asks for them.
    let config = host.path("home/.gitconfig");
    let mut text = std::fs::read_to_string(&config).unwrap();
    text.push_str(&format!(
        "[filter \"x\"]\n\tclean = \"{program}\"\n\tsmudge = \"{program}\"\n[diff \"x\"]\n\ttextconv = \"{program}\"\n\tcommand = \"{program}\"\n[core]\n\tfsmonitor = \"{program}\"\n",
    ));
    let work = host.path("work");
    std::fs::write(work.join(".gitattributes"), "* filter=x diff=x\n").unwrap();
    let url = format!("[submodule \"s\"]\n\tpath = s\n\turl = ext::sh -c '{program}'\n\tupdate = !{program}\n");
    std::fs::write(work.join(".gitmodules"), url).unwrap();
    std::fs::create_dir_all(work.join("s")).unwrap();
    host.run_in(&work, &["add", "."]);
    host.run_in(&work, &["commit", "-qm", "traps"]);
    host.run_in(&work, &["push", "-q", &host.repo(), "main"]);
    std::fs::write(&config, text).unwrap();
    let spec = host.spec("main");
    host.clone_repository().await.expect("cloned");
    host.add(&spec).await.expect("added");
    // What a sandbox may write: files, its administrative directory.
    let admin = host.clone_path().join("worktrees").join(admin_name(&spec.path));
    std::fs::write(spec.path.join("README"), "changed, so that it has to be looked into\n").unwrap();
    std::fs::write(admin.join("config.worktree"), format!("[core]\n\tfsmonitor = \"{program}\"\n")).unwrap();
    std::fs::create_dir(admin.join("hooks")).unwrap();
    let nested = spec.path.join("nested");
    host.run(&["-c", "core.fsmonitor=false", "init", "-q", nested.to_str().unwrap()]);
    host.run_in(&nested, &["config", "core.fsmonitor", &program]);
    let _ = std::fs::remove_file(&mark);
    assert_eq!(host.probe(&spec).await.dirty, Some(2));
    host.lock(&spec).await.expect("locked");
    host.remove(&spec, true).await.expect("removed");
    assert!(!mark.exists());
    // The trap works: git run the ordinary way falls into it.
    host.add(&spec).await.expect("added");
    std::fs::write(spec.path.join("README"), "changed\n").unwrap();
    host.run_in(&spec.path, &["status"]);
    assert!(mark.exists());
}

#[tokio::test]
async fn a_forged_common_directory_is_not_taken() {
    let host = Host::with_clone("git".as_ref()).await;
    let (program, mark) = trap(&host);
    let spec = host.spec("topic");
    host.add(&spec).await.expect("added");
    let evil = host.path("evil.git");
    host.run(&["init", "-q", "--bare", evil.to_str().unwrap()]);
    host.run_in(&evil, &["config", "core.fsmonitor", &program]);
    let admin = host.clone_path().join("worktrees").join(admin_name(&spec.path));
    std::fs::write(admin.join("commondir"), format!("{}\n", evil.display())).unwrap();
    let facts = host.probe(&spec).await;
    assert_eq!((facts.dirty, facts.unpushed), (Some(0), Some(0)));
    // A forged `.git` file makes it another clone's, and nothing is looked at there.
    std::fs::write(spec.path.join(".git"), format!("gitdir: {}/worktrees/x\n", evil.display())).unwrap();
    assert_eq!(host.facts(&spec).await.clone, evil);
    assert_eq!(host.remove(&spec, true).await.unwrap_err().kind, ErrorKind::Conflict);
    assert!(spec.path.join("topic").exists() && !mark.exists());
}

#[tokio::test]
async fn an_administrative_directory_full_of_traps_is_only_read() {
    let host = Host::with_clone("git".as_ref()).await;
    let spec = host.spec("topic");
    host.add(&spec).await.expect("added");
    let admin = host.clone_path().join("worktrees").join(admin_name(&spec.path));
    let replace = |name: &str, with: &dyn Fn(&Path)| {
        let path = admin.join(name);
        let _ = std::fs::remove_file(&path);
        with(&path);
    };
    let fifo = |path: &Path| {
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    };
    // A reader that waits, and one that reads without end.
    replace("locked", &fifo);
    assert_eq!(host.facts(&spec).await.lock, None);
    replace("locked", &|path| symlink("/dev/zero", path).unwrap());
    host.lock(&spec).await.expect("locked anew");
    assert!(admin.join("locked").symlink_metadata().unwrap().is_file());
    replace("index", &fifo);
    let worktrees = [(spec.path.clone(), spec.clone.clone())].into();
    let probed = host.git().probe(&worktrees).await;
    assert!(matches!(probed[&spec.path], Observed::Unknown(_)), "{probed:?}");
    assert!(host.remove(&spec, false).await.is_err());
    for head in
        ["ref: refs/heads/--upload-pack=x\n", "ref: ../../x\n", "ref: refs/remotes/origin/topic\n", "--all\n", ""]
    {
        replace("HEAD", &|path| std::fs::write(path, head).unwrap());
        assert_eq!(host.facts(&spec).await.branch, None, "{head:?}");
        assert_eq!(host.lock(&spec).await.unwrap_err().kind, ErrorKind::Conflict);
    }
    assert!(spec.path.join("topic").exists());
}

#[tokio::test]
async fn links_lead_nowhere() {
    let host = Host::with_clone("git".as_ref()).await;
    let spec = host.spec("topic");
    host.add(&spec).await.expect("added");
    let outside = host.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("kept"), "").unwrap();
    symlink(&outside, spec.path.join("link")).unwrap();
    host.remove(&spec, true).await.expect("removed");
    assert!(outside.join("kept").exists());
    // A link in the place of the worktree.
    symlink(&outside, &spec.path).unwrap();
    assert_eq!(host.place(&spec).await, Observed::Present(WorktreePlace::Other("a symbolic link".to_owned())));
    assert!(host.remove(&spec, true).await.is_err() && host.add(&spec).await.is_err());
    assert!(outside.join("kept").exists());
    // A link among the references, through which a fetch would write.
    std::fs::remove_file(&spec.path).unwrap();
    symlink(&outside, host.clone_path().join("refs/heads/x")).unwrap();
    let error = host.add(&host.spec("x/new")).await.unwrap_err();
    assert!(error.message.contains("is a symbolic link"), "{error}");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
}

#[tokio::test]
async fn addresses_run_no_program_either() {
    let host = Host::new("git".as_ref());
    let (program, mark) = trap(&host);
    let address = |repo: &str| reconciler::op::Op::CloneRepository { repo: repo.to_owned(), clone: host.clone_path() };
    let error = host.perform(address(&format!("ext::sh -c '{program}'"))).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
    let upload = format!("--upload-pack={program}");
    assert!(host.perform(address(&upload)).await.is_err());
    assert!(host.perform(address("ssh://-oProxyCommand=x/y")).await.is_err());
    assert!(!mark.exists() && !host.clone_path().exists());
}
