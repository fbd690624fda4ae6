//! The one evaluator: a policy made fast to ask. Lint, plan, DNS, proxy, `explain` and `test` all ask it.

use std::sync::Arc;

use jiff::civil::Date;
use schema::policy::{DnsName, Host, HostPattern, Policy, Protocol, Rule};

use crate::verdict::{ConnectVerdict, Denial, Inspect, Question, Request, RequestVerdict, Transport};

/// A policy, ready to be asked.
///
/// # Guarantees
/// Pure: same policy, day and question, same answer. A deny rule wins over every allow rule; what no allow rule names is
/// denied.
#[derive(Debug, Clone)]
pub struct Compiled {
    allow: Vec<Arc<Rule>>,
    deny: Vec<Arc<Rule>>,
}

impl Compiled {
    /// Prepares `policy`.
    pub fn new(policy: &Policy) -> Self {
        let share = |rules: &[Rule]| rules.iter().cloned().map(Arc::new).collect();
        Self { allow: share(&policy.allow), deny: share(&policy.deny) }
    }

    /// Whether DNS may know `name`: some allow rule could lead to a connection to it.
    pub fn resolves(&self, name: &DnsName, today: Date) -> bool {
        let host = Host::Name(name.clone());
        let denied = self.deny.iter().any(|rule| matches_host(rule, &host) && denies_whole_host(rule));
        !denied && self.allow.iter().any(|rule| matches_host(rule, &host) && !expired(rule, today))
    }

    /// What becomes of a connection or a flow of datagrams.
    pub fn connect(&self, question: Question<'_>, today: Date) -> ConnectVerdict {
        let Question { host, port, transport } = question;
        let carries = |rule: &Rule| (rule.protocol == Protocol::Udp) == (transport == Transport::Udp);
        let at_port = |rule: &Rule| carries(rule) && rule.ports.iter().any(|range| range.contains(port));
        if let Some(rule) =
            self.deny.iter().find(|rule| matches_host(rule, host) && at_port(rule) && !rule.needs_requests())
        {
            return ConnectVerdict::Deny(Denial::Denied(Arc::clone(rule)));
        }
        let named: Vec<_> = self.allow.iter().filter(|rule| matches_host(rule, host)).collect();
        let open: Vec<_> = named.iter().filter(|rule| at_port(rule)).collect();
        let valid: Vec<_> = open.iter().filter(|rule| !expired(rule, today)).collect();
        let Some(first) = valid.first() else {
            return ConnectVerdict::Deny(match (open.first(), named.first()) {
                (Some(rule), _) => Denial::Expired(Arc::clone(rule)),
                (None, Some(rule)) => Denial::Port(Arc::clone(rule)),
                (None, None) => Denial::NoRule,
            });
        };
        let judged = valid.iter().any(|rule| rule.needs_requests())
            || self.deny.iter().any(|rule| matches_host(rule, host) && at_port(rule));
        let inspect = if transport == Transport::Udp {
            Inspect::Nothing
        } else if judged {
            Inspect::Requests
        } else {
            // The widest of what the rules let pass.
            valid.iter().map(|rule| loosest(rule.protocol)).min().unwrap_or(Inspect::Names)
        };
        ConnectVerdict::Allow { inspect, rule: Arc::clone(first) }
    }

    /// What becomes of a request on a connection that [`Compiled::connect`] allowed.
    pub fn request(&self, question: Question<'_>, request: &Request<'_>, today: Date) -> RequestVerdict {
        let Question { host, port, transport: _ } = question;
        let about = |rule: &&Arc<Rule>| {
            matches_host(rule, host)
                && rule.protocol != Protocol::Udp
                && rule.ports.iter().any(|range| range.contains(port))
        };
        if let Some(rule) =
            self.deny.iter().filter(about).find(|rule| crate::compiled::mismatch(rule, request).is_none())
        {
            return RequestVerdict::Deny(Denial::Denied(Arc::clone(rule)));
        }
        let mut nearest: Option<(u8, Denial)> = None;
        for rule in self.allow.iter().filter(about) {
            let denial = if expired(rule, today) {
                (0, Denial::Expired(Arc::clone(rule)))
            } else {
                match mismatch(rule, request) {
                    None => return RequestVerdict::Allow(Arc::clone(rule)),
                    Some(why) => why.denial(rule),
                }
            };
            if nearest.as_ref().is_none_or(|(best, _)| denial.0 > *best) {
                nearest = Some(denial);
            }
        }
        RequestVerdict::Deny(nearest.map_or(Denial::NoRule, |(_, denial)| denial))
    }
}

