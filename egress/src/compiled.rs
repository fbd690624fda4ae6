//! The one evaluator: a policy made fast to ask. Lint, plan, DNS, proxy, `explain` and `test` all ask it.

mod glob;
mod hosts;
#[cfg(test)]
mod naive;
#[cfg(test)]
pub(crate) mod properties;

use std::ops::ControlFlow;
use std::sync::Arc;

use jiff::civil::Date;
use schema::policy::{DnsName, Policy, PortRange, Protocol, Rule};
use smallvec::SmallVec;

use self::glob::Glob;
use self::hosts::{Hosts, Key};
use crate::defence::Defence;
use crate::verdict::{ConnectVerdict, Denial, Headers, Inspect, Question, Request, RequestVerdict, Speech, Transport};

/// A policy, ready to be asked.
///
/// # Guarantees
/// Pure: same policy, day and question, same answer. A deny rule wins over every allow rule; what no allow rule names is
/// denied. No answer allocates memory; one takes time in proportion to the labels of the host and to the rules about it,
/// however many there are about others.
#[derive(Debug, Clone)]
pub struct Compiled {
    allow: Hosts<Allow>,
    deny: Hosts<Deny>,
}

/// An allow rule. What most decisions look at is in one place: of many rules hardly one is in the processor's cache when it
/// is asked for, and each pointer followed is another wait.
#[derive(Debug, Clone)]
struct Allow {
    rule: Arc<Rule>,
    requests: bool,
    udp: bool,
    in_clear: bool,
    protocol: Protocol,
    ports: SmallVec<[PortRange; 4]>,
    methods: Methods,
    expires: Option<Date>,
    paths: SmallVec<[Glob; 1]>,
    headers: Box<[Option<Glob>]>,
}

/// Methods that a rule names; all if it names none.
#[derive(Debug, Clone, Copy)]
struct Methods {
    /// Those of [`COMMON`], a bit each.
    common: u8,
    /// Whether it names others: then all are looked for in the rule.
    others: bool,
    all: bool,
}

/// Methods that nearly all rules do with.
const COMMON: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"];

/// A deny rule.
#[derive(Debug, Clone)]
struct Deny {
    rule: Arc<Rule>,
    requests: bool,
    paths: Box<[Glob]>,
    /// The same patterns, for the loosest reading of a path.
    loose_paths: Box<[Glob]>,
    headers: Box<[Option<Glob>]>,
}

impl Compiled {
    /// Prepares `policy`.
    pub fn new(policy: &Policy) -> Self {
        let headers = |rule: &Rule| rule.headers.iter().map(|header| header.value.as_deref().map(Glob::text)).collect();
        let mut allow: Vec<_> = policy.allow.iter().collect();
        // Of rules about the same host, those that need requests come first, whatever the order they are written in.
        allow.sort_by_key(|rule| !rule.needs_requests());
        let allow = allow.into_iter().map(|rule| {
            let entry = Allow {
                requests: rule.needs_requests(),
                udp: rule.allows_transport(true),
                in_clear: rule.allows_in_clear(),
                protocol: rule.protocol,
                ports: rule.ports.iter().copied().collect(),
                methods: Methods::of(&rule.methods),
                expires: rule.expires,
                paths: rule.paths.iter().map(Glob::path).collect(),
                headers: headers(rule),
                rule: Arc::new(rule.clone()),
            };
            (&rule.host, entry)
        });
        let deny = policy.deny.iter().map(|rule| {
            let entry = Deny {
                requests: rule.needs_requests(),
                paths: rule.paths.iter().map(Glob::path).collect(),
                loose_paths: rule.paths.iter().map(Glob::loose_path).collect(),
                headers: headers(rule),
                rule: Arc::new(rule.clone()),
            };
            (&rule.host, entry)
        });
        Self { allow: Hosts::new(allow.collect()), deny: Hosts::new(deny.collect()) }
    }

    /// Whether DNS may know `name`: some allow rule could lead to a connection to it, or to a flow of datagrams.
    pub fn resolves(&self, name: &DnsName, today: Date) -> bool {
        self.reaches(Key::Name(name), today)
    }

    /// What becomes of a connection or a flow of datagrams.
    pub fn connect(&self, question: Question<'_>, today: Date) -> ConnectVerdict {
        let verdict = self.by_rules(question, today);
        #[cfg(feature = "failpoints")]
        if Defence::Rules.is_off() && matches!(verdict, ConnectVerdict::Deny(_)) {
            return ConnectVerdict::Allow { inspect: Inspect::Nothing, rule: Arc::new(crate::defence::anything()) };
        }
        verdict
    }

