//! Clients that come through a unix socket.

use schema::policy::Upstream;
use tokio::net::UnixStream;

use super::*;
use crate::attach::Target;
use crate::attach::socket_door::{NAME, Network};
use crate::http::testing::read_head;

/// A world with such a socket, and the directory it is in.
fn with_socket(policy: Policy, limits: Limits, network: Option<Network>) -> (World, tempfile::TempDir) {
    let world = world_with(policy, limits);
    let directory = tempfile::tempdir().unwrap();
    let target = Target::hold(std::process::id()).unwrap();
    // What an earlier daemon left is no obstacle.
    drop(SocketDoor::make(directory.path(), &target).unwrap());
    let door = SocketDoor::make(directory.path(), &target).unwrap();
    let network = network.unwrap_or(door.network);
    world.service.start_socket(SocketDoor { network, ..door }).unwrap();
    (world, directory)
}

async fn asks(directory: &tempfile::TempDir, text: &str) -> String {
    let mut stream = UnixStream::connect(directory.path().join(NAME)).await.unwrap();
    let _ = stream.write_all(text.as_bytes()).await;
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n") && timeout(LONG, stream.read(&mut byte)).await.unwrap().is_ok_and(|read| read > 0)
    {
        answer.push(byte[0]);
    }
    String::from_utf8(answer).unwrap()
}

fn connect(host: &str, port: u16) -> String {
    format!("CONNECT {host}:{port} HTTP/1.1\r\nhost: {host}:{port}\r\n\r\n")
}

#[tokio::test]
async fn is_a_proxy_with_the_same_decisions() {
    let (_server, port) = server().await;
    let rule = testing::rule("a.test", &[port], schema::policy::Protocol::Tcp);
    let (world, directory) = with_socket(testing::policy(vec![rule]), Limits::default(), None);
    assert!(asks(&directory, &connect("a.test", port)).await.contains(" 200 "));
    assert!(asks(&directory, &connect("b.test", port)).await.contains(" 403 "));
    let records = world.records.wait_for(2).await;
    let mut told: Vec<_> = records.iter().map(|record| (record.host.as_str(), record.allowed)).collect();
    told.sort_unstable();
    assert_eq!(told, [("a.test", true), ("b.test", false)]);
}

/// Where there is a network, its connections to port 53 go to the resolver, and the proxy is no way around that.
#[tokio::test]
async fn leads_to_port_53_as_nothing_else_does() {
    let (proxy, at) = server().await;
    let policy = testing::policy(vec![testing::rule("a.test", &[53], schema::policy::Protocol::Tcp)]);
    let policy = Policy { upstream: Upstream::Http(format!("127.0.0.1:{at}")), ..policy };
    let (world, directory) = with_socket(policy, Limits::default(), None);
    for said in [connect("a.test", 53), "GET http://a.test:53/ HTTP/1.1\r\nhost: a.test:53\r\n\r\n".to_owned()] {
        let mut client = TcpStream::connect(world.tcp).await.unwrap();
        client.write_all(said.as_bytes()).await.unwrap();
        let head = read_head(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 403 ") && head.contains("sbx-refusal: resolver\r\n"), "{head}");
    }
    let records = world.records.wait_for(2).await;
    assert_eq!(becauses(&records), ["resolver", "resolver"]);
    assert!(records.iter().all(|record| !record.allowed && (record.host.as_str(), record.port) == ("a.test", 53)));
    let granting = async {
        let mut stream = accepted(&proxy).await;
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        stream
    };
    let asked = connect("a.test", 53);
    let (answer, _stream) = tokio::join!(asks(&directory, &asked), granting);
    assert!(answer.contains(" 200 "), "{answer}");
}

#[tokio::test]
async fn is_there_for_nobody_from_another_network() {
    let (server, port) = server().await;
    let rule = testing::rule("a.test", &[port], schema::policy::Protocol::Tcp);
    let nowhere = Some(Network::nowhere());
    let (_world, directory) = with_socket(testing::policy(vec![rule]), Limits::default(), nowhere);
    assert_eq!(asks(&directory, &connect("a.test", port)).await, "");
    nobody_came(&server).await;
}

#[tokio::test]
async fn is_there_for_nobody_when_all_have_as_many_clients_as_they_may() {
    let (server, port) = server().await;
    let rule = testing::rule("a.test", &[port], schema::policy::Protocol::Tcp);
    let (world, directory) =
        with_socket(testing::policy(vec![rule]), Limits { sockets_of_all: 0, ..Limits::default() }, None);
    for _ in 0..2 {
        assert_eq!(asks(&directory, &connect("a.test", port)).await, "");
    }
    nobody_came(&server).await;
    assert_eq!(becauses(&world.records.all()), ["too-many-connections"], "the same refusal again");
}

#[tokio::test]
async fn takes_the_place_of_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let target = Target::hold(std::process::id()).unwrap();
    std::fs::write(directory.path().join(NAME), "mine").unwrap();
    assert!(SocketDoor::make(directory.path(), &target).is_err());
    assert_eq!(std::fs::read_to_string(directory.path().join(NAME)).unwrap(), "mine");
    let link = directory.path().join("link");
    std::os::unix::fs::symlink("/tmp", &link).unwrap();
    assert!(SocketDoor::make(&link, &target).is_err(), "a link leads elsewhere");
}
