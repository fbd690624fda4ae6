//! One program for the tests of `attach`: the daemon, its child, and what runs inside a sandbox or beside it.
#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::panic, reason = "only tests use it")]
#![allow(unsafe_code, reason = "the address a datagram was sent to is told by the C interface only")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead as _, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use egress::attach::{self, AttachError, Attached, Plan, Target};
use egress::dial::Own;
use egress::direct::Direct;
use egress::generation::Generation;
use egress::listeners::Listeners;
use egress::networks::{Addresses, Networks};
use egress::shared::Shared;
use schema::Name;
use schema::policy::{Inbound, Policy, PortRange};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// How long anything may take that works.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to listen for an answer that may never come.
const SILENCE: Duration = Duration::from_millis(400);

/// Where the sandbox is on its network.
const HERE: [&str; 2] = ["10.89.7.2", "fd07::2"];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [word] if *word == attach::ARGUMENT => return attach::child::main(),
        ["serve", pid, started, udp, peers, gate, without] => {
            lack(without);
            serve(pid, started, udp, peers, gate);
        }
        ["direct", pid, started, peers, policy] => direct(pid, started, peers, policy),
        ["tcp", address] => println!("{}", timed(|| tcp(address))),
        ["udp", address] => println!("{}", timed(|| udp(address, "0.0.0.0"))),
        ["udp-from", source, address] => println!("{}", timed(|| udp(address, source))),
        ["ping", address] => println!("{}", timed(|| ping(address))),
        ["hold", protocol, address] => hold(protocol, address),
        ["echo", port] => echo(port),
        ["talk", address] => talk(address, None),
        ["talk-from", source, address] => talk(address, Some(source)),
        ["chatter", port] => chatter(port),
        ["ear", port] => ear(port),
        ["hear-from", source, address] => hear(address, source),
        ["tcp-from", source, address] => println!("{}", timed(|| tcp_from(address, source))),
        ["own"] => egress::dial::own_addresses().unwrap().iter().for_each(|own| println!("{own}")),
        words => panic!("{words:?}"),
    }
    ExitCode::SUCCESS
}

/// What came of it, and whether it took longer than a refusal may: the quickest of three, as other things run too.
fn timed(work: impl Fn() -> io::Result<String>) -> String {
    let mut text = String::new();
    for _ in 0..3 {
        let began = Instant::now();
        let result = work();
        let took = began.elapsed();
        text = match result {
            Ok(text) => return text,
            Err(error) if took <= Duration::from_millis(100) => return format!("refused {:?}", error.kind()),
            Err(error) => format!("late {:?} after {took:?}", error.kind()),
        };
    }
    text
}

fn tcp(address: &str) -> io::Result<String> {
    let mut connection = TcpStream::connect_timeout(&address.parse().unwrap(), PATIENCE)?;
    let mut text = String::new();
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.read_to_string(&mut text)?;
    Ok(text)
}

fn tcp_from(address: &str, source: &str) -> io::Result<String> {
    let mut connection = connect_from(address, source)?;
    let mut text = String::new();
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.read_to_string(&mut text)?;
    Ok(text)
}

fn connect_from(address: &str, source: &str) -> io::Result<TcpStream> {
    let address: SocketAddr = address.parse().unwrap();
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::from((source.parse::<IpAddr>().unwrap(), 0)).into())?;
    socket.connect_timeout(&address.into(), PATIENCE)?;
    Ok(socket.into())
}

fn udp(address: &str, source: &str) -> io::Result<String> {
    let address: SocketAddr = address.parse().unwrap();
    let source = if address.is_ipv6() && source == "0.0.0.0" { "::" } else { source };
    let socket = UdpSocket::bind((source, 0))?;
    socket.set_read_timeout(Some(SILENCE))?;
    socket.send_to(b"ask", address)?;
    let mut bytes = [0; 256];
    let (length, from) = socket.recv_from(&mut bytes)?;
    Ok(format!("{} from {from}", String::from_utf8_lossy(&bytes[..length])))
}

