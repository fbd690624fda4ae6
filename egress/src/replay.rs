//! What a change of policy would have meant for what was really asked for: recorded decisions, judged again.

#[cfg(test)]
mod tests;

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use jiff::civil::Date;
use schema::Config;
use schema::config::EgressMode;
use schema::policy::{Host, RequestPath, Rule};
use serde::Serialize;

use crate::audit::{Record, Spoken};
use crate::compiled::Compiled;
use crate::judge::Wish;
use crate::learn;
use crate::verdict::{Denial, Headers, Question, Request, RequestVerdict, Speech, Transport};

/// Recorded decisions beside what the proposed policies say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Replay {
    /// What was denied and would be allowed.
    pub opened: Vec<Group>,
    /// What was allowed and would be denied.
    pub closed: Vec<Group>,
    /// Records whose answer stays the same.
    pub same: u64,
    /// Records that say too little: of requests nobody looked at, or of headers, which are never recorded.
    pub unclear: u64,
}

/// Records about one host and port of one sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// The sandbox.
    pub sandbox: String,
    /// The host.
    pub host: String,
    /// The port; `None` for a name that was only asked for.
    pub port: Option<u16>,
    /// How many records.
    pub requests: u64,
    /// One of the requests, `POST /v1/messages`, where they were seen.
    pub example: Option<String>,
    /// Why they would be denied, as [`Denial::because`] says, or `mode`.
    pub because: Option<&'static str>,
}

/// How one sandbox would be judged.
enum Proposed {
    Policy(Box<Compiled>),
    Everything,
    Nothing,
}

/// What would become of a record.
enum Now {
    Allowed,
    Denied(&'static str),
    Unclear,
}

/// Judges `records` again under the policies of `config`. Records of other projects and of sandboxes that are not in it are
/// passed over, as are refusals that no policy is the reason for, and what was let out only while somebody learned.
pub fn replay(config: &Config, records: impl IntoIterator<Item = impl Borrow<Record>>, today: Date) -> Replay {
    let mut proposed: HashMap<&str, Proposed> = HashMap::new();
    let mut opened: BTreeMap<(String, String, Option<u16>), Group> = BTreeMap::new();
    let mut closed = BTreeMap::new();
    let mut replay = Replay::default();
    for record in records {
        let record: &Record = record.borrow();
        if record.project != config.project.as_str() || !decided_by_policy(record) || learn::is_learned(record) {
            continue;
        }
        let Some(sandbox) = config.sandboxes.get(record.sandbox.as_str()) else { continue };
        let policy = proposed.entry(sandbox.name.as_str()).or_insert_with(|| match sandbox.egress.mode {
            EgressMode::None => Proposed::Nothing,
            EgressMode::Open => Proposed::Everything,
            EgressMode::Allowlist | EgressMode::Direct => {
                Proposed::Policy(Box::new(Compiled::new(&sandbox.egress.policy)))
            }
        });
        let groups = match (record.allowed, policy.judge(record, today)) {
            (_, Now::Unclear) => {
                replay.unclear += 1;
                continue;
            }
            (false, Now::Allowed) => add(&mut opened, record, None),
            // Of a name that is not known any more, the connections tell.
            (true, Now::Denied(because)) if record.protocol != Spoken::Dns => add(&mut closed, record, Some(because)),
            _ => {
                replay.same += 1;
                continue;
            }
        };
        groups.requests += 1;
    }
    // A name that is opened is told once, with its ports where connections to them were tried.
    let with_port: Vec<(String, String)> =
        opened.keys().filter(|key| key.2.is_some()).map(|(sandbox, host, _)| (sandbox.clone(), host.clone())).collect();
    opened.retain(|key, _| key.2.is_some() || !with_port.contains(&(key.0.clone(), key.1.clone())));
    let most_first = |groups: BTreeMap<_, Group>| {
        let mut groups: Vec<Group> = groups.into_values().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.requests));
        groups
    };
    Replay { opened: most_first(opened), closed: most_first(closed), ..replay }
}

type Groups = BTreeMap<(String, String, Option<u16>), Group>;

fn add<'g>(groups: &'g mut Groups, record: &Record, because: Option<&'static str>) -> &'g mut Group {
    let port = (record.protocol != Spoken::Dns).then_some(record.port);
    groups.entry((record.sandbox.clone(), record.host.clone(), port)).or_insert_with(|| Group {
        sandbox: record.sandbox.clone(),
        host: record.host.clone(),
        port,
        requests: 0,
        example: record.method.as_ref().zip(record.path.as_ref()).map(|(method, path)| format!("{method} {path}")),
        because,
    })
}

/// Whether the answer was one that another policy could have changed.
fn decided_by_policy(record: &Record) -> bool {
    record.allowed || record.because.as_deref().is_some_and(|because| Denial::REASONS.contains(&because))
}

impl Proposed {
    fn judge(&self, record: &Record, today: Date) -> Now {
        match self {
            Self::Nothing => Now::Denied("mode"),
            Self::Everything => Now::Allowed,
            Self::Policy(compiled) => judge(compiled, record, today),
        }
    }
}

