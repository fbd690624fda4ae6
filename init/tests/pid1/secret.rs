//! Values reach the environment of commands, and nothing else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::sandbox::{INIT, Sandbox, entering, init};

const ENVIRONMENT: &str = "SBX_SECRET_ENV";

/// A file with a value, where everybody may look for it.
fn place(value: &[u8], mode: u32) -> (TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = directory.path().join("value");
    fs::write(&path, value).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (directory, path)
}

/// The program as an engine enters it into `sandbox`.
fn enter(sandbox: &Sandbox, words: &[&str], secrets: &str) -> Command {
    let mut command = entering(sandbox, &["--pid", "--mount"], &[&[INIT, "exec"], words].concat());
    command.env(ENVIRONMENT, secrets).stderr(Stdio::piped());
    command
}

fn said(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn commands_get_exactly_the_value() {
    let sandbox = Sandbox::ready(&[]);
    let value: Vec<u8> = [b" a\xff=:'\"$\\\n".as_slice(), &vec![b'x'; 130_000], b"\n\n"].concat();
    let (_directory, path) = place(&value, 0o400);
    let secrets = format!("TOKEN={path}:OTHER={path}");
    let words = ["cat", "/proc/self/environ"];
    let main = init(&words).env(ENVIRONMENT, &secrets).env("TOKEN", "of the image").output().unwrap();
    let entered =
        enter(&sandbox, &["--", "cat", "/proc/self/environ"], &secrets).env("TOKEN", "of the image").output().unwrap();
    for output in [main, entered] {
        assert!(output.status.success(), "{output:?}");
        let variables: Vec<&[u8]> = output.stdout.split(|byte| *byte == 0).collect();
        for name in ["TOKEN=", "OTHER="] {
            let found: Vec<_> = variables.iter().filter_map(|line| line.strip_prefix(name.as_bytes())).collect();
            assert_eq!(found, [value.as_slice()], "{name}");
        }
        assert!(!variables.iter().any(|line| line.starts_with(ENVIRONMENT.as_bytes())));
    }
}

#[test]
fn what_the_caller_sets_is_kept() {
    let sandbox = Sandbox::ready(&[]);
    let (_directory, path) = place(b"secret", 0o400);
    let secrets = format!("TOKEN={path}:OTHER={path}");
    let words = ["TOKEN", "UNKNOWN", "--", "sh", "-c", "echo $TOKEN $OTHER; exit 7"];
    let output = enter(&sandbox, &words, &secrets).env("TOKEN", "mine").output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(7), b"mine secret\n".as_slice()));
}

#[test]
fn entering_is_an_exec_in_place() {
    let sandbox = Sandbox::ready(&[]);
    // Without the namespace of processes: entering that takes a fork, and then another process would be watched.
    let mut command = entering(&sandbox, &["--mount"], &[INIT, "exec", "--", "sh", "-c", "echo $$; kill -TERM $$"]);
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    let id = child.id();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{id}\n"));
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(15));
    for (program, code) in [("no-such-command", 127), ("/", 126)] {
        let (found, words) = said(&enter(&sandbox, &["--", program], "").output().unwrap());
        assert_eq!(found, Some(code), "{words}");
        assert!(words.starts_with(&format!("sbx-init: cannot run {program:?}: ")), "{words}");
    }
    for words in [&[][..], &["--"], &["NAME"]] {
        assert_eq!(enter(&sandbox, words, "").output().unwrap().status.code(), Some(125));
    }
}

#[test]
fn unusable_values_keep_the_command_from_starting() {
    let sandbox = Sandbox::ready(&[]);
    let (_directory, nul) = place(b"a\0b", 0o400);
    let (_directory, long) = place(&vec![b'x'; 140_000], 0o400);
    for (secrets, code, words) in [
        ("TOKEN=/no/such/file".to_owned(), 125, "secret for TOKEN from \"/no/such/file\": No such file or directory"),
        ("TOKEN".to_owned(), 125, "which is not NAME=PATH"),
        (format!("TOKEN={nul}"), 125, "the secret for TOKEN holds a NUL byte"),
        (format!("TOKEN={long}"), 126, "Argument list too long"),
    ] {
        let main = init(&["echo", "ran"]).env(ENVIRONMENT, &secrets).stderr(Stdio::piped()).output().unwrap();
        let entered = enter(&sandbox, &["--", "echo", "ran"], &secrets).output().unwrap();
        for output in [main, entered] {
            let (found, text) = said(&output);
            assert_eq!((found, output.stdout.as_slice()), (Some(code), b"".as_slice()), "{secrets}: {text}");
            assert!(text.contains(words), "{text}");
        }
    }
}

#[test]
fn another_user_goes_without_what_it_may_not_read() {
    if !rustix::process::geteuid().is_root() {
        // Nobody else can become somebody else.
        return;
    }
    // The build directory may lie where nobody else can go.
    let (directory, path) = place(b"secret", 0o400);
    let program = directory.path().join("init");
    fs::copy(INIT, &program).unwrap();
    let sandbox = Sandbox::ready(&[]);
    let words = [program.to_str().unwrap(), "exec", "--", "sh", "-c", "echo ${TOKEN-none}"];
    let mut command = entering(&sandbox, &["--mount", "--setuid=65534", "--setgid=65534"], &words);
    let output = command.env(ENVIRONMENT, format!("TOKEN={path}")).output().unwrap();
    assert_eq!(output.stdout, b"none\n", "{output:?}");
}
