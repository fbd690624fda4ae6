use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http2 as http2_server;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::audit::Spoken;
use crate::http::testing::{
    Line, Origin, World, get, nothing, ok, raw_origin, read_head, rule, server_tls, shake, text, trusting,
};
use crate::limits::Limits;
use crate::testing::LONG;
use crate::tls::authority::Authority;
use crate::tls::outbound::Trust;
use schema::policy::Rule;

/// A server of `a.test` that says which version it was asked by, and a world that trusts it.
async fn world(protocols: &[&str], rules: impl Fn(u16) -> Vec<Rule>) -> (Origin, World) {
    world_with(protocols, rules, &[]).await
}

async fn world_with(protocols: &[&str], rules: impl Fn(u16) -> Vec<Rule>, secrets: &[(&str, &str)]) -> (Origin, World) {
    let (tls, authority) = server_tls(protocols);
    let origin = Origin::serve(Some(tls), |_| ok("secret answer")).await;
    let rules = rules(origin.port());
    let world = World::with(rules, secrets, Limits::default(), trusting(&authority));
    (origin, world)
}

fn get_v1(port: u16) -> Vec<Rule> {
    vec![rule("a.test", port, &json!({ "methods": ["GET"], "paths": ["/v1/**"] }))]
}

#[tokio::test]
async fn requests_inside_tls_are_judged_one_by_one() {
    let (origin, world) = world(&["h2", "http/1.1"], get_v1).await;
    let port = origin.port();
    let mut line = world.secure("a.test", port).await;
    assert_eq!(line.get(&format!("a.test:{port}"), "/v1/x").await.body, "secret answer");
    let denied = line.get("a.test", "/v2").await;
    assert_eq!((denied.status, denied.header("sbx-refusal")), (403, Some("path")));
    let other = line.get("b.test", "/v1/x").await;
    assert_eq!((other.status, other.header("sbx-refusal")), (403, Some("host-mismatch")));
    assert_eq!(line.ask("TRACE /v1/x HTTP/1.1\r\nHost: a.test\r\n\r\n").await.status, 405);
    assert_eq!(line.get("a.test", "/v1/y").await.status, 200);
    let smuggled = "GET /v1/x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(line.ask(smuggled).await.status, 400);
    assert!(line.ends().await);
    assert_eq!(origin.got().len(), 2);
    // HTTP/1.1 is carried by HTTP/1.1, on a connection that is kept.
    assert_eq!((origin.connections(), origin.got()[0].header("host")), (1, Some(format!("a.test:{port}").as_str())));
    let records = world.records.wait_for(6).await;
    assert!(records.iter().all(|record| record.protocol == Spoken::Https));
    assert_eq!(records.iter().filter(|record| record.allowed).count(), 2);
}

#[tokio::test]
async fn streams_are_judged_one_by_one() {
    let (origin, world) = world(&["h2", "http/1.1"], get_v1).await;
    let port = origin.port();
    let mut sender = world.multiplexed("a.test", port).await;
    let url = |path: &str| format!("https://a.test:{port}{path}");
    let answered = text(sender.send_request(get(&url("/v1/./x?q=1"))).await.unwrap()).await;
    assert_eq!(answered, (200, "secret answer".to_owned()));
    for (uri, status, because) in [
        (url("/v2"), 403, "path"),
        ("https://b.test/v1/x".to_owned(), 403, "host-mismatch"),
        (format!("https://a.test:{}/v1/x", port - 1), 403, "host-mismatch"),
        ("https://user@a.test/v1/x".to_owned(), 400, "malformed"),
        (url("//v1/x"), 400, "path"),
    ] {
        let response = sender.send_request(get(&uri)).await.unwrap();
        let reason = response.headers()["sbx-refusal"].to_str().unwrap().to_owned();
        assert_eq!((response.status().as_u16(), reason.as_str()), (status, because), "{uri}");
    }
    // A Host beside the authority must be the same.
    let mut two = get(&url("/v1/x"));
    two.headers_mut().insert("host", HeaderValue::from_static("b.test"));
    assert_eq!(sender.send_request(two).await.unwrap().status(), 400);
    let many = (0..20).map(|number| {
        let mut sender = sender.clone();
        let request = get(&url(&format!("/v1/{number}")));
        async move { text(sender.send_request(request).await.unwrap()).await.0 }
    });
    assert_eq!(futures_util::future::join_all(many).await, [200; 20]);
    let got = origin.got();
    assert_eq!((got.len(), got[0].target.as_str()), (21, url("/v1/x?q=1").as_str()));
    assert_eq!(origin.connections(), 1, "all streams by one connection");
}

