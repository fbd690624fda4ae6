use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{RData, Record, RecordType};
use schema::policy::{DnsName, PortRange};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

mod elsewhere;
mod many;
mod own;

/// Long before any day on which this runs: no other clock is asked.
const TODAY: Date = jiff::civil::date(2019, 7, 1);

fn name(text: &str) -> DnsName {
    text.parse().unwrap()
}

fn host(text: &str) -> Host {
    text.parse().unwrap()
}

fn generation(policy: Policy) -> Generation {
    Generation::new(1, policy, BTreeMap::new())
}

fn loopback() -> Vec<IpNet> {
    vec!["127.0.0.0/8".parse().unwrap()]
}

fn mapped(to: &[&str]) -> Policy {
    let addresses = to.iter().map(|text| text.parse().unwrap()).collect();
    Policy { hosts: [(name("db.test"), addresses)].into(), ..Policy::default() }
}

/// A dialer that asks `servers`, or nobody.
fn dialer(servers: Vec<SocketAddr>) -> Dialer {
    Dialer::new(DialSettings { name_servers: NameServers::Fixed(servers), ..DialSettings::default() })
}

/// A server that greets everybody with `greeting`.
async fn greeter(at: &str, greeting: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind(at).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(greeting).await.unwrap();
        }
    });
    address
}

async fn greeting(dialled: Dialled<TcpStream>) -> String {
    let mut stream = dialled.stream;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

/// A DNS server that knows one name; its nth answer for IPv4 is the nth address, the last one from then on.
struct Dns {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Dns {
    async fn start(known: &'static str, v4: &'static [&'static str], v6: &'static [&'static str]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            let mut nth = 0;
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                counter.fetch_add(1, Ordering::SeqCst);
                let question = Message::from_vec(&buffer[..length]).unwrap();
                let query = question.queries[0].clone();
                let mut answer = Message::response(question.metadata.id, OpCode::Query);
                answer.metadata.recursion_available = true;
                if query.name().to_ascii() == known {
                    let data = match query.query_type() {
                        RecordType::A => {
                            nth += 1;
                            v4.get(nth - 1).or(v4.last()).map(|text| RData::A(A(text.parse().unwrap())))
                        }
                        RecordType::AAAA => v6.first().map(|text| RData::AAAA(AAAA(text.parse().unwrap()))),
                        _ => None,
                    };
                    // Nobody keeps it: each dial asks again.
                    answer.answers.extend(data.map(|data| Record::from_rdata(query.name().clone(), 0, data)));
                } else {
                    answer.metadata.response_code = ResponseCode::NXDomain;
                }
                answer.add_query(query);
                socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
            }
        });
        Self { address, asked }
    }
}

#[tokio::test]
async fn names_of_the_policy_are_dialled_where_it_says_and_judged_all_the_same() {
    let server = greeter("127.0.0.1:0", b"hello").await;
    let dialer = dialer(Vec::new());
    let closed = generation(mapped(&["127.0.0.1"]));
    let refused = dialer.dial(&closed, &host("db.test"), server.port(), TODAY).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "db.test leads to 127.0.0.1, which is loopback (127.0.0.0/8); `dial: { allowRanges: [127.0.0.1] }` would allow it"
    );
    let open = generation(Policy { dial_allow: loopback(), ..mapped(&["127.0.0.1"]) });
    assert_eq!(greeting(dialer.dial(&open, &host("db.test"), server.port(), TODAY).await.unwrap()).await, "hello");
}

#[tokio::test]
async fn of_several_addresses_only_those_that_pass_are_dialled() {
    let forbidden = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let port = forbidden.local_addr().unwrap().port();
    greeter(&format!("127.0.0.1:{port}"), b"right").await;
    let dialer = dialer(Vec::new());
    let policy = Policy {
        dial_allow: vec!["127.0.0.1/32".parse().unwrap()],
        ..mapped(&["127.0.0.2", "169.254.169.254", "::1", "127.0.0.1"])
    };
    let stream = dialer.dial(&generation(policy), &host("db.test"), port, TODAY).await.unwrap();
    assert_eq!(stream.stream.peer_addr().unwrap().ip(), IpAddr::from([127, 0, 0, 1]));
    assert_eq!(greeting(stream).await, "right");
}

