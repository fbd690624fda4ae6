use std::fs;

use insta::assert_snapshot;

use crate::program::Place;

#[test]
fn writes_a_file_that_is_valid_and_never_overwrites_one() {
    let place = Place::new();
    assert_snapshot!(place.run("init --project acme"));
    assert!(place.run("validate --strict").starts_with("exit: 0\n"));
    let before = place.read("sandboxes.yaml");
    assert_snapshot!(place.run("init --project other"));
    assert_eq!(place.read("sandboxes.yaml"), before);
}

#[test]
fn names_the_project_after_its_directory_and_points_editors_to_the_schema() {
    let place = Place::new();
    assert!(place.run("init My_App").starts_with("exit: 0\n"));
    let text = place.read("My_App/sandboxes.yaml");
    assert!(text.contains("\nproject: my-app\n"), "{text}");
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("# yaml-language-server: $schema=./sandboxes.schema.json"));
    assert_eq!(lines.next(), Some("# $schema: ./sandboxes.schema.json"));
    assert!(place.read("My_App/sandboxes.schema.json").contains("draft-07"));
}

#[test]
fn tells_programs_what_it_wrote() {
    let place = Place::new();
    let shown = place.run("init --project acme --json");
    let text = shown.strip_prefix("exit: 0\n--- stdout\n").and_then(|text| text.strip_suffix("--- stderr\n"));
    let document: serde_json::Value = serde_json::from_str(text.expect(&shown)).unwrap();
    assert_eq!(
        document,
        serde_json::json!({
            "format_version": "1.0",
            "project": "acme",
            "file": "./sandboxes.yaml",
            "schema": "./sandboxes.schema.json",
        })
    );
}

#[test]
fn does_not_follow_a_link() {
    let place = Place::new();
    std::os::unix::fs::symlink(place.work().join("elsewhere"), place.work().join("sandboxes.yaml")).unwrap();
    assert!(place.run("init").starts_with("exit: 73\n"));
    assert!(!fs::exists(place.work().join("elsewhere")).unwrap());
}

#[test]
fn a_directory_that_cannot_be_made() {
    let place = Place::new();
    place.write("file", "");
    let shown = place.run("init file/below");
    assert!(shown.starts_with("exit: 1\n--- stdout\n--- stderr\nerror: file/below: not a directory"), "{shown}");
}
