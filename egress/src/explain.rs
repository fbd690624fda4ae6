//! Why something is allowed or denied, and what would change that, in the words of people.

mod suggest;
#[cfg(test)]
mod tests;
mod words;

use ipnet::IpNet;
use jiff::civil::Date;
use schema::Config;
use schema::config::{Egress, EgressMode, Sandbox, Transport};
use schema::policy::{Host, Policy, Rule, Target};
use serde::Serialize;

use crate::compiled::Compiled;
use crate::dial::consenting;
use crate::dial::judge::{Consent, ends_at_v4, judge};
use crate::http::is_sent_on;
use crate::judge::Wish;
use crate::verdict::{ConnectVerdict, Denial, Headers, RequestVerdict};
use crate::written;

pub use words::{Refused, refusal_json, refusal_text};

/// What a sandbox may do with a target, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Whether it is allowed.
    pub allowed: bool,
    /// `rule`, `mode`, `network`, `peer-port`, `resolver`, `datagrams`, `address-refused`, or why it is denied as
    /// [`Denial::because`] says.
    /// Kebab case, stable.
    pub because: &'static str,
    /// The same as a fragment of a sentence.
    pub message: String,
    /// The rule that decided, or that came nearest.
    pub rule: Option<WrittenRule>,
    /// The rule that would allow it, for `egress.allow`; as narrow as possible. `None` where none would.
    pub allow: Option<String>,
    /// What else to know or to do: fragments of sentences.
    pub notes: Vec<String>,
}

/// A rule, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WrittenRule {
    /// As people write it.
    pub text: String,
    /// `sandboxes.yaml:12:9`.
    pub at: String,
    /// The allowlist it comes from.
    pub list: Option<String>,
    /// Whether it decided; else it is the one that came nearest.
    pub decided: bool,
}

/// The port of resolvers.
pub(crate) const DNS: u16 = 53;

/// What becomes of connections to it, and why.
pub(crate) const TO_RESOLVER: &str = "port 53 leads to the sandbox's own resolver, wherever it was meant to lead";

/// Explains what `sandbox` may do with `target`. A key of [`Config::sandboxes`]; `None` if there is no such sandbox. `own` are
/// the addresses of the machine that it runs on, as far as they matter.
pub fn explain(
    config: &Config,
    sandbox: &str,
    target: &Target,
    method: Option<&str>,
    headers: &dyn Headers,
    own: &[IpNet],
    today: Date,
) -> Option<Explanation> {
    let sandbox = config.sandboxes.get(sandbox)?;
    if let Some(peer) = peer(config, sandbox, target) {
        return Some(peer);
    }
    Some(by_egress(&sandbox.egress, target, method, headers, own, today))
}

/// Explains what a sandbox's `egress` says of a target.
pub(crate) fn by_egress(
    egress: &Egress,
    target: &Target,
    method: Option<&str>,
    headers: &dyn Headers,
    own: &[IpNet],
    today: Date,
) -> Explanation {
    let by_mode = |allowed, message: &str, note: Option<&str>| Explanation {
        allowed,
        because: "mode",
        message: message.to_owned(),
        rule: None,
        allow: None,
        notes: note.map(str::to_owned).into_iter().collect(),
    };
    let note = "with `mode: allowlist`, `egress.allow` says what is reached";
    match egress.mode {
        EgressMode::None => by_mode(false, "`egress.mode` is `none`", Some(note)),
        EgressMode::Open => by_mode(true, "`egress.mode` is `open`: everything is reached", None),
        EgressMode::Allowlist => {
            unserved(egress, target).unwrap_or_else(|| by_policy(&egress.policy, target, method, headers, own, today))
        }
        EgressMode::Direct => unserved(egress, target).unwrap_or_else(|| direct(&egress.policy, target, own, today)),
    }
}