#[tokio::test]
async fn an_address_that_is_closed_is_passed_over() {
    let server = greeter("127.0.0.1:0", b"second").await;
    let policy = Policy { dial_allow: loopback(), ..mapped(&["127.0.0.9", "127.0.0.1"]) };
    let stream = dialer(Vec::new()).dial(&generation(policy), &host("db.test"), server.port(), TODAY).await.unwrap();
    assert_eq!(greeting(stream).await, "second");
}

#[tokio::test]
async fn nobody_there_is_said_with_the_address() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let policy = Policy { dial_allow: loopback(), ..mapped(&["127.0.0.1"]) };
    let error = dialer(Vec::new()).dial(&generation(policy), &host("db.test"), free, TODAY).await.unwrap_err();
    assert_eq!(error.to_string(), format!("no connection to db.test (127.0.0.1:{free})"));
    assert!(matches!(error, DialError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn what_dns_says_is_judged_every_time() {
    let server = greeter("127.0.0.1:0", b"once").await;
    let dns = Dns::start("rebind.test.", &["127.0.0.1", "127.0.0.66"], &[]).await;
    let dialer = dialer(vec![dns.address]);
    let generation = generation(Policy { dial_allow: vec!["127.0.0.1/32".parse().unwrap()], ..Policy::default() });
    let first = dialer.dial(&generation, &host("rebind.test"), server.port(), TODAY).await.unwrap();
    assert_eq!(greeting(first).await, "once");
    // One question for each family, and none for the connection itself: what was judged is what was dialled.
    assert_eq!(dns.asked.load(Ordering::SeqCst), 2);
    let second = dialer.dial(&generation, &host("rebind.test"), server.port(), TODAY).await.unwrap_err();
    assert!(
        matches!(&second, DialError::Refused { address, range, .. }
            if address.to_string() == "127.0.0.66" && range.kind == judge::Kind::Loopback),
        "{second:?}"
    );
}

#[tokio::test]
async fn ipv6_that_stands_for_a_refused_address_is_refused() {
    let dns = Dns::start("six.test.", &[], &["64:ff9b::7f00:1"]).await;
    let error =
        dialer(vec![dns.address]).dial(&generation(Policy::default()), &host("six.test"), 80, TODAY).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "six.test leads to 64:ff9b::7f00:1, which is loopback (127.0.0.1 in 127.0.0.0/8); \
         `dial: { allowRanges: [127.0.0.1] }` would allow it"
    );
}

#[tokio::test]
async fn unknown_names_and_silent_servers_are_told_apart() {
    let dns = Dns::start("known.test.", &["127.0.0.1"], &[]).await;
    let generation = generation(Policy::default());
    let error = dialer(vec![dns.address]).dial(&generation, &host("unknown.test"), 80, TODAY).await.unwrap_err();
    assert!(matches!(error, DialError::NotFound { .. }), "{error:?}");
    // Bound, and never answering.
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let settings = DialSettings {
        name_servers: NameServers::Fixed(vec![silent.local_addr().unwrap()]),
        timeout: Duration::from_millis(100),
        ..DialSettings::default()
    };
    let error = Dialer::new(settings).dial(&generation, &host("known.test"), 80, TODAY).await.unwrap_err();
    assert!(matches!(error, DialError::TimedOut { .. }), "{error:?}");
}

#[tokio::test]
async fn files_are_read_again_when_they_change() {
    let directory = tempfile::tempdir().unwrap();
    let (resolv_conf, hosts) = (directory.path().join("resolv.conf"), directory.path().join("hosts"));
    // A search list must not matter; the server is never asked.
    std::fs::write(&resolv_conf, "nameserver 127.0.0.1\nsearch example.org\n").unwrap();
    std::fs::write(&hosts, "127.0.0.1 here.test\n").unwrap();
    let names = Names::new(NameServers::Files { resolv_conf, hosts: hosts.clone() }, None);
    assert_eq!(names.lookup(&name("here.test")).await.unwrap().0, [IpAddr::from([127, 0, 0, 1])]);
    std::fs::write(&hosts, "127.0.0.7 here.test\n").unwrap();
    // Set apart by hand: file systems keep time coarsely.
    let later = std::time::SystemTime::now() + Duration::from_secs(5);
    std::fs::File::options().write(true).open(&hosts).unwrap().set_modified(later).unwrap();
    names.expire();
    assert_eq!(names.lookup(&name("here.test")).await.unwrap().0, [IpAddr::from([127, 0, 0, 7])]);
}

#[tokio::test]
async fn literals_need_a_rule_about_them() {
    let server = greeter("127.0.0.1:0", b"literal").await;
    let rule =
        |network: &str, port: u16| Rule { ports: vec![PortRange::one(port)], ..Rule::of(network.parse().unwrap()) };
    let dial = async |rule: Rule| {
        let generation = generation(Policy { allow: vec![rule], ..Policy::default() });
        dialer(Vec::new()).dial(&generation, &host("127.0.0.1"), server.port(), TODAY).await
    };
    assert_eq!(greeting(dial(rule("127.0.0.1", server.port())).await.unwrap()).await, "literal");
    let connections = Policy { allow: vec![rule("127.0.0.1", server.port())], ..Policy::default() };
    let datagrams =
        dialer(Vec::new()).dial_udp(&generation(connections), &host("127.0.0.1"), server.port(), TODAY).await;
    assert!(matches!(datagrams, Err(DialError::Refused { .. })), "{datagrams:?}");
    let wide = dial(rule("0.0.0.0/0", server.port())).await.unwrap_err();
    assert!(matches!(wide, DialError::Refused { .. }), "{wide:?}");
    let other_port = dial(rule("127.0.0.1", 1)).await.unwrap_err();
    assert!(matches!(other_port, DialError::Refused { .. }), "{other_port:?}");
}

#[tokio::test]
async fn a_rule_about_a_literal_counts_until_the_day_on_which_it_expires() {
    let server = greeter("127.0.0.1:0", b"literal").await;
    let (literal, port) = (host("127.0.0.1"), server.port());
    let rule =
        Rule { ports: vec![PortRange::one(port)], expires: Some(TODAY), ..Rule::of("127.0.0.1".parse().unwrap()) };
    let datagrams = Rule { protocol: Protocol::Udp, ..rule.clone() };
    let generation = generation(Policy { allow: vec![rule, datagrams], ..Policy::default() });
    let dialer = dialer(Vec::new());
    let dialled = dialer.dial(&generation, &literal, port, TODAY).await.unwrap();
    dialer.dial_udp(&generation, &literal, port, TODAY).await.unwrap();
    let stands = |today| {
        let stays = dialled.endpoint.may_stay(&generation.policy, &literal, port, Transport::Tcp, today);
        let loopback = Ipv4Addr::LOCALHOST.into();
        (stays, may_reach(&generation.policy, &literal, port, Transport::Tcp, loopback, &[], today))
    };
    assert_eq!(stands(TODAY), (true, true));

    let tomorrow = TODAY.tomorrow().unwrap();
    assert_eq!(stands(tomorrow), (false, false));
    let expired = dialer.dial(&generation, &literal, port, tomorrow).await.unwrap_err();
    assert!(matches!(expired, DialError::Refused { .. }), "{expired:?}");
    let expired = dialer.dial_udp(&generation, &literal, port, tomorrow).await.unwrap_err();
    assert!(matches!(expired, DialError::Refused { .. }), "{expired:?}");
}

#[tokio::test]
async fn what_leads_back_here_is_a_loop() {
    let synthetic = generation(mapped(&["198.18.0.7"]));
    let error = dialer(Vec::new()).dial(&synthetic, &host("db.test"), 80, TODAY).await.unwrap_err();
    assert!(matches!(error, DialError::Loop { .. }), "{error:?}");
}

#[tokio::test]
async fn datagrams_go_to_judged_addresses_and_through_no_proxy() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let dialer = dialer(Vec::new());
    let refused =
        dialer.dial_udp(&generation(mapped(&["127.0.0.1"])), &host("db.test"), port, TODAY).await.unwrap_err();
    assert!(matches!(refused, DialError::Refused { .. }), "{refused:?}");
    let open = Policy { dial_allow: loopback(), ..mapped(&["127.0.0.1"]) };
    let socket = dialer.dial_udp(&generation(open.clone()), &host("db.test"), port, TODAY).await.unwrap();
    socket.stream.send(b"ping").await.unwrap();
    let mut buffer = [0; 8];
    assert_eq!(server.recv(&mut buffer).await.unwrap(), 4);
    for upstream in [Upstream::Http("127.0.0.1:1".into()), Upstream::Socks5("127.0.0.1:1".into())] {
        let policy = Policy { upstream, ..open.clone() };
        let error = dialer.dial_udp(&generation(policy), &host("db.test"), port, TODAY).await.unwrap_err();
        assert!(matches!(error, DialError::Proxy { source: ProxyFault::Datagrams, .. }), "{error:?}");
    }
}

