//! Clone, add, lock, observe, remove.

use reconciler::backend::ErrorKind;
use reconciler::facts::{Observed, WorktreePlace};
use reconciler::git::admin_name;

use crate::fixture::{Host, gits};

#[tokio::test]
async fn clones_once_and_adopts() {
    for program in gits() {
        let host = Host::with_clone(&program).await;
        let facts = host.observe(&host.spec("main")).await;
        let Observed::Present(repository) = &facts.repositories[&host.clone_path()] else { panic!("{facts:?}") };
        assert!(repository.bare);
        assert_eq!(repository.remote, host.repo());
        assert_eq!(host.run(&["--git-dir", host.clone_path().to_str().unwrap(), "branch", "--list"]), "");
        let before = host.run(&["--git-dir", host.clone_path().to_str().unwrap(), "for-each-ref"]);
        assert!(before.contains("refs/remotes/origin/topic") && before.contains("refs/tags/v1"), "{before}");
        host.clone_repository().await.expect("adopted");
        // Nothing but the clone and its lock is left.
        let mut left: Vec<_> = std::fs::read_dir(host.path("clones"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, [".api.git.sbx-lock", "api.git"]);
    }
}

#[tokio::test]
async fn refuses_what_is_in_the_place_of_a_clone() {
    let host = Host::with_remote("git".as_ref());
    host.run(&["init", "-q", "--bare", host.clone_path().to_str().unwrap()]);
    let error = host.clone_repository().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert!(error.message.contains("without a remote"), "{error}");
    host.run_in(&host.clone_path(), &["remote", "add", "origin", "/srv/other"]);
    assert!(host.clone_repository().await.unwrap_err().message.contains("is a clone of /srv/other"));
    std::fs::remove_dir_all(host.clone_path()).unwrap();
    std::fs::create_dir_all(host.clone_path().join("mine")).unwrap();
    assert_eq!(host.clone_repository().await.unwrap_err().kind, ErrorKind::Conflict);
    assert!(host.clone_path().join("mine").exists());
}

#[tokio::test]
async fn finishes_what_a_kill_left() {
    let host = Host::with_remote("git".as_ref());
    let stage = host.path("clones/.api.git.sbx-clone");
    std::fs::create_dir_all(stage.join(".git/objects")).unwrap();
    host.clone_repository().await.expect("cloned");
    assert!(!stage.exists());
    let spec = host.spec("topic");
    let name = admin_name(&spec.path);
    std::fs::create_dir_all(host.path("worktrees/api/.topic.sbx-new/junk")).unwrap();
    std::fs::create_dir_all(host.clone_path().join("sbx").join(format!("new-{name}")).join("junk")).unwrap();
    host.add(&spec).await.expect("added");
    assert!(!host.path("worktrees/api/.topic.sbx-new").exists());
    // Between the two renames at the end.
    std::fs::rename(&spec.path, host.path("worktrees/api/.topic.sbx-new")).unwrap();
    assert!(matches!(host.place(&spec).await, Observed::Present(WorktreePlace::Missing(_))));
    host.add(&spec).await.expect("added again");
    assert_eq!(host.run_in(&spec.path, &["status", "--porcelain"]), "");
}

#[tokio::test]
async fn adds_existing_remote_and_new_branches() {
    for program in gits() {
        let host = Host::with_clone(&program).await;
        let topic = host.spec("topic");
        assert_eq!(host.place(&topic).await, Observed::Absent);
        host.add(&topic).await.expect("added");
        assert_eq!(std::fs::read_to_string(topic.path.join("topic")).unwrap(), "topic\n");
        assert_eq!(host.run_in(&topic.path, &["rev-parse", "--abbrev-ref", "@{upstream}"]), "origin/topic");
        let facts = host.facts(&topic).await;
        assert_eq!(facts.admin, admin_name(&topic.path));
        assert_eq!(facts.branch.as_deref(), Some("topic"));
        assert_eq!(facts.lock.as_deref(), Some("sbx acme/api"));

        host.push_to_remote("late");
        host.add(&host.spec("late")).await.expect("fetched and added");
        assert!(host.spec("late").path.join("late").exists());

        let mut new = host.spec("feature/login");
        host.add(&new).await.expect("from the default branch");
        assert_eq!(host.run_in(&new.path, &["log", "--format=%s"]), "one");
        new = host.spec("from-topic");
        new.base = Some("topic".to_owned());
        host.add(&new).await.expect("from topic");
        assert_eq!(host.run_in(&new.path, &["log", "-1", "--format=%s"]), "topic");
        new = host.spec("from-tag");
        new.base = Some("v1".to_owned());
        host.add(&new).await.expect("from a tag");

        // git agrees with all of it.
        let listed = host.run(&["--git-dir", host.clone_path().to_str().unwrap(), "worktree", "list", "--porcelain"]);
        assert_eq!(listed.matches("locked sbx acme/api").count(), 5, "{listed}");
        assert_eq!(host.run_in(&new.path, &["status", "--porcelain"]), "");
        let fsck = host.run(&["--git-dir", host.clone_path().to_str().unwrap(), "fsck"]);
        assert_eq!(fsck, "");
        // Adding again changes nothing.
        host.add(&topic).await.expect("there");
        let facts = host.observe(&topic).await;
        assert_eq!(facts.checkouts[&host.clone_path()].len(), 5);
    }
}

/// A worktree that is away for a while, on a disk that is not mounted for one, is not forgotten by a prune.
#[tokio::test]
async fn a_prune_forgets_none_that_is_away() {
    for program in gits() {
        let host = Host::with_clone(&program).await;
        let spec = host.spec("topic");
        host.add(&spec).await.expect("added");
        let clone = host.clone_path();
        let entry = clone.join("worktrees").join(admin_name(&spec.path));
        let away = host.path("away");
        std::fs::rename(&spec.path, &away).unwrap();
        host.run_in(&clone, &["worktree", "prune", "--expire=now"]);
        assert!(entry.join("HEAD").exists(), "forgotten although it is locked");
        std::fs::rename(&away, &spec.path).unwrap();
        assert_eq!(host.run_in(&spec.path, &["status", "--porcelain"]), "", "it goes on where it was");

        // It was the lock: without it the same prune takes it.
        host.run_in(&clone, &["worktree", "unlock", spec.path.to_str().unwrap()]);
        std::fs::rename(&spec.path, &away).unwrap();
        host.run_in(&clone, &["worktree", "prune", "--expire=now"]);
        assert!(!entry.exists());
    }
}

#[tokio::test]
async fn says_what_is_wrong_with_a_base() {
    let host = Host::with_clone("git".as_ref()).await;
    let mut spec = host.spec("new");
    spec.base = Some("topci".to_owned());
    let error = host.add(&spec).await.unwrap_err();
    assert_eq!((error.kind, error.help.as_deref()), (ErrorKind::NotFound, Some("the remote has: main, topic")));
    spec.base = Some("topi".to_owned());
    assert_eq!(host.add(&spec).await.unwrap_err().help.as_deref(), Some("did you mean `topic`?"));
    spec.base = Some("--all".to_owned());
    assert_eq!(host.add(&spec).await.unwrap_err().kind, ErrorKind::NotFound);
    for bad in ["--force", "a..b", "", "a\nb"] {
        let mut spec = host.spec("x");
        spec.branch = bad.to_owned();
        assert!(host.add(&spec).await.unwrap_err().message.contains("no name for a branch"), "{bad:?}");
    }
    assert!(!spec.path.exists());
}

#[tokio::test]
async fn starts_in_an_empty_repository() {
    for program in gits() {
        let host = Host::new(&program);
        host.run(&["init", "-q", "--bare", &host.repo()]);
        host.clone_repository().await.expect("cloned");
        let spec = host.spec("first");
        host.add(&spec).await.expect("added");
        assert_eq!(host.probe(&spec).await.unpushed, Some(0));
        std::fs::write(spec.path.join("file"), "").unwrap();
        host.run_in(&spec.path, &["add", "."]);
        host.run_in(&spec.path, &["commit", "-qm", "first"]);
        let facts = host.probe(&spec).await;
        assert_eq!((facts.dirty, facts.unpushed), (Some(0), Some(1)));
    }
}

#[tokio::test]
async fn a_branch_is_in_one_place_only() {
    let host = Host::with_clone("git".as_ref()).await;
    let spec = host.spec("topic");
    host.add(&spec).await.expect("added");
    let mut second = spec.clone();
    second.path = host.path("second");
    let error = host.add(&second).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert!(error.message.contains(spec.path.to_str().unwrap()), "{error}");
    let error = host.remove(&second, false).await.unwrap_err();
    assert!(error.message.contains("checked out at"), "{error}");
    // Still taken while a rebase has detached it.
    std::fs::write(spec.path.join("README"), "changed\n").unwrap();
    host.run_in(&spec.path, &["commit", "-qam", "changed"]);
    let fails =
        host.command().current_dir(&spec.path).args(["rebase", "-q", "-x", "false", "HEAD~1"]).output().unwrap();
    assert!(!fails.status.success());
    assert!(host.add(&second).await.unwrap_err().message.contains("checked out at"));
    assert_eq!(host.facts(&spec).await.branch.as_deref(), Some("topic"));
}

#[tokio::test]
async fn tells_what_is_in_the_place() {
    let host = Host::with_clone("git".as_ref()).await;
    let spec = host.spec("topic");
    std::fs::create_dir_all(&spec.path).unwrap();
    assert_eq!(host.place(&spec).await, Observed::Present(WorktreePlace::Empty));
    std::fs::write(spec.path.join("mine"), "").unwrap();
    assert!(matches!(host.place(&spec).await, Observed::Present(WorktreePlace::Other(_))));
    for result in [host.add(&spec).await, host.lock(&spec).await, host.remove(&spec, true).await] {
        assert_eq!(result.unwrap_err().kind, ErrorKind::Conflict);
    }
    assert!(spec.path.join("mine").exists());
    std::fs::remove_file(spec.path.join("mine")).unwrap();
    host.add(&spec).await.expect("into the empty directory");
    // Deleted by hand: known as such, and made again.
    std::fs::remove_dir_all(&spec.path).unwrap();
    assert!(matches!(host.place(&spec).await, Observed::Present(WorktreePlace::Missing(_))));
    host.add(&spec).await.expect("made again");
    assert!(spec.path.join("topic").exists());
    let copy = host.path("copy");
    assert!(std::process::Command::new("cp").arg("-a").args([&spec.path, &copy]).status().unwrap().success());
    let mut other = spec.clone();
    other.path = copy;
    let Observed::Present(WorktreePlace::Other(what)) = host.place(&other).await else { panic!("a copy") };
    assert!(what.starts_with("a copy of the worktree"), "{what}");
}

#[tokio::test]
async fn adopts_a_clone_and_worktree_made_by_hand() {
    for program in gits() {
        let host = Host::with_remote(&program);
        let (clone, spec) = (host.clone_path(), host.spec("topic"));
        host.run(&["clone", "-q", "--bare", &host.repo(), clone.to_str().unwrap()]);
        host.run_in(&clone, &["worktree", "add", "-q", spec.path.to_str().unwrap(), "topic"]);
        host.clone_repository().await.expect("adopted");
        let facts = host.facts(&spec).await;
        assert_eq!((facts.admin.as_str(), facts.lock), ("topic", None));
        host.add(&spec).await.expect("adopted");
        assert_eq!(host.facts(&spec).await.lock.as_deref(), Some("sbx acme/api"));
        assert_eq!(host.run_in(&spec.path, &["status", "--porcelain"]), "");
        let other = host
            .perform(reconciler::op::Op::LockWorktree { spec: spec.clone(), holder: "acme/web".to_owned(), from: None })
            .await;
        assert!(other.unwrap_err().message.contains("is held by \"acme/api\""));
        // From whom it is taken has to be right; then it is, again and again.
        let take = |from: &str| {
            let (holder, from) = ("acme/web".to_owned(), Some(from.to_owned()));
            host.perform(reconciler::op::Op::LockWorktree { spec: spec.clone(), holder, from })
        };
        assert!(take("acme/other").await.unwrap_err().message.contains("is held by \"acme/api\""));
        for _ in 0..2 {
            take("acme/api").await.expect("taken over");
            assert_eq!(host.facts(&spec).await.lock.as_deref(), Some("sbx acme/web"));
        }
        let back = ("acme/api".to_owned(), Some("acme/web".to_owned()));
        let back = reconciler::op::Op::LockWorktree { spec: spec.clone(), holder: back.0, from: back.1 };
        host.perform(back).await.expect("given back");
        // Its packed references are still all there, and git still packs.
        host.run_in(&clone, &["pack-refs", "--all", "--prune"]);
        assert!(host.run_in(&clone, &["for-each-ref"]).contains("refs/heads/topic"));
        assert!(clone.join("packed-refs").symlink_metadata().unwrap().is_symlink());
        let mut wrong = spec.clone();
        wrong.branch = "main".to_owned();
        assert!(host.lock(&wrong).await.unwrap_err().message.contains("has the branch \"topic\" checked out"));
    }
}

#[tokio::test]
async fn removes_only_what_nobody_misses() {
    for program in gits() {
        let host = Host::with_clone(&program).await;
        let spec = host.spec("topic");
        host.add(&spec).await.expect("added");
        std::fs::write(spec.path.join("new"), "").unwrap();
        std::fs::write(spec.path.join("README"), "changed\n").unwrap();
        host.run_in(&spec.path, &["commit", "-q", "--allow-empty", "-m", "local"]);
        let facts = host.probe(&spec).await;
        assert_eq!((facts.dirty, facts.unpushed), (Some(2), Some(1)));
        let error = host.remove(&spec, false).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Conflict);
        assert!(
            error.message.ends_with("has 2 changed or untracked files and 1 commit that is on no remote"),
            "{error}"
        );
        assert!(spec.path.join("new").exists());
        host.remove(&spec, true).await.expect("removed");
        assert_eq!(host.place(&spec).await, Observed::Absent);
        assert!(!host.clone_path().join("worktrees").join(admin_name(&spec.path)).exists());
        assert_eq!(std::fs::read_dir(host.path("worktrees/api")).unwrap().count(), 0);
        host.remove(&spec, false).await.expect("gone already");
        // The branch and its commit are in the clone.
        host.add(&spec).await.expect("added");
        assert_eq!(host.run_in(&spec.path, &["log", "-1", "--format=%s"]), "local");
        host.run_in(&spec.path, &["push", "-q", "origin", "topic"]);
        host.remove(&spec, false).await.expect("nothing to lose");
    }
}

