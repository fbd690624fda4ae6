//! The evaluator as the words of the documentation say it, rule by rule: what the fast one is held against.

use std::sync::Arc;

use jiff::civil::Date;
use schema::policy::{DnsName, Host, HostPattern, Policy, Protocol, Rule};

use crate::verdict::{ConnectVerdict, Denial, Headers, Inspect, Question, Request, RequestVerdict, Speech, Transport};

/// A policy as it is written.
#[derive(Debug, Clone)]
pub(super) struct Naive {
    allow: Vec<Arc<Rule>>,
    deny: Vec<Arc<Rule>>,
}

impl Naive {
    /// Takes `policy`.
    pub(super) fn new(policy: &Policy) -> Self {
        let share = |rules: &[Rule]| rules.iter().cloned().map(Arc::new).collect();
        let Policy { allow, deny, .. } = policy;
        let (mut allow, mut deny): (Vec<Arc<Rule>>, Vec<Arc<Rule>>) = (share(allow), share(deny));
        allow.sort_by_key(|rule| (precedence(rule), !rule.needs_requests()));
        deny.sort_by_key(|rule| precedence(rule));
        Self { allow, deny }
    }

    /// Whether DNS may know `name`: some allow rule could lead to a connection to it, or to a flow of datagrams.
    pub(super) fn resolves(&self, name: &DnsName, today: Date) -> bool {
        let host = Host::Name(name.clone());
        self.allow.iter().filter(|rule| matches_host(rule, &host) && rule.holds(today)).any(|rule| {
            let transport = if rule.protocol == Protocol::Udp { Transport::Udp } else { Transport::Tcp };
            // A denied range ends at its last port, so that only the port after one has to be tried.
            let after = self.deny.iter().flat_map(|rule| &rule.ports).filter_map(|range| range.last.checked_add(1));
            let mut tried = rule.ports.iter().map(|range| range.first).chain(after);
            tried.any(|port| {
                let question = Question { host: &host, port, transport };
                matches!(self.connect(question, today), ConnectVerdict::Allow { .. })
            })
        })
    }

    /// What becomes of a connection or a flow of datagrams.
    pub(super) fn connect(&self, question: Question<'_>, today: Date) -> ConnectVerdict {
        let Question { host, port, transport } = question;
        let udp = transport == Transport::Udp;
        let denying: Vec<_> = (self.deny.iter())
            .filter(|rule| matches_host(rule, host) && rule.denies_transport(udp) && rule.has_port(port))
            .collect();
        // Nobody sees requests in datagrams, so that a rule about them denies all.
        if let Some(rule) = denying.iter().find(|rule| udp || !rule.needs_requests()) {
            return ConnectVerdict::Deny(Denial::Denied(Arc::clone(rule)));
        }
        let named: Vec<_> = self.allow.iter().filter(|rule| matches_host(rule, host)).collect();
        let open: Vec<_> = named.iter().filter(|rule| rule.allows_transport(udp) && rule.has_port(port)).collect();
        let valid: Vec<_> = open.iter().filter(|rule| rule.holds(today)).collect();
        let Some(first) = valid.first() else {
            return ConnectVerdict::Deny(match (open.first(), named.first()) {
                (Some(rule), _) => Denial::Expired(Arc::clone(rule)),
                (None, Some(rule)) => Denial::Port(Arc::clone(rule)),
                (None, None) => Denial::NoRule,
            });
        };
        let inspect = if udp {
            Inspect::Nothing
        } else if valid.iter().any(|rule| rule.needs_requests()) || !denying.is_empty() {
            Inspect::Requests
        } else {
            let passes = |speech| valid.iter().any(|rule| alone(rule.protocol).lets_pass(port, speech));
            if valid.iter().any(|rule| rule.protocol == Protocol::Tcp) {
                Inspect::Nothing
            } else if passes(Speech::Other) {
                Inspect::Names
            } else if passes(Speech::Http) {
                if passes(Speech::Tls) { Inspect::Http } else { Inspect::Names }
            } else {
                Inspect::Tls
            }
        };
        ConnectVerdict::Allow { inspect, rule: Arc::clone(first) }
    }

