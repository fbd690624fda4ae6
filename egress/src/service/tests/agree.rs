//! `explain` and the data path say the same of every policy and everything that is asked, and for the same rule.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use schema::config::{Egress, EgressMode, Transport as Attached};
use schema::policy::{Host, Target, Upstream};
use secrecy::SecretSlice;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::audit::{Record, Sink};
use crate::compiled::properties::{Asked, TODAY, asked, policy as any_policy};
use crate::dial::{DialSettings, Dialer, Interfaces};
use crate::explain::{self, Explanation, by_egress, by_policy};
use crate::http::Web;
use crate::http::testing::{read_head, trusting};
use crate::tls::authority::Authority;
use crate::tls::outbound::Outbound;
use crate::verdict::Speech;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// Everything that is not the sandbox: whatever host and port are asked for, somebody answers there.
struct Outside {
    proxy: SocketAddr,
    servers: Arc<Authority>,
    inside: Arc<Authority>,
    /// How clients speak TLS: they trust the servers, and who opens TLS on their behalf.
    client: Arc<rustls::ClientConfig>,
}

impl Outside {
    async fn start() -> Self {
        let servers = Arc::new(Authority::generate("the world").unwrap());
        let inside = Arc::new(Authority::generate("project").unwrap());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(servers.certificate().clone()).unwrap();
        roots.add(inside.certificate().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let listener = Listener::bind(here()).await.unwrap();
        let proxy = listener.local_addr().unwrap();
        let authority = Arc::clone(&servers);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&authority)));
            }
        });
        Self { proxy, servers, inside, client: Arc::new(client) }
    }

    /// A sandbox under `policy`, on the day of the properties.
    fn world(&self, policy: Policy) -> World {
        let secret = Arc::new(SecretSlice::from(b"value".to_vec()));
        let secrets = [(schema::Name::new("token").unwrap(), secret)].into();
        let records = Arc::new(Records::default());
        let sink = Arc::clone(&records) as Arc<dyn Sink>;
        let sandbox = Sandbox::new("project".into(), "sandbox".into(), sink, Generation::new(1, policy, secrets));
        let shared = Shared {
            // The same on every machine.
            dialer: Dialer::new(DialSettings { interfaces: Interfaces::Fixed(Vec::new()), ..DialSettings::default() }),
            web: Web::new(Outbound::new(trusting(&self.servers))),
            clock: || "2026-06-15T12:00:00Z".parse().unwrap(),
            ..Shared::default()
        };
        shared.web.set_authority("project", Arc::clone(&self.inside));
        served(Arc::new(sandbox), records, Arc::new(shared))
    }
}

/// A proxy that leads to a server of every host.
async fn answer(mut stream: TcpStream, authority: Arc<Authority>) {
    let head = read_head(&mut stream).await;
    let Some(named) = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()) else { return };
    let (host, _) = named.rsplit_once(':').unwrap();
    let host: Host = host.trim_matches(['[', ']']).parse().unwrap();
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
    let mut first = [0];
    if stream.peek(&mut first).await.is_ok() && first == [22] {
        let acceptor = TlsAcceptor::from(authority.config(&host).unwrap());
        if let Ok(stream) = acceptor.accept(stream).await {
            converse(stream).await;
        }
    } else {
        converse(stream).await;
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    if read_head(&mut stream).await.is_empty() || stream.write_all(ANSWER).await.is_err() {
        return;
    }
    let _ = stream.flush().await;
    let _ = stream.read(&mut [0]).await;
}

/// How a client comes to what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// It connects to its address, and knows of no proxy.
    Address,
    /// It asks the proxy for a tunnel.
    Tunnel,
    /// It asks the proxy for a URL.
    Url,
}

fn authority(asked: &Asked) -> String {
    match &asked.host {
        Host::Address(IpAddr::V6(address)) => format!("[{address}]:{}", asked.port),
        host => format!("{host}:{}", asked.port),
    }
}

