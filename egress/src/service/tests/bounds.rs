//! What clients of all sandboxes have together, and of each.

use schema::policy::Protocol::Tcp;

use super::*;

/// Once so many sockets of all may still be had.
async fn free(shared: &Shared, many: usize) {
    let since = Instant::now();
    while shared.sockets.available_permits() != many {
        assert!(since.elapsed() < LONG, "{} are free", shared.sockets.available_permits());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A policy for a server, and a client of the proxy that asks for it.
async fn example() -> (Policy, Listener, String) {
    let (server, port) = server().await;
    let ask = format!("CONNECT a.example:{port} HTTP/1.1\r\nhost: a.example:{port}\r\n\r\n");
    (testing::policy(vec![testing::rule("a.example", &[port], Tcp)]), server, ask)
}

async fn is_served(world: &World, ask: &str) {
    let mut client = TcpStream::connect(world.tcp).await.unwrap();
    client.write_all(ask.as_bytes()).await.unwrap();
    heard(&mut client, b"HTTP/1.1 200 ").await;
}

#[tokio::test]
async fn sockets_of_all_sandboxes_together_have_a_bound_too() {
    let (policy, server, ask) = example().await;
    let port = server.local_addr().unwrap().port();
    let shared = testing::shared(Limits { sockets_of_all: 2, ..Limits::default() });
    let greedy = world_sharing(policy.clone(), Arc::clone(&shared));
    let other = world_sharing(policy, Arc::clone(&shared));
    // They say nothing.
    let silent = (TcpStream::connect(greedy.tcp).await.unwrap(), TcpStream::connect(greedy.dns_tcp).await.unwrap());
    free(&shared, 0).await;
    is_reset(&mut TcpStream::connect(other.tcp).await.unwrap()).await;
    is_reset(&mut TcpStream::connect(other.dns_tcp).await.unwrap()).await;
    // What is not allowed is not told why, which takes a while.
    let mut denied = other.connect("b.example", 443).await;
    let _ = denied.write_all(&[22]).await;
    is_reset(&mut denied).await;
    let records = other.records.wait_for(3).await;
    assert_eq!(becauses(&records), ["too-many-connections", "too-many-connections", "no-rule"]);
    // Connections have a bound of their own.
    let _served = other.connect("a.example", port).await;
    accepted(&server).await;
    drop(silent);
    free(&shared, 2).await;
    is_served(&other, &ask).await;
}

/// Clients that are there and say nothing, as many as one sandbox likes: three others find as much.
#[tokio::test]
async fn no_sandbox_has_more_than_a_quarter_of_the_sockets() {
    let (policy, _server, ask) = example().await;
    let limits = Limits { connection_rate: None, dns_idle: LONG, ..Limits::within(256) };
    let (each, of_all) = (limits.proxy_clients + limits.dns_clients, limits.sockets_of_all);
    let shared = testing::shared(limits);
    let greedy = world_sharing(policy.clone(), Arc::clone(&shared));
    let other = world_sharing(policy, Arc::clone(&shared));
    let mut silent = Vec::new();
    for _ in 0..of_all {
        silent.push(TcpStream::connect(greedy.tcp).await.unwrap());
        silent.push(TcpStream::connect(greedy.dns_tcp).await.unwrap());
    }
    // Those beyond are turned away: two records, and the same again is none.
    assert_eq!(becauses(&greedy.records.wait_for(2).await), ["too-many-connections"; 2]);
    free(&shared, of_all - each).await;
    assert!(each * 4 <= of_all);
    is_served(&other, &ask).await;
    assert_eq!(greedy.records.all().len(), 2);
}
