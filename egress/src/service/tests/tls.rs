use schema::policy::Protocol::{self, Auto, Tcp, Tls};

use super::*;
use crate::audit::Spoken;
use crate::fuzz;

const UNRECOGNIZED: &[u8] = b"\x15\x03\x03\x00\x02\x02\x70";
const DENIED: &[u8] = b"\x15\x03\x03\x00\x02\x02\x31";
const MALFORMED: &[u8] = b"\x15\x03\x03\x00\x02\x02\x32";

/// A client's `ClientHello` for example.org.
fn hello_of(client: &str) -> Vec<u8> {
    fuzz::corpus("client-hello").into_iter().find(|(name, _)| name == client).unwrap().1
}

fn hello() -> Vec<u8> {
    hello_of("curl")
}

/// The same with another extension: one that hides a name.
fn encrypted_hello() -> Vec<u8> {
    let mut hello = hello();
    let number = |hello: &[u8], at: usize| usize::from(u16::from_be_bytes([hello[at], hello[at + 1]]));
    let session = 43 + 1 + usize::from(hello[43]);
    let suites = session + 2 + number(&hello, session);
    let extensions = suites + 1 + usize::from(hello[suites]);
    hello.extend(b"\xfe\x0d\x00\x01\x00");
    for at in [3, 7, extensions] {
        let longer = u16::try_from(number(&hello, at) + 5).unwrap();
        hello[at..at + 2].copy_from_slice(&longer.to_be_bytes());
    }
    hello
}

fn allow(name: &str, port: u16, protocol: Protocol) -> Policy {
    testing::policy(vec![testing::rule(name, &[port], protocol)])
}

#[tokio::test]
async fn a_hello_for_the_name_is_passed_on_byte_for_byte() {
    let (server, port) = server().await;
    for protocol in [Auto, Tls] {
        let world = world(allow("example.org", port, protocol));
        let mut client = world.connect("example.org", port).await;
        client.set_nodelay(true).unwrap();
        let hello = hello();
        for byte in &hello {
            client.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        client.write_all(b"and what follows it").await.unwrap();
        let mut outside = accepted(&server).await;
        heard(&mut outside, &[&hello[..], b"and what follows it"].concat()).await;
        outside.write_all(b"answer").await.unwrap();
        heard(&mut client, b"answer").await;
        drop((client, outside));
        let records = world.records.wait_for(1).await;
        assert_eq!((records[0].protocol, records[0].sent), (Spoken::Tls, hello.len() as u64 + 19));
    }
}

#[tokio::test]
async fn a_hello_for_something_else_is_refused_before_anything_is_dialled() {
    let (server, port) = server().await;
    let cases = [
        ("other.example", hello(), UNRECOGNIZED, "sni-mismatch"),
        ("example.org", hello_of("openssl-tls12-no-name"), UNRECOGNIZED, "sni-missing"),
        ("example.org", encrypted_hello(), UNRECOGNIZED, "encrypted-client-hello"),
        ("example.org", b"\x16\x03\x01\x00\x00".to_vec(), MALFORMED, "client-hello-malformed"),
    ];
    for (name, said, alert, because) in cases {
        let world = world(allow(name, port, Auto));
        let mut client = world.connect(name, port).await;
        client.write_all(&said).await.unwrap();
        assert_eq!(rest(&mut client).await.as_deref(), Ok(alert), "{because}");
        let records = world.records.wait_for(1).await;
        assert_eq!((becauses(&records), records[0].allowed), (vec![because], false));
    }
    nobody_came(&server).await;
    // What nobody looks at passes.
    let world = world(allow("other.example", port, Tcp));
    let mut client = world.connect("other.example", port).await;
    client.write_all(&encrypted_hello()).await.unwrap();
    heard(&mut accepted(&server).await, &encrypted_hello()).await;
}

#[tokio::test]
async fn a_port_for_tls_that_is_not_allowed_says_so_in_tls() {
    let world = world(allow("example.org", 8443, Auto));
    let mut client = world.connect("example.org", 443).await;
    client.write_all(&hello()).await.unwrap();
    assert_eq!(rest(&mut client).await.as_deref(), Ok(DENIED));
    let records = world.records.wait_for(1).await;
    assert_eq!((becauses(&records), records[0].allowed), (vec!["port"], false));
}

#[tokio::test]
async fn a_late_hello_is_held_to_the_name_as_well() {
    let (server, port) = server().await;
    let world = world(allow("other.example", port, Auto));
    let mut client = world.connect("other.example", port).await;
    // The server is dialled, as it might speak first.
    let mut outside = accepted(&server).await;
    outside.write_all(b"banner").await.unwrap();
    heard(&mut client, b"banner").await;
    client.write_all(&hello()).await.unwrap();
    assert_eq!(rest(&mut client).await.as_deref(), Ok(UNRECOGNIZED));
    assert_eq!(rest(&mut outside).await.unwrap_or_default(), b"");
    assert_eq!(becauses(&world.records.wait_for(1).await), ["sni-mismatch"]);
}

#[tokio::test]
async fn http_after_a_server_that_spoke_is_refused() {
    let (server, port) = server().await;
    let world = world(allow("a.example", port, Auto));
    let mut client = world.connect("a.example", port).await;
    let mut outside = accepted(&server).await;
    outside.write_all(b"banner").await.unwrap();
    heard(&mut client, b"banner").await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: b.example\r\n\r\n").await.unwrap();
    is_reset(&mut client).await;
    assert_eq!(rest(&mut outside).await.unwrap_or_default(), b"");
    assert_eq!(becauses(&world.records.wait_for(1).await), ["http-after-server"]);
}
