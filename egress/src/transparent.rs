//! Connections that come to a sandbox's listeners, wherever they were meant to go.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use schema::policy::Host;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::audit::Spoken;
use crate::destination::{Destination, Meant};
use crate::flows::{FlowGuard, Refused};
use crate::handover::Entrance;
use crate::permit::Permit;
use crate::pool::InUse;
use crate::refusals::Refusals;
use crate::sandbox::Sandbox;
use crate::session::Session;
use crate::shared::Shared;
use crate::tasks::Tasks;
use crate::throttle::Pace;
use crate::verdict::Transport;
use crate::{accept, connection, handover, refuse, synthetic};

/// What serves the connections of one sandbox.
pub(crate) struct Transparent {
    pub sandbox: Arc<Sandbox>,
    pub shared: Arc<Shared>,
    pub destination: Arc<dyn Destination>,
    pub refusals: Arc<Refusals>,
    /// How fast connections are taken.
    pub pace: Arc<Pace>,
    /// Places for connections that are not established.
    pub opening: Arc<Semaphore>,
    /// Places for clients that know that this is a proxy.
    pub clients: Arc<Semaphore>,
    pub tasks: Tasks,
}

impl Transparent {
    /// Serves what comes to `listener`, for as long as it is polled.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        // Those that find no place wait in the listener's backlog, which is bounded as well.
        while let Ok(place) = Arc::clone(&self.opening).acquire_owned().await {
            self.pace.turn().await;
            let Some(stream) = accept::next(&listener).await else { return };
            self.tasks.spawn(Arc::clone(&self).connection(stream, place));
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, place: OwnedSemaphorePermit) {
        // Does not fail on a connection that is still there.
        let Ok(meant) = self.destination.of(&stream) else { return accept::reset(&stream) };
        let meant = match meant {
            Meant::Address(meant) => meant,
            Meant::Proxy => {
                let Some(client) = Permit::take(&self.clients, &self.shared.sockets) else {
                    self.refusals.connection("", 0, "too-many-connections");
                    return accept::reset(&stream);
                };
                drop(place);
                let (sandbox, shared) = (Arc::clone(&self.sandbox), Arc::clone(&self.shared));
                let refusals = Arc::clone(&self.refusals);
                handover::explicit(stream, Entrance::Port, sandbox, shared, refusals).await;
                return drop(client);
            }
        };
        let Some((host, name)) = self.stands_for(meant.ip()) else {
            self.refusals.connection(&meant.ip().to_string(), meant.port(), "unknown-address");
            return accept::reset(&stream);
        };
        let opened = FlowGuard::open(&self.sandbox, &self.shared, host.clone(), meant.port(), Transport::Tcp, name);
        let (flow, inspect) = match opened {
            Ok(opened) => opened,
            Err(refused) => return self.refuse(stream, &host, meant, &refused).await,
        };
        let (sandbox, shared) = (Arc::clone(&self.sandbox), Arc::clone(&self.shared));
        let session = Session { sandbox, shared, host, port: meant.port(), flow };
        connection::serve(stream, Vec::new(), session, inspect, Some(place)).await;
    }

    /// What an address means.
    fn stands_for(&self, address: IpAddr) -> Option<(Host, Option<InUse>)> {
        let address = address.to_canonical();
        if synthetic::contains(address) {
            let name = self.sandbox.pool.find(address, Instant::now())?;
            Some((Host::Name(name.name().clone()), Some(name)))
        } else {
            Some((Host::Address(address), None))
        }
    }

    async fn refuse(&self, stream: TcpStream, host: &Host, meant: SocketAddr, refused: &Refused) {
        match refused {
            Refused::TooMany => {
                self.refusals.connection(&host.to_string(), meant.port(), "too-many-connections");
                accept::reset(&stream);
            }
            Refused::Policy(denial) => {
                self.refusals.denied(Spoken::Tcp, host, meant.port(), denial);
                // To be told why takes a while, and the connection is none of those that are counted.
                let Ok(_place) = self.shared.sockets.try_acquire() else { return accept::reset(&stream) };
                match meant.port() {
                    80 => handover::denied(stream, &self.sandbox, &self.shared, host, denial).await,
                    443 => refuse::before_hello(&stream).await,
                    _ => accept::reset(&stream),
                }
            }
        }
    }
}
