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
    /// Whether it came inside TLS, and will leave inside TLS.
    pub tls: bool,
}

/// Headers of a request, however they are kept.
pub trait Headers {
    /// Whether any value of `name` (lower case) satisfies `matches`.
    fn any(&self, name: &str, matches: &mut dyn FnMut(&[u8]) -> bool) -> bool;

    /// Whether there is a value of `name`, and every one satisfies `matches`. Which of several a server takes is not known.
    fn all(&self, name: &str, matches: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.any(name, matches) && !self.any(name, &mut |value| !matches(value))
    }
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

/// How closely a connection has to be looked at; what passes is [`Inspect::lets_pass`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Inspect {
    /// Not at all: any bytes ([`schema::policy::Protocol::Tcp`]), or datagrams.
    Nothing,
    /// TLS must be for the name, HTTP must be for the name; anything else passes, except on port 80, where only plain HTTP
    /// passes, and on port 443, where only TLS does.
    Names,
    /// Plain HTTP or TLS, for the name; nothing else passes. What is inside TLS is not looked at.
    Http,
    /// TLS must be for the name; nothing else passes.
    Tls,
    /// Every HTTP request is judged, TLS is intercepted for that, and nothing but HTTP passes.
    Requests,
}

/// What a connection turns out to speak, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Speech {
    /// TLS.
    Tls,
    /// HTTP, not inside TLS.
    Http,
    /// Anything else, also a server that speaks first.
    Other,
}

impl Inspect {
    /// Whether what `speech` a connection to `port` turned out to be may go on. Whether its name is the right one, and
    /// what its requests are, is judged besides.
    pub const fn lets_pass(self, port: u16, speech: Speech) -> bool {
        match (self, speech) {
            (Self::Nothing, _) => true,
            (Self::Names, speech) => match port {
                80 => matches!(speech, Speech::Http),
                443 => matches!(speech, Speech::Tls),
                _ => true,
            },
            (Self::Tls, speech) => matches!(speech, Speech::Tls),
            (Self::Http | Self::Requests, speech) => !matches!(speech, Speech::Other),
        }
    }
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
    /// Rules name host and port, but not what is spoken; the nearest one. Also for a rule that writes a secret, when the
    /// request is not inside TLS.
    Protocol(Arc<Rule>),
    /// Rules name host and port, but not this method; the nearest one.
    Method(Arc<Rule>),
    /// The method is one that is not sent on, whatever rules say.
    UnfitMethod,
    /// Rules name host, port and method, but not this path; the nearest one.
    Path(Arc<Rule>),
    /// A header is missing or different; the nearest rule.
    Header(Arc<Rule>),
    /// The nearest rule does not let connections be upgraded.
    Upgrade(Arc<Rule>),
    /// The path has an encoded separator and the nearest rule does not take those.
    EncodedSeparator(Arc<Rule>),
}

impl Denial {
    /// Everything [`Denial::because`] says.
    pub const REASONS: [&str; 10] = [
        "no-rule",
        "denied",
        "expired",
        "port",
        "protocol",
        "method",
        "path",
        "header",
        "upgrade",
        "encoded-separator",
    ];

    /// What the audit record says: kebab case, stable.
    pub const fn because(&self) -> &'static str {
        match self {
            Self::NoRule => "no-rule",
            Self::Denied(_) => "denied",
            Self::Expired(_) => "expired",
            Self::Port(_) => "port",
            Self::Protocol(_) => "protocol",
            Self::Method(_) | Self::UnfitMethod => "method",
            Self::Path(_) => "path",
            Self::Header(_) => "header",
            Self::Upgrade(_) => "upgrade",
            Self::EncodedSeparator(_) => "encoded-separator",
        }
    }

    /// The rule that decided, or that came nearest.
    pub const fn rule(&self) -> Option<&Arc<Rule>> {
        match self {
            Self::NoRule | Self::UnfitMethod => None,
            Self::Denied(rule)
            | Self::Expired(rule)
            | Self::Port(rule)
            | Self::Protocol(rule)
            | Self::Method(rule)
            | Self::Path(rule)
            | Self::Header(rule)
            | Self::Upgrade(rule)
            | Self::EncodedSeparator(rule) => Some(rule),
        }
    }
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
