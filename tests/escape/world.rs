//! What is outside: a name server, web servers with and without TLS, and sinks, beyond the engine's uplink, and some on
//! the engine's own machine. Everything that arrives is written down.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::engine::Engine;
use crate::name_server;

/// Where the world serves: the far end of the engine's uplink.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// The engine's own end of it: a public address of the machine that the daemon runs on.
pub const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// An address that no rule names.
pub const FOREIGN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

/// The same of the other family.
pub const FOREIGN_6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);

/// Where the world listens on every address of the host.
pub const EVERYWHERE: [u16; 2] = [2375, 7777];

/// Where it listens at [`SERVER`], by TCP, although no rule and no control leads there.
pub const SHUT: [u16; 4] = [22, 853, 8080, 8443];

/// An address that no name leads to unless the policy says so.
pub const PRIVATE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);

/// Where clouds give credentials to whoever asks.
pub const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// Where what must not be reached is served all the same: an attempt that gets through gets something.
const FORBIDDEN: [IpAddr; 5] = [
    IpAddr::V4(FOREIGN),
    IpAddr::V6(FOREIGN_6),
    IpAddr::V4(PRIVATE),
    IpAddr::V4(METADATA),
    IpAddr::V4(Ipv4Addr::LOCALHOST),
];

/// How a record of a TLS handshake begins.
const HANDSHAKE: u8 = 22;

/// Names and what the world's name server says of them.
pub const NAMES: &[(&str, IpAddr)] = &[
    ("open.example.org", IpAddr::V4(SERVER)),
    ("api.example.org", IpAddr::V4(SERVER)),
    ("a.wild.example.org", IpAddr::V4(SERVER)),
    ("other.example.net", IpAddr::V4(SERVER)),
    // Allowed names that lead where nobody may be led.
    ("loopback.example.org", IpAddr::V4(Ipv4Addr::LOCALHOST)),
    ("private.example.org", IpAddr::V4(PRIVATE)),
    ("metadata.example.org", IpAddr::V4(METADATA)),
    ("host.example.org", IpAddr::V4(HOST)),
    ("headers.example.org", IpAddr::V4(SERVER)),
    ("expired.example.org", IpAddr::V4(SERVER)),
    ("denied.wild.example.org", IpAddr::V4(SERVER)),
];

/// Names that are other names.
pub const ALIASES: &[(&str, &str)] = &[("alias.example.org", "private.example.org")];

/// What arrived: `dns open.example.org`, `http api.example.org GET /v1/x`, `hello 443 bytes`, `tls open.example.org`, `tcp 9999 text`, `udp 5353 text`.
#[derive(Clone, Default)]
pub struct Arrivals(Arc<Mutex<Vec<String>>>);

impl Arrivals {
    fn add(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }

    /// Everything that arrived and holds `text`.
    pub fn with(&self, text: &str) -> Vec<String> {
        self.0.lock().unwrap().iter().filter(|arrival| arrival.contains(text)).cloned().collect()
    }
}

/// The servers; they end with the test process.
pub struct World {
    pub arrivals: Arrivals,
    /// Who the TLS servers' certificates are signed by, PEM.
    pub authority: String,
}

