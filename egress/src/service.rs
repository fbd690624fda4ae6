//! Serving one sandbox.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::attach::socket_door::SocketDoor;
use crate::destination::{ByKernel, Destination};
use crate::direct::Direct;
use crate::dns::{self, Resolver};
use crate::generation::Generation;
use crate::handover::Entrance;
use crate::listeners::Listeners;
use crate::networks::Addresses;
use crate::permit::Permit;
use crate::refusals::Refusals;
use crate::sandbox::{Peers, Sandbox};
use crate::shared::Shared;
use crate::tasks::Tasks;
use crate::throttle::Pace;
use crate::transparent::Transparent;
use crate::{handover, udp};

/// How long open connections have to end by themselves when the sandbox is not served any more.
const GRACE: Duration = Duration::from_secs(1);

/// How often it is looked whether another day has begun, on which other rules hold.
const LOOK: Duration = Duration::from_secs(30);

/// How often it is looked whether names have to be looked up again, where the sandbox itself connects.
const RENEW: Duration = Duration::from_secs(5);

/// Everything that serves one sandbox.
///
/// # Guarantees
/// Nothing is let through that the generation in force does not allow; see [`Sandbox::swap`]. When it is dropped, nothing is
/// served any more.
///
/// # Assumptions
/// Made and used within a tokio runtime.
pub struct Service {
    sandbox: Arc<Sandbox>,
    shared: Arc<Shared>,
    transparent: Arc<Transparent>,
    refusals: Arc<Refusals>,
    resolver: Arc<Mutex<Resolver>>,
    dns_clients: Arc<Semaphore>,
    lookups: Arc<Semaphore>,
    udp: udp::Bounds,
    /// What ends the relays of a port for datagrams.
    relays: Mutex<HashMap<u16, CancellationToken>>,
    v6: Arc<AtomicBool>,
    /// What opens addresses, where the sandbox itself connects.
    direct: Option<Arc<Direct>>,
    /// What takes new connections.
    listening: Tasks,
    /// What serves those there are.
    serving: Tasks,
}

impl Service {
    /// Serves `sandbox` through `listeners`.
    ///
    /// # Errors
    /// A socket that is none, or cannot be waited for.
    pub fn start(sandbox: Arc<Sandbox>, listeners: Listeners, shared: Arc<Shared>) -> io::Result<Self> {
        Self::begin(sandbox, listeners, shared, Arc::new(ByKernel), None)
    }

    /// The same, where something else than the kernel knows where connections were meant to go.
    pub fn start_with(
        sandbox: Arc<Sandbox>,
        listeners: Listeners,
        shared: Arc<Shared>,
        destination: Arc<dyn Destination>,
    ) -> io::Result<Self> {
        Self::begin(sandbox, listeners, shared, destination, None)
    }

    /// Serves a sandbox that itself connects to what `direct` opens: the names it asks for, and clients that know that
    /// there is a proxy.
    pub fn start_direct(
        sandbox: Arc<Sandbox>,
        listeners: Listeners,
        shared: Arc<Shared>,
        direct: Direct,
    ) -> io::Result<Self> {
        let direct = Arc::new(direct);
        let service = Self::begin(sandbox, listeners, shared, Arc::new(ByKernel), Some(Arc::clone(&direct)))?;
        // Another policy may have come since its rules were made.
        service.open_and_close(&direct);
        let shared = Arc::clone(&service.shared);
        service.listening.spawn(async move {
            loop {
                tokio::time::sleep(RENEW).await;
                direct.renew(&shared).await;
            }
        });
        Ok(service)
    }

