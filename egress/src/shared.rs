//! What the data paths of all sandboxes share.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::dial::{DialSettings, Dialer};
use crate::http::Web;
use crate::limits::Limits;
use crate::tls::outbound::Outbound;

/// Shared by all sandboxes of a daemon.
#[derive(Debug)]
pub struct Shared {
    /// Bounds for each sandbox.
    pub limits: Limits,
    /// Makes connections.
    pub dialer: Dialer,
    /// What HTTP needs.
    pub web: Web,
    /// What time it is.
    pub clock: fn() -> Timestamp,
}

impl Shared {
    /// The day (UTC) by which rules expire.
    pub fn today(&self) -> Date {
        TimeZone::UTC.to_datetime((self.clock)()).date()
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            dialer: Dialer::new(DialSettings::default()),
            web: Web::new(Outbound::default()),
            clock: Timestamp::now,
        }
    }
}
