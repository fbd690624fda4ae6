//! Names, paths and images that mean harm.

use crate::engine::{Engine, Kind};
use crate::on_every_engine;

/// Refused at line 3 of the file, by `validate` and by `apply`, in words that are short and plain whatever the name is.
#[track_caller]
fn expect_refused(engine: &Engine, body: &str) {
    engine.configure(body);
    let refused = engine.sbx(&["validate"]).run().expect_code(65).stdout;
    let (message, excerpt) = refused.split_once(",-[").unwrap_or_else(|| panic!("{body}: {refused}"));
    assert!(excerpt.starts_with("sandboxes.yaml:3:"), "{body}: {refused}");
    assert!(message.len() < 400, "{body}: {message}");
    let applied = engine.try_apply(&[]).expect_code(65);
    for text in [&refused, &applied.stderr] {
        assert!(!text.contains(['\0', '\u{1b}']), "{body}: {text:?}");
    }
}

/// Names that look like others, break lines, options or directories: refused where they are written, nothing is made.
#[test]
fn names() {
    let engine = Engine::start(Kind::Rootless4);
    let before = engine.state();
    // In each place a good name passes, so that it is the name that is refused.
    let bodies = |name: &str| {
        [
            format!("sandboxes: {{ \"{name}\": {{ image: host }} }}"),
            format!("volumes: {{ \"{name}\": {{}} }}\nsandboxes: {{ dev: {{ image: host }} }}"),
            format!("networks: {{ \"{name}\": {{}} }}\nsandboxes: {{ dev: {{ image: host }} }}"),
            format!("images: {{ \"{name}\": {{ ref: 'localhost/x:1' }} }}\nsandboxes: {{ dev: {{ image: host }} }}"),
            format!("secrets: {{ \"{name}\": {{ env: HOME }} }}\nsandboxes: {{ dev: {{ image: host }} }}"),
            format!("profiles: {{ \"{name}\": {{ image: host }} }}\nsandboxes: {{ dev: {{ image: host }} }}"),
        ]
    };
    let long = "a".repeat(300);
    for name in [
        "d\u{435}v",
        "dev\\nweb",
        "-dev",
        "../dev",
        "..",
        "dev/../../x",
        "Dev",
        "dev_web",
        "",
        "dev\\u0000",
        "dev\\e[2J",
        "dev.next",
        &long,
    ] {
        for body in bodies(name) {
            expect_refused(&engine, &body);
        }
    }
    engine.write("sandboxes.yaml", "apiVersion: sbx/v1\nproject: ../other\nsandboxes: { dev: { image: host } }\n");
    engine.try_apply(&[]).expect_code(65);
    for body in bodies("good") {
        engine.configure(&body);
        engine.sbx(&["validate"]).run().expect_code(0);
    }
    assert_eq!(engine.state(), before);
}

