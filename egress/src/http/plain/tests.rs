use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use http::Response;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::audit::Spoken;
use crate::generation::Generation;
use crate::http::head::Malformed;
use crate::http::testing::{Origin, World, ok, policy, raw_origin, read_head, rule};
use crate::limits::Limits;
use crate::testing::LONG;
use crate::tls::outbound::Trust;

mod bodies;
mod upgrades;

#[tokio::test]
async fn a_request_is_written_anew_and_its_answer_passed_on() {
    let origin = Origin::start(|_| {
        Response::builder()
            .header("x-answer", "yes")
            .header("keep-alive", "timeout=5")
            .body(b"hello".to_vec().into())
            .unwrap()
    })
    .await;
    let port = origin.port();
    let world = World::new(vec![rule("a.test", port, &json!({}))]);
    let mut line = world.plain("a.test", port).await;
    let answer = line
        .ask(&format!(
            "GET /a/./%7euser?q=%2e&r HTTP/1.1\r\nHost: A.test.:{port}\r\nX-Mine: 1\r\nConnection: close-not, X-Hop\r\n\
             X-Hop: 1\r\nProxy-Authorization: Basic c2VjcmV0\r\nUpgrade: websocket\r\nTE: gzip\r\n\r\n"
        ))
        .await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
    assert_eq!((answer.header("x-answer"), answer.header("keep-alive")), (Some("yes"), None));
    let got = &origin.got()[0];
    assert_eq!((got.method.as_str(), got.target.as_str()), ("GET", "/a/~user?q=%2e&r"));
    assert_eq!(got.header("host"), Some(format!("a.test:{port}").as_str()));
    let mut names: Vec<_> = got.headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["host", "sbx-hop", "x-mine"]);
    drop(line);
    let record = world.records.wait_for(1).await.remove(0);
    assert_eq!((record.protocol, record.host.as_str(), record.port), (Spoken::Http, "a.test", port));
    assert_eq!((record.method.as_deref(), record.path.as_deref()), (Some("GET"), Some("/a/~user")));
    assert_eq!((record.allowed, record.because, record.received), (true, None, 5));
    assert_eq!(record.rule.as_deref(), Some("sandboxes.yaml:7:9"));
}

