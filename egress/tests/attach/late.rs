//! Rules that the kernel does not take, or takes long for, on the engine's network: nothing stays open that they would have
//! closed, and they never take the place of those that come after them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::direct::{all, policy, refused, resolved};
use crate::network::{Network, kinds};
use crate::sandbox::eventually;

/// What a rule opens that has no names.
const NETWORK: &str =
    r#"{"host":"10.89.7.0/30","ports":[{"first":7777,"last":7777}],"protocol":"tcp","place":{"at":"x"}}"#;

/// An `nft` that waits with rules, once it is told to.
struct Slow(tempfile::TempDir);

impl Slow {
    fn make() -> Self {
        let slow = Self(tempfile::tempdir().unwrap());
        // Whoever is root inside of a sandbox is nobody here.
        fs::set_permissions(slow.0.path(), Permissions::from_mode(0o777)).unwrap();
        fs::copy(egress::attach::nft().unwrap(), slow.path("real")).unwrap();
        let script = "#!/bin/sh\n\
            if [ \"$1\" != -f ] || ! mv DIR/wait DIR/waits 2>/dev/null; then exec DIR/real \"$@\"; fi\n\
            cat >DIR/rules; echo $$ >DIR/new; mv DIR/new DIR/pid\n\
            until [ -e DIR/go ]; do [ -d DIR ] || exit 1; sleep 0.01; done\n\
            exec DIR/real -f DIR/rules\n";
        fs::write(slow.program(), script.replace("DIR", slow.0.path().to_str().unwrap())).unwrap();
        fs::set_permissions(slow.program(), Permissions::from_mode(0o755)).unwrap();
        slow
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn program(&self) -> PathBuf {
        self.path("nft")
    }

    /// The next rules wait.
    fn wait(&self) {
        for old in ["pid", "go"] {
            let _ = fs::remove_file(self.path(old));
        }
        fs::write(self.path("wait"), "").unwrap();
        // Not ours alone to rename.
        fs::set_permissions(self.path("wait"), Permissions::from_mode(0o666)).unwrap();
    }

    /// The process that waits with them.
    fn waiting(&self) -> PathBuf {
        eventually("rules that wait", || self.path("pid").exists());
        Path::new("/proc").join(fs::read_to_string(self.path("pid")).unwrap().trim())
    }

    /// They wait no longer.
    fn go(&self) {
        fs::write(self.path("go"), "").unwrap();
    }
}

/// Whether a process has not ended; somebody else may still have to hear of its end.
fn is_at_work(process: &Path) -> bool {
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z') && !line.contains('X'))
}

#[test]
fn rules_that_took_too_long_close_all_and_come_into_force_never() {
    for kind in kinds() {
        let network = Network::make(kind);
        let sandbox = &network.sandbox;
        let slow = Slow::make();
        let mut daemon = sandbox.direct_with(&slow.program(), &all());
        resolved(&mut daemon, "v4.test");
        // Control: those that take their time are waited for, and are in force then.
        slow.wait();
        daemon.say(&format!("policy {}", policy(&["talk.test"], "")));
        slow.waiting();
        assert_eq!(sandbox.tool(&["tcp", "10.89.7.3:7777"]), "echo", "{kind:?}: not yet");
        slow.go();
        assert_eq!(daemon.answer(), "done", "{kind:?}");
        refused(sandbox, &["tcp", "10.89.7.3:7777"]);

        resolved(&mut daemon, "talk.test");
        let mut talk = sandbox.stay(&["talk", "10.89.7.4:7778"]);
        talk.say("a");
        assert_eq!(talk.line(), "heard a", "{kind:?}");
        slow.wait();
        daemon.say(&format!("policy {}", policy(&[], NETWORK)));
        let waiting = slow.waiting();
        let said = daemon.answer();
        assert!(said.contains("did not answer in time"), "{kind:?}: {said}");
        assert!(!is_at_work(&waiting), "{kind:?}: nobody is any more when that is told");
        talk.say("b");
        assert!(talk.line().starts_with("lost "), "{kind:?}: what it would have closed is closed");
        let said = daemon.ask(&format!("policy {}", all()));
        assert!(said.starts_with("failed"), "{kind:?}: no rules after those: {said}");
        drop(daemon);

        let daemon = sandbox.direct_with(&slow.program(), &policy(&["talk.test"], ""));
        assert!(daemon.line.starts_with("attached"), "{kind:?}: {}", daemon.line);
        slow.go();
        eventually("its end", || !is_at_work(&waiting));
        refused(sandbox, &["tcp", "10.89.7.3:7777"]);
    }
}

#[test]
fn rules_of_a_daemon_that_has_ended_come_into_force_never() {
    for kind in kinds() {
        let network = Network::make(kind);
        let sandbox = &network.sandbox;
        let slow = Slow::make();
        let mut daemon = sandbox.direct_with(&slow.program(), &policy(&["talk.test"], ""));
        slow.wait();
        daemon.say(&format!("policy {}", policy(&[], NETWORK)));
        let waiting = slow.waiting();
        drop(daemon);
        eventually("its end", || !is_at_work(&waiting));
        let daemon = sandbox.direct(&policy(&["talk.test"], ""));
        assert!(daemon.line.starts_with("attached"), "{kind:?}: {}", daemon.line);
        slow.go();
        refused(sandbox, &["tcp", "10.89.7.3:7777"]);
    }
}

/// As when root on the host has flushed all rules.
#[test]
fn rules_that_are_refused_leave_nothing_open() {
    for kind in kinds() {
        let network = Network::make(kind);
        let sandbox = &network.sandbox;
        let mut daemon = sandbox.direct(&all());
        resolved(&mut daemon, "v4.test");
        refused(sandbox, &["tcp", "10.89.7.1:7777"]);
        sandbox.run(&["nft", "delete", "table", "inet", "sbx"]);
        assert_eq!(sandbox.tool(&["tcp", "10.89.7.1:7777"]), "echo", "{kind:?}: nobody has noticed");
        // It has the same ports, and would be an entry of a set that is there.
        let said = daemon.ask("resolve v6.test");
        assert!(said.starts_with("failed"), "{kind:?}: {said}");
        for address in ["10.89.7.1:7777", "10.89.7.3:7777", "[fd07::1]:7777"] {
            refused(sandbox, &["tcp", address]);
        }
        drop(daemon);
        let mut daemon = sandbox.direct(&all());
        resolved(&mut daemon, "v6.test");
        assert_eq!(sandbox.tool(&["tcp", "[fd07::1]:7777"]), "echo", "{kind:?}");
    }
}