/// Repositories that are programs, options or somebody's password, and branches that are options or paths: refused where
/// they are written, and none of them runs.
#[test]
fn repositories_and_branches() {
    let engine = Engine::start(Kind::Rootless4);
    let before = engine.state();
    engine.bare_repository("origin.git");
    let body = |repo: &str, branch: &str, base: &str| {
        let text = |text: &str| serde_json::to_string(text).unwrap();
        let (repo, branch, base) = (text(repo), text(branch), text(base));
        format!(
            "sandboxes: {{ dev: {{ image: host, worktrees: [{{ repo: {repo}, branch: {branch}, base: {base}, path: ./tree }}] }} }}"
        )
    };
    let pwned = engine.project().join("pwned");
    let touch = format!("touch {}", pwned.display());
    let repositories = [
        format!("ext::sh -c {}", touch.replace(' ', "% ")),
        format!("ext::{touch}"),
        format!("--upload-pack={touch}"),
        "-ooops".to_owned(),
        "fd::0".to_owned(),
        "::x".to_owned(),
        "https://user:password@127.0.0.1/x.git".to_owned(),
        "ftp://127.0.0.1/x.git".to_owned(),
        "https://127.0.0.1/a b".to_owned(),
        "./origin.git\n./other.git".to_owned(),
        "./origin.git\0".to_owned(),
        "file:///x\u{1b}[2J".to_owned(),
        String::new(),
    ];
    for repo in &repositories {
        expect_refused(&engine, &body(repo, "work", "main"));
    }
    let long = "a".repeat(300);
    for name in [
        "--orphan",
        "-b",
        "../../escape",
        "a..b",
        "/a",
        "a//b",
        ".hidden",
        "a.lock",
        "a@{1}",
        "@",
        "HEAD",
        "a b",
        "a\nb",
        "a\0",
        "a\u{1b}[2J",
        "a:b",
        "a~1",
        "",
        &long,
    ] {
        expect_refused(&engine, &body("./origin.git", name, "main"));
        expect_refused(&engine, &body("./origin.git", "work", name));
    }
    assert!(!pwned.exists());
    assert!(!engine.project().join("tree").exists());
    assert_eq!(engine.state(), before);

    // Beside them: odd, and right. What a shell would take apart is one name.
    let branch = "a;$(touch$IFS'pwned')`b`'c'&|#";
    engine.configure(&body("./origin.git", branch, "main"));
    engine.converge();
    assert_eq!(engine.git("tree", &["symbolic-ref", "--short", "HEAD"]), branch);
    let tree = engine.project().join("tree");
    assert_eq!(engine.inside("dev", &["git", "-C", &tree.to_string_lossy(), "branch", "--show-current"]), branch);
    assert!(!pwned.exists() && !tree.join("pwned").exists());
}

