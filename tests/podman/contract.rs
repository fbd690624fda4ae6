//! The promises of the command line that need an engine: exit codes, and the shapes of what `--json` prints.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::engine::{Engine, Kind};
use crate::on_every_engine;
use crate::project::text;
use crate::wait::wait_for;

/// The keys of an object, in order.
fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

const FILE: &str = "networks: { inner: {} }\ndefaults: { image: host }\nsandboxes:\n\
                    \x20 api: { networks: [inner], home: { tmpfs: 8MiB }, env: { A: '1' } }\n\
                    \x20 web: { networks: [inner] }";

/// What `docs/cli.md` says that `--json` makes of the output of each command.
fn documented() -> BTreeMap<&'static str, &'static str> {
    let text = include_str!("../../docs/cli.md");
    let section = text.split_once("## JSON\n").and_then(|(_, rest)| rest.split_once("\n## ")).expect("a section").0;
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | `"));
    rows.flat_map(|(form, commands)| commands.split(", ").map(move |name| (name.trim_matches('`'), form))).collect()
}

/// Each command prints one document, or lines of documents, as the documentation has it.
#[test]
fn json_has_the_documented_form() {
    let engine = Engine::start(Kind::Rootless5);
    engine.configure(
        "tests: [{ sandbox: dev, allow: 'https://h.test/' }]\n\
         sandboxes:\n\
         \x20 dev: { image: host, egress: { allow: [{ host: h.test }] },\n\
         \x20   command: [sh, -c, 'echo one; echo two; getent hosts evil.test; getent hosts worse.test; exec sleep 1000'] }",
    );
    engine.write("empty/file", "");
    let mut documented = documented();
    let mut ran = |words: &str| {
        let mut invocation = engine.sbx(&words.split(' ').chain(["--json"]).collect::<Vec<_>>());
        if words == "init" {
            invocation = invocation.cwd(engine.project().join("empty"));
        }
        let stdout = invocation.run().expect_code(0).stdout;
        let name = words.split(' ').take(2).collect::<Vec<_>>().join(" ");
        let name = if documented.contains_key(&*name) { &name } else { words.split(' ').next().unwrap() };
        let form = documented.remove(name).unwrap_or_else(|| panic!("{name} is told in no form, or was run before"));
        let lines = || -> Vec<Value> {
            stdout
                .lines()
                .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{name}: {e}: {line}")))
                .collect()
        };
        let events = || -> Vec<String> { lines().iter().map(|line| text(&line["event"]).to_owned()).collect() };
        match form {
            "one document" => {
                let document: Value = serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{name}: {e}: {stdout}"));
                assert!(document.is_object() && stdout.lines().count() > 1, "{name}: {stdout}");
            }
            "a line with the plan, one for each event, and one with the outcome" => {
                assert_eq!((events()[0].as_str(), events()[1].as_str()), ("plan", "started"), "{name}");
                assert_eq!(events().last().map(String::as_str), Some("outcome"), "{name}");
            }
            "a line for each event, and one with the outcome" => {
                assert_eq!(events()[0], "started", "{name}");
                assert_eq!(events().last().map(String::as_str), Some("outcome"), "{name}");
            }
            _ => assert!(lines().len() > 1 && lines().iter().all(Value::is_object), "{name}: {stdout}"),
        }
    };
    for words in ["init", "validate", "schema", "plan", "apply --auto-approve"] {
        ran(words);
    }
    wait_for("two lines and two records", Duration::from_secs(10), || {
        let lines = |words: &[&str]| engine.sbx(words).run().expect_code(0).stdout.lines().count();
        (lines(&["logs", "dev"]) > 1 && lines(&["egress", "log"]) > 1).then_some(())
    });
    let rest = "diff, status, list, explain dev https://h.test/, test, lock, logs dev, egress log, egress policy, \
                egress learn dev --for 1s, egress tighten dev, doctor, version, stop dev, start dev, restart dev, \
                daemon status, daemon stop, daemon start, daemon install, destroy --auto-approve";
    for words in rest.split(", ") {
        ran(words);
    }
    let left: Vec<_> = documented.into_keys().collect();
    assert_eq!(left, ["completion", "daemon run", "exec", "man", "shell"], "what has no JSON");

    let mut watching = engine.sbx(&["status", "--watch", "--json"]).start();
    let mut line = String::new();
    BufReader::new(watching.child.stdout.as_mut().expect("stdout is caught")).read_line(&mut line).unwrap();
    assert!(serde_json::from_str::<Value>(&line).is_ok_and(|status| status["sandboxes"].is_array()), "{line}");
    watching.signal(Signal::INT);
    watching.finish();
}

