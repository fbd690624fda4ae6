use schema::policy::Protocol::{self, Auto, Tcp};

use super::*;
use crate::audit::Spoken;
use crate::splice::Channel;

fn allow(names: &[&str], port: u16, protocol: Protocol) -> Policy {
    testing::policy(names.iter().map(|name| testing::rule(name, &[port], protocol)).collect())
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard() {
    let (server, port) = server().await;
    let world = world(allow(&["ssh.example"], port, Auto));
    let mut client = world.connect("ssh.example", port).await;
    let mut outside = accepted(&server).await;
    outside.write_all(b"SSH-2.0-server\r\n").await.unwrap();
    heard(&mut client, b"SSH-2.0-server\r\n").await;
    client.write_all(b"SSH-2.0-client\r\n").await.unwrap();
    heard(&mut outside, b"SSH-2.0-client\r\n").await;
    drop(client);
    assert_eq!(rest(&mut outside).await, Ok(vec![]));
    drop(outside);
    let [record] = &world.records.wait_for(1).await[..] else { panic!() };
    assert_eq!((record.protocol, record.host.as_str(), record.port), (Spoken::Tcp, "ssh.example", port));
    assert_eq!((record.allowed, record.because.as_deref(), record.sent, record.received), (true, None, 16, 16));
    assert_eq!(record.rule.as_deref(), Some("ssh.example"));
}

#[tokio::test]
async fn a_client_that_speaks_first_is_heard() {
    let (server, port) = server().await;
    for protocol in [Auto, Tcp] {
        let world = world(allow(&["redis.example"], port, protocol));
        let mut client = world.connect("redis.example", port).await;
        client.write_all(b"*1\r\n$4\r\nPING\r\n").await.unwrap();
        let mut outside = accepted(&server).await;
        heard(&mut outside, b"*1\r\n$4\r\nPING\r\n").await;
        outside.write_all(b"+PONG\r\n").await.unwrap();
        heard(&mut client, b"+PONG\r\n").await;
    }
}

#[tokio::test]
async fn an_end_goes_one_way_and_the_other_way_goes_on() {
    let (server, port) = server().await;
    let world = world(allow(&["a.example"], port, Auto));
    let mut client = world.connect("a.example", port).await;
    client.write_all(b"all I have to say\n").await.unwrap();
    client.shutdown().await.unwrap();
    let mut outside = accepted(&server).await;
    assert_eq!(rest(&mut outside).await, Ok(b"all I have to say\n".to_vec()));
    let long = vec![7; 3_000_000];
    let answer = async {
        outside.write_all(&long).await.unwrap();
        drop(outside);
    };
    let (answered, ()) = tokio::join!(rest(&mut client), answer);
    assert!(answered == Ok(long.clone()));
    drop(client);
    assert_eq!(world.records.wait_for(1).await[0].received, 3_000_000);
}

#[tokio::test]
async fn a_client_that_says_nothing_at_all_gets_what_the_server_says() {
    let (server, port) = server().await;
    let world = world(allow(&["daytime.example"], port, Auto));
    let mut client = world.connect("daytime.example", port).await;
    client.shutdown().await.unwrap();
    let mut outside = accepted(&server).await;
    outside.write_all(b"noon").await.unwrap();
    drop(outside);
    assert_eq!(rest(&mut client).await, Ok(b"noon".to_vec()));
}

#[tokio::test]
async fn a_reset_comes_through() {
    let (server, port) = server().await;
    let world = world(allow(&["a.example"], port, Auto));
    let mut client = world.connect("a.example", port).await;
    let mut outside = accepted(&server).await;
    outside.write_all(b"half of").await.unwrap();
    heard(&mut client, b"half of").await;
    outside.reset();
    drop(outside);
    is_reset(&mut client).await;
    assert_eq!(becauses(&world.records.wait_for(1).await), ["broken-off"]);
}

#[tokio::test]
async fn a_client_that_breaks_off_is_gone_whatever_the_server_does() {
    let (server, port) = server().await;
    let world = world(allow(&["a.example"], port, Tcp));
    for (turn, many) in [(1, 1), (2, 16 << 20)] {
        let mut client = world.connect("a.example", port).await;
        let mut outside = accepted(&server).await;
        client.write_all(b"x").await.unwrap();
        heard(&mut outside, b"x").await;
        // More than all buffers hold, and the server reads none of it.
        let bulk = vec![0; many];
        let _ = timeout(Duration::from_millis(100), client.write_all(&bulk)).await;
        client.reset();
        drop(client);
        world.records.wait_for(turn).await;
        while outside.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {}
    }
    assert_eq!(becauses(&world.records.wait_for(2).await), ["broken-off"; 2]);
    assert_eq!(world.service.sandbox.flows.count(), (0, 0));
}

#[tokio::test]
async fn what_is_not_allowed_is_reset_and_recorded() {
    let (server, port) = server().await;
    let world = world(allow(&["a.example", "*.pattern.example"], port, Auto));
    let other = port ^ 1;
    is_reset(&mut world.connect("b.example", port).await).await;
    is_reset(&mut world.connect("a.example", other).await).await;
    is_reset(&mut world.connect_to([198, 19, 0, 77], port).await).await;
    is_reset(&mut world.connect_to([198, 18, 0, 1], port).await).await;
    is_reset(&mut world.connect_to([127, 0, 0, 1], port).await).await;
    nobody_came(&server).await;
    let records = world.records.wait_for(5).await;
    assert_eq!(becauses(&records), ["no-rule", "port", "unknown-address", "unknown-address", "no-rule"]);
    assert_eq!(records[1].rule.as_deref(), Some("a.example"));
    assert!(records.iter().all(|record| !record.allowed));

    let client = world.connect("a.example", port).await;
    accepted(&server).await;
    drop(client);
    let addresses = testing::policy(vec![testing::rule("127.0.0.0/8", &[port], Auto)]);
    world.service.swap(testing::generation(2, addresses));
    let _client = world.connect_to([127, 0, 0, 1], port).await;
    accepted(&server).await;
}

#[tokio::test]
async fn addresses_that_are_not_dialled_are_not() {
    let (server, port) = server().await;
    let mut policy = allow(&["a.example"], port, Tcp);
    policy.dial_allow.clear();
    let world = world(policy);
    is_reset(&mut world.connect("a.example", port).await).await;
    nobody_came(&server).await;
    let records = world.records.wait_for(1).await;
    assert_eq!((becauses(&records), records[0].allowed), (vec!["address-refused"], false));
}

#[tokio::test]
async fn a_server_that_is_not_there_ends_the_connection() {
    let (server, port) = server().await;
    drop(server);
    let world = world(allow(&["a.example"], port, Tcp));
    is_reset(&mut world.connect("a.example", port).await).await;
    assert_eq!(becauses(&world.records.wait_for(1).await), ["upstream-failed"]);
}

#[tokio::test]
async fn ports_of_http_and_tls_take_nothing_else() {
    let names = testing::policy(vec![testing::rule("a.example", &[], Auto)]);
    let world = world(names);
    for (port, said) in [(443, &b"SSH-2.0-x\r\n"[..]), (443, b"GET / HTTP/1.1\r\n"), (80, b"EHLO x\r\n")] {
        let mut client = world.connect("a.example", port).await;
        client.write_all(said).await.unwrap();
        is_reset(&mut client).await;
    }
    assert_eq!(becauses(&world.records.wait_for(3).await), ["protocol"; 3]);
    assert!(world.records.all().iter().all(|record| !record.allowed));
}

#[tokio::test]
async fn silence_has_its_time() {
    let limits = Limits { handshake: Duration::from_millis(50), ..Limits::default() };
    let world = world_with(testing::policy(vec![testing::rule("a.example", &[], Auto)]), limits);
    is_reset(&mut world.connect("a.example", 443).await).await;
    let mut slow = world.connect("a.example", 443).await;
    slow.write_all(b"\x16\x03").await.unwrap();
    is_reset(&mut slow).await;
    let records = world.records.wait_for(2).await;
    assert_eq!(becauses(&records), ["handshake-timeout"; 2]);
    assert!(records.iter().all(|record| !record.allowed), "nothing was connected to");
}

/// The server was connected to and heard: however it ends then, that is what happened.
#[tokio::test]
async fn what_was_let_out_is_recorded_as_that() {
    let (server, port) = server().await;
    let limits = Limits { handshake: Duration::from_millis(100), ..Limits::default() };
    let world = world_with(allow(&["a.example"], port, Auto), limits);
    let greeted = async || {
        let mut client = world.connect("a.example", port).await;
        let mut outside = accepted(&server).await;
        outside.write_all(b"220 ready\r\n").await.unwrap();
        heard(&mut client, b"220 ready\r\n").await;
        (client, outside)
    };
    let (client, _outside) = greeted().await;
    client.reset();
    drop(client);
    world.records.wait_for(1).await;
    let (mut client, _outside) = greeted().await;
    client.write_all(b"\x16\x03").await.unwrap();
    is_reset(&mut client).await;
    world.records.wait_for(2).await;
    let (mut client, _outside) = greeted().await;
    world.service.swap(testing::generation(2, Policy::default()));
    is_reset(&mut client).await;
    let records = world.records.wait_for(3).await;
    assert_eq!(becauses(&records), ["broken-off", "handshake-timeout", "revoked"]);
    assert!(records.iter().all(|record| record.allowed && record.received == 11), "{records:?}");
}

#[tokio::test]
async fn there_are_only_so_many_connections() {
    let (server, port) = server().await;
    let world = world_with(allow(&["a.example"], port, Tcp), Limits { connections: 2, ..Limits::default() });
    let one = world.connect("a.example", port).await;
    let _two = world.connect("a.example", port).await;
    let outside = (accepted(&server).await, accepted(&server).await);
    is_reset(&mut world.connect("a.example", port).await).await;
    assert_eq!(becauses(&world.records.wait_for(1).await), ["too-many-connections"]);
    drop((one, outside));
    world.records.wait_for(2).await;
    let mut again = world.connect("a.example", port).await;
    again.write_all(b"x").await.unwrap();
    accepted(&server).await;
}

/// What one sandbox uses up is not taken from another, and comes back to it.
#[tokio::test]
async fn limits_are_of_one_sandbox() {
    let (server, port) = server().await;
    let patience = Duration::from_millis(500);
    let shared = testing::shared(Limits { opening: 2, handshake: patience, ..Limits::default() });
    let mut policy = allow(&["a.example"], port, Tcp);
    policy.allow.push(testing::rule("b.example", &[], Auto));
    let hostile = world_sharing(policy.clone(), Arc::clone(&shared));
    let quiet = world_sharing(policy, shared);
    let begun = Instant::now();
    let _silent = (hostile.connect("b.example", 443).await, hostile.connect("b.example", 443).await);
    let _waiting = hostile.connect("a.example", port).await;
    let _served = quiet.connect("a.example", port).await;
    accepted(&server).await;
    accepted(&server).await;
    assert!(begun.elapsed() >= patience, "one of them waited for those that said nothing");
    assert_eq!(becauses(&hostile.records.wait_for(2).await), ["handshake-timeout"; 2]);
    assert!(quiet.records.all().is_empty());
}

#[tokio::test]
async fn a_change_cuts_what_it_revokes_and_nothing_else() {
    const EACH: usize = 40;
    let (server, port) = server().await;
    let world = world(allow(&["keep.example", "revoke.example"], port, Tcp));
    let mut kept = Vec::new();
    let mut revoked = Vec::new();
    for _ in 0..EACH {
        for (name, list) in [("keep.example", &mut kept), ("revoke.example", &mut revoked)] {
            let (mut client, mut outside) = (world.connect(name, port).await, accepted(&server).await);
            client.write_all(b"open").await.unwrap();
            heard(&mut outside, b"open").await;
            list.push((client, outside));
        }
    }
    let changed = Instant::now();
    world.service.swap(testing::generation(2, allow(&["keep.example"], port, Tcp)));
    for (client, outside) in &mut revoked {
        is_reset(client).await;
        is_reset(outside).await;
    }
    assert!(changed.elapsed() < Duration::from_secs(1), "{:?}", changed.elapsed());
    for (client, outside) in &mut kept {
        client.write_all(b"still").await.unwrap();
        heard(outside, b"still").await;
        outside.write_all(b"here").await.unwrap();
        heard(client, b"here").await;
    }
    let records = world.records.wait_for(EACH).await;
    assert_eq!(becauses(&records), ["revoked"; EACH]);
    is_reset(&mut world.connect("revoke.example", port).await).await;
}

#[tokio::test]
async fn what_leads_to_an_address_that_is_not_to_be_dialled_any_more_is_cut() {
    let (server, port) = server().await;
    let world = world(allow(&["a.example"], port, Tcp));
    let (mut client, mut outside) = (world.connect("a.example", port).await, accepted(&server).await);
    client.write_all(b"open").await.unwrap();
    heard(&mut outside, b"open").await;
    let same = testing::generation(2, allow(&["a.example", "b.example"], port, Tcp));
    world.service.swap(same);
    client.write_all(b"still").await.unwrap();
    heard(&mut outside, b"still").await;
    let mut policy = allow(&["a.example"], port, Tcp);
    policy.dial_allow.clear();
    world.service.swap(testing::generation(3, policy));
    is_reset(&mut client).await;
    is_reset(&mut outside).await;
    assert_eq!(becauses(&world.records.wait_for(1).await), ["revoked"]);
}

#[tokio::test]
async fn a_sandbox_that_is_not_served_any_more_has_no_connections() {
    let (server, port) = server().await;
    let world = world(allow(&["a.example"], port, Tcp));
    let mut client = world.connect("a.example", port).await;
    let mut outside = accepted(&server).await;
    let (tcp, records) = (world.tcp, Arc::clone(&world.records));
    timeout(LONG, world.service.stop()).await.unwrap();
    is_reset(&mut client).await;
    is_reset(&mut outside).await;
    assert_eq!(records.all().len(), 1);
    assert_eq!(TcpStream::connect(tcp).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn in_bulk_nothing_is_lost_either_way() {
    const MANY: u32 = 8 << 20;
    let (server, port) = server().await;
    let world = world(allow(&["a.example"], port, Tcp));
    let client = world.connect("a.example", port).await;
    let outside = accepted(&server).await;
    // No two blocks are the same, so that nothing can be swapped.
    let bytes: Arc<[u8]> = (0..MANY / 4).flat_map(|word| word.wrapping_mul(0x9E37_79B9).to_le_bytes()).collect();
    let talk = |stream: TcpStream| {
        let bytes = Arc::clone(&bytes);
        async move {
            let (mut reader, mut writer) = stream.into_split();
            let said = Arc::clone(&bytes);
            let write = tokio::spawn(async move {
                writer.write_all(&said).await.unwrap();
                writer.shutdown().await.unwrap();
            });
            let mut read = Vec::with_capacity(bytes.len());
            timeout(LONG, reader.read_to_end(&mut read)).await.unwrap().unwrap();
            write.await.unwrap();
            assert!(read[..] == bytes[..]);
        }
    };
    tokio::join!(talk(client), talk(outside));
    let record = &world.records.wait_for(1).await[0];
    assert_eq!((record.sent, record.received), (MANY.into(), MANY.into()));
}

/// Requests on a connection that goes on: its place among those that are being opened is for the next.
#[tokio::test]
async fn a_connection_of_http_keeps_no_other_from_being_opened() {
    let (server, port) = server().await;
    let rule = testing::rule("a.example", &[port], Protocol::Http);
    let world = world_with(testing::policy(vec![rule]), Limits { opening: 1, ..Limits::default() });
    let request = format!("GET / HTTP/1.1\r\nHost: a.example:{port}\r\n\r\n");
    let mut open = Vec::new();
    for _ in 0..3 {
        let mut client = world.connect("a.example", port).await;
        client.write_all(request.as_bytes()).await.unwrap();
        let mut outside = accepted(&server).await;
        outside.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        heard(&mut client, b"HTTP/1.1 200 OK").await;
        open.push((client, outside));
    }
}

/// What could be no TLS was looked at by the policy of before; it is judged by the one in force, and no less closely for that.
#[tokio::test]
async fn what_was_seen_under_another_policy_is_not_let_through_unlooked_at() {
    // The rest is judged with the first byte, or comes when that has been.
    let cases = [("other.example", false), ("example.org", true)].map(|case| [(case, true), (case, false)]);
    for ((host, arrives), together) in cases.into_iter().flatten() {
        let (server, port) = server().await;
        let world = world(allow(&["example.org"], port, Protocol::Tls));
        // One place is always with whoever waits for the next connection.
        let places = Limits::default().opening - 1;
        let opening = async |many: usize| {
            let since = Instant::now();
            while world.service.transparent.opening.available_permits() != places - many {
                assert!(since.elapsed() < LONG);
                tokio::task::yield_now().await;
            }
        };
        let mut client = world.connect("example.org", port).await;
        opening(1).await;
        world.service.swap(testing::generation(2, allow(&["example.org"], port, Auto)));
        let head = format!("GET / HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
        let (first, rest) = head.split_at(if together { head.len() } else { 1 });
        client.write_all(first.as_bytes()).await.unwrap();
        opening(0).await;
        client.write_all(rest.as_bytes()).await.unwrap();
        if arrives {
            heard(&mut accepted(&server).await, b"GET / HTTP/1.1").await;
        } else {
            heard(&mut client, b"HTTP/1.1 4").await;
            nobody_came(&server).await;
        }
    }
}
