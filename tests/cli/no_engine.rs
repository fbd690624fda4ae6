use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

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
    // The machine's own engine is covered, in a view of the file system that is the command's alone.
    assert_snapshot!(Place::with(GOOD).run_in_a_view_of_its_own("mount -t tmpfs none /run", "plan"));
}

#[test]
fn one_at_the_usual_place_is_asked() {
    // Beside the above: the same view, with something there that listens, and hangs up.
    let place = Place::with(GOOD);
    let listener = UnixListener::bind(place.work().join("podman.sock")).unwrap();
    let asked = std::thread::spawn(move || {
        let mut first = [0; 4];
        let read = listener.accept().unwrap().0.read_exact(&mut first);
        read.is_ok_and(|()| first == *b"GET ")
    });
    let script = "mount -t tmpfs none /run; mkdir /run/podman; mount --bind . /run/podman";
    let shown = place.run_in_a_view_of_its_own(script, "plan");
    assert!(shown.starts_with("exit: 69\n"), "{shown}");
    // Where nobody asked, this ends the waiting.
    drop(UnixStream::connect(place.work().join("podman.sock")));
    assert!(asked.join().unwrap(), "{shown}");
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

/// Listens at `socket`, and hangs: takes requests, of which it tells the first lines, and answers none but, if `alive`,
/// the one for a sign of life.
fn hang(socket: &Path, alive: bool) -> Arc<Mutex<Vec<String>>> {
    let listener = UnixListener::bind(socket).unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&asked);
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let mut line = String::new();
            let _ = BufReader::new(&stream).read_line(&mut line);
            if alive && line.contains("/_ping") {
                let answer = "HTTP/1.1 200 OK\r\nLibpod-API-Version: 5.4.2\r\nContent-Length: 0\r\n\r\n";
                let _ = stream.write_all(answer.as_bytes());
            }
            heard.lock().unwrap().push(line);
            held.push(stream);
        }
    });
    asked
}

#[test]
fn something_that_takes_requests_and_never_answers() {
    let place = Place::with(GOOD);
    let socket = place.work().join("s");
    let asked = hang(&socket, false);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for line in ["plan", "apply --auto-approve", "status"] {
            let (place, socket) = (&place, &socket);
            scope.spawn(move || {
                let shown = place.run(&format!("--engine-url unix://{} {line}", socket.display()));
                assert!(shown.starts_with("exit: 69\n"), "{line}: {shown}");
                assert!(shown.contains("does not answer within 5 s"), "{line}: {shown}");
            });
        }
    });
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    // Each asked for a sign of life, and nobody for anything else.
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert!(asked.iter().all(|line| line.starts_with("GET ") && line.contains("/_ping")), "{asked:?}");
}

#[test]
fn something_that_hangs_once_it_has_answered() {
    let place = Place::with(GOOD);
    let socket = place.work().join("s");
    let asked = hang(&socket, true);
    let begun = Instant::now();
    let shown = place.run(&format!("--engine-url unix://{} apply --auto-approve --timeout 1s", socket.display()));
    assert!(shown.starts_with("exit: 124\n") && shown.contains("nothing was changed"), "{shown}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let asked = asked.lock().unwrap();
    assert!(asked.iter().any(|line| line.contains("/containers/json")), "{asked:?}");
    assert!(asked.iter().all(|line| line.is_empty() || line.starts_with("GET ")), "{asked:?}");
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

/// Where there are no namespaces the doctor says that, and does not blame the rules that it could not try in one.
#[test]
fn the_doctor_tells_namespaces_from_rules() {
    let place = Place::new();
    let told = |script: &str| place.run_in_a_view_of_its_own(script, "doctor");
    let healthy = told("true");
    assert!(healthy.contains("ok   network namespaces: can be made"), "{healthy}");
    assert!(healthy.contains("ok   user namespaces: allowed"), "{healthy}");
    assert!(healthy.contains("egress policies: "), "{healthy}");

    let refused = told("mount --bind /bin/false /usr/bin/unshare");
    assert!(refused.contains("warn network namespaces: none can be made from here"), "{refused}");
    assert!(!refused.contains("egress policies: "), "{refused}");

    // The bound is that of a user namespace, here one of the test's own.
    let none = told(
        "exec unshare --user --map-root-user sh -ec 'for kind in net user; do echo 0 > /proc/sys/user/max_${kind}_namespaces; done; export PATH=/nowhere; exec \"$0\" \"$@\"' \"$0\" \"$@\"",
    );
    assert!(none.contains("FAIL network namespaces: the kernel allows none"), "{none}");
    assert!(none.contains("FAIL user namespaces: the kernel allows none"), "{none}");
    assert!(none.contains("user.max_net_namespaces"), "{none}");
    assert!(!none.contains("egress policies: ") && none.starts_with("exit: 1\n"), "{none}");
}
