//! No API service runs: one is started for the run, and ends with it.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use crate::engine::Engine;
use crate::invocation::Invocation;
use crate::on_every_engine;
use crate::wait::{eventually, wait_for};

/// `sbx` without a hint where an engine might be.
fn sbx<'e>(engine: &'e Engine, args: &[&str]) -> Invocation<'e> {
    engine.sbx(args).env_remove("CONTAINER_HOST")
}

/// What a run has beside itself: services, and directories for their sockets.
fn beside(engine: &Engine) -> String {
    let script = "grep -lazx service /proc/[0-9]*/cmdline; find \"$0/run\" \"$0/storage/tmp\" -name 'sbx-*' ! -name '*.turn' 2>/dev/null; true";
    engine.as_root("sh").args(["-c", script]).arg(engine.dir()).ok()
}

#[track_caller]
fn nothing_is_left(engine: &Engine) {
    let gone = eventually(Duration::from_secs(10), || beside(engine).is_empty().then_some(()));
    assert!(gone.is_some(), "{}", beside(engine));
}

on_every_engine! {
    /// Whether nobody has ever listened, or a socket is left over; the sandboxes run on without it.
    fn one_for_the_run(engine) {
        engine.kill_service();
        assert_eq!(beside(engine), "");
        engine.configure("defaults: { image: host, egress: { mode: none } }\nsandboxes: { dev: {}, web: { home: { tmpfs: 8MiB } } }");
        assert!(engine.socket().exists() && !engine.answers(), "a dead socket");
        sbx(engine, &["apply", "--auto-approve"]).run().expect_code(0);
        nothing_is_left(engine);

        fs::remove_file(engine.socket()).unwrap();
        assert_eq!(sbx(engine, &["exec", "dev", "--", "echo", "inside"]).ok(), "inside");
        let again = sbx(engine, &["apply", "--auto-approve"]).run().expect_code(0);
        assert!(again.stdout.contains("No changes."), "{}\n{}", again.stdout, again.stderr);
        sbx(engine, &["plan", "--detailed-exitcode"]).run().expect_code(0);
        nothing_is_left(engine);
        let running = engine.podman(&["ps", "--format", "{{.Names}}"]);
        assert_eq!(running.lines().collect::<std::collections::BTreeSet<_>>(), ["demo_dev", "demo_web"].into());

        // Nor is anything left of a run that fails, or that is interrupted.
        engine.configure("defaults: { image: host, egress: { mode: none } }\nsandboxes: { dev: {}, web: { command: [/no/such/program] } }");
        let failed = sbx(engine, &["apply", "--auto-approve", "--accept-loss", "container/web"]).run();
        assert!(failed.code == 1 && failed.told().contains("/no/such/program"), "{failed:?}");
        nothing_is_left(engine);
        // What runs take turns by is the same for all of them, whatever socket each has.
        let turns = engine.as_root("find").arg(engine.dir().join("run")).args(["-name", "*.turn"]).ok();
        assert!(turns.lines().count() <= 1, "{turns}");
        engine.configure(
            "secrets: { slow: { command: [sh, -c, 'touch begun; sleep 1000'] } }\n\
             defaults: { image: host, egress: { mode: none } }\nsandboxes: { dev: { env: { SLOW: { secret: slow } } } }",
        );
        let plan = sbx(engine, &["plan"]).start();
        wait_for("the plan to be under way", Duration::from_secs(20), || {
            engine.project().join("begun").exists().then_some(())
        });
        let there = beside(engine);
        assert!(there.contains("/cmdline") && there.contains("/sbx-"), "{there}");
        plan.signal(Signal::INT);
        plan.finish().expect_code(130);
        nothing_is_left(engine);

        // A killed run cannot end its service, which ends by itself; its directory goes all the same.
        let follow = sbx(engine, &["logs", "--follow", "dev"]).start();
        wait_for("the log to be followed", Duration::from_secs(20), || {
            let there = beside(engine);
            (there.contains("/cmdline") && there.contains("/sbx-")).then_some(())
        });
        follow.signal(Signal::KILL);
        follow.finish().expect_code(137);
        wait_for("the service's own end", Duration::from_secs(30), || beside(engine).is_empty().then_some(()));

        // Nor of one that waits for a service that never answers.
        let mute = engine.write("bin/podman", "#!/bin/sh\nwhile :; do sleep 1; done\n");
        engine.as_root("chmod").arg("755").arg(&mute).ok();
        let path = format!("{}:/usr/bin:/bin", mute.parent().unwrap().display());
        let plan = sbx(engine, &["plan"]).env("PATH", path).start();
        wait_for("the service to be waited for", Duration::from_secs(20), || {
            let there = beside(engine);
            (there.contains("/cmdline") && there.contains("/sbx-")).then_some(())
        });
        plan.signal(Signal::TERM);
        assert_eq!(plan.finish().expect_code(130).stderr, "error: interrupted\n");
        nothing_is_left(engine);
    }
}
