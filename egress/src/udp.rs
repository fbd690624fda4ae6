//! Datagrams, for rules of protocol `udp`.
//!
//! What is sent to a synthetic address reaches a socket that is bound to every address, and the kernel tells which one it
//! was for. Each client address and destination is a flow with a socket of its own outside.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use schema::policy::Host;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::coop::consume_budget;
use tokio::time::timeout;

use crate::audit::Spoken;
use crate::connection::{self, NoServer};
use crate::destination::Destination;
use crate::dial::Dialled;
use crate::flows::{FlowGuard, Refused};
use crate::limits::Limits;
use crate::refusals::Refusals;
use crate::sandbox::Sandbox;
use crate::shared::Shared;
use crate::synthetic;
use crate::tasks::Tasks;
use crate::throttle::Pace;
use crate::verdict::Transport;

/// Largest payload of a datagram, rounded up.
const MAX_DATAGRAM: usize = 64 * 1024;

/// Datagrams that wait for their flow; what does not fit is lost, as datagrams are.
const WAITING: usize = 64;

/// Datagrams that a relay takes in a row before others have their turn.
const TURN: usize = 64;

/// Bytes that wait in all flows of a sandbox together.
const WAITING_BYTES: usize = 4 << 20;

/// What all relays of a sandbox have together.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    /// How often a flow may begin.
    pace: Arc<Pace>,
    /// Room for what waits, a permit for each byte.
    room: Arc<Semaphore>,
}

impl Bounds {
    /// Those of one sandbox.
    pub fn new(limits: &Limits, now: Instant) -> Self {
        let pace = Arc::new(Pace::new(limits.connection_rate, now));
        Self { pace, room: Arc::new(Semaphore::new(WAITING_BYTES)) }
    }
}

/// A datagram that waits, and its room.
type Waiting = (Bytes, OwnedSemaphorePermit);

thread_local! {
    /// Of use for as long as one receipt takes: a relay of a port that nobody uses has none.
    static RECEIVED: RefCell<Vec<u8>> = RefCell::new(vec![0; MAX_DATAGRAM]);
    static ANSWER: RefCell<Vec<u8>> = RefCell::new(vec![0; MAX_DATAGRAM]);
}

/// Who sent, and to which address.
type Key = (SocketAddr, IpAddr);

/// Relays datagrams of one port.
pub(crate) struct Relay {
    sandbox: Arc<Sandbox>,
    shared: Arc<Shared>,
    refusals: Arc<Refusals>,
    destination: Arc<dyn Destination>,
    tasks: Tasks,
    socket: UdpSocket,
    state: UdpSocketState,
    port: u16,
    bounds: Bounds,
    flows: Mutex<HashMap<Key, mpsc::Sender<Waiting>>>,
}

