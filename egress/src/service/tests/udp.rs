use schema::policy::Protocol::Udp;
use tokio::net::UdpSocket as Socket;

use super::*;
use crate::audit::Spoken;

/// An address of this machine that stands for the synthetic one of a name.
const ALIAS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 5);

/// A world where `ALIAS` means `name`, whose server is at 127.0.0.1.
async fn relayed(name: &str, limits: Limits) -> (World, Socket, u16) {
    let server = Socket::bind(here()).await.unwrap();
    let port = server.local_addr().unwrap().port();
    let world = world_with(testing::policy(vec![testing::rule("udp.example", &[port], Udp)]), limits);
    let inside = UdpSocket::bind((ALIAS, port)).unwrap();
    world.service.add_listeners(Listeners { udp: vec![inside], ..Listeners::default() }).unwrap();
    let address = world.address(name).into();
    world.meanings.datagrams.lock().unwrap().insert(ALIAS.into(), address);
    (world, server, port)
}

async fn receive(socket: &Socket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 70_000];
    let (length, from) = timeout(LONG, socket.recv_from(&mut buffer)).await.unwrap().unwrap();
    buffer.truncate(length);
    (buffer, from)
}

/// And can be opened again, which it cannot as long as it is anybody's.
#[tokio::test]
async fn a_port_that_is_closed_is_free_once_nothing_is_under_way_there() {
    let limits = Limits { udp_idle: Duration::from_millis(50), ..Limits::default() };
    let (world, server, port) = relayed("udp.example", limits).await;
    let client = Socket::bind(here()).await.unwrap();
    for _ in 0..2 {
        client.send_to(b"x", (ALIAS, port)).await.unwrap();
        assert_eq!(receive(&server).await.0, b"x");
        world.service.close_udp(&[port - 1].into());
        assert!(UdpSocket::bind((ALIAS, port)).is_err(), "it is another that was closed");
        world.service.close_udp(&[port].into());
        let free = async {
            loop {
                if let Ok(socket) = UdpSocket::bind((ALIAS, port)) {
                    return socket;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let again = timeout(LONG, free).await.unwrap();
        world.service.add_listeners(Listeners { udp: vec![again], ..Listeners::default() }).unwrap();
    }
}

#[tokio::test]
async fn datagrams_go_and_come_back_from_where_they_went() {
    let (world, server, port) = relayed("udp.example", Limits::default()).await;
    let (one, other) = (Socket::bind(here()).await.unwrap(), Socket::bind(here()).await.unwrap());
    let long = vec![1; 60_000];
    let mut flows = Vec::new();
    for (client, said) in [(&one, &b"one"[..]), (&other, b"other"), (&one, &long), (&one, b"")] {
        client.send_to(said, (ALIAS, port)).await.unwrap();
        let (heard, from) = receive(&server).await;
        assert!(heard == said);
        server.send_to(&heard, from).await.unwrap();
        let (answer, from_inside) = receive(client).await;
        assert!(answer == said);
        assert_eq!(from_inside, (ALIAS, port).into());
        flows.push(from);
    }
    assert!(flows[0] == flows[2] && flows[2] == flows[3] && flows[0] != flows[1], "a socket for each flow");

    // Nobody but the server is heard.
    let stranger = Socket::bind(here()).await.unwrap();
    stranger.send_to(b"spoofed", (Ipv4Addr::LOCALHOST, flows[0].port())).await.unwrap();
    server.send_to(b"true", flows[0]).await.unwrap();
    assert_eq!(receive(&one).await.0, b"true");
    assert_eq!(world.service.sandbox.flows.count(), (0, 2));
}

#[tokio::test]
async fn flows_end_when_they_rest_or_are_revoked() {
    let limits = Limits { udp_idle: Duration::from_millis(100), udp_flows: 1, ..Limits::default() };
    let (world, server, port) = relayed("udp.example", limits).await;
    let client = Socket::bind(here()).await.unwrap();
    client.send_to(b"x", (ALIAS, port)).await.unwrap();
    receive(&server).await;
    Socket::bind(here()).await.unwrap().send_to(b"too many", (ALIAS, port)).await.unwrap();
    let records = world.records.wait_for(2).await;
    assert_eq!(becauses(&records), ["too-many-flows", "-"]);
    assert_eq!((records[1].protocol, records[1].sent, records[1].allowed), (Spoken::Udp, 1, true));

    client.send_to(b"again", (ALIAS, port)).await.unwrap();
    assert_eq!(receive(&server).await.0, b"again");
    world.service.swap(testing::generation(2, Policy::default()));
    assert_eq!(becauses(&world.records.wait_for(3).await)[2], "revoked");
    client.send_to(b"denied", (ALIAS, port)).await.unwrap();
    assert_eq!(becauses(&world.records.wait_for(4).await)[3], "no-rule");
    let nothing = timeout(Duration::from_millis(50), server.recv_from(&mut [0; 10])).await;
    assert!(nothing.is_err());
}

#[tokio::test]
async fn addresses_that_are_refused_are_told_as_refused() {
    let (world, server, port) = relayed("udp.example", Limits::default()).await;
    let closed = Policy { dial_allow: vec![], ..testing::policy(vec![testing::rule("udp.example", &[port], Udp)]) };
    world.service.swap(testing::generation(2, closed));
    let client = Socket::bind(here()).await.unwrap();
    client.send_to(b"x", (ALIAS, port)).await.unwrap();
    let records = world.records.wait_for(1).await;
    assert_eq!((becauses(&records), records[0].allowed, records[0].sent), (vec!["address-refused"], false, 0));
    assert!(timeout(Duration::from_millis(50), server.recv_from(&mut [0; 10])).await.is_err());
}

#[tokio::test]
async fn flows_begin_no_faster_than_they_may_and_those_there_are_go_on() {
    let limits = Limits { connection_rate: Some(3), ..Limits::default() };
    let (world, server, port) = relayed("udp.example", limits).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(Socket::bind(here()).await.unwrap());
        clients.last().unwrap().send_to(b"x", (ALIAS, port)).await.unwrap();
        receive(&server).await;
    }
    Socket::bind(here()).await.unwrap().send_to(b"too fast", (ALIAS, port)).await.unwrap();
    let records = world.records.wait_for(1).await;
    assert_eq!((becauses(&records), records[0].allowed), (vec!["too-many-flows"], false));
    clients[0].send_to(b"again", (ALIAS, port)).await.unwrap();
    assert_eq!(receive(&server).await.0, b"again");
}

#[tokio::test]
async fn what_is_denied_is_not_in_the_way_of_what_is_allowed() {
    let limits = Limits { connection_rate: Some(1), ..Limits::default() };
    let (world, server, port) = relayed("udp.example", limits).await;
    let client = Socket::bind(here()).await.unwrap();
    world.service.swap(testing::generation(2, Policy::default()));
    client.send_to(b"denied", (ALIAS, port)).await.unwrap();
    assert_eq!(becauses(&world.records.wait_for(1).await), ["no-rule"]);
    let allowed = testing::policy(vec![testing::rule("udp.example", &[port], Udp)]);
    world.service.swap(testing::generation(3, allowed));
    client.send_to(b"allowed", (ALIAS, port)).await.unwrap();
    assert_eq!(receive(&server).await.0, b"allowed");
}

#[tokio::test]
async fn names_that_are_not_allowed_get_nothing() {
    let (world, server, port) = relayed("other.example", Limits::default()).await;
    let client = Socket::bind(here()).await.unwrap();
    client.send_to(b"x", (ALIAS, port)).await.unwrap();
    let records = world.records.wait_for(1).await;
    assert_eq!((becauses(&records), records[0].allowed), (vec!["no-rule"], false));
    assert!(timeout(Duration::from_millis(50), server.recv_from(&mut [0; 10])).await.is_err());
}

#[tokio::test]
async fn flows_that_are_open_when_a_sandbox_ends_are_recorded_once() {
    for in_order in [true, false] {
        let (world, server, port) = relayed("udp.example", Limits::default()).await;
        let client = Socket::bind(here()).await.unwrap();
        client.send_to(b"x", (ALIAS, port)).await.unwrap();
        let (_, flow) = receive(&server).await;
        server.send_to(b"yes", flow).await.unwrap();
        assert_eq!(receive(&client).await.0, b"yes");
        let records = ended(world, in_order).await;
        assert_eq!(becauses(&records), [if in_order { "revoked" } else { "stopped" }]);
        let record = &records[0];
        assert_eq!((record.protocol, record.host.as_str()), (Spoken::Udp, "udp.example"));
        assert_eq!((record.allowed, record.sent, record.received), (true, 1, 3));
    }
}
