//! What a sandbox needed while it was let out and looked at: from records to rules, as narrow as what was done.
//!
//! While somebody learns, further rules allow what the policy does not ([`rules`]). They are the last that is asked, so that
//! a record that names one of them is about something that the policy itself would have refused. Deny rules, and which
//! addresses are dialled, stay what they are.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use schema::policy::{Host, HostPattern, PathPattern, Place, Policy, PortRange, Protocol, RequestPath, Rule};
use serde::Serialize;

use crate::audit::{Record, Spoken};
use crate::compiled::Compiled;
use crate::replay;
use crate::verdict::{ConnectVerdict, Inspect, Question, Transport};

mod paths;
#[cfg(test)]
mod tests;

/// The place of the rules that learning adds.
pub const PLACE: &str = "learning";
/// The same for connections that were upgraded.
const UPGRADED: &str = "learning, upgraded";

/// Whether a record is about something that is let out only for as long as somebody learns.
pub fn is_learned(record: &Record) -> bool {
    matches!(record.rule.as_deref(), Some(PLACE | UPGRADED))
}

/// Whether it is about a connection that was upgraded; of other records nobody can tell.
pub(crate) fn was_upgraded(record: &Record) -> bool {
    record.rule.as_deref() == Some(UPGRADED)
}

/// `policy` with all that learning allows besides. Datagrams are not among it: nobody knows their ports beforehand.
pub(crate) fn opened(policy: &Policy) -> Policy {
    let mut policy = policy.clone();
    policy.allow.extend(rules());
    policy
}

/// Rules that allow every host; the one without upgrades comes first, and is named wherever it suffices.
fn rules() -> impl Iterator<Item = Rule> {
    let everybody = || [HostPattern::Any, v4(), v6()].into_iter();
    [(PLACE, false), (UPGRADED, true)].into_iter().flat_map(move |(place, upgrade)| {
        everybody().map(move |host| Rule {
            encoded_separators: true,
            upgrade,
            place: Place { at: place.to_owned(), list: None },
            ports: PortRange::ALL.to_vec(),
            ..Rule::of(host)
        })
    })
}

fn v4() -> HostPattern {
    HostPattern::Network(ipnet::Ipv4Net::default().into())
}

fn v6() -> HostPattern {
    HostPattern::Network(ipnet::Ipv6Net::default().into())
}

/// What came of learning.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Learned {
    /// Rules for what was done, by host.
    pub rules: Vec<Rule>,
    /// Connections and requests they are for.
    pub uses: u64,
    /// What was refused all the same, by deny rules and because of addresses; and what led nowhere.
    pub refused: Vec<Refused>,
}

/// Something that no rule is proposed for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Why, as the record says: `denied`, `address-refused`, `no-such-host`.
    pub because: String,
    /// How often.
    pub times: u64,
}

/// What was spoken with one host on one port.
#[derive(Default)]
struct Spoke {
    /// TLS that nobody looked into.
    tls: bool,
    /// Anything else that nobody looked at.
    other: bool,
    /// Paths by method, and whether the connection was upgraded.
    requests: BTreeMap<(bool, String), BTreeSet<String>>,
}

/// Outcomes of what was let out that need no rule: it leads nowhere.
const NOWHERE: &[&str] =
    &["no-such-host", "lookup-failed", "address-refused", "loop", "upstream-failed", "upstream-timeout"];

