use schema::policy::Protocol;

use super::*;
use crate::destination::ByKernel;
use crate::limits::Limits;
use crate::testing;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// A relay of datagrams to a server of `udp.example` here, and the address that stands for it.
struct Relayed {
    relay: Arc<Relay>,
    server: UdpSocket,
    to: IpAddr,
    records: Arc<testing::Records>,
}

impl Relayed {
    async fn new() -> Self {
        let server = UdpSocket::bind((HERE, 0)).await.unwrap();
        let port = server.local_addr().unwrap().port();
        let rule = testing::rule("udp.example", &[port], Protocol::Udp);
        let (sandbox, records) = testing::sandbox(testing::policy(vec![rule]));
        let shared = testing::shared(Limits { udp_idle: std::time::Duration::from_millis(100), ..Limits::default() });
        let name = "udp.example".parse().unwrap();
        let to = sandbox.pool.lease(&name, 10, Instant::now()).unwrap().v6().into();
        let socket = UdpSocket::bind((std::net::Ipv4Addr::new(127, 0, 0, 6), port)).await.unwrap();
        let bounds = Bounds::new(&shared.limits, Instant::now());
        let refusals = Arc::new(Refusals::new(Arc::clone(&sandbox), Arc::clone(&shared)));
        let relay = Relay::new(sandbox, shared, refusals, Arc::new(ByKernel), Tasks::default(), socket, bounds);
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
    let relayed = Relayed::new().await;
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
    let relayed = Relayed::new().await;
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
