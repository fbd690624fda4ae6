//! Connections that become something else than HTTP.

use schema::policy::Host;

use super::*;
use crate::flows::{FlowGuard, Refused};
use crate::verdict::Transport;

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

async fn chat() -> std::net::SocketAddr {
    raw_origin(|mut stream| async move {
        let head = read_head(&mut stream).await.to_ascii_lowercase();
        assert!(head.contains("\r\nconnection: upgrade\r\n") && head.contains("\r\nupgrade: websocket\r\n"), "{head}");
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await
}

#[tokio::test]
async fn upgrades_are_granted_where_a_rule_says_so() {
    let origin = chat().await;
    let port = origin.port();
    let world = World::new(vec![rule("a.test", port, &json!({ "upgrade": true }))]);
    let mut line = world.plain("a.test", port).await;
    // The first bytes of what follows come with the request.
    line.send(format!("{UPGRADE}\0\x01")).await;
    let (status, head) = line.head().await;
    assert_eq!(status, 101, "{head}");
    assert!(head.to_ascii_lowercase().contains("\r\nupgrade: websocket\r\n"), "{head}");
    line.send("\r\nGET").await;
    let mut echoed = [0; 12];
    timeout(LONG, line.stream.read_exact(&mut echoed)).await.unwrap().unwrap();
    assert_eq!(&echoed, b"hello\0\x01\r\nGET");
    line.stream.shutdown().await.unwrap();
    assert!(line.ends().await);
    let record = world.records.wait_for(1).await.remove(0);
    assert_eq!((record.sent, record.received, record.because), (7, 12, None));
}

/// What has become something else is still a connection to a server.
#[tokio::test]
async fn upgraded_connections_count_as_long_as_they_are_there() {
    let origin = chat().await;
    let port = origin.port();
    let limits = Limits { connections: 2, ..Limits::default() };
    let rules = vec![rule("a.test", port, &json!({ "upgrade": true }))];
    let world = World::with(rules, &[], limits, Trust::default());
    let mut line = world.plain("a.test", port).await;
    line.send(UPGRADE).await;
    assert_eq!(line.head().await.0, 101);
    line.send("x").await;
    let mut echoed = [0; 6];
    timeout(LONG, line.stream.read_exact(&mut echoed)).await.unwrap().unwrap();
    let host: Host = "a.test".parse().unwrap();
    let open = || FlowGuard::open(&world.sandbox, &world.shared, host.clone(), port, Transport::Tcp, None);
    assert_eq!(open().err(), Some(Refused::TooMany), "one of the client, one to the server");
    line.stream.shutdown().await.unwrap();
    assert!(line.ends().await);
    let since = std::time::Instant::now();
    while open().is_err() {
        assert!(since.elapsed() < LONG, "it still counts");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn upgrades_are_refused_elsewhere_and_cut_when_revoked() {
    let origin = chat().await;
    let port = origin.port();
    let world = World::new(vec![rule("a.test", port, &json!({}))]);
    let mut line = world.plain("a.test", port).await;
    let answer = line.ask(UPGRADE).await;
    assert_eq!((answer.status, answer.header("sbx-refusal")), (403, Some("upgrade")));
    world.swap(2, vec![rule("a.test", port, &json!({ "upgrade": true }))]);
    let h2c = line.ask(&UPGRADE.replace("websocket", "h2c")).await;
    assert_eq!((h2c.status, h2c.header("sbx-refusal")), (403, Some("upgrade-h2c")));
    let odd = line.ask(&UPGRADE.replace("websocket", "H2C, \u{ff}")).await;
    assert_eq!((odd.status, odd.header("sbx-refusal")), (403, Some("upgrade-h2c")));
    // The same connection, now that it is allowed.
    line.send(UPGRADE).await;
    assert_eq!(line.head().await.0, 101);
    world.swap(3, vec![rule("a.test", port, &json!({}))]);
    let mut rest = Vec::new();
    let _ = timeout(LONG, line.stream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(world.records.wait_for(4).await[3].because.as_deref(), Some("revoked"));
}

#[tokio::test]
async fn what_leads_to_an_address_that_is_not_to_be_dialled_any_more_is_cut() {
    let origin = chat().await;
    let port = origin.port();
    let rules = || vec![rule("a.test", port, &json!({ "upgrade": true }))];
    let world = World::new(rules());
    let mut line = world.plain("a.test", port).await;
    line.send(UPGRADE).await;
    assert_eq!(line.head().await.0, 101);
    world.swap(2, rules());
    line.send("still").await;
    let mut echoed = [0; 10];
    timeout(LONG, line.stream.read_exact(&mut echoed)).await.unwrap().unwrap();
    assert_eq!(&echoed, b"hellostill");
    world.swap_closed(3, rules());
    let mut rest = Vec::new();
    let _ = timeout(LONG, line.stream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(world.records.wait_for(1).await[0].because.as_deref(), Some("revoked"));
}

#[tokio::test]
async fn upgraded_connections_that_rest_are_closed() {
    let origin = chat().await;
    let port = origin.port();
    let limits = Limits { upgrade_idle: Duration::from_millis(100), ..Limits::default() };
    let world = World::with(vec![rule("a.test", port, &json!({ "upgrade": true }))], &[], limits, Trust::default());
    let mut line = world.plain("a.test", port).await;
    line.send(UPGRADE).await;
    assert_eq!(line.head().await.0, 101);
    let mut rest = Vec::new();
    timeout(LONG, line.stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, b"hello");
    assert_eq!(world.records.wait_for(1).await[0].because.as_deref(), Some("idle"));
}
