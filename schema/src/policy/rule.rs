//! Rules, and the policy of one sandbox.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{DnsName, HeaderEdits, HeaderMatch, HostPattern, PathPattern};

/// Everything that decides what one sandbox reaches. Empty means: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Policy {
    /// What is allowed. The order has no meaning for what is allowed; it breaks ties of which rule is named.
    pub allow: Vec<Rule>,
    /// What is denied all the same.
    pub deny: Vec<Rule>,
    /// Names the proxy resolves from here rather than by DNS.
    pub hosts: BTreeMap<DnsName, Vec<IpAddr>>,
    /// Address ranges that may be dialled although they are refused by default.
    pub dial_allow: Vec<IpNet>,
    /// How the proxy reaches the outside.
    pub upstream: Upstream,
}

/// One rule. A request matches when every part that is given matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Which hosts.
    pub host: HostPattern,
    /// Which ports; sorted, not overlapping, never empty. The language's default is 80 and 443.
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
    /// Whether paths with encoded separators (`%2f`, `%5c`) are judged rather than refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub encoded_separators: bool,
    /// Whether the connection may be upgraded (WebSocket).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub upgrade: bool,
    /// Most a request may take until its response begins.
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

/// Ports from first to last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortRange {
    /// First.
    pub first: u16,
    /// Last.
    pub last: u16,
}

/// What may be spoken to a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Whatever it turns out to be: TLS and HTTP are held to the name, HTTP is required on port 80 and TLS on 443,
    /// anything else passes untouched on other ports.
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
    /// Whether requests have to be seen to decide: a part of it is about method, path or headers, or changes them.
    pub fn needs_requests(&self) -> bool {
        !self.methods.is_empty()
            || !self.paths.is_empty()
            || !self.headers.is_empty()
            || !self.request.is_empty()
            || !self.response.is_empty()
            || self.timeout.is_some()
    }

    /// Secrets whose values the proxy writes for it.
    pub fn secrets(&self) -> impl Iterator<Item = &crate::Name> {
        self.request.secrets().chain(self.response.secrets())
    }
}

impl Policy {
    /// Whether nothing can be reached, so that nobody has to serve it.
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty()
    }

    /// Secrets whose values the proxy writes, each once.
    pub fn secrets(&self) -> std::collections::BTreeSet<&crate::Name> {
        self.allow.iter().flat_map(Rule::secrets).collect()
    }
}

impl PortRange {
    /// One port.
    pub const fn one(port: u16) -> Self {
        Self { first: port, last: port }
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
