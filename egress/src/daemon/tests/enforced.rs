//! When it is said that a policy is in force, and when the main process may go.

use super::*;

/// A daemon that serves `api` under policy `a`.
async fn serving() -> (Arc<Fake>, Daemon, tempfile::TempDir) {
    let fake = Arc::new(Fake::default());
    let (daemon, dir) = fake.daemon(Vec::new());
    fake.says(world(vec![running("c1", "api")], &[("api", stored("a", &["example.org"]))]));
    daemon.enforce("acme", "api", Some("a"), token()).await.expect("in force");
    (fake, daemon, dir)
}

/// Lets everybody else go as far as they can.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_filter_that_takes_nothing_fails_whoever_waits_for_it() {
    let (fake, daemon, _dir) = serving().await;
    fake.untaken.store(true, Ordering::SeqCst);
    fake.says(world(vec![running("c1", "api")], &[("api", stored("b", &["example.net"]))]));
    let why = daemon.enforce("acme", "api", Some("b"), BTreeMap::new()).await.expect_err("not taken");
    assert_eq!(why, "no rules are taken");
    fake.untaken.store(false, Ordering::SeqCst);
    daemon.enforce("acme", "api", Some("b"), BTreeMap::new()).await.expect("taken");

    // Told by itself since, as when another change was the one that was refused.
    let waiting = fake.late.lock().await;
    let asked = Fake::count(&fake.asked);
    let enforcing = tokio::spawn({
        let daemon = daemon.clone();
        async move { daemon.enforce("acme", "api", Some("b"), BTreeMap::new()).await }
    });
    Fake::comes_to(&fake.asked, asked + 1).await;
    fake.broken.store(true, Ordering::SeqCst);
    fake.untaken.store(true, Ordering::SeqCst);
    drop(waiting);
    enforcing.await.expect("it ends").expect_err("broken meanwhile");
}

#[tokio::test]
async fn under_a_filter_that_is_broken_no_policy_is_in_force() {
    let (fake, daemon, _dir) = serving().await;
    fake.broken.store(true, Ordering::SeqCst);
    let why = daemon.enforce("acme", "api", Some("a"), BTreeMap::new()).await.expect_err("attached anew, and again so");
    assert_eq!((why.as_str(), Fake::count(&fake.attached)), ("no more rules", 2));
}

#[tokio::test]
async fn nobody_is_told_that_a_policy_is_in_force_before_it_is() {
    let (fake, daemon, _dir) = serving().await;
    let late = fake.late.lock().await;
    fake.says(world(vec![running("c1", "api")], &[("api", stored("b", &["example.net"]))]));
    let asked = Fake::count(&fake.asked);
    let enforcing = tokio::spawn({
        let daemon = daemon.clone();
        async move { daemon.enforce("acme", "api", Some("b"), BTreeMap::new()).await }
    });
    Fake::comes_to(&fake.asked, asked + 1).await;
    settle().await;
    assert!(!enforcing.is_finished(), "the filter has not said so");
    drop(late);
    enforcing.await.expect("it ends").expect("in force");
}

#[tokio::test]
async fn the_gate_stays_shut_until_what_is_newest_is_in_force() {
    let fake = Arc::new(Fake::default());
    let (daemon, _dir) = fake.daemon(Vec::new());
    let late = fake.late.lock().await;
    fake.says(world(vec![running("c1", "api")], &[("api", stored("a", &["example.org"]))]));
    daemon.look().await.expect("looked");
    Fake::comes_to(&fake.asked, 1).await;
    settle().await;
    assert_eq!(Fake::count(&fake.opened), 0, "what it was attached with is not in force");
    // Another one comes meanwhile.
    fake.says(world(vec![running("c1", "api")], &[("api", stored("b", &["example.net"]))]));
    daemon.look().await.expect("looked");
    drop(late);
    daemon.enforce("acme", "api", Some("b"), BTreeMap::new()).await.expect("in force");
    assert_eq!((fake.generations("api"), Fake::count(&fake.opened)), (Some(vec![2]), 1));
    assert!(Fake::count(&fake.asked) >= 2, "it was waited for again");
}

/// A policy also says at which ports peers come in.
#[tokio::test]
async fn rules_that_were_made_by_another_policy_are_made_anew() {
    for (next, anew) in [("a", false), ("b", true)] {
        let fake = Arc::new(Fake::default());
        let (daemon, _dir) = fake.daemon(Vec::new());
        let held = fake.hold.lock().await;
        let met = meeting("c1", &[("db", "10.0.0.2")]);
        fake.says(world(vec![met.clone()], &[("api", stored("a", &["example.org"]))]));
        daemon.look().await.expect("looked");
        Fake::comes_to(&fake.attached, 1).await;
        fake.says(world(vec![met.clone()], &[("api", stored(next, &["example.org"]))]));
        daemon.look().await.expect("looked");
        drop(held);
        daemon.enforce("acme", "api", Some(next), token()).await.expect("in force");
        let told = if anew { met.peers } else { BTreeMap::new() };
        assert_eq!(*fake.peers.lock().expect("not poisoned"), told, "{next}");
    }
}

