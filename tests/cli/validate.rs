use insta::assert_snapshot;

use crate::program::{GOOD, Place};

const WRONG: &str = "\
apiVersion: sbx/v1
project: acme
sandboxes:
  api:
    imagee: host
    limits: { memory: 4Gibb }
";

const UNWISE: &str = "\
apiVersion: sbx/v1
project: acme
sandboxes:
  api: { image: host, egress: { mode: open } }
";

#[test]
fn right() {
    let place = Place::with(GOOD);
    assert_snapshot!(place.run("validate"));
    assert_eq!(place.run("validate -q"), "exit: 0\n--- stdout\n--- stderr\n");
}

#[test]
fn wrong_for_people() {
    assert_snapshot!(Place::with(WRONG).run("validate"));
}

#[test]
fn wrong_in_colour() {
    let shown = Place::with(WRONG).run("validate --color always");
    assert!(shown.contains('\u{1b}'));
}

#[test]
fn wrong_for_programs() {
    let place = Place::with(WRONG);
    assert_snapshot!("json", place.run("validate --format json"));
    assert_eq!(place.run("validate --json"), place.run("validate --format json"));
    assert_snapshot!("github", place.run("validate --format github"));
    let output = place.command(["validate", "--format", "sarif"]).output().unwrap();
    let sarif: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    // The rules are the catalogue of codes, which has its own tests.
    assert_snapshot!("sarif", serde_json::to_string_pretty(&sarif["runs"][0]["results"]).unwrap());
}

#[test]
fn a_missing_file_is_a_document_too() {
    assert_snapshot!(Place::new().run("validate --format json"));
}

#[test]
fn warnings_fail_only_when_strict() {
    let place = Place::with(UNWISE);
    assert_snapshot!(place.run("validate"));
    assert!(place.run("validate --strict").starts_with("exit: 65\n"));
    assert!(place.run("validate --strict --json").contains("\"valid\": false"));
}

#[test]
fn standard_input() {
    let place = Place::new();
    assert!(place.run_with("-f - validate", GOOD.as_bytes()).starts_with("exit: 0\n"));
    let shown = place.run_with("validate -f - --format github", WRONG.as_bytes());
    assert!(shown.contains("file=<stdin>,line=5"), "{shown}");
}

#[test]
fn later_files_are_laid_over_earlier_ones() {
    let place = Place::with(GOOD);
    place.write("more.yaml", "sandboxes:\n  third: { image: host }\n");
    let shown = place.run("validate -f sandboxes.yaml -f more.yaml");
    assert!(shown.contains("sandboxes.yaml, more.yaml is valid: project acme, 3 sandboxes."), "{shown}");
}
