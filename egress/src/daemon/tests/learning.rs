use super::*;
use crate::control::client::Client;
use crate::control::{ControlError, Hello, Request, Response, Starter, server};

/// Longest that anything may take here.
const LONG: Duration = Duration::from_secs(20);

/// A daemon that serves `api` under a policy, and a connection to it.
async fn serving() -> (Arc<Fake>, Daemon, Client, tempfile::TempDir) {
    let fake = Arc::new(Fake::default());
    let (daemon, dir) = fake.daemon(Vec::new());
    fake.says(world(vec![running("c1", "api")], &[("api", stored("a", &["example.org"]))]));
    daemon.enforce("acme", "api", Some("a"), token()).await.expect("in force");
    let client = connect(&daemon, &dir.path().join("daemon.sock")).await;
    (fake, daemon, client, dir)
}

async fn connect(daemon: &Daemon, socket: &std::path::Path) -> Client {
    let listener = server::listen(socket).expect("listening");
    let hello = Hello::own("1.2.3".into(), Starter::default());
    tokio::spawn(server::serve(listener, daemon.clone(), hello, Arc::default()));
    Client::connect(socket, "1.2.3").await.expect("connected")
}

fn learn(seconds: u64) -> Request {
    Request::Learn { project: "acme".into(), sandbox: "api".into(), seconds }
}

/// Whether what is in force lets `host` be reached.
fn lets_out(fake: &Fake, host: &str) -> bool {
    let generations = fake.generations.lock().expect("not poisoned");
    let newest = generations["api"].last().expect("another generation");
    newest.compiled.resolves(&host.parse().expect("a name"), jiff::civil::date(2026, 1, 1))
}

async fn until_over(daemon: &Daemon) {
    let mut changed = daemon.shared.changed.subscribe();
    let over = async {
        while only(daemon).learning.is_some() {
            changed.changed().await.expect("the daemon is there");
        }
    };
    tokio::time::timeout(LONG, over).await.expect("its end");
}

#[tokio::test]
async fn everything_is_let_out_until_somebody_says_so() {
    let (fake, daemon, mut client, _dir) = serving().await;
    let began = client.ask(&learn(3600)).await.expect("begun");
    let Response::Learning { until } = began else { panic!("{began:?}") };
    assert_eq!(only(&daemon).learning.as_deref(), Some(until.as_str()), "status tells");
    assert!(lets_out(&fake, "example.org") && lets_out(&fake, "anything.test"));
    // The policy is the same: whoever applies it waits for nothing.
    daemon.enforce("acme", "api", Some("a"), BTreeMap::new()).await.expect("in force");
    let why = daemon.learn("acme", "api", LONG).expect_err("one at a time");
    assert!(why.contains("already"), "{why}");
    // Another policy meanwhile is in force with what learning allows.
    fake.says(world(vec![running("c1", "api")], &[("api", stored("b", &["example.net"]))]));
    daemon.enforce("acme", "api", Some("b"), token()).await.expect("in force");
    assert!(lets_out(&fake, "anything.test"));

    client.tell(&Request::EndLearning).await.expect("told");
    assert!(matches!(client.answer().await, Ok(Response::Done)));
    assert_eq!(only(&daemon).learning, None);
    assert!(lets_out(&fake, "example.net") && !lets_out(&fake, "anything.test"));
    client.status().await.expect("the connection goes on");
}

/// A policy that nobody can read meanwhile: what was let out is not let out any longer for that.
#[tokio::test]
async fn its_end_needs_no_policy_that_loads() {
    let (fake, daemon, mut client, _dir) = serving().await;
    client.ask(&learn(3600)).await.expect("begun");
    let broken = Stored { text: "of a later version".into(), ..stored("b", &[]) };
    fake.says(world(vec![running("c1", "api")], &[("api", broken)]));
    daemon.look().await.expect("looked");
    assert!(lets_out(&fake, "anything.test"), "the last good one, and somebody learns");
    client.tell(&Request::EndLearning).await.expect("told");
    assert!(matches!(client.answer().await, Ok(Response::Done)));
    assert!(lets_out(&fake, "example.org") && !lets_out(&fake, "anything.test"));
}

#[tokio::test]
async fn it_ends_by_itself() {
    let (fake, daemon, mut client, _dir) = serving().await;
    client.ask(&learn(1)).await.expect("begun");
    assert!(lets_out(&fake, "anything.test"));
    assert!(matches!(tokio::time::timeout(LONG, client.answer()).await, Ok(Ok(Response::Done))));
    assert!(only(&daemon).learning.is_none() && !lets_out(&fake, "anything.test"));
}

#[tokio::test]
async fn it_ends_with_whoever_learns() {
    let (fake, daemon, mut client, dir) = serving().await;
    client.ask(&learn(3600)).await.expect("begun");
    assert!(lets_out(&fake, "anything.test"));
    // As when the command is killed.
    drop(client);
    until_over(&daemon).await;
    assert!(!lets_out(&fake, "anything.test"));
    // What is said in the midst of it ends it as well.
    let mut client = connect(&daemon, &dir.path().join("other.sock")).await;
    client.ask(&learn(3600)).await.expect("begun");
    assert!(lets_out(&fake, "anything.test"));
    client.ask(&Request::Status).await.expect_err("no time for questions");
    until_over(&daemon).await;
    assert!(!lets_out(&fake, "anything.test"));
}

#[tokio::test]
async fn nobody_learns_about_what_is_not_served_or_for_too_long() {
    let (_fake, daemon, mut client, _dir) = serving().await;
    let other = Request::Learn { project: "acme".into(), sandbox: "web".into(), seconds: 60 };
    for (request, wanted) in [(other, "does not serve"), (learn(24 * 3600 + 1), "longer than 24 h")] {
        match client.ask(&request).await {
            Err(ControlError::Failed(why)) => assert!(why.contains(wanted), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(only(&daemon).learning, None);
}
