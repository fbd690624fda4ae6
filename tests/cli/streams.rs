use std::io::Read as _;
use std::process::Stdio;

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
