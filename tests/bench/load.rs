//! Clients and the server behind what is measured, in processes of their own.

use std::io::{Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::net::{RecvFlags, recv};

/// A recorded first message of TLS that names [`crate::data_path::NAME`].
const HELLO: &[u8] = include_bytes!("../../fixtures/client-hello/curl.bin");

/// Follows the first message: wants bytes without end.
const ENDLESS: u8 = b'B';
/// Follows the first message: wants one byte.
const SINGLE: u8 = b'C';

/// Answers until it is killed. What is behind the first message is not TLS: who passes it on does not look.
pub fn origin(port: u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free");
    let bytes = Arc::new(vec![7u8; 1 << 20]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    listener.set_nonblocking(true).expect("a socket");
    runtime.block_on(async {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        loop {
            let Ok((mut stream, _)) = listener.accept().await else { continue };
            let bytes = Arc::clone(&bytes);
            tokio::spawn(async move {
                let mut first = vec![0; HELLO.len() + 1];
                if stream.read_exact(&mut first).await.is_err() {
                    return;
                }
                if first.last() == Some(&ENDLESS) {
                    while stream.write_all(&bytes).await.is_ok() {}
                } else {
                    let _ = stream.write_all(b"!").await;
                    let _ = stream.read(&mut first).await;
                }
            });
        }
    });
}

/// Receives `bytes` over one connection to `port` and throws them away unseen, so that the client costs little.
pub fn bulk(port: u16, bytes: usize) {
    let mut stream = begun(port, ENDLESS);
    let mut unused = vec![MaybeUninit::<u8>::uninit(); 1 << 20];
    let mut left = bytes;
    // What comes first proves that it arrives at all.
    let mut first = [0; 1];
    stream.read_exact(&mut first).expect("the origin sends");
    assert_eq!(first, [7]);
    while left > 0 {
        let (_, received) = recv(&stream, &mut unused[..], RecvFlags::TRUNC).expect("the origin goes on");
        assert!(received > 0, "the connection ended");
        left = left.saturating_sub(received);
    }
}

/// Makes `count` connections to `port`, `at_once` at a time; each is answered with one byte.
pub fn connections(port: u16, count: usize, at_once: usize) {
    let next = AtomicUsize::new(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let one = async || {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut hello = HELLO.to_vec();
        hello.push(SINGLE);
        while next.fetch_add(1, Ordering::Relaxed) < count {
            let mut stream = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("it listens");
            stream.write_all(&hello).await.expect("it reads");
            let mut answer = [0; 1];
            stream.read_exact(&mut answer).await.expect("an answer");
            // Without a time of waiting: ports are few.
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket");
        }
    };
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for _ in 0..at_once {
            tasks.push(one());
        }
        futures(tasks).await;
    });
}

/// All of them at once, on one thread.
async fn futures(tasks: Vec<impl Future<Output = ()>>) {
    let mut tasks: Vec<_> = tasks.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|context| {
        tasks.retain_mut(|task| task.as_mut().poll(context).is_pending());
        if tasks.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

fn begun(port: u16, wish: u8) -> TcpStream {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
    stream.write_all(HELLO).and_then(|()| stream.write_all(&[wish])).expect("it reads");
    stream
}

/// Asks `port` for the addresses of `names`, `count` times, with so many questions under way that neither side waits.
/// Every answer must have the code `expected`.
pub fn questions(port: u16, names: &[String], count: usize, expected: u8) {
    const UNDER_WAY: usize = 32;
    let questions: Vec<Vec<u8>> = names.iter().map(|name| question(name)).collect();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    socket.connect((Ipv4Addr::LOCALHOST, port)).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a socket");
    let mut asked = 0;
    let mut ask = || {
        socket.send(&questions[asked % questions.len()]).expect("it listens");
        asked += 1;
    };
    (0..UNDER_WAY).for_each(|_| ask());
    let mut answer = [0; 600];
    for _ in 0..count {
        let length = socket.recv(&mut answer).expect("an answer within two seconds");
        assert!(length > 12 && answer[3] & 15 == expected, "code {}", answer[3] & 15);
        ask();
    }
}

fn question(name: &str) -> Vec<u8> {
    let mut message = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).expect("a short label"));
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}