#[tokio::test]
async fn each_version_reaches_servers_that_speak_the_other() {
    let (origin, world) = world(&["http/1.1"], |port| vec![rule("a.test", port, &json!({ "paths": ["/**"] }))]).await;
    let port = origin.port();
    let sender = world.multiplexed("a.test", port).await;
    let many = (0..8).map(|_| {
        let mut sender = sender.clone();
        let request = get(&format!("https://a.test:{port}/x"));
        async move { text(sender.send_request(request).await.unwrap()).await }
    });
    for answered in futures_util::future::join_all(many).await {
        assert_eq!(answered, (200, "secret answer".to_owned()));
    }
    assert!(origin.got().iter().all(|got| got.header("host") == Some(format!("a.test:{port}").as_str())));
    // With nothing under way, one of the connections is used again.
    let connections = origin.connections();
    let mut sender = sender;
    assert_eq!(text(sender.send_request(get(&format!("https://a.test:{port}/x"))).await.unwrap()).await.0, 200);
    assert_eq!(origin.connections(), connections);
}

#[tokio::test]
async fn secrets_are_written_inside_tls() {
    let rules =
        |port| vec![rule("a.test", port, &json!({ "request": { "set": [["x-api-key", { "secret": "key" }]] } }))];
    let (origin, world) = world_with(&["h2", "http/1.1"], rules, &[("key", "s3cret-value")]).await;
    let port = origin.port();
    let mut sender = world.multiplexed("a.test", port).await;
    let mut request = get(&format!("https://a.test:{port}/"));
    request.headers_mut().insert("x-api-key", HeaderValue::from_static("mine"));
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(origin.got()[0].header("x-api-key"), Some("s3cret-value"));
    let mut line = world.secure("a.test", port).await;
    let answer = line.get("a.test", "/").await;
    assert_eq!(origin.got()[1].header("x-api-key"), Some("s3cret-value"));
    assert!(!format!("{response:?} {answer:?} {:?}", world.records.all()).contains("s3cret"));
}

#[tokio::test]
async fn servers_that_cannot_prove_their_name_get_nothing() {
    let (tls, authority) = server_tls(&["http/1.1"]);
    let origin = Origin::serve(Some(tls), |_| ok("")).await;
    let port = origin.port();
    let rules =
        || vec![rule("a.test", port, &json!({ "paths": ["/**"] })), rule("b.test", port, &json!({ "paths": ["/**"] }))];
    let other = Authority::generate("somebody else").unwrap();
    let untrusting = World::with(rules(), &[], Limits::default(), trusting(&other));
    let mut line = untrusting.secure("a.test", port).await;
    let answer = line.get("a.test", "/").await;
    assert_eq!((answer.status, answer.header("sbx-refusal")), (502, Some("upstream-tls")));
    assert!(answer.body.contains("no trusted connection to a.test: "), "{}", answer.body);
    assert!(answer.body.contains("UnknownIssuer"), "{}", answer.body);
    // The right authority, but the certificate is a.test's.
    let world = World::with(rules(), &[], Limits::default(), trusting(&authority));
    let answer = world.secure("b.test", port).await.get("b.test", "/").await;
    assert_eq!((answer.status, answer.header("sbx-refusal")), (502, Some("upstream-tls")));
    assert!(answer.body.contains("not valid for name"), "{}", answer.body);
    // Nobody is trusted at all.
    let nobody = World::with(rules(), &[], Limits::default(), Trust::default());
    let answer = nobody.secure("a.test", port).await.get("a.test", "/").await;
    assert_eq!((answer.status, answer.header("sbx-refusal")), (502, Some("upstream-tls")));
    assert!(origin.got().is_empty());
    assert_eq!(world.secure("a.test", port).await.get("a.test", "/").await.status, 200);
    // What does not speak TLS at all.
    let plain = Origin::start(|_| ok("")).await;
    let world = World::with(
        vec![rule("a.test", plain.port(), &json!({ "paths": ["/**"] }))],
        &[],
        Limits::default(),
        trusting(&authority),
    );
    assert_eq!(world.secure("a.test", plain.port()).await.get("a.test", "/").await.status, 502);
}

