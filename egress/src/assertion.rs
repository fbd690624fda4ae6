//! Assertions about the whole fleet, proved or disproved by a way that leads to what must not be reached.
//!
//! A sandbox reaches what its own policy lets it connect to, the networks it is on, and, since whoever sits in a peer can
//! pass things on, everything that the sandboxes on its networks reach.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;

use jiff::civil::Date;
use schema::codes::ASSERTION_FAILED;
use schema::config::{Assertion, EgressMode, Location, Reach, Sandbox};
use schema::policy::{DnsName, Host, HostPattern, Inbound, Policy, Protocol, Rule};
use schema::{Config, Diagnostic, Name, Sources};
use serde::Serialize;

use crate::compiled::Compiled;
use crate::cover;
use crate::place::Places;
use crate::verdict::{ConnectVerdict, Denial, Question, Transport};
use crate::written;

/// An assertion that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Breach {
    /// Index in [`Config::assertions`].
    pub assertion: usize,
    /// Where the assertion is written.
    #[serde(serialize_with = "as_text")]
    pub at: Location,
    /// The sandbox it does not hold for.
    pub sandbox: Name,
    /// How each thing that must not be reached is reached, in the order of the assertion.
    pub ways: Vec<Way>,
}

/// A way from a sandbox to something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Way {
    /// What must not be reached, as it is written.
    pub reaches: String,
    /// Networks and the peers on them, in the order in which they are passed.
    pub through: Vec<Hop>,
    /// What is at the end.
    pub end: End,
}

/// One step from a sandbox to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hop {
    /// The network both are on.
    pub network: Name,
    /// The other sandbox.
    pub sandbox: Name,
}

/// The last step of a way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum End {
    /// The last sandbox is on this network.
    Network {
        /// Its name.
        network: Name,
    },
    /// A rule of the last sandbox allows it.
    Rule {
        /// A host that is reached.
        host: String,
        /// A port.
        port: u16,
        /// Whether by datagrams.
        udp: bool,
        /// The rule as people write it.
        rule: String,
        /// Where it is written: `sandboxes.yaml:12:9`.
        at: String,
        /// The allowlist it comes from.
        list: Option<String>,
    },
    /// The last sandbox is `open`.
    Open {
        /// A host that is reached.
        host: String,
    },
    /// The last sandbox is itself what must not be reached.
    Sandbox,
}

/// Everything that does not hold on `today`: every assertion, every sandbox it does not hold for.
///
/// # Guarantees
/// Complete: what is not named holds. Every host, port and rule that is named is one the evaluator lets be connected to.
///
/// # Caveats
/// Requests are not reasoned about: a host that some connection is allowed to counts as reached, whatever the requests on
/// it have to be. `**` means every host, addresses too.
pub fn prove(config: &Config, today: Date) -> Vec<Breach> {
    if config.assertions.is_empty() {
        return Vec::new();
    }
    let fleet = Fleet::new(config, today);
    let mut breaches = Vec::new();
    for (index, assertion) in config.assertions.iter().enumerate() {
        let Assertion { sandboxes, reaches, unless, at } = assertion;
        let routes: Vec<Routes<'_>> = reaches.iter().map(|reach| fleet.routes(reach)).collect();
        for (name, sandbox) in &config.sandboxes {
            if !sandboxes.matches(name) || unless.covers(name, sandbox.egress.mode) {
                continue;
            }
            let ways: Option<Vec<Way>> = routes.iter().map(|routes| routes.from(name)).collect();
            if let Some(ways) = ways {
                breaches.push(Breach { assertion: index, at: at.clone(), sandbox: name.clone(), ways });
            }
        }
    }
    breaches
}

