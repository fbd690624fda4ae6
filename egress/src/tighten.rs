//! Which rules were used, by what was recorded; and what could go because it never was.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::civil::Date;
use schema::policy::{PathPattern, Policy, PortRange, Rule};
use serde::Serialize;

use crate::audit::Record;
use crate::compiled::{Compiled, matches_path};
use crate::cover::{common, common_ports, covers_ports};
use crate::{learn, replay};

#[cfg(test)]
mod tests;

/// Records without which nothing is said to be unused: a sandbox that hardly ran says nothing about its rules.
pub const FEWEST_RECORDS: u64 = 100;
/// Uses of a rule without which it is not made narrower.
pub const FEWEST_USES: u64 = 20;
/// Rules about more ports than these stay as wide as they are: whoever wrote a range meant the range.
const MOST_PORTS: usize = 16;

/// What one rule was used for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Connections and requests.
    pub uses: u64,
    /// The last one.
    pub last: Option<Timestamp>,
    /// Ports.
    pub ports: BTreeSet<u16>,
    /// Methods of requests, where they were seen.
    pub methods: BTreeSet<String>,
    /// Those of its patterns that paths of requests matched.
    pub paths: BTreeSet<String>,
    /// Whether something passed whose requests nobody saw.
    pub unseen: bool,
}

/// What there is to judge by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// Records of allowed connections and requests.
    pub records: u64,
    /// The first of them.
    pub since: Option<Timestamp>,
}

/// Counts uses.
#[derive(Debug)]
pub struct Count {
    compiled: Compiled,
    today: Date,
    /// By index in [`Policy::allow`].
    pub usage: Vec<Usage>,
    /// What was counted.
    pub evidence: Evidence,
}

impl Count {
    /// Nothing counted yet of the rules of `policy`.
    pub fn new(policy: &Policy, today: Date) -> Self {
        let mut numbered = policy.clone();
        // Places tell rules apart that say the same, and two may have one place: a list with other parameters.
        for (index, rule) in numbered.allow.iter_mut().enumerate() {
            rule.place.at = index.to_string();
        }
        let usage = vec![Usage::default(); policy.allow.len()];
        Self { compiled: Compiled::new(&numbered), today, usage, evidence: Evidence::default() }
    }

    /// Counts a record of the sandbox. Every rule counts that may have been the one that decided.
    pub fn add(&mut self, record: &Record) {
        if !record.allowed || learn::is_learned(record) {
            return;
        }
        self.evidence.since = Some(self.evidence.since.map_or(record.time, |since| since.min(record.time)));
        self.evidence.records += 1;
        for rule in replay::deciding(&self.compiled, record, self.today) {
            let Some(usage) = rule.place.at.parse::<usize>().ok().and_then(|index| self.usage.get_mut(index)) else {
                continue;
            };
            usage.uses += 1;
            usage.last = usage.last.max(Some(record.time));
            usage.ports.insert(record.port);
            if let (Some(method), Some(path)) = (&record.method, &record.path) {
                usage.methods.insert(method.clone());
                for pattern in &rule.paths {
                    if !usage.paths.contains(pattern.as_str()) && matches_path(pattern, path) {
                        usage.paths.insert(pattern.as_str().to_owned());
                    }
                }
            } else {
                usage.unseen = true;
            }
        }
    }
}

/// What could become of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Tighter {
    /// Nothing was done by it.
    Remove,
    /// Only a part of it was.
    Narrow {
        /// All ports that were used, if some were not.
        ports: Option<Vec<PortRange>>,
        /// All methods that were used, if some were not.
        methods: Option<Vec<String>>,
        /// All patterns that paths matched, if some matched none.
        paths: Option<Vec<PathPattern>>,
    },
}

/// What could become of `rule`, by its `usage`: one that has expired is of no use any more. `None` where it is as narrow as
/// its use, as far as records tell: they have neither headers nor whether a connection was upgraded.
pub fn tighter(rule: &Rule, usage: &Usage) -> Option<Tighter> {
    if usage.uses == 0 {
        return Some(Tighter::Remove);
    }
    if usage.uses < FEWEST_USES {
        return None;
    }
    let named: usize = rule.ports.iter().map(|range| usize::from(range.last - range.first) + 1).sum();
    let ports = (named <= MOST_PORTS && usage.ports.len() < named)
        .then(|| usage.ports.iter().copied().map(PortRange::one).collect());
    let methods = fewer(&rule.methods, |method| usage.methods.contains(method)).filter(|_| !usage.unseen);
    let paths = fewer(&rule.paths, |pattern| usage.paths.contains(pattern.as_str())).filter(|_| !usage.unseen);
    (ports.is_some() || methods.is_some() || paths.is_some()).then_some(Tighter::Narrow { ports, methods, paths })
}

/// Those of `all` that were used; `None` where that is all of them, or none.
fn fewer<T: Clone>(all: &[T], is_used: impl Fn(&T) -> bool) -> Option<Vec<T>> {
    let used: Vec<T> = all.iter().filter(|one| is_used(one)).cloned().collect();
    (!used.is_empty() && used.len() < all.len()).then_some(used)
}

/// The rule of `policy` that would let pass unexamined, or unchanged, what `rule` has examined or changes, were `change` made
/// to it: where requests are judged by one rule, connections are looked into for all rules about the same host.
pub fn unexamined<'a>(policy: &'a Policy, rule: &Rule, change: &Tighter) -> Option<&'a Rule> {
    if !rule.needs_requests() {
        return None;
    }
    let kept = change.applied(rule).map(|narrower| narrower.ports).unwrap_or_default();
    // What other methods and paths did by this rule would be done by the other, without what this one writes.
    let edits = !rule.request.is_empty() || !rule.response.is_empty();
    let fewer_requests =
        matches!(change, Tighter::Narrow { methods, paths, .. } if methods.is_some() || paths.is_some());
    let lost = |port: PortRange| (edits && fewer_requests) || !covers_ports(&kept, &[port]);
    policy.allow.iter().find(|other| {
        *other != rule
            && other.allows_transport(false)
            && common(&rule.host, &other.host).is_some()
            && common_ports(&rule.ports, &other.ports).any(lost)
    })
}

impl Tighter {
    /// The rule as it would be; `None` if it would not be.
    pub fn applied(&self, rule: &Rule) -> Option<Rule> {
        match self {
            Self::Remove => None,
            Self::Narrow { ports, methods, paths } => Some(Rule {
                ports: ports.clone().unwrap_or_else(|| rule.ports.clone()),
                methods: methods.clone().unwrap_or_else(|| rule.methods.clone()),
                paths: paths.clone().unwrap_or_else(|| rule.paths.clone()),
                ..rule.clone()
            }),
        }
    }
}

/// Two policies, compared by what was recorded.
#[derive(Debug)]
pub struct Comparison {
    before: Compiled,
    after: Compiled,
    today: Date,
}

impl Comparison {
    /// Of what a policy was and what it would be.
    pub fn new(before: &Policy, after: &Policy, today: Date) -> Self {
        Self { before: Compiled::new(before), after: Compiled::new(after), today }
    }

    /// Whether what was recorded would be allowed no more. What is not allowed by now either is no loss.
    pub fn breaks(&self, record: &Record) -> bool {
        let allows = |compiled| replay::allows(compiled, record, self.today);
        record.allowed && !learn::is_learned(record) && allows(&self.before) && !allows(&self.after)
    }
}

/// Since when each rule of a sandbox is in force, by how it is written.
pub type Ages = BTreeMap<String, Timestamp>;