on_every_engine! {
    /// Nobody to ask, a plan that went stale, a lock that is held, a loss without consent: each has its code, and
    /// nothing is changed.
    fn refusals_have_their_codes(engine) {
        engine.configure(FILE);
        engine.sbx(&["apply"]).run().expect_code(73);
        engine.sbx(&["plan", "--out", "first.plan"]).run().expect_code(0);
        let saved = std::fs::read_to_string(engine.project().join("first.plan")).unwrap();
        let mut other: Value = serde_json::from_str(&saved).unwrap();
        other["engine"] = "unix:///elsewhere/podman.sock".into();
        engine.write("other.plan", other.to_string());
        let refused = engine.sbx(&["apply", "other.plan"]).run().expect_code(75);
        assert!(refused.told().contains("the plan is for engine unix:///elsewhere/podman.sock, and this is"), "{}", refused.stderr);
        assert!(engine.containers().is_empty());
        engine.sbx(&["apply", "first.plan"]).run().expect_code(0);
        let stale = engine.sbx(&["apply", "first.plan", "--json"]).run().expect_code(75).json();
        assert_eq!(stale["error"]["code"], "sbx::stale-plan");
        let moved = stale["error"]["details"].as_array().expect("a list");
        assert!(moved.iter().any(|line| text(line).starts_with("container/api")), "{moved:?}");

        engine.shell("api", "echo mine > ~/mine");
        engine.configure(&FILE.replace("'1'", "'2'"));
        let plan = engine.planned_for("container/api");
        assert_eq!(plan["action"], "replace");
        assert_eq!(keys(&plan["loses"][0]), ["what", "detail", "consent"]);
        let before = engine.state();
        let refused = engine.sbx(&["apply", "--auto-approve"]).run().expect_code(73);
        assert!(refused.stderr.contains("--accept-loss container/api"), "{}", refused.stderr);
        assert_eq!(engine.state(), before);
        engine.sbx(&["apply", "--auto-approve", "--timeout", "1ms", "--accept-loss", "container/api"]).run().expect_code(124);
    }

    /// `plan --detailed-exitcode`, `diff`, `exec` and `shell` end as they say.
    fn codes_are_passed_through(engine) {
        engine.configure(FILE);
        engine.sbx(&["plan", "--detailed-exitcode"]).run().expect_code(2);
        engine.sbx(&["diff"]).run().expect_code(1);
        engine.apply();
        engine.sbx(&["plan", "--detailed-exitcode"]).run().expect_code(0);
        assert_eq!(engine.sbx(&["diff"]).run().expect_code(0).stdout, "");
        engine.sbx(&["diff", "--engine-url", "unix:///nowhere"]).run().expect_code(69);
        engine.sbx(&["exec", "api", "--", "sh", "-c", "exit 42"]).run().expect_code(42);
        engine.sbx(&["exec", "api", "--", "sh", "-c", "kill -9 $$"]).run().expect_code(137);
        engine.sbx(&["exec", "api", "--", "/no/such"]).run().expect_code(127);
        engine.sbx(&["shell", "api"]).input("exit 7\n").run().expect_code(7);
        engine.sbx(&["-f", "-", "plan", "--detailed-exitcode"]).input("project: [").run().expect_code(65);
        // An error of the plan is in the one document, which is all there is.
        engine.configure("sandboxes: { dev: { image: host, mounts: [{ source: /not/there, target: /mnt }] } }");
        let wrong = engine.sbx(&["diff", "--json"]).run().expect_code(65).json();
        assert!(wrong["warnings"].to_string().contains("sbx::missing-source"), "{wrong:#}");
    }

    /// The documents have the promised fields, each change that is not ours to make among them.
    fn documents_have_their_shape(engine) {
        engine.podman(&["network", "create", "--internal", "demo_inner"]);
        engine.configure(FILE);
        let held = engine.planned_for("network/inner");
        assert_eq!((&held["action"], &held["drift"]), (&Value::from("forbidden"), &Value::from(false)));
        // Whether there is something else to do or not.
        engine.configure("networks: { inner: {} }\nsandboxes: {}");
        let only = engine.sbx(&["plan", "--detailed-exitcode", "--json"]).run().expect_code(2).json();
        assert_eq!(only["changes"].as_array().map(Vec::len), Some(1), "{only:#}");
        engine.configure(FILE);
        for key in ["resource", "sandbox", "kind", "action", "because", "drift", "fields", "loses"] {
            assert!(keys(&held).contains(&key), "{key}");
        }
        engine.sbx(&["apply", "--auto-approve"]).run().expect_code(73);
        engine.podman(&["network", "rm", "demo_inner"]);
        engine.apply();

        let plan = engine.sbx(&["plan", "--json", "--target", "api"]).run().expect_code(0).json();
        let warned = |plan: &Value| plan["warnings"].to_string().contains("sbx::partial-plan");
        assert_eq!((&plan["partial"], warned(&plan)), (&Value::from(true), true));
        let plan = engine.sbx(&["plan", "--json"]).run().expect_code(0).json();
        assert_eq!((&plan["partial"], warned(&plan)), (&Value::from(false), false));
        for key in ["format_version", "project", "generated_at", "engine", "changes", "summary", "warnings"] {
            assert!(keys(&plan).contains(&key), "{key}");
        }
        assert_eq!(keys(&plan["engine"]), ["kind", "version"]);
        for key in ["create", "update", "replace", "delete", "noop"] {
            assert!(plan["summary"][key].is_u64(), "{key}");
        }

        engine.sbx(&["stop", "web"]).run().expect_code(0);
        let status = engine.sbx(&["status", "--json"]).run().expect_code(0).json();
        let sandboxes = status["sandboxes"].as_array().expect("a list");
        let phases: Vec<_> = sandboxes.iter().map(|one| (text(&one["name"]), text(&one["phase"]))).collect();
        assert_eq!(phases, [("api", "Running"), ("web", "Stopped")]);
        assert_eq!(
            keys(&sandboxes[0]),
            ["name", "owner", "phase", "image", "conditions", "workspaceRoot", "worktrees", "egress"]
        );
        // Since when it is so is told of what the engine and the daemon keep.
        let told: Vec<_> = sandboxes.iter().flat_map(|one| one["conditions"].as_array().expect("a list")).map(|condition| {
            assert_eq!(keys(condition), ["type", "status", "reason", "message", "last_transition"]);
            let time = &condition["last_transition"];
            assert!(time.is_null() || text(time).parse::<jiff::Timestamp>().is_ok(), "{condition}");
            (text(&condition["type"]), text(&condition["reason"]), time.is_string())
        }).collect();
        assert_eq!(told, [
            ("Ready", "Running", true), ("Synced", "UpToDate", false), ("EgressEnforced", "InForce", true),
            ("Ready", "StoppedOnPurpose", true), ("Synced", "UpToDate", false),
        ]);
    }

    /// One sandbox goes, the other and what they share stay; what was changed from outside is told apart.
    fn targets_and_refreshes_are_partial(engine) {
        engine.configure(FILE);
        engine.apply();
        engine.podman(&["stop", "--time", "0", "demo_api"]);
        engine.configure(&FILE.replace("web: {", "web: { env: { B: '2' },"));
        let refreshed = engine.sbx(&["plan", "--refresh-only", "--json"]).run().expect_code(0).json();
        let changes = refreshed["changes"].as_array().expect("a list");
        let drift: Vec<_> = changes.iter().map(|change| (text(&change["resource"]), &change["drift"])).collect();
        assert_eq!(drift, [("container/api", &Value::from(true))]);
        for words in [&["destroy", "--auto-approve"][..], &["plan", "--destroy"]] {
            let refused = engine.sbx(&[words, &["--target", "wbe"]].concat()).run().expect_code(64);
            assert!(refused.stderr.contains("did you mean web?"), "{}", refused.stderr);
        }
        // What has left the file is destroyed by its name all the same.
        engine.configure(&FILE.replace("web: {", "wab: {"));
        engine.sbx(&["destroy", "--target", "web", "--auto-approve"]).run().expect_code(0);
        engine.configure(FILE);
        assert_eq!(engine.containers().into_keys().collect::<Vec<_>>(), ["demo_api"]);
        assert!(engine.state().contains_key("network demo_inner"));
        engine.apply();
        assert_eq!(engine.containers().len(), 2);
    }

    /// What a removal takes with it can be looked at, saved, and is what goes then.
    fn a_removal_is_seen_before(engine) {
        engine.configure(&format!("volumes: {{ kept: {{}} }}\n{}", FILE.replace("web: {", "web: { mounts: [{ volume: kept, target: /kept }],")));
        engine.apply();
        let removed = |words: &[&str]| {
            let plan = engine.sbx(&[&["plan", "--destroy", "--json"], words].concat()).run().expect_code(0).json();
            let changes = plan["changes"].as_array().expect("a list").clone();
            changes.iter().any(|change| change["resource"] == "volume/kept" && change["action"] == "delete")
        };
        assert!(!removed(&[]));
        assert!(removed(&["--volumes"]));
        engine.sbx(&["plan", "--volumes"]).run().expect_code(64);
        engine.sbx(&["plan", "--destroy", "--volumes", "--worktrees", "--secrets", "--out", "gone.plan"]).run().expect_code(0);
        let before = engine.state();
        assert!(before.contains_key("volume demo_kept"), "{before:?}");
        engine.sbx(&["apply", "gone.plan"]).run().expect_code(0);
        assert!(!engine.state().contains_key("volume demo_kept"));
    }

    /// What a sandbox prints is followed to its end, and the reader may leave before.
    fn logs_are_followed(engine) {
        engine.configure(
            "sandboxes:\n\x20 job: { image: host, command: [sh, -c, 'for i in 1 2 3; do echo line $i; sleep 0.3; done; exit 3'] }",
        );
        engine.apply();
        assert_eq!(engine.sbx(&["logs", "-f", "job"]).run().expect_code(0).stdout, "line 1\nline 2\nline 3\n");
        assert_eq!(engine.sbx(&["logs", "job", "--tail", "1"]).ok(), "line 3");
        let script = format!("{} logs job | head -n 1; echo ${{PIPESTATUS[0]}}", engine.sbx_path().display());
        let left = engine.command("bash").args(["-c", &script]).env("CONTAINER_HOST", engine.url()).ok();
        assert_eq!(left, "line 1\n0");

        // For programs a document on each line, as it comes; a line is one however often its writer paused in it.
        let script = "printf one; sleep 0.3; echo \" two\"; echo told >&2; sleep 0.3; printf end";
        engine.configure(&format!("sandboxes:\n\x20 job: {{ image: host, command: [sh, -c, '{script}'] }}"));
        engine.try_apply(&["--accept-loss", "container/job"]).expect_code(0);
        let followed = engine.sbx(&["logs", "-f", "job", "--json"]).run().expect_code(0).stdout;
        let lines: Vec<Value> = followed.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        let of = |stream: &str| -> Vec<&str> {
            lines.iter().filter(|line| line["stream"] == stream).map(|line| text(&line["line"])).collect()
        };
        assert_eq!((of("stdout"), of("stderr")), (vec!["one two", "end"], vec!["told"]), "{followed}");
        assert_eq!((keys(&lines[0]), lines.len()), (vec!["stream", "line"], 3), "{followed}");
    }

    /// A reader that leaves ends a command as it ends one of a shell; a plan that nobody reads is carried out.
    fn readers_may_leave(engine) {
        engine.configure(FILE);
        let unheard = |line: &str| {
            let script = format!("{} {line} | true; echo ${{PIPESTATUS[0]}}", engine.sbx_path().display());
            engine.command("bash").args(["-c", &script]).env("CONTAINER_HOST", engine.url()).ok()
        };
        assert_eq!(unheard("apply --auto-approve"), "0");
        engine.expect_nothing_to_do();
        assert_eq!(unheard("exec api -- sh -c 'sleep 1; yes'"), "141");
    }

    /// Every finding that is not fine has a remedy, and the exit code says whether one of them is an error.
    fn the_doctor_names_remedies(engine) {
        let healthy = engine.sbx(&["doctor", "--json"]).run().expect_code(0).json();
        assert_eq!(healthy["healthy"], true, "{healthy:#}");
        for finding in healthy["findings"].as_array().expect("a list") {
            assert_eq!(finding["level"] == "ok", finding["remedy"].is_null(), "{finding}");
        }
        let sick = engine.sbx(&["doctor"]).env("CONTAINER_HOST", "unix:///nowhere").run().expect_code(1);
        assert!(sick.stdout.contains("FAIL engine: /nowhere"), "{}", sick.stdout);
        assert!(sick.stdout.contains("help: start it with"), "{}", sick.stdout);
        if engine.kind().is_rootless() {
            engine.as_root("sh").args(["-c", "sed -i /sbx-tester/d /etc/subuid 2>/dev/null || : >/etc/subuid"]).ok();
            let sick = engine.sbx(&["doctor"]).run().expect_code(1);
            assert!(sick.stdout.contains("usermod --add-subuids"), "{}", sick.stdout);
        }
    }
}