/// What does not hold, as problems of the texts that the configuration was read from.
pub fn diagnostics(config: &Config, sources: &Sources, today: Date) -> Vec<Diagnostic> {
    let breaches = prove(config, today);
    if breaches.is_empty() {
        return Vec::new();
    }
    let places = Places::new(sources);
    let diagnostic = |breach: &Breach| {
        let Breach { at, sandbox, ways, .. } = breach;
        let reached: Vec<String> = ways.iter().map(|way| format!("`{}`", way.reaches)).collect();
        let message = format!("`{sandbox}` reaches {}", reached.join(" and "));
        let shown: Vec<String> = ways.iter().map(|way| way.shown_from(sandbox)).collect();
        let problem = match places.all_of(at) {
            Some(span) => ASSERTION_FAILED.at(span, message),
            None => ASSERTION_FAILED.nowhere(format!("{message} ({at})")),
        };
        let rules = ways.iter().filter_map(|way| match &way.end {
            End::Rule { at, .. } => places.span(at),
            End::Network { .. } | End::Open { .. } | End::Sandbox => None,
        });
        rules.fold(problem.with_help(shown.join("; ")), |problem, span| {
            problem.with_related(span, "this rule allows it")
        })
    };
    breaches.iter().map(diagnostic).collect()
}

/// All sandboxes and who is on which network.
struct Fleet<'a> {
    config: &'a Config,
    today: Date,
    members: HashMap<&'a Name, Vec<&'a Name>>,
}

/// The shortest ways of all sandboxes to one thing.
struct Routes<'a> {
    reach: &'a Reach,
    /// What comes next for each sandbox that reaches it.
    steps: HashMap<&'a Name, Step<'a>>,
    /// For the sandbox that is itself what is reached, which says nothing of what it reaches.
    itself: Option<&'a Name>,
}

enum Step<'a> {
    End(End),
    Hop { network: &'a Name, sandbox: &'a Name },
}

impl<'a> Fleet<'a> {
    fn new(config: &'a Config, today: Date) -> Self {
        let mut members: HashMap<&Name, Vec<&Name>> = HashMap::new();
        for (name, sandbox) in &config.sandboxes {
            for network in &sandbox.networks {
                members.entry(network).or_default().push(name);
            }
        }
        Self { config, today, members }
    }

    /// Goes backwards, from all sandboxes that reach it by themselves at once: each sandbox and each network is passed once.
    fn routes(&self, reach: &'a Reach) -> Routes<'a> {
        let itself = match reach {
            Reach::Host(HostPattern::Exact(host)) => {
                self.config.sandboxes.keys().find(|name| name.as_str() == host.as_str())
            }
            Reach::Host(_) | Reach::Network(_) => None,
        };
        let mut steps: HashMap<&Name, Step<'_>> = HashMap::new();
        let mut next: VecDeque<&Sandbox> = VecDeque::new();
        for (name, sandbox) in &self.config.sandboxes {
            let end = if itself == Some(name) { Some(End::Sandbox) } else { self.end(sandbox, reach) };
            if let Some(end) = end {
                steps.insert(name, Step::End(end));
                next.push_back(sandbox);
            }
        }
        // Networks all of whose members were met, and those of whose members those were that let anybody in.
        let (mut passed, mut half_passed): (HashSet<&Name>, HashSet<&Name>) = Default::default();
        while let Some(sandbox) = next.pop_front() {
            for network in &sandbox.networks {
                let is_shut = self.is_shut(&sandbox.name, network);
                let news = if is_shut { half_passed.insert(network) } else { passed.insert(network) };
                if !news || is_shut && passed.contains(network) {
                    continue;
                }
                for peer in self.members.get(network).into_iter().flatten() {
                    // It takes only one of them to let the other in.
                    let is_apart = is_shut && self.is_shut(peer, network);
                    if !is_apart && !steps.contains_key(peer) {
                        steps.insert(peer, Step::Hop { network, sandbox: &sandbox.name });
                        next.extend(self.config.sandboxes.get(*peer));
                    }
                }
            }
        }
        Routes { reach, steps, itself }
    }

    /// Whether `sandbox` lets nobody in on `network`.
    fn is_shut(&self, sandbox: &Name, network: &Name) -> bool {
        let sandbox = self.config.sandboxes.get(sandbox);
        sandbox.and_then(|sandbox| sandbox.egress.policy.inbound.get(network)).is_some_and(Inbound::is_empty)
    }

    /// How `sandbox` reaches it by itself.
    fn end(&self, sandbox: &Sandbox, reach: &Reach) -> Option<End> {
        let pattern = match reach {
            Reach::Network(network) => {
                return sandbox.networks.contains(network).then(|| End::Network { network: network.clone() });
            }
            Reach::Host(pattern) => pattern,
        };
        match sandbox.egress.mode {
            EgressMode::None => None,
            EgressMode::Open => Some(End::Open { host: example(pattern) }),
            EgressMode::Allowlist | EgressMode::Direct => witness(&sandbox.egress.policy, pattern, self.today),
        }
    }
}

impl Routes<'_> {
    /// The way from `start`.
    fn from(&self, start: &Name) -> Option<Way> {
        let mut through = Vec::new();
        let mut at = start;
        if self.itself == Some(start) {
            return None;
        }
        loop {
            match self.steps.get(at)? {
                Step::End(end) => return Some(Way { reaches: written_reach(self.reach), through, end: end.clone() }),
                Step::Hop { network, sandbox } => {
                    through.push(Hop { network: (*network).clone(), sandbox: (*sandbox).clone() });
                    at = sandbox;
                }
            }
        }
    }
}

