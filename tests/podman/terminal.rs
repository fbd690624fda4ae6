//! Commands in a sandbox, with a terminal and without.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

use crate::engine::{Engine, Kind};
use crate::invocation::Running;
use crate::on_every_engine;
use crate::wait::wait_for;

/// A terminal in front of a command, as a person has one.
struct Terminal<'e> {
    master: File,
    shown: Arc<Mutex<String>>,
    running: Running<'e>,
}

impl<'e> Terminal<'e> {
    fn open(engine: &'e Engine, args: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        resize(&master, 40, 100);
        // Its controlling terminal too, so that a change of size is told to it.
        let mut invocation = engine.command("setsid").arg("--ctty").arg(engine.sbx_path()).args(args);
        invocation = invocation.env("CONTAINER_HOST", engine.url()).env("TERM", "dumb");
        let end = || Stdio::from(slave.try_clone().unwrap());
        invocation.command.stdin(end()).stdout(end()).stderr(end());
        let running = invocation.spawn();
        let master = File::from(master);
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut reader, text) = (master.try_clone().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // An error is how a terminal says that everybody has gone.
            while let Ok(read @ 1..) = reader.read(&mut buffer) {
                text.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
        });
        Self { master, shown, running }
    }

    fn send(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until `text` is on the screen, which may take several tries of `again`.
    #[track_caller]
    fn expect(&mut self, text: &str, again: &str) {
        let shown = Arc::clone(&self.shown);
        let what = format!("{text:?} on the screen");
        let mut looks = 0;
        wait_for(&what, Duration::from_secs(15), || {
            if looks % 20 == 0 && !again.is_empty() {
                self.send(again);
            }
            looks += 1;
            shown.lock().unwrap().contains(text).then_some(())
        });
        shown.lock().unwrap().clear();
    }
}

fn resize(master: &OwnedFd, rows: u16, columns: u16) {
    tcsetwinsize(master, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

on_every_engine! {
    /// Size, resize, interrupt, exit code, and the terminal as it was.
    fn a_shell(engine) {
        engine.configure("sandboxes: { dev: { image: host } }");
        engine.apply();
        let mut terminal = Terminal::open(engine, &["shell", "dev", "--shell", "sh"]);
        let usual = tcgetattr(&terminal.master).unwrap();
        terminal.expect("yes:demo", "[ -t 0 ] && echo ye''s:demo\n");
        terminal.expect("40 100", "stty size\n");
        assert_ne!(tcgetattr(&terminal.master).unwrap().local_modes, usual.local_modes, "raw while the shell runs");
        resize(&terminal.master.try_clone().unwrap().into(), 50, 120);
        terminal.expect("50 120", "stty size\n");

        terminal.send("sleep 1000; echo slept\n");
        wait_for("sleep to run", Duration::from_secs(10), || {
            engine.podman(&["top", "demo_dev", "comm"]).contains("sleep").then_some(())
        });
        terminal.send("\u{3}");
        terminal.expect("after:130", "echo aft''er:$?\n");

        terminal.send("exit 7\n");
        let code = terminal.running.child.wait().unwrap().code();
        assert_eq!(code, Some(7));
        assert_eq!(tcgetattr(&terminal.master).unwrap().local_modes, usual.local_modes, "as it was before");
    }

    /// Exit codes, input, output and errors apart; no terminal where none is asked for.
    fn an_exec(engine) {
        engine.configure("sandboxes: { dev: { image: host, command: [sh, -c, 'echo one; echo two; echo three; exec sleep infinity'] }, off: { image: host } }");
        engine.apply();
        engine.sbx(&["exec", "dev", "--", "sh", "-c", "exit 42"]).run().expect_code(42);
        engine.sbx(&["exec", "dev", "--", "sh", "-c", "kill -9 $$"]).run().expect_code(137);
        let missing = engine.sbx(&["exec", "dev", "--", "no-such-program"]).run();
        assert!([126, 127].contains(&missing.code), "{}: {}", missing.code, missing.stderr);
        let big = "0123456789abcdef".repeat(64 * 1024);
        let copied = engine.sbx(&["exec", "dev", "--", "cat"]).input(big.clone()).run().expect_code(0);
        assert!(copied.stdout == big, "a megabyte through and back");
        let apart = engine.sbx(&["exec", "dev", "--", "sh", "-c", "echo out; echo err >&2; tty"]).run();
        assert_eq!((apart.stdout.as_str(), apart.stderr.as_str()), ("out\nnot a tty\n", "err\n"));
        engine.sbx(&["exec", "dev", "--", "sh", "-c", "test \"$*\" = \"a  b\"", "sh", "a  b"]).run().expect_code(0);

        engine.sbx(&["stop", "off"]).run().expect_code(0);
        let stopped = engine.sbx(&["exec", "off", "--", "true"]).run().expect_code(1);
        assert!(stopped.stderr.contains("sbx start off"), "{}", stopped.stderr);

        assert_eq!(engine.sbx(&["logs", "dev", "--tail", "2"]).ok(), "two\nthree");
        let mut follow = engine.sbx(&["logs", "dev", "-f", "--tail", "1"]);
        follow.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut follow = follow.spawn();
        let mut line = [0; 6];
        follow.child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
        assert_eq!(&line, b"three\n");
        follow.signal(Signal::INT);
        follow.finish().expect_code(130);
    }
}

/// With a terminal an apply asks, and takes nothing but `yes`.
#[test]
fn an_apply_asks() {
    let engine = Engine::start(Kind::Rootful5);
    engine.configure("sandboxes: { dev: { image: host } }");
    engine.sbx(&["apply"]).run().expect_code(73);
    for (answer, code) in [("y\n", 73), ("yes\n", 0)] {
        let mut terminal = Terminal::open(&engine, &["apply"]);
        terminal.expect("Apply this to project demo?", "");
        assert!(engine.containers().is_empty());
        terminal.send(answer);
        assert_eq!(terminal.running.child.wait().unwrap().code(), Some(code), "{answer}");
    }
    engine.expect_nothing_to_do();

    // No answer at all: the question ends, and nothing is changed.
    engine.configure("sandboxes: { dev: { image: host }, more: { image: host } }");
    let mut terminal = Terminal::open(&engine, &["apply"]);
    terminal.expect("Apply this to project demo?", "");
    terminal.send("\u{3}");
    assert_eq!(terminal.running.child.wait().unwrap().code(), Some(130));
    terminal.expect("\nerror: interrupted", "");
    assert_eq!(engine.containers().len(), 1);
}