fn ping(address: &str) -> io::Result<String> {
    let address: IpAddr = address.parse().unwrap();
    let (domain, protocol, kind) = match address {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.set_read_timeout(Some(SILENCE))?;
    // Echo request, identifier 1, sequence 1; of IPv4 with its checksum, of IPv6 the kernel makes it.
    let sum = !(u16::from_be_bytes([kind, 0]) + 2);
    let [high, low] = sum.to_be_bytes();
    let echo = if address.is_ipv4() { [kind, 0, high, low, 0, 1, 0, 1] } else { [kind, 0, 0, 0, 0, 1, 0, 1] };
    socket.send_to(&echo, &SocketAddr::from((address, 0)).into())?;
    let mut bytes = [0; 256];
    let began = Instant::now();
    loop {
        let length = (&socket).read(&mut bytes)?;
        let answer = if address.is_ipv4() { &bytes[20..length] } else { &bytes[..length] };
        // Our own question comes by too, on `lo`.
        if matches!(answer.first(), Some(0 | 129)) {
            return Ok("answered".to_owned());
        }
        if began.elapsed() > SILENCE {
            return Err(ErrorKind::TimedOut.into());
        }
    }
}

/// Takes a port until standard input ends.
fn hold(protocol: &str, address: &str) {
    let held: Box<dyn std::any::Any> = match protocol {
        "tcp" => Box::new(TcpListener::bind(address).unwrap()),
        _ => Box::new(UdpSocket::bind(address).unwrap()),
    };
    println!("held");
    let _ = io::stdin().read_to_end(&mut Vec::new());
    drop(held);
}

/// Answers on a port of every address, and on the next one says back what it hears, until standard input ends.
fn echo(port: &str) {
    let port: u16 = port.parse().unwrap();
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
    let parrot = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port + 1)).unwrap();
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
    thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let _ = connection.write_all(b"echo");
        }
    });
    thread::spawn(move || {
        for mut connection in parrot.incoming().flatten() {
            thread::spawn(move || io::copy(&mut connection.try_clone().unwrap(), &mut connection));
        }
    });
    thread::spawn(move || {
        let mut bytes = [0; 64];
        while let Ok((length, from)) = socket.recv_from(&mut bytes) {
            let _ = socket.send_to(&[b"echo ", &bytes[..length]].concat(), from);
        }
    });
    println!("listens");
    let _ = io::stdin().read_to_end(&mut Vec::new());
}

/// Holds one connection, and says each line of standard input over it.
fn talk(address: &str, source: Option<&str>) {
    let connected = match source {
        Some(source) => connect_from(address, source),
        None => TcpStream::connect_timeout(&address.parse().unwrap(), PATIENCE),
    };
    let mut connection = connected.unwrap();
    connection.set_read_timeout(Some(SILENCE)).unwrap();
    for line in io::stdin().lock().lines() {
        let mut bytes = [0; 64];
        let said = connection.write_all(line.unwrap().as_bytes()).and_then(|()| connection.read(&mut bytes));
        match said {
            Ok(length) => println!("heard {}", String::from_utf8_lossy(&bytes[..length])),
            Err(error) => println!("lost {:?}", error.kind()),
        }
    }
}

/// Greets one client, and says each line of standard input to it; clients say nothing.
fn chatter(port: &str) {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port.parse::<u16>().unwrap())).unwrap();
    println!("listens");
    let mut connection = listener.accept().unwrap().0;
    connection.set_read_timeout(Some(SILENCE)).unwrap();
    connection.write_all(b"hello").unwrap();
    for line in io::stdin().lock().lines() {
        let said = connection.write_all(line.unwrap().as_bytes()).and_then(|()| connection.read(&mut [0]));
        println!("{said:?}");
    }
}

/// Hears one client, and tells what it has heard so far for each line of standard input.
fn ear(port: &str) {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port.parse::<u16>().unwrap())).unwrap();
    let heard = Arc::new(std::sync::Mutex::new(String::new()));
    let hearing = Arc::clone(&heard);
    thread::spawn(move || {
        let mut connection = listener.accept().unwrap().0;
        let mut bytes = [0; 64];
        while let Ok(length @ 1..) = connection.read(&mut bytes) {
            hearing.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
    });
    println!("listens");
    for _ in io::stdin().lock().lines() {
        println!("heard {}", heard.lock().unwrap());
    }
}

/// Says what it hears first, and holds the connection.
fn hear(address: &str, source: &str) {
    let mut bytes = [0; 64];
    let mut connection = connect_from(address, source).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = connection.read(&mut bytes).unwrap();
    println!("heard {}", String::from_utf8_lossy(&bytes[..length]));
    let _ = io::stdin().read_to_end(&mut Vec::new());
}

fn list<T: FromStr + Ord>(text: &str) -> BTreeSet<T> {
    text.split(',').filter(|part| *part != "-").map(|part| part.parse().unwrap_or_else(|_| panic!("{part}"))).collect()
}

