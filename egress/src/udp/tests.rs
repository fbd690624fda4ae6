use std::time::Duration;

use schema::policy::Protocol;
use tokio::net::TcpStream;

use super::*;
use crate::destination::Meant;
use crate::limits::Limits;
use crate::testing::{self, LONG};

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// How long flows rest where that is waited for.
const SHORT: Duration = Duration::from_millis(100);

/// Wherever a datagram comes to, it was meant to go here.
struct Stands(IpAddr);

impl Destination for Stands {
    fn of(&self, _: &TcpStream) -> io::Result<Meant> {
        Ok(Meant::Proxy)
    }

    fn of_datagram(&self, _: IpAddr) -> IpAddr {
        self.0
    }
}

/// A relay of datagrams to a server of `udp.example` here, and the address that stands for it.
struct Relayed {
    relay: Arc<Relay>,
    server: UdpSocket,
    to: IpAddr,
    records: Arc<testing::Records>,
}

impl Relayed {
    /// With flows that may rest for `udp_idle`.
    async fn new(udp_idle: Duration) -> Self {
        let server = UdpSocket::bind((HERE, 0)).await.unwrap();
        let port = server.local_addr().unwrap().port();
        let rule = testing::rule("udp.example", &[port], Protocol::Udp);
        let (sandbox, records) = testing::sandbox(testing::policy(vec![rule]));
        let shared = testing::shared(Limits { udp_idle, ..Limits::default() });
        let name = "udp.example".parse().unwrap();
        let to: IpAddr = sandbox.pool.lease(&name, 10, Instant::now()).unwrap().v6().into();
        let socket = UdpSocket::bind((std::net::Ipv4Addr::new(127, 0, 0, 6), port)).await.unwrap();
        let bounds = Bounds::new(&shared.limits, Instant::now());
        let refusals = Arc::new(Refusals::new(Arc::clone(&sandbox), Arc::clone(&shared)));
        let relay = Relay::new(sandbox, shared, refusals, Arc::new(Stands(to)), Tasks::default(), socket, bounds);
        Self { relay: Arc::new(relay.unwrap()), server, to, records }
    }

    /// Takes a datagram of the client with this port. Its flow does not run before the test waits for something.
    fn take(&self, client: u16, datagram: &[u8]) {
        self.relay.take(((HERE, client).into(), self.to), datagram);
    }
}

/// Whoever sends faster than is passed on makes nobody hold more than there is room for, whatever the number of flows.
#[tokio::test]
async fn what_waits_has_so_much_room_in_all_and_gives_it_back() {
    const LENGTH: usize = 60_000;
    let datagram = vec![7; LENGTH];
    let relayed = Relayed::new(SHORT).await;
    let room = &relayed.relay.bounds.room;
    for client in 1..=3 {
        for _ in 0..WAITING {
            relayed.take(client, &datagram);
        }
    }
    assert_eq!(relayed.relay.lock().len(), 2, "there was no room for one of the third");
    assert_eq!(room.available_permits(), WAITING_BYTES % LENGTH);
    let passed: u64 = relayed.records.wait_for(2).await.iter().map(|record| record.sent).sum();
    assert_eq!(passed, (WAITING_BYTES / LENGTH * LENGTH) as u64, "what was taken is passed on");
    assert_eq!(room.available_permits(), WAITING_BYTES);
    assert!(relayed.relay.lock().is_empty());
}

/// Between the end of a flow and its being forgotten its client may begin another.
#[tokio::test]
async fn a_flow_that_ends_does_not_take_its_successor_along() {
    let relayed = Relayed::new(SHORT).await;
    relayed.take(1, b"last");
    let key = ((HERE, 1).into(), relayed.to);
    let (sender, mut successor) = mpsc::channel(WAITING);
    // The first flow has nobody any more who would give it anything, as at its end.
    drop(relayed.relay.lock().insert(key, sender));
    assert_eq!(relayed.records.wait_for(1).await[0].sent, 4);
    relayed.take(1, b"first");
    let (datagram, _) = successor.try_recv().expect("it is known still");
    assert_eq!(datagram, "first");
    assert_eq!(relayed.server.recv(&mut [0; 16]).await.unwrap(), 4, "that of the one before");
}

/// Whoever sends faster than is taken, and many as one, keeps nobody else from their turn.
#[tokio::test]
async fn a_client_that_floods_leaves_others_their_turns() {
    const LENGTH: usize = 8;
    for batch in [1, TURN / 2] {
        let Relayed { relay, server, .. } = Relayed::new(LONG).await;
        let at = relay.socket.local_addr().unwrap();
        // Each has a flow of its own, by which it is counted.
        let many = 2 * TURN / batch.min(TURN / 4);
        let mut clients = Vec::with_capacity(many);
        for _ in 0..many {
            let client = UdpSocket::bind((HERE, 0)).await.unwrap();
            let state = UdpSocketState::new(UdpSockRef::from(&client)).unwrap();
            assert!(state.max_gso_segments() >= batch, "this kernel sends one by one");
            let contents = vec![7; LENGTH * batch];
            let segment_size = (batch > 1).then_some(LENGTH);
            let transmit = Transmit { destination: at, ecn: None, contents: &contents, segment_size, src_ip: None };
            state.try_send(UdpSockRef::from(&client), &transmit).unwrap();
            clients.push(client);
        }
        let serving = tokio::spawn(Arc::clone(&relay).serve());
        let (since, mut before) = (Instant::now(), 0);
        while before < many {
            assert!(since.elapsed() < LONG, "{before} of {many}");
            tokio::task::yield_now().await;
            let now = relay.lock().len();
            assert!((now - before) * batch <= TURN, "{} in one turn", (now - before) * batch);
            before = now;
        }
        assert_eq!(server.recv(&mut [0; 16]).await.unwrap(), LENGTH);
        serving.abort();
    }
}

/// Likewise with answers.
#[tokio::test]
async fn a_server_that_floods_leaves_others_their_turns() {
    const MANY: usize = 200;
    let Relayed { relay, server, .. } = Relayed::new(LONG).await;
    let at = relay.socket.local_addr().unwrap();
    let serving = tokio::spawn(relay.serve());
    let client = std::net::UdpSocket::bind((HERE, 0)).unwrap();
    client.set_nonblocking(true).unwrap();
    client.send_to(b"ask", at).unwrap();
    let (_, flow) = server.recv_from(&mut [0; 16]).await.unwrap();
    for _ in 0..MANY {
        assert_eq!(server.try_send_to(b"answer", flow).unwrap(), 6);
    }
    let (since, mut heard) = (Instant::now(), 0);
    while heard < MANY {
        assert!(since.elapsed() < LONG, "{heard} of {MANY}");
        tokio::task::yield_now().await;
        let now = std::iter::from_fn(|| client.recv(&mut [0; 16]).ok()).count();
        assert!(now < MANY, "all in one turn");
        heard += now;
    }
    serving.abort();
}