#[tokio::test]
async fn another_name_or_none_is_not_shaken_hands_with() {
    let (origin, world) = world(&["http/1.1"], get_v1).await;
    let port = origin.port();
    let authority = world.shared.web.authority("project").unwrap();
    let raw = world.intercepted("a.test", port).await;
    assert!(shake(raw, &authority, "b.test", &["http/1.1"]).await.is_err());
    // For an address, TLS has no name.
    let raw = world.intercepted("a.test", port).await;
    assert!(shake(raw, &authority, "192.0.2.1", &["http/1.1"]).await.is_err());
    let mut babbling = Line::new(world.intercepted("a.test", port).await);
    babbling.send("GET / HTTP/1.1\r\n\r\n").await;
    let mut rest = Vec::new();
    let _ = timeout(LONG, babbling.stream.read_to_end(&mut rest)).await.unwrap();
    assert!(!rest.starts_with(b"HTTP"));
    world.shared.web.remove_authority("project");
    let raw = world.intercepted("a.test", port).await;
    assert!(shake(raw, &authority, "a.test", &["http/1.1"]).await.is_err());
    let records = world.records.wait_for(4).await;
    let because: Vec<_> = records.iter().filter_map(|record| record.because.as_deref()).collect();
    assert_eq!(because, ["sni-mismatch", "sni-missing", "tls-handshake", "no-authority"]);
    assert!(records.iter().all(|record| !record.allowed));
}

#[tokio::test]
async fn a_client_that_dawdles_with_tls_is_dropped() {
    let limits = Limits { handshake: Duration::from_millis(50), ..Limits::default() };
    let world = World::with(vec![rule("a.test", 443, &json!({ "paths": ["/**"] }))], &[], limits, Trust::default());
    let mut line = Line::new(world.intercepted("a.test", 443).await);
    assert!(line.ends().await);
    assert_eq!(world.records.wait_for(1).await[0].because.as_deref(), Some("handshake-timeout"));
}