/// What a client says.
fn said(asked: &Asked, speech: Speech, by: By) -> String {
    if speech == Speech::Other {
        return String::from("hello\r\n\r\n");
    }
    let host = authority(asked);
    let at = if by == By::Url { format!("http://{host}") } else { String::new() };
    let mut head = format!("{} {at}{} HTTP/1.1\r\nHost: {host}\r\n", asked.method(), asked.path().as_str());
    for (name, value) in &asked.headers().0 {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if asked.upgrade() {
        head.push_str("Connection: upgrade\r\nUpgrade: websocket\r\n");
    }
    head + "\r\n"
}

/// Whether a client of the live data path gets an answer, and what was recorded of it.
async fn live(outside: &Outside, policy: &Policy, asked: &Asked, speech: Speech, by: By) -> (bool, Record) {
    let upstream = Upstream::Http(outside.proxy.to_string());
    let world = outside.world(Policy { upstream, ..policy.clone() });
    let mut stream = match &asked.host {
        _ if by != By::Address => TcpStream::connect(world.tcp).await.unwrap(),
        Host::Name(name) => world.connect(name.as_str(), asked.port).await,
        Host::Address(address) => world.connect_to(*address, asked.port).await,
    };
    let text = said(asked, speech, by);
    let talking = async {
        if by == By::Tunnel && !is_granted(&mut stream, &authority(asked)).await {
            return false;
        }
        if speech != Speech::Tls {
            return ask(stream, &text).await;
        }
        let name = rustls::pki_types::ServerName::try_from(asked.host.to_string()).unwrap();
        match TlsConnector::from(Arc::clone(&outside.client)).connect(name, stream).await {
            Ok(stream) => ask(stream, &text).await,
            Err(_) => false,
        }
    };
    let answered = timeout(LONG, talking).await.expect("an answer, or an end");
    let record = world.records.wait_for(1).await.remove(0);
    (answered, record)
}

/// Whether the proxy grants a tunnel.
async fn is_granted(stream: &mut TcpStream, authority: &str) -> bool {
    let head = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    read_head(stream).await.starts_with("HTTP/1.1 200 ")
}

/// Whether the answer is that of a server.
async fn ask<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, text: &str) -> bool {
    if stream.write_all(text.as_bytes()).await.is_err() {
        return false;
    }
    let _ = stream.flush().await;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    head.starts_with(b"HTTP/1.1 200 ")
}

fn target(asked: &Asked, speech: Speech) -> Target {
    let scheme = match (speech, asked.upgrade()) {
        (Speech::Http, false) => "http",
        (Speech::Http, true) => "ws",
        (Speech::Tls, false) => "https",
        (Speech::Tls, true) => "wss",
        (Speech::Other, _) => "tcp",
    };
    let path = (speech != Speech::Other).then(|| asked.path().clone());
    Target { scheme: scheme.to_owned(), host: asked.host.clone(), port: asked.port, path }
}

fn compare(explained: &Explanation, answered: bool, record: &Record) -> Result<(), TestCaseError> {
    prop_assert_eq!(explained.allowed, answered, "{:?} {:?}", explained, record);
    prop_assert_eq!(explained.allowed, record.allowed, "{:?} {:?}", explained, record);
    if !explained.allowed {
        prop_assert_eq!(Some(explained.because), record.because.as_deref(), "{:?} {:?}", explained, record);
    }
    // Where several rules together let only HTTP pass, either may be named.
    if explained.because == "protocol" {
        return Ok(());
    }
    // Records of refused requests say the host too: `HOST at PLACE`.
    let recorded = record.rule.as_deref().map(|rule| rule.rsplit(' ').next().unwrap_or(rule));
    let named = explained.rule.as_ref().map(|rule| rule.at.as_str());
    prop_assert_eq!(named, recorded, "{:?} {:?}", explained, record);
    Ok(())
}

