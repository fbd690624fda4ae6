//! The harness itself: what the other tests rely on holds.

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use crate::engine::{Engine, Kind};
use crate::image::{Archive, BUSYBOX, is_gzip};
use crate::on_every_engine;

on_every_engine! {
    /// The engine is the one that was asked for, as the user that was asked for, and empty.
    fn the_engine_is_what_its_name_says(engine) {
        let info = engine.podman_command(&["info", "--format", "json"]).run().expect_code(0).json();
        let major = info["version"]["Version"].as_str().unwrap().split('.').next().unwrap().to_owned();
        assert_eq!(major, if engine.kind().is_5() { "5" } else { "4" });
        assert_eq!(info["host"]["security"]["rootless"], engine.kind().is_rootless());
        assert_eq!(info["store"]["graphDriverName"], "overlay");
        assert_eq!(info["store"]["containerStore"]["number"], 0);
        assert_eq!(info["store"]["imageStore"]["number"], 0);
        assert_eq!(engine.command("id").arg("-u").ok(), engine.uid().to_string());
    }

    /// A container runs without a network, and its exit code and output come back.
    fn a_container_runs(engine) {
        assert_eq!(engine.in_busybox(&["echo", "hello"]), "hello");
        engine.podman_command(&["run", "--rm", "--network", "none", BUSYBOX, "sh", "-c", "exit 7"]).run().expect_code(7);
        assert_eq!(engine.podman(&["ps", "--all", "--quiet"]), "");
    }

    /// A path below the test's directory is the same file inside a container, inside the engine and in the test.
    fn paths_mean_the_same_everywhere(engine) {
        let image = engine.import_busybox();
        let file = engine.write("shared/file", "from the test");
        let mount = format!("{0}:{0}", file.parent().unwrap().display());
        let script = format!("cat {0} && echo from inside > {0}", file.display());
        let userns = if engine.kind().is_rootless() { "keep-id" } else { "host" };
        let said = engine.podman(
            &["run", "--rm", "--network", "none", "--userns", userns, "-v", &mount, image, "sh", "-c", &script],
        );
        assert_eq!(said, "from the test");
        assert_eq!(fs::read_to_string(file).unwrap(), "from inside\n");
    }

    /// On an internal network two containers find each other by name, and nothing leads out; on an ordinary one
    /// something does.
    fn networks_work(engine) {
        let image = engine.import_busybox();
        engine.podman(&["network", "create", "--internal", "inner"]);
        engine.podman(&["network", "create", "outer"]);
        engine.podman(&["run", "--detach", "--name", "peer", "--network", "inner", image, "sleep", "100"]);
        let found = engine.podman(&["run", "--rm", "--network", "inner", image, "nslookup", "-type=a", "peer"]);
        assert!(found.contains("Name:\tpeer"), "{found}");
        let inner = engine.podman(&["run", "--rm", "--network", "inner", image, "ip", "route"]);
        assert!(!inner.contains("default"), "{inner}");
        let outer = engine.podman(&["run", "--rm", "--network", "outer", image, "ip", "route"]);
        assert!(outer.contains("default"), "{outer}");
    }

    /// Every form of image archive is made, and loads; but for a packed docker-archive, which Podman 4.3 cannot read.
    fn archives_load(engine) {
        for (archive, file, gzip) in [
            (Archive::Docker, "docker.tar", false),
            (Archive::Docker, "docker.tar.gz", true),
            (Archive::Oci, "oci.tar", false),
            (Archive::Oci, "oci.tar.gz", true),
        ] {
            let path = engine.archive(archive, file, gzip);
            assert_eq!(is_gzip(&path), gzip, "{file}");
            if (archive, gzip) == (Archive::Docker, true) && !engine.kind().is_5() {
                continue;
            }
            engine.podman(&["load", "--quiet", "--input", &path.to_string_lossy()]);
        }
    }

    /// `sbx` itself starts inside, as the engine's user.
    fn sbx_starts(engine) {
        engine.sbx(&["version"]).run().expect_code(0);
    }

    /// The service can be killed and started again; containers outlive it.
    fn the_service_comes_back(engine) {
        let image = engine.import_busybox();
        engine.podman(&["run", "--detach", "--name", "survivor", "--network", "none", image, "sleep", "100"]);
        assert!(engine.answers());
        engine.kill_service();
        assert!(!engine.answers());
        engine.start_service();
        assert_eq!(engine.podman(&["exec", "survivor", "echo", "alive"]), "alive");
    }

    /// A child that is killed is the command itself, not something around it.
    fn a_kill_reaches_the_command(engine) {
        let sleep = engine.command("sleep").arg("1000").start();
        let name = fs::read_to_string(format!("/proc/{}/comm", sleep.child.id())).unwrap();
        assert_eq!(name, "sleep\n");
        sleep.signal(Signal::KILL);
        sleep.finish().expect_code(137);
        let left = engine.as_root("sh").args(["-c", "grep -l ^sleep$ /proc/[0-9]*/comm || true"]).ok();
        assert_eq!(left, "");
    }
}

/// Afterwards the machine is as it was: no process, mount, directory or control group is left, even though a container
/// and a command were running.
fn nothing_is_left(kind: Kind) {
    let engine = Engine::start(kind);
    let image = engine.import_busybox();
    engine.podman(&["network", "create", "left"]);
    engine.podman(&["run", "--detach", "--name", "left", "--network", "left", image, "sleep", "100"]);
    let id = engine.podman(&["inspect", "--format", "{{.Id}}", "left"]);
    let dir = engine.dir().to_owned();
    let running = engine.command("sleep").arg("1000").start();
    assert!(processes_naming(&dir) > 1, "the check below must be able to see something");
    assert!(kind.is_rootless() || !control_groups_naming(&id).is_empty(), "and this one");

    drop(running);
    drop(engine);

    assert_eq!(processes_naming(&dir), 0);
    assert!(!fs::read_to_string("/proc/self/mounts").unwrap().contains(&*dir.to_string_lossy()));
    assert!(!dir.exists());
    assert_eq!(control_groups_naming(&id), Vec::<String>::new());
    assert!(!fs::read_to_string("/etc/passwd").unwrap().contains("sbx-tester"));
}

#[test]
fn nothing_is_left_of_rootful_4() {
    nothing_is_left(Kind::Rootful4);
}

#[test]
fn nothing_is_left_of_rootless_4() {
    nothing_is_left(Kind::Rootless4);
}

#[test]
fn nothing_is_left_of_rootful_5() {
    nothing_is_left(Kind::Rootful5);
}

#[test]
fn nothing_is_left_of_rootless_5() {
    nothing_is_left(Kind::Rootless5);
}

/// How many processes have `dir` in their command line or environment.
fn processes_naming(dir: &Path) -> usize {
    let wanted = dir.to_string_lossy().into_owned();
    let names =
        |path: std::path::PathBuf| fs::read(path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(&wanted));
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok).map(|entry| entry.path());
    processes.filter(|path| names(path.join("cmdline")) || names(path.join("environ"))).count()
}

/// Control groups of the container `id`, at the places where the engine's cgroup manager puts them.
fn control_groups_naming(id: &str) -> Vec<String> {
    let roots = fs::read_dir("/sys/fs/cgroup").unwrap().filter_map(Result::ok).map(|entry| entry.path());
    let groups =
        roots.chain(["/sys/fs/cgroup".into()]).filter_map(|root| fs::read_dir(root.join("libpod_parent")).ok());
    let names = groups.flatten().filter_map(Result::ok).map(|entry| entry.path().to_string_lossy().into_owned());
    names.filter(|name| name.contains(id)).collect()
}
