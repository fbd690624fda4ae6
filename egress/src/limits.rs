//! How much one sandbox may use of what all share.

use std::time::Duration;

/// Bounds for one sandbox. What goes beyond is refused, never queued without bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// TCP connections at once.
    pub connections: usize,
    /// Connections at once that have not yet shown what they are, or whose destination does not yet answer. Further ones
    /// wait in the listener's backlog.
    pub opening: usize,
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
            connections: 4096,
            opening: 256,
            handshake: Duration::from_secs(10),
            http_idle: Duration::from_mins(2),
            answer: Duration::from_mins(15),
            upgrade_idle: Duration::from_hours(1),
            silence: Duration::from_millis(20),
            dns_rate: Some(20_000),
            dns_clients: 32,
            dns_idle: Duration::from_secs(10),
            pattern_names: 1024,
            udp_flows: 512,
            udp_idle: Duration::from_mins(1),
            refusal_records: 600,
        }
    }
}