    fn begin(
        sandbox: Arc<Sandbox>,
        listeners: Listeners,
        shared: Arc<Shared>,
        destination: Arc<dyn Destination>,
        direct: Option<Arc<Direct>>,
    ) -> io::Result<Self> {
        sandbox.spell(&Arc::clone(&sandbox.generation()), &shared);
        let (listening, serving) = (Tasks::default(), Tasks::default());
        let v6 = Arc::new(AtomicBool::new(false));
        let refusals = Arc::new(Refusals::new(Arc::clone(&sandbox), Arc::clone(&shared)));
        let resolver = Resolver::new(
            Arc::clone(&sandbox),
            Arc::clone(&shared),
            Arc::clone(&refusals),
            Arc::clone(&v6),
            direct.clone(),
            Instant::now(),
        );
        let transparent = Arc::new(Transparent {
            sandbox: Arc::clone(&sandbox),
            shared: Arc::clone(&shared),
            destination,
            refusals: Arc::clone(&refusals),
            pace: Arc::new(Pace::new(shared.limits.connection_rate, Instant::now())),
            opening: Arc::new(Semaphore::new(shared.limits.opening)),
            clients: Arc::new(Semaphore::new(shared.limits.proxy_clients)),
            tasks: serving.clone(),
        });
        let dns_clients = Arc::new(Semaphore::new(shared.limits.dns_clients));
        let lookups = Arc::new(Semaphore::new(shared.limits.lookups));
        let udp = udp::Bounds::new(&shared.limits, Instant::now());
        let resolver = Arc::new(Mutex::new(resolver));
        let service = Self {
            sandbox,
            shared,
            transparent,
            refusals,
            resolver,
            dns_clients,
            lookups,
            udp,
            relays: Mutex::default(),
            v6,
            direct,
            listening,
            serving,
        };
        service.add_listeners(listeners)?;
        let (sandbox, shared) = (Arc::clone(&service.sandbox), Arc::clone(&service.shared));
        let direct = service.direct.clone();
        service.listening.spawn(async move {
            let mut today = shared.today();
            loop {
                tokio::time::sleep(LOOK).await;
                let now = shared.today();
                if std::mem::replace(&mut today, now) != now {
                    sandbox.flows.judge_again(|| sandbox.in_force(&shared));
                    if let Some(direct) = &direct {
                        // That it failed is asked for: see `Service::broken`.
                        let _ = direct.enforce(|| sandbox.in_force(&shared)).await;
                    }
                }
            }
        });
        Ok(service)
    }

    /// Serves more sockets: ports for datagrams that a new policy has.
    pub fn add_listeners(&self, listeners: Listeners) -> io::Result<()> {
        let Listeners { tcp, dns_tcp, dns_udp, udp } = listeners;
        for listener in tcp {
            let listener = tcp_listener(listener)?;
            if listener.local_addr()?.is_ipv6() {
                self.v6.store(true, Ordering::Relaxed);
            }
            self.listening.spawn(Arc::clone(&self.transparent).serve(listener));
        }
        for listener in dns_tcp {
            let listener = tcp_listener(listener)?;
            let (resolver, clients) = (Arc::clone(&self.resolver), Arc::clone(&self.dns_clients));
            let (shared, tasks) = (Arc::clone(&self.shared), self.serving.clone());
            let pace = Arc::clone(&self.transparent.pace);
            self.listening
                .spawn(async move { dns::serve_tcp(&listener, &resolver, &shared, &pace, &clients, &tasks).await });
        }
        for socket in dns_udp {
            let socket = udp_socket(socket)?;
            let (socket, resolver, tasks) = (Arc::new(socket), Arc::clone(&self.resolver), self.serving.clone());
            let (shared, lookups) = (Arc::clone(&self.shared), Arc::clone(&self.lookups));
            self.listening.spawn(async move { dns::serve_udp(&socket, &resolver, &shared, &lookups, &tasks).await });
        }
        for socket in udp {
            let socket = udp_socket(socket)?;
            let port = socket.local_addr()?.port();
            let (sandbox, shared) = (Arc::clone(&self.sandbox), Arc::clone(&self.shared));
            let relay = udp::Relay::new(
                sandbox,
                shared,
                Arc::clone(&self.refusals),
                Arc::clone(&self.transparent.destination),
                self.serving.clone(),
                socket,
                self.udp.clone(),
            )?;
            let ended = self.relays().entry(port).or_default().clone();
            self.listening.spawn(async move {
                ended.run_until_cancelled(Arc::new(relay).serve()).await;
            });
        }
        Ok(())
    }

    /// Takes no more datagrams at `ports`. Their sockets are closed once nothing is under way by them.
    pub fn close_udp(&self, ports: &BTreeSet<u16>) {
        self.relays().retain(|port, ended| {
            let stays = !ports.contains(port);
            if !stays {
                ended.cancel();
            }
            stays
        });
    }

