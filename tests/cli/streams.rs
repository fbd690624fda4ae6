use std::io::Read as _;
use std::process::Stdio;

use reconciler::resource::{sha256, short};

use crate::program::{GOOD, Place};

#[test]
fn a_reader_that_leaves_is_no_error() {
    let place = Place::with(GOOD);
    let mut child = place.command(["schema"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}

/// What is found is told by the exit code too: `sbx validate | head` under `pipefail` still fails.
#[test]
fn a_reader_that_leaves_changes_no_exit_code() {
    let place = Place::with(GOOD);
    place.write("bad.yaml", "project: [");
    for (line, code) in [
        ("validate --format json -f bad.yaml", 65),
        ("validate --format sarif -f bad.yaml", 65),
        ("plan --json -f bad.yaml", 65),
        ("explain api https://evil.example/", 1),
        ("--engine-url unix:///nowhere/podman.sock daemon status", 1),
        ("--engine-url unix:///nowhere/podman.sock daemon status --json", 1),
        ("explain api https://evil.example/ --json", 1),
        ("version", 0),
    ] {
        let mut command = place.command(line.split_whitespace());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{line}: {said}");
        assert!(!said.contains("standard output"), "{line}: {said}");
    }
}

/// What goes on until somebody has had enough ends with its reader, and nothing was wrong.
#[test]
fn an_output_without_an_end_ends_with_its_reader() {
    let place = Place::with(GOOD);
    let engine = "unix:///nowhere/podman.sock";
    let records = place.work().join("state/egress").join(short(&sha256(engine.as_bytes()))).join("acme/api");
    std::fs::create_dir_all(&records).unwrap();
    let record = r#"{"time":"2026-03-01T12:00:00Z","project":"acme","sandbox":"api","generation":1,"allowed":true,"protocol":"tls","host":"a.example","port":443}"#;
    std::fs::write(records.join("audit.jsonl"), format!("{record}\n")).unwrap();
    let mut command = place.command(["--engine-url", engine, "--state-dir", "state", "egress", "log", "-f"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}

#[test]
fn colour_as_asked() {
    let place = Place::new();
    let coloured = |set: &dyn Fn(&mut std::process::Command)| {
        let mut command = place.command(["validate"]);
        set(&mut command);
        command.output().unwrap().stderr.contains(&0x1b)
    };
    assert!(!coloured(&|_| {}), "no terminal, no colour");
    assert!(coloured(&|command| {
        command.env("CLICOLOR_FORCE", "1");
    }));
    assert!(coloured(&|command| {
        command.args(["--color", "always"]).env("NO_COLOR", "1");
    }));
    assert!(!coloured(&|command| {
        command.args(["--color=never"]).env("CLICOLOR_FORCE", "1");
    }));
    assert!(!coloured(&|command| {
        command.env("NO_COLOR", "1").env("CLICOLOR_FORCE", "1");
    }));
}

#[test]
fn lines_are_as_wide_as_asked() {
    let place = Place::new();
    for columns in ["30", "60"] {
        let output = place.command(["validate"]).env("COLUMNS", columns).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        let widest = text.lines().map(str::len).max().unwrap();
        assert!(widest <= columns.parse().unwrap(), "{text}");
    }
}
