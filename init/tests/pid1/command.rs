//! Which command runs, and which exit code comes of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::sandbox::{INIT, init, without_init};

#[test]
fn ends_with_the_exit_code_of_the_command() {
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 255", 255),
        ("kill -KILL $$", 128 + 9),
        ("kill -TERM $$", 128 + 15),
        ("kill -HUP $$", 128 + 1),
    ] {
        let output = init(&["sh", "-c", script]).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{script}: {output:?}");
    }
}

#[test]
fn says_why_a_command_cannot_run() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode: u32| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let runs = file("runs", "#!/bin/sh\n", 0o755);
    let not_executable = file("plain", "#!/bin/sh\n", 0o644);
    let no_interpreter = file("orphan", "#!/no/such/interpreter\n", 0o755);
    for (program, code, words) in [
        (runs.as_str(), 0, ""),
        ("no-such-command", 127, "sbx-init: cannot run \"no-such-command\": No such file or directory\n"),
        ("/no/such/path", 127, "sbx-init: cannot run \"/no/such/path\": No such file or directory\n"),
        ("", 127, "sbx-init: cannot run \"\": No such file or directory\n"),
        ("a\nb", 127, "sbx-init: cannot run \"a\\nb\": No such file or directory\n"),
        ("/", 126, "sbx-init: cannot run \"/\": Permission denied\n"),
        (&not_executable, 126, &format!("sbx-init: cannot run {not_executable:?}: Permission denied\n")),
        (
            &no_interpreter,
            127,
            &format!(
                "sbx-init: cannot run {no_interpreter:?}: No such file or directory (the file is there; the \
                 interpreter or loader that it names is not)\n"
            ),
        ),
    ] {
        let output = init(&["--", program]).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{program}: {output:?}");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), words);
    }
}

#[test]
fn looks_the_command_up_along_the_path() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("only-here");
    fs::write(&program, "#!/bin/sh\necho \"$@\"\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();

    let output = init(&["only-here", "a b", "--version"])
        .env("PATH", format!("{path}:{}", directory.path().display()))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "a b --version\n");

    let output = init(&["only-here"]).stderr(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(127));
}

#[test]
fn clears_inherited_signal_settings_for_the_command() {
    let probe = ["grep", "-E", "^Sig(Blk|Ign):", "/proc/self/status"];
    let settings = |command: &mut Command| {
        // A parent that ignores signals is what the command must not notice. The shell only passes the setting on.
        let mut outer = Command::new("sh");
        outer.args(["-c", "trap '' HUP USR1 PIPE; exec \"$@\"", "sh"]);
        outer.arg(command.get_program()).args(command.get_args());
        let output = outer.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(settings(&mut init(&probe)), "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
    assert_ne!(settings(&mut without_init(&probe)), "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

#[test]
fn collects_the_exit_code_even_when_started_with_children_ignored() {
    // `env` is the one ordinary program that can ignore SIGCHLD: shells need it themselves.
    let command = init(&["sh", "-c", "exit 7"]);
    let mut outer = Command::new("unshare");
    let words: Vec<_> = command.get_args().collect();
    let separator = words.iter().position(|word| *word == "--").unwrap();
    outer.args(&words[..=separator]).args(["env", "--ignore-signal=CHLD"]).args(&words[separator + 1..]);
    assert_eq!(outer.status().unwrap().code(), Some(7));
}

#[test]
fn answers_its_own_options() {
    let output = Command::new(INIT).arg("--version").output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("sbx-init {}\n", env!("CARGO_PKG_VERSION")));
    assert!(output.status.success());

    let output = Command::new(INIT).arg("--frobnicate").output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.starts_with("sbx-init: unknown option \"--frobnicate\"\nusage: "), "{words}");
}
