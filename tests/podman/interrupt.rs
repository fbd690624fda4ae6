//! Interrupted by SIGINT or SIGTERM: exit code 130, a report, nothing left behind; what is being changed is finished first.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::engine::Engine;
use crate::invocation::Running;
use crate::on_every_engine;
use crate::wait::wait_for;

const FINISHING: &str = "Interrupted: finishing the step in hand. Once more stops at once.";

/// A sandbox whose image is made by `commands`.
fn configure(engine: &Engine, commands: &str) {
    let root = engine.project().join("root.tar");
    if !root.exists() {
        engine.write("root.tar", std::fs::read(engine.rootfs_tar("root.tar")).unwrap());
    }
    engine.configure(&format!(
        "images: {{ bare: {{ rootfs: ./root.tar }}, made: {{ from: bare, setup: {{ run: [{commands:?}] }} }} }}\n\
         sandboxes: {{ dev: {{ image: made }} }}"
    ));
}

/// The container in which the commands of an image run, once they do.
fn builder(engine: &Engine) -> String {
    wait_for("the commands to run", Duration::from_mins(1), || {
        let name = engine.containers().into_iter().find(|(name, state)| name != "demo_dev" && state == "running")?.0;
        engine.podman_command(&["top", &name, "args"]).run().stdout.contains("sleep").then_some(name)
    })
}

/// Whether it has the lock's file open, which is what it waits for.
fn waits(running: &Running<'_>) -> bool {
    let open = std::fs::read_dir(format!("/proc/{}/fd", running.child.id())).unwrap();
    open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .any(|path| path.components().any(|part| part.as_os_str() == "locks"))
}

on_every_engine! {
    /// The step in hand is finished and nothing else is begun; the report says so, and the next apply goes on from there.
    fn an_apply(engine) {
        for (signal, more, marker) in [(Signal::INT, None, "/first"), (Signal::TERM, Some("--json"), "/second")] {
            configure(engine, &format!("until [ -e {marker} ]; do sleep 0.1; done"));
            let mut apply = engine.sbx(&["apply", "--auto-approve"]).args(more).start();
            let builder = builder(engine);
            apply.signal(signal);
            apply.hear(FINISHING);
            engine.podman(&["exec", &builder, "touch", marker]);
            let finished = apply.finish().expect_code(130);
            let running = engine.containers();
            assert!(!running.contains_key(&builder), "{running:?}");
            if more.is_some() {
                let last: Value = serde_json::from_str(finished.stdout.lines().last().unwrap()).unwrap();
                assert_eq!((&last["event"], &last["exit_code"]), (&"outcome".into(), &130.into()));
                assert_eq!(last["outcome"]["interrupted"], true, "{last:#}");
                let endings = last["outcome"]["results"].as_array().unwrap().iter();
                let endings: Vec<String> = endings.map(|result| format!("{} {}", result["resource"], result["result"])).collect();
                assert!(endings.iter().any(|text| text.contains("image/made") && text.contains("done")), "{endings:?}");
                assert!(endings.iter().any(|text| text.contains("container/dev") && text.contains("not-tried")), "{endings:?}");
            } else {
                for part in [
                    "image/made created",
                    "container/dev: the run was interrupted",
                    "Interrupted: 2 done, 0 failed, 1 not tried. Run the command again to go on.",
                ] {
                    assert!(finished.told().contains(part), "{part}: {}", finished.stderr);
                }
                assert!(running.is_empty(), "{running:?}");
            }
            let planned = engine.planned();
            assert!(!planned.is_empty() && !planned.contains(&"create image/made".into()), "what was finished stays: {planned:?}");
            engine.converge();
            engine.inside("dev", &["ls", marker]);
        }
    }

    /// Whoever waits for another to be done is not done anything to, and has nothing to finish; the second signal does not
    /// wait for the step in hand either, whose container is removed all the same.
    fn at_once(engine) {
        configure(engine, "sleep 1000");
        let mut holder = engine.sbx(&["apply", "--auto-approve"]).start();
        let builder = builder(engine);
        for (signal, more) in [(Signal::INT, None), (Signal::TERM, Some("--json"))] {
            let patient = engine.sbx(&["apply", "--auto-approve", "--lock-timeout", "100s"]).args(more).start();
            wait_for("it to wait", Duration::from_secs(20), || waits(&patient).then_some(()));
            patient.signal(signal);
            let finished = patient.finish().expect_code(130);
            if more.is_some() {
                let error = &finished.json()["error"];
                assert_eq!((&error["code"], &error["exit_code"]), (&"sbx::interrupted".into(), &130.into()));
            } else {
                assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("", "error: interrupted\n"));
            }
        }
        holder.signal(Signal::TERM);
        holder.hear(FINISHING);
        holder.signal(Signal::INT);
        let finished = holder.finish().expect_code(130);
        assert_eq!(finished.told(), "error: interrupted");
        wait_for("what the step had made to go", Duration::from_secs(10), || {
            (!engine.containers().contains_key(&builder)).then_some(())
        });

        configure(engine, "touch /made");
        engine.converge();
        assert_eq!(engine.containers(), [("demo_dev".into(), "running".into())].into());
    }
}
