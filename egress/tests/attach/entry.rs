//! Whose namespaces are entered, and whose never.

use std::process::Command;

use egress::attach::Target;

use crate::sandbox::{Kind, Options, Sandbox, Staying, TOOL, is_root};

#[test]
fn a_number_that_was_given_away_is_not_entered() {
    let sandbox = Sandbox::start(Kind::possible()[0]);
    let daemon = sandbox.daemon(&Options { started_later: 1, ..Options::default() });
    assert!(daemon.line.contains("is gone, or is another one by now"), "{}", daemon.line);
    assert!(!sandbox.run(&["nft", "list", "ruleset"]).contains("sbx"));
    // The very same process, called by its name.
    sandbox.attach();
    assert!(sandbox.run(&["nft", "list", "ruleset"]).contains("sbx"));
}

#[test]
fn what_has_ended_is_not_entered() {
    let mut sandbox = Sandbox::start(Kind::possible()[0]);
    sandbox.end();
    let daemon = sandbox.daemon(&Options::default());
    assert!(daemon.line.contains("Gone"), "{}", daemon.line);
}

/// Rules there would cut off the host.
#[test]
fn our_own_network_is_never_touched() {
    let mut bystander = Command::new("sleep").arg("1000").spawn().unwrap();
    let target = Target::hold(bystander.id()).unwrap();
    let mut command = Command::new(TOOL);
    command.args(["serve", &target.pid().to_string(), &target.started().to_string(), "-", "-", "-", "-"]);
    let line = Staying::start(command).line();
    assert!(line.contains("shares the host's network"), "{line}");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

/// Another user's sandbox is the kernel's to refuse, and ours to say.
#[test]
fn another_users_sandbox_is_not_entered() {
    if !is_root() {
        // Nobody else can become somebody else.
        return;
    }
    let sandbox = Sandbox::start(Kind::Private);
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65533", "--regid", "65533", "--clear-groups", "--", TOOL, "serve"]);
    command.args([&sandbox.target.pid().to_string(), &sandbox.target.started().to_string(), "-", "-", "-", "-"]);
    let line = Staying::start(command).line();
    assert!(line.starts_with("failed Enter") && line.contains("the user whose engine runs"), "{line}");
}
