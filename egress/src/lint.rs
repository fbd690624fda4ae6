//! What is legal but unwise in a policy: rules that do nothing, that do more than they look like, that look like others.
//!
//! Pure. Nothing here changes what is allowed.

mod lookalike;
mod never;
mod overlap;
#[cfg(test)]
mod tests;
mod width;

use std::collections::HashSet;

use schema::codes::{
    Code, LOOKALIKE_HOST, RULE_NEEDS_HTTP, RULE_NEVER_MATCHES, RULE_REDUNDANT, RULE_SHADOWED, RULE_TOO_WIDE,
};
use schema::policy::{Policy, Rule};
use schema::{Config, Diagnostic, Sources};

use crate::place::Places;

/// Something unwise about a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Finding {
    /// What kind of problem it is.
    pub kind: Kind,
    /// What is wrong: a fragment of a sentence.
    pub message: String,
    /// What to do: the same.
    pub help: String,
    /// Where the rule is written, as [`schema::policy::Place::at`] says.
    pub at: String,
    /// Another place it has to do with, and what is there.
    pub related: Option<(String, &'static str)>,
}

/// Kinds of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A deny rule takes away all that the allow rule allows.
    Shadowed,
    /// Another allow rule allows all of it.
    Redundant,
    /// It allows more than anybody can mean.
    TooWide,
    /// Nothing can ever match it, or a part of it.
    NeverMatches,
    /// Where it is about, other rules let only HTTP pass.
    NeedsHttp,
    /// Its host looks like another one.
    Lookalike,
}

impl Kind {
    /// The entry of the catalogue.
    pub const fn code(self) -> &'static Code {
        match self {
            Self::Shadowed => &RULE_SHADOWED,
            Self::Redundant => &RULE_REDUNDANT,
            Self::TooWide => &RULE_TOO_WIDE,
            Self::NeverMatches => &RULE_NEVER_MATCHES,
            Self::NeedsHttp => &RULE_NEEDS_HTTP,
            Self::Lookalike => &LOOKALIKE_HOST,
        }
    }
}

impl Finding {
    fn new(kind: Kind, rule: &Rule, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { kind, message: message.into(), help: help.into(), at: rule.place.at.clone(), related: None }
    }

    fn diagnostic(&self, places: &Places<'_>) -> Diagnostic {
        let Self { kind, message, help, at, related } = self;
        let problem = match places.span(at) {
            Some(span) => kind.code().at(span, message),
            None => kind.code().nowhere(format!("{message} ({at})")),
        };
        let problem = problem.with_help(help);
        match related.as_ref().and_then(|(at, label)| Some((places.span(at)?, *label))) {
            Some((span, label)) => problem.with_related(span, label),
            None => problem,
        }
    }

    fn beside(mut self, rule: &Rule, label: &'static str) -> Self {
        self.related = Some((rule.place.at.clone(), label));
        self
    }
}

/// Everything unwise about a policy, rule by rule.
pub fn policy(policy: &Policy) -> Vec<Finding> {
    let mut findings = Vec::new();
    overlap::find(policy, &mut findings);
    for rule in &policy.allow {
        width::find(rule, &mut findings);
        never::find(rule, &mut findings);
    }
    lookalike::find(policy, &mut findings);
    findings
}

/// Everything unwise about the policies of all sandboxes, each finding once however many sandboxes share a rule.
pub fn config(config: &Config) -> Vec<Finding> {
    let mut seen: HashSet<u64> = HashSet::new();
    let mut said: HashSet<Finding> = HashSet::new();
    let mut findings = Vec::new();
    for sandbox in config.sandboxes.values() {
        let policy = &sandbox.egress.policy;
        // Fleets share their policies: the same rules from the same places have the same problems.
        if policy.is_empty() || !seen.insert(fingerprint(policy)) {
            continue;
        }
        for finding in self::policy(policy) {
            if said.insert(finding.clone()) {
                findings.push(finding);
            }
        }
    }
    findings
}

/// The same as problems of the texts that the configuration was read from.
pub fn diagnostics(config: &Config, sources: &Sources) -> Vec<Diagnostic> {
    let findings = self::config(config);
    if findings.is_empty() {
        return Vec::new();
    }
    let places = Places::new(sources);
    findings.iter().map(|finding| finding.diagnostic(&places)).collect()
}

fn fingerprint(policy: &Policy) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    for (list, rules) in [(0_u8, &policy.allow), (1, &policy.deny)] {
        for rule in rules {
            list.hash(&mut hasher);
            rule.place.at.hash(&mut hasher);
            // One place makes several rules where lists have parameters, which stand in these.
            (&rule.host, &rule.ports, rule.protocol, &rule.methods, &rule.paths, &rule.headers).hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// Whether two rules are the same but for where and why they are written.
fn same(one: &Rule, other: &Rule) -> bool {
    Rule { reason: None, ..one.clone() } == Rule { reason: None, ..other.clone() }
}