#[tokio::test]
async fn ignored_files_are_a_loss_of_their_own() {
    for program in gits() {
        let host = Host::with_clone(&program).await;
        let spec = host.spec("topic");
        host.add(&spec).await.expect("added");
        std::fs::write(spec.path.join(".gitignore"), "target/\n.env\n").unwrap();
        host.run_in(&spec.path, &["add", "."]);
        host.run_in(&spec.path, &["commit", "-qm", "ignore"]);
        host.run_in(&spec.path, &["push", "-q", "origin", "topic"]);
        std::fs::write(spec.path.join(".env"), "TOKEN=x\n").unwrap();
        std::fs::create_dir_all(spec.path.join("target/debug")).unwrap();
        for n in 0..50 {
            std::fs::write(spec.path.join(format!("target/debug/{n}")), "").unwrap();
        }
        let facts = host.probe(&spec).await;
        assert_eq!((facts.dirty, facts.ignored, facts.unpushed), (Some(0), Some(2), Some(0)), "a directory is one");
        let error = host.remove(&spec, false).await.unwrap_err();
        assert!(error.message.ends_with("has 2 ignored files or directories"), "{error}");
        assert!(spec.path.join(".env").exists());
        host.remove(&spec, true).await.expect("removed");
    }
}

#[tokio::test]
async fn a_removal_takes_no_more_than_was_consented_to() {
    let host = Host::with_clone("git".as_ref()).await;
    let spec = host.spec("topic");
    host.add(&spec).await.expect("added");
    std::fs::write(spec.path.join("new"), "").unwrap();
    let consented = Some(host.probe(&spec).await.unsaved());
    let remove = || host.perform(reconciler::op::Op::RemoveWorktree { spec: spec.clone(), consented });
    // Somebody works on after the plan was made.
    std::fs::write(spec.path.join("newer"), "").unwrap();
    let error = remove().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Stale);
    assert!(error.message.ends_with("has 2 changed or untracked files, more than was consented to"), "{error}");
    assert!(spec.path.join("newer").exists());
    std::fs::remove_file(spec.path.join("newer")).unwrap();
    host.run_in(&spec.path, &["commit", "-q", "--allow-empty", "-m", "local"]);
    assert!(remove().await.unwrap_err().message.contains("1 commit that is on no remote, more than"));
    host.run_in(&spec.path, &["push", "-q", "origin", "topic"]);
    remove().await.expect("what was consented to");
    assert_eq!(host.place(&spec).await, Observed::Absent);
}

