//! Changes that need a new container, those that do not, and what is lost on the way.

use std::time::Duration;

use crate::engine::{Engine, Kind};
use crate::on_every_engine;
use crate::project::text;
use crate::wait::wait_for;

on_every_engine! {
    /// A new container that does not come up leaves the old one as it was, running, and says so.
    fn a_failed_replacement_is_taken_back(engine) {
        engine.configure("volumes: { data: {} }\nsandboxes: { dev: { image: host, home: { volume: data } } }");
        engine.converge();
        engine.shell("dev", "echo kept > ~/file");
        let before = engine.id("dev");

        engine.configure(
            "volumes: { data: {} }\n\
             sandboxes: { dev: { image: host, home: { volume: data }, command: [/no/such/program] } }",
        );
        let failed = engine.try_apply(&[]).expect_code(1);
        assert!(failed.told().contains("container/dev"), "{}", failed.stderr);
        assert!(failed.told().contains("/no/such/program"), "the command's own words: {}", failed.stderr);
        assert_eq!(engine.id("dev"), before);
        assert_eq!(engine.containers(), [("demo_dev".into(), "running".into())].into());
        assert_eq!(engine.shell("dev", "cat ~/file"), "kept");
        assert_eq!(engine.planned(), ["replace container/dev"], "the wish stands");

        engine.configure("volumes: { data: {} }\nsandboxes: { dev: { image: host, home: { volume: data } } }");
        engine.expect_nothing_to_do();
    }

    /// Ceilings, networks and, on Podman 5, the restart policy change in place; what the kernel enforces is what is
    /// asked for, after a restart too.
    fn live_changes_keep_the_container(engine) {
        let configure = |networks: &str, more: &str| {
            engine.configure(&format!(
                "networks: {{ left: {{}}, right: {{}} }}\n\
                 sandboxes: {{ dev: {{ image: host, networks: [{networks}]{more} }} }}"
            ));
        };
        let rootful = !engine.kind().is_rootless();
        let first = if rootful { ", limits: { pids: 100, memory: 64MiB }" } else { "" };
        let second = if rootful { ", limits: { pids: 50, memory: 96MiB, cpus: 0.5 }" } else { "" };
        configure("left", first);
        engine.converge();
        let (id, pid) = (engine.id("dev"), engine.pid("dev"));

        configure("left, right", second);
        assert_eq!(engine.planned(), ["update container/dev"]);
        engine.converge();
        configure("right", second);
        engine.converge();
        assert_eq!((engine.id("dev"), engine.pid("dev")), (id.clone(), pid), "neither replaced nor restarted");
        let networks = engine.container("dev")["NetworkSettings"]["Networks"].clone();
        assert_eq!(networks.as_object().unwrap().keys().collect::<Vec<_>>(), ["demo_right"]);
        if rootful {
            assert_eq!(ceilings(engine), ["50", "100663296", "50000"]);
            engine.podman(&["restart", "--time", "1", "demo_dev"]);
            wait_for("the daemon to let it in", Duration::from_secs(10), || {
                (engine.sbx(&["exec", "dev", "--", "true"]).run().code == 0).then_some(())
            });
            engine.converge();
            assert_eq!(ceilings(engine), ["50", "100663296", "50000"]);
            configure("right", "");
            engine.converge();
            assert_eq!(engine.id("dev"), id);
            // What is no longer asked for gives way to what everybody gets: 4 GiB, two processors.
            assert_eq!(ceilings(engine)[1..], ["4294967296", "200000"]);
        }

        configure("right", ", restart: always");
        let action = if engine.kind().is_5() { "update" } else { "replace" };
        assert_eq!(engine.planned(), [format!("{action} container/dev")]);
        engine.converge();
        assert_eq!(engine.container("dev")["HostConfig"]["RestartPolicy"]["Name"], "always");
        assert_eq!(engine.id("dev") == id, engine.kind().is_5());
    }

    /// A start gives the ceilings that were applied last, where an engine knows others, and never more than the file.
    fn a_start_gives_the_ceilings_that_were_applied_last(engine) {
        if engine.kind().is_rootless() {
            // Without cgroup v2 an ordinary user has none to set.
            return;
        }
        let configure = |memory: u64, more: &str| {
            engine.configure(&format!(
                "sandboxes: {{ dev: {{ image: host, limits: {{ memory: {memory}MiB }}{more} }} }}"
            ));
        };
        let again = || {
            engine.sbx(&["stop", "dev"]).run().expect_code(0);
            engine.sbx(&["start", "dev"]).run().expect_code(0);
            ceilings(engine)[1].parse::<u64>().unwrap() >> 20
        };
        configure(128, "");
        engine.converge();
        configure(64, "");
        engine.converge();
        // Neither is applied.
        configure(96, ", env: { A: '1' }");
        assert_eq!(again(), 64);
        configure(48, "");
        assert_eq!(again(), 48);
        // Where nobody remembers.
        configure(64, "");
        engine.converge();
        engine.as_root("rm").arg("-r").arg(engine.home().join(".local/state/sbx/applied")).ok();
        configure(64, ", env: { A: '1' }");
        assert_eq!(again(), 64);
    }

    /// What would be lost is named with the flag that consents; nothing goes without it.
    fn losses_need_consent(engine) {
        engine.configure("sandboxes: { dev: { image: host, security: { tmpfs: { /scratch: 8MiB } } } }");
        engine.converge();
        let before = engine.id("dev");
        engine.shell("dev", "mkdir -p ~/src && echo work > ~/src/file && echo draft > /scratch/draft");
        let session = engine.sbx(&["exec", "dev", "--", "sleep", "1000"]).start();
        wait_for("the exec session", Duration::from_secs(10), || {
            let ids = engine.container("dev")["ExecIDs"].as_array().cloned().unwrap_or_default();
            // One that has just ended may still be listed, and be gone when it is looked at; one that begins is listed
            // before it runs.
            let runs = |answer: String| answer.contains("1000") && answer.contains("\"Running\":true");
            let running = ids.iter().map(text).any(|id| runs(engine.answer(&format!("/exec/{id}/json"))));
            running.then_some(())
        });

        engine.configure("sandboxes: { dev: { image: host, env: { A: '1' }, security: { tmpfs: { /scratch: 8MiB } } } }");
        let change = engine.planned_for("container/dev");
        let losses: Vec<(&str, &str)> =
            change["loses"].as_array().unwrap().iter().map(|loss| (text(&loss["what"]), text(&loss["detail"]))).collect();
        assert!(losses.iter().any(|(what, detail)| *what == "writable layer" && detail.starts_with("1 file")), "{losses:?}");
        assert!(losses.contains(&("exec session", "sleep 1000")), "{losses:?}");
        assert!(losses.contains(&("tmpfs", "/scratch: 1 file, 6 B")), "{losses:?}");

        let refused = engine.try_apply(&[]).expect_code(73);
        assert!(refused.told().contains("--accept-loss container/dev"), "{}", refused.stderr);
        engine.try_apply(&["--accept-loss", "container/other"]).expect_code(73);
        assert_eq!(engine.id("dev"), before);
        assert_eq!(engine.shell("dev", "cat ~/src/file /scratch/draft"), "work\ndraft");

        engine.try_apply(&["--accept-loss", "container/dev"]).expect_code(0);
        assert_ne!(engine.id("dev"), before);
        drop(session);
        engine.expect_nothing_to_do();
    }
}