/// A server of HTTP/2 that streams what it is given, and ends with a trailer.
async fn streaming() -> (SocketAddr, Authority, mpsc::Receiver<(HeaderMap, mpsc::Sender<Bytes>)>) {
    let (tls, authority) = server_tls(&["h2"]);
    let (opened, open) = mpsc::channel(8);
    let address = raw_origin(move |stream| {
        let (tls, opened) = (Arc::clone(&tls), opened.clone());
        async move {
            let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await else { return };
            let service = service_fn(move |request: Request<Incoming>| {
                let opened = opened.clone();
                async move {
                    let (send, mut pieces) = mpsc::channel::<Bytes>(1);
                    opened.send((request.headers().clone(), send)).await.unwrap();
                    let frames = async_frames(move |cx| pieces.poll_recv(cx));
                    hyper::Result::Ok(Response::new(StreamBody::new(frames)))
                }
            });
            let server = http2_server::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await;
    (address, authority, open)
}

/// Frames of data until there are no more, then a trailer.
fn async_frames(
    mut next: impl FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<Bytes>> + Unpin,
) -> impl futures_util::Stream<Item = Result<Frame<Bytes>, std::convert::Infallible>> {
    let mut over = false;
    futures_util::stream::poll_fn(move |cx| {
        if over {
            return std::task::Poll::Ready(None);
        }
        next(cx).map(|piece| {
            Some(Ok(piece.map_or_else(
                || {
                    over = true;
                    let status = (HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
                    Frame::trailers([status].into_iter().collect())
                },
                Frame::data,
            )))
        })
    })
}

#[tokio::test]
async fn trailers_of_streams_pass() {
    let (address, authority, mut open) = streaming().await;
    let port = address.port();
    let world = World::with(
        vec![rule("a.test", port, &json!({ "methods": ["POST"] }))],
        &[],
        Limits::default(),
        trusting(&authority),
    );
    let mut sender = world.multiplexed("a.test", port).await;
    let request = Request::post(format!("https://a.test:{port}/pkg.Service/Call"))
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .body(Full::from("request").boxed())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let (headers, pieces) = open.recv().await.unwrap();
    assert_eq!(headers["te"], "trailers");
    pieces.send("answer".into()).await.unwrap();
    drop(pieces);
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(body.to_bytes(), "answer");
}

#[tokio::test]
async fn of_two_streams_the_revoked_one_ends() {
    let (address, authority, mut open) = streaming().await;
    let port = address.port();
    let of = |paths: &[&str]| vec![rule("a.test", port, &json!({ "paths": paths }))];
    let world = World::with(of(&["/gone", "/stays"]), &[], Limits::default(), trusting(&authority));
    let mut sender = world.multiplexed("a.test", port).await;
    let mut bodies = Vec::new();
    let mut pieces = Vec::new();
    for path in ["/gone", "/stays"] {
        let response = sender.send_request(get(&format!("https://a.test:{port}{path}"))).await.unwrap();
        let (_, send) = open.recv().await.unwrap();
        send.send("one".into()).await.unwrap();
        let mut body = response.into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
        bodies.push(body);
        pieces.push(send);
    }
    world.swap(2, of(&["/stays"]));
    let ended = timeout(Duration::from_secs(1), bodies[0].frame()).await.unwrap();
    assert!(ended.unwrap().is_err());
    pieces[1].send("two".into()).await.unwrap();
    assert_eq!(bodies[1].frame().await.unwrap().unwrap().into_data().unwrap(), "two");
    let refused = sender.send_request(get(&format!("https://a.test:{port}/gone"))).await.unwrap();
    assert_eq!(refused.status(), 403);
    // All of it.
    world.swap(3, Vec::new());
    assert!(timeout(Duration::from_secs(1), bodies[1].frame()).await.unwrap().unwrap().is_err());
}

#[tokio::test]
async fn upgrades_inside_tls_are_granted_where_a_rule_says_so() {
    let (tls, authority) = server_tls(&["h2", "http/1.1"]);
    let address = raw_origin(move |stream| {
        let tls = Arc::clone(&tls);
        async move {
            let mut stream = TlsAcceptor::from(tls).accept(stream).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"http/1.1".as_slice()));
            read_head(&mut stream).await;
            let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            let (mut read, mut write) = tokio::io::split(stream);
            let _ = tokio::io::copy(&mut read, &mut write).await;
        }
    })
    .await;
    let port = address.port();
    let rules = vec![rule("a.test", port, &json!({ "paths": ["/chat"], "upgrade": true }))];
    let world = World::with(rules, &[], Limits::default(), trusting(&authority));
    let mut line = world.secure("a.test", port).await;
    line.send("GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await;
    assert_eq!(line.head().await.0, 101);
    line.send("\0\0ping").await;
    let mut echoed = [0; 6];
    timeout(LONG, line.stream.read_exact(&mut echoed)).await.unwrap().unwrap();
    assert_eq!(&echoed, b"\0\0ping");

    // By HTTP/2 there is no way: the extension is not offered, and a tunnel is no request.
    let mut sender = world.multiplexed("a.test", port).await;
    let mut chat = get(&format!("https://a.test:{port}/chat"));
    *chat.method_mut() = http::Method::CONNECT;
    chat.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
    assert!(sender.send_request(chat).await.is_err());
    let mut sender = world.multiplexed("a.test", port).await;
    let tunnel = Request::connect(format!("a.test:{port}")).body(nothing()).unwrap();
    assert_eq!(sender.send_request(tunnel).await.unwrap().status(), 405);
}

#[tokio::test]
async fn idle_connections_of_streams_are_closed() {
    let (tls, authority) = server_tls(&["h2"]);
    let origin = Origin::serve(Some(tls), |_| ok("")).await;
    let limits = Limits { http_idle: Duration::from_millis(100), ..Limits::default() };
    let rules = vec![rule("a.test", origin.port(), &json!({ "paths": ["/**"] }))];
    let world = World::with(rules, &[], limits, trusting(&authority));
    let mut sender = world.multiplexed("a.test", origin.port()).await;
    let url = format!("https://a.test:{}/", origin.port());
    assert_eq!(sender.send_request(get(&url)).await.unwrap().status(), 200);
    timeout(LONG, async {
        while sender.ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}
