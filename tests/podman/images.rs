//! Every way to get a root filesystem, and what is said when there is none. No registry is in reach.

use std::fs;
use std::time::{Duration, Instant};

use crate::engine::{Engine, Kind};
use crate::image::Archive;

const QUOTAS: &str = "quotas: { perOwner: 20, total: 20 }\n";

/// Archives of both forms, packed and not, directories, tars, builds, references and setups: each starts, and is
/// made once.
fn every_form_runs(kind: Kind) {
    let engine = Engine::start(kind);
    let local = engine.import_busybox();
    engine.archive(Archive::Docker, "docker.tar", false);
    engine.archive(Archive::Docker, "docker.tar.gz", true);
    engine.archive(Archive::Oci, "oci.tar", false);
    engine.archive(Archive::Oci, "oci.tar.gz", true);
    let (root, tar) = (engine.rootfs("root"), engine.rootfs_tar("root.tar"));
    engine.write(
        "build/Containerfile",
        "FROM scratch\nARG GREETING\nCOPY busybox /bin/sh\nCOPY busybox /bin/cat\nLABEL greeting=$GREETING\n",
    );
    engine.write("build/busybox", fs::read("/bin/busybox").unwrap());
    engine.as_root("chmod").args(["755", "build/busybox"]).ok();
    let configure = |setup: &str| {
        let (root, tar) = (root.display(), tar.display());
        engine.configure(&format!(
            "{QUOTAS}images:\n\
             \x20 docker: {{ archive: ./docker.tar }}\n\
             \x20 docker-gz: {{ archive: ./docker.tar.gz }}\n\
             \x20 oci: {{ archive: ./oci.tar }}\n\
             \x20 oci-gz: {{ archive: ./oci.tar.gz }}\n\
             \x20 dir: {{ rootfs: {root} }}\n\
             \x20 tar: {{ rootfs: {tar} }}\n\
             \x20 built: {{ build: {{ context: ./build, args: {{ GREETING: hi }} }} }}\n\
             \x20 local: {{ ref: {local}, pull: never }}\n\
             \x20 missing: {{ ref: {local}, pull: missing }}\n\
             \x20 tooled: {{ from: tar, setup: {{ run: [{setup}] }} }}\n\
             defaults: {{ home: {{ tmpfs: 8MiB }} }}\n\
             sandboxes:\n{}",
            FORMS.map(|name| format!("  on-{name}: {{ image: {name} }}\n")).concat(),
        ));
    };
    configure("'od -An -N8 -tx1 /dev/urandom > /stamp'");
    engine.converge();
    assert_eq!(engine.containers().len(), FORMS.len(), "no builder is left: {:?}", engine.containers());
    for name in FORMS {
        assert_eq!(engine.inside(&format!("on-{name}"), &["sh", "-c", "echo $HOME >/dev/null && echo runs"]), "runs");
    }
    let stamp = engine.shell("on-tooled", "cat /stamp");

    // Made once: another apply, another container, the same commands.
    let state = engine.state();
    engine.apply();
    assert_eq!(engine.state(), state);
    engine.try_apply(&["--replace", "on-tooled"]).expect_code(0);
    assert_eq!(engine.shell("on-tooled", "cat /stamp"), stamp);
    // Other commands are another image, and the old one goes.
    configure("'echo other > /stamp'");
    engine.converge();
    assert_eq!(engine.shell("on-tooled", "cat /stamp"), "other");
    let tooled = engine.state().into_keys().filter(|key| key.contains("/tooled:")).count();
    assert_eq!(tooled, 1);

    // What an image is made from decides, not when: a change of a file is seen, a touch is not.
    engine.as_root("touch").arg("build/busybox").ok();
    engine.expect_nothing_to_do();
    engine.write("build/new", "file");
    engine.write("build/Containerfile", "FROM scratch\nCOPY busybox /bin/sh\nCOPY new /new\n");
    let planned = engine.planned();
    assert!(
        planned.contains(&"create image/built".into()) && planned.contains(&"replace container/on-built".into()),
        "{planned:?}"
    );
    assert_eq!(planned.iter().filter(|change| change.contains("container/")).count(), 1, "{planned:?}");
    engine.converge();
    assert_eq!(engine.shell("on-built", "read text < /new; echo $text"), "file");
}