    fn by_rules(&self, question: Question<'_>, today: Date) -> ConnectVerdict {
        let Question { host, port, transport } = question;
        let host = Key::from(host);
        let udp = transport == Transport::Udp;
        let mut judged = match self.denied(question) {
            Err(rule) => return ConnectVerdict::Deny(Denial::Denied(Arc::clone(rule))),
            Ok(judged) => judged,
        };
        let (mut named, mut open, mut valid) = (None, None, None);
        let mut passing = Passing::default();
        let _: ControlFlow<()> = self.allow.each(host, |entries| {
            for entry in entries {
                let rule = &entry.rule;
                named = named.or(Some(rule));
                if !entry.is_open(udp, port) {
                    continue;
                }
                open = open.or(Some(rule));
                if entry.holds(today) {
                    valid = valid.or(Some(rule));
                    judged |= entry.requests;
                    passing.add(entry.protocol, port);
                }
            }
            ControlFlow::Continue(())
        });
        let Some(rule) = valid else {
            return ConnectVerdict::Deny(match (open, named) {
                (Some(rule), _) => Denial::Expired(Arc::clone(rule)),
                (None, Some(rule)) => Denial::Port(Arc::clone(rule)),
                (None, None) => Denial::NoRule,
            });
        };
        let inspect = match () {
            () if udp => Inspect::Nothing,
            () if judged => Inspect::Requests,
            () => passing.inspect(),
        };
        ConnectVerdict::Allow { inspect, rule: Arc::clone(rule) }
    }

    /// What becomes of a request on a connection that [`Compiled::connect`] allowed.
    pub fn request(&self, question: Question<'_>, request: &Request<'_>, today: Date) -> RequestVerdict {
        let Question { host, port, transport: _ } = question;
        let host = Key::from(host);
        if let Some(rule) = self.denied_request(question, request) {
            return RequestVerdict::Deny(Denial::Denied(Arc::clone(rule)));
        }
        let mut nearest: Option<(Miss, &Arc<Rule>)> = None;
        let allowed = self.allow.each(host, |entries| {
            for entry in entries {
                let rule = &entry.rule;
                if !entry.is_open(false, port) {
                    continue;
                }
                let miss = if entry.holds(today) { entry.miss(port, request) } else { Some(Miss::Expired) };
                let Some(miss) = miss else { return ControlFlow::Break(rule) };
                if nearest.is_none_or(|(best, _)| miss > best) {
                    nearest = Some((miss, rule));
                }
            }
            ControlFlow::Continue(())
        });
        if let ControlFlow::Break(rule) = allowed {
            return RequestVerdict::Allow(Arc::clone(rule));
        }
        RequestVerdict::Deny(nearest.map_or(Denial::NoRule, |(miss, rule)| miss.denial(rule)))
    }

    /// What becomes of a connection or flow once it is known what it speaks, if anybody looks: the rule that lets it pass.
    /// Where requests are looked at, they are judged besides.
    pub fn spoken(&self, question: Question<'_>, speech: Option<Speech>, today: Date) -> RequestVerdict {
        let (inspect, first) = match self.connect(question, today) {
            ConnectVerdict::Deny(denial) => return RequestVerdict::Deny(denial),
            ConnectVerdict::Allow { inspect, rule } => (inspect, rule),
        };
        let Question { host, port, transport } = question;
        let passing = self.allow.each(Key::from(host), |entries| {
            let passing = entries.iter().find(|entry| {
                entry.is_open(transport == Transport::Udp, port)
                    && entry.holds(today)
                    && match inspect {
                        Inspect::Requests => entry.requests,
                        Inspect::Nothing => alone(entry.protocol) == Inspect::Nothing,
                        _ => speech.is_some_and(|speech| alone(entry.protocol).lets_pass(port, speech)),
                    }
            });
            passing.map_or(ControlFlow::Continue(()), |entry| ControlFlow::Break(&entry.rule))
        });
        let named = match passing {
            ControlFlow::Break(rule) => Arc::clone(rule),
            ControlFlow::Continue(()) => first,
        };
        let passes = speech.map_or(inspect == Inspect::Nothing, |speech| inspect.lets_pass(port, speech));
        if passes || Defence::Speech.is_off() {
            RequestVerdict::Allow(named)
        } else {
            RequestVerdict::Deny(Denial::Protocol(named))
        }
    }

