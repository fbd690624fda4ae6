//! How much one sandbox may use of what all share.

use std::time::Duration;

use schema::policy::MOST_UDP_PORTS;

use crate::dial;

/// Most connections that one sandbox may have, however many descriptors there are.
const MOST: usize = 1024;
/// Descriptors that a connection may need: two sockets, and two pipes while much is moved both ways. Before there is one to
/// the server, those that are tried at once.
const EACH: u64 = 6;
const _: () = assert!((dial::AT_ONCE as u64) < EACH, "the client's is one of them");
/// Most sockets of other kinds that all sandboxes may have together; enough for as many connections.
const MOST_SOCKETS: usize = 1 << 18;

/// Bounds for one sandbox. What goes beyond is refused, never queued without bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// TCP connections at once: those of clients, and those to servers that their requests are sent by.
    pub connections: usize,
    /// TCP connections at once of all sandboxes together.
    pub connections_of_all: usize,
    /// Sockets of all other kinds at once, of all sandboxes together: of clients that know that there is a proxy, of clients
    /// that are told why they may not connect, of TCP connections to resolvers, of flows of datagrams, and of questions
    /// whose answers are looked for.
    pub sockets_of_all: usize,
    /// Clients at once that know that there is a proxy, whether or not they have a connection. Those that come to its socket
    /// wait in its backlog beyond that, others are refused.
    pub proxy_clients: usize,
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
    /// Questions over UDP at once whose answers have to be looked for, where the sandbox itself connects. Further ones are
    /// asked again by whoever asked.
    pub lookups: usize,
    /// How long a TCP connection to the resolver may rest, or a question over it may take to arrive.
    pub dns_idle: Duration,
    /// Names that have an address at once because a pattern allows them. Names that rules spell out do not count.
    pub pattern_names: usize,
    /// Flows of datagrams at once.
    pub udp_flows: usize,
    /// Ports for datagrams that are listened on. The language has no policy with more; here there may be fewer.
    pub udp_ports: usize,
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
            sockets_of_all: 16 * MOST,
            proxy_clients: MOST,
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
            lookups: 256,
            dns_idle: Duration::from_secs(10),
            pattern_names: 1024,
            udp_flows: 512,
            udp_ports: MOST_UDP_PORTS,
            udp_idle: Duration::from_mins(1),
            refusal_records: 600,
        }
    }
}

impl Limits {
    /// Those of a process that may have this many descriptors open.
    ///
    /// Half of them is for connections, a quarter for other sockets of clients, and a quarter for what is the daemon's own:
    /// what it listens on, its files, the engine. No sandbox can have more than a quarter of the first two, whatever it does,
    /// nor its policy more than a quarter of the third for its ports.
    #[must_use]
    pub fn within(descriptors: u64) -> Self {
        let whole = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let connections = whole(descriptors / 2 / EACH).min(64 * MOST);
        let sockets = whole(descriptors / 4).min(MOST_SOCKETS);
        let default = Self::default();
        // All that a sandbox can have of other sockets at once is a quarter of them: it has either flows of datagrams or
        // questions that are looked up.
        let of_sockets = |most: usize| (sockets / 4 / 4).clamp(1, most);
        Self {
            connections: (connections / 4).clamp(1, MOST),
            connections_of_all: connections,
            sockets_of_all: sockets,
            proxy_clients: of_sockets(default.proxy_clients),
            opening: of_sockets(default.opening),
            dns_clients: of_sockets(default.dns_clients),
            lookups: of_sockets(default.lookups),
            udp_flows: of_sockets(default.udp_flows),
            // Of two families, and each of them twice: once for a successor.
            udp_ports: of_sockets(default.udp_ports),
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
            [(1024, 21, 85), (4096, 85, 341), (65_536, 1024, 5461), (1 << 20, 1024, 65_536), (u64::MAX, 1024, 65_536)]
        {
            let limits = Limits::within(descriptors);
            assert_eq!((limits.connections, limits.connections_of_all), (one, all), "{descriptors}");
            let most = all as u64 * EACH + limits.sockets_of_all as u64;
            assert!(most <= descriptors / 4 * 3, "{descriptors}");
        }
    }

    #[test]
    fn no_sandbox_can_have_more_than_a_quarter_of_what_all_may_have() {
        for descriptors in [256, 1024, 4096, 65_536, 1 << 19, 1 << 20, u64::MAX] {
            let limits = Limits::within(descriptors);
            assert!(limits.connections * 4 <= limits.connections_of_all, "{descriptors}: {limits:?}");
            let others = limits.proxy_clients + limits.opening + limits.dns_clients;
            let sockets = others + limits.udp_flows.max(limits.lookups);
            assert!(sockets * 4 <= limits.sockets_of_all, "{descriptors}: {limits:?}");
            assert!(limits.udp_ports * 4 * 4 <= limits.sockets_of_all, "{descriptors}: {limits:?}");
        }
    }
}