#[tokio::test]
async fn a_filter_that_takes_nothing_lets_nobody_start() {
    let fake = Arc::new(Fake::default());
    let (daemon, _dir) = fake.daemon(Vec::new());
    fake.untaken.store(true, Ordering::SeqCst);
    fake.says(world(vec![running("c1", "api")], &[("api", stored("a", &["example.org"]))]));
    let why = daemon.enforce("acme", "api", Some("a"), token()).await.expect_err("not taken");
    assert_eq!((why.as_str(), Fake::count(&fake.opened)), ("no rules are taken", 0));
    fake.untaken.store(false, Ordering::SeqCst);
    daemon.enforce("acme", "api", Some("a"), token()).await.expect("in force");
    assert_eq!(Fake::count(&fake.opened), 1);
}

#[tokio::test]
async fn what_is_handed_over_while_it_is_attached_to_is_let_go_by_the_successor() {
    let fake = Arc::new(Fake::default());
    let (daemon, _dir) = fake.daemon(Vec::new());
    let held = fake.hold.lock().await;
    fake.says(world(vec![running("c1", "api")], &[]));
    daemon.look().await.expect("looked");
    Fake::comes_to(&fake.attached, 1).await;
    let (sockets, _) = daemon.freeze().expect("the first time");
    assert!(sockets.is_empty(), "there are none yet");
    drop(held);
    Fake::comes_to(&fake.asked, 1).await;
    settle().await;
    assert_eq!(Fake::count(&fake.opened), 0, "nobody would serve it");

    let (next, _dir) = fake.daemon(Vec::new());
    next.enforce("acme", "api", None, BTreeMap::new()).await.expect("in force");
    assert_eq!((Fake::count(&fake.attached), Fake::count(&fake.opened)), (2, 1));
}

/// The engine listed its policies before that of the secret was made, and says so only after the secret came.
#[tokio::test]
async fn a_look_that_began_before_keeps_the_secrets_that_came_since() {
    let (fake, daemon, _dir) = serving().await;
    let other = Stored {
        secrets: [(Name::new("token").expect("a name"), "sha256:2".to_owned())].into(),
        ..stored("b", &["example.net"])
    };
    let value = SecretValue { hash: "sha256:2".into(), value: b"hunter3".to_vec() };
    let given: BTreeMap<_, _> = [(Name::new("token").expect("a name"), value)].into();

    let slow = fake.slow.lock().await;
    let looked = Fake::count(&fake.looked);
    let looking = tokio::spawn({
        let daemon = daemon.clone();
        async move { daemon.look().await }
    });
    Fake::comes_to(&fake.looked, looked + 1).await;
    fake.says(world(vec![running("c1", "api")], &[("api", other)]));
    let enforcing = tokio::spawn({
        let (daemon, given) = (daemon.clone(), given.clone());
        async move { daemon.enforce("acme", "api", Some("b"), given).await }
    });
    settle().await;
    drop(slow);
    looking.await.expect("it ends").expect("looked");
    enforcing.await.expect("it ends").expect("in force");
    assert!(only(&daemon).missing_secrets.is_empty());
    {
        let generations = fake.generations.lock().expect("not poisoned");
        let secrets = &generations["api"].last().expect("another one").secrets;
        assert_eq!(secrets.values().next().expect("the token").expose_secret(), b"hunter3");
    }
    // Nobody asks for the first one any more, and for the other one neither, once its policy is gone.
    fake.says(world(vec![running("c1", "api")], &[]));
    daemon.look().await.expect("looked");
    assert!(daemon.freeze().expect("the first time").1.is_empty());
}

#[tokio::test]
async fn a_policy_is_not_in_force_without_the_secret_that_was_given_for_it() {
    let (_fake, daemon, _dir) = serving().await;
    let (name, other) = (Name::new("token").expect("a name"), SecretValue { hash: "sha256:9".into(), value: vec![1] });
    daemon
        .enforce("acme", "api", Some("a"), [(name.clone(), other.clone())].into())
        .await
        .expect("it has the right one");
    let fake = Arc::new(Fake::default());
    let (daemon, _dir) = fake.daemon(Vec::new());
    fake.says(world(vec![running("c1", "api")], &[("api", stored("a", &["example.org"]))]));
    let why = daemon.enforce("acme", "api", Some("a"), [(name, other)].into()).await.expect_err("not that one");
    assert!(why.contains("token"), "{why}");
    daemon.enforce("acme", "api", Some("a"), BTreeMap::new()).await.expect("whoever gives none does not wait for it");
}
