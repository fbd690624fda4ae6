//! The real PID 1 at its gate, and the daemon that opens it.

use std::fs::{self, File};
use std::process::Command;

use crate::sandbox::{Kind, Options, Sandbox, comm, eventually, init};

const GATED: Options<'static> = Options { udp: "-", peers: "-", gate: true, started_later: 0, without: "-" };

/// A sandbox whose command sends at once, and what it heard.
struct Gated {
    sandbox: Sandbox,
    heard: tempfile::NamedTempFile,
}

impl Gated {
    fn start(kind: Kind) -> Self {
        let heard = tempfile::NamedTempFile::new().unwrap();
        let output = File::create(heard.path()).unwrap();
        let words =
            [init(), "--gate", "--", "sh", "-c", "\"$0\" tcp 192.0.2.1:443; exec sleep 1000", crate::sandbox::TOOL];
        let sandbox = Sandbox::with(kind, &words, |command: &mut Command| {
            command.stdout(output);
        });
        Self { sandbox, heard }
    }

    fn heard(&self) -> String {
        fs::read_to_string(self.heard.path()).unwrap()
    }

    fn name(&self) -> String {
        comm(self.sandbox.target.pid())
    }
}

#[test]
fn the_first_thing_a_command_sends_comes_to_us() {
    for kind in Kind::possible() {
        let gated = Gated::start(kind);
        let mut daemon = gated.sandbox.daemon(&GATED);
        assert!(daemon.line.contains("gate=true"), "{kind:?}: {}", daemon.line);
        assert_eq!((gated.name().as_str(), gated.heard().as_str()), ("sbx-init:gate", ""), "{kind:?}");
        assert_eq!(daemon.ask("open"), "done");
        eventually("the command's words", || !gated.heard().is_empty());
        assert_eq!(gated.heard(), "tcp for 192.0.2.1:443\n", "{kind:?}");
        eventually("PID 1 to say that it is ready", || gated.name() == "sbx-init:ready");
        // A daemon that comes later finds no gate.
        drop(daemon);
        let daemon = gated.sandbox.daemon(&GATED);
        assert!(daemon.line.contains("gate=false"), "{kind:?}: {}", daemon.line);
    }
}

#[test]
fn a_daemon_that_dies_before_it_opens_leaves_it_shut() {
    let gated = Gated::start(Kind::possible()[0]);
    for _ in 0..2 {
        let daemon = gated.sandbox.daemon(&GATED);
        assert!(daemon.line.contains("gate=true"), "{}", daemon.line);
        drop(daemon);
        assert_eq!((gated.name().as_str(), gated.heard().as_str()), ("sbx-init:gate", ""));
    }
    assert_eq!(gated.sandbox.daemon(&GATED).ask("open"), "done");
    eventually("the command", || gated.name() == "sbx-init:ready");
}

/// The gate's name is free once it is open; who takes it then is not spoken with, nor waited for when its queue is full.
#[test]
fn a_false_gate_is_not_mistaken_for_one() {
    let gated = Gated::start(Kind::possible()[0]);
    assert_eq!(gated.sandbox.daemon(&GATED).ask("open"), "done");
    eventually("the command", || gated.name() == "sbx-init:ready");
    let script = "use Socket qw(:DEFAULT SOCK_NONBLOCK); $| = 1; socket(S, PF_UNIX, SOCK_STREAM, 0) or die; \
                  my $name = pack_sockaddr_un(\"\\0sbx-gate\"); bind(S, $name) or die; listen(S, 0) or die; my @queue; \
                  while (1) { socket(my $c, PF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0) or die; push @queue, $c; \
                  connect($c, $name) or last } print \"held\\n\"; sleep 1000";
    let mut squatter = crate::sandbox::Staying::start(gated.sandbox.inside(&["perl", "-e", script]));
    assert_eq!(squatter.line(), "held");
    let daemon = gated.sandbox.daemon(&GATED);
    assert!(daemon.line.contains("gate=false"), "{}", daemon.line);
}

#[test]
fn a_pid_1_without_a_gate_is_attached_as_it_runs() {
    let sandbox = Sandbox::of(Kind::possible()[0], &[init()]);
    let daemon = sandbox.daemon(&GATED);
    assert!(daemon.line.contains("gate=false"), "{}", daemon.line);
    assert_eq!(sandbox.tool(&["tcp", "192.0.2.1:443"]), "tcp for 192.0.2.1:443");
}
