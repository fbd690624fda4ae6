//! Serving sandboxes, as the daemon asks for it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use egress::attach::socket_door::SocketDoor;
use egress::attach::{self, Target};
use egress::daemon::world::{Running, Serve, Serving, Way};
use egress::direct::Direct;
use egress::generation::Generation;
use egress::listeners::Listeners;
use egress::sandbox::{Peers, Sandbox};
use egress::service::Service;
use schema::policy::DnsName;

use super::authorities::{Authorities, Lease};
use super::namespaces::{PROGRAM, addresses, hold, told, udp_ports};

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
        let ports = Mutex::new(ports.collect());
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
        let more = Arc::default();
        let served =
            Served { service: Arc::new(service), way: running.way.clone(), target, ports, more, _lease: lease };
        served.service.set_peers(peers(running));
        served.listen_to(&udp_ports(&sandbox.generation().policy));
        Ok(Box::new(served))
    }
}

struct Served {
    service: Arc<Service>,
    way: Way,
    target: Target,
    /// Ports for datagrams that have sockets, or are about to.
    ports: Mutex<BTreeSet<u16>>,
    /// Sockets made since it is served.
    more: Arc<Mutex<Listeners>>,
    _lease: Arc<Lease>,
}

impl Served {
    /// Makes sockets for ports that have none yet.
    fn listen_to(&self, wanted: &BTreeSet<u16>) {
        if self.way != Way::Proxy {
            return;
        }
        let missing: BTreeSet<u16> = {
            let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
            let missing = wanted.difference(&ports).copied().collect();
            ports.extend(&missing);
            missing
        };
        if missing.is_empty() {
            return;
        }
        let (service, target, more) = (Arc::clone(&self.service), self.target.clone(), Arc::clone(&self.more));
        tokio::spawn(async move {
            let made = attach::add_udp(Path::new(PROGRAM), &target, &missing).await.map_err(|error| told(&error));
            let added = made.and_then(|udp| {
                let listeners = Listeners { udp, ..Listeners::default() };
                let spare = listeners.try_clone().map_err(|error| error.to_string())?;
                more.lock().unwrap_or_else(PoisonError::into_inner).udp.extend(spare.udp);
                service.add_listeners(listeners).map_err(|error| error.to_string())
            });
            if let Err(why) = added {
                tracing::warn!(sandbox = service.sandbox().name, why, "no sockets for datagrams");
            }
        });
    }
}

impl Serving for Served {
    fn swap(&self, generation: Generation) {
        let ports = udp_ports(&generation.policy);
        self.service.swap(generation);
        self.listen_to(&ports);
    }

    fn set_peers(&self, running: &Running) {
        self.service.set_peers(peers(running));
        if self.way == Way::Direct {
            // The service has its rules made.
            return;
        }
        let (target, addresses) = (self.target.clone(), addresses(running));
        let sandbox = running.sandbox.clone();
        tokio::spawn(async move {
            if let Err(error) = attach::update_peers(Path::new(PROGRAM), &target, &addresses).await {
                tracing::warn!(sandbox, why = told(&error), "its peers are those of before");
            }
        });
    }

    fn flows(&self) -> usize {
        let (tcp, udp) = self.service.sandbox().flows.count();
        tcp + udp + self.service.opened()
    }

    fn cut_by(&self, generation: &Generation) -> Vec<String> {
        self.service.cut_by(generation)
    }

    fn broken(&self) -> Option<String> {
        self.service.broken()
    }

    fn more(&self) -> Listeners {
        std::mem::take(&mut *self.more.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn peers(running: &Running) -> Peers {
    let name = |name: &String| name.parse::<DnsName>().ok();
    running.peers.iter().filter_map(|(peer, addresses)| Some((name(peer)?, addresses.clone()))).collect()
}