#[test]
fn every_form_runs_rootless_4() {
    every_form_runs(Kind::Rootless4);
}

#[test]
fn every_form_runs_rootful_5() {
    every_form_runs(Kind::Rootful5);
}

const FORMS: [&str; 10] = ["docker", "docker-gz", "oci", "oci-gz", "dir", "tar", "built", "local", "missing", "tooled"];

/// What cannot be had is named with the resource and its line, nothing is changed, and the exit code tells.
#[test]
fn what_is_missing_is_named() {
    let engine = Engine::start(Kind::Rootless5);
    let refused = |body: &str, code: i32, parts: &[&str]| {
        engine.configure(body);
        let refused = engine.try_apply(&[]).expect_code(code);
        for part in parts {
            assert!(refused.told().contains(part), "{part}: {}", refused.stderr);
        }
        assert!(engine.containers().is_empty());
    };
    let sandbox = "sandboxes: { dev: { image: base } }";
    refused(
        &format!("images: {{ base: {{ ref: localhost/nowhere:1, pull: never }} }}\n{sandbox}"),
        73,
        &["image/base", "sandboxes.yaml:3:", "localhost/nowhere:1"],
    );
    for (form, path) in
        [("archive", "./not-there.tar"), ("rootfs", "./not-there"), ("build", "{ context: ./not-there }")]
    {
        let body = format!("images: {{ base: {{ {form}: {path} }} }}\n{sandbox}");
        refused(&body, 65, &["image base", "sandboxes.yaml:3:", "not-there"]);
    }
    engine.write("bad.tar", "this is no archive");
    refused(
        &format!("images: {{ base: {{ archive: ./bad.tar }} }}\n{sandbox}"),
        1,
        &["image/base", "sandboxes.yaml:3:"],
    );
    // A setup that fails says what its command said, and leaves no builder.
    let root = engine.rootfs("root");
    let setup = format!(
        "images: {{ base: {{ from: tar, setup: {{ run: ['echo told >&2; exit 3'] }} }}, tar: {{ rootfs: {} }} }}\n{sandbox}",
        root.display()
    );
    refused(&setup, 1, &["image/base", "sandboxes.yaml:3:", "told"]);

    // A git remote that is gone, by either way of being gone.
    let worktree = |remote: &str| {
        format!(
            "sandboxes:\n\x20 dev:\n\x20   image: host\n\x20   worktrees:\n\x20     - {{ repo: '{remote}', branch: work, path: ./trees/work }}"
        )
    };
    let gone = engine.project().join("gone.git");
    refused(
        &worktree(&format!("file://{}", gone.display())),
        1,
        &[
            "repository/",
            "sandboxes.yaml:7:",
            "gone.git",
            "does not appear to be a git repository",
            "check the address in `repo`",
        ],
    );
    refused(
        &worktree("http://127.0.0.1:1/team/app.git"),
        1,
        &[
            "repository/",
            "sandboxes.yaml:7:",
            "127.0.0.1:1/team/app.git",
            "check the address in `repo` and the network",
        ],
    );
    // A command that gives no secret is told with what it said, and nothing of what it printed.
    let secret = "secrets:\n\x20 token: { command: [sh, -c, 'echo half-a-secret; echo the vault is locked >&2; exit 3'] }\n\
                  sandboxes: { dev: { image: host, env: { TOKEN: { secret: token } } } }";
    for json in [false, true] {
        engine.configure(secret);
        let failed = engine.try_apply(if json { &["--json"] } else { &[] }).expect_code(65);
        let told = failed.told() + &failed.stdout;
        for part in ["secret token", "sandboxes.yaml:4:", "the vault is locked", "exit status: 3"] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(!told.contains("half-a-secret"), "{told}");
        assert!(engine.containers().is_empty());
    }

    // What may not be read, entered or written: named with its line and why, whoever keeps it closed.
    engine.bare_repository("origin.git");
    for path in ["token", "context/Containerfile", "context/secret", "closed/data/file", "locked/file"] {
        engine.write(path, "FROM scratch\n");
    }
    let closed = "chown 0:0 token context/secret closed locked && chmod 600 token context/secret && chmod 700 closed && chmod 755 locked";
    engine.as_root("sh").args(["-c", closed]).ok();
    let origin = engine.project().join("origin.git");
    for (body, code, parts) in [
        (
            "secrets: { token: { file: ./token } }\nsandboxes: { dev: { image: host, env: { A: { secret: token } } } }"
                .to_owned(),
            65,
            ["secret token", "sandboxes.yaml:3:", "/token"],
        ),
        (
            format!("images: {{ base: {{ build: {{ context: ./context }} }} }}\n{sandbox}"),
            65,
            ["image base", "sandboxes.yaml:3:", "/context"],
        ),
        (
            "sandboxes:\n\x20 dev:\n\x20   image: host\n\x20   mounts: [{ source: ./closed/data, target: /srv }]"
                .to_owned(),
            65,
            ["cannot be looked at", "sandboxes.yaml:6:", "/closed/data"],
        ),
        (
            worktree(&format!("file://{}", origin.display())).replace("./trees/work", "./locked/work"),
            1,
            ["worktree/", "sandboxes.yaml:7:", "/locked"],
        ),
    ] {
        refused(&body, code, &parts);
        let told = engine.try_apply(&[]).told().to_lowercase();
        assert!(told.contains("permission denied"), "{told}");
        assert!(told.contains("help:"), "{told}");
    }

    // --locked refuses what is not pinned, and takes what is.
    let image = engine.import_busybox();
    engine.configure(&format!("images: {{ base: {{ ref: {image}, pull: missing }} }}\n{sandbox}"));
    let unpinned = engine.try_apply(&["--locked"]).expect_code(73);
    assert!(
        unpinned.told().contains("sbx lock") && unpinned.told().contains("sandboxes.yaml:3:"),
        "{}",
        unpinned.stderr
    );
    let digest = engine.podman(&["image", "inspect", "--format", "{{.Digest}}", image]);
    engine.write("sandboxes.lock", format!("version: 1\nimages:\n  {image}: {digest}\n"));
    engine.try_apply(&["--locked"]).expect_code(0);
    engine.sbx(&["plan", "--locked", "--detailed-exitcode"]).run().expect_code(0);
}

