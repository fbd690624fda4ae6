use schema::policy::Protocol;

use super::*;
use crate::destination::ByKernel;
use crate::limits::Limits;
use crate::testing;

/// Whoever sends faster than is passed on makes nobody hold more than there is room for, whatever the number of flows.
#[tokio::test]
async fn what_waits_has_so_much_room_in_all_and_gives_it_back() {
    const LENGTH: usize = 60_000;
    let datagram = vec![7; LENGTH];
    let here: IpAddr = std::net::Ipv4Addr::LOCALHOST.into();
    let server = UdpSocket::bind((here, 0)).await.unwrap();
    let port = server.local_addr().unwrap().port();
    let (sandbox, records) =
        testing::sandbox(testing::policy(vec![testing::rule("udp.example", &[port], Protocol::Udp)]));
    let shared = testing::shared(Limits { udp_idle: std::time::Duration::from_millis(100), ..Limits::default() });
    let name = "udp.example".parse().unwrap();
    let to = sandbox.pool.lease(&name, 10, Instant::now()).unwrap().v6().into();
    let socket = UdpSocket::bind((std::net::Ipv4Addr::new(127, 0, 0, 6), port)).await.unwrap();
    let bounds = Bounds::new(&shared.limits, Instant::now());
    let room = &bounds.room;
    let relay = Arc::new(
        Relay::new(
            Arc::clone(&sandbox),
            Arc::clone(&shared),
            Arc::new(Refusals::new(sandbox, shared)),
            Arc::new(ByKernel),
            Tasks::default(),
            socket,
            bounds.clone(),
        )
        .unwrap(),
    );
    // No flow runs before this waits for something.
    for client in 1..=3 {
        for _ in 0..WAITING {
            relay.take(((here, client).into(), to), &datagram);
        }
    }
    assert_eq!(relay.lock().len(), 2, "there was no room for one of the third");
    assert_eq!(room.available_permits(), WAITING_BYTES % LENGTH);
    let passed: u64 = records.wait_for(2).await.iter().map(|record| record.sent).sum();
    assert_eq!(passed, (WAITING_BYTES / LENGTH * LENGTH) as u64, "what was taken is passed on");
    assert_eq!(room.available_permits(), WAITING_BYTES);
    assert!(relay.lock().is_empty());
}
