use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;

use super::*;

const PATIENCE: Patience = Patience { head: Duration::from_secs(10), idle: Duration::from_mins(1) };
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn guarded() -> (DuplexStream, Guard<DuplexStream>, Arc<Gate>) {
    let (client, server) = duplex(1 << 20);
    let gate = Arc::new(Gate::default());
    (client, Guard::new(server, Arc::clone(&gate), PATIENCE), gate)
}

/// What comes through at once; `None` if nothing does.
async fn through(guard: &mut Guard<DuplexStream>) -> Option<String> {
    let mut piece = vec![0; 1 << 20];
    let read = timeout(Duration::from_millis(1), guard.read(&mut piece)).await.ok()?.unwrap();
    Some(String::from_utf8_lossy(&piece[..read]).into_owned())
}

async fn answer(guard: &mut Guard<DuplexStream>, gate: &Gate) {
    gate.answered();
    guard.flush().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn heads_come_through_whole_and_bodies_as_they_come() {
    let (mut client, mut guard, gate) = guarded();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
    let (first, second) = head.split_at(20);
    client.write_all(first.as_bytes()).await.unwrap();
    assert_eq!(through(&mut guard).await, None);
    client.write_all(second.as_bytes()).await.unwrap();
    assert_eq!(through(&mut guard).await.as_deref(), Some(head));
    client.write_all(b"hel").await.unwrap();
    assert_eq!(through(&mut guard).await.as_deref(), Some("hel"));
    // What follows the body is another head, and not there yet.
    client.write_all(b"loGET").await.unwrap();
    assert_eq!(through(&mut guard).await.as_deref(), Some("lo"));
    assert_eq!(through(&mut guard).await, None);
    answer(&mut guard, &gate).await;
    client.write_all(&GET[3..]).await.unwrap();
    assert_eq!(through(&mut guard).await.as_deref(), Some(std::str::from_utf8(GET).unwrap()));
}

#[tokio::test(start_paused = true)]
async fn what_is_malformed_ends_the_stream_after_what_came_before() {
    let (mut client, mut guard, gate) = guarded();
    client.write_all(&[GET, b"GET / HTTP/1.1\nHost: a\r\n\r\n"].concat()).await.unwrap();
    assert!(through(&mut guard).await.is_some());
    // The first one is not answered yet.
    assert_eq!(through(&mut guard).await, None);
    gate.answered();
    assert_eq!(through(&mut guard).await, None, "not flushed yet");
    guard.flush().await.unwrap();
    assert_eq!(through(&mut guard).await.as_deref(), Some(""));
    assert_eq!(guard.into_parts().2, Some(Ending::Malformed(Malformed::LineEnd)));
}

#[tokio::test(start_paused = true)]
async fn the_end_wakes_whoever_waits_for_it() {
    let (mut client, mut guard, gate) = guarded();
    client.write_all(&[GET, b"\0"].concat()).await.unwrap();
    assert!(through(&mut guard).await.is_some());
    let (mut read, mut write) = tokio::io::split(guard);
    let waiting = tokio::spawn(async move { read.read(&mut [0; 8]).await.unwrap() });
    tokio::task::yield_now().await;
    gate.answered();
    write.flush().await.unwrap();
    assert_eq!(timeout(Duration::from_secs(1), waiting).await.unwrap().unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_no_body_is_an_error_at_once() {
    let (mut client, mut guard, gate) = guarded();
    client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello").await.unwrap();
    assert!(through(&mut guard).await.is_some());
    let error = guard.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.to_string(), Malformed::Chunk.to_string());
    assert_eq!(gate.fault(), Some(Malformed::Chunk));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_is_noticed_while_it_is_answered() {
    let (mut client, mut guard, _gate) = guarded();
    client.write_all(GET).await.unwrap();
    assert!(through(&mut guard).await.is_some());
    assert_eq!(through(&mut guard).await, None);
    drop(client);
    assert_eq!(through(&mut guard).await.as_deref(), Some(""));
    assert_eq!(guard.into_parts().2, Some(Ending::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_is_kept_for_the_caller_with_what_follows() {
    let (mut client, mut guard, _gate) = guarded();
    let head = b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n";
    client.write_all(&[head.as_slice(), b"\x16\x03\x01"].concat()).await.unwrap();
    assert_eq!(through(&mut guard).await.as_deref(), Some(""));
    let (_, kept, ending) = guard.into_parts();
    assert_eq!(ending, Some(Ending::Tunnel(head.len())));
    assert_eq!(&kept[head.len()..], b"\x16\x03\x01");
}

#[tokio::test(start_paused = true)]
async fn after_a_request_to_upgrade_nothing_is_read_until_it_is_decided() {
    let upgrade = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    for granted in [true, false] {
        let (mut client, mut guard, gate) = guarded();
        client.write_all(&[upgrade.as_slice(), GET, b"\0"].concat()).await.unwrap();
        assert_eq!(through(&mut guard).await.unwrap().len(), upgrade.len());
        assert_eq!(through(&mut guard).await, None);
        if granted {
            gate.open();
            assert_eq!(through(&mut guard).await.unwrap().len(), GET.len() + 1);
            client.write_all(b"\0\0").await.unwrap();
            assert_eq!(through(&mut guard).await.as_deref(), Some("\0\0"));
            assert_eq!(guard.into_parts().2, None);
        } else {
            answer(&mut guard, &gate).await;
            assert_eq!(through(&mut guard).await.unwrap().len(), GET.len());
            answer(&mut guard, &gate).await;
            assert_eq!(through(&mut guard).await.as_deref(), Some(""));
            assert_eq!(guard.into_parts().2, Some(Ending::Malformed(Malformed::Control)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn clients_have_so_long() {
    // A head in pieces, each in time.
    let (mut client, mut guard, _gate) = guarded();
    let begun = Instant::now();
    client.write_all(&GET[..10]).await.unwrap();
    assert_eq!(guard.read(&mut [0; 8]).await.unwrap(), 0);
    assert_eq!(begun.elapsed(), PATIENCE.head);
    assert_eq!(guard.into_parts().2, Some(Ending::Malformed(Malformed::TooSlow)));

    // Nothing at all.
    let (_client, mut guard, _gate) = guarded();
    let begun = Instant::now();
    assert_eq!(guard.read(&mut [0; 8]).await.unwrap(), 0);
    assert_eq!(begun.elapsed(), PATIENCE.head);
    assert_eq!(guard.into_parts().2, Some(Ending::Closed));

    // Between requests longer, and an answer takes as long as it takes.
    let (mut client, mut guard, gate) = guarded();
    client.write_all(GET).await.unwrap();
    assert!(through(&mut guard).await.is_some());
    assert!(timeout(PATIENCE.idle * 3, guard.read(&mut [0; 8])).await.is_err());
    answer(&mut guard, &gate).await;
    let begun = Instant::now();
    assert_eq!(guard.read(&mut [0; 8]).await.unwrap(), 0);
    assert_eq!(begun.elapsed(), PATIENCE.idle);
    assert_eq!(guard.into_parts().2, Some(Ending::Closed));
}
