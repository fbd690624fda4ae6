use std::os::unix::net::UnixListener;

use insta::assert_snapshot;

use crate::program::{GOOD, Place};

#[test]
fn every_command_that_needs_one_says_so() {
    let place = Place::with(GOOD);
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
    ] {
        let shown = place.run(&format!("--engine-url unix:///nowhere/podman.sock {line}"));
        assert!(shown.starts_with("exit: 69\n--- stdout\n--- stderr\n"), "{line}: {shown}");
        let first = first.get_or_insert_with(|| shown.clone());
        assert_eq!(*first, shown, "{line}");
    }
    assert_snapshot!(first.unwrap());
}

#[test]
fn as_json() {
    let place = Place::with(GOOD);
    assert_snapshot!(place.run("--engine-url unix:///nowhere/podman.sock plan --json"));
}

#[test]
fn none_anywhere_and_nothing_to_start_one_with() {
    // Rootful sockets of this machine are looked at too; only their absence makes this a test.
    if std::os::unix::net::UnixStream::connect("/run/podman/podman.sock").is_ok() {
        return;
    }
    assert_snapshot!(Place::with(GOOD).run("plan"));
}

#[test]
fn an_address_of_no_known_kind() {
    assert_snapshot!(Place::with(GOOD).run("--engine-url tcp://127.0.0.1:1 plan"));
}

#[test]
fn something_that_hangs_up() {
    let place = Place::with(GOOD);
    let socket = place.work().join("s");
    let listener = UnixListener::bind(&socket).unwrap();
    let closing = std::thread::spawn(move || {
        for stream in listener.incoming().take(1) {
            drop(stream);
        }
    });
    let shown = place.run(&format!("--engine-url unix://{} plan", socket.display()));
    assert!(shown.starts_with("exit: 69\n"), "{shown}");
    closing.join().unwrap();
}

#[test]
fn approval_needs_somebody_or_a_flag() {
    let place = Place::with(GOOD);
    assert_snapshot!(place.run("apply") + &place.run("destroy --json"));
}

#[test]
fn nothing_pinned_needs_no_engine() {
    let place = Place::with(GOOD);
    assert!(place.run("lock").starts_with("exit: 0\n"));
    assert_snapshot!(place.read("sandboxes.lock"));
}

#[test]
fn no_daemon_to_stop() {
    let place = Place::new();
    // Nobody serves this engine, so nobody's daemon is stopped.
    let stop = "--engine-url unix:///nowhere/podman.sock daemon stop";
    assert_eq!(place.run(stop), "exit: 0\n--- stdout\n--- stderr\nNo daemon runs.\n");
    let shown = place.run(&format!("{stop} --json"));
    assert!(
        shown.starts_with("exit: 0\n--- stdout\n{\n  \"format_version\": \"1.0\",\n  \"stopped\": false,"),
        "{shown}"
    );
}