#[tokio::test]
async fn edits_of_files_that_git_was_told_not_to_look_at_are_seen() {
    for program in gits() {
        let host = Host::with_clone(&program).await;
        let spec = host.spec("topic");
        host.add(&spec).await.expect("added");
        host.run_in(&spec.path, &["update-index", "--assume-unchanged", "README"]);
        host.run_in(&spec.path, &["update-index", "--skip-worktree", "topic"]);
        assert_eq!(host.probe(&spec).await.dirty, Some(0), "the marks alone lose nothing");
        std::fs::write(spec.path.join("README"), "mine\n").unwrap();
        std::fs::write(spec.path.join("topic"), "mine\n").unwrap();
        assert_eq!(host.run_in(&spec.path, &["status", "--porcelain"]), "", "hidden from git itself");
        assert_eq!(host.probe(&spec).await.dirty, Some(2));
        let error = host.remove(&spec, false).await.unwrap_err();
        assert!(error.message.ends_with("has 2 changed or untracked files"), "{error}");
        assert!(
            host.run_in(&spec.path, &["ls-files", "-v"]).contains("h README\nS topic"),
            "its own index is as it was"
        );
        // What a sparse checkout leaves out is no loss.
        std::fs::write(spec.path.join("README"), "one\n").unwrap();
        std::fs::remove_file(spec.path.join("topic")).unwrap();
        assert_eq!(host.probe(&spec).await.dirty, Some(0));
        host.remove(&spec, false).await.expect("nothing to lose");
    }
}