/// Works out what `records` ask for beyond `policy`.
///
/// # Guarantees
/// With the rules, `policy` allows whatever was let out and led somewhere; nothing is named that was not done, but that of
/// many paths, and of parts of paths that look like names of single things, a pattern is made. Queries, headers and bodies
/// are in no record, so they are in no rule.
pub fn learn<'r>(policy: &Policy, records: impl IntoIterator<Item = &'r Record>, today: Date) -> Learned {
    let compiled = Compiled::new(policy);
    let mut spoken: BTreeMap<(String, u16), (Host, Spoke)> = BTreeMap::new();
    let mut refused: BTreeMap<(String, u16, String), u64> = BTreeMap::new();
    let mut uses = 0;
    for record in records {
        let because = record.because.as_deref();
        let nowhere = because.is_some_and(|because| NOWHERE.contains(&because));
        if !record.allowed || nowhere && is_learned(record) {
            // What is asked of DNS is told by the connections that follow.
            if record.protocol != Spoken::Dns {
                let because = because.unwrap_or("refused").to_owned();
                *refused.entry((record.host.clone(), record.port, because)).or_default() += 1;
            }
            continue;
        }
        // What is only asked of DNS needs nothing, and the policy may have come to allow it meanwhile.
        if record.protocol == Spoken::Dns || !is_learned(record) || replay::allows(&compiled, record, today) {
            continue;
        }
        let Ok(host) = record.host.parse::<Host>() else { continue };
        uses += 1;
        let (_, spoke) = spoken.entry((record.host.clone(), record.port)).or_insert_with(|| (host, Spoke::default()));
        match (record.protocol, &record.method, &record.path) {
            (Spoken::Http | Spoken::Https, Some(method), Some(path)) => {
                let upgraded = was_upgraded(record);
                spoke.requests.entry((upgraded, method.clone())).or_default().insert(path.clone());
            }
            (Spoken::Tls, ..) => spoke.tls = true,
            (Spoken::Tcp, ..) => spoke.other = true,
            _ => {}
        }
    }
    let mut rules = Vec::new();
    for ((_, port), (host, spoke)) in &spoken {
        // Where connections pass unseen, a rule about methods or paths would end those that are not HTTP.
        let question = Question { host, port: *port, transport: Transport::Tcp };
        let unseen = match compiled.connect(question, today) {
            ConnectVerdict::Allow { inspect, .. } => inspect != Inspect::Requests,
            ConnectVerdict::Deny(_) => false,
        };
        for rule in propose(host, *port, spoke, unseen) {
            add(&mut rules, rule);
        }
    }
    let refused = refused.into_iter().map(|((host, port, because), times)| Refused { host, port, because, times });
    Learned { rules, uses, refused: refused.collect() }
}

/// Rules for one port of a host; `unseen` is whether its requests must not be looked at.
fn propose(host: &Host, port: u16, spoke: &Spoke, unseen: bool) -> Vec<Rule> {
    let pattern = match host {
        Host::Name(name) => HostPattern::Exact(name.clone()),
        Host::Address(address) => HostPattern::Network((*address).into()),
    };
    let rule = || Rule { ports: vec![PortRange::one(port)], ..Rule::of(pattern.clone()) };
    if spoke.tls || spoke.other || unseen {
        // On 443 nothing but TLS passes as it is.
        let only_tls = spoke.tls && !spoke.other && spoke.requests.is_empty() && port != 443;
        let protocol = if only_tls { Protocol::Tls } else { Protocol::Auto };
        let upgrade = spoke.requests.keys().any(|(upgrade, _)| *upgrade);
        let encoded = spoke.requests.values().flatten().any(|path| is_encoded(path));
        return vec![Rule { protocol, upgrade, encoded_separators: encoded, ..rule() }];
    }
    let mut rules: Vec<Rule> = Vec::new();
    for ((upgrade, method), paths) in &spoke.requests {
        for encoded in [false, true] {
            let some: BTreeSet<&str> =
                paths.iter().map(String::as_str).filter(|path| is_encoded(path) == encoded).collect();
            let patterns: Vec<PathPattern> = paths::patterns(&some);
            if patterns.is_empty() {
                continue;
            }
            let same = |rule: &&mut Rule| {
                rule.paths == patterns && rule.upgrade == *upgrade && rule.encoded_separators == encoded
            };
            match rules.iter_mut().find(same) {
                Some(same) => same.methods.push(method.clone()),
                None => rules.push(Rule {
                    methods: vec![method.clone()],
                    paths: patterns,
                    upgrade: *upgrade,
                    encoded_separators: encoded,
                    ..rule()
                }),
            }
        }
    }
    rules
}

fn is_encoded(path: &str) -> bool {
    RequestPath::parse(path).is_ok_and(|path| path.has_encoded_separators())
}

/// Adds a rule, to one that says the same of another port of the same host if there is one.
fn add(rules: &mut Vec<Rule>, rule: Rule) {
    let same = |known: &&mut Rule| {
        known.host == rule.host
            && Rule { ports: Vec::new(), ..(**known).clone() } == Rule { ports: Vec::new(), ..rule.clone() }
    };
    match rules.iter_mut().find(same) {
        Some(known) => known.ports.extend(rule.ports),
        None => rules.push(rule),
    }
}
