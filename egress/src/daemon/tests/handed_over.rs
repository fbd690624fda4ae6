//! What one daemon hands over to another: by whom it is claimed, and what becomes of it where that does not come to pass.

use std::net::SocketAddr;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::*;

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