/// A host of `pattern` and a port that the policy lets be connected to.
fn witness(policy: &Policy, pattern: &HostPattern, today: Date) -> Option<End> {
    if policy.is_empty() {
        return None;
    }
    let compiled = Compiled::new(policy);
    for rule in policy.allow.iter().filter(|rule| rule.holds(today)) {
        // `**` of an assertion is everything; of a rule it is every name.
        let hosts =
            if *pattern == HostPattern::Any { Some(rule.host.clone()) } else { cover::common(&rule.host, pattern) };
        let Some(hosts) = hosts else { continue };
        let transport = if rule.protocol == Protocol::Udp { Transport::Udp } else { Transport::Tcp };
        for port in ports(rule, policy) {
            let allowed = |host: &Host| {
                let question = Question { host, port, transport };
                match compiled.connect(question, today) {
                    ConnectVerdict::Allow { .. } => Ok(()),
                    ConnectVerdict::Deny(denial) => Err(denial),
                }
            };
            if let Some(host) = find(&hosts, &policy.deny, allowed) {
                return Some(End::Rule {
                    host: host.to_string(),
                    port,
                    udp: transport == Transport::Udp,
                    rule: written::allow(rule),
                    at: rule.place.at.clone(),
                    list: rule.place.list.clone(),
                });
            }
        }
    }
    None
}

/// Ports to try for a rule. What is denied changes only where a denied range begins or ends, so that one port of each
/// stretch between stands for all of it.
fn ports(rule: &Rule, policy: &Policy) -> Vec<u16> {
    let edges = policy.deny.iter().flat_map(|rule| &rule.ports);
    let edges = edges.flat_map(|range| [Some(range.first), range.last.checked_add(1)]).flatten();
    let firsts = rule.ports.iter().map(|range| range.first);
    let mut ports: Vec<u16> = firsts.chain(edges.filter(|port| rule.has_port(*port))).collect();
    // What people expect to see comes first.
    ports.sort_unstable_by_key(|port| (!matches!(port, 443), *port));
    ports.dedup();
    ports
}

/// A host of `hosts` that `allowed` allows.
fn find(hosts: &HostPattern, deny: &[Rule], allowed: impl Fn(&Host) -> Result<(), Denial>) -> Option<Host> {
    let HostPattern::Network(network) = hosts else {
        return examples(hosts, deny).into_iter().find(|host| allowed(host).is_ok());
    };
    // From the first address over what each deny rule takes away.
    let (mut address, last) = (network.network(), network.broadcast());
    loop {
        let host = Host::Address(address);
        let denied = match allowed(&host) {
            Ok(()) => return Some(host),
            Err(Denial::Denied(rule)) => rule.host.clone(),
            Err(_) => return None,
        };
        let HostPattern::Network(denied) = denied else { return None };
        let end = denied.broadcast();
        if end >= last {
            return None;
        }
        address = next_address(end)?;
    }
}

