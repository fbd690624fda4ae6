//! `sudo sbx` on a rootful engine: what it makes on the host is the caller's, and so is the user inside.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;

use crate::engine::{Engine, Kind};
use crate::invocation::Invocation;

/// Uid and gid of the caller; unlike each other, so that one is not taken for the other.
const ALICE: (u32, u32) = (11_000, 11_001);

#[test]
fn rootful_4() {
    check(&Engine::start(Kind::Rootful4));
}

#[test]
fn rootful_5() {
    check(&Engine::start(Kind::Rootful5));
}

/// Clone, worktree, administrative files, data and state belong to the caller; git asks with their configuration; inside
/// and outside both commit.
fn check(engine: &Engine) {
    let home = engine.dir().join("alice");
    let project = home.join("project");
    for dir in [&home, &project] {
        fs::create_dir(dir).unwrap();
        chown(dir, Some(ALICE.0), Some(ALICE.1)).unwrap();
    }
    let passwd =
        format!("cp /etc/passwd $0 && echo 'alice:x:{}:{}::{}:/bin/sh' >>$0", ALICE.0, ALICE.1, home.display());
    engine
        .as_root("sh")
        .args(["-c", &format!("{passwd} && mount --bind $0 /etc/passwd")])
        .arg(home.join("../etc/passwd"))
        .ok();

    // The address works only for who has alice's git configuration.
    let origin = home.join("origin");
    let script = format!(
        "git init -q -b main {0} && cd {0} && git commit -q --allow-empty -m one && \
         git config --global url.{0}.insteadOf https://git.example.org/api.git",
        origin.display()
    );
    alice(engine, "sh").args(["-c", &script]).ok();
    let tree = home.join("trees/login");
    let config = "apiVersion: sbx/v1\nproject: demo\nsandboxes:\n\x20 dev:\n    image: host\n    home: { tmpfs: 16MiB }\n\
                  \x20   worktrees: [{ repo: 'https://git.example.org/api.git', branch: login, base: main, path: ~/trees/login }]\n";
    fs::write(project.join("sandboxes.yaml"), config).unwrap();

    // What the daemon keeps is root's; not in the machine's own home of root.
    engine.as_root("mount").args(["-t", "tmpfs", "-o", "mode=700", "tmpfs", "/root"]).ok();
    sudo(engine, &["plan", "--out", "change.plan"]).run().expect_code(0);
    sudo(engine, &["apply", "change.plan"]).run().expect_code(0);
    sudo(engine, &["plan", "--detailed-exitcode"]).run().expect_code(0);
    assert!(tree.join(".git").exists());
    only_alices(&home, &project.join("sandboxes.yaml"));

    // The lock file of git is the caller's too, so that the next run without sudo can take it.
    assert_eq!(sudo(engine, &["exec", "dev", "--", "id", "-u"]).ok(), ALICE.0.to_string());
    let trusted = ["exec", "dev", "--", "head", "-c", "27", "/run/sbx/trust/ca-bundle.pem"];
    assert_eq!(sudo(engine, &trusted).ok(), "-----BEGIN CERTIFICATE-----");
    let key = "/root/.local/share/sbx/authority/demo.pem";
    assert_eq!(engine.as_root("stat").args(["-c", "%a %u", key]).ok(), "600 0");
    assert!(!home.join(".local/share/sbx/authority").exists());
    let commit = "git -c user.name=a -c user.email=a@b commit -q --allow-empty -m";
    let inside = format!("cd {} && touch inside && git add inside && {commit} inside", tree.display());
    sudo(engine, &["exec", "dev", "--", "sh", "-c", &inside]).ok();
    let outside = format!("cd {} && {commit} outside && git log --format=%s", tree.display());
    assert_eq!(alice(engine, "sh").args(["-c", &outside]).ok(), "outside\ninside\none");
    only_alices(&home, &project.join("sandboxes.yaml"));

    let accept = format!("worktree/{}", tree.display());
    sudo(engine, &["destroy", "--auto-approve", "--worktrees", "--accept-loss", &accept]).run().expect_code(0);
    assert!(!tree.exists());
    only_alices(&home, &project.join("sandboxes.yaml"));
}

/// A program as alice, without anything of sudo.
fn alice<'e>(engine: &'e Engine, program: &str) -> Invocation<'e> {
    let (uid, gid) = (ALICE.0.to_string(), ALICE.1.to_string());
    engine
        .as_root("setpriv")
        .args(["--reuid", &uid, "--regid", &gid, "--clear-groups", "--", program])
        .env("HOME", engine.dir().join("alice"))
        .env("GIT_AUTHOR_NAME", "alice")
        .env("GIT_AUTHOR_EMAIL", "alice@example.org")
        .env("GIT_COMMITTER_NAME", "alice")
        .env("GIT_COMMITTER_EMAIL", "alice@example.org")
}

/// `sbx` as sudo starts it: root, with root's home, and the caller in three variables.
fn sudo<'e>(engine: &'e Engine, args: &[&str]) -> Invocation<'e> {
    engine
        .sbx(args)
        .env("SUDO_UID", ALICE.0.to_string())
        .env("SUDO_GID", ALICE.1.to_string())
        .env("SUDO_USER", "alice")
        .cwd(engine.dir().join("alice/project"))
}

/// Everything below `home` but `except`, which the test wrote, is alice's.
#[track_caller]
fn only_alices(home: &Path, except: &Path) {
    let mut waiting = vec![home.to_owned()];
    let mut seen = 0;
    while let Some(path) = waiting.pop() {
        let metadata = path.symlink_metadata().unwrap();
        if metadata.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        if path != except {
            assert_eq!((metadata.uid(), metadata.gid()), ALICE, "{}", path.display());
        }
        seen += 1;
    }
    assert!(seen > 20, "{} holds clones, worktrees, locks", home.display());
}