/// What never comes to where rules are asked.
fn unserved(egress: &Egress, target: &Target) -> Option<Explanation> {
    let denied = |because, message: &str, note: &str| {
        let (message, notes) = (message.to_owned(), vec![note.to_owned()]);
        Some(Explanation { allowed: false, because, message, rule: None, allow: None, notes })
    };
    if egress.transport == Transport::Socket {
        return None;
    }
    if target.port == DNS {
        let note = "it answers for the names that rules allow; nothing leads to another one";
        return denied("resolver", TO_RESOLVER, note);
    }
    let to_address = matches!(target.host, Host::Address(_)) && target.scheme == "udp";
    if to_address && egress.mode == EgressMode::Allowlist {
        let note = "say by `egress.hosts` what a name means, and write the rule for that name; or write `mode: direct`";
        return denied("datagrams", "with `mode: allowlist` datagrams go to names, not to addresses", note);
    }
    None
}

/// What `sandbox` may do with another one on its networks, if that is the target.
fn peer(config: &Config, sandbox: &Sandbox, target: &Target) -> Option<Explanation> {
    let Host::Name(name) = &target.host else { return None };
    let peer = config.sandboxes.get(name.as_str()).filter(|peer| peer.name != sandbox.name)?;
    let declared = |network: &&schema::Name| peer.egress.policy.inbound.get(*network);
    let lets_in = |network: &&schema::Name| {
        declared(network).is_none_or(|ports| ports.has_port(target.port, target.scheme == "udp"))
    };
    let shared: Vec<_> = sandbox.networks.iter().filter(|network| peer.networks.contains(network)).collect();
    let (allowed, because) = match shared.iter().copied().find(lets_in) {
        Some(_) => (true, "network"),
        None => (false, "peer-port"),
    };
    let network = shared.iter().copied().find(lets_in).or_else(|| shared.first().copied())?;
    let at = declared(&network).filter(|_| !allowed).map(|ports| format!(", and lets others in at {ports}"));
    let note = format!("`networks` of `{}` says at which ports: add this one there", peer.name);
    Some(Explanation {
        allowed,
        because,
        message: format!("it is a sandbox on the same network, {network}{}", at.unwrap_or_default()),
        rule: None,
        allow: None,
        notes: (!allowed).then_some(note).into_iter().collect(),
    })
}

/// Explains what a policy says of a target.
pub fn by_policy(
    policy: &Policy,
    target: &Target,
    method: Option<&str>,
    headers: &dyn Headers,
    own: &[IpNet],
    today: Date,
) -> Explanation {
    let compiled = Compiled::new(policy);
    let wish = Wish::new(target, method.unwrap_or("GET"), headers);
    match compiled.judge(&wish, today) {
        RequestVerdict::Allow(rule) => {
            undialled(policy, &wish, &rule, own, today).unwrap_or_else(|| allowed(policy, target, &rule, Vec::new()))
        }
        RequestVerdict::Deny(denial) => {
            let suggested = suggest::rule(&compiled, &wish, &denial, method.is_some(), today);
            denied(&wish, &denial, suggested.as_ref(), today)
        }
    }
}

/// The same for [`EgressMode::Direct`], where nobody looks at what is spoken.
fn direct(policy: &Policy, target: &Target, own: &[IpNet], today: Date) -> Explanation {
    let compiled = Compiled::new(policy);
    let wish = Wish { request: None, ..Wish::new(target, "GET", &()) };
    match compiled.connect(wish.question, today) {
        ConnectVerdict::Allow { rule, .. } => {
            undialled(policy, &wish, &rule, own, today).or_else(|| unopened(target, &rule)).unwrap_or_else(|| {
                let note = "`egress.mode` is `direct`: only host and port are looked at";
                allowed(policy, target, &rule, vec![note.to_owned()])
            })
        }
        ConnectVerdict::Deny(denial) => {
            let suggested = suggest::rule(&compiled, &wish, &denial, false, today);
            denied(&wish, &denial, suggested.as_ref(), today)
        }
    }
}

