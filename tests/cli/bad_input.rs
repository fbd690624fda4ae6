use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use insta::assert_snapshot;

use crate::program::{GOOD, Place};

#[test]
fn no_file() {
    assert_snapshot!(Place::new().run("validate"));
}

#[test]
fn a_directory() {
    let place = Place::new();
    fs::create_dir(place.work().join("sandboxes.yaml")).unwrap();
    assert_snapshot!(place.run("validate"));
}

#[test]
fn not_text() {
    let place = Place::new();
    place.write("sandboxes.yaml", b"apiVersion: sbx/v1\nproject: \xff\n");
    assert_snapshot!(place.run("validate"));
}

#[test]
fn a_file_that_never_ends() {
    let shown = Place::new().run("-f /dev/zero validate");
    assert!(shown.starts_with("exit: 65\n"), "{shown}");
    assert!(shown.contains("/dev/zero is larger than 16 MiB"), "{shown}");
}

#[test]
fn unreadable() {
    // Root reads everything; the kernel refuses even root to read what is not seekable as its own memory.
    let shown = Place::new().run("-f /proc/self/mem validate");
    assert!(shown.starts_with("exit: 65\n"), "{shown}");
    assert!(shown.contains("cannot read /proc/self/mem: "), "{shown}");
}

#[test]
fn a_name_that_is_no_text() {
    let place = Place::new();
    let name = std::ffi::OsStr::from_bytes(b"\xff\x1b[2J.yaml");
    let output = place.command([std::ffi::OsStr::new("-f"), name, std::ffi::OsStr::new("validate")]).output().unwrap();
    assert_eq!(output.status.code(), Some(65));
    assert!(!output.stderr.contains(&0x1b), "a name cannot drive the terminal");
}

#[test]
fn every_command_refuses_an_invalid_file_before_anything_else() {
    let place = Place::with("apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api: { imagee: host }\n");
    let mut first = None;
    for line in [
        "plan",
        "apply --auto-approve",
        "destroy --auto-approve",
        "diff",
        "status",
        "list",
        "start api",
        "stop api",
        "restart api",
        "exec api -- true",
        "shell api",
        "logs api",
        "lock",
    ] {
        let shown = place.run(line);
        assert!(shown.starts_with("exit: 65\n--- stdout\n--- stderr\n"), "{line}: {shown}");
        let first = first.get_or_insert_with(|| shown.clone());
        assert_eq!(*first, shown, "{line}");
    }
    assert_snapshot!(first.unwrap());
}

#[test]
fn invalid_as_json_is_one_document() {
    let place = Place::with("apiVersion: sbx/v1\nproject: acme\nsandboxes:\n  api: { imagee: host }\n");
    assert_snapshot!(place.run("plan --json"));
}

#[test]
fn a_damaged_plan() {
    let place = Place::with(GOOD);
    place.write("saved.plan", "{\"format_version\":\"1.0\"}");
    assert_snapshot!(place.run("apply saved.plan") + &place.run("apply missing.plan"));
}

#[test]
fn standard_output_that_is_full() {
    let place = Place::with(GOOD);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = place.command(["schema"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        said,
        "error: standard output: no space left on device\nhelp: free some space and run the command again\n"
    );
}