#[tokio::test]
async fn each_request_of_a_connection_is_judged_and_the_connection_kept() {
    let origin = Origin::start(|_| ok("here")).await;
    let port = origin.port();
    let get_only = json!({ "methods": ["GET"] });
    let world = World::new(vec![rule("a.test", port, &get_only), rule("b.test", port, &json!({}))]);
    let mut line = world.plain("a.test", port).await;
    assert_eq!(line.get("a.test", "/1").await.status, 200);
    // To another host, though that is allowed as well: it is not what this connection is for.
    let other = line.get("b.test", "/2").await;
    assert_eq!((other.status, other.header("sbx-refusal")), (403, Some("host-mismatch")));
    assert_eq!(line.get("a.test:1", "/3").await.header("sbx-refusal"), Some("host-mismatch"));
    let absolute = line.ask("GET http://b.test/4 HTTP/1.1\r\nHost: b.test\r\n\r\n").await;
    assert_eq!(absolute.header("sbx-refusal"), Some("host-mismatch"));
    let two = line.ask("GET http://a.test/5 HTTP/1.1\r\nHost: b.test\r\n\r\n").await;
    assert_eq!((two.status, two.header("sbx-refusal")), (400, Some("malformed")));
    let posted = line.ask("POST /6 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!((posted.status, posted.header("sbx-refusal")), (403, Some("method")));
    for trick in ["/a/../../b", "//a", "/a/..;/b", "/%00", "/%c0%af", "/a%2f..%2fb", "/%zz"] {
        let answer = line.get("a.test", trick).await;
        assert_eq!((answer.status, answer.header("sbx-refusal")), (400, Some("path")), "{trick}");
    }
    let encoded = line.get("a.test", "/a%2Fb").await;
    assert_eq!((encoded.status, encoded.header("sbx-refusal")), (403, Some("encoded-separator")));
    assert_eq!(line.get("a.test", "/7").await.status, 200);
    assert_eq!(line.ask(&format!("GET http://a.test:{port}/8 HTTP/1.1\r\nHost: a.test\r\n\r\n")).await.status, 200);
    assert_eq!(line.ask("GET /9 HTTP/1.0\r\n\r\n").await.status, 200);
    let targets: Vec<_> = origin.got().into_iter().map(|got| got.target).collect();
    assert_eq!(targets, ["/1", "/7", "/8", "/9"]);
    assert_eq!(origin.connections(), 1, "one request after another on one connection");
    let records = world.records.all();
    assert_eq!(records.iter().filter(|record| record.allowed).count(), 4);
    assert_eq!(records.len(), 4 + 5 + 7 + 1, "{records:?}");
}

#[tokio::test]
async fn a_denial_says_what_decided_as_the_client_reads_it() {
    let origin = Origin::start(|_| ok("")).await;
    let port = origin.port();
    let world = World::new(vec![rule("a.test", port, &json!({ "methods": ["GET"], "paths": ["/v1/**"] }))]);
    let mut line = world.plain("a.test", port).await;
    let text = line.ask("DELETE /v1/x?key=s3cret HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert_eq!(text.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(
        text.body,
        format!(
            "sbx: sandbox sandbox may not reach DELETE http://a.test:{port}/v1/x: no rule for a.test allows the method \
             DELETE.\nTo ask for it: this rule under sandboxes.sandbox.egress.allow\n  - {{ host: a.test, ports: [{port}], \
             methods: [DELETE], paths: [\"/v1/x\"] }}\n"
        )
    );
    let json = line.ask("GET /v2 HTTP/1.1\r\nHost: a.test\r\nAccept: application/json\r\n\r\n").await;
    let json: serde_json::Value = serde_json::from_str(&json.body).unwrap();
    assert_eq!((&json["error"], &json["because"]), (&json!("egress-denied"), &json!("path")));
    assert_eq!(json["allow"], format!("{{ host: a.test, ports: [{port}], methods: [GET], paths: [\"/v2\"] }}"));
    let head = line.ask("HEAD /v2 HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert_eq!((head.status, head.header("sbx-refusal")), (403, Some("method")));
    assert!(origin.got().is_empty());
    let records = world.records.all();
    assert!(!format!("{records:?}").contains("s3cret"), "{records:?}");
    assert_eq!(records[0].rule.as_deref(), Some("sandboxes.yaml:7:9"));
}

#[tokio::test]
async fn what_can_be_read_in_two_ways_is_refused_and_nothing_of_it_sent() {
    let origin = Origin::start(|_| ok("")).await;
    let port = origin.port();
    let world = World::new(vec![rule("a.test", port, &json!({}))]);
    let forms: [(&str, Malformed); 12] = [
        (
            "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Malformed::BothFramings,
        ),
        ("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nabcd", Malformed::Lengths),
        (
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            Malformed::TransferEncoding,
        ),
        ("GET / HTTP/1.1\r\nHost: a.test\r\nX: y\r\n z\r\n\r\n", Malformed::Folded),
        ("GET / HTTP/1.1\nHost: a.test\n\n", Malformed::LineEnd),
        ("GET / HTTP/1.1\r\nHost: a.test\rX: y\r\n\r\n", Malformed::LineEnd),
        ("GET / HTTP/1.1\r\nHost: a.test\0\r\n\r\n", Malformed::Control),
        ("GET / HTTP/1.1\r\nHost : a.test\r\n\r\n", Malformed::HeaderName),
        ("GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n", Malformed::Hosts),
        ("GET / HTTP/1.1\r\n\r\n", Malformed::NoHost),
        ("get / HTTP/1.1\r\nHost: a.test\r\n\r\n", Malformed::Method),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Malformed::Version),
    ];
    for (text, malformed) in forms {
        let mut line = world.plain("a.test", port).await;
        let answer = line.ask(text).await;
        assert_eq!(answer.status, malformed.status(), "{text:?}");
        assert_eq!(answer.body, format!("sbx: {malformed}.\n"), "{text:?}");
        assert!(line.ends().await);
    }
    assert!(origin.got().is_empty());
    assert_eq!(world.records.all().len(), forms.len());
    assert!(world.records.all().iter().all(|record| !record.allowed));
    assert_eq!(world.plain("a.test", port).await.get("a.test", "/").await.status, 200);
}

#[tokio::test]
async fn what_came_before_something_malformed_is_answered() {
    let origin = Origin::start(|_| ok("fine")).await;
    let port = origin.port();
    let world = World::new(vec![rule("a.test", port, &json!({}))]);
    let mut line = world.plain("a.test", port).await;
    let fine = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    // The request that is hidden behind the second length is never sent.
    line.send(format!(
        "{fine}{fine}POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nContent-Length: 0\r\n\r\n{fine}"
    ))
    .await;
    assert_eq!(line.answer(false).await.body, "fine");
    assert_eq!(line.answer(false).await.body, "fine");
    assert_eq!(line.answer(false).await.status, 400);
    assert!(line.ends().await);
    assert_eq!(origin.got().len(), 2);
}

#[tokio::test]
async fn a_body_that_is_not_written_as_one_is_refused() {
    let origin = Origin::start(|_| ok("")).await;
    let port = origin.port();
    let world = World::new(vec![rule("a.test", port, &json!({}))]);
    let mut line = world.plain("a.test", port).await;
    let answer =
        line.ask("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (400, "sbx: a chunk of the request's body is not written as one.\n")
    );
    assert!(line.ends().await);
    assert!(origin.got().is_empty());
}

#[tokio::test]
async fn the_policy_in_force_decides_each_request() {
    let origin = Origin::start(|_| ok("")).await;
    let port = origin.port();
    let of = |paths: &[&str]| vec![rule("a.test", port, &json!({ "paths": paths }))];
    let world = World::new(of(&["/one", "/two"]));
    let mut line = world.plain("a.test", port).await;
    assert_eq!(line.get("a.test", "/one").await.status, 200);
    world.swap(2, of(&["/two"]));
    assert_eq!(line.get("a.test", "/one").await.status, 403);
    assert_eq!(line.get("a.test", "/two").await.status, 200);
    // Refused by no policy, and recorded with the one in force.
    assert_eq!(line.get("b.test", "/two").await.header("sbx-refusal"), Some("host-mismatch"));
    let generations: Vec<_> = world.records.all().iter().map(|record| record.generation).collect();
    assert_eq!(generations, [1, 2, 2, 2]);
    // Connections that another policy led somewhere are not used any more.
    assert_eq!(origin.connections(), 2);
    // Not at all any more: the connection itself ends.
    world.swap(3, Vec::new());
    assert!(line.ends().await);
}

#[tokio::test]
async fn a_revoked_answer_is_cut_and_the_others_go_on() {
    let origin = raw_origin(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n").await.unwrap();
        // Nothing more comes of itself, and nothing has to.
        let _ = stream.read_u8().await;
    })
    .await;
    let port = origin.port();
    let of = |paths: &[&str]| vec![rule("a.test", port, &json!({ "paths": paths }))];
    let world = World::new(of(&["/gone", "/stays"]));
    let (mut gone, mut stays) = (world.plain("a.test", port).await, world.plain("a.test", port).await);
    for (line, path) in [(&mut gone, "/gone"), (&mut stays, "/stays")] {
        line.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n")).await;
        assert_eq!(line.head().await.0, 200);
        assert_eq!(line.chunk().await, b"a");
    }
    // What a plan says of it beforehand: the connection would stay, the request would not.
    let next = Generation::new(2, policy(of(&["/stays", "/new"])), BTreeMap::new());
    let cut = world.sandbox.flows.cut_by(&next, world.shared.today());
    assert_eq!(cut, [format!("a.test:{port} GET /gone")]);
    let begun = Instant::now();
    world.swap(2, of(&["/stays", "/new"]));
    assert!(gone.ends().await);
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert!(stays.rests().await);
    let record = world.records.wait_for(1).await.remove(0);
    assert_eq!((record.path.as_deref(), record.because.as_deref()), (Some("/gone"), Some("revoked")));
}