impl Relay {
    /// Relays what comes to `socket`.
    pub fn new(
        sandbox: Arc<Sandbox>,
        shared: Arc<Shared>,
        refusals: Arc<Refusals>,
        destination: Arc<dyn Destination>,
        tasks: Tasks,
        socket: UdpSocket,
        bounds: Bounds,
    ) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let port = socket.local_addr()?.port();
        let flows = Mutex::default();
        Ok(Self { sandbox, shared, refusals, destination, tasks, socket, state, port, bounds, flows })
    }

    /// Serves, for as long as it is polled.
    pub async fn serve(self: Arc<Self>) {
        let mut taken = 0;
        loop {
            if let Err(error) = self.socket.readable().await {
                return self.lost(&error);
            }
            match RECEIVED.with_borrow_mut(|buffer| self.receive(buffer)) {
                Ok(datagrams) => taken += datagrams,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // What an earlier answer met: nobody listens any more.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => taken += 1,
                Err(error) => return self.lost(&error),
            }
            // Waiting for a socket that has more never suspends, whoever else would have a turn.
            if taken >= TURN {
                taken = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    fn lost(&self, error: &io::Error) {
        tracing::error!(%error, port = self.port, "datagrams are not relayed any more");
    }

    /// Takes what has come; how many datagrams that were.
    fn receive(self: &Arc<Self>, buffer: &mut [u8]) -> io::Result<usize> {
        let mut meta = [RecvMeta::default()];
        self.socket.try_io(Interest::READABLE, || {
            self.state.recv(UdpSockRef::from(&self.socket), &mut [IoSliceMut::new(buffer)], &mut meta)
        })?;
        let [meta] = meta;
        let received = buffer.get(..meta.len).unwrap_or_default();
        let Some(to) = meta.dst_ip else { return Ok(1) };
        let key = (meta.addr, to.to_canonical());
        if received.is_empty() {
            self.take(key, received);
        }
        // Several of one sender may come as one.
        let datagrams = received.chunks(meta.stride.max(1));
        let many = datagrams.len().max(1);
        for datagram in datagrams {
            self.take(key, datagram);
        }
        Ok(many)
    }

    /// Gives a datagram to its flow, which is opened if need be.
    fn take(self: &Arc<Self>, key: Key, datagram: &[u8]) {
        let Ok(length) = u32::try_from(datagram.len()) else { return };
        let Ok(room) = Arc::clone(&self.bounds.room).try_acquire_many_owned(length) else { return };
        let waiting = (Bytes::copy_from_slice(datagram), room);
        let mut flows = self.lock();
        let waiting = match flows.get(&key) {
            Some(flow) => match flow.try_send(waiting) {
                Err(mpsc::error::TrySendError::Closed(waiting)) => waiting,
                Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => return,
            },
            None => waiting,
        };
        let Some((host, flow)) = self.open(self.destination.of_datagram(key.1)) else { return };
        let (sender, receiver) = mpsc::channel(WAITING);
        let _ = sender.try_send(waiting);
        flows.insert(key, sender);
        drop(flows);
        let relay = Arc::clone(self);
        self.tasks.spawn(async move {
            relay.flow(key, &host, &flow, receiver).await;
            // Its successor may be there already.
            if let Entry::Occupied(known) = relay.lock().entry(key)
                && known.get().is_closed()
            {
                known.remove();
            }
        });
    }

    fn open(&self, to: IpAddr) -> Option<(Host, FlowGuard)> {
        let (host, name) = if synthetic::contains(to) {
            let Some(name) = self.sandbox.pool.find(to, Instant::now()) else {
                self.refusals.datagram(&to.to_string(), self.port, "unknown-address");
                return None;
            };
            (Host::Name(name.name().clone()), Some(name))
        } else {
            (Host::Address(to), None)
        };
        match FlowGuard::open(&self.sandbox, &self.shared, host.clone(), self.port, Transport::Udp, name) {
            // Nothing is looked at in datagrams. Only what is allowed is counted: what is not must not be in its way.
            Ok((flow, _)) if self.bounds.pace.now() => {
                flow.settle(&self.shared, None).ok()?;
                Some((host, flow))
            }
            Ok(_) | Err(Refused::TooMany) => {
                self.refusals.datagram(&host.to_string(), self.port, "too-many-flows");
                None
            }
            Err(Refused::Policy(denial)) => {
                self.refusals.denied(Spoken::Udp, &host, self.port, &denial);
                None
            }
        }
    }

    /// Relays one flow until it rests for too long, or has to end; records it.
    async fn flow(&self, key: Key, host: &Host, flow: &FlowGuard, datagrams: mpsc::Receiver<Waiting>) {
        flow.ended(match self.dial(host, flow).await {
            Ok(outside) => flow.record(Spoken::Udp, self.pass(key, &outside, flow, datagrams).await),
            Err(why) => connection::failed(&self.sandbox, flow, Spoken::Udp, &why),
        });
    }

    async fn dial(&self, host: &Host, flow: &FlowGuard) -> Result<UdpSocket, NoServer> {
        let generation = Arc::clone(&self.sandbox.generation());
        let dialled = tokio::select! {
            biased;
            () = flow.cancelled() => return Err(NoServer::Revoked),
            dialled = self.shared.dialer.dial_udp(&generation, host, self.port, self.shared.today()) => dialled,
        };
        let Dialled { stream, endpoint } = dialled.map_err(NoServer::Failed)?;
        flow.leads_to(&self.shared, endpoint);
        Ok(stream)
    }

    /// Passes datagrams both ways; why it ended, if not for want of them.
    async fn pass(
        &self,
        key: Key,
        outside: &UdpSocket,
        flow: &FlowGuard,
        mut datagrams: mpsc::Receiver<Waiting>,
    ) -> Option<&'static str> {
        let idle = self.shared.limits.udp_idle;
        loop {
            // Errors are what earlier datagrams met: nobody listens, no route. They may be heard the next time.
            let moved = timeout(idle, async {
                tokio::select! {
                    datagram = datagrams.recv() => {
                        let (datagram, _room) = datagram?;
                        if outside.send(&datagram).await.is_ok() {
                            flow.sent(datagram.len() as u64);
                        }
                    }
                    readable = outside.readable() => {
                        readable.ok()?;
                        ANSWER.with_borrow_mut(|answer| {
                            if let Ok(length) = outside.try_recv(answer) {
                                flow.received(length as u64);
                                self.send_back(key, &answer[..length]);
                            }
                        });
                        // As in `serve`.
                        consume_budget().await;
                    }
                }
                Some(())
            });
            tokio::select! {
                biased;
                () = flow.cancelled() => return Some("revoked"),
                moved = moved => match moved {
                    Ok(Some(())) => {}
                    Ok(None) | Err(_) => return None,
                },
            }
        }
    }

    /// Sends an answer from the very address that was asked; it is lost if the client does not take it.
    fn send_back(&self, (client, from): Key, contents: &[u8]) {
        let src_ip = Some(from);
        let transmit = Transmit { destination: client, ecn: None, contents, segment_size: None, src_ip };
        let _ =
            self.socket.try_io(Interest::WRITABLE, || self.state.try_send(UdpSockRef::from(&self.socket), &transmit));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, mpsc::Sender<Waiting>>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
