//! What the evaluator is asked, and what it answers.

use std::sync::Arc;

use schema::policy::{Host, RequestPath, Rule};

/// A request, as far as it is seen.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Upper case as sent; methods are compared exactly.
    pub method: &'a str,
    /// Canonical path.
    pub path: &'a RequestPath,
    /// Headers, lower-case names.
    pub headers: &'a dyn Headers,
    /// Whether it asks to upgrade the connection.
    pub upgrade: bool,
}

/// Headers of a request, however they are kept.
pub trait Headers {
    /// Whether any value of `name` (lower case) satisfies `matches`.
    fn any(&self, name: &str, matches: &mut dyn FnMut(&[u8]) -> bool) -> bool;
}

/// No headers.
impl Headers for () {
    fn any(&self, _: &str, _: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        false
    }
}

impl std::fmt::Debug for dyn Headers + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("headers")
    }
}

/// How a connection is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A TCP connection.
    Tcp,
    /// Datagrams.
    Udp,
}

/// What becomes of a connection before anything of it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectVerdict {
    /// It may go on, within bounds.
    Allow {
        /// What has to be looked at.
        inspect: Inspect,
        /// The rule to name when nothing more is looked at.
        rule: Arc<Rule>,
    },
    /// It ends here.
    Deny(Denial),
}

/// How closely a connection has to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Inspect {
    /// Not at all: any bytes ([`schema::policy::Protocol::Tcp`]), or datagrams.
    Nothing,
    /// TLS must be for the name, HTTP must be for the name; anything else passes, except on ports 80 and 443.
    Names,
    /// TLS must be for the name; nothing else passes.
    Tls,
    /// HTTP only, plain or inside TLS; inside TLS only the name is looked at.
    Http,
    /// Every HTTP request is judged, and TLS is intercepted for that.
    Requests,
}

/// What becomes of one HTTP request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestVerdict {
    /// It is sent on, with the rule's changes.
    Allow(Arc<Rule>),
    /// It is refused.
    Deny(Denial),
}

/// Why something is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// No rule names the host.
    NoRule,
    /// A deny rule says so.
    Denied(Arc<Rule>),
    /// The nearest allow rule held until a day that has passed.
    Expired(Arc<Rule>),
    /// Rules name the host, but not this port or transport; the nearest one.
    Port(Arc<Rule>),
    /// Rules name host and port, but not this method; the nearest one.
    Method(Arc<Rule>),
    /// Rules name host, port and method, but not this path; the nearest one.
    Path(Arc<Rule>),
    /// A header is missing or different; the nearest rule.
    Header(Arc<Rule>),
    /// The nearest rule does not let connections be upgraded.
    Upgrade(Arc<Rule>),
    /// The path has an encoded separator and the nearest rule does not take those.
    EncodedSeparator(Arc<Rule>),
}

/// What is judged.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The host.
    pub host: &'a Host,
    /// The port.
    pub port: u16,
    /// The transport.
    pub transport: Transport,
}
