//! The files users start from.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::engine::{Engine, Kind};
use crate::image::Archive;
use crate::on_every_engine;

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");

/// Copies the examples, because what they refer to lies beside them.
fn copy(engine: &Engine, from: &Path, to: &str) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let name = format!("{to}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().unwrap().is_dir() {
            copy(engine, &entry.path(), &name);
        } else {
            engine.write(name, fs::read(entry.path()).unwrap());
        }
    }
}

/// The same, and what everybody has to supply themselves.
fn supplied(engine: &Engine) {
    copy(engine, Path::new(EXAMPLES), "examples");
    engine.archive(Archive::Docker, "examples/saved.tar", false);
    let (from, to) = (engine.rootfs("unpacked"), engine.project().join("examples/rootfs"));
    engine.as_root("cp").arg("-a").args([from, to]).ok();
}

/// Every one of them is right, and plans.
#[test]
fn every_example_plans() {
    let engine = Engine::start(Kind::Rootless4);
    supplied(&engine);
    let files = fs::read_dir(EXAMPLES).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files: Vec<_> = files.filter(|name| Path::new(name).extension().is_some_and(|end| end == "yaml")).collect();
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        let path = format!("examples/{file}");
        let sbx = |args: &[&str]| engine.sbx(args).env("MODEL_KEY", "k").run().expect_code(0);
        sbx(&["validate", "-f", &path]);
        let plan = sbx(&["plan", "--json", "-f", &path]).json();
        assert_ne!(plan["summary"]["create"], 0, "{file}");
    }
    assert!(engine.containers().is_empty());
}

/// Root filesystems that come from this machine.
#[test]
fn images_that_need_no_registry_run() {
    let engine = Engine::start(Kind::Rootless4);
    supplied(&engine);
    let sbx = |args: &[&str]| engine.sbx(&["-f", "examples/images.yaml"]).args(args).run().expect_code(0);
    sbx(&["apply", "--auto-approve", "--target", "on-tools", "--target", "on-saved", "--target", "on-unpacked"]);
    for sandbox in ["on-tools", "on-saved", "on-unpacked"] {
        assert_eq!(sbx(&["exec", "-T", sandbox, "--", "sh", "-c", "echo here"]).stdout, "here\n");
    }
}

on_every_engine! {
    /// The hardened one: its key is inside and nowhere else.
    fn the_agent_runs(engine) {
        engine.write("sandboxes.yaml", fs::read(Path::new(EXAMPLES).join("agent.yaml")).unwrap());
        let sbx = |args: &[&str]| engine.sbx(args).env("MODEL_KEY", "very-secret-value").run();
        let unset = engine.sbx(&["apply", "--auto-approve"]).run().expect_code(65);
        assert!(unset.stderr.contains("MODEL_KEY") && unset.stderr.contains("sandboxes.yaml:"), "{}", unset.stderr);
        let applied = sbx(&["apply", "--auto-approve"]).expect_code(0);
        sbx(&["plan", "--detailed-exitcode"]).expect_code(0);
        assert_eq!(sbx(&["exec", "agent-2", "--", "sh", "-c", "echo $MODEL_KEY; touch /workspace/x ~/x; pwd"]).expect_code(0).stdout, "very-secret-value\n/workspace\n");
        let sandboxes = engine.podman(&["inspect", "agents_agent-1", "agents_agent-2"]);
        // Podman 4 itself shows the whole environment of a running container to whoever may inspect it.
        assert!(!engine.kind().is_5() || !sandboxes.contains("very-secret-value"));
        let records = engine.podman(&["secret", "inspect", &secret_name(engine)])
            + &engine.podman(&["ps", "--all", "--format", "json"])
            + &(applied.stdout + &applied.stderr + &sbx(&["plan", "--full", "--json"]).stdout);
        assert!(!records.contains("very-secret-value"));
    }

    /// The fenced one: its policy is in force, what nobody allowed is refused by name, and the key stays outside.
    fn the_fence_stands(engine) {
        engine.write("sandboxes.yaml", fs::read(Path::new(EXAMPLES).join("egress.yaml")).unwrap());
        let sbx = |args: &[&str]| engine.sbx(args).env("MODEL_KEY", "very-secret-value").run();
        let applied = sbx(&["apply", "--auto-approve"]).expect_code(0);
        sbx(&["plan", "--detailed-exitcode"]).expect_code(0);
        sbx(&["test"]).expect_code(0);
        let status = sbx(&["status", "--json"]).expect_code(0);
        let (agent, store) = (&status.json()["sandboxes"][0], &status.json()["sandboxes"][1]);
        assert_eq!((&agent["name"], &agent["egress"]["attached"]), (&"agent".into(), &true.into()), "{agent:#}");
        assert_eq!((&agent["egress"]["problem"], &agent["egress"]["missing_secrets"]), (&Value::Null, &serde_json::json!([])));
        assert_eq!((&store["name"], &store["egress"]["mode"]), (&"store".into(), &"none".into()), "{store:#}");

        let opens = |sandbox: &str, host: &str| {
            let script = format!("exec 3<>/dev/tcp/{host}/443");
            sbx(&["exec", "-T", sandbox, "--", "bash", "-c", &script]).code == 0
        };
        for host in ["gist.github.com", "elsewhere.test"] {
            assert!(!opens("agent", host) && !opens("store", host), "{host}");
        }
        let denied = sbx(&["egress", "log", "agent", "--denied"]).expect_code(0).stdout;
        assert!(denied.contains("elsewhere.test") && denied.contains("gist.github.com"), "{denied}");
        // Where the file leads out, the sandbox has a connection to speak on, whatever is at the other end.
        assert!(opens("agent", "api.github.com"), "{}", sbx(&["egress", "log"]).stdout);

        let inside = sbx(&["exec", "-T", "agent", "--", "sh", "-c", "env; cat /proc/1/environ; cat /run/secrets/* 2>/dev/null; true"]);
        let told = [applied.stdout, applied.stderr, inside.expect_code(0).stdout, status.stdout, engine.podman(&["inspect", "fenced_agent"])];
        assert!(told.iter().all(|text| !text.contains("very-secret-value")), "{told:?}");
    }

    /// One sandbox for each branch of one repository.
    fn worktrees_run(engine) {
        engine.bare_repository("origin.git");
        engine.write("sandboxes.yaml", fs::read(Path::new(EXAMPLES).join("worktrees.yaml")).unwrap());
        let trees = engine.project().join("trees");
        let sbx = |args: &[&str]| {
            let repository = engine.project().join("origin.git");
            engine.sbx(args).env("REPOSITORY", repository).env("TREES", &trees).run().expect_code(0)
        };
        sbx(&["apply", "--auto-approve"]);
        sbx(&["plan", "--detailed-exitcode"]);
        for branch in ["login", "search"] {
            let said = sbx(&["exec", branch, "--", "sh", "-c", "pwd; git branch --show-current; cat file"]).stdout;
            assert_eq!(said, format!("{}/{branch}\nfeature/{branch}\ncontent", trees.display()));
        }
    }
}

fn secret_name(engine: &Engine) -> String {
    engine.state().into_keys().find_map(|key| key.strip_prefix("secret ").map(str::to_owned)).unwrap()
}
