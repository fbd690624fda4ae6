//! Keeping what is inside of a sandbox's namespace in line with what it should be, after it was attached to.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use egress::attach::{self, Target};
use egress::listeners::Listeners;
use egress::service::Service;
use tokio::sync::watch;

use super::namespaces::{PROGRAM, told};

/// Pause before what failed is tried again; doubled for each further time.
const AGAIN: Duration = Duration::from_millis(200);
/// Longest pause.
const AGAIN_AT_MOST: Duration = Duration::from_secs(10);

/// What is inside, or is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inside {
    /// Ports for datagrams that have sockets.
    pub ports: BTreeSet<u16>,
    /// Addresses of the peers that are let through, as they were said last; the same ones again are another value.
    pub peers: Arc<BTreeSet<IpAddr>>,
}

/// Brings about what is wanted, one thing after another: what is there in the end is what was wanted last. What fails is
/// tried again. Ends when it is dropped.
#[derive(Debug)]
pub struct Upkeep {
    wanted: watch::Sender<Inside>,
    /// Sockets made since the sandbox is served.
    more: Arc<Mutex<Listeners>>,
}

impl Upkeep {
    /// Of the sandbox at `target`, which has `there` inside already.
    pub fn of(service: &Arc<Service>, target: Target, there: Inside) -> Self {
        let (wanted, changes) = watch::channel(there.clone());
        let more = Arc::default();
        let sandbox = service.sandbox().name.clone();
        let keeper = Keeper { service: Arc::downgrade(service), sandbox, target, there, more: Arc::clone(&more) };
        tokio::spawn(keeper.run(changes));
        Self { wanted, more }
    }

    /// Wants sockets for `ports` too. None is taken away: what comes to a port that no rule is about is refused there.
    pub fn listen_to(&self, ports: &BTreeSet<u16>) {
        self.wanted.send_if_modified(|inside| {
            let before = inside.ports.len();
            inside.ports.extend(ports);
            inside.ports.len() > before
        });
    }

    /// Wants exactly `peers` to be let through.
    pub fn meet(&self, peers: BTreeSet<IpAddr>) {
        self.wanted.send_modify(|inside| inside.peers = Arc::new(peers));
    }

    /// Takes the sockets that were made.
    pub fn more(&self) -> Listeners {
        std::mem::take(&mut *self.more.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Keeper {
    /// Whoever drops the service wants it to end.
    service: Weak<Service>,
    sandbox: String,
    target: Target,
    there: Inside,
    more: Arc<Mutex<Listeners>>,
}

impl Keeper {
    async fn run(mut self, mut changes: watch::Receiver<Inside>) {
        let mut pause = AGAIN;
        loop {
            let wanted = changes.borrow_and_update().clone();
            let Err(why) = self.bring_about(&wanted).await else {
                pause = AGAIN;
                if changes.changed().await.is_err() {
                    return;
                }
                continue;
            };
            tracing::warn!(sandbox = self.sandbox, why, "its namespace is not as it should be");
            tokio::select! {
                changed = changes.changed() => if changed.is_err() {
                    return;
                },
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(AGAIN_AT_MOST);
        }
    }

    async fn bring_about(&mut self, wanted: &Inside) -> Result<(), String> {
        if !Arc::ptr_eq(&self.there.peers, &wanted.peers) {
            let updated = attach::update_peers(Path::new(PROGRAM), &self.target, &wanted.peers).await;
            updated.map_err(|error| format!("its peers are those of before: {}", told(&error)))?;
            self.there.peers = Arc::clone(&wanted.peers);
        }
        let missing: BTreeSet<u16> = wanted.ports.difference(&self.there.ports).copied().collect();
        if !missing.is_empty() {
            let added = self.add(&missing).await;
            added.map_err(|why| format!("no sockets for datagrams: {why}"))?;
            self.there.ports.extend(missing);
        }
        Ok(())
    }

    async fn add(&self, ports: &BTreeSet<u16>) -> Result<(), String> {
        let udp = attach::add_udp(Path::new(PROGRAM), &self.target, ports).await.map_err(|error| told(&error))?;
        let listeners = Listeners { udp, ..Listeners::default() };
        let spare = listeners.try_clone().map_err(|error| error.to_string())?;
        let Some(service) = self.service.upgrade() else { return Ok(()) };
        service.add_listeners(listeners).map_err(|error| error.to_string())?;
        self.more.lock().unwrap_or_else(PoisonError::into_inner).udp.extend(spare.udp);
        Ok(())
    }
}