/// Whether what was recorded is allowed, whatever is not in the record.
pub(crate) fn allows(compiled: &Compiled, record: &Record, today: Date) -> bool {
    matches!(judge(compiled, record, today), Now::Allowed)
}

/// Rules that may be what lets a record's connection or request pass: which of them does can depend on what is in no record.
pub(crate) fn deciding(compiled: &Compiled, record: &Record, today: Date) -> Vec<Arc<Rule>> {
    let mut rules: Vec<Arc<Rule>> = Vec::new();
    for upgrade in [false, true] {
        for verdict in verdicts(compiled, record, upgrade, today).into_iter().flatten() {
            if let RequestVerdict::Allow(rule) = verdict
                && !rules.iter().any(|known| Arc::ptr_eq(known, &rule))
            {
                rules.push(rule);
            }
        }
    }
    rules
}

fn judge(compiled: &Compiled, record: &Record, today: Date) -> Now {
    if record.protocol == Spoken::Dns {
        let Ok(Host::Name(name)) = record.host.parse::<Host>() else { return Now::Unclear };
        return if compiled.resolves(&name, today) { Now::Allowed } else { Now::Denied("no-rule") };
    }
    let Some(verdicts) = verdicts(compiled, record, learn::was_upgraded(record), today) else {
        return Now::Unclear;
    };
    let unseen = record.method.is_none() || record.path.is_none();
    let [without, with] = verdicts.map(|verdict| match verdict {
        RequestVerdict::Allow(_) => Now::Allowed,
        // Requests that nobody looked at so far would be.
        RequestVerdict::Deny(Denial::Protocol(rule))
            if unseen && record.protocol != Spoken::Udp && rule.needs_requests() =>
        {
            if speech(record.protocol) == Speech::Other { Now::Denied("protocol") } else { Now::Unclear }
        }
        RequestVerdict::Deny(denial) => Now::Denied(denial.because()),
    });
    match (without, with) {
        (Now::Allowed, Now::Allowed) => Now::Allowed,
        // The header that an allow rule asks for may be there without the one that a deny rule is about.
        (Now::Denied("header"), Now::Denied("denied")) => Now::Unclear,
        (Now::Denied(because), Now::Denied(_)) => Now::Denied(because),
        _ => Now::Unclear,
    }
}

fn speech(protocol: Spoken) -> Speech {
    match protocol {
        Spoken::Dns | Spoken::Tcp | Spoken::Udp => Speech::Other,
        Spoken::Tls | Spoken::Https => Speech::Tls,
        Spoken::Http => Speech::Http,
    }
}

/// What becomes of a record's connection or request without any header, and with all of them: they are not recorded, and a
/// record is clear when they make no difference. `None` for questions of DNS, and for what cannot be read.
fn verdicts(compiled: &Compiled, record: &Record, upgrade: bool, today: Date) -> Option<[RequestVerdict; 2]> {
    if record.protocol == Spoken::Dns {
        return None;
    }
    let host = record.host.parse::<Host>().ok()?;
    let transport = if record.protocol == Spoken::Udp { Transport::Udp } else { Transport::Tcp };
    let question = Question { host: &host, port: record.port, transport };
    let speech = speech(record.protocol);
    let path = record.path.as_deref().map(RequestPath::parse).transpose().ok()?;
    Some([false, true].map(|present| {
        let headers = Assumed(present);
        let request = record.method.as_deref().zip(path.as_ref()).map(|(method, path)| Request {
            method,
            path,
            headers: &headers,
            upgrade,
            tls: speech == Speech::Tls,
        });
        compiled.judge(&Wish { question, speech, request }, today)
    }))
}

/// Every header is there with every value, or none is.
struct Assumed(bool);

impl Headers for Assumed {
    fn any(&self, _: &str, _: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.0
    }

    fn all(&self, _: &str, _: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.0
    }
}

impl fmt::Display for Replay {
    /// `2 hosts opened, 214 recorded requests would now be denied: api → api.github.com:443 POST /x (200), …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 3;
        let mut hosts: Vec<&str> = self.opened.iter().map(|group| group.host.as_str()).collect();
        hosts.sort_unstable();
        hosts.dedup();
        let denied: u64 = self.closed.iter().map(|group| group.requests).sum();
        let plural = |number: u64| if number == 1 { "" } else { "s" };
        let opened = u64::try_from(hosts.len()).unwrap_or(u64::MAX);
        write!(
            f,
            "{opened} host{} opened, {denied} recorded request{} would now be denied",
            plural(opened),
            plural(denied)
        )?;
        for (index, group) in self.closed.iter().take(SHOWN).enumerate() {
            f.write_str(if index == 0 { ": " } else { ", " })?;
            write!(f, "{} → {}", group.sandbox, group.host)?;
            group.port.map_or(Ok(()), |port| write!(f, ":{port}"))?;
            group.example.as_ref().map_or(Ok(()), |example| write!(f, " {example}"))?;
            write!(f, " ({})", group.requests)?;
        }
        if self.closed.len() > SHOWN {
            write!(f, " and {} more", self.closed.len() - SHOWN)?;
        }
        if self.unclear > 0 {
            write!(f, "; {} cannot be told", self.unclear)?;
        }
        Ok(())
    }
}
