//! What `docs/ci.md` and `.pre-commit-hooks.yaml` hand to others: each is what its reader takes, and its commands run.

use std::os::unix::fs::PermissionsExt as _;

use serde_yaml::Value;

use crate::program::{GOOD, Place};

const DOCUMENT: &str = include_str!("../../docs/ci.md");
const HOOKS: &str = include_str!("../../.pre-commit-hooks.yaml");
const OWN: &str = include_str!("../../.github/workflows/ci.yml");

/// The blocks of YAML in the document, parsed.
fn blocks() -> Vec<Value> {
    let blocks = DOCUMENT.split("\n```yaml\n").skip(1).map(|rest| rest.split_once("\n```").unwrap().0);
    blocks.map(|block| serde_yaml::from_str(block).unwrap_or_else(|error| panic!("{error}:\n{block}"))).collect()
}

fn list(value: &Value) -> Vec<Value> {
    value.as_sequence().unwrap_or_else(|| panic!("not a list: {value:?}")).clone()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value:?}"))
}

fn keys(value: &Value) -> Vec<&str> {
    let mapping = value.as_mapping().unwrap_or_else(|| panic!("not a mapping: {value:?}"));
    mapping.iter().map(|(key, _)| text(key)).collect()
}

/// The steps of the jobs of a workflow, each of a shape that GitHub takes.
fn steps(workflow: &Value) -> Vec<Value> {
    for key in keys(workflow) {
        assert!(["name", "on", "permissions", "jobs"].contains(&key), "{key}");
    }
    let mut steps = Vec::new();
    for (_, job) in workflow["jobs"].as_mapping().unwrap() {
        for key in keys(job) {
            assert!(["runs-on", "timeout-minutes", "container", "steps"].contains(&key), "{key}");
        }
        assert!(text(&job["runs-on"]).starts_with("ubuntu-"));
        steps.extend(list(&job["steps"]));
    }
    for step in &steps {
        for key in keys(step) {
            assert!(["name", "uses", "run", "with", "env", "if"].contains(&key), "{key}");
        }
        assert!(step["uses"].is_string() != step["run"].is_string(), "one of them: {step:?}");
        assert!(!step["uses"].is_string() || text(&step["uses"]).contains('@'), "a version: {step:?}");
    }
    steps
}

#[test]
fn workflows_are_workflows_and_what_they_run_runs() {
    let place = Place::with(GOOD);
    let workflows: Vec<Value> = blocks().into_iter().filter(|block| block.get("jobs").is_some()).collect();
    assert_eq!(workflows.len(), 2);
    let mut run = Vec::new();
    for workflow in &workflows {
        let steps = steps(workflow);
        assert!(text(&steps[0]["uses"]).starts_with("actions/checkout@"), "the file has to be there");
        for command in steps.iter().filter_map(|step| step["run"].as_str()?.strip_prefix("sbx ")) {
            let (command, file) = command.split_once(" > ").unwrap_or((command, ""));
            let shown = place.run(command);
            assert!(shown.starts_with("exit: 0\n"), "sbx {command}: {shown}");
            run.push(command.to_owned());
            // What is uploaded is what was written.
            let uploaded = steps.iter().find_map(|step| step["with"]["sarif_file"].as_str()).unwrap_or_default();
            assert_eq!(file, uploaded);
            assert_eq!(file.is_empty(), !command.contains("sarif"));
        }
    }
    assert_eq!(run, ["validate --strict --format github", "validate --format sarif"]);
    assert_eq!(workflows[0]["on"]["pull_request"]["paths"][0], "**/sandboxes*.yaml");
    assert_eq!(workflows[1]["permissions"]["security-events"], "write", "or the upload is refused");
}

/// The workflow of this tree runs one script, and cannot hang for ever.
#[test]
fn our_own_workflow() {
    let workflow: Value = serde_yaml::from_str(OWN).unwrap();
    let steps = steps(&workflow);
    assert_eq!(steps.last().unwrap()["run"], ".ci/run");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../.ci/run");
    assert_ne!(std::fs::metadata(script).unwrap().permissions().mode() & 0o111, 0);
    assert!(workflow["jobs"]["test"]["timeout-minutes"].is_u64());
}

#[test]
fn the_hook_is_a_hook_and_runs() {
    let hooks: Vec<Value> = serde_yaml::from_str(HOOKS).unwrap();
    let [hook] = &hooks[..] else { panic!("{hooks:?}") };
    assert_eq!(keys(hook), ["id", "name", "description", "language", "entry", "files", "pass_filenames"]);
    assert_eq!((&hook["language"], &hook["pass_filenames"]), (&"system".into(), &Value::Bool(false)));
    let entry = text(&hook["entry"]).strip_prefix("sbx ").expect("it is found on the PATH");

    // As the document has it in `.pre-commit-config.yaml`, and as it says for a file that is elsewhere.
    let blocks = blocks();
    let config = blocks.iter().find_map(|block| block.get("repos")).unwrap();
    let used = &config[0]["hooks"][0];
    assert_eq!(used["id"], hook["id"]);
    let (_, elsewhere) = DOCUMENT.split_once("in the workflows above:\n`args: ").unwrap();
    let elsewhere: Value = serde_yaml::from_str(elsewhere.split_once('`').unwrap().0).unwrap();
    let place = Place::with(GOOD);
    std::fs::create_dir(place.work().join("infra")).unwrap();
    place.write("infra/sandboxes.yaml", GOOD);
    for args in [&Value::Sequence(Vec::new()), &used["args"], &elsewhere] {
        let words: Vec<String> = list(args).iter().map(|word| text(word).to_owned()).collect();
        let command = format!("{entry} {}", words.join(" "));
        assert!(place.run(command.trim()).starts_with("exit: 0\n"), "sbx {command}");
    }
    // It fails where it should: nothing is passed to it, and it looks itself.
    place.write("sandboxes.yaml", "apiVersion: sbx/v1\nproject: acme\nsandboxes: { api: { imagee: host } }\n");
    assert!(place.run(entry).starts_with("exit: 65\n"));
}

/// pre-commit looks for the expression anywhere in the path from the top of the repository.
#[test]
fn the_hook_looks_at_the_right_files() {
    let hooks: Vec<Value> = serde_yaml::from_str(HOOKS).unwrap();
    let files = regex::Regex::new(text(&hooks[0]["files"])).unwrap();
    for (path, looked_at) in [
        ("sandboxes.yaml", true),
        ("sandboxes.yml", true),
        ("sandboxes.local.yaml", true),
        ("sandboxes-ci.yaml", true),
        ("infra/sandboxes.yaml", true),
        ("a/b c/sandboxes.team.local.yml", true),
        ("mysandboxes.yaml", false),
        ("sandboxesx.yaml", false),
        ("sandbox.yaml", false),
        ("sandboxes", false),
        ("sandboxes.json", false),
        ("sandboxes.lock", false),
        ("sandboxes.yaml.orig", false),
        ("sandboxes.yaml/notes.txt", false),
        ("sandboxes/other.yaml", false),
        ("sandboxes.d/other.yaml", false),
        ("Sandboxes.yaml", false),
        ("docs/sandboxes.md", false),
    ] {
        assert_eq!(files.is_match(path), looked_at, "{path}");
    }
}