on_every_engine! {
    /// Spaces, quotes, commas, colons, line breaks, control characters and what looks like options, in sources and in
    /// targets.
    fn paths(engine) {
        let odd = "a 'b' \"c\",ro=true:rw $(touch pwned) -v\n\t\u{1b}[2J\\012 z";
        engine.write(format!("{odd}/file"), "found");
        engine.write(format!("overlay/etc/{odd}"), "overlaid");
        let quoted = serde_json::to_string(odd).unwrap();
        let target = serde_json::to_string(&format!("/srv/{odd}")).unwrap();
        engine.configure(&format!(
            "sandboxes: {{ dev: {{ image: host, home: {{ tmpfs: 8MiB }}, overlay: ./overlay, env: {{ ODD: {quoted} }},\n\
             \x20 mounts: [{{ source: {}, target: {target}, mode: rw }}] }} }}",
            serde_json::to_string(&format!("./{odd}")).unwrap(),
        ));
        // None of it reaches whoever reads a plan.
        let shown = engine.sbx(&["plan", "--full"]).ok();
        let mounts = shown.split("mounts:").nth(1).unwrap();
        assert!(mounts.contains("\\n\\t\\u{1b}[2J") && !mounts.contains("+ \\t"), "{shown}");
        assert!(!shown.contains(['\t', '\u{1b}']), "{shown:?}");
        engine.converge();
        assert_eq!(engine.shell("dev", "cat \"/srv/$ODD/file\" \"/etc/$ODD\" && echo more > \"/srv/$ODD/new\""), "foundoverlaid");
        assert_eq!(std::fs::read_to_string(engine.project().join(odd).join("new")).unwrap(), "more\n");
        assert!(!engine.project().join("pwned").exists());
        engine.inside("dev", &["sh", "-c", "[ ! -e /pwned ] && [ ! -e ~/pwned ]"]);

        // Worktree and clone too, and git on both sides of them.
        engine.bare_repository("origin.git");
        engine.configure(
            "sandboxes: { dev: { image: host, home: { tmpfs: 8MiB }, env: { TREE: \"TREE\\nb\" },\n\
             \x20 worktrees: [{ repo: ./origin.git, branch: work, base: main, path: \"./a\\nb\", clone: \"./c\\td\\n.git\" }] } }"
                .replace("TREE\\n", &format!("{}/a\\n", engine.project().display()))
                .as_str(),
        );
        engine.converge();
        let commit = "cd \"$TREE\" && git -c user.name=In -c user.email=in@example.org commit -q --allow-empty -m inside";
        engine.shell("dev", commit);
        assert_eq!(engine.git("a\nb", &["log", "-1", "--format=%s"]), "inside");
        engine.expect_nothing_to_do();
        let name = format!("worktree/{}", engine.project().join("a\nb").display());
        engine.sbx(&["destroy", "--auto-approve", "--worktrees", "--accept-loss", &name]).run().expect_code(0);
        assert!(!engine.project().join("a\nb").exists());
    }

    /// What is no sandbox's is not mounted by another path of the same files either, which a bind mount of the host makes.
    fn what_a_bind_mount_shows_at_another_path(engine) {
        engine.configure("sandboxes: { dev: { image: host } }");
        engine.converge();
        let data = engine.home().join(".local/share/sbx");
        let init = std::fs::read_dir(data.join("init")).unwrap().next().unwrap().unwrap().file_name();
        let sockets = engine.socket().parent().unwrap().to_owned();
        engine.write("source/file", "");
        let seen = |from: &std::path::Path, below: &std::path::Path| {
            let alias = engine.project().join("alias");
            engine.command("mkdir").arg("-p").arg(&alias).ok();
            engine.as_root("mount").arg("--bind").arg(from).arg(&alias).ok();
            let source = alias.join(below).display().to_string();
            engine.configure(&format!("sandboxes: {{ dev: {{ image: host, mounts: [{{ source: {source}, target: /x }}] }} }}"));
            let planned = engine.sbx(&["plan"]).run();
            engine.as_root("umount").arg(&alias).ok();
            (planned.code, planned.stdout.split_whitespace().collect::<Vec<_>>().join(" "))
        };
        let nothing = std::path::Path::new("");
        for (from, below, why) in [
            (&data, nothing, "is sbx's own"),
            (&data.join("init"), nothing, "is sbx's own"),
            (&data.join("init"), std::path::Path::new(&init), "is sbx's own"),
            (&sockets, nothing, "the engine's socket"),
        ] {
            let (code, told) = seen(from, below);
            assert!(code == 65 && told.contains(why), "{}: {code} {told}", from.display());
        }
        let (code, told) = seen(&engine.project().join("source"), nothing);
        assert_eq!(code, 0, "beside it: {told}");
    }

    /// A source that is exchanged between the plan's look and the mount, for a link to what must stay outside: nothing
    /// runs that could see it. What runs with the right one sees that.
    fn a_source_swapped_during_an_apply(engine) {
        engine.write("outside/key", "never to be seen");
        engine.write("shared/dir/key", "meant to be seen");
        engine.write("out/.keep", "");
        engine.write("calls", "");
        // Secret commands run when the plan is made and again when the secret is, which is before any container: the
        // moment of whoever waits for it.
        let script = "echo x >> calls; [ -e armed ] && [ $(wc -l < calls) = 2 ] && mv shared/dir shared/away && ln -s ../outside shared/dir; echo value";
        engine.write("swap.sh", format!("cd {} && {script}\n", engine.project().display()));
        let file = |value: u8| engine.configure(&format!(
            "secrets: {{ token: {{ command: [sh, {}] }} }}\n\
             sandboxes: {{ dev: {{ image: host, home: {{ tmpfs: 8MiB }}, env: {{ T: {{ secret: token }}, N: '{value}' }},\n\
             \x20 command: [sh, -c, 'cat /srv/dir/key > /srv/out/seen; sleep 1000'],\n\
             \x20 mounts: [{{ source: ./shared/dir, target: /srv/dir }}, {{ source: ./out, target: /srv/out, mode: rw }}] }} }}",
            engine.project().join("swap.sh").display(),
        ));
        file(1);
        engine.write("armed", "");
        let refused = engine.try_apply(&[]).expect_code(75);
        assert!(refused.told().contains("shared/dir is not what it was"), "{}", refused.stderr);
        assert_eq!(std::fs::read_link(engine.project().join("shared/dir")).unwrap(), std::path::Path::new("../outside"));
        assert!(!engine.project().join("out/seen").exists(), "it ran");
        assert_ne!(engine.containers()["demo_dev"], "running");

        // Put right, the same container starts and sees what is meant.
        std::fs::remove_file(engine.project().join("shared/dir")).unwrap();
        std::fs::rename(engine.project().join("shared/away"), engine.project().join("shared/dir")).unwrap();
        std::fs::remove_file(engine.project().join("armed")).unwrap();
        engine.converge();
        let seen = || std::fs::read_to_string(engine.project().join("out/seen")).ok();
        let wait = std::time::Duration::from_secs(10);
        let meant = || seen().filter(|text| text == "meant to be seen");
        crate::wait::wait_for("the file to be seen", wait, meant);

        // A replacement is taken back, and what ran before runs again.
        let id = engine.id("dev");
        engine.podman(&["secret", "rm", &engine.state().into_keys().find_map(|key| key.strip_prefix("secret ").map(str::to_owned)).unwrap()]);
        engine.write("calls", "");
        engine.write("armed", "");
        file(2);
        engine.try_apply(&[]).expect_code(75);
        assert_eq!(seen().as_deref(), Some("meant to be seen"));
        assert_eq!(engine.id("dev"), id);
    }

    /// What somebody mounts below a read-only source after the sandbox was made is not writable after a restart.
    fn a_mount_that_appears_below_a_read_only_source(engine) {
        engine.write("data/below/file", "outside");
        engine.configure("sandboxes: { dev: { image: host, mounts: [{ source: ./data, target: /srv/data }] } }");
        engine.converge();
        let below = engine.project().join("data/below");
        engine.as_root("mount").args(["-t", "tmpfs", "-o", "mode=777", "tmpfs"]).arg(&below).ok();
        // As this user, to a place of this name, on what is read-only: it fails for no other reason.
        let refused = |why: &str| {
            let written = engine.sbx(&["exec", "dev", "--", "sh", "-c", "echo x > /srv/data/below/new"]).run();
            assert!(written.code != 0 && written.stderr.contains("Read-only file system"), "{why}: {}", written.stderr);
        };
        refused("it is not there for a running one");
        let restarted = engine.sbx(&["restart", "dev"]).run();
        if engine.kind().is_rootless() {
            // The service of an ordinary user has a view of the host of its own, into which nothing comes later: what is
            // below is what was there before.
            restarted.expect_code(0);
            assert_eq!(engine.inside("dev", &["cat", "/srv/data/below/file"]), "outside");
            refused("it was below when it was mounted");
        } else {
            let restarted = restarted.expect_code(1);
            assert!(restarted.told().contains("below a read-only source"), "{}", restarted.stderr);
            assert_ne!(engine.containers()["demo_dev"], "running");
            engine.try_apply(&["--replace", "dev"]).expect_code(0);
            assert_eq!(engine.shell("dev", "ls -A /srv/data/below"), "", "it is what was mounted");
            refused("it has a mount of its own");
        }
        // The host's own is writable all the while.
        engine.command("touch").arg(below.join("control")).ok();
        assert!(!below.join("new").exists());
    }

    /// The daemon's socket, secrets and records are mounted nowhere, also where a run is given no session's directory, or a
    /// state directory in the project. What is beside them is.
    fn what_is_sbxs_own(engine) {
        let sockets = if engine.kind().is_rootless() { format!("/run/user/{}/sbx", engine.uid()) } else { "/run/sbx".into() };
        let records = engine.home().join(".local/state/sbx/egress");
        engine.command("mkdir").arg("-p").args([sockets.as_str(), &records.to_string_lossy()]).ok();
        engine.write("source/file", "theirs to read");
        let apply = |home: &str, mount: &str| {
            engine.configure(&format!(
                "sandboxes: {{ dev: {{ image: host, home: {home}, mounts: [{{ source: '{mount}', target: /srv/it }}] }} }}"
            ));
            engine.sbx(&["apply", "--auto-approve"]).env_remove("XDG_RUNTIME_DIR")
        };
        for own in [&sockets, &*records.to_string_lossy(), &*engine.home().to_string_lossy()] {
            let refused = apply("{ tmpfs: 8MiB }", own).run().expect_code(65);
            assert!(refused.told().contains("which is sbx's own"), "{own}: {}", refused.stderr);
        }
        let refused = apply("{ workspace: . }", "./source").args(["--state-dir", "state"]).run().expect_code(65);
        assert!(refused.told().contains("which is sbx's own"), "{}", refused.stderr);
        assert!(engine.containers().is_empty());

        apply("{ workspace: . }", "./source").run().expect_code(0);
        assert_eq!(engine.inside("dev", &["cat", "/srv/it/file"]), "theirs to read");
    }

    /// An image that carries our labels: what others start from it is theirs, what we start from it is ours.
    fn an_image_with_our_labels(engine) {
        let tar = engine.rootfs_tar("evil.tar");
        let labels = ["project=demo", "kind=container", "name=dev", "uid=0123456789abcdef", "spec-hash=sha256:00", "spec={}"];
        let changes: Vec<String> = labels.iter().map(|label| format!("--change=LABEL sbx.{label}")).collect();
        let mut line = vec!["import", "--quiet"];
        line.extend(changes.iter().map(String::as_str));
        let path = tar.to_string_lossy();
        line.extend([path.as_ref(), "localhost/evil:1"]);
        engine.podman(&line);
        engine.podman(&["run", "--detach", "--name", "theirs", "--network", "none", "localhost/evil:1", "sleep", "1000"]);
        engine.podman(&["create", "--name", "demo_web", "--network", "none", "localhost/evil:1", "true"]);
        let theirs = || engine.state().into_iter().filter(|(key, _)| key.ends_with("theirs") || key.ends_with("demo_web")).collect::<Vec<_>>();
        let before = theirs();
        assert_eq!(before.len(), 2);

        engine.configure("images: { evil: { ref: 'localhost/evil:1', pull: never } }\nsandboxes: { dev: { image: evil, home: { tmpfs: 8MiB } } }");
        // Not even by the name that ours would have: nothing is told of it, shown of it or run in it as if it were.
        engine.podman(&["run", "--detach", "--name", "demo_dev", "--network", "none", "localhost/evil:1", "sleep", "1000"]);
        let told = || {
            let told = engine.sbx(&["status", "--json"]).run().expect_code(0).json();
            let sandboxes = told["sandboxes"].as_array().unwrap().iter();
            sandboxes.map(|one| format!("{} {}", one["name"], one["conditions"][0]["status"])).collect::<Vec<_>>()
        };
        assert_eq!(told(), [r#""dev" "False""#]);
        for command in [&["exec", "dev", "--", "true"][..], &["logs", "dev"]] {
            let refused = engine.sbx(command).run().expect_code(1);
            assert!(refused.told().contains("sandbox dev is not there"), "{command:?}: {}", refused.stderr);
        }
        engine.podman(&["rm", "--force", "--time", "0", "demo_dev"]);
        engine.converge();
        assert_eq!(told(), [r#""dev" "True""#]);
        assert_eq!(engine.inside("dev", &["echo", "mine"]), "mine");
        engine.configure("images: { evil: { ref: 'localhost/evil:1', pull: never } }\nsandboxes: { dev: { image: evil, home: { tmpfs: 8MiB }, env: { A: '1' } } }");
        engine.converge();
        assert_eq!(theirs(), before);
        engine.sbx(&["destroy", "--auto-approve"]).run().expect_code(0);
        assert_eq!(engine.containers().keys().collect::<Vec<_>>(), ["demo_web", "theirs"]);
        assert_eq!(theirs(), before);
    }
}
