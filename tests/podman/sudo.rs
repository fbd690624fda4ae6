//! `sudo sbx` on a rootful engine: what it makes on the host is the caller's, and so is the user inside.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::engine::{Engine, Kind};
use crate::invocation::Invocation;
use crate::wait::wait_for;

/// Uid and gid of the caller; unlike each other, so that one is not taken for the other.
const ALICE: (u32, u32) = (11_000, 11_001);
/// And of another one.
const BOB: (u32, u32) = (12_000, 12_001);

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
    people(engine);
    let home = engine.dir().join("alice");
    let project = home.join("project");

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

    // Nor is what is root's shown to anybody.
    let shown = format!("{config}    mounts: [{{ source: /root/.local/share/sbx/authority, target: /keys }}]\n");
    fs::write(project.join("sandboxes.yaml"), shown).unwrap();
    let refused = sudo(engine, &["apply", "--auto-approve"]).run().expect_code(65);
    assert!(refused.told().contains("which is sbx's own"), "{}", refused.stderr);
    fs::write(project.join("sandboxes.yaml"), config).unwrap();

    let accept = format!("worktree/{}", tree.display());
    sudo(engine, &["destroy", "--auto-approve", "--worktrees", "--accept-loss", &accept]).run().expect_code(0);
    assert!(!tree.exists());
    only_alices(&home, &project.join("sandboxes.yaml"));
}

/// Alice and bob, with a home and a directory for a project each.
fn people(engine: &Engine) {
    let mut passwd = fs::read_to_string("/etc/passwd").unwrap();
    for (name, (uid, gid)) in [("alice", ALICE), ("bob", BOB)] {
        let home = engine.dir().join(name);
        for dir in [&home, &home.join("project")] {
            fs::create_dir(dir).unwrap();
            chown(dir, Some(uid), Some(gid)).unwrap();
        }
        passwd += &format!("{name}:x:{uid}:{gid}::{}:/bin/sh\n", home.display());
    }
    let ours = engine.dir().join("etc/passwd");
    fs::write(&ours, passwd).unwrap();
    engine.as_root("mount").arg("--bind").arg(ours).arg("/etc/passwd").ok();
    // What the daemon keeps is root's; not in the machine's own home of root.
    engine.as_root("mount").args(["-t", "tmpfs", "-o", "mode=700", "tmpfs", "/root"]).ok();
}

/// Whoever calls, and however, one at a time changes a project: the engine is the same, and so is the lock.
#[test]
fn one_writer_of_all_callers() {
    let engine = Engine::start(Kind::Rootful4);
    people(&engine);
    let root = engine.rootfs("root");
    let setup = |run: &str| {
        engine.configure(&format!(
            "images: {{ bare: {{ rootfs: {} }}, made: {{ from: bare, setup: {{ run: [{run}] }} }} }}\n\
             sandboxes: {{ dev: {{ image: made }} }}",
            root.display()
        ));
    };
    let apply = ["apply", "--auto-approve"];
    let with_sudo = |name, ids| calling(&engine, &apply, name, ids).cwd(engine.project());
    // The lock is held for as long as this takes.
    setup("sleep 1000");
    let holder = with_sudo("alice", ALICE).start();
    wait_for("the commands to run", Duration::from_secs(30), || (engine.containers().len() == 1).then_some(()));
    for other in [
        with_sudo("bob", BOB),
        with_sudo("bob", BOB).args(["--state-dir", "state"]),
        with_sudo("alice", ALICE),
        engine.sbx(&apply),
    ] {
        let refused = other.run().expect_code(75);
        assert!(refused.told().contains("project demo is being changed by process"), "{}", refused.stderr);
    }
    holder.signal(Signal::KILL);
    holder.finish().expect_code(137);

    // It was alice's run that was in the way.
    setup("touch /made");
    with_sudo("bob", BOB).run().expect_code(0);
    assert_eq!(engine.containers(), [("demo_dev".into(), "running".into())].into());
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
    calling(engine, args, "alice", ALICE).cwd(engine.dir().join("alice/project"))
}

/// The same with `name` as the caller.
fn calling<'e>(engine: &'e Engine, args: &[&str], name: &str, (uid, gid): (u32, u32)) -> Invocation<'e> {
    engine.sbx(args).env("SUDO_UID", uid.to_string()).env("SUDO_GID", gid.to_string()).env("SUDO_USER", name)
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
