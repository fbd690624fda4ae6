//! git inside the mounts a sandbox gets, and git on the host, on the same worktree.
//!
//! The mounts are real ones, in a mount namespace of the test's own, over a copy of the host's tree of mounts.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use reconciler::git::{admin_name, mounts};
use reconciler::spec::{MountOrigin, WorktreeSpec};

use crate::fixture::{Host, gits};

impl Host {
    /// Runs a shell script in `spec.path`, inside.
    fn inside(&self, spec: &WorktreeSpec, script: &str) -> Output {
        let quote = |path: &Path| format!("'{}'", path.to_str().unwrap().replace('\'', "'\\''"));
        let root = self.path("root");
        std::fs::create_dir_all(&root).unwrap();
        let mut setup = format!("set -e\nmount --make-rprivate /\nmount --rbind / {}\n", quote(&root));
        for mount in mounts(&[(spec, &admin_name(&spec.path))]) {
            let MountOrigin::Bind { source } = &mount.source else { panic!("{mount:?}") };
            let target = quote(&root.join(mount.target.strip_prefix("/").unwrap()));
            writeln!(setup, "mount --bind {} {target}", quote(source)).unwrap();
            if mount.read_only {
                writeln!(setup, "mount -o remount,bind,ro {target}").unwrap();
            }
        }
        let script =
            format!("cd {}\ngit() {{ command {} \"$@\"; }}\n{script}", quote(&spec.path), quote(&self.program));
        writeln!(setup, "exec chroot {} /bin/sh -c \"$1\"", quote(&root)).unwrap();
        let mut command = Command::new("unshare");
        if rustix::process::geteuid().is_root() {
            command.arg("--mount");
        } else {
            command.args(["--user", "--map-root-user", "--mount"]);
        }
        command.env_clear().envs(&self.env).args(["/bin/sh", "-c", &setup, "sh", &script]).output().unwrap()
    }

