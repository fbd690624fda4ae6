//! What one daemon hands over to another: by whom it is claimed, and what becomes of it where that does not come to pass.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;

use super::*;
use crate::control::client::{Client, take_over};
use crate::control::{Hello, PROTOCOL, Request, Starter, server};

/// A socket of container `c1` that was handed over, and a client that waits in its queue.
async fn passed() -> (Passed, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address: SocketAddr = listener.local_addr().expect("bound");
    let listeners = Listeners { tcp: vec![listener], ..Listeners::default() };
    let client = TcpStream::connect(address).await.expect("the kernel takes it");
    (Passed { identity: running("c1", "api").identity, listeners }, client)
}

/// The engine went away after it had been asked, and says so or says nothing.
#[tokio::test(start_paused = true)]
async fn who_connects_does_not_wait_for_an_engine_that_is_away() {
    for silent in [false, true] {
        let fake = Arc::new(Fake::default());
        let held = if silent { Some(fake.slow.lock().await) } else { None };
        *fake.world.lock().expect("not poisoned") = Saying(Err("nobody answers".into()));
        let (passed, mut client) = passed().await;
        let (daemon, _dir) = fake.daemon(vec![passed]);
        let looks = daemon.clone();
        let looking = tokio::spawn(async move { looks.look().await });
        let heard = tokio::time::timeout(2 * CLAIM_WITHIN, client.read_u8()).await.expect("it is let go");
        let refused = heard.expect_err("nobody serves it");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(looking.is_finished(), !silent);
        drop(held);
        looking.await.expect("no panic").expect_err("nobody answers");
        // Attached to anew.
        fake.says(world(vec![running("c1", "api")], &[]));
        daemon.enforce("acme", "api", None, BTreeMap::new()).await.expect("in force");
        assert_eq!(Fake::count(&fake.attached), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_engine_knows_of_is_kept() {
    let fake = Arc::new(Fake::default());
    let (passed, mut client) = passed().await;
    let (daemon, _dir) = fake.daemon(vec![passed]);
    fake.says(world(vec![running("c1", "api")], &[]));
    daemon.enforce("acme", "api", None, BTreeMap::new()).await.expect("in force");
    let waits = tokio::time::timeout(2 * CLAIM_WITHIN, client.read_u8()).await;
    waits.expect_err("the socket is there, whoever answers in it");
    assert_eq!(Fake::count(&fake.attached), 0);
}

/// A daemon that serves `acme/api`, where it answers, and what it is told when it is to end.
async fn serving(fake: &Arc<Fake>) -> (Daemon, tempfile::TempDir, PathBuf, Arc<Notify>) {
    let (daemon, dir) = fake.daemon(Vec::new());
    fake.says(world(vec![running("c1", "api")], &[("api", stored("a", &["example.org"]))]));
    daemon.enforce("acme", "api", Some("a"), token()).await.expect("in force");
    let (socket, over) = (dir.path().join("daemon.sock"), Arc::new(Notify::new()));
    let listener = server::listen(&socket).expect("listening");
    let hello = Hello::own("1.2.3".into(), Starter::Sbx);
    tokio::spawn(server::serve(listener, daemon.clone(), hello, Arc::clone(&over)));
    (daemon, dir, socket, over)
}

/// Has asked for everything, and been told what there is.
async fn asked(socket: &std::path::Path) -> BufReader<UnixStream> {
    let mut stream = BufReader::new(UnixStream::connect(socket).await.expect("connected"));
    for request in [Request::Hello { protocol: PROTOCOL, version: "9".into() }, Request::HandOver] {
        let line = serde_json::to_string(&request).expect("plain data") + "\n";
        stream.write_all(line.as_bytes()).await.expect("asked");
        stream.read_line(&mut String::new()).await.expect("an answer");
    }
    stream
}

/// Stopped in the midst of it, or killed.
#[tokio::test(start_paused = true)]
async fn who_takes_nothing_of_what_is_handed_over_is_not_waited_for() {
    for ends in [false, true] {
        let fake = Arc::new(Fake::default());
        let (daemon, _dir, socket, over) = serving(&fake).await;
        let stream = asked(&socket).await;
        assert!(daemon.is_frozen() && fake.generations("api").is_none(), "nobody serves it");
        // Not even an engine is needed to go on.
        *fake.world.lock().expect("not poisoned") = Saying(Err("nobody answers".into()));
        let stream = (!ends).then_some(stream);
        let mut changed = daemon.shared.changed.subscribe();
        let served = async {
            while daemon.is_frozen() || only(&daemon).policy.is_none() {
                changed.changed().await.expect("it goes on");
            }
        };
        tokio::time::timeout(Duration::from_secs(5), served).await.expect("it serves again");
        assert_eq!(only(&daemon).policy.as_deref(), Some("a"));
        assert!(only(&daemon).missing_secrets.is_empty());
        assert_eq!(Fake::count(&fake.attached), 1, "by its own sockets");
        drop(stream);
        // Another one that does take it.
        let successor = Client::connect(&socket, "9").await.expect("it answers");
        let inheritance = take_over(successor).await.expect("handed over");
        assert_eq!((inheritance.sandboxes.len(), inheritance.secrets.len()), (1, 1));
        over.notified().await;
    }
}