/// Accepts once and hands the connection over.
async fn once<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    serve: impl FnOnce(TcpStream) -> F + Send + 'static,
) -> (String, tokio::task::JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (address, tokio::spawn(async move { serve(listener.accept().await.unwrap().0).await }))
}

/// A proxy by CONNECT that answers in `pieces`, having read what it was asked.
async fn http_proxy(pieces: &'static [&'static str]) -> (String, tokio::task::JoinHandle<String>) {
    once(move |mut stream| async move {
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            asked.push(stream.read_u8().await.unwrap());
        }
        stream.set_nodelay(true).unwrap();
        for piece in pieces {
            stream.write_all(piece.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
        }
        String::from_utf8(asked).unwrap()
    })
    .await
}

#[tokio::test]
async fn an_http_proxy_gets_the_name_and_what_follows_its_answer_is_left() {
    let (proxy, asked) = http_proxy(&["HTTP/1.1 200 OK\r\nX: y\r\n\r", "\nfirst bytes"]).await;
    let policy = Policy { upstream: Upstream::Http(proxy), ..Policy::default() };
    let stream = dialer(Vec::new()).dial(&generation(policy), &host("example.org"), 22, TODAY).await.unwrap();
    assert_eq!(greeting(stream).await, "first bytes");
    assert_eq!(asked.await.unwrap(), "CONNECT example.org:22 HTTP/1.1\r\nHost: example.org:22\r\n\r\n");
}

