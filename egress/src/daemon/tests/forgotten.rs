//! What is left of sandboxes that are gone.

use super::*;
use crate::audit::{Record, Sink as _};
use crate::testing::record;

/// A connection of a sandbox that was refused.
pub fn refusal(sandbox: &str) -> Record {
    Record { sandbox: sandbox.into(), allowed: false, sent: 1, ..record() }
}

/// What is remembered of it: refusals, and lines of numbers.
fn remembered(daemon: &Daemon, sandbox: &str) -> (usize, usize) {
    let recorder = &daemon.shared.recorder;
    let numbers = recorder.metrics().text(&BTreeMap::new(), 0).expect("encodes");
    let lines = numbers.lines().filter(|line| line.contains(&format!("sandbox=\"{sandbox}\""))).count();
    (recorder.denied("acme", sandbox).len(), lines)
}

#[tokio::test]
async fn nothing_is_remembered_of_what_is_gone() {
    let fake = Arc::new(Fake::default());
    let (daemon, _dir) = fake.daemon(Vec::new());
    fake.records.store(true, Ordering::SeqCst);
    // One that only waits at its gate, as what builds an image, and one with a policy, of which both go at once.
    let policies = [("api", stored("a", &["example.org"])), ("rests", stored("r", &[]))];
    fake.says(world(vec![running("c1", "api"), running("c2", "builder")], &policies));
    for sandbox in ["api", "builder", "rests"] {
        let policy = policies.iter().find(|(of, _)| *of == sandbox).map(|(_, stored)| stored.hash.as_str());
        daemon.enforce("acme", sandbox, policy, BTreeMap::new()).await.expect("in force");
        daemon.shared.recorder.record(refusal(sandbox));
    }
    daemon.look().await.expect("looked");
    for sandbox in ["api", "builder", "rests"] {
        let (refusals, lines) = remembered(&daemon, sandbox);
        assert!(refusals == 1 && lines > 0, "{sandbox}: as long as there is anything of it");
    }
    fake.says(world(Vec::new(), &policies[1..]));
    daemon.look().await.expect("looked");
    for sandbox in ["api", "builder"] {
        assert_eq!(remembered(&daemon, sandbox), (0, 0), "{sandbox}: its flows had their records when it went");
    }
    assert_eq!(remembered(&daemon, "rests").0, 1, "it has a policy");
    // The record of a flow that took its time to end.
    daemon.shared.recorder.record(refusal("builder"));
    daemon.look().await.expect("looked");
    assert_eq!(remembered(&daemon, "builder"), (0, 0));
}
