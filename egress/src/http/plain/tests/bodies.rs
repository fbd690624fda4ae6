//! Bodies, answers without one, and how fast they pass.

use super::*;

#[tokio::test]
async fn bodies_and_trailers_pass_both_ways() {
    let origin = Origin::start(|got| Response::new(got.body.clone().into())).await;
    let port = origin.port();
    let world = World::new(vec![rule("a.test", port, &json!({}))]);
    let mut line = world.plain("a.test", port).await;
    let long = "x".repeat(1 << 20);
    let length = long.len();
    let whole = line.ask(&format!("PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {length}\r\n\r\n{long}")).await;
    assert_eq!(whole.body, long);
    let chunked = line
        .ask(
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-Other\r\n\r\n\
             5\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 11\r\nX-Other: y\r\n\r\n",
        )
        .await;
    assert_eq!(chunked.body, "hello world");
    let got = origin.got();
    assert_eq!(got[0].header("content-length"), Some(length.to_string().as_str()));
    assert_eq!(got[1].header("transfer-encoding"), Some("chunked"));
    assert_eq!(got[1].trailers["x-sum"], "11");
    drop(line);
    let records = world.records.wait_for(2).await;
    assert_eq!((records[0].sent, records[0].received), (length as u64, length as u64));
    assert_eq!((records[1].sent, records[1].received), (11, 11));
}

#[tokio::test]
async fn answers_without_bodies_end_where_they_end() {
    let origin = raw_origin(|mut stream| async move {
        loop {
            let head = read_head(&mut stream).await;
            let Some(path) = head.split(' ').nth(1) else { return };
            let answer = match path {
                "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
                "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
                "/304" => "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n",
                "/103" => "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                "/chunked" => {
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n2\r\nok\r\n0\r\nX-T: 1\r\n\r\n"
                }
                _ => "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end",
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
            if path == "/close" {
                return;
            }
        }
    })
    .await;
    let port = origin.port();
    let world = World::new(vec![rule("a.test", port, &json!({}))]);
    let mut line = world.plain("a.test", port).await;
    let head = line.ask("HEAD /head HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("1000")));
    assert_eq!(line.get("a.test", "/204").await.status, 204);
    assert_eq!(line.get("a.test", "/304").await.header("etag"), Some("\"x\""));
    assert_eq!(line.get("a.test", "/103").await.body, "ok");
    assert_eq!(line.get("a.test", "/chunked").await.body, "ok");
    let close = line.get("a.test", "/close").await;
    assert_eq!((close.body.as_str(), close.header("transfer-encoding")), ("until the end", Some("chunked")));
    // The server's connection is gone, the client's is not.
    assert_eq!(line.get("a.test", "/204").await.status, 204);
    let old = line.ask("GET /chunked HTTP/1.0\r\nHost: a.test\r\n\r\n").await;
    assert_eq!((old.body.as_str(), old.header("transfer-encoding")), ("ok", None));
    assert!(line.ends().await);
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_is_told() {
    let origin = Origin::start(|got| Response::new(got.body.clone().into())).await;
    let port = origin.port();
    let world = World::new(vec![rule("a.test", port, &json!({ "methods": ["PUT"] }))]);
    let mut line = world.plain("a.test", port).await;
    line.send("PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").await;
    assert_eq!(line.head().await.0, 100);
    line.send("hello").await;
    assert_eq!(line.answer(false).await.body, "hello");
    assert_eq!(origin.got()[0].header("expect"), None);
    // What is refused is not asked for.
    line.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").await;
    assert_eq!(line.answer(false).await.status, 403);
}

#[tokio::test]
async fn pieces_pass_as_they_come() {
    let (tell, told) = oneshot::channel::<()>();
    let told = std::sync::Mutex::new(Some(told));
    let origin = raw_origin(move |mut stream| {
        let told = told.lock().unwrap().take();
        async move {
            read_head(&mut stream).await;
            // What has arrived of the request is passed back before the rest of it is sent.
            let mut first = [0; 5];
            stream.read_exact(&mut first).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n").await.unwrap();
            stream.write_all(&first).await.unwrap();
            stream.write_all(b"\r\n").await.unwrap();
            told.unwrap().await.unwrap();
            stream.write_all(b"4\r\nlast\r\n0\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let world = World::new(vec![rule("a.test", origin.port(), &json!({}))]);
    let mut line = world.plain("a.test", origin.port()).await;
    line.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nfirst").await;
    assert_eq!(line.head().await.0, 200);
    assert_eq!(line.chunk().await, b"first");
    assert!(line.rests().await);
    tell.send(()).unwrap();
    assert_eq!(line.chunk().await, b"last");
    assert_eq!(line.chunk().await, b"");
}

#[tokio::test]
async fn a_slow_reader_holds_up_the_server() {
    let (told, mut heard) = tokio::sync::watch::channel(0_usize);
    let origin = raw_origin(move |mut stream| {
        let told = told.clone();
        async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n").await.unwrap();
            let piece = vec![0; 1 << 16];
            while stream.write_all(&piece).await.is_ok() {
                told.send_modify(|sent| *sent += piece.len());
            }
        }
    })
    .await;
    let world = World::new(vec![rule("a.test", origin.port(), &json!({}))]);
    let mut line = world.plain("a.test", origin.port()).await;
    line.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert_eq!(line.head().await.0, 200);
    // Until it can send no more: what fits into the buffers of two connections.
    while timeout(Duration::from_millis(300), heard.changed()).await.is_ok() {}
    let sent = *heard.borrow();
    assert!(sent < 64 << 20, "{sent} bytes are somewhere");
    // And it goes on when the client reads on.
    let mut buffer = vec![0; 64 << 20];
    timeout(LONG, line.stream.read_exact(&mut buffer)).await.unwrap().unwrap();
    assert!(*heard.borrow() > sent);
}