    fn relays(&self) -> MutexGuard<'_, HashMap<u16, CancellationToken>> {
        self.relays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves clients that know that this is a proxy and come through a unix socket, made where the sandbox sees it.
    ///
    /// Others may see it too: whoever does not come from the sandbox's network namespace is turned away.
    ///
    /// # Errors
    /// The socket cannot be waited for.
    pub fn start_socket(&self, door: SocketDoor) -> io::Result<()> {
        let SocketDoor { listener, network } = door;
        let listener = UnixListener::from_std(listener)?;
        let (sandbox, shared) = (Arc::clone(&self.sandbox), Arc::clone(&self.shared));
        let (clients, tasks) = (Arc::clone(&self.transparent.clients), self.serving.clone());
        let (refusals, pace) = (Arc::clone(&self.refusals), Arc::clone(&self.transparent.pace));
        self.listening.spawn(async move {
            while let Ok(permit) = Arc::clone(&clients).acquire_owned().await {
                pace.turn().await;
                let Ok((stream, _)) = listener.accept().await else {
                    // Out of descriptors, mostly: those there are come first.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                };
                if !network.is_that_of(&stream) {
                    // As often as they like: that must not fill anything.
                    refusals.connection("", 0, "foreign-namespace");
                    continue;
                }
                let Some(permit) = Permit::among_all(permit, &shared.sockets) else {
                    refusals.connection("", 0, "too-many-connections");
                    continue;
                };
                let (sandbox, shared, refusals) = (Arc::clone(&sandbox), Arc::clone(&shared), Arc::clone(&refusals));
                tasks.spawn(async move {
                    handover::explicit(stream, Entrance::Socket, sandbox, shared, refusals).await;
                    drop(permit);
                });
            }
        });
        Ok(())
    }

    /// The sandbox that is served.
    pub fn sandbox(&self) -> &Arc<Sandbox> {
        &self.sandbox
    }

    /// Puts `generation` in force. Flows that it does not allow are cut; all others do not notice.
    ///
    /// Where a packet filter has to hold to it, it is told; [`Service::enforced`] waits for that.
    pub fn swap(&self, generation: Generation) {
        self.sandbox.swap(generation, &self.shared);
        if let Some(direct) = &self.direct {
            self.open_and_close(direct);
        }
    }

    /// Has the packet filter hold to the generation in force.
    fn open_and_close(&self, direct: &Arc<Direct>) {
        // Given at once, in order; only the waiting is left to the task.
        let enforced = direct.enforce(|| self.sandbox.in_force(&self.shared));
        let sandbox = self.sandbox.name.clone();
        self.serving.spawn(async move {
            if let Err(why) = enforced.await {
                tracing::warn!(sandbox, why, "its packet filter takes no rules");
            }
        });
    }

    /// Waits until all that was put in force before holds in the sandbox's namespace too.
    ///
    /// # Errors
    /// It does not: as [`Service::broken`].
    pub fn enforced(&self) -> impl Future<Output = Result<(), String>> + Send + 'static {
        let direct = self.direct.clone();
        async move {
            match direct {
                Some(direct) => direct.enforced().await,
                None => Ok(()),
            }
        }
    }

    /// Says where the peers on internal networks are, and where the sandbox itself is.
    pub fn set_peers(&self, peers: Peers, own: BTreeMap<String, Vec<IpAddr>>) {
        if let Some(direct) = &self.direct {
            let enforced = direct.set_peers(Addresses { own, peers: peers.values().flatten().copied().collect() });
            self.serving.spawn(async move { drop(enforced.await) });
        }
        self.sandbox.set_peers(peers);
    }

    /// Why it cannot be served any more as it is: its sandbox has to be attached to again.
    pub fn broken(&self) -> Option<String> {
        self.direct.as_ref()?.broken()
    }

    /// Names by which something is open that does not come through us.
    pub fn opened(&self) -> usize {
        self.direct.as_ref().map_or(0, |direct| direct.count())
    }

    /// What `generation` would end, as people write it, sorted.
    pub fn cut_by(&self, generation: &Generation) -> Vec<String> {
        let today = self.shared.today();
        let mut cut = self.sandbox.flows.cut_by(generation, today);
        cut.extend(self.direct.iter().flat_map(|direct| direct.closed_by(generation, today)));
        cut.sort();
        cut
    }

    /// Takes no more connections, cuts those there are, and returns once nothing is left.
    pub async fn stop(self) {
        self.listening.stop().await;
        // So that they are reset: a connection that just ends seems to have said all.
        self.sandbox.flows.cut();
        let _ = tokio::time::timeout(GRACE, self.serving.finished()).await;
        self.serving.stop().await;
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.listening.cancel();
        self.sandbox.flows.cut();
        self.serving.cancel();
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("sandbox", &self.sandbox).finish_non_exhaustive()
    }
}

fn tcp_listener(listener: TcpListener) -> io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    // Its connections inherit it.
    SockRef::from(&listener).set_tcp_nodelay(true)?;
    tokio::net::TcpListener::from_std(listener)
}

fn udp_socket(socket: UdpSocket) -> io::Result<tokio::net::UdpSocket> {
    socket.set_nonblocking(true)?;
    tokio::net::UdpSocket::from_std(socket)
}

#[cfg(test)]
mod tests;