#[tokio::test]
async fn a_request_whose_answer_is_awaited_is_cut_as_well() {
    let origin = raw_origin(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.read_u8().await;
    })
    .await;
    let port = origin.port();
    let world = World::new(vec![rule("a.test", port, &json!({ "paths": ["/slow", "/x"] }))]);
    let mut line = world.plain("a.test", port).await;
    line.send("GET /slow HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert!(line.rests().await);
    world.swap(2, vec![rule("a.test", port, &json!({ "paths": ["/x"] }))]);
    assert!(line.ends().await);
    assert_eq!(world.records.wait_for(1).await[0].because.as_deref(), Some("revoked"));
}

#[tokio::test]
async fn servers_that_fail_have_their_statuses() {
    let broken = raw_origin(|mut stream| async move {
        read_head(&mut stream).await;
    })
    .await;
    let silent = raw_origin(|mut stream| async move {
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    let babbling = raw_origin(|mut stream| async move {
        stream.write_all(b"220 smtp.test ESMTP\r\n").await.unwrap();
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    })
    .await;
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let world = World::new(vec![
        rule("a.test", broken.port(), &json!({})),
        rule("a.test", silent.port(), &json!({ "timeout": { "secs": 0, "nanos": 50_000_000 } })),
        rule("a.test", babbling.port(), &json!({})),
        rule("a.test", closed.port(), &json!({})),
        rule("unknown.test", 80, &json!({})),
    ]);
    for (host, port, status, because) in [
        ("a.test", broken.port(), 502, "upstream-failed"),
        ("a.test", silent.port(), 504, "upstream-timeout"),
        ("a.test", babbling.port(), 502, "upstream-failed"),
        ("a.test", closed.port(), 502, "upstream-unreachable"),
        ("unknown.test", 80, 502, "name-lookup-failed"),
    ] {
        let mut line = world.plain(host, port).await;
        let answer = line.get(host, "/").await;
        assert_eq!((answer.status, answer.header("sbx-refusal")), (status, Some(because)), "{answer:?}");
        // The client's connection is as good as before.
        assert_eq!(line.get(host, "/").await.status, status);
        let record = world.records.all().pop().unwrap();
        assert_eq!((record.allowed, record.because.as_deref()), (true, Some(because)));
    }
}

#[tokio::test]
async fn uploads_take_as_long_as_they_move_and_no_longer() {
    let limit = Duration::from_millis(400);
    let origin = Origin::start(|got| http::Response::new(http_body_util::Full::from(got.body.len().to_string()))).await;
    let patient = json!({ "timeout": { "secs": 0, "nanos": limit.as_nanos() } });
    let world = World::new(vec![rule("a.test", origin.port(), &patient)]);
    let mut line = world.plain("a.test", origin.port()).await;
    let head = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    line.send(head).await;
    let (begun, mut pieces) = (tokio::time::Instant::now(), 0);
    let mut pace = tokio::time::interval(limit / 10);
    while begun.elapsed() < limit * 2 {
        pace.tick().await;
        line.send("1\r\nx\r\n").await;
        pieces += 1;
    }
    let answer = line.ask("0\r\n\r\n").await;
    assert_eq!((answer.status, answer.body), (200, pieces.to_string()));
    // One that stops halfway.
    line.send(format!("{head}1\r\nx\r\n")).await;
    let answer = line.answer(false).await;
    assert_eq!((answer.status, answer.header("sbx-refusal")), (504, Some("upstream-timeout")));
}

#[tokio::test]
async fn addresses_that_are_not_dialled_are_refused_with_what_would_allow_them() {
    let origin = Origin::start(|_| ok("")).await;
    let port = origin.port();
    let world = World::new(vec![rule("a.test", port, &json!({}))]);
    let mut line = world.plain("a.test", port).await;
    assert_eq!(line.get("a.test", "/").await.status, 200);
    let mut policy = crate::http::testing::policy(vec![rule("a.test", port, &json!({}))]);
    policy.dial_allow.clear();
    world.sandbox.swap(crate::generation::Generation::new(2, policy, std::collections::BTreeMap::new()), &world.shared);
    let answer = line.get("a.test", "/").await;
    assert_eq!((answer.status, answer.header("sbx-refusal")), (403, Some("address-refused")));
    assert!(answer.body.contains("`dial: { allowRanges: [127.0.0.1] }` would allow it"), "{}", answer.body);
    assert!(!world.records.all()[1].allowed);
}

#[tokio::test]
async fn what_was_sent_from_here_is_known_when_it_comes_back() {
    let origin = Origin::start(|_| ok("")).await;
    let port = origin.port();
    let world = World::new(vec![rule("a.test", port, &json!({})), rule("b.test", port, &json!({}))]);
    let mut line = world.plain("a.test", port).await;
    assert_eq!(line.get("a.test", "/").await.status, 200);
    let mark = origin.got()[0].header("sbx-hop").unwrap().to_owned();
    let marked = format!("GET / HTTP/1.1\r\nHost: a.test\r\nSbx-Hop: 00, {mark}\r\n\r\n");
    let answer = line.ask(&marked).await;
    assert_eq!((answer.status, answer.header("sbx-refusal")), (508, Some("loop")));
    // Another host's mark is no loop, and is kept.
    let mut other = world.plain("b.test", port).await;
    assert_eq!(other.ask(&marked.replace("a.test", "b.test")).await.status, 200);
    let got = origin.got();
    let marks: Vec<_> = got[1].headers.get_all("sbx-hop").iter().map(|mark| mark.to_str().unwrap()).collect();
    assert_eq!(marks[0], format!("00, {mark}"));
    assert!(marks.len() == 2 && marks[1] != mark, "{marks:?}");
}

#[tokio::test]
async fn slow_heads_are_told_and_idle_connections_closed() {
    let origin = Origin::start(|_| ok("")).await;
    let port = origin.port();
    let limits =
        Limits { handshake: Duration::from_millis(200), http_idle: Duration::from_millis(100), ..Limits::default() };
    let world = World::with(vec![rule("a.test", port, &json!({}))], &[], limits, Trust::default());
    let mut slow = world.plain("a.test", port).await;
    let answer = slow.ask("GET / HTTP/1.1\r\nHost:").await;
    assert_eq!((answer.status, answer.header("sbx-refusal")), (408, Some("head-too-slow")));
    assert!(slow.ends().await);
    let mut idle = world.plain("a.test", port).await;
    assert_eq!(idle.get("a.test", "/").await.status, 200);
    assert!(idle.ends().await);
}

#[tokio::test]
async fn secrets_are_written_on_the_way_out_and_seen_by_nobody_else() {
    let origin = Origin::start(|_| ok("answer")).await;
    let port = origin.port();
    let with_key = json!({
        "protocol": "http",
        "request": { "set": [["x-api-key", { "secret": "key" }]], "remove": ["cookie"], "add": [["x-team", { "text": "blue" }]] },
        "response": { "remove": ["x-powered-by"], "set": [["x-checked", { "text": "yes" }]] },
    });
    let secrets: &[(&str, &str)] = &[("key", "s3cret-value")];
    let world = World::with(vec![rule("a.test", port, &with_key)], secrets, Limits::default(), Trust::default());
    let mut line = world.plain("a.test", port).await;
    let answer =
        line.ask("GET / HTTP/1.1\r\nHost: a.test\r\nX-Api-Key: mine\r\nCookie: a=b\r\nX-Team: red\r\n\r\n").await;
    assert_eq!((answer.status, answer.header("x-checked")), (200, Some("yes")));
    // Nor by a trailer that says the same again.
    let trailing = line
        .ask(
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-Api-Key, X-Ok\r\n\r\n\
             0\r\nX-Api-Key: mine\r\nX-Ok: 1\r\n\r\n",
        )
        .await;
    assert_eq!(trailing.status, 200);
    let got = origin.got();
    assert_eq!((got[0].header("x-api-key"), got[0].header("cookie")), (Some("s3cret-value"), None));
    assert_eq!(got[0].headers.get_all("x-team").iter().count(), 2);
    assert_eq!((got[1].trailers.get("x-api-key"), got[1].trailers["x-ok"].as_bytes()), (None, b"1".as_slice()));
    let refused = line.get("b.test", "/").await;
    let seen = format!("{answer:?} {refused:?} {:?}", world.records.all());
    assert!(!seen.contains("s3cret"), "{seen}");

    // Without a value nothing is sent.
    let world = World::with(vec![rule("a.test", port, &with_key)], &[], Limits::default(), Trust::default());
    let answer = world.plain("a.test", port).await.get("a.test", "/").await;
    assert_eq!((answer.status, answer.header("sbx-refusal")), (502, Some("header-edit")));
    assert!(answer.body.contains("secret `key`"), "{}", answer.body);
    assert_eq!(origin.got().len(), 2);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_meanwhile_is_made_again() {
    let origin = raw_origin(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        // Closed with the next request on its way: a head is read and not answered.
        read_head(&mut stream).await;
    })
    .await;
    let world = World::new(vec![rule("a.test", origin.port(), &json!({}))]);
    let mut line = world.plain("a.test", origin.port()).await;
    for _ in 0..3 {
        assert_eq!(line.get("a.test", "/").await.body, "ok");
    }
    // What may have had an effect is not sent twice.
    let posted = line.ask("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!((posted.status, posted.header("sbx-refusal")), (502, Some("upstream-failed")));
}

#[tokio::test]
async fn tunnels_are_for_proxies() {
    let world = World::new(vec![rule("a.test", 80, &json!({}))]);
    let mut line = world.plain("a.test", 80).await;
    let answer = line.ask("CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n").await;
    assert_eq!((answer.status, answer.header("sbx-refusal")), (405, Some("method")));
    assert!(line.ends().await);
    assert!(!world.records.all()[0].allowed);
}

#[tokio::test]
async fn clients_that_may_not_connect_are_told_once_they_have_asked() {
    let world = World::new(vec![rule("a.test", 80, &json!({}))]);
    for (accept, expected) in [
        ("", "sbx: sandbox sandbox may not reach c.test:80: no rule names c.test.\nTo ask for it: this rule"),
        ("ACCEPT: application/json\r\n", "{\"error\":\"egress-denied\",\"because\":\"no-rule\""),
    ] {
        let (client, server) = crate::http::testing::pair().await;
        let denying = async {
            let host = "c.test".parse().unwrap();
            let denial = crate::verdict::Denial::NoRule;
            super::deny(server, &world.sandbox, &world.shared, &host, &denial).await;
        };
        let asking = async {
            let mut line = crate::http::testing::Line::new(client);
            line.send("GET / HTTP/1.1\r\nHost: c.test\r\n").await;
            assert!(line.rests().await);
            let answer = line.ask(&format!("{accept}\r\n")).await;
            assert_eq!(answer.status, 403);
            assert!(answer.body.starts_with(expected), "{}", answer.body);
            assert!(line.ends().await);
        };
        tokio::join!(denying, asking);
    }
}

#[tokio::test]
async fn records_are_as_long_as_they_may_be_and_no_longer() {
    let origin = Origin::start(|_| ok("")).await;
    let port = origin.port();
    let world = World::new(vec![rule("a.test", port, &json!({ "paths": ["/allowed/**"] }))]);
    let mut line = world.plain("a.test", port).await;
    for (start, status) in [("/allowed/", 200), ("/denied/", 403)] {
        let path = format!("{start}{}", "x".repeat(3000));
        assert_eq!(line.get("a.test", &path).await.status, status);
        let all = world.records.wait_for(if status == 200 { 1 } else { 2 }).await;
        let recorded = all.last().and_then(|record| record.path.clone()).unwrap_or_default();
        assert_eq!(recorded, path[..2048]);
    }
}