/// `PEER,PEER`, who come in at every port of [`HERE`]; after a `/` at ports: `tcp:7777/udp:53`.
fn networks(text: &str) -> Networks {
    let (peers, ports) = text.split_once('/').unwrap_or((text, "tcp:1-65535/udp:1-65535"));
    let mut inbound = Inbound::default();
    for word in ports.split('/') {
        let Some((transport, range)) = word.split_once(':') else { continue };
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let range = PortRange { first: first.parse().unwrap(), last: last.parse().unwrap() };
        if transport == "tcp" { &mut inbound.tcp } else { &mut inbound.udp }.push(range);
    }
    let policy = Policy { inbound: [(Name::new("net").unwrap(), inbound)].into(), ..Policy::default() };
    Networks::new(&addresses(peers), &policy)
}

/// Those of the network that these peers are on.
fn addresses(peers: &str) -> Addresses {
    let own = [("net".to_owned(), HERE.map(|text| text.parse().unwrap()).into())].into();
    Addresses { own, peers: list(peers) }
}

/// Has the kernel lack devices, as far as we and our child can tell.
fn lack(devices: &str) {
    #[cfg(feature = "failpoints")]
    egress::defence::turn_off(devices.trim_matches('-')).unwrap();
    #[cfg(not(feature = "failpoints"))]
    assert_eq!(devices, "-", "needs the feature `failpoints`");
}

/// The daemon: attaches, tells, and answers whoever comes with where they wanted to go. Lines of standard input are
/// further wishes.
fn serve(pid: &str, started: &str, udp: &str, peers: &str, gate: &str) {
    let program = Path::new("/proc/self/exe");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let plan = Plan { udp: list(udp), networks: networks(peers), gate: gate == "gate" };
    let since = Instant::now();
    let attached = loop {
        let attached = Target::of(pid.parse().unwrap(), started.parse().unwrap())
            .and_then(|target| Ok((runtime.block_on(attach::attach(program, &target, &plan))?, target)));
        // As the daemon does: PID 1 may only just have been started.
        let again = matches!(attached, Err(AttachError::NoGate)) && since.elapsed() < Duration::from_secs(10);
        if !again {
            break attached;
        }
    };
    let (attached, target) = match attached {
        Ok(attached) => attached,
        Err(error) => return println!("failed {error:?}: {error}"),
    };
    let Attached { listeners, mut gate, report } = attached;
    let Listeners { tcp, dns_tcp, dns_udp, udp } = listeners;
    let count = [tcp.len(), dns_tcp.len(), dns_udp.len(), udp.len()];
    for listener in tcp {
        answer_streams(listener, "tcp");
    }
    for listener in dns_tcp {
        answer_streams(listener, "dns");
    }
    for socket in dns_udp {
        thread::spawn(move || {
            socket.set_nonblocking(false).unwrap();
            let mut bytes = [0; 64];
            while let Ok((_, from)) = socket.recv_from(&mut bytes) {
                let _ = socket.send_to(b"dns", from);
            }
        });
    }
    udp.into_iter().for_each(answer_datagrams);
    let gated = gate.is_some();
    println!("attached {:?} ipv6={} gate={gated} {count:?} {:?}", report.adapter, report.ipv6, report.problems);
    for line in io::stdin().lock().lines() {
        let line = line.unwrap();
        let done = match line.split_once(' ').unwrap_or((&line, "")) {
            ("open", _) => gate.take().unwrap().open().map_err(|error| error.to_string()),
            ("udp", ports) => runtime
                .block_on(attach::add_udp(program, &target, &list(ports)))
                .map(|sockets| sockets.into_iter().for_each(answer_datagrams))
                .map_err(|error| error.to_string()),
            ("peers", peers) => runtime
                .block_on(attach::update_networks(program, &target, &networks(peers)))
                .map_err(|error| error.to_string()),
            other => panic!("{other:?}"),
        };
        println!("{}", done.map_or_else(|error| format!("failed {error}"), |()| "done".to_owned()));
    }
}