    /// Whether a further allow rule, for exactly this question, would have its requests looked at because of other rules;
    /// the rule that denies it all the same, if one does.
    pub fn outlook(&self, question: Question<'_>, today: Date) -> Result<bool, Arc<Rule>> {
        let judged = self.denied(question).map_err(Arc::clone)?;
        let inspect = match self.connect(question, today) {
            ConnectVerdict::Allow { inspect, .. } => inspect,
            ConnectVerdict::Deny(_) => Inspect::Nothing,
        };
        Ok(judged || inspect == Inspect::Requests)
    }

    /// The deny rule that is about `request`, if there is one.
    pub fn denied_request(&self, question: Question<'_>, request: &Request<'_>) -> Option<&Arc<Rule>> {
        let Question { host, port, transport: _ } = question;
        if Defence::Deny.is_off() {
            return None;
        }
        let denied = self.deny.each(Key::from(host), |entries| {
            let about = |entry: &&Deny| entry.rule.denies_transport(false) && entry.rule.has_port(port);
            match entries.iter().filter(about).find(|entry| entry.denies(request)) {
                Some(entry) => ControlFlow::Break(&entry.rule),
                None => ControlFlow::Continue(()),
            }
        });
        denied.break_value()
    }

    /// The deny rule that is about the whole connection; else whether one is about its requests.
    fn denied(&self, question: Question<'_>) -> Result<bool, &Arc<Rule>> {
        let Question { host, port, transport } = question;
        let udp = transport == Transport::Udp;
        if Defence::Deny.is_off() {
            return Ok(false);
        }
        let mut judged = false;
        let denied = self.deny.each(Key::from(host), |entries| {
            for Deny { rule, requests, .. } in entries {
                if rule.denies_transport(udp) && rule.has_port(port) {
                    // Nobody sees requests in datagrams, so that a rule about them denies all.
                    if udp || !requests {
                        return ControlFlow::Break(rule);
                    }
                    judged = true;
                }
            }
            ControlFlow::Continue(())
        });
        denied.break_value().map_or(Ok(judged), Err)
    }

