//! What the data paths of all sandboxes share.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use tokio::sync::Semaphore;

use crate::dial::{DialSettings, Dialer};
use crate::http::Web;
use crate::limits::Limits;
use crate::tls::outbound::Outbound;

/// Shared by all sandboxes of a daemon.
#[derive(Debug)]
pub struct Shared {
    /// Bounds for each sandbox.
    pub limits: Limits,
    /// As many permits as there may be TCP connections of all sandboxes.
    pub connections: Arc<Semaphore>,
    /// As many permits as they may have other sockets.
    pub sockets: Arc<Semaphore>,
    /// Makes connections.
    pub dialer: Dialer,
    /// What HTTP needs.
    pub web: Web,
    /// What time it is.
    pub clock: fn() -> Timestamp,
}

impl Shared {
    /// The usual, with these bounds.
    #[must_use]
    pub fn within(limits: Limits) -> Self {
        let places = |most: usize| Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        let (connections, sockets) = (places(limits.connections_of_all), places(limits.sockets_of_all));
        Self {
            limits,
            connections,
            sockets,
            dialer: Dialer::new(DialSettings::default()),
            web: Web::new(Outbound::default()),
            clock: Timestamp::now,
        }
    }

    /// The day (UTC) by which rules expire.
    pub fn today(&self) -> Date {
        TimeZone::UTC.to_datetime((self.clock)()).date()
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self::within(Limits::default())
    }
}
