//! Whatever is open when a sandbox ends is recorded, with its bytes, and once.

use schema::policy::Protocol::Auto;

use super::*;
use crate::audit::Spoken;
use crate::http::testing::read_head;

fn of_one_name(port: u16) -> Policy {
    testing::policy(vec![testing::rule("a.example", &[port], Auto)])
}

#[tokio::test]
async fn a_connection_whose_client_has_said_nothing_yet() {
    let (server, port) = server().await;
    for in_order in [true, false] {
        let world = world(of_one_name(port));
        let mut client = world.connect("a.example", port).await;
        let mut outside = accepted(&server).await;
        outside.write_all(b"hello").await.unwrap();
        heard(&mut client, b"hello").await;
        let records = ended(world, in_order).await;
        assert_eq!(becauses(&records), [if in_order { "revoked" } else { "stopped" }]);
        let record = &records[0];
        assert_eq!((record.protocol, record.host.as_str(), record.port), (Spoken::Tcp, "a.example", port));
        assert_eq!((record.allowed, record.sent, record.received), (true, 0, 5));
        assert_eq!(record.rule.as_deref(), Some("a.example"));
    }
}

#[tokio::test]
async fn a_connection_that_passes_bytes() {
    let (server, port) = server().await;
    for in_order in [true, false] {
        let world = world(of_one_name(port));
        let mut client = world.connect("a.example", port).await;
        client.write_all(b"\0\x01\x02").await.unwrap();
        heard(&mut accepted(&server).await, b"\0\x01\x02").await;
        let records = ended(world, in_order).await;
        assert_eq!((records.len(), records[0].allowed, records[0].sent), (1, true, 3), "{records:?}");
    }
}

#[tokio::test]
async fn a_tunnel_through_which_nothing_was_said() {
    let (server, port) = server().await;
    for in_order in [true, false] {
        let world = world(of_one_name(port));
        let mut client = TcpStream::connect(world.tcp).await.unwrap();
        let connect = format!("CONNECT a.example:{port} HTTP/1.1\r\nHost: a.example:{port}\r\n\r\n");
        client.write_all(connect.as_bytes()).await.unwrap();
        let _outside = accepted(&server).await;
        assert!(read_head(&mut client).await.starts_with("HTTP/1.1 200 "));
        let records = ended(world, in_order).await;
        assert_eq!((records.len(), records[0].allowed), (1, true), "{records:?}");
        assert_eq!((records[0].protocol, records[0].host.as_str()), (Spoken::Tcp, "a.example"));
    }
}

/// What was dialled while the client was silent led to nothing, and each request has a record of its own.
#[tokio::test]
async fn a_connection_of_requests_is_in_theirs() {
    let (server, port) = server().await;
    let world = world(of_one_name(port));
    let mut client = world.connect("a.example", port).await;
    let _given_up = accepted(&server).await;
    client.write_all(format!("GET /x HTTP/1.1\r\nHost: a.example:{port}\r\n\r\n").as_bytes()).await.unwrap();
    let mut outside = accepted(&server).await;
    assert!(read_head(&mut outside).await.starts_with("GET /x "));
    outside.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 200 "));
    heard(&mut client, b"ok").await;
    world.records.wait_for(1).await;
    let records = ended(world, false).await;
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!((records[0].path.as_deref(), records[0].received), (Some("/x"), 2));
}