/// The daemon of a sandbox on the engine's network. A line of standard input is `policy JSON`,
/// `peers LIST`, `resolve NAME` or `open`.
fn direct(pid: &str, started: &str, peers: &str, policy: &str) {
    let program = Path::new("/proc/self/exe");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let today = jiff::civil::date(2026, 1, 1);
    let read = |text: &str| Arc::new(Generation::new(1, serde_json::from_str(text).unwrap(), BTreeMap::new()));
    let begun = runtime.block_on(async {
        let target = Target::of(pid.parse().unwrap(), started.parse().unwrap()).map_err(|error| error.to_string())?;
        let attached = attach::attach_direct(program, &target, false).await;
        let (attached, attach::Direct { feeder, standing }) = attached.map_err(|error| format!("{error:?}"))?;
        let peers = addresses(peers);
        let direct = Direct::begin(Box::new(feeder), standing, read(policy), peers, Own::nobody(), today).await?;
        Ok::<_, String>((attached, Arc::new(direct)))
    });
    let (attached, direct) = match begun {
        Ok(begun) => begun,
        Err(why) => return println!("failed {why}"),
    };
    for listener in attached.listeners.dns_tcp {
        answer_streams(listener, "dns");
    }
    println!("attached {:?} dns={} open={}", attached.report.adapter, attached.listeners.dns_udp.len(), direct.count());
    let shared = Shared::default();
    for line in io::stdin().lock().lines() {
        let line = line.unwrap();
        let said = match line.split_once(' ').unwrap_or((&line, "")) {
            ("policy", text) => runtime.block_on(direct.enforce(|| (read(text), today))).map(|()| "done".to_owned()),
            ("resolve", name) => {
                let name = name.parse().unwrap();
                // Several at once, as questions come.
                let (first, second) = runtime
                    .block_on(async { tokio::join!(direct.resolve(&shared, &name), direct.resolve(&shared, &name)) });
                let told = first.and(second).map(|meaning| format!("{:?}", meaning.addresses));
                told.map_err(|why| format!("{why:?}"))
            }
            ("open", _) => Ok(direct.count().to_string()),
            ("peers", peers) => runtime.block_on(direct.set_peers(addresses(peers))).map(|()| "done".to_owned()),
            _ => panic!("{line}"),
        };
        println!("{}", said.unwrap_or_else(|why| format!("failed {why}")));
    }
}

fn answer_streams(listener: TcpListener, name: &'static str) {
    thread::spawn(move || {
        listener.set_nonblocking(false).unwrap();
        for mut connection in listener.incoming().flatten() {
            let socket = SockRef::from(&connection);
            let v4 = connection.local_addr().unwrap().is_ipv4();
            let meant = if v4 { socket.original_dst_v4() } else { socket.original_dst_v6() };
            let meant = meant.unwrap().as_socket().unwrap();
            let _ = write!(connection, "{name} for {meant}");
        }
    });
}

fn answer_datagrams(socket: UdpSocket) {
    thread::spawn(move || {
        socket.set_nonblocking(false).unwrap();
        while let Ok((from, meant)) = receive(&socket) {
            let _ = socket.send_to(format!("udp for {meant}").as_bytes(), from);
        }
    });
}

/// The next datagram's sender, and the address it was meant for.
fn receive(socket: &UdpSocket) -> io::Result<(SocketAddr, IpAddr)> {
    let mut bytes = [0_u8; 64];
    let mut control = [0_u64; 16];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: zeros are valid for these; every pointer is to a live buffer of the length given with it, and control
    // messages are read as what their type says.
    unsafe {
        let mut name: libc::sockaddr_storage = std::mem::zeroed();
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_name = (&raw mut name).cast();
        message.msg_namelen = u32::try_from(size_of_val(&name)).unwrap();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        if libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) < 0 {
            return Err(io::Error::last_os_error());
        }
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        assert!(!header.is_null(), "the kernel does not tell where it was sent to");
        let data = libc::CMSG_DATA(header);
        let meant: IpAddr = if (*header).cmsg_level == libc::IPPROTO_IP {
            let info: libc::in_pktinfo = data.cast::<libc::in_pktinfo>().read_unaligned();
            Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into()
        } else {
            let info: libc::in6_pktinfo = data.cast::<libc::in6_pktinfo>().read_unaligned();
            Ipv6Addr::from(info.ipi6_addr.s6_addr).into()
        };
        let length = message.msg_namelen;
        let from = if name.ss_family == libc::sa_family_t::try_from(libc::AF_INET).unwrap() {
            let address = (&raw const name).cast::<libc::sockaddr_in>().read();
            SocketAddr::from((Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)), u16::from_be(address.sin_port)))
        } else {
            assert_eq!(usize::try_from(length).unwrap(), size_of::<libc::sockaddr_in6>());
            let address = (&raw const name).cast::<libc::sockaddr_in6>().read();
            SocketAddr::from((Ipv6Addr::from(address.sin6_addr.s6_addr), u16::from_be(address.sin6_port)))
        };
        Ok((from, meant))
    }
}