fn next_address(address: std::net::IpAddr) -> Option<std::net::IpAddr> {
    match address {
        std::net::IpAddr::V4(v4) => u32::from(v4).checked_add(1).map(|next| std::net::Ipv4Addr::from(next).into()),
        std::net::IpAddr::V6(v6) => u128::from(v6).checked_add(1).map(|next| std::net::Ipv6Addr::from(next).into()),
    }
}

/// Hosts that stand for all of a pattern. Of names below a suffix, one whose labels no deny rule has is denied only by rules
/// that deny all of them, if it has two such labels; the one with a single label only reads better.
fn examples(hosts: &HostPattern, deny: &[Rule]) -> Vec<Host> {
    let taken: Vec<&str> = deny
        .iter()
        .filter_map(|rule| match &rule.host {
            HostPattern::Exact(name) | HostPattern::OneLabel(name) | HostPattern::AnyDepth(name) => Some(name),
            HostPattern::Any | HostPattern::Network(_) => None,
        })
        .flat_map(DnsName::labels)
        .collect();
    let fresh = (0_u64..).map(|number| if number == 0 { String::from("any") } else { format!("any{number}") });
    let fresh = fresh.into_iter().find(|label| !taken.contains(&label.as_str())).unwrap_or_default();
    let made = match hosts {
        HostPattern::Exact(name) => vec![name.to_string()],
        HostPattern::OneLabel(suffix) => vec![format!("{fresh}.{suffix}")],
        HostPattern::AnyDepth(suffix) => vec![format!("{fresh}.{suffix}"), format!("{fresh}.{fresh}.{suffix}")],
        HostPattern::Any => vec![String::from("example.com"), format!("{fresh}.{fresh}")],
        HostPattern::Network(network) => return vec![Host::Address(network.network())],
    };
    // A suffix of nearly 253 characters leaves no room for a label: then no name matches the pattern.
    made.into_iter().filter_map(|name| name.parse().ok()).collect()
}

/// The first of [`examples`], of which there is one unless nothing can match.
fn example(hosts: &HostPattern) -> String {
    examples(hosts, &[]).into_iter().next().map_or_else(|| hosts.to_string(), |host| host.to_string())
}

/// What must not be reached, as it is written.
pub fn written_reach(reach: &Reach) -> String {
    match reach {
        Reach::Network(network) => network.to_string(),
        Reach::Host(pattern) => pattern.to_string(),
    }
}

impl fmt::Display for Breach {
    /// `backend by api → network backend; and ** by api → github.com:443, by { host: github.com } at a.yaml:9:7`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, way) in self.ways.iter().enumerate() {
            let start = if index == 0 { "" } else { "; and " };
            write!(f, "{start}{} by {}", way.reaches, way.shown_from(&self.sandbox))?;
        }
        Ok(())
    }
}

impl Way {
    /// `api → network front → web → example.com:443, by { host: "**" } at a.yaml:9:7`.
    pub fn shown_from(&self, sandbox: &Name) -> String {
        let mut text = sandbox.to_string();
        for Hop { network, sandbox } in &self.through {
            text.push_str(&format!(" → network {network} → {sandbox}"));
        }
        match &self.end {
            End::Network { network } => text.push_str(&format!(" → network {network}")),
            End::Rule { host, port, udp, rule, at, list } => {
                let udp = if *udp { "udp " } else { "" };
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                let list = list.as_ref().map(|list| format!(" (allowlist {list})")).unwrap_or_default();
                text.push_str(&format!(" → {udp}{host}:{port}, by {rule} at {at}{list}"));
            }
            End::Open { host } => text.push_str(&format!(" → {host}, by `mode: open`")),
            End::Sandbox => {}
        }
        text
    }
}

fn as_text<S: serde::Serializer>(at: &Location, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}