/// What a rule allows but is not dialled, nor opened: addresses of the host that are refused by default, where the policy
/// itself says what they are. What names resolve to is known only when they are dialled.
fn undialled(policy: &Policy, wish: &Wish<'_>, rule: &Rule, own: &[IpNet], today: Date) -> Option<Explanation> {
    let question = &wish.question;
    let literal = consenting(policy, question.host, question.port, question.transport, today);
    let addresses = match question.host {
        Host::Name(name) => policy.hosts.get(name)?.clone(),
        Host::Address(address) => vec![*address],
    };
    let consent = Consent { ranges: &policy.dial_allow, literal: &literal };
    let refused: Vec<_> =
        addresses.iter().filter_map(|address| Some((*address, judge(*address, own, consent).err()?))).collect();
    let (address, range) = *refused.first().filter(|_| refused.len() == addresses.len())?;
    Some(Explanation {
        allowed: false,
        because: "address-refused",
        message: format!("a rule allows it, but {address} is not dialled: it is {}", range.kind),
        rule: Some(WrittenRule::new(rule, written::allow(rule), false)),
        allow: None,
        notes: vec![format!(
            "to have it dialled, write under `egress`: dial: {{ allowRanges: [\"{}\"] }}",
            range.would_allow(address)
        )],
    })
}

/// What a rule allows but a packet filter does not open: addresses by number whose packets end at IPv4 addresses.
fn unopened(target: &Target, rule: &Rule) -> Option<Explanation> {
    let Host::Address(address) = target.host else { return None };
    ends_at_v4(address).then(|| Explanation {
        allowed: false,
        because: "address-refused",
        message: format!(
            "a rule allows it, but with `mode: direct` {address} is not opened: it stands for an IPv4 address"
        ),
        rule: Some(WrittenRule::new(rule, written::allow(rule), false)),
        allow: None,
        notes: vec![String::from(
            "say by `egress.hosts` which name means it, and write the rule for that name; or write it for the IPv4 address",
        )],
    })
}

fn allowed(policy: &Policy, target: &Target, rule: &Rule, mut notes: Vec<String>) -> Explanation {
    if let Host::Name(name) = &target.host
        && let Some(addresses) = policy.hosts.get(name)
    {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        notes.push(format!("`egress.hosts` says where it is: {}", addresses.join(", ")));
    }
    if rule.needs_requests() && target.path.is_some() {
        notes.push(String::from("requests to it are looked at; TLS is taken apart for that"));
    }
    if let Some(last) = rule.expires {
        notes.push(format!("the rule holds until {last}"));
    }
    Explanation {
        allowed: true,
        because: "rule",
        message: String::from("a rule allows it"),
        rule: Some(WrittenRule::new(rule, written::allow(rule), true)),
        allow: None,
        notes,
    }
}

fn denied(wish: &Wish<'_>, denial: &Denial, suggested: Option<&Rule>, today: Date) -> Explanation {
    let is_deny = matches!(denial, Denial::Denied(_));
    let mut notes = Vec::new();
    if let Denial::Denied(_) = denial {
        notes.push(String::from("a deny rule wins over every allow rule: remove it, or make it narrower"));
    } else if wish.request.is_some_and(|request| !is_sent_on(request.method)) {
        notes.push(String::from("no rule lets CONNECT, TRACE, TRACK or a method in lower case pass where it is seen"));
    } else if suggested.is_none() {
        notes.push(String::from(
            "no further allow rule helps: other rules look at requests to this host and port, or deny some, so that only \
             HTTP passes; give them `ports`, or make them narrower",
        ));
    }
    let rule = denial.rule().map(|rule| {
        let text = if is_deny { written::deny(rule) } else { written::allow(rule) };
        WrittenRule::new(rule, text, is_deny)
    });
    Explanation {
        allowed: false,
        because: denial.because(),
        message: words::why(wish, denial, today),
        rule,
        allow: suggested.map(written::allow),
        notes,
    }
}

impl WrittenRule {
    fn new(rule: &Rule, text: String, decided: bool) -> Self {
        Self { text, at: rule.place.at.clone(), list: rule.place.list.clone(), decided }
    }
}
