//! Names with many addresses at which nobody answers.

use std::collections::BTreeSet;
use std::time::Instant;

use socket2::{Domain, Socket, Type};

use super::*;

/// Where connections to `port` lead that are under way, as the kernel writes addresses.
fn under_way(port: u16) -> BTreeSet<String> {
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let of_line = |line: &str| {
        let mut fields = line.split_whitespace().skip(2);
        let (to, state) = (fields.next()?, fields.next()?);
        // SYN-SENT.
        (to.ends_with(&format!(":{port:04X}")) && state == "02").then(|| to.to_owned())
    };
    table.lines().filter_map(of_line).collect()
}

/// Repeats `look` until it has found something.
async fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(since.elapsed() < crate::testing::LONG, "it takes too long");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_dial_has_few_sockets_at_once_however_many_addresses_there_are() {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([0, 0, 0, 0], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let port = listener.local_addr().unwrap().as_socket().unwrap().port();
    // With one that nobody accepts its backlog is full: whoever comes next is not answered.
    let _first = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    let addresses = ["127.0.1.1", "127.0.1.2", "127.0.1.3", "127.0.1.4", "127.0.1.5"];
    let open = generation(Policy { dial_allow: loopback(), ..mapped(&addresses) });
    let dialling =
        tokio::spawn(async move { dialer(Vec::new()).dial(&open, &host("db.test"), port, TODAY).await.map(drop) });
    let last = format!("0501007F:{port:04X}");
    let at_last = until(|| {
        let now = under_way(port);
        assert!(now.len() <= AT_ONCE, "{now:?}");
        now.contains(&last).then_some(now)
    })
    .await;
    assert_eq!(at_last.len(), AT_ONCE, "{at_last:?}");
    dialling.abort();
    until(|| under_way(port).is_empty().then_some(())).await;
}

#[tokio::test]
async fn no_more_addresses_are_tried_than_there_is_time_for() {
    let texts: Vec<String> = (1..=60).map(|last| format!("192.0.2.{last}")).collect();
    let many = mapped(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    let dialer = dialer(Vec::new());
    let tried = dialer.addresses(&many, &host("db.test"), 22, Transport::Tcp, None, TODAY).await.unwrap();
    assert_eq!(tried.len(), race::MOST);
    assert_eq!(tried[0].address, IpAddr::from([192, 0, 2, 1]));
}