impl World {
    /// Starts everything in the network namespace of `engine` and beyond its uplink.
    pub fn start(engine: &Engine) -> Self {
        let arrivals = Arrivals::default();
        let inside = engine.namespaces();
        let net = format!("--net={}", engine.dir().join("outside").display());
        let far = |args: &[&str]| engine.as_root("nsenter").args([&net, "ip"]).args(args).ok();
        for address in FORBIDDEN.iter().filter(|address| !address.is_loopback()) {
            let nodad: &[&str] = if address.is_ipv6() { &["nodad"] } else { &[] };
            far(&[&["address", "add", &address.to_string(), "dev", "lo"], nodad].concat());
        }
        // IPv4 has its route; these two only meet on the link.
        far(&["address", "add", "fd00:51::1/64", "dev", "outside", "nodad"]);
        let ours = |args: &[&str]| engine.as_root("ip").args(args).ok();
        ours(&["address", "add", "fd00:51::2/64", "dev", "uplink", "nodad"]);
        ours(&["route", "add", &FOREIGN_6.to_string(), "via", "fd00:51::1"]);
        let tcp = |address: IpAddr, port: u16| {
            let bind = || TcpListener::bind((address, port));
            let bound = if is_here(address) { inside.within_network(bind) } else { inside.outside(bind) };
            bound.expect("a port of the world")
        };
        let server = IpAddr::V4(SERVER);
        let addresses = || FORBIDDEN.into_iter().chain([server]);
        let (authority, tls) = certificates();

        let (socket, seen) = (datagram_socket(engine, server, 53), arrivals.clone());
        std::thread::spawn(move || name_server::serve(&socket, NAMES, ALIASES, |name| seen.add(format!("dns {name}"))));
        let proxy = (IpAddr::V4(Ipv4Addr::LOCALHOST), egress::attach::TCP_PORT);
        for (address, port) in addresses().map(|address| (address, 80)).chain([(server, 8080), proxy]) {
            let seen = arrivals.clone();
            serve(tcp(address, port), move |stream| http(stream, "http", &seen));
        }
        for (address, port) in addresses().map(|address| (address, 443)).chain([(server, 8443)]) {
            let (seen, tls) = (arrivals.clone(), Arc::clone(&tls));
            serve(tcp(address, port), move |stream| {
                stream.set_read_timeout(Some(Duration::from_secs(10)))?;
                let mut first = [0; 4096];
                let length = stream.peek(&mut first)?;
                let kind = if first[0] == HANDSHAKE { "hello" } else { "tcp" };
                seen.add(format!("{kind} {port} {}", String::from_utf8_lossy(&first[..length])));
                let mut connection = rustls::ServerConnection::new(Arc::clone(&tls)).map_err(io::Error::other)?;
                let mut socket = stream;
                connection.complete_io(&mut socket)?;
                seen.add(format!("tls {}", connection.server_name().unwrap_or("-")));
                http(rustls::StreamOwned::new(connection, socket), "https", &seen)
            });
        }
        // Speaks first, as ssh does, and then repeats what it is told.
        for port in [22, 9999] {
            let seen = arrivals.clone();
            serve(tcp(server, port), move |mut stream| {
                stream.write_all(b"hello from the world\r\n")?;
                echo_line(stream, &format!("tcp {port}"), &seen)
            });
        }
        // Says nothing first, as a resolver over TLS does.
        let (listener, seen) = (tcp(server, 853), arrivals.clone());
        serve(listener, move |mut stream| {
            let mut first = [0; 64];
            let length = stream.read(&mut first)?;
            seen.add(format!("tcp 853 {}", String::from_utf8_lossy(&first[..length])));
            stream.write_all(&first[..length])
        });
        for port in EVERYWHERE {
            let seen = arrivals.clone();
            let everywhere = tcp(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
            serve(everywhere, move |stream| echo_line(stream, &format!("tcp {port}"), &seen));
        }
        let name = std::os::unix::net::SocketAddr::from_abstract_name(b"sbx-escape-test").unwrap();
        let socket = inside.within_network(|| UnixListener::bind_addr(&name)).expect("a name of the world");
        let seen = arrivals.clone();
        std::thread::spawn(move || {
            for mut stream in socket.incoming().map_while(Result::ok) {
                let mut text = String::new();
                let _ = stream.read_to_string(&mut text);
                seen.add(format!("unix {text}"));
            }
        });
        let datagrams = [
            (server, 443),
            (server, 5353),
            (IpAddr::V4(PRIVATE), 5353),
            (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 7777),
            (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 7777),
        ];
        for (address, port) in datagrams {
            let (socket, seen) = (datagram_socket(engine, address, port), arrivals.clone());
            std::thread::spawn(move || {
                let mut datagram = [0; 2048];
                while let Ok((length, from)) = socket.recv_from(&mut datagram) {
                    seen.add(format!("udp {port} {}", String::from_utf8_lossy(&datagram[..length])));
                    let _ = socket.send_to(&datagram[..length], from);
                }
            });
        }
        Self { arrivals, authority }
    }
}

/// Whether what is served there is on the engine's machine, and not beyond its uplink.
fn is_here(address: IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified()
}

/// A datagram socket of the world; those of IPv6 take nothing else.
fn datagram_socket(engine: &Engine, address: IpAddr, port: u16) -> UdpSocket {
    let make = || {
        let socket = Socket::new(Domain::for_address((address, port).into()), Type::DGRAM, None)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&SocketAddr::from((address, port)).into())?;
        Ok(UdpSocket::from(socket))
    };
    let inside = engine.namespaces();
    let made = if is_here(address) { inside.within_network(make) } else { inside.outside(make) };
    made.expect("a port of the world")
}

fn echo_line(mut stream: TcpStream, kind: &str, seen: &Arrivals) -> io::Result<()> {
    let mut line = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut line)?;
    seen.add(format!("{kind} {}", line.trim_end()));
    stream.write_all(line.as_bytes())
}

fn serve<F>(listener: TcpListener, each: F)
where
    F: Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static,
{
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let each = each.clone();
            // What a client does wrong is the client's business.
            std::thread::spawn(move || drop(each(stream)));
        }
    });
}

/// One certificate for every name of the world, and the authority that signed it.
fn certificates() -> (String, Arc<rustls::ServerConfig>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = parameters.self_signed(&key).unwrap();
    let pem = authority.pem();
    let issuer = rcgen::Issuer::new(parameters, key);
    let names: Vec<String> = NAMES.iter().map(|(name, _)| (*name).to_owned()).collect();
    let leaf_key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(names).unwrap().signed_by(&leaf_key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            rustls::pki_types::PrivateKeyDer::try_from(leaf_key.serialize_der()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    (pem, Arc::new(config))
}

/// Answers one request after the other: `/redirect` leads elsewhere, everything else is told back.
fn http(stream: impl Read + Write, kind: &str, seen: &Arrivals) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line.trim_end().is_empty() {
                break;
            }
            head.push(line.trim_end().to_owned());
        }
        let headers: BTreeMap<String, String> = head
            .iter()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let host = headers.get("host").map_or("-", String::as_str);
        let request = head.first().map_or("", String::as_str);
        let token = headers.get("x-token").map_or("-", String::as_str);
        seen.add(format!("{kind} {host} {request} token={token} {}", String::from_utf8_lossy(&body)));
        let answer = if request.contains(" /redirect") {
            "HTTP/1.1 302 Found\r\nLocation: http://other.example.net/landed\r\nContent-Length: 0\r\n\r\n".to_owned()
        } else if headers.contains_key("upgrade") {
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n".to_owned()
        } else {
            let mark = headers.get("sbx-hop").filter(|_| request.contains(" /marked"));
            let mark = mark.map(|mark| format!("mark={mark}\n")).unwrap_or_default();
            let text = format!("world says {request}\n{mark}");
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())
        };
        reader.get_mut().write_all(answer.as_bytes())?;
        reader.get_mut().flush()?;
    }
}
