use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use schema::policy::Protocol::Auto;
use tokio::net::UdpSocket as Udp;

use super::*;
use crate::dial::Own;
use crate::fuzz;

fn question(name: &str) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message.to_vec().unwrap()
}

async fn over_udp(world: &World, bytes: &[u8]) -> Message {
    let client = Udp::bind(here()).await.unwrap();
    client.send_to(bytes, world.dns_udp).await.unwrap();
    let mut answer = vec![0; 2000];
    let (length, from) = timeout(LONG, client.recv_from(&mut answer)).await.unwrap().unwrap();
    assert_eq!(from, world.dns_udp);
    Message::from_vec(&answer[..length]).unwrap()
}

async fn over_tcp(client: &mut TcpStream, bytes: &[u8]) -> io::Result<Message> {
    let framed = [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    for piece in framed.chunks(3) {
        client.write_all(piece).await?;
    }
    let mut answer = vec![0; usize::from(client.read_u16().await?)];
    client.read_exact(&mut answer).await?;
    Ok(Message::from_vec(&answer).unwrap())
}

fn example() -> Policy {
    testing::policy(vec![testing::rule("example.org", &[], Auto)])
}

#[tokio::test]
async fn questions_are_answered_over_udp_and_tcp() {
    let world = world(example());
    assert_eq!(over_udp(&world, &[0; 12]).await.response_code, ResponseCode::FormErr);
    let answer = over_udp(&world, &question("example.org.")).await;
    assert_eq!(answer.answers[0].data.to_string(), world.address("example.org").to_string());
    assert_eq!(over_udp(&world, &question("example.com.")).await.response_code, ResponseCode::NXDomain);

    let mut client = TcpStream::connect(world.dns_tcp).await.unwrap();
    for _ in 0..3 {
        assert_eq!(over_tcp(&mut client, &question("example.org.")).await.unwrap().answers, answer.answers);
        let other = over_tcp(&mut client, &question("example.com.")).await.unwrap();
        assert_eq!(other.response_code, ResponseCode::NXDomain);
    }
    world.service.swap(testing::generation(2, Policy::default()));
    let denied = over_tcp(&mut client, &question("example.org.")).await.unwrap();
    assert_eq!(denied.response_code, ResponseCode::NXDomain);
    assert_eq!(over_udp(&world, &question("example.org.")).await.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn idle_clients_do_not_keep_others_out() {
    let limits = Limits { dns_clients: 2, dns_idle: Duration::from_millis(200), ..Limits::default() };
    let world = world_with(example(), limits);
    let mut idle = TcpStream::connect(world.dns_tcp).await.unwrap();
    let mut slow = TcpStream::connect(world.dns_tcp).await.unwrap();
    slow.write_all(b"\0").await.unwrap();
    is_reset(&mut TcpStream::connect(world.dns_tcp).await.unwrap()).await;
    let records = world.records.wait_for(1).await;
    assert_eq!((becauses(&records), records[0].protocol), (vec!["too-many-connections"], crate::audit::Spoken::Dns));
    assert_eq!(rest(&mut idle).await, Ok(vec![]));
    assert_eq!(rest(&mut slow).await, Ok(vec![]));
    let mut client = TcpStream::connect(world.dns_tcp).await.unwrap();
    assert!(over_tcp(&mut client, &question("example.org.")).await.is_ok());
    client.write_all(&[0xff, 0xff]).await.unwrap();
    assert_eq!(rest(&mut client).await, Ok(vec![]), "no question is as long");
}

/// Takes all rules.
struct Takes;

impl crate::direct::Filter for Takes {
    fn give(&self, _: String) -> tokio::sync::oneshot::Receiver<Result<(), String>> {
        let (tell, told) = tokio::sync::oneshot::channel();
        let _ = tell.send(Ok(()));
        told
    }
}

#[tokio::test]
async fn a_question_beyond_those_that_are_looked_up_is_recorded() {
    for (lookups, sockets_of_all) in [(0, 10), (10, 0)] {
        let limits = Limits { sockets_of_all, lookups, ..Limits::default() };
        let (sandbox, records) = testing::sandbox(example());
        let generation = Arc::new(testing::generation(1, example()));
        let today = jiff::civil::date(2026, 1, 1);
        let nobody = Own::nobody();
        let direct =
            Direct::begin(Box::new(Takes), Vec::new(), generation, Addresses::default(), nobody, today).await.unwrap();
        let socket = UdpSocket::bind(here()).unwrap();
        let address = socket.local_addr().unwrap();
        let listeners = Listeners { dns_udp: vec![socket], ..Listeners::default() };
        let _service = Service::start_direct(sandbox, listeners, testing::shared(limits), direct).unwrap();
        let client = Udp::bind(here()).await.unwrap();
        client.send_to(&question("example.org."), address).await.unwrap();
        let records = records.wait_for(1).await;
        assert_eq!((records[0].host.as_str(), becauses(&records)), ("example.org", vec!["too-many-questions"]));
    }
}

#[tokio::test]
async fn connections_that_come_too_fast_wait_for_their_turn() {
    const RATE: u32 = 50;
    let limits = Limits { connection_rate: Some(RATE), ..Limits::default() };
    let begun = Instant::now();
    let world = world_with(example(), limits);
    for _ in 0..RATE + RATE / 2 {
        let mut client = TcpStream::connect(world.dns_tcp).await.unwrap();
        let answer = over_tcp(&mut client, &question("example.org.")).await.unwrap();
        assert_eq!(answer.response_code, ResponseCode::NoError, "it waits and is answered");
    }
    // So many at once, and half as many again at the pace.
    assert!(begun.elapsed() >= Duration::from_millis(490), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_flood_over_udp_is_survived() {
    let world = world(example());
    let client = Udp::bind(here()).await.unwrap();
    fuzz::run("dns", |bytes, _| {
        let _ = client.try_send_to(bytes, world.dns_udp);
    });
    let since = Instant::now();
    // Some may still be waiting before it.
    loop {
        let asked = timeout(Duration::from_secs(1), over_udp(&world, &question("example.org."))).await;
        if asked.is_ok_and(|answer| answer.response_code == ResponseCode::NoError) {
            break;
        }
        assert!(since.elapsed() < LONG);
    }
}
