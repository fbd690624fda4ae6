use std::sync::Arc;

use schema::policy::{Policy, Upstream};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::Entrance;
use crate::audit::Spoken;
use crate::http::testing::{Line, Origin, World, ok, pair, policy, raw_origin, read_head, rule, shake, trusting};
use crate::limits::Limits;
use crate::refusals::Refusals;
use crate::splice::Channel;
use crate::testing::{LONG, generation};
use crate::tls::authority::Authority;

fn proxied<C: Channel>(world: &World, server: C) {
    let (sandbox, shared) = (Arc::clone(&world.sandbox), Arc::clone(&world.shared));
    let refusals = Arc::new(Refusals::new(Arc::clone(&sandbox), Arc::clone(&shared)));
    tokio::spawn(super::serve(server, Entrance::Port, sandbox, shared, refusals));
}

async fn client(world: &World) -> Line<TcpStream> {
    let (client, server) = pair().await;
    proxied(world, server);
    Line::new(client)
}

#[tokio::test]
async fn requests_in_absolute_form_are_judged_host_by_host() {
    let (a, b) = (Origin::start(|_| ok("a")).await, Origin::start(|_| ok("b")).await);
    let world = World::new(vec![
        rule("a.test", a.port(), &json!({ "methods": ["GET"] })),
        rule("b.test", b.port(), &json!({})),
        rule("a.test", 443, &json!({})),
    ]);
    let mut line = client(&world).await;
    let get = async |line: &mut Line<TcpStream>, host: &str, port: u16, path: &str| {
        line.ask(&format!(
            "GET http://{host}:{port}{path} HTTP/1.1\r\nHost: {host}:{port}\r\nProxy-Connection: keep-alive\r\n\
             Proxy-Authorization: Basic x\r\n\r\n"
        ))
        .await
    };
    assert_eq!(get(&mut line, "a.test", a.port(), "/1?q").await.body, "a");
    assert_eq!(get(&mut line, "a.test", a.port(), "/2").await.body, "a");
    assert_eq!(get(&mut line, "b.test", b.port(), "/3").await.body, "b");
    let unknown = get(&mut line, "c.test", 80, "/4").await;
    assert_eq!((unknown.status, unknown.header("sbx-refusal")), (403, Some("no-rule")));
    let port = get(&mut line, "b.test", a.port(), "/5").await;
    assert_eq!((port.status, port.header("sbx-refusal")), (403, Some("port")));
    let metadata = get(&mut line, "169.254.169.254", 80, "/latest").await;
    assert_eq!((metadata.status, metadata.header("sbx-refusal")), (403, Some("no-rule")));
    let path = get(&mut line, "a.test", a.port(), "/a/../../b").await;
    assert_eq!((path.status, path.header("sbx-refusal")), (400, Some("path")));
    let port = a.port();
    let posted = line
        .ask(&format!("POST http://a.test:{port}/ HTTP/1.1\r\nHost: a.test:{port}\r\nContent-Length: 0\r\n\r\n"))
        .await;
    assert_eq!((posted.status, posted.header("sbx-refusal")), (403, Some("method")));
    // On port 443 there is TLS and nothing else.
    let tls_port = get(&mut line, "a.test", 443, "/").await;
    assert_eq!((tls_port.status, tls_port.header("sbx-refusal")), (403, Some("protocol")));
    let two = line.ask(&format!("GET http://a.test:{port}/ HTTP/1.1\r\nHost: b.test\r\n\r\n")).await;
    assert_eq!((two.status, two.header("sbx-refusal")), (400, Some("malformed")));
    for not_for_a_proxy in
        ["GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "GET https://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"]
    {
        let answer = line.ask(not_for_a_proxy).await;
        assert_eq!((answer.status, answer.header("sbx-refusal")), (400, Some("not-for-a-proxy")));
    }
    assert_eq!(get(&mut line, "a.test", port, "/6").await.body, "a");
    let targets = |origin: &Origin| origin.got().into_iter().map(|got| got.target).collect::<Vec<_>>();
    assert_eq!((targets(&a), targets(&b)), (vec!["/1?q".into(), "/2".into(), "/6".into()], vec!["/3".into()]));
    for got in a.got() {
        assert!(!got.headers.keys().any(|name| name.as_str().starts_with("proxy-")), "{:?}", got.headers);
    }
    let records = world.records.wait_for(13).await;
    assert_eq!(records.len(), 13, "{records:?}");
    assert_eq!(records.iter().filter(|record| record.allowed).count(), 4);
    assert!(records.iter().all(|record| record.protocol == Spoken::Http));
}

#[tokio::test]
async fn tunnels_lead_where_the_policy_lets_connections_go() {
    let server = raw_origin(|mut stream| async move {
        stream.write_all(b"SSH-2.0-OpenSSH\r\n").await.unwrap();
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await;
    let port = server.port();
    let world = World::new(vec![rule("a.test", port, &json!({ "protocol": "tcp" }))]);
    let mut line = client(&world).await;
    // What is said before the tunnel is there goes through it.
    line.send(format!("CONNECT a.test:{port} HTTP/1.1\r\nHost: a.test:{port}\r\n\r\nhello")).await;
    assert_eq!(line.head().await.0, 200);
    let mut said = [0; 22];
    timeout(LONG, line.stream.read_exact(&mut said)).await.unwrap().unwrap();
    assert_eq!(&said, b"SSH-2.0-OpenSSH\r\nhello");

    for (target, host, status, because) in [
        ("b.test:22", "b.test:22", 403, "no-rule"),
        ("a.test:22", "a.test:22", 403, "port"),
        ("127.0.0.1:22", "127.0.0.1:22", 403, "no-rule"),
        ("[::1]:22", "[::1]:22", 403, "no-rule"),
        ("a.test", "a.test", 400, "malformed"),
        ("a.test:0", "a.test:0", 400, "malformed"),
        ("user@a.test:22", "a.test:22", 400, "malformed"),
        ("0x7f.1:22", "0x7f.1:22", 400, "malformed"),
        ("http://a.test/", "a.test", 400, "malformed"),
        (&format!("a.test:{port}"), "b.test:22", 400, "malformed"),
        (&format!("a.test:{port}"), "a.test:1", 400, "malformed"),
    ] {
        let mut line = client(&world).await;
        let answer = line.ask(&format!("CONNECT {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!((answer.status, answer.header("sbx-refusal")), (status, Some(because)), "{target}");
        assert!(line.ends().await);
        let record = world.records.all().pop().unwrap();
        assert_eq!((record.allowed, record.because.as_deref()), (false, Some(because)));
    }
}

#[tokio::test]
async fn there_is_no_tunnel_to_what_cannot_be_reached() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let open = raw_origin(|mut stream| async move {
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    let rules = vec![
        rule("a.test", closed, &json!({})),
        rule("a.test", open.port(), &json!({})),
        rule("unknown.test", 443, &json!({ "protocol": "tls" })),
        rule("judged.test", closed, &json!({ "paths": ["/v1"] })),
    ];
    let world = World::new(rules);
    let connect = |host: &str, port: u16| format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
    for (host, port, because, recorded) in [
        ("a.test", closed, "upstream-unreachable", "upstream-failed"),
        ("unknown.test", 443, "name-lookup-failed", "lookup-failed"),
    ] {
        let mut line = client(&world).await;
        let answer = line.ask(&connect(host, port)).await;
        assert_eq!((answer.status, answer.header("sbx-refusal")), (502, Some(because)), "{answer:?}");
        assert!(line.ends().await);
        assert_eq!(world.records.all().pop().unwrap().because.as_deref(), Some(recorded));
    }
    let mut line = client(&world).await;
    line.send(connect("a.test", open.port())).await;
    assert_eq!(line.head().await.0, 200);
    // Each request has an answer of its own there.
    let mut line = client(&world).await;
    line.send(connect("judged.test", closed)).await;
    assert_eq!(line.head().await.0, 200);
    let refused = line.get("judged.test", "/v2").await;
    assert_eq!((refused.status, line.get("judged.test", "/v1").await.status), (403, 502));
}

/// The server has seen a connection by then.
#[tokio::test]
async fn a_tunnel_whose_client_has_left_is_in_the_records() {
    let (connecting, mut connects) = mpsc::unbounded_channel();
    let (go_on, wait) = watch::channel(false);
    let proxy = raw_origin(move |mut stream| {
        let (connecting, mut wait) = (connecting.clone(), wait.clone());
        async move {
            let head = read_head(&mut stream).await;
            connecting.send(head).unwrap();
            wait.wait_for(|may| *may).await.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
    })
    .await;
    let world = World::new(vec![]);
    let policy = Policy {
        upstream: Upstream::Http(proxy.to_string()),
        ..policy(vec![rule("a.test", 22, &json!({ "protocol": "tcp" }))])
    };
    world.sandbox.swap(generation(2, policy), &world.shared);
    let mut clients = [client(&world).await, client(&world).await];
    for line in &mut clients {
        line.send("CONNECT a.test:22 HTTP/1.1\r\nHost: a.test:22\r\n\r\n").await;
        assert!(connects.recv().await.unwrap().starts_with("CONNECT "));
    }
    let [left, mut stays] = clients;
    socket2::SockRef::from(&left.stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(left);
    go_on.send(true).unwrap();
    let records = world.records.wait_for(1).await;
    assert_eq!(stays.head().await.0, 200);
    assert_eq!((records[0].host.as_str(), records[0].port, records[0].allowed), ("a.test", 22, true));
    assert_eq!((records[0].because.as_deref(), records.len()), (Some("broken-off"), 1));
}

#[tokio::test]
async fn what_is_inside_a_tunnel_is_looked_at_as_elsewhere() {
    let authority = Authority::generate("the world").unwrap();
    let tls = authority.config(&"a.test".parse().unwrap()).unwrap();
    let origin = Origin::serve(Some(tls), |_| ok("inside")).await;
    let port = origin.port();
    let rules = vec![rule("a.test", port, &json!({ "paths": ["/v1/**"] })), rule("b.test", port, &json!({}))];
    let world = World::with(rules, &[], Limits::default(), trusting(&authority));
    let project = world.shared.web.authority("project").unwrap();
    let connect = async |host: &str| {
        let mut line = client(&world).await;
        line.send(format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(line.head().await.0, 200);
        line.stream
    };
    // Rules about requests: looked into.
    let mut line = Line::new(shake(connect("a.test").await, &project, "a.test", &["http/1.1"]).await.unwrap());
    assert_eq!(line.get("a.test", "/v1/x").await.body, "inside");
    assert_eq!(line.get("a.test", "/v2").await.status, 403);
    // Another name inside than outside: neither passed on nor looked into.
    for host in ["a.test", "b.test"] {
        let outside = connect(host).await;
        assert!(shake(outside, &project, "c.test", &["http/1.1"]).await.is_err());
    }
    // No rules about requests: passed through, to the server's own certificate.
    let passed = shake(connect("b.test").await, &project, "b.test", &[]).await.unwrap_err();
    assert!(format!("{passed:?}").contains("UnknownIssuer"), "{passed:?}");
    let records = world.records.wait_for(5).await;
    let mismatches = records.iter().filter(|record| record.because.as_deref() == Some("sni-mismatch")).count();
    assert_eq!(mismatches, 2, "{records:?}");
}

#[tokio::test]
async fn plain_http_inside_a_tunnel_is_judged() {
    let origin = Origin::start(|_| ok("plain")).await;
    let port = origin.port();
    let world = World::new(vec![rule("a.test", port, &json!({ "paths": ["/v1"] }))]);
    let mut line = client(&world).await;
    line.send(format!("CONNECT a.test:{port} HTTP/1.1\r\nHost: a.test:{port}\r\n\r\n")).await;
    assert_eq!(line.head().await.0, 200);
    assert_eq!(line.get("a.test", "/v1").await.body, "plain");
    assert_eq!(line.get("a.test", "/v2").await.status, 403);
    assert_eq!(line.get("b.test", "/v1").await.header("sbx-refusal"), Some("host-mismatch"));
}

#[tokio::test]
async fn a_tunnel_may_follow_requests_and_a_socket_may_be_a_file() {
    let origin = Origin::start(|_| ok("here")).await;
    let port = origin.port();
    let world = World::new(vec![rule("a.test", port, &json!({}))]);
    let (client, server) = UnixStream::pair().unwrap();
    proxied(&world, server);
    let mut line = Line::new(client);
    let first = format!("GET http://a.test:{port}/1 HTTP/1.1\r\nHost: a.test:{port}\r\n\r\n");
    let tunnel = format!("CONNECT a.test:{port} HTTP/1.1\r\nHost: a.test:{port}\r\n\r\n");
    line.send(format!("{first}{tunnel}")).await;
    assert_eq!(line.answer(false).await.body, "here");
    assert_eq!(line.head().await.0, 200);
    assert_eq!(line.get("a.test", "/2").await.body, "here");
    let malformed = line.ask("CONNECT a.test:80 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc").await;
    assert_eq!(malformed.status, 400);
}

#[tokio::test]
async fn what_is_revoked_is_cut_and_the_client_may_ask_for_something_else() {
    let origin = Origin::start(|_| ok("here")).await;
    let port = origin.port();
    let world = World::new(vec![rule("a.test", port, &json!({})), rule("b.test", port, &json!({}))]);
    let mut line = client(&world).await;
    let get = |host: &str| format!("GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}\r\n\r\n");
    assert_eq!(line.ask(&get("a.test")).await.status, 200);
    world.swap(2, vec![rule("b.test", port, &json!({}))]);
    assert_eq!(line.ask(&get("a.test")).await.status, 403);
    assert_eq!(line.ask(&get("b.test")).await.status, 200);
    let limits = Limits { connections: 0, ..Limits::default() };
    let full =
        World::with(vec![rule("a.test", port, &json!({}))], &[], limits, trusting(&Authority::generate("x").unwrap()));
    let mut line = client(&full).await;
    for _ in 0..2 {
        let answer = line.ask(&get("a.test")).await;
        assert_eq!((answer.status, answer.header("sbx-refusal")), (503, Some("too-many-connections")));
    }
    let records = full.records.all();
    assert_eq!(records.len(), 1, "the same refusal again: {records:?}");
    assert_eq!(records[0].because.as_deref(), Some("too-many-connections"));
}