#[test]
fn what_is_explained_is_what_happens() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outside = runtime.block_on(Outside::start());
    let ways = [
        (Speech::Http, By::Address),
        (Speech::Tls, By::Address),
        (Speech::Other, By::Address),
        (Speech::Http, By::Tunnel),
        (Speech::Tls, By::Tunnel),
        (Speech::Other, By::Tunnel),
        (Speech::Http, By::Url),
    ];
    let seen = std::cell::RefCell::new(std::collections::BTreeMap::<String, u32>::new());
    // Methods in lower case are refused as well, by what reads heads, and for that.
    let asked = asked().prop_filter("a method", |asked| asked.method() != "post");
    let strategy =
        (any_policy(), asked, select(ways.to_vec())).prop_filter("what comes to us", |(_, asked, (_, by))| {
            match by {
                // Taken to the resolver before that.
                By::Address => asked.port != explain::DNS,
                By::Tunnel => true,
                // Each request is seen, also where nobody looks at connections.
                By::Url => asked.method() != "TRACE",
            }
        });
    let complete = |seen: &std::collections::BTreeMap<String, u32>| {
        ways.iter().all(|(speech, by)| {
            let denied = if *by == By::Address { "no-rule" } else { "resolver" };
            ["rule", denied].iter().all(|because| seen.contains_key(&format!("{speech:?} {by:?} {because}")))
        })
    };
    // What is rare takes more of them.
    for _ in 0..10 {
        if complete(&seen.borrow()) {
            break;
        }
        let cases = TestRunner::new(Config::with_cases(400)).run(&strategy, |(mut policy, asked, (speech, by))| {
            // Whatever a host means, somebody may dial it: that is judged elsewhere.
            policy.dial_allow = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
            let target = target(&asked, speech);
            let method = (speech != Speech::Other).then(|| asked.method());
            let (mode, transport) = (EgressMode::Allowlist, Attached::Transparent);
            let egress = Egress { mode, policy: policy.clone(), transport };
            let explained = by_egress(&egress, &target, method, asked.headers(), &[], TODAY);
            let (answered, record) = runtime.block_on(live(&outside, &policy, &asked, speech, by));
            *seen.borrow_mut().entry(format!("{speech:?} {by:?} {}", explained.because)).or_default() += 1;
            compare(&explained, answered, &record)
        });
        cases.unwrap();
    }
    // Each way of speaking was let through and refused.
    assert!(complete(&seen.borrow()), "{seen:?}");
}

/// Where datagrams of a sandbox arrive, and where their server is.
const INSIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 7);
const SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 8);

/// Whether a datagram arrives by the live data path, and what was recorded of it.
async fn live_udp(policy: &Policy, name: &DnsName, port: u16) -> (bool, Record) {
    let server = tokio::net::UdpSocket::bind((SERVER, port)).await.unwrap();
    let records = Arc::new(Records::default());
    let sink = Arc::clone(&records) as Arc<dyn Sink>;
    let policy = Policy { hosts: [(name.clone(), vec![SERVER.into()])].into(), ..policy.clone() };
    let sandbox = Sandbox::new("project".into(), "sandbox".into(), sink, testing::generation(1, policy));
    let shared = Shared {
        clock: || "2026-06-15T12:00:00Z".parse().unwrap(),
        ..Shared::within(Limits { udp_idle: Duration::from_millis(20), ..Limits::default() })
    };
    let world = served(Arc::new(sandbox), records, Arc::new(shared));
    let inside = UdpSocket::bind((INSIDE, port)).unwrap();
    world.service.add_listeners(Listeners { udp: vec![inside], ..Listeners::default() }).unwrap();
    world.meanings.datagrams.lock().unwrap().insert(INSIDE.into(), world.address(name.as_str()).into());
    let client = tokio::net::UdpSocket::bind(here()).await.unwrap();
    client.send_to(b"hello", (INSIDE, port)).await.unwrap();
    // Of one that is let through once its flow rests.
    let record = world.records.wait_for(1).await.remove(0);
    let arrived = server.try_recv(&mut [0; 16]).is_ok();
    world.service.stop().await;
    (arrived, record)
}

#[test]
fn what_is_explained_of_datagrams_is_what_happens() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Ports that everybody may listen to, and names: addresses would be somebody's.
    let asked = asked()
        .prop_filter("a name and a port of ours", |asked| matches!(asked.host, Host::Name(_)) && asked.port > 1024);
    let strategy = (any_policy(), asked);
    let seen = std::cell::RefCell::new(std::collections::BTreeMap::<&str, u32>::new());
    for _ in 0..10 {
        if ["rule", "no-rule"].iter().all(|because| seen.borrow().get(because).is_some_and(|times| *times >= 5)) {
            return;
        }
        let cases = TestRunner::new(Config::with_cases(200)).run(&strategy, |(mut policy, asked)| {
            policy.dial_allow = vec!["127.0.0.0/8".parse().unwrap()];
            let Host::Name(name) = asked.host.clone() else { unreachable!("filtered") };
            let target = Target { scheme: "udp".to_owned(), host: asked.host.clone(), port: asked.port, path: None };
            let explained = by_policy(&policy, &target, None, asked.headers(), &[], TODAY);
            let (arrived, record) = runtime.block_on(live_udp(&policy, &name, asked.port));
            *seen.borrow_mut().entry(explained.because).or_default() += 1;
            compare(&explained, arrived, &record)
        });
        cases.unwrap();
    }
    panic!("not each was seen often enough: {seen:?}");
}
