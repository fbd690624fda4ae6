//! Every packet of a network namespace, as the kernel shows it to a packet socket.

use std::io::{self, Read as _};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::engine::Engine;

/// All protocols, in network byte order, as packet sockets want it.
const EVERYTHING: i32 = 0x0003u16.to_be() as i32;

/// Numbers of protocols.
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

/// Where a packet went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination {
    pub address: IpAddr,
    /// By its number; extension headers of IPv6 are not looked behind.
    pub protocol: u8,
    /// Of TCP and UDP, where the packet begins with it.
    pub port: Option<u16>,
}

/// A capture under way. Packets count from its start to the look at them.
pub struct Capture {
    seen: Arc<Mutex<Vec<Destination>>>,
    ended: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Capture {
    /// Starts to capture in the network namespace of `engine`.
    pub fn start(engine: &Engine) -> Self {
        let open = || -> io::Result<Socket> {
            let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(EVERYTHING)))?;
            socket.set_read_timeout(Some(Duration::from_millis(50)))?;
            Ok(socket)
        };
        let socket = engine.namespaces().within_network(open).expect("a packet socket");
        let (seen, ended) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let reader = {
            let (seen, ended) = (Arc::clone(&seen), Arc::clone(&ended));
            std::thread::spawn(move || read(socket, &seen, &ended))
        };
        Self { seen, ended, reader: Some(reader) }
    }

    /// How many packets were for a destination that `of_interest` says yes to.
    pub fn count(&self, of_interest: impl Fn(&Destination) -> bool) -> usize {
        self.of(of_interest).len()
    }

    /// Where packets went to that `of_interest` says yes to.
    pub fn of(&self, of_interest: impl Fn(&Destination) -> bool) -> Vec<Destination> {
        self.seen.lock().unwrap().iter().filter(|destination| of_interest(destination)).copied().collect()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = self.reader.take().map(JoinHandle::join);
    }
}

fn read(mut socket: Socket, seen: &Mutex<Vec<Destination>>, ended: &AtomicBool) {
    // The head is enough: the kernel cuts the rest off.
    let mut packet = [0u8; 128];
    while !ended.load(Ordering::Relaxed) {
        match socket.read(&mut packet) {
            Ok(length) => seen.lock().unwrap().extend(destination(&packet[..length])),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => return,
        }
    }
}

/// Where an IP packet goes; nothing for other protocols.
fn destination(packet: &[u8]) -> Option<Destination> {
    let first = *packet.first()?;
    let (address, protocol, payload) = match first >> 4 {
        4 => {
            let address = IpAddr::from(<[u8; 4]>::try_from(packet.get(16..20)?).ok()?);
            // Later fragments have no ports.
            let is_first = (packet[6] & 0x1f, packet[7]) == (0, 0);
            (address, packet[9], packet.get(usize::from(first & 15) * 4..).filter(|_| is_first))
        }
        6 => (IpAddr::from(<[u8; 16]>::try_from(packet.get(24..40)?).ok()?), packet[6], packet.get(40..)),
        _ => return None,
    };
    let ports = payload.filter(|_| matches!(protocol, TCP | UDP));
    let port = ports.and_then(|ports| Some(u16::from_be_bytes([*ports.get(2)?, *ports.get(3)?])));
    Some(Destination { address, protocol, port })
}
