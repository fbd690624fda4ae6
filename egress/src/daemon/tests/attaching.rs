//! What is in the way of attaching, and in whose.

use super::*;
use crate::daemon::attaching::AT_GATE_WITHIN;

#[tokio::test(start_paused = true)]
async fn who_is_not_at_its_gate_keeps_nobody_else_waiting() {
    let fake = Arc::new(Fake::default());
    let (daemon, _dir) = fake.daemon(Vec::new());
    let hostile: Vec<String> = (0..2 * AT_ONCE).map(|number| format!("hostile-{number}")).collect();
    let away = hostile.iter().map(|name| (name.clone(), usize::MAX)).chain([("slow".to_owned(), 3)]);
    *fake.away.lock().expect("not poisoned") = away.collect();
    let mut all: Vec<Running> = hostile.iter().map(|name| running(name, name)).collect();
    all.extend([running("c1", "slow"), running("c2", "api")]);
    fake.says(world(all, &[]));
    let begun = Instant::now();
    for sandbox in ["api", "slow"] {
        daemon.enforce("acme", sandbox, None, BTreeMap::new()).await.expect("in force");
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let why = daemon.enforce("acme", &hostile[0], None, BTreeMap::new()).await.expect_err("it never comes");
    assert_eq!(why, "nobody at the gate");
    assert!(begun.elapsed() >= AT_GATE_WITHIN, "{:?}", begun.elapsed());
}

/// Of another version, say: the language has no policy like it.
#[tokio::test]
async fn a_policy_with_more_ports_for_datagrams_than_are_listened_on_does_not_load() {
    let fake = Arc::new(Fake::default());
    let (daemon, _dir) = fake.daemon(Vec::new());
    let with = |last: u16| Stored {
        hash: format!("up-to-{last}"),
        text: format!(
            r#"{{"allow":[{{"host":"example.org","protocol":"udp","ports":[{{"first":1,"last":{last}}}],"place":{{"at":"x"}}}}]}}"#
        ),
        secrets: BTreeMap::new(),
    };
    fake.says(world(vec![running("c1", "api")], &[("api", with(100))]));
    daemon.enforce("acme", "api", Some("up-to-100"), BTreeMap::new()).await.expect("in force");
    fake.says(world(vec![running("c1", "api")], &[("api", with(101))]));
    let why = daemon.enforce("acme", "api", Some("up-to-101"), BTreeMap::new()).await.expect_err("too many");
    assert!(why.contains("101 ports"), "{why}");
    assert_eq!(only(&daemon).policy.as_deref(), Some("up-to-100"));
    let direct = Running { way: Way::Direct, ..running("c2", "api") };
    fake.says(world(vec![direct], &[("api", with(101))]));
    daemon.enforce("acme", "api", Some("up-to-101"), BTreeMap::new()).await.expect("nothing listens there");
}

/// What a predecessor was made to listen on by policies of before is closed.
#[tokio::test]
async fn sockets_for_datagrams_that_no_rule_is_about_are_not_handed_on() {
    let fake = Arc::new(Fake::default());
    let sockets = [0, 0].map(|port| std::net::UdpSocket::bind(("127.0.0.1", port)).expect("bound"));
    let [named, other] = [&sockets[0], &sockets[1]].map(|socket| socket.local_addr().expect("bound").port());
    let text = format!(
        r#"{{"allow":[{{"host":"example.org","protocol":"udp","ports":[{{"first":{named},"last":{named}}}],"place":{{"at":"x"}}}}]}}"#
    );
    let stored = Stored { hash: "one".to_owned(), text, secrets: BTreeMap::new() };
    fake.says(world(vec![running("c1", "api")], &[("api", stored)]));
    let listeners = Listeners { udp: sockets.into(), ..Listeners::default() };
    let passed = Passed { identity: running("c1", "api").identity, listeners };
    let (daemon, _dir) = fake.daemon(vec![passed]);
    daemon.enforce("acme", "api", Some("one"), BTreeMap::new()).await.expect("in force");
    assert_eq!(*fake.ports.lock().expect("not poisoned"), [named]);
    std::net::UdpSocket::bind(("127.0.0.1", other)).expect("nobody has it any more");
    let (sockets, _) = daemon.freeze().expect("the first time");
    let handed: Vec<_> = sockets.iter().map(|(_, listeners)| listeners.udp.len()).collect();
    assert_eq!(handed, [1]);
}

#[tokio::test]
async fn whoever_is_there_is_not_forgotten_for_being_silent() {
    let fake = Arc::new(Fake::default());
    let (daemon, dir) = fake.daemon(Vec::new());
    let directory = |sandbox: &str| dir.path().join("acme").join(sandbox);
    for sandbox in ["api", "stopped", "gone"] {
        std::fs::create_dir_all(directory(sandbox)).expect("made");
        let file = std::fs::File::create(directory(sandbox).join(crate::audit::log::CURRENT)).expect("made");
        let long_ago = std::time::SystemTime::now() - Duration::from_hours(24 * 91);
        file.set_modified(long_ago).expect("a file of ours");
    }
    fake.says(world(vec![running("c1", "api")], &[("stopped", stored("a", &["example.org"]))]));
    daemon.look().await.expect("looked");
    daemon.shared.recorder.flush().await;
    let left = ["api", "stopped", "gone"].map(|sandbox| directory(sandbox).exists());
    assert_eq!(left, [true, true, false]);
}
