//! Serving sandboxes, as the daemon asks for it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use egress::attach::socket_door::SocketDoor;
use egress::daemon::world::{Running, Serve, Serving, Way};
use egress::direct::Direct;
use egress::generation::Generation;
use egress::listeners::{Listeners, udp_ports};
use egress::networks::Networks;
use egress::sandbox::{Peers, Sandbox};
use egress::service::Service;
use schema::policy::DnsName;

use super::authorities::{Authorities, Lease};
use super::namespaces::hold;
use super::upkeep::{Inside, Upkeep};

/// What all sandboxes share.
#[derive(Debug)]
pub struct DataPath {
    authorities: Arc<Authorities>,
}

impl DataPath {
    /// One by which TLS ends with `authorities` where it has to be looked into.
    pub fn new(authorities: Arc<Authorities>) -> Self {
        Self { authorities }
    }
}

impl Serve for DataPath {
    fn serve(
        &self,
        running: &Running,
        sandbox: Arc<Sandbox>,
        listeners: Listeners,
        direct: Option<Direct>,
    ) -> Result<Box<dyn Serving>, String> {
        let ports = listeners.udp.iter().filter_map(|socket| socket.local_addr().ok()).map(|address| address.port());
        let networks = Arc::new(Networks::new(&running.addresses(), &sandbox.generation().policy));
        let there = Inside { ports: ports.collect(), networks, said: 0 };
        let target = hold(running)?;
        // Before anything is served: what has to be looked into would be refused until then.
        let lease = self.authorities.lease(&running.project);
        let (own, shared) = (Arc::clone(&sandbox), Arc::clone(self.authorities.shared()));
        let service = match direct {
            Some(direct) => Service::start_direct(own, listeners, shared, direct),
            None => Service::start(own, listeners, shared),
        };
        let service = service.map_err(|error| format!("its sockets: {error}"))?;
        if let Way::Socket(directory) = &running.way {
            let door = SocketDoor::make(directory, &target).and_then(|door| service.start_socket(door));
            door.map_err(|error| format!("its socket in {}: {error}", directory.display()))?;
        }
        let service = Arc::new(service);
        service.set_peers(peers(running), running.own.clone());
        let upkeep = Upkeep::of(&service, target, there);
        let served = Served { service, running: Mutex::new(running.clone()), upkeep, _lease: lease };
        served.listen_to(&sandbox.generation());
        Ok(Box::new(served))
    }
}

struct Served {
    service: Arc<Service>,
    /// With the addresses of now.
    running: Mutex<Running>,
    upkeep: Upkeep,
    _lease: Arc<Lease>,
}

impl Served {
    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has sockets made for ports that have none yet.
    fn listen_to(&self, generation: &Generation) {
        // Nobody else's datagrams come to sockets of ours.
        if self.running().way == Way::Proxy {
            self.upkeep.listen_to(&udp_ports(&generation.policy));
        }
    }
}

impl Serving for Served {
    fn swap(&self, generation: Generation) {
        self.service.swap(generation);
        let generation = self.service.sandbox().generation();
        self.listen_to(&generation);
        let running = self.running();
        // Where the sandbox itself connects, the service has the rules made.
        if running.way != Way::Direct {
            self.upkeep.hold_to(Networks::new(&running.addresses(), &generation.policy));
        }
    }

    fn enforced(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> {
        let (enforced, met) = (self.service.enforced(), self.upkeep.met());
        Box::pin(async {
            enforced.await.map_err(|why| format!("its packet filter: {why}"))?;
            met.await
        })
    }

    fn set_peers(&self, running: &Running) {
        self.service.set_peers(peers(running), running.own.clone());
        let mut here = self.running();
        here.network_as(running);
        if here.way != Way::Direct {
            let policy = &self.service.sandbox().generation().policy;
            self.upkeep.meet(Networks::new(&here.addresses(), policy));
        }
    }

    fn flows(&self) -> usize {
        let (tcp, udp) = self.service.sandbox().flows.count();
        tcp + udp + self.service.opened()
    }

    fn cut_by(&self, generation: &Generation) -> Vec<String> {
        self.service.cut_by(generation)
    }

    fn broken(&self) -> Option<String> {
        self.service.broken().map(|why| format!("its packet filter: {why}"))
    }

    fn more(&self) -> Listeners {
        self.upkeep.more()
    }
}

fn peers(running: &Running) -> Peers {
    let name = |name: &String| name.parse::<DnsName>().ok();
    running.peers.iter().filter_map(|(peer, addresses)| Some((name(peer)?, addresses.clone()))).collect()
}