/// A registry that takes the connection and says nothing: told in bounded time, with its name and the line.
#[test]
fn a_silent_registry() {
    let engine = Engine::start(Kind::Rootful4);
    let listen = "import socket,time\ns=socket.create_server(('127.0.0.1', 5000))\nprint('listens', flush=True)\ntime.sleep(1000)";
    let mut silent = engine.command("python3").args(["-c", listen]);
    silent.command.stdout(std::process::Stdio::piped());
    let mut silent = silent.spawn();
    let mut said = [0; 8];
    std::io::Read::read_exact(silent.child.stdout.as_mut().unwrap(), &mut said).unwrap();

    engine.configure("images: { far: { ref: '127.0.0.1:5000/team/app:1' } }\nsandboxes: { dev: { image: far }, near: { image: host } }");
    let begun = Instant::now();
    let failed = (engine.try_apply(&[]), begun.elapsed());
    assert!([1, 124].contains(&failed.0.code), "{}", failed.0.stderr);
    for part in ["image/far", "sandboxes.yaml:3:", "127.0.0.1:5000"] {
        assert!(failed.0.told().contains(part), "{part}: {}", failed.0.stderr);
    }
    assert!(failed.1 < Duration::from_secs(100), "{:?}", failed.1);
    assert_eq!(engine.containers(), [("demo_near".into(), "running".into())].into(), "the rest is done");
}

/// No space left: said, and after there is some the same command goes on.
#[test]
fn a_full_disk() {
    let engine = Engine::start(Kind::Rootful5);
    let root = engine.rootfs("root");
    fs::write(root.join("ballast"), vec![7; 24 << 20]).unwrap();
    let size = |size: &str| {
        let storage = engine.dir().join("storage");
        engine.as_root("mount").args(["-o", &format!("remount,size={size}")]).arg(storage).ok();
    };
    engine.configure(&format!(
        "images: {{ big: {{ rootfs: {} }} }}\nsandboxes: {{ dev: {{ image: big }} }}",
        root.display()
    ));
    size("16m");
    let failed = engine.try_apply(&[]).expect_code(1);
    for part in ["image/big", "sandboxes.yaml:3:", "no space left"] {
        assert!(failed.told().to_lowercase().contains(part), "{part}: {}", failed.stderr);
    }
    size("6g");
    engine.converge();
}
