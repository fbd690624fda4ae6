//! Rules, and the policy of one sandbox.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{DnsName, HeaderEdits, HeaderMatch, HostPattern, PathPattern};

/// Everything that decides what one sandbox reaches, and who reaches it. Empty means: nothing leaves it, and peers reach it.
///
/// One with a field that is not known is refused as a whole: whoever does not know it cannot hold to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Policy {
    /// What is allowed: what any of them allows. The order has no meaning for that; where several match, the rule that is
    /// named, and whose changes are made, is the one that says most of the host, then one that needs requests, then the
    /// first.
    pub allow: Vec<Rule>,
    /// What is denied all the same. Protocols and ports of a deny rule are read as widely as they can be
    /// ([`Rule::denies_transport`]).
    pub deny: Vec<Rule>,
    /// Names the proxy resolves from here rather than by DNS.
    pub hosts: BTreeMap<DnsName, Vec<IpAddr>>,
    /// Address ranges that may be dialled although they are refused by default.
    pub dial_allow: Vec<IpNet>,
    /// How the proxy reaches the outside.
    pub upstream: Upstream,
    /// Networks on which peers reach the sandbox at these ports only; on any other, at every port.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub inbound: BTreeMap<crate::Name, Inbound>,
}

/// Ports at which a sandbox is reached by its peers on a network; sorted, not overlapping. Empty means: at none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Inbound {
    /// Ports that take connections.
    pub tcp: Vec<PortRange>,
    /// Ports that take datagrams.
    pub udp: Vec<PortRange>,
}

/// One rule. A request matches when every part that is given matches.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Which hosts.
    pub host: HostPattern,
    /// Which ports; sorted, not overlapping, never empty. The language's default is [`PortRange::WEB`] for what is
    /// allowed and [`PortRange::ALL`] for what is denied.
    pub ports: Vec<PortRange>,
    /// What may be spoken.
    #[serde(default)]
    pub protocol: Protocol,
    /// HTTP methods in upper case; empty is any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Paths; empty is any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<PathPattern>,
    /// Headers a request must have, all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderMatch>,
    /// Whether paths with encoded separators (`%2f`, `%5c`) are judged rather than refused. Without meaning in a deny rule,
    /// which holds for every spelling.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub encoded_separators: bool,
    /// Whether the connection may be upgraded (WebSocket). Without meaning in a deny rule.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub upgrade: bool,
    /// Most that may pass until a response begins, from the last piece of its request on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Changes to requests.
    #[serde(default, skip_serializing_if = "HeaderEdits::is_empty")]
    pub request: HeaderEdits,
    /// Changes to responses.
    #[serde(default, skip_serializing_if = "HeaderEdits::is_empty")]
    pub response: HeaderEdits,
    /// Why it is there, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Last day (UTC) on which an allow rule holds; a deny rule does not expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<jiff::civil::Date>,
    /// Where it is written.
    pub place: Place,
}

/// Where a rule is written. Says nothing about what it does: two policies that differ only here are the same policy.
#[derive(Debug, Clone, Default, Eq, Serialize, Deserialize)]
pub struct Place {
    /// `sandboxes.yaml:12:9`: the rule itself, in its allowlist or in the sandbox.
    pub at: String,
    /// The allowlist it comes from, if from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<String>,
}

impl PartialEq for Place {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl std::hash::Hash for Place {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

/// Ports from first to last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortRange {
    /// First.
    pub first: u16,
    /// Last.
    pub last: u16,
}

/// Most ports for datagrams of one policy that is served by the proxy: each has sockets of its own inside.
pub const MOST_UDP_PORTS: usize = 128;

/// What may be spoken to a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Whatever it turns out to be: TLS and HTTP are held to the name, HTTP is required on port 80 and TLS on 443,
    /// anything else passes untouched on other ports. No datagrams.
    #[default]
    Auto,
    /// HTTP, plain or inside TLS, and nothing else.
    Http,
    /// TLS, and nothing else.
    Tls,
    /// Any bytes, unexamined, on any port.
    Tcp,
    /// Datagrams.
    Udp,
}

/// How the proxy reaches the outside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Upstream {
    /// By itself.
    #[default]
    Direct,
    /// Through an HTTP proxy, by CONNECT: `host:port`.
    Http(String),
    /// Through a SOCKS5 proxy: `host:port`. The proxy resolves.
    Socks5(String),
    /// From another network namespace: an absolute path like `/run/netns/vpn`.
    Netns(std::path::PathBuf),
}

impl Rule {
    /// One for the ports of the web that says nothing but its host.
    pub fn of(host: HostPattern) -> Self {
        Self {
            host,
            ports: PortRange::WEB.to_vec(),
            protocol: Protocol::Auto,
            methods: Vec::new(),
            paths: Vec::new(),
            headers: Vec::new(),
            encoded_separators: false,
            upgrade: false,
            timeout: None,
            request: HeaderEdits::default(),
            response: HeaderEdits::default(),
            reason: None,
            expires: None,
            place: Place::default(),
        }
    }

    /// Whether requests have to be seen to decide: a part of it is about method, path or headers, or changes them.
    pub fn needs_requests(&self) -> bool {
        !self.methods.is_empty()
            || !self.paths.is_empty()
            || !self.headers.is_empty()
            || !self.request.is_empty()
            || !self.response.is_empty()
            || self.timeout.is_some()
    }

    /// Whether the rule, as an allow rule, is about datagrams or about connections: datagrams are for [`Protocol::Udp`] only.
    pub fn allows_transport(&self, udp: bool) -> bool {
        (self.protocol == Protocol::Udp) == udp
    }

