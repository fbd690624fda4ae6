//! A host of a test's own: home, remote, clone and worktrees in one temporary directory.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use reconciler::backend::BackendError;
use reconciler::facts::{Observed, Unsaved, WorktreeFacts, WorktreePlace};
use reconciler::git::{Git, GitFacts, GitOptions};
use reconciler::op::Op;
use reconciler::spec::WorktreeSpec;

pub struct Host {
    pub dir: tempfile::TempDir,
    pub program: PathBuf,
    pub env: BTreeMap<OsString, OsString>,
    pub told: Mutex<Vec<String>>,
}

/// Every git there is: the first of the path, and the distribution's.
pub fn gits() -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("git")];
    let version = |program: &Path| Command::new(program).arg("version").output().ok().map(|output| output.stdout);
    let distribution = PathBuf::from("/usr/bin/git");
    if version(&distribution).is_some_and(|other| Some(other) != version(&found[0])) {
        found.push(distribution);
    }
    found
}

impl Host {
    pub fn new(program: &Path) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let home = dir.path().join("home");
        std::fs::create_dir(&home).expect("made");
        std::fs::create_dir(dir.path().join("scratch")).expect("made");
        let identity = "[user]\n\tname = Test\n\temail = test@example.com\n[init]\n\tdefaultBranch = main\n";
        std::fs::write(home.join(".gitconfig"), identity).expect("written");
        let path = std::env::var_os("PATH").expect("a path");
        let env = BTreeMap::from([("HOME".into(), home.into_os_string()), ("PATH".into(), path)]);
        Self { dir, program: program.to_owned(), env, told: Mutex::default() }
    }

    /// With a remote that has `main`, `topic` and a tag.
    pub fn with_remote(program: &Path) -> Self {
        let host = Self::new(program);
        let work = host.path("work");
        host.run(&["init", "-q", work.to_str().expect("text")]);
        std::fs::write(work.join("README"), "one\n").expect("written");
        host.run_in(&work, &["add", "."]);
        host.run_in(&work, &["commit", "-qm", "one"]);
        host.run_in(&work, &["tag", "v1"]);
        host.run_in(&work, &["checkout", "-qb", "topic"]);
        std::fs::write(work.join("topic"), "topic\n").expect("written");
        host.run_in(&work, &["add", "."]);
        host.run_in(&work, &["commit", "-qm", "topic"]);
        host.run_in(&work, &["checkout", "-q", "main"]);
        host.run(&["clone", "-q", "--bare", work.to_str().expect("text"), host.repo().as_str()]);
        host
    }

    /// With the clone made too.
    pub async fn with_clone(program: &Path) -> Self {
        let host = Self::with_remote(program);
        host.clone_repository().await.expect("cloned");
        host
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn repo(&self) -> String {
        self.path("remote.git").to_str().expect("text").to_owned()
    }

    pub fn clone_path(&self) -> PathBuf {
        self.path("clones/api.git")
    }

    pub fn git(&self) -> Git {
        Git::new(GitOptions {
            program: self.program.clone(),
            ..GitOptions::new(self.env.clone(), self.path("scratch"))
        })
    }

    pub fn spec(&self, branch: &str) -> WorktreeSpec {
        WorktreeSpec {
            repo: self.repo(),
            clone: self.clone_path(),
            branch: branch.to_owned(),
            base: None,
            path: self.path("worktrees/api").join(branch),
        }
    }

    pub async fn perform(&self, op: Op) -> Result<(), BackendError> {
        let told = |text: &str| self.told.lock().expect("not poisoned").push(text.to_owned());
        self.git().perform(&op, &told).await.expect("one of git's")
    }

    pub async fn clone_repository(&self) -> Result<(), BackendError> {
        self.perform(Op::CloneRepository { repo: self.repo(), clone: self.clone_path() }).await
    }

    pub async fn add(&self, spec: &WorktreeSpec) -> Result<(), BackendError> {
        self.perform(Op::AddWorktree { spec: spec.clone(), holder: "acme/api".to_owned() }).await
    }

    pub async fn lock(&self, spec: &WorktreeSpec) -> Result<(), BackendError> {
        self.perform(Op::LockWorktree { spec: spec.clone(), holder: "acme/api".to_owned(), from: None }).await
    }

    pub async fn remove(&self, spec: &WorktreeSpec, force: bool) -> Result<(), BackendError> {
        // Consent to whatever is there.
        let consented = force.then(Unsaved::default);
        self.perform(Op::RemoveWorktree { spec: spec.clone(), consented }).await
    }

    pub async fn observe(&self, spec: &WorktreeSpec) -> GitFacts {
        let worktrees = BTreeMap::from([(spec.path.clone(), spec.clone.clone())]);
        self.git().observe(&BTreeSet::from([spec.clone.clone()]), &worktrees).await
    }

    pub async fn place(&self, spec: &WorktreeSpec) -> Observed<WorktreePlace> {
        self.observe(spec).await.worktrees.remove(&spec.path).expect("asked for")
    }

    pub async fn facts(&self, spec: &WorktreeSpec) -> WorktreeFacts {
        match self.place(spec).await {
            Observed::Present(WorktreePlace::Worktree(facts)) => facts,
            other => panic!("no worktree: {other:?}"),
        }
    }

    pub async fn probe(&self, spec: &WorktreeSpec) -> WorktreeFacts {
        let worktrees = BTreeMap::from([(spec.path.clone(), spec.clone.clone())]);
        match self.git().probe(&worktrees).await.remove(&spec.path).expect("asked for") {
            Observed::Present(WorktreePlace::Worktree(facts)) => facts,
            other => panic!("no worktree: {other:?}"),
        }
    }

    /// The user's own git, with all its configuration.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(&self.env).env("GIT_CONFIG_NOSYSTEM", "1");
        command
    }

    pub fn run(&self, args: &[&str]) -> String {
        self.run_in(self.dir.path(), args)
    }

    pub fn run_in(&self, directory: &Path, args: &[&str]) -> String {
        let output = self.command().current_dir(directory).args(args).output().expect("started");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {args:?} in {}: {said}", directory.display());
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// A commit on `branch` of the remote that the clone does not know.
    pub fn push_to_remote(&self, branch: &str) {
        let work = self.path("work");
        self.run_in(&work, &["checkout", "-q", "-B", branch]);
        std::fs::write(work.join("late"), branch).expect("written");
        self.run_in(&work, &["add", "."]);
        self.run_in(&work, &["commit", "-qm", "late"]);
        self.run_in(&work, &["push", "-q", &self.repo(), branch]);
    }
}
