//! One worktree, git inside and git outside.

use crate::on_every_engine;

on_every_engine! {
    /// Commit, branch, rebase and gc on both sides; what runs on the host is out of reach inside; nothing unsaved goes.
    fn both_sides_work(engine) {
        engine.bare_repository("origin.git");
        engine.configure(
            "sandboxes:\n\
             \x20 dev: { image: host, home: { tmpfs: 16MiB }, workdir: WORK,\n\
             \x20   worktrees: [{ repo: ./origin.git, branch: work, base: main, path: ./trees/work }] }"
                .replace("WORK", &engine.project().join("trees/work").to_string_lossy())
                .as_str(),
        );
        engine.converge();
        let inside = |script: &str| engine.shell("dev", &format!("git config --global user.name In; git config --global user.email in@example.org; {script}"));
        let outside = |args: &[&str]| engine.git("trees/work", args);

        inside("echo inside > one && git add one && git commit -qm inside");
        assert_eq!(outside(&["log", "-1", "--format=%an %s"]), "In inside");
        engine.write("trees/work/two", "outside");
        outside(&["add", "two"]);
        outside(&["commit", "--quiet", "--message", "outside"]);
        assert_eq!(inside("git log -1 --format='%an %s' && git status --short && cat two"), "Tester outside\noutside");

        inside("git branch side HEAD~1 && git checkout -q side && echo three > three && git add three && git commit -qm three && git rebase -q work && git checkout -q work && git merge -q --ff-only side");
        outside(&["branch", "-d", "side"]);
        outside(&["commit", "--quiet", "--amend", "--message", "amended"]);
        inside("git gc -q && git fsck");
        outside(&["gc", "--quiet"]);
        outside(&["worktree", "prune"]);
        assert_eq!(inside("git log --format=%s | sort | tr '\\n' ' '"), "amended first inside outside ");
        assert_eq!(outside(&["status", "--short"]), "");
        engine.expect_nothing_to_do();

        // A hook, a setting or an attribute written here would run on the host.
        for file in ["hooks/pre-commit", "config", "info/attributes"] {
            let write = format!("echo '#!/bin/sh' >> \"$(git rev-parse --git-common-dir)/{file}\"");
            let refused = engine.sbx(&["exec", "dev", "--", "sh", "-c", &write]).run();
            assert_ne!(refused.code, 0, "{file} was written");
        }

        // Uncommitted files and unpushed commits keep it, until they are named.
        engine.write("trees/work/draft", "unsaved");
        let destroy = ["destroy", "--auto-approve", "--worktrees"];
        let refused = engine.sbx(&destroy).run().expect_code(73);
        for part in ["uncommitted files", "unpushed commits", "--accept-loss worktree/"] {
            assert!(refused.told().contains(part), "{part}: {}", refused.stderr);
        }
        assert_eq!(engine.containers()["demo_dev"], "running", "nothing was done");
        let name = format!("worktree/{}", engine.project().join("trees/work").display());
        engine.sbx(&destroy).args(["--accept-loss", &name, "--accept-loss", "container/dev"]).run().expect_code(0);
        assert!(!engine.project().join("trees/work").exists());
        // The commits are the repository's and still there.
        engine.converge();
        assert_eq!(engine.shell("dev", "git log -1 --format=%s"), "amended");
    }
}