    fn works_inside(&self, spec: &WorktreeSpec, script: &str) -> String {
        let output = self.inside(spec, &format!("set -e\n{script}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {script}\n{said}", self.program.display());
        // Deleting a branch also clears what the configuration says of it; that it cannot is said, and harmless.
        let mut complaints = said.lines().filter(|line| !line.contains("could not lock config file"));
        assert!(!complaints.any(|line| line.contains("Read-only") || line.contains("error:")), "{script}\n{said}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn fails_inside(&self, spec: &WorktreeSpec, script: &str) {
        let output = self.inside(spec, script);
        assert!(!output.status.success(), "should have failed: {script}");
    }
}

#[tokio::test]
async fn both_sides_work_on_the_same_tree() {
    for program in gits() {
        let host = Host::with_clone(&program).await;
        let (spec, other) = (host.spec("topic"), host.spec("other"));
        host.add(&spec).await.expect("added");
        host.add(&other).await.expect("added");
        let clone = host.clone_path();
        let clone_text = clone.to_str().unwrap().to_owned();

        host.works_inside(&spec, "echo in > in; git add in; git commit -qm inside; git branch made-inside");
        assert_eq!(host.run_in(&spec.path, &["log", "-1", "--format=%s"]), "inside");
        assert_eq!(host.run_in(&spec.path, &["status", "--porcelain"]), "");
        std::fs::write(spec.path.join("out"), "out\n").unwrap();
        host.run_in(&spec.path, &["add", "out"]);
        host.run_in(&spec.path, &["commit", "-qm", "outside"]);
        assert_eq!(host.works_inside(&spec, "git log -1 --format=%s; git status --porcelain"), "outside");

        // Branches and rebases on both sides.
        host.works_inside(
            &spec,
            "git checkout -qb side v1; echo s > s; git add s; git commit -qm side; git checkout -q topic
             git rebase -q side; git stash list; git tag inside; git reflog | grep -q rebase; git branch -d made-inside -f",
        );
        assert_eq!(host.run_in(&spec.path, &["log", "-2", "--format=%s"]), "outside\ninside");
        host.run_in(&spec.path, &["rebase", "-q", "v1"]);
        host.run_in(&spec.path, &["branch", "made-outside"]);
        assert!(host.works_inside(&spec, "git branch --list made-outside").contains("made-outside"));

        // Housekeeping on both sides loses nothing that the other needs.
        std::fs::write(other.path.join("staged"), "staged only\n").unwrap();
        host.run_in(&other.path, &["add", "staged"]);
        let refs = || host.run(&["--git-dir", &clone_text, "for-each-ref"]);
        let before = refs();
        host.works_inside(&spec, "git gc -q --prune=now; git fsck --no-dangling");
        assert_eq!(refs(), before);
        assert_eq!(host.works_inside(&spec, "git for-each-ref"), before);
        host.run_in(&spec.path, &["gc", "-q", "--prune=now"]);
        assert_eq!(host.works_inside(&spec, "git for-each-ref"), before);
        host.works_inside(
            &spec,
            "git pack-refs --all --prune; git branch -D side; echo y > y; git add y; git commit -qm packed",
        );
        assert_eq!(host.run_in(&spec.path, &["log", "-1", "--format=%s"]), "packed");
        host.works_inside(&spec, "git gc -q; git worktree prune; git maintenance run --quiet");
        assert_eq!(host.run_in(&other.path, &["status", "--porcelain"]), "A  staged");
        assert_eq!(host.run_in(&other.path, &["cat-file", "-p", ":staged"]), "staged only");
        host.run(&["--git-dir", &clone_text, "fsck", "--no-dangling"]);

        // The remote is reached from inside where there is a way to it.
        host.push_to_remote("late");
        host.works_inside(&spec, "git fetch -q origin; git rev-parse -q --verify origin/late; git fetch -q --prune");
        host.works_inside(&spec, "git push -qf origin topic");
        assert_eq!(host.probe(&spec).await.unpushed, Some(0));
        host.remove(&spec, false).await.expect("clean and pushed");
        assert_eq!(host.run_in(&other.path, &["status", "--porcelain"]), "A  staged");
    }
}

#[tokio::test]
async fn the_rest_of_the_clone_is_out_of_reach() {
    let host = Host::with_clone("git".as_ref()).await;
    let (spec, other) = (host.spec("topic"), host.spec("other"));
    host.add(&spec).await.expect("added");
    host.add(&other).await.expect("added");
    let (clone, own, others) = (host.clone_path(), admin_name(&spec.path), admin_name(&other.path));
    let listing = || {
        let output = Command::new("sh")
            .args(["-c", "find . \\( -path './sbx/roots/*' -o -path ./objects \\) -prune -o -type f -exec sha256sum {} + -o -type l -printf '%p -> %l\\n' | sort"])
            .current_dir(&clone)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let before = listing();
    let c = clone.display();
    // A positive control beside each denial: the same attempt where it is allowed.
    host.works_inside(
        &spec,
        &format!("echo x > {c}/worktrees/{own}/own; rm {c}/worktrees/{own}/own; echo x > {c}/refs/x; rm {c}/refs/x"),
    );
    for attempt in [
        format!("echo '[core]' >> {c}/config"),
        format!("git config core.fsmonitor 'touch {c}/pwned'"),
        "git config --worktree core.fsmonitor x".to_owned(),
        format!("echo x > {c}/hooks/post-commit"),
        format!("mv {c}/hooks {c}/hooks.old"),
        format!("rmdir {c}/hooks"),
        format!("echo '* filter=x' > {c}/info/attributes"),
        format!("echo /elsewhere > {c}/objects/info/alternates"),
        format!("echo x > {c}/worktrees/{others}/HEAD"),
        format!("rm {c}/worktrees/{others}/index"),
        format!("mkdir {c}/worktrees/mine"),
        format!("echo /elsewhere > {c}/worktrees/{own}/commondir"),
        format!("rm {c}/worktrees/{own}/commondir"),
        format!("mv {c}/worktrees/{own}/gitdir {c}/worktrees/{own}/gitdir.old"),
        format!("echo '[core]' > {c}/worktrees/{own}/config.worktree"),
        format!("mv {c}/worktrees/{own} {c}/worktrees/new"),
        "echo 'gitdir: /elsewhere' > .git".to_owned(),
        "rm -f .git".to_owned(),
        "mv .git .git.old".to_owned(),
        format!("echo x > {c}/sbx/common/HEAD"),
        format!("echo x > {c}/sbx/common/sbx/roots/{others}/HEAD"),
        format!("mv {c}/refs {c}/refs.old"),
    ] {
        host.fails_inside(&spec, &attempt);
        assert_eq!(listing(), before, "{attempt}");
    }
    // What it makes beside the known entries stays its own.
    host.works_inside(
        &spec,
        &format!("echo /elsewhere > {c}/commondir; echo x > {c}/config.worktree; mkdir {c}/modules; rm {c}/HEAD"),
    );
    assert_eq!(listing(), before);
    assert_eq!(host.run(&["--git-dir", clone.to_str().unwrap(), "rev-parse", "--is-bare-repository"]), "true");
}
