//! Whether sandboxes are ready: what an apply waits for, and what a watch shows.

use std::io::{BufRead as _, BufReader, Lines};
use std::process::ChildStdout;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::invocation::Running;
use crate::on_every_engine;
use crate::wait::wait_for;

const MISSING: &str = "defaults: { image: host }\nsandboxes: { dev: { command: [/no/such/program] } }";

fn lines(running: &mut Running<'_>) -> Lines<BufReader<ChildStdout>> {
    BufReader::new(running.child.stdout.take().expect("stdout is caught")).lines()
}

on_every_engine! {
    /// An apply that waits sees that the command cannot run, and one that does not wait is done when it is started. The old
    /// sandbox is given up for one that runs only, whoever waits.
    fn waiting(engine) {
        engine.configure(MISSING);
        let failed = engine.try_apply(&[]).expect_code(1);
        assert!(failed.told().contains("container/dev failed to wait until demo_dev is ready"), "{}", failed.stderr);
        for (flags, code) in [
            (&["--wait"][..], 1),
            (&["--no-wait", "--wait"], 1),
            (&["--no-wait"], 0),
            (&["--wait", "--no-wait"], 0),
        ] {
            engine.sbx(&["destroy", "--auto-approve"]).run().expect_code(0);
            engine.try_apply(flags).expect_code(code);
            wait_for("the end of what cannot run", Duration::from_secs(20), || {
                (engine.containers()["demo_dev"] == "exited").then_some(())
            });
        }
        let status = engine.sbx(&["status", "--json"]).run().expect_code(0).json();
        let dev = &status["sandboxes"][0];
        assert_eq!((&dev["phase"], &dev["conditions"][0]["status"]), (&"Failed".into(), &"False".into()), "{dev:#}");
        assert_eq!(dev["conditions"][0]["message"], "the main process ended with 127");

        engine.configure("defaults: { image: host }\nsandboxes: { dev: {} }");
        engine.try_apply(&["--no-wait"]).expect_code(0);
        engine.expect_nothing_to_do();
        let id = engine.id("dev");
        engine.configure(MISSING);
        let failed = engine.try_apply(&["--no-wait"]).expect_code(1);
        assert!(failed.told().contains("what was there before is there again"), "{}", failed.stderr);
        assert_eq!((engine.id("dev"), engine.containers()["demo_dev"].as_str()), (id, "running"));
    }

    /// Shown again whenever it has changed and only then, until interrupted.
    fn a_watch(engine) {
        engine.configure("defaults: { image: host }\nsandboxes: { dev: {}, web: {} }");
        engine.converge();
        let watch = |more: &[&str]| engine.sbx(&["status", "--watch", "--interval", "100ms"]).args(more).start();

        let mut watching = watch(&["--json", "dev"]);
        let mut frames = lines(&mut watching).map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        let first = frames.next().unwrap();
        let of = |frame: &Value| {
            let dev = &frame["sandboxes"][0];
            format!("{} {} {}", dev["name"], dev["phase"], dev["conditions"][0]["reason"]).replace('"', "")
        };
        assert_eq!((of(&first).as_str(), first["sandboxes"].as_array().unwrap().len()), ("dev Running Running", 1));
        engine.sbx(&["stop", "dev"]).run().expect_code(0);
        let mut seen = vec![first];
        while of(seen.last().unwrap()) != "dev Stopped StoppedOnPurpose" {
            seen.push(frames.next().unwrap());
        }
        engine.sbx(&["start", "dev"]).run().expect_code(0);
        while of(seen.last().unwrap()) != "dev Running Running" {
            seen.push(frames.next().unwrap());
        }
        // Another sandbox is none of its business.
        engine.sbx(&["stop", "web"]).run().expect_code(0);
        watching.signal(Signal::INT);
        seen.extend(frames);
        assert_eq!(of(seen.last().unwrap()), "dev Running Running");
        assert!(seen.windows(2).all(|pair| pair[0] != pair[1]), "{seen:#?}");
        assert_eq!(watching.finish().expect_code(130).stderr, "");

        // For people: tables one after the other, as standard output is no terminal.
        let mut watching = watch(&[]);
        let mut text = lines(&mut watching).map(Result::unwrap);
        let mut row = |state: &str| text.find(|line| line.starts_with("web ") && line.contains(state)).unwrap();
        row("Stopped");
        engine.sbx(&["start", "web"]).run().expect_code(0);
        row("Running");
        watching.signal(Signal::TERM);
        assert_eq!(watching.finish().expect_code(130).stderr, "");
    }
}