    /// Whether the rule, as a deny rule, is about datagrams or about connections: [`Protocol::Auto`] is about both,
    /// [`Protocol::Udp`] about datagrams, everything else about every connection, whatever it speaks.
    pub fn denies_transport(&self, udp: bool) -> bool {
        self.protocol == Protocol::Auto || self.allows_transport(udp)
    }

    /// Whether a request inside TLS, or one that is not, on `port` is something the rule allows.
    pub fn allows_request(&self, port: u16, tls: bool) -> bool {
        self.protocol.carries_requests(port, tls) && (tls || self.allows_in_clear())
    }

    /// Whether requests that are not inside TLS are something the rule allows, as far as secrets go: one that writes a
    /// secret is about requests inside TLS only, unless it asks for `http` by name.
    pub fn allows_in_clear(&self) -> bool {
        self.protocol == Protocol::Http || self.secrets().next().is_none()
    }

    /// Whether `port` is one of its ports.
    pub fn has_port(&self, port: u16) -> bool {
        self.ports.iter().any(|range| range.contains(port))
    }

    /// Whether it holds on `today`, as an allow rule.
    pub fn holds(&self, today: jiff::civil::Date) -> bool {
        self.expires.is_none_or(|last| today <= last)
    }

    /// Secrets whose values the proxy writes for it.
    pub fn secrets(&self) -> impl Iterator<Item = &crate::Name> {
        self.request.secrets().chain(self.response.secrets())
    }
}

impl Protocol {
    /// Whether a request inside TLS, or one that is not, on `port` is of this protocol.
    pub const fn carries_requests(self, port: u16, tls: bool) -> bool {
        match self {
            Self::Http | Self::Tcp => true,
            Self::Tls => tls,
            Self::Auto => match port {
                80 => !tls,
                443 => tls,
                _ => true,
            },
            Self::Udp => false,
        }
    }
}

impl Policy {
    /// Whether nothing can be reached, so that nobody has to serve it.
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty()
    }

    /// Ports of rules for datagrams; sorted, without overlaps.
    pub fn udp_ports(&self) -> Vec<PortRange> {
        PortRange::join(self.allow.iter().filter(|rule| rule.protocol == Protocol::Udp).flat_map(|rule| &rule.ports))
    }

    /// Secrets whose values the proxy writes, each once.
    pub fn secrets(&self) -> std::collections::BTreeSet<&crate::Name> {
        self.allow.iter().flat_map(Rule::secrets).collect()
    }
}

impl Inbound {
    /// Every port.
    pub fn all() -> Self {
        Self { tcp: PortRange::ALL.to_vec(), udp: PortRange::ALL.to_vec() }
    }

    /// Whether it has no port at all.
    pub fn is_empty(&self) -> bool {
        self.tcp.is_empty() && self.udp.is_empty()
    }

    /// Whether datagrams, or connections, to `port` are let in.
    pub fn has_port(&self, port: u16, udp: bool) -> bool {
        let ranges = if udp { &self.udp } else { &self.tcp };
        ranges.iter().any(|range| range.contains(port))
    }
}

impl fmt::Display for Inbound {
    /// `tcp 5432, 8000-8010; udp 53`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |ports: &[PortRange]| ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match (self.tcp.as_slice(), self.udp.as_slice()) {
            ([], []) => f.write_str("no port"),
            (tcp, []) => write!(f, "tcp {}", list(tcp)),
            ([], udp) => write!(f, "udp {}", list(udp)),
            (tcp, udp) => write!(f, "tcp {}; udp {}", list(tcp), list(udp)),
        }
    }
}

impl PortRange {
    /// Ports of an allow rule that names none.
    pub const WEB: [Self; 2] = [Self::one(80), Self::one(443)];
    /// Ports of a deny rule that names none.
    pub const ALL: [Self; 1] = [Self { first: 1, last: u16::MAX }];

    /// One port.
    pub const fn one(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// How many ports it has.
    pub const fn count(self) -> usize {
        (self.last - self.first) as usize + 1
    }

    /// `ranges` sorted, with what overlaps or adjoins in one.
    pub fn join<'a>(ranges: impl IntoIterator<Item = &'a Self>) -> Vec<Self> {
        let mut ranges: Vec<Self> = ranges.into_iter().copied().collect();
        ranges.sort_unstable();
        let mut joined: Vec<Self> = Vec::with_capacity(ranges.len());
        for next in ranges {
            match joined.last_mut() {
                Some(last) if next.first <= last.last.saturating_add(1) => last.last = last.last.max(next.last),
                _ => joined.push(next),
            }
        }
        joined
    }

    /// Whether `port` lies in it.
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { self.first.fmt(f) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.list {
            Some(list) => write!(f, "{} (allowlist {list})", self.at),
            None => f.write_str(&self.at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It may shut what nobody here knows.
    #[test]
    fn a_policy_with_a_field_that_is_not_known_is_none() {
        let read = |text: &str| serde_json::from_str::<Policy>(text);
        assert!(read(r#"{"inbound":{"backend":{"tcp":[{"first":1,"last":2}]}}}"#).is_ok());
        assert!(read(r#"{"lately":{}}"#).is_err());
        assert!(read(r#"{"inbound":{"backend":{"sctp":[]}}}"#).is_err());
    }

    #[test]
    fn ports_are_sorted_and_joined() {
        let range = |first, last| PortRange { first, last };
        let cases = [
            (vec![range(443, 443), range(22, 22)], vec![range(22, 22), range(443, 443)]),
            (vec![range(80, 90), range(85, 86), range(91, 95), range(97, 97)], vec![range(80, 95), range(97, 97)]),
            (vec![range(1, 65535), range(65535, 65535)], vec![range(1, 65535)]),
        ];
        for (ports, expected) in cases {
            assert_eq!(PortRange::join(&ports), expected);
        }
    }
}
