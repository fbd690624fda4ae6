use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use schema::policy::{Policy, Upstream};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::AT_ONCE;
use crate::http::testing::{
    BoxBody, Origin, World, get, ok, policy, raw_origin, read_head, rule, server_tls, text, trusting,
};
use crate::limits::Limits;
use crate::testing::{LONG, generation};
use crate::tls::authority::Authority;
use crate::tls::outbound::Trust;

/// A server that speaks HTTP/1.1 and never answers: each stream would have a connection of its own.
#[tokio::test]
async fn many_streams_share_a_few_connections_and_all_of_them_count() {
    const ALL: usize = 12;
    let (tls, authority) = server_tls(&["http/1.1"]);
    let (opened, mut open) = mpsc::unbounded_channel();
    let address = raw_origin(move |stream| {
        let (tls, opened) = (Arc::clone(&tls), opened.clone());
        async move {
            let Ok(mut stream) = TlsAcceptor::from(tls).accept(stream).await else { return };
            opened.send(()).unwrap();
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
    })
    .await;
    let port = address.port();
    let rules = vec![rule("a.test", port, &json!({ "paths": ["/**"] }))];
    for (of_all, most) in [(1000, AT_ONCE), (ALL, ALL)] {
        let limits = Limits { connections_of_all: of_all, ..Limits::default() };
        let world = World::with(rules.clone(), &[], limits, trusting(&authority));
        let sender = world.multiplexed("a.test", port).await;
        // The first one tells that the server does not multiplex.
        let mut asking: Vec<_> = (0..40)
            .map(|_| {
                let mut sender = sender.clone();
                let request = get(&format!("https://a.test:{port}/x"));
                tokio::spawn(async move { sender.send_request(request).await.map(|answer| answer.status()) })
            })
            .collect();
        let free = || of_all - world.shared.connections.available_permits();
        let since = std::time::Instant::now();
        while free() < most {
            assert!(since.elapsed() < LONG, "{} of {most}", free());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for _ in 0..most - 1 {
            open.recv().await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(free() <= most + 1, "with the client's own: {}", free());
        if of_all == ALL {
            // What finds no room is told so rather than left to wait.
            let refused = asking.pop().unwrap().await.unwrap().unwrap();
            assert_eq!(refused.as_u16(), 503);
        }
        asking.iter().for_each(JoinHandle::abort);
        while open.try_recv().is_ok() {}
    }
}

/// A server of `a.test` that speaks HTTP/1.1 and keeps connections. It says when somebody asks, and answers once it may, or at
/// once what is `/quick`.
async fn patient() -> (SocketAddr, Authority, mpsc::UnboundedReceiver<()>, Arc<Semaphore>) {
    let (tls, authority) = server_tls(&["http/1.1"]);
    let (asks, asked) = mpsc::unbounded_channel();
    let may = Arc::new(Semaphore::new(0));
    let answers = Arc::clone(&may);
    let address = raw_origin(move |stream| {
        let (tls, asks, may) = (Arc::clone(&tls), asks.clone(), Arc::clone(&answers));
        async move {
            let Ok(mut stream) = TlsAcceptor::from(tls).accept(stream).await else { return };
            loop {
                let head = read_head(&mut stream).await;
                if head.is_empty() {
                    return;
                }
                if !head.contains("/quick") {
                    let _ = asks.send(());
                    may.acquire().await.unwrap().forget();
                }
                if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    (address, authority, asked, may)
}

fn ask_often(sender: &SendRequest<BoxBody>, times: usize, uri: &str) -> Vec<JoinHandle<u16>> {
    let ask = |_| {
        let mut sender = sender.clone();
        let request = get(uri);
        tokio::spawn(async move { text(sender.send_request(request).await.unwrap()).await.0 })
    };
    (0..times).map(ask).collect()
}

#[tokio::test]
async fn requests_that_wait_go_by_connections_that_become_free() {
    let (address, authority, mut asked, may) = patient().await;
    let port = address.port();
    let rules = || vec![rule("a.test", port, &json!({ "paths": ["/**"] }))];
    let world = World::with(rules(), &[], Limits::default(), trusting(&authority));
    let sender = world.multiplexed("a.test", port).await;
    let places = world.shared.connections.available_permits();
    for generation in [2, 3] {
        let waiting = ask_often(&sender, 2 * AT_ONCE + 8, &format!("https://a.test:{port}/slow"));
        for _ in 0..AT_ONCE {
            timeout(LONG, asked.recv()).await.expect("as many as may be at once").unwrap();
        }
        may.add_permits(2 * AT_ONCE + 8);
        for answer in waiting {
            assert_eq!(timeout(LONG, answer).await.expect("its turn comes").unwrap(), 200);
        }
        assert_eq!(places - world.shared.connections.available_permits(), AT_ONCE, "each was used again");
        while asked.try_recv().is_ok() {}
        // What the policy of before had made is of no use any more, and in nobody's way.
        world.swap(generation, rules());
    }
    drop(sender);
    let since = std::time::Instant::now();
    while world.shared.connections.available_permits() <= places {
        assert!(since.elapsed() < LONG, "connections are left");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn connections_to_servers_count_among_those_of_their_sandbox() {
    let (address, authority, mut asked, _may) = patient().await;
    let port = address.port();
    let rules = vec![rule("a.test", port, &json!({ "paths": ["/**"] }))];
    let limits = Limits { connections: 20, connections_of_all: 40, ..Limits::default() };
    let world = World::with(rules.clone(), &[], limits.clone(), trusting(&authority));
    let neighbour = World { shared: Arc::clone(&world.shared), ..World::with(rules, &[], limits, Trust::default()) };
    let mut waiting = Vec::new();
    let mut senders = Vec::new();
    for _ in 0..3 {
        let sender = world.multiplexed("a.test", port).await;
        waiting.extend(ask_often(&sender, 30, &format!("https://a.test:{port}/slow")));
        senders.push(sender);
        timeout(LONG, asked.recv()).await.expect("one of each client").unwrap();
    }
    // Three of clients leave seventeen.
    for _ in 3..17 {
        timeout(LONG, asked.recv()).await.expect("as many as there is room for").unwrap();
    }
    let since = std::time::Instant::now();
    while !waiting.iter().any(JoinHandle::is_finished) {
        assert!(since.elapsed() < LONG, "nobody was told that there is no room");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let finished = waiting.iter().position(JoinHandle::is_finished).unwrap();
    assert_eq!(waiting.swap_remove(finished).await.unwrap(), 503);
    assert_eq!(world.shared.connections.available_permits(), 20, "the others' half");
    let sender = neighbour.multiplexed("a.test", port).await;
    let answers = ask_often(&sender, 8, &format!("https://a.test:{port}/quick"));
    for answer in answers {
        assert_eq!(timeout(LONG, answer).await.expect("in time").unwrap(), 200);
    }
    waiting.iter().for_each(JoinHandle::abort);
}

/// Dialling may take until another policy is in force, by which requests go another way.
#[tokio::test]
async fn what_an_earlier_policy_dialled_is_in_no_later_requests_way() {
    let (tls, authority) = server_tls(&["h2"]);
    let origin = Origin::serve(Some(tls), |_| ok("straight")).await;
    let port = origin.port();
    let (asks, mut asked) = mpsc::unbounded_channel();
    let may = Arc::new(Semaphore::new(0));
    let grants = Arc::clone(&may);
    let proxy = raw_origin(move |mut stream| {
        let (asks, may) = (asks.clone(), Arc::clone(&grants));
        async move {
            assert!(read_head(&mut stream).await.starts_with("CONNECT "));
            asks.send(()).unwrap();
            may.acquire().await.unwrap().forget();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
    })
    .await;
    let rules = || vec![rule("a.test", port, &json!({ "paths": ["/**"] }))];
    let world = World::with(rules(), &[], Limits::default(), trusting(&authority));
    let by_proxy = Policy { upstream: Upstream::Http(proxy.to_string()), ..policy(rules()) };
    world.sandbox.swap(generation(2, by_proxy), &world.shared);
    let mut sender = world.multiplexed("a.test", port).await;
    let ask = || get(&format!("https://a.test:{port}/x"));
    let first = tokio::spawn(sender.send_request(ask()));
    timeout(LONG, asked.recv()).await.unwrap().unwrap();
    world.swap(3, rules());
    may.add_permits(1);
    assert!(timeout(LONG, first).await.unwrap().unwrap().is_err(), "it was to go by the proxy");
    for _ in 0..2 {
        assert_eq!(text(sender.send_request(ask()).await.unwrap()).await, (200, "straight".to_owned()));
    }
    assert_eq!(origin.connections(), 1);
}

/// Rules expire while the policy stays: what is kept alive leads where nothing may on that day.
#[tokio::test]
async fn what_may_not_be_asked_any_more_is_not_used_again() {
    for protocols in [&["h2"][..], &["http/1.1"]] {
        let (tls, authority) = server_tls(protocols);
        let origin = Origin::serve(Some(tls), |_| ok("here")).await;
        let port = origin.port();
        let rules = || vec![rule("a.test", port, &json!({ "paths": ["/**"] }))];
        let world = World::with(rules(), &[], Limits::default(), trusting(&authority));
        let mut sender = world.multiplexed("a.test", port).await;
        let closed = Arc::new(generation(1, Policy { dial_allow: Vec::new(), ..policy(rules()) }));
        for connections in [1, 2] {
            for _ in 0..2 {
                let answer = sender.send_request(get(&format!("https://a.test:{port}/x"))).await.unwrap();
                assert_eq!(text(answer).await, (200, "here".to_owned()));
            }
            assert_eq!(origin.connections(), connections, "{protocols:?}");
            world.sandbox.flows.judge_again(|| (Arc::clone(&closed), world.shared.today()));
        }
    }
}

/// A connection that can be left unread.
struct Faucet<S> {
    inner: S,
    shut: Arc<Mutex<(bool, Option<Waker>)>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Faucet<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        {
            let (shut, waker) = &mut *self.shut.lock().unwrap();
            if *shut {
                *waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Faucet<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// However large a client says its windows are: what it does not read stays with the server.
#[tokio::test]
async fn answers_that_nobody_reads_are_not_kept_for_long() {
    const STREAMS: u32 = 64;
    const EACH: u32 = 1 << 20;
    const PIECE: u32 = 16 << 10;
    let (tls, authority) = server_tls(&["h2"]);
    let given = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&given);
    let address = raw_origin(move |stream| {
        let (tls, given) = (Arc::clone(&tls), Arc::clone(&counted));
        async move {
            let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await else { return };
            let service = service_fn(move |_: Request<Incoming>| {
                let given = Arc::clone(&given);
                let pieces = (0..EACH / PIECE).map(move |_| {
                    given.fetch_add(PIECE as usize, Ordering::SeqCst);
                    io::Result::Ok(Frame::data(Bytes::from(vec![7; PIECE as usize])))
                });
                async move { io::Result::Ok(Response::new(StreamBody::new(futures_util::stream::iter(pieces)))) }
            });
            let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = server.max_concurrent_streams(STREAMS).serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await;
    let port = address.port();
    let rules = vec![rule("a.test", port, &json!({ "paths": ["/**"] }))];
    let world = World::with(rules, &[], Limits::default(), trusting(&authority));
    let shut = Arc::new(Mutex::new((false, None::<Waker>)));
    let inner = world.tls("a.test", port, &["h2"]).await;
    let faucet = Faucet { inner, shut: Arc::clone(&shut) };
    let mut client = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    client.initial_stream_window_size(EACH).initial_connection_window_size(STREAMS * EACH);
    let (mut sender, connection) = client.handshake::<_, BoxBody>(TokioIo::new(faucet)).await.unwrap();
    tokio::spawn(connection);
    let mut asked = Vec::new();
    for _ in 0..STREAMS {
        asked.push(sender.send_request(get(&format!("https://a.test:{port}/"))));
    }
    shut.lock().unwrap().0 = true;
    let asked = tokio::spawn(futures_util::future::join_all(asked));
    let mut before = 0;
    // Until nothing more comes.
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = given.load(Ordering::SeqCst);
        if now > 0 && now == before {
            break;
        }
        before = now;
    }
    // Two are what may wait in all streams; the rest is what both kernels and one window hold.
    assert!(before <= 20 << 20, "{before} bytes were taken from the server");
    shut.lock().unwrap().0 = false;
    shut.lock().unwrap().1.take().unwrap().wake();
    for answer in asked.await.unwrap() {
        let body = timeout(LONG, answer.unwrap().into_body().collect()).await.unwrap().unwrap();
        assert_eq!(body.to_bytes().len(), EACH as usize);
    }
}
