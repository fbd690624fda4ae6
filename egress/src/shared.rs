//! What the data paths of all sandboxes share.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::limits::Limits;

/// Shared by all sandboxes of a daemon.
#[derive(Debug)]
pub struct Shared {
    /// Bounds for each sandbox.
    pub limits: Limits,
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
        Self { limits: Limits::default(), clock: Timestamp::now }
    }
}