#[tokio::test]
async fn leaves_what_somebody_else_locked() {
    let host = Host::with_clone("git".as_ref()).await;
    let spec = host.spec("topic");
    host.add(&spec).await.expect("added");
    host.run_in(&host.clone_path(), &["worktree", "unlock", spec.path.to_str().unwrap()]);
    assert_eq!(host.facts(&spec).await.lock, None);
    host.run_in(&host.clone_path(), &["worktree", "lock", "--reason", "on a stick", spec.path.to_str().unwrap()]);
    let error = host.remove(&spec, true).await.unwrap_err();
    assert!(error.message.contains("on a stick"), "{error}");
    host.lock(&spec).await.expect("safe from pruning all the same");
}

#[tokio::test]
async fn twenty_at_once_share_a_clone() {
    let host = Host::with_remote("git".as_ref());
    let runs = (0..20).map(|n| {
        let host = &host;
        async move {
            host.clone_repository().await?;
            host.add(&host.spec(&format!("b{n}"))).await
        }
    });
    for result in futures_util::future::join_all(runs).await {
        result.expect("added");
    }
    let spec = host.spec("b0");
    assert_eq!(host.observe(&spec).await.checkouts[&host.clone_path()].len(), 20);
}

#[tokio::test]
async fn paths_may_be_odd() {
    let host = Host::with_clone("git".as_ref()).await;
    for (n, name) in ["with space", "quo'te\"", "-dash", "ünï", "a\\b$(x)"].into_iter().enumerate() {
        let mut spec = host.spec(&format!("b{n}"));
        spec.path = host.path("odd").join(name);
        host.add(&spec).await.expect("added");
        assert_eq!(host.probe(&spec).await.dirty, Some(0), "{name}");
        host.remove(&spec, true).await.expect("removed");
    }
}

#[tokio::test]
async fn finishes_a_removal_that_a_kill_cut_short() {
    let host = Host::with_clone("git".as_ref()).await;
    let spec = host.spec("topic");
    let trash = spec.path.with_file_name(format!(".{}.sbx-removed", spec.path.file_name().unwrap().to_str().unwrap()));
    host.add(&spec).await.expect("added");
    std::fs::rename(&spec.path, &trash).unwrap();
    // While files are left, the clone still tells the next run about them.
    assert!(matches!(host.place(&spec).await, Observed::Present(WorktreePlace::Missing(_))));
    host.remove(&spec, false).await.expect("finished");
    assert!(!trash.exists());
    assert_eq!(host.place(&spec).await, Observed::Absent);
    // Commits that only the lost worktree knew are not dropped without a word.
    host.add(&spec).await.expect("added");
    host.run_in(&spec.path, &["checkout", "-q", "--detach"]);
    host.run_in(&spec.path, &["commit", "-q", "--allow-empty", "-m", "lone"]);
    std::fs::remove_dir_all(&spec.path).unwrap();
    let error = host.remove(&spec, false).await.unwrap_err();
    assert!(error.message.contains("commits that no branch has"), "{error}");
    host.remove(&spec, true).await.expect("consented");
}