    /// Whether any port of `host` can be reached.
    fn reaches(&self, host: Key<'_>, today: Date) -> bool {
        self.allow
            .each(host, |entries| {
                let mut reached = entries.iter().filter(|entry| entry.holds(today));
                if reached.any(|entry| self.leaves_a_port(host, &entry.rule)) {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
            .is_break()
    }

    /// Whether deny rules leave any port of what `allow` allows.
    fn leaves_a_port(&self, host: Key<'_>, allow: &Rule) -> bool {
        let udp = allow.protocol == Protocol::Udp;
        if Defence::Deny.is_off() {
            return true;
        }
        allow.ports.iter().any(|range| {
            let mut port = range.first;
            loop {
                let denied = self.deny.each(host, |entries| {
                    let whole = |entry: &&Deny| (udp || !entry.requests) && entry.rule.denies_transport(udp);
                    let mut ranges = entries.iter().filter(whole).flat_map(|entry| &entry.rule.ports);
                    match ranges.find(|range| range.contains(port)) {
                        Some(range) => ControlFlow::Break(range.last),
                        None => ControlFlow::Continue(()),
                    }
                });
                match denied {
                    ControlFlow::Continue(()) => return true,
                    ControlFlow::Break(last) if last >= range.last => return false,
                    ControlFlow::Break(last) => port = last + 1,
                }
            }
        })
    }
}

/// What several rules together let pass of a connection none of whose requests has to be seen.
#[derive(Debug, Clone, Copy, Default)]
struct Passing {
    unseen: bool,
    other: bool,
    http: bool,
    tls: bool,
}

impl Passing {
    fn add(&mut self, protocol: Protocol, port: u16) {
        let alone = alone(protocol);
        self.unseen |= alone == Inspect::Nothing;
        self.other |= alone.lets_pass(port, Speech::Other);
        self.http |= alone.lets_pass(port, Speech::Http);
        self.tls |= alone.lets_pass(port, Speech::Tls);
    }

    fn inspect(self) -> Inspect {
        match self {
            Self { unseen: true, .. } => Inspect::Nothing,
            Self { other: true, .. } => Inspect::Names,
            Self { http: true, tls: true, .. } => Inspect::Http,
            // Only on port 80, where names alone lets nothing else pass.
            Self { http: true, .. } => Inspect::Names,
            Self { .. } => Inspect::Tls,
        }
    }
}

/// How closely a connection is looked at where a rule with this protocol is the only one, and not about requests.
const fn alone(protocol: Protocol) -> Inspect {
    match protocol {
        Protocol::Tcp | Protocol::Udp => Inspect::Nothing,
        Protocol::Auto => Inspect::Names,
        Protocol::Http => Inspect::Http,
        Protocol::Tls => Inspect::Tls,
    }
}

/// The first part of an allow rule that a request does not match; a later one is nearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Miss {
    Expired,
    Protocol,
    Method,
    Path,
    EncodedSeparator,
    Header,
    Upgrade,
}

impl Miss {
    fn denial(self, rule: &Arc<Rule>) -> Denial {
        let rule = Arc::clone(rule);
        match self {
            Self::Expired => Denial::Expired(rule),
            Self::Protocol => Denial::Protocol(rule),
            Self::Method => Denial::Method(rule),
            Self::Path => Denial::Path(rule),
            Self::EncodedSeparator => Denial::EncodedSeparator(rule),
            Self::Header => Denial::Header(rule),
            Self::Upgrade => Denial::Upgrade(rule),
        }
    }
}

impl Methods {
    fn of(methods: &[String]) -> Self {
        let common = methods.iter().filter_map(|method| Self::bit(method)).fold(0, |all, bit| all | bit);
        let others = methods.iter().any(|method| Self::bit(method).is_none());
        Self { common, others, all: methods.is_empty() }
    }

    fn bit(method: &str) -> Option<u8> {
        COMMON.iter().position(|common| *common == method).map(|at| 1 << at)
    }
}

impl Allow {
    /// Whether it is about `port` of a host it is about.
    fn is_open(&self, udp: bool, port: u16) -> bool {
        self.udp == udp && self.ports.iter().any(|range| range.contains(port))
    }

    /// Whether it has not expired.
    fn holds(&self, today: Date) -> bool {
        self.expires.is_none_or(|last| today <= last) || Defence::Expiry.is_off()
    }

    fn has_method(&self, method: &str) -> bool {
        let Methods { common, others, all } = self.methods;
        all || Methods::bit(method).is_some_and(|bit| common & bit != 0)
            || others && self.rule.methods.iter().any(|allowed| allowed == method)
    }

    fn miss(&self, port: u16, request: &Request<'_>) -> Option<Miss> {
        let Self { rule, paths, headers, .. } = self;
        let text = request.path.as_str().as_bytes();
        let met = [
            (self.protocol.carries_requests(port, request.tls) && (request.tls || self.in_clear), Miss::Protocol),
            (self.has_method(request.method) || Defence::Method.is_off(), Miss::Method),
        ];
        if let Some((_, miss)) = met.into_iter().find(|(met, _)| !met) {
            return Some(miss);
        }
        if !paths.is_empty() && !paths.iter().any(|pattern| pattern.matches(text)) && !Defence::Path.is_off() {
            return Some(Miss::Path);
        }
        if request.path.has_encoded_separators() && !rule.encoded_separators && !Defence::EncodedSeparators.is_off() {
            return Some(Miss::EncodedSeparator);
        }
        if !all_headers(rule, headers, request.headers) && !Defence::Header.is_off() {
            return Some(Miss::Header);
        }
        (request.upgrade && !rule.upgrade && !Defence::Upgrade.is_off()).then_some(Miss::Upgrade)
    }
}

impl Deny {
    /// Whether it is about `request`, in any spelling of its method and path, upgraded or not.
    fn denies(&self, request: &Request<'_>) -> bool {
        let Self { rule, paths, loose_paths, headers, .. } = self;
        let method = |denied: &String| denied.eq_ignore_ascii_case(request.method);
        let text = request.path.as_str().as_bytes();
        (rule.methods.is_empty() || rule.methods.iter().any(method))
            && (paths.is_empty()
                || paths.iter().any(|pattern| pattern.matches(text))
                || request.path.loosest().is_some_and(|text| loose_paths.iter().any(|pattern| pattern.matches(text))))
            && has_headers(rule, headers, request.headers)
    }
}

/// Whether a path, in its one form, is one that `pattern` is about.
pub(crate) fn matches_path(pattern: &schema::policy::PathPattern, text: &str) -> bool {
    Glob::path(pattern).matches(text.as_bytes())
}

fn all_headers(rule: &Rule, values: &[Option<Glob>], headers: &dyn Headers) -> bool {
    rule.headers.iter().zip(values).all(|(wanted, value)| {
        headers.all(&wanted.name, &mut |found| value.as_ref().is_none_or(|value| value.matches(found)))
    })
}

fn has_headers(rule: &Rule, values: &[Option<Glob>], headers: &dyn Headers) -> bool {
    rule.headers.iter().zip(values).all(|(wanted, value)| {
        headers.any(&wanted.name, &mut |found| value.as_ref().is_none_or(|value| value.matches(found)))
    })
}