/// Without anything to lose a replacement needs no consent, and what is in a volume or bind is not lost.
#[test]
fn kept_data_is_no_loss() {
    let engine = Engine::start(Kind::Rootless5);
    engine.write("work/file", "x");
    let configure = |value: u8| {
        engine.configure(&format!(
            "volumes: {{ data: {{}} }}\n\
             sandboxes: {{ dev: {{ image: host, home: {{ volume: data }}, env: {{ A: '{value}' }},\n\
             \x20 mounts: [{{ source: ./work, target: /work, mode: rw }}] }} }}"
        ));
    };
    configure(1);
    engine.converge();
    engine.shell("dev", "echo a > ~/a; echo b > /work/b");
    configure(2);
    engine.converge();
    assert_eq!(engine.shell("dev", "cat ~/a /work/b"), "a\nb");
    engine.try_apply(&["--replace", "dev"]).expect_code(0);
    assert_eq!(engine.shell("dev", "cat ~/a /work/b"), "a\nb");
}

/// Ceilings as the kernel has them: processes, bytes, CPU quota per 100 ms.
fn ceilings(engine: &Engine) -> Vec<String> {
    let groups = engine.as_root("cat").arg(format!("/proc/{}/cgroup", engine.pid("dev"))).ok();
    let read = |controller: &str, file: &str| {
        let line =
            groups.lines().find(|line| line.split(':').nth(1).unwrap().split(',').any(|name| name == controller));
        let path = line.unwrap_or_else(|| panic!("no {controller} in {groups}")).splitn(3, ':').nth(2).unwrap();
        engine.as_root("cat").arg(format!("/sys/fs/cgroup/{controller}{path}/{file}")).ok()
    };
    vec![read("pids", "pids.max"), read("memory", "memory.limit_in_bytes"), read("cpu", "cpu.cfs_quota_us")]
}
