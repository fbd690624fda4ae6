//! Connections that go by way of another proxy, and changes of the policy.

use schema::policy::Protocol::Tcp;
use schema::policy::Upstream;

use super::*;
use crate::http::testing::read_head;

/// Another proxy, which grants the next connection; what is at its other end.
async fn granted(proxy: &Listener) -> TcpStream {
    let mut stream = accepted(proxy).await;
    assert!(read_head(&mut stream).await.starts_with("CONNECT 127.0.0.1:"));
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    stream
}

fn by(proxy: u16, port: u16) -> Policy {
    let policy = testing::policy(vec![testing::rule("a.example", &[port], Tcp)]);
    Policy { upstream: Upstream::Http(format!("127.0.0.1:{proxy}")), ..policy }
}

#[tokio::test]
async fn what_may_not_be_dialled_that_way_any_more_is_cut() {
    let ((proxy, at), port) = (server().await, 5432);
    let closed = Policy { dial_allow: Vec::new(), ..by(at, port) };
    let another = by(at ^ 1, port);
    let direct = Policy { upstream: Upstream::Direct, ..by(at, port) };
    for (what, changed) in [("the address", closed), ("the proxy", another), ("no proxy", direct)] {
        let world = world(by(at, port));
        let mut client = world.connect("a.example", port).await;
        let mut outside = granted(&proxy).await;
        client.write_all(b"open").await.unwrap();
        heard(&mut outside, b"open").await;
        // Another rule, and nothing that this depends on.
        let mut same = by(at, port);
        same.allow.push(testing::rule("b.example", &[port], Tcp));
        world.service.swap(testing::generation(2, same));
        client.write_all(b"still").await.unwrap();
        heard(&mut outside, b"still").await;
        world.service.swap(testing::generation(3, changed));
        is_reset(&mut client).await;
        is_reset(&mut outside).await;
        assert_eq!(becauses(&world.records.wait_for(1).await), ["revoked"], "{what}");
    }
}

#[tokio::test]
async fn requests_by_way_of_it_are_cut_likewise() {
    let ((proxy, at), port) = (server().await, 8080);
    let with_requests = |dial_allow| {
        let mut policy = by(at, port);
        policy.allow[0].protocol = schema::policy::Protocol::Http;
        Policy { dial_allow, ..policy }
    };
    let world = world(with_requests(vec!["127.0.0.0/8".parse().unwrap()]));
    let mut client = world.connect("a.example", port).await;
    client.write_all(format!("GET / HTTP/1.1\r\nHost: a.example:{port}\r\n\r\n").as_bytes()).await.unwrap();
    let mut outside = granted(&proxy).await;
    assert!(read_head(&mut outside).await.starts_with("GET / "));
    outside.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await.unwrap();
    heard(&mut client, b"HTTP/1.1 200 OK").await;
    world.service.swap(testing::generation(2, with_requests(Vec::new())));
    let _ = rest(&mut client).await;
    assert_eq!(becauses(&world.records.wait_for(1).await), ["revoked"]);
}
