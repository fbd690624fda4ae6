//! How many sandboxes there may be on a host, over all projects.

use std::time::Duration;

use rustix::process::Signal;

use crate::engine::Engine;
use crate::invocation::Finished;
use crate::on_every_engine;
use crate::wait::wait_for;

/// Applies a project of its own directory: `sandboxes` are names and owners.
fn apply(engine: &Engine, project: &str, quotas: &str, sandboxes: &[(&str, &str)]) -> Finished {
    let mut text = format!("apiVersion: sbx/v1\nproject: {project}\nquotas: {{ {quotas} }}\nsandboxes:\n");
    for (name, owner) in sandboxes {
        text += &format!("  {name}: {{ image: host, owner: {owner}, home: {{ tmpfs: 8MiB }} }}\n");
    }
    engine.write(format!("{project}/sandboxes.yaml"), text);
    let apply = ["apply", "--auto-approve"];
    engine.sbx(&apply).cwd(engine.project().join(project)).run()
}

/// Refused at the line of the sandbox, with this said of it, and nothing made, not even an image.
#[track_caller]
fn expect_refused(engine: &Engine, quotas: &str, sandboxes: &[(&str, &str)], field: &str, said: &str) {
    let before = engine.state();
    let refused = apply(engine, "second", quotas, sandboxes).expect_code(65);
    for part in [said, "sandboxes.yaml:5:3", &format!("raise quotas.{field}")] {
        assert!(refused.told().contains(part), "{part}: {}", refused.stderr);
    }
    assert_eq!(engine.state(), before);
}

on_every_engine! {
    /// Each owner's share and the whole count what other projects hold, stopped ones too, and what is not ours not at
    /// all. One fewer, here or there, and the same file passes.
    fn quotas_hold_over_all_projects(engine) {
        let image = engine.import_busybox();
        engine.podman(&["create", "--name", "theirs", "--network", "none", image, "true"]);
        apply(engine, "first", "perOwner: 2, total: 2", &[("one", "alice"), ("two", "bob")]).expect_code(0);
        engine.sbx(&["stop", "one"]).cwd(engine.project().join("first")).ok();

        let alices = "alice would hold 2 sandboxes, 1 are allowed: first/one, second/late";
        expect_refused(engine, "perOwner: 1", &[("late", "alice")], "perOwner", alices);
        apply(engine, "second", "perOwner: 1", &[("late", "carol")]).expect_code(0);

        let all = "there would be 4 sandboxes, 3 are allowed: \
                   first/one (alice), first/two (bob), second/extra (dave), second/late (carol)";
        expect_refused(engine, "total: 3", &[("extra", "dave"), ("late", "carol")], "total", all);
        // What is there already is nobody's hostage: a quota below what is held refuses only what adds to it.
        apply(engine, "second", "perOwner: 1, total: 1", &[("late", "carol")]).expect_code(0);

        // One goes in the other project.
        apply(engine, "first", "", &[("two", "bob")]).expect_code(0);
        apply(engine, "second", "total: 3", &[("extra", "dave"), ("late", "carol")]).expect_code(0);
        let names: Vec<String> = engine.containers().into_keys().collect();
        assert_eq!(names, ["first_two", "second_extra", "second_late", "theirs"]);

        // Without a word in the file it is five of one owner, seven in all.
        let five = [("a-a", "bob"), ("b-b", "bob"), ("c-c", "bob"), ("d-d", "bob"), ("e-e", "bob")];
        let bobs = "bob would hold 6 sandboxes, 5 are allowed: \
                    first/two, second/a-a, second/b-b, second/c-c, second/d-d, second/e-e";
        expect_refused(engine, "", &five, "perOwner", bobs);
        let eight = [&five[..], &[("late", "carol"), ("extra", "dave")]].concat();
        expect_refused(engine, "perOwner: 6", &eight, "total", "there would be 8 sandboxes, 7 are allowed: first/two (bob), ");
    }

    /// What another project's run is still about to create has its place already, for as long as that run goes on. Nobody
    /// waits for it.
    fn what_another_run_is_about_to_create(engine) {
        let root = engine.rootfs("root");
        engine.write("first/sandboxes.yaml", format!(
            "apiVersion: sbx/v1\nproject: first\n\
             images: {{ bare: {{ rootfs: {} }}, made: {{ from: bare, setup: {{ run: [sleep 1000] }} }} }}\n\
             sandboxes: {{ one: {{ image: made, owner: alice }} }}\n",
            root.display()
        ));
        let first = engine.sbx(&["apply", "--auto-approve"]).cwd(engine.project().join("first")).start();
        let running = || engine.containers().values().any(|state| state == "running").then_some(());
        wait_for("the commands to run", Duration::from_secs(30), running);

        let all = "there would be 2 sandboxes, 1 are allowed: first/one (alice), second/late (bob)";
        expect_refused(engine, "total: 1", &[("late", "bob")], "total", all);
        let alices = "alice would hold 2 sandboxes, 1 are allowed: first/one, second/late";
        expect_refused(engine, "perOwner: 1", &[("late", "alice")], "perOwner", alices);
        apply(engine, "second", "total: 2, perOwner: 1", &[("late", "bob")]).expect_code(0);

        first.signal(Signal::KILL);
        first.finish().expect_code(137);
        apply(engine, "second", "total: 2", &[("late", "bob"), ("more", "bob")]).expect_code(0);
    }

    /// To give a sandbox to somebody else is a change like any other, and theirs count it.
    fn a_sandbox_given_to_another_owner(engine) {
        apply(engine, "first", "", &[("one", "alice"), ("two", "bob")]).expect_code(0);
        let owner = || engine.get("/containers/first_one/json")["Config"]["Labels"]["sbx.owner"].clone();
        let refused = apply(engine, "first", "perOwner: 1", &[("one", "bob"), ("two", "bob")]).expect_code(65);
        assert!(refused.told().contains("bob would hold 2 sandboxes, 1 are allowed: first/one, first/two"), "{}", refused.stderr);
        assert_eq!(owner(), "alice");
        apply(engine, "first", "", &[("one", "bob"), ("two", "bob")]).expect_code(0);
        assert_eq!(owner(), "bob");
        engine.sbx(&["plan", "--detailed-exitcode"]).cwd(engine.project().join("first")).run().expect_code(0);
    }
}