/// The first part of a rule that a request does not match, in the order in which rules are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mismatch {
    Method,
    Path,
    EncodedSeparator,
    Header,
    Upgrade,
}

impl Mismatch {
    /// How near the rule was, and the denial.
    fn denial(self, rule: &Arc<Rule>) -> (u8, Denial) {
        let rule = Arc::clone(rule);
        match self {
            Self::Method => (1, Denial::Method(rule)),
            Self::Path => (2, Denial::Path(rule)),
            Self::EncodedSeparator => (3, Denial::EncodedSeparator(rule)),
            Self::Header => (4, Denial::Header(rule)),
            Self::Upgrade => (5, Denial::Upgrade(rule)),
        }
    }
}

fn mismatch(rule: &Rule, request: &Request<'_>) -> Option<Mismatch> {
    let Request { method, path, headers, upgrade } = *request;
    if !rule.methods.is_empty() && !rule.methods.iter().any(|allowed| allowed == method) {
        return Some(Mismatch::Method);
    }
    if !rule.paths.is_empty() && !rule.paths.iter().any(|pattern| matches_path(pattern.as_str(), path.as_str())) {
        return Some(Mismatch::Path);
    }
    if path.has_encoded_separators() && !rule.encoded_separators {
        return Some(Mismatch::EncodedSeparator);
    }
    let has = |wanted: &schema::policy::HeaderMatch| {
        headers.any(&wanted.name, &mut |value| {
            wanted.value.as_deref().is_none_or(|pattern| matches_text(pattern.as_bytes(), value))
        })
    };
    if !rule.headers.iter().all(has) {
        return Some(Mismatch::Header);
    }
    (upgrade && !rule.upgrade).then_some(Mismatch::Upgrade)
}

fn matches_host(rule: &Rule, host: &Host) -> bool {
    match (&rule.host, host) {
        (HostPattern::Exact(wanted), Host::Name(name)) => wanted == name,
        (HostPattern::OneLabel(suffix), Host::Name(name)) => {
            name.as_str().split_once('.').is_some_and(|(_, rest)| rest == suffix.as_str())
        }
        (HostPattern::AnyDepth(suffix), Host::Name(name)) => {
            name.as_str().strip_suffix(suffix.as_str()).is_some_and(|rest| rest.ends_with('.'))
        }
        (HostPattern::Any, Host::Name(_)) => true,
        (HostPattern::Network(network), Host::Address(address)) => network.contains(address),
        _ => false,
    }
}

/// Whether nothing of the host is left by this deny rule, so that its name need not exist.
fn denies_whole_host(rule: &Rule) -> bool {
    !rule.needs_requests() && rule.ports.iter().any(|range| range.first <= 1 && range.last == u16::MAX)
}

fn expired(rule: &Rule, today: Date) -> bool {
    rule.expires.is_some_and(|last| today > last)
}

fn loosest(protocol: Protocol) -> Inspect {
    match protocol {
        Protocol::Tcp | Protocol::Udp => Inspect::Nothing,
        Protocol::Auto => Inspect::Names,
        Protocol::Tls => Inspect::Tls,
        Protocol::Http => Inspect::Http,
    }
}

/// `*` is any text without `/`, `**` any text.
fn matches_path(pattern: &str, path: &str) -> bool {
    glob(pattern.as_bytes(), path.as_bytes(), true)
}

/// `*` is any text.
fn matches_text(pattern: &[u8], text: &[u8]) -> bool {
    glob(pattern, text, false)
}

fn glob(pattern: &[u8], text: &[u8], segments: bool) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', b'*', rest @ ..] if segments => (0..=text.len()).any(|at| glob(rest, &text[at..], segments)),
        [b'*', rest @ ..] => (0..=text.len())
            .take_while(|at| !segments || !text[..*at].contains(&b'/'))
            .any(|at| glob(rest, &text[at..], segments)),
        [byte, rest @ ..] => text.first() == Some(byte) && glob(rest, &text[1..], segments),
    }
}
