use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::pipe::Pipe;
use super::*;

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (connected, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (connected.unwrap(), accepted.unwrap().0)
}

/// Moves bytes until the end.
async fn run(direction: &mut Direction, from: &impl Channel, to: &impl Channel) -> (Result<(), Broken>, u64) {
    let moved = AtomicU64::new(0);
    let result = poll_fn(|cx| {
        direction.poll(cx, from, to, &|bytes| {
            moved.fetch_add(bytes, Ordering::Relaxed);
        })
    });
    (result.await, moved.into_inner())
}

#[tokio::test]
async fn bulk_is_spliced_and_small_talk_is_copied() {
    const BULK: usize = 8 << 20;
    let (mut client, from) = pair().await;
    let (to, mut server) = pair().await;
    let mut direction = Direction::default();
    let cx = &mut Context::from_waker(Waker::noop());
    client.write_all(b"small").await.unwrap();
    from.readable().await.unwrap();
    let _ = direction.poll(cx, &from, &to, &|_| ());
    assert!(!direction.splices());
    let mut small = [0; 5];
    server.read_exact(&mut small).await.unwrap();
    assert_eq!(&small, b"small");

    // More than all buffers on the way hold: it ends up in the pipe.
    let talking = tokio::spawn(async move {
        client.write_all(&vec![7; BULK]).await.unwrap();
        client
    });
    while !direction.splices() {
        let _ = direction.poll(cx, &from, &to, &|_| ());
        tokio::task::yield_now().await;
    }
    let mut arrived = 0;
    let mut buffer = vec![0; 1 << 20];
    while arrived < BULK {
        let _ = direction.poll(cx, &from, &to, &|_| ());
        if let Ok(Ok(read)) = tokio::time::timeout(Duration::from_millis(5), server.read(&mut buffer)).await {
            arrived += read;
        }
    }
    let mut client = talking.await.unwrap();
    client.write_all(b"small").await.unwrap();
    while direction.splices() {
        let _ = direction.poll(cx, &from, &to, &|_| ());
        tokio::task::yield_now().await;
    }
    server.read_exact(&mut small).await.unwrap();
    assert_eq!(&small, b"small", "and the pipe is given back");
}

#[tokio::test]
async fn sockets_of_other_kinds_do_as_well() {
    let (mut client, from) = UnixStream::pair().unwrap();
    let (to, mut server) = pair().await;
    let bytes: Vec<u8> = (0..400_000_u32).flat_map(u32::to_le_bytes).collect();
    let said = bytes.clone();
    let talking = tokio::spawn(async move {
        client.write_all(&said).await.unwrap();
    });
    let reading = tokio::spawn(async move {
        let mut read = Vec::new();
        server.read_to_end(&mut read).await.unwrap();
        read
    });
    let mut direction = Direction::with(Bytes::from_static(b"before "));
    let (result, moved) = run(&mut direction, &from, &to).await;
    result.unwrap();
    talking.await.unwrap();
    drop(to);
    assert_eq!(moved, bytes.len() as u64 + 7);
    assert!(reading.await.unwrap() == [b"before ", &bytes[..]].concat());
}

#[tokio::test]
async fn a_pipe_that_is_not_empty_is_never_used_again() {
    let (mut client, from) = pair().await;
    client.write_all(b"secret of one connection").await.unwrap();
    from.readable().await.unwrap();
    let mut full = Pipe::get().unwrap();
    assert_eq!(from.attempt(tokio::io::Interest::READABLE, || full.fill(&from)).unwrap(), 24);
    drop(full);
    let (to, mut server) = pair().await;
    let mut next = Pipe::get().unwrap();
    assert_eq!(next.held(), 0);
    client.write_all(b"next").await.unwrap();
    from.readable().await.unwrap();
    from.attempt(tokio::io::Interest::READABLE, || next.fill(&from)).unwrap();
    next.drain(&to).unwrap();
    drop(to);
    let mut read = Vec::new();
    server.read_to_end(&mut read).await.unwrap();
    assert_eq!(read, b"next");
}

#[tokio::test]
async fn one_connection_does_not_keep_others_waiting() {
    let (mut client, from) = UnixStream::pair().unwrap();
    let (to, mut server) = UnixStream::pair().unwrap();
    let bulk = vec![0; 1 << 16];
    tokio::spawn(async move { while client.write_all(&bulk).await.is_ok() {} });
    tokio::spawn(async move {
        let mut buffer = vec![0; 1 << 16];
        while server.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    });
    tokio::spawn(async move { run(&mut Direction::default(), &from, &to).await });
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
}