#[tokio::test]
async fn behind_a_proxy_literals_and_mapped_names_are_still_judged() {
    let dialer = dialer(Vec::new());
    for (what, policy) in [("127.0.0.1", Policy::default()), ("db.test", mapped(&["10.0.0.1"]))] {
        let (proxy, _asked) = http_proxy(&["HTTP/1.1 200 OK\r\n\r\n"]).await;
        let policy = Policy { upstream: Upstream::Http(proxy), ..policy };
        let error = dialer.dial(&generation(policy), &host(what), 80, TODAY).await.unwrap_err();
        assert!(matches!(error, DialError::Refused { .. }), "{error:?}");
    }
    let (proxy, asked) = http_proxy(&["HTTP/1.1 200 OK\r\n\r\n"]).await;
    let open = vec!["10.0.0.1/32".parse().unwrap()];
    let policy = Policy { upstream: Upstream::Http(proxy), dial_allow: open, ..mapped(&["10.0.0.1"]) };
    dialer.dial(&generation(policy), &host("db.test"), 5432, TODAY).await.unwrap();
    assert_eq!(asked.await.unwrap(), "CONNECT 10.0.0.1:5432 HTTP/1.1\r\nHost: 10.0.0.1:5432\r\n\r\n");
}

#[tokio::test]
async fn what_an_http_proxy_says_instead() {
    let cases: [(&[&str], &str); 5] = [
        (&["HTTP/1.1 403 Forbidden\r\n\r\n"], "it answered 403 Forbidden to CONNECT"),
        (&["HTTP/1.0 502 Bad\x1b[2J\r\n\r\n"], "it answered 502 Bad\u{fffd}[2J to CONNECT"),
        (
            &["HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"],
            "it asks for a user name and password, which `upstream` cannot hold",
        ),
        (&["SSH-2.0-OpenSSH\r\n\r\n"], "its answer is not that of an HTTP proxy"),
        (&["HTTP/1.1 200 OK\r\n"], "its answer is not that of an HTTP proxy"),
    ];
    for (answer, expected) in cases {
        let (proxy, _asked) = http_proxy(answer).await;
        let policy = Policy { upstream: Upstream::Http(proxy.clone()), ..Policy::default() };
        let error = dialer(Vec::new()).dial(&generation(policy), &host("example.org"), 443, TODAY).await.unwrap_err();
        let DialError::Proxy { source, .. } = &error else { panic!("{error:?}") };
        assert_eq!(source.to_string(), expected);
        assert_eq!(error.to_string(), format!("the upstream proxy {proxy} gave no connection to example.org port 443"));
    }
}

