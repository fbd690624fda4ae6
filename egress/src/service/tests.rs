mod agree;
mod bounds;
mod chain;
mod direct;
mod dns;
mod ended;
mod socket;
mod tcp;
mod tls;
mod udp;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use schema::policy::{DnsName, Policy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener as Listener, TcpSocket, TcpStream};
use tokio::time::timeout;

use super::*;
use crate::destination::Meant;
use crate::limits::Limits;
use crate::testing::{self, LONG, Records};

/// Where connections were meant to go, by the client's port; and datagrams, by the address they came to.
#[derive(Default)]
struct Meanings {
    connections: Mutex<HashMap<u16, SocketAddr>>,
    datagrams: Mutex<HashMap<IpAddr, IpAddr>>,
}

impl Destination for Meanings {
    fn of(&self, stream: &TcpStream) -> io::Result<Meant> {
        let client = stream.peer_addr()?.port();
        Ok(self.connections.lock().unwrap().get(&client).map_or(Meant::Proxy, |address| Meant::Address(*address)))
    }

    fn of_datagram(&self, to: IpAddr) -> IpAddr {
        self.datagrams.lock().unwrap().get(&to).copied().unwrap_or(to)
    }
}

/// A sandbox that is served on this machine's own addresses.
struct World {
    service: Service,
    records: Arc<Records>,
    meanings: Arc<Meanings>,
    tcp: SocketAddr,
    dns_tcp: SocketAddr,
    dns_udp: SocketAddr,
}

fn here() -> (Ipv4Addr, u16) {
    (Ipv4Addr::LOCALHOST, 0)
}

fn world_with(policy: Policy, limits: Limits) -> World {
    world_sharing(policy, testing::shared(limits))
}

/// One of several that a daemon serves.
fn world_sharing(policy: Policy, shared: Arc<Shared>) -> World {
    let (sandbox, records) = testing::sandbox(policy);
    served(sandbox, records, shared)
}

fn served(sandbox: Arc<Sandbox>, records: Arc<Records>, shared: Arc<Shared>) -> World {
    let tcp = TcpListener::bind(here()).unwrap();
    let dns_tcp = TcpListener::bind(here()).unwrap();
    let dns_udp = UdpSocket::bind(here()).unwrap();
    let addresses = (tcp.local_addr().unwrap(), dns_tcp.local_addr().unwrap(), dns_udp.local_addr().unwrap());
    let listeners = Listeners { tcp: vec![tcp], dns_tcp: vec![dns_tcp], dns_udp: vec![dns_udp], udp: vec![] };
    let meanings = Arc::new(Meanings::default());
    let destination = Arc::clone(&meanings) as Arc<dyn Destination>;
    let service = Service::start_with(sandbox, listeners, shared, destination).unwrap();
    World { service, records, meanings, tcp: addresses.0, dns_tcp: addresses.1, dns_udp: addresses.2 }
}

fn world(policy: Policy) -> World {
    world_with(policy, Limits::default())
}

impl World {
    /// Connects as a client inside would that was meant to reach `address`.
    async fn connect_to(&self, address: impl Into<IpAddr>, port: u16) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(here().into()).unwrap();
        let own = socket.local_addr().unwrap().port();
        self.meanings.connections.lock().unwrap().insert(own, SocketAddr::new(address.into(), port));
        socket.connect(self.tcp).await.unwrap()
    }

    /// The same for a name.
    async fn connect(&self, name: &str, port: u16) -> TcpStream {
        self.connect_to(self.address(name), port).await
    }

    /// What DNS would say.
    fn address(&self, name: &str) -> Ipv4Addr {
        let name: DnsName = name.parse().unwrap();
        self.service.sandbox.pool.lease(&name, 1000, Instant::now()).unwrap().v4().unwrap()
    }
}

/// The records, once the sandbox is not served any more: stopped in order, or dropped.
async fn ended(world: World, in_order: bool) -> Vec<crate::audit::Record> {
    let World { service, records, .. } = world;
    let sandbox = Arc::clone(service.sandbox());
    if in_order {
        service.stop().await;
    } else {
        drop(service);
    }
    let since = Instant::now();
    while sandbox.flows.count() != (0, 0) {
        assert!(since.elapsed() < LONG, "something is open still");
        tokio::task::yield_now().await;
    }
    records.all()
}

/// A server outside, and its port.
async fn server() -> (Listener, u16) {
    let listener = Listener::bind(here()).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

async fn accepted(server: &Listener) -> TcpStream {
    timeout(LONG, server.accept()).await.unwrap().unwrap().0
}

/// That nobody has connected, and nobody will: to be asked when everything else is over.
async fn nobody_came(server: &Listener) {
    assert!(timeout(Duration::from_millis(50), server.accept()).await.is_err(), "somebody connected");
}

async fn heard(stream: &mut TcpStream, text: &[u8]) {
    let mut buffer = vec![0; text.len()];
    timeout(LONG, stream.read_exact(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(buffer.escape_ascii().to_string(), text.escape_ascii().to_string());
}

/// Everything until the end, or the reset.
async fn rest(stream: &mut TcpStream) -> Result<Vec<u8>, io::ErrorKind> {
    let mut rest = Vec::new();
    timeout(LONG, stream.read_to_end(&mut rest)).await.unwrap().map(|_| rest).map_err(|error| error.kind())
}

async fn is_reset(stream: &mut TcpStream) {
    assert_eq!(rest(stream).await, Err(io::ErrorKind::ConnectionReset));
}

/// `because` of each record.
fn becauses(records: &[crate::audit::Record]) -> Vec<&str> {
    records.iter().map(|record| record.because.as_deref().unwrap_or("-")).collect()
}
