//! How much one sandbox may use of what all share.

use std::time::Duration;

/// Most connections that one sandbox may have, however many descriptors there are.
const MOST: usize = 1024;
/// Descriptors that a connection may need: two sockets, and two pipes while much is moved both ways.
const EACH: u64 = 6;

/// Bounds for one sandbox. What goes beyond is refused, never queued without bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// TCP connections at once: those of clients, and those to servers that their requests are sent by.
    pub connections: usize,
    /// TCP connections at once of all sandboxes together.
    pub connections_of_all: usize,
    /// Connections at once that have not yet shown what they are, or whose destination does not yet answer. Further ones
    /// wait in the listener's backlog.
    pub opening: usize,
    /// New connections in a second, and as many at once after a rest; `None` is no bound. Further ones wait in the
    /// listener's backlog. As many flows of datagrams may begin beside them; what comes for further ones is lost.
    pub connection_rate: Option<u32>,
    /// Time for a client that has to speak first to show what it speaks: a whole `ClientHello`, a whole request head.
    pub handshake: Duration,
    /// How long a connection of HTTP may rest between requests.
    pub http_idle: Duration,
    /// How long a server may take to begin an answer after the last piece of the request that it was sent, where the rule
    /// says nothing else.
    pub answer: Duration,
    /// How long an upgraded connection may rest.
    pub upgrade_idle: Duration,
    /// How long a client on a port where servers may speak first is given to do so before its destination is dialled.
    pub silence: Duration,
    /// DNS questions in a second; `None` is no bound.
    pub dns_rate: Option<u32>,
    /// Those of them in a second that were not answered lately, each of which has to be judged; `None` is no bound.
    pub dns_new: Option<u32>,
    /// TCP connections to the resolver at once.
    pub dns_clients: usize,
    /// How long a TCP connection to the resolver may rest, or a question over it may take to arrive.
    pub dns_idle: Duration,
    /// Names that have an address at once because a pattern allows them. Names that rules spell out do not count.
    pub pattern_names: usize,
    /// Flows of datagrams at once.
    pub udp_flows: usize,
    /// How long a flow of datagrams may rest.
    pub udp_idle: Duration,
    /// Records of refusals that cost the sandbox nothing (names that do not exist, connections beyond a bound) in a minute.
    pub refusal_records: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: MOST,
            connections_of_all: 8 * MOST,
            opening: 256,
            connection_rate: Some(500),
            handshake: Duration::from_secs(10),
            http_idle: Duration::from_mins(2),
            answer: Duration::from_mins(15),
            upgrade_idle: Duration::from_hours(1),
            silence: Duration::from_millis(20),
            dns_rate: Some(20_000),
            dns_new: Some(1_000),
            dns_clients: 32,
            dns_idle: Duration::from_secs(10),
            pattern_names: 1024,
            udp_flows: 512,
            udp_idle: Duration::from_mins(1),
            refusal_records: 600,
        }
    }
}

impl Limits {
    /// Those of a process that may have this many descriptors open: a quarter of them is for other things, and no sandbox
    /// has more than a quarter of the connections.
    #[must_use]
    pub fn within(descriptors: u64) -> Self {
        let all = usize::try_from(descriptors / 4 * 3 / EACH).unwrap_or(usize::MAX).min(64 * MOST);
        let default = Self::default();
        Self {
            connections: (all / 4).clamp(1, MOST),
            connections_of_all: all,
            opening: (all / 4).clamp(1, default.opening),
            udp_flows: (all / 4).clamp(1, default.udp_flows),
            ..default
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_other_things() {
        for (descriptors, one, all) in
            [(1024, 32, 128), (4096, 128, 512), (65_536, 1024, 8192), (1 << 20, 1024, 65_536), (u64::MAX, 1024, 65_536)]
        {
            let limits = Limits::within(descriptors);
            assert_eq!((limits.connections, limits.connections_of_all), (one, all), "{descriptors}");
            assert!(all as u64 * EACH < descriptors, "{descriptors}");
        }
    }
}