#[tokio::test]
async fn a_socks_proxy_gets_the_name() {
    let (proxy, asked) = once(|mut stream| async move {
        let mut hello = [0; 3];
        stream.read_exact(&mut hello).await.unwrap();
        assert_eq!(hello, [5, 1, 0]);
        stream.write_all(&[5, 0]).await.unwrap();
        let mut request = [0; 5 + 11 + 2];
        stream.read_exact(&mut request).await.unwrap();
        // Bound to a name, for once; then the far end.
        stream.write_all(b"\x05\x00\x00\x03\x02xy\x00\x50SSH-2.0").await.unwrap();
        request
    })
    .await;
    let policy = Policy { upstream: Upstream::Socks5(proxy), ..Policy::default() };
    let stream = dialer(Vec::new()).dial(&generation(policy), &host("example.org"), 22, TODAY).await.unwrap();
    assert_eq!(greeting(stream).await, "SSH-2.0");
    assert_eq!(&asked.await.unwrap(), b"\x05\x01\x00\x03\x0bexample.org\x00\x16");
}

#[tokio::test]
async fn what_a_socks_proxy_says_instead() {
    let cases: [(&[u8], &str); 4] = [
        (b"\x05\xff", "it asks for a user name and password, which `upstream` cannot hold"),
        (b"HTTP/1.1 400", "its answer is not that of a SOCKS5 proxy"),
        (b"\x05\x00\x05\x02\x00\x01", "it answered: not allowed by its rules"),
        (b"\x05\x00\x05\x00\x00\x09", "its answer is not that of a SOCKS5 proxy"),
    ];
    for (answer, expected) in cases {
        let (proxy, _served) = once(move |mut stream| async move {
            stream.write_all(answer).await.unwrap();
            // Until the other side has read it all and goes.
            while stream.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
        })
        .await;
        let policy = Policy { upstream: Upstream::Socks5(proxy), ..Policy::default() };
        let error = dialer(Vec::new()).dial(&generation(policy), &host("example.org"), 443, TODAY).await.unwrap_err();
        let DialError::Proxy { source, .. } = error else { panic!("{error:?}") };
        assert_eq!(source.to_string(), expected);
    }
}

#[test]
fn where_a_proxy_is() {
    assert_eq!(authority("proxy.test:3128"), Some((host("proxy.test"), 3128)));
    assert_eq!(authority("[2001:db8::1]:3128"), Some((host("2001:db8::1"), 3128)));
    for wrong in ["proxy.test", "proxy.test:0", "proxy.test:x", ":3128", "127.1:3128"] {
        assert_eq!(authority(wrong), None, "{wrong}");
    }
}