    /// What becomes of a request on a connection that [`Naive::connect`] allowed.
    pub(super) fn request(&self, question: Question<'_>, request: &Request<'_>, today: Date) -> RequestVerdict {
        let Question { host, port, transport: _ } = question;
        let about = |rule: &&Arc<Rule>| matches_host(rule, host) && rule.has_port(port);
        let denying = self.deny.iter().filter(about).filter(|rule| rule.denies_transport(false));
        if let Some(rule) = denying.into_iter().find(|rule| denies(rule, request)) {
            return RequestVerdict::Deny(Denial::Denied(Arc::clone(rule)));
        }
        let allowing = self.allow.iter().filter(about).filter(|rule| rule.allows_transport(false));
        let mut nearest: Option<(u8, Denial)> = None;
        for rule in allowing {
            let denial = if rule.holds(today) {
                match mismatch(rule, port, request) {
                    None => return RequestVerdict::Allow(Arc::clone(rule)),
                    Some(why) => why.denial(rule),
                }
            } else {
                (0, Denial::Expired(Arc::clone(rule)))
            };
            if nearest.as_ref().is_none_or(|(best, _)| denial.0 > *best) {
                nearest = Some(denial);
            }
        }
        RequestVerdict::Deny(nearest.map_or(Denial::NoRule, |(_, denial)| denial))
    }
}

/// The rule that says most of the host comes first.
fn precedence(rule: &Rule) -> (std::cmp::Reverse<usize>, u8) {
    let (depth, kind) = match &rule.host {
        HostPattern::Exact(name) => (name.labels().count(), 0),
        HostPattern::OneLabel(name) => (name.labels().count(), 1),
        HostPattern::AnyDepth(name) => (name.labels().count(), 2),
        HostPattern::Any => (0, 2),
        HostPattern::Network(network) => (usize::from(network.prefix_len()), 0),
    };
    (std::cmp::Reverse(depth), kind)
}

/// The first part of a rule that a request does not match, in the order in which rules are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mismatch {
    Protocol,
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
            Self::Protocol => (1, Denial::Protocol(rule)),
            Self::Method => (2, Denial::Method(rule)),
            Self::Path => (3, Denial::Path(rule)),
            Self::EncodedSeparator => (4, Denial::EncodedSeparator(rule)),
            Self::Header => (5, Denial::Header(rule)),
            Self::Upgrade => (6, Denial::Upgrade(rule)),
        }
    }
}

fn mismatch(rule: &Rule, port: u16, request: &Request<'_>) -> Option<Mismatch> {
    let Request { method, path, headers, upgrade, tls } = *request;
    if !rule.allows_request(port, tls) {
        return Some(Mismatch::Protocol);
    }
    if !rule.methods.is_empty() && !rule.methods.iter().any(|allowed| allowed == method) {
        return Some(Mismatch::Method);
    }
    if !rule.paths.is_empty() && !rule.paths.iter().any(|pattern| matches_path(pattern.as_str(), path.as_str())) {
        return Some(Mismatch::Path);
    }
    if path.has_encoded_separators() && !rule.encoded_separators {
        return Some(Mismatch::EncodedSeparator);
    }
    if !all_headers(rule, headers) {
        return Some(Mismatch::Header);
    }
    (upgrade && !rule.upgrade).then_some(Mismatch::Upgrade)
}

/// Whether a deny rule is about `request`: in any spelling of its method and path.
fn denies(rule: &Rule, request: &Request<'_>) -> bool {
    let Request { method, path, headers, .. } = *request;
    let of_path = |pattern: &schema::policy::PathPattern| {
        matches_path(pattern.as_str(), path.as_str())
            || path
                .loosest()
                .is_some_and(|reading| glob(&schema::policy::decode_fully(pattern.as_str()), reading, true))
    };
    (rule.methods.is_empty() || rule.methods.iter().any(|denied| denied.eq_ignore_ascii_case(method)))
        && (rule.paths.is_empty() || rule.paths.iter().any(of_path))
        && has_headers(rule, headers)
}

fn all_headers(rule: &Rule, headers: &dyn Headers) -> bool {
    rule.headers.iter().all(|wanted| {
        headers.all(&wanted.name, &mut |value| {
            wanted.value.as_deref().is_none_or(|pattern| matches_text(pattern.as_bytes(), value))
        })
    })
}

fn has_headers(rule: &Rule, headers: &dyn Headers) -> bool {
    rule.headers.iter().all(|wanted| {
        headers.any(&wanted.name, &mut |value| {
            wanted.value.as_deref().is_none_or(|pattern| matches_text(pattern.as_bytes(), value))
        })
    })
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

/// What passes where a rule with this protocol is alone.
fn alone(protocol: Protocol) -> Inspect {
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
