//! Allowlists: rules by name, with parameters, and what becomes of them where they are used.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use super::Resolver;
use super::reference::Kind;
use super::rule::Written;
use crate::codes::{ALLOWLIST_CYCLE, ALLOWLIST_PARAMETER, UNKNOWN_REFERENCE, UNUSED};
use crate::document::{Entry, Node};
use crate::policy::Rule;
use crate::raw::ParameterKind;
use crate::structure::{Check, Extent, Refused, list, show};
use crate::suggest::did_you_mean;
use crate::variables::{Parameters, expand_with, is_variable};
use crate::{Diagnostic, Severity, Span};

/// Longest chain of lists that is followed; recursion relies on it.
const LONGEST_CHAIN: usize = 64;

/// Most rules that one list may come to with those it uses.
const MOST_RULES: usize = 100_000;

/// How often lists are made, each time for other values of their parameters.
const MOST_MADE: usize = 20_000;

/// What rules are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Side {
    Allow,
    Deny,
}

/// What stands around rules.
pub(super) struct Scope<'s> {
    /// What the rules are for.
    pub side: Side,
    /// The list they are written in.
    pub list: Option<&'s str>,
    parameters: &'s Parameters,
    /// Whether nobody has given the parameters yet: what they are in is not looked at.
    blank: bool,
}

impl<'s> Scope<'s> {
    /// Rules that are written in a sandbox.
    fn of_sandbox(side: Side, parameters: &'s Parameters) -> Self {
        Self { side, list: None, parameters, blank: false }
    }
}

/// The lists of the file, and what was made of them.
#[derive(Default)]
pub(super) struct Allowlists<'a> {
    lists: HashMap<&'a str, Rc<List<'a>>>,
    /// Fleets use few combinations.
    made: HashMap<Made<'a>, Outcome>,
    told_of_too_many: bool,
    told_of_too_long: bool,
    /// Whether rules of a list were used, since this was last taken, that are not all there or not as they were meant.
    pub(super) flawed: bool,
    unused_parameters: Vec<Diagnostic>,
}

/// What came of a list.
struct Outcome {
    rules: Rc<[Written]>,
    /// As [`Allowlists::flawed`].
    flawed: bool,
}

/// A list, values of its parameters, and what it is used for.
type Made<'a> = (&'a str, BTreeMap<String, String>, Side);

struct List<'a> {
    name: &'a str,
    parameters: Vec<(&'a Entry, Option<ParameterKind>)>,
    items: &'a [Node],
    refused: Refused,
    /// Whether something is wrong with its structure.
    flawed: bool,
}

/// A list as an item names it, with values for its parameters.
struct Call<'n> {
    name: &'n str,
    span: Span,
    values: &'n [Entry],
}

impl<'n> Call<'n> {
    /// `None` for a rule.
    fn of(item: &'n Node) -> Option<Self> {
        match (item.as_str(), item.get("use")) {
            (Some(name), _) => Some(Self { name, span: item.span, values: &[] }),
            (None, Some(at)) => at.as_str().map(|name| Self { name, span: at.span, values: item.entries() }),
            (None, None) => None,
        }
    }

    fn values(&self) -> impl Iterator<Item = &'n Entry> {
        self.values.iter().filter(|entry| *entry.key != *"use")
    }
}

fn fingerprint(rule: &Rule) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&rule.place.at, rule).hash(&mut hasher);
    hasher.finish()
}

impl<'a> Resolver<'a> {
    /// Checks each list by itself, used or not.
    pub(super) fn check_allowlists(&mut self) {
        let entries = self.root.get("allowlists").map(Node::entries).unwrap_or_default();
        for entry in entries {
            self.name("allowlist", &entry.key, entry.key_span);
            self.origin(format!("allowlists.{}", entry.key), entry.key_span);
            let before = self.said();
            let refused = Check::new(Extent::Whole, &mut self.problems).entry_of("allowlists", entry);
            let flawed = self.failed_since(before);
            let parameters = refused.right(&entry.value, "params").map(Node::entries).unwrap_or_default();
            let kinds = parameters.iter().map(|parameter| (parameter, refused.rest(&parameter.value).ok()));
            let list = List {
                name: &entry.key,
                parameters: kinds.collect(),
                items: entry.value.get("rules").unwrap_or(&entry.value).items(),
                refused,
                flawed,
            };
            self.allowlists.lists.insert(&entry.key, Rc::new(list));
        }
        for entry in entries {
            let Some(list) = self.allowlists.lists.get(&*entry.key).cloned() else { continue };
            self.check_allowlist(&list);
        }
        let mut state = HashMap::new();
        for entry in entries {
            self.visit_allowlist(&entry.key, &mut Vec::new(), &mut state);
        }
    }

    fn check_allowlist(&mut self, list: &List<'a>) {
        for (parameter, _) in &list.parameters {
            self.parameter_name(parameter);
        }
        let names = list.parameters.iter().map(|(parameter, _)| (parameter.key.to_string(), String::new()));
        let parameters = Parameters { values: names.collect(), ..Parameters::default() };
        let scope = Scope { side: Side::Allow, list: Some(list.name), parameters: &parameters, blank: true };
        for item in list.items {
            match Call::of(item) {
                Some(call) => drop(self.arguments(&call, &scope)),
                None => drop(self.rule(item, &list.refused, &scope)),
            }
        }
        let used = parameters.used.take();
        for (parameter, _) in list.parameters.iter().filter(|(parameter, _)| !used.contains(&*parameter.key)) {
            let message = format!("no rule of `{}` uses the parameter `{}`", list.name, show(&parameter.key));
            let help = format!("remove it, or write `${{{}}}` in a rule", show(&parameter.key));
            self.allowlists.unused_parameters.push(UNUSED.at(parameter.key_span, message).with_help(help));
        }
    }

    /// Warns of parameters that nothing depends on.
    pub(super) fn warn_of_unused_parameters(&mut self) {
        self.problems.append(&mut self.allowlists.unused_parameters);
    }

    fn parameter_name(&mut self, parameter: &Entry) {
        let name = &*parameter.key;
        if is_variable(name) && name != "use" {
            return;
        }
        let message = format!("`{}` cannot name a parameter", show(name));
        let help = "use letters, digits and `_`; the first is no digit, and `use` is taken";
        self.problem(ALLOWLIST_PARAMETER.at(parameter.key_span, message).with_help(help));
    }

    /// `state` tells visited lists from those being visited.
    fn visit_allowlist(&mut self, name: &'a str, path: &mut Vec<&'a str>, state: &mut HashMap<&'a str, bool>) {
        let Some(list) = self.allowlists.lists.get(name).cloned() else { return };
        if state.contains_key(name) {
            return;
        }
        state.insert(name, false);
        path.push(name);
        for call in list.items.iter().filter_map(Call::of) {
            let being_visited = state.get(call.name) == Some(&false);
            if being_visited || path.len() >= LONGEST_CHAIN {
                let start = path.iter().position(|known| *known == call.name).unwrap_or_default();
                let chain: Vec<&str> = path[start..].iter().copied().chain([call.name]).collect();
                if being_visited {
                    let message = format!("allowlists use each other in a circle: {}", show(&chain.join(" → ")));
                    self.problem(ALLOWLIST_CYCLE.at(call.span, message).with_help("remove one use of the circle"));
                } else {
                    self.chain_of_lists_is_too_long(call.span);
                }
            } else {
                self.visit_allowlist(call.name, path, state);
            }
        }
        path.pop();
        state.insert(name, true);
    }

    /// Says so once: a chain is as long from whichever of its lists it is looked at.
    fn chain_of_lists_is_too_long(&mut self, at: Span) {
        if !std::mem::replace(&mut self.allowlists.told_of_too_long, true) {
            let message = format!("a chain of allowlists is longer than {LONGEST_CHAIN}");
            self.problem(ALLOWLIST_CYCLE.at(at, message).with_help("write some of them into one"));
        }
    }

    /// The rules under `allow` or `deny`.
    pub(super) fn rules(&mut self, node: Option<&Node>, refused: &Refused, side: Side) -> Vec<Written> {
        let items = node.map(Node::items).unwrap_or_default();
        let none = Parameters::default();
        self.items(items, refused, &Scope::of_sandbox(side, &none), &mut Vec::new())
    }

    fn items(
        &mut self,
        items: &[Node],
        refused: &Refused,
        scope: &Scope<'_>,
        above: &mut Vec<&'a str>,
    ) -> Vec<Written> {
        let mut rules: Vec<Written> = Vec::with_capacity(items.len());
        // What lists have brought: one that is used by many ways is there once.
        let mut brought: HashMap<u64, Vec<usize>> = HashMap::new();
        for item in items {
            let Some(call) = Call::of(item) else {
                rules.extend(self.rule(item, refused, scope));
                continue;
            };
            self.known.take(Kind::Allowlist, call.name);
            let Some(values) = self.arguments(&call, scope) else { continue };
            let made = self.call(&call, values, scope.side, above);
            if rules.len() + made.len() > MOST_RULES {
                let message = format!("with `{}` these are more than {MOST_RULES} rules", show(call.name));
                self.problem(ALLOWLIST_CYCLE.at(call.span, message).with_help("use it once"));
                // Nothing, so that what uses this does not multiply it again.
                return Vec::new();
            }
            for written in made.iter() {
                let places = brought.entry(fingerprint(&written.rule)).or_default();
                let same = |rule: &Rule| rule.place.at == written.rule.place.at && *rule == written.rule;
                if !places.iter().any(|index| same(&rules[*index].rule)) {
                    places.push(rules.len());
                    rules.push(written.clone());
                }
            }
        }
        rules
    }

    /// The rules of the list that is called.
    fn call(
        &mut self,
        call: &Call<'_>,
        values: BTreeMap<String, String>,
        side: Side,
        above: &mut Vec<&'a str>,
    ) -> Rc<[Written]> {
        let outer = std::mem::replace(&mut self.allowlists.flawed, true);
        let Some(list) = self.allowlists.lists.get(call.name).cloned() else { return Rc::from([]) };
        // Circles are reported where they are written; here they only must not run for ever.
        if above.contains(&list.name) {
            return Rc::from([]);
        }
        if above.len() >= LONGEST_CHAIN {
            // Nobody who looks at each list by itself sees it, where those that are used come first.
            self.chain_of_lists_is_too_long(call.span);
            return Rc::from([]);
        }
        let key = (list.name, values, side);
        if let Some(made) = self.allowlists.made.get(&key) {
            self.allowlists.flawed = outer || made.flawed;
            return Rc::clone(&made.rules);
        }
        if self.allowlists.made.len() >= MOST_MADE {
            if !std::mem::replace(&mut self.allowlists.told_of_too_many, true) {
                let message = format!("lists would be made with more than {MOST_MADE} combinations of values");
                self.problem(ALLOWLIST_CYCLE.at(call.span, message).with_help("use them with fewer values"));
            }
            return Rc::from([]);
        }
        let parameters = Parameters { values: key.1.clone(), ..Parameters::default() };
        let scope = Scope { side, list: Some(list.name), parameters: &parameters, blank: false };
        let before = self.said();
        self.allowlists.flawed = list.flawed;
        above.push(list.name);
        let rules: Rc<[Written]> = self.items(list.items, &list.refused, &scope, above).into();
        above.pop();
        // What is wrong only with these values, or only under `deny`, is wrong because of this use.
        for problem in self.problems[before..].iter_mut().filter(|problem| problem.severity == Severity::Error) {
            if (!key.1.is_empty() || side == Side::Deny) && problem.related.len() < 2 {
                problem.related.push((call.span, format!("`{}` is used here", list.name)));
            }
        }
        let flawed = self.allowlists.flawed || self.failed_since(before);
        self.allowlists.flawed = outer || flawed;
        self.allowlists.made.insert(key, Outcome { rules: Rc::clone(&rules), flawed });
        rules
    }

    /// Values for the parameters of the list that is called; `None` when that cannot be said.
    fn arguments(&mut self, call: &Call<'_>, scope: &Scope<'_>) -> Option<BTreeMap<String, String>> {
        if !self.known.has(Kind::Allowlist, call.name) {
            self.unknown_allowlist(call);
            return None;
        }
        let list = self.allowlists.lists.get(call.name).cloned()?;
        let names = || list.parameters.iter().map(|(parameter, _)| &*parameter.key);
        let mut values = BTreeMap::new();
        let mut complete = true;
        for entry in call.values() {
            let Some((_, kind)) = list.parameters.iter().find(|(parameter, _)| parameter.key == entry.key) else {
                let message = format!("allowlist `{}` has no parameter `{}`", show(call.name), show(&entry.key));
                let help = match did_you_mean(&entry.key, names()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if list.parameters.is_empty() => "it has none: write its name alone".to_owned(),
                    None => format!("its parameters are {}", self::list(names(), "and")),
                };
                self.problem(ALLOWLIST_PARAMETER.at(entry.key_span, message).with_help(help));
                complete = false;
                continue;
            };
            let value = if entry.value.as_str().is_some() {
                self.scoped_text(&entry.value, scope)
            } else {
                self.scalar(&entry.value)
            };
            let value =
                value.filter(|value| kind.is_none_or(|kind| self.is_of_kind(kind, value, &entry.value, &entry.key)));
            complete &= value.is_some();
            values.extend(value.map(|value| (entry.key.to_string(), value)));
        }
        let given = |name: &str| call.values().any(|entry| *entry.key == *name);
        let missing: Vec<&str> = names().filter(|name| !given(name)).collect();
        if !missing.is_empty() {
            let message =
                format!("allowlist `{}` needs {}", show(call.name), self::list(missing.iter().copied(), "and"));
            let pairs: Vec<String> = names().map(|name| format!("{}: …", show(name))).collect();
            let help = format!("write `{{ use: {}, {} }}`", show(call.name), pairs.join(", "));
            self.problem(ALLOWLIST_PARAMETER.at(call.span, message).with_help(help));
            return None;
        }
        complete.then_some(values)
    }

    fn unknown_allowlist(&mut self, call: &Call<'_>) {
        if call.name.contains(['.', '*', ':', '/']) && call.values.is_empty() {
            let message = format!("`{}` is not the name of an allowlist", show(call.name));
            let help = format!("to name a host write `{{ host: \"{}\" }}`", show(call.name));
            self.problem(UNKNOWN_REFERENCE.at(call.span, message).with_help(help));
        } else {
            self.mention(Kind::Allowlist, call.name, call.span);
        }
    }

    /// Whether `value` is what a parameter takes; says so when not.
    fn is_of_kind(&mut self, kind: ParameterKind, value: &str, node: &Node, name: &str) -> bool {
        let before = self.problems.len();
        let good = match kind {
            ParameterKind::String => {
                let good = !value.is_empty() && !value.chars().any(char::is_control);
                if !good {
                    let message = format!("`{}` takes text on one line", show(name));
                    self.problem(ALLOWLIST_PARAMETER.at(node.span, message).with_help("write a value"));
                }
                good
            }
            ParameterKind::Host => self.host_pattern(value, node.span).is_some(),
            ParameterKind::Port => self.port_range(value, node.span).is_some(),
            ParameterKind::Path => self.rule_path(value, node.span).is_some(),
            ParameterKind::Method => self.method(value, node.span).is_some(),
        };
        for problem in &mut self.problems[before..] {
            problem.code = ALLOWLIST_PARAMETER.code;
        }
        good
    }

    /// Text in a rule: parameters and variables filled in. `None` also for one that nobody can know yet.
    pub(super) fn scoped_text(&mut self, node: &Node, scope: &Scope<'_>) -> Option<String> {
        let text = node.as_str()?;
        if !text.contains("${") {
            return self.verbatim(node);
        }
        let source = self.sources.get(node.span.source).map(|source| source.text.as_str()).unwrap_or_default();
        let parameters = Parameters { values: scope.parameters.values.clone(), ..Parameters::default() };
        let text = expand_with(text, node.span, source, &parameters, &self.caller.env, &mut self.problems);
        let asked = parameters.used.take();
        let unknown = scope.blank && !asked.is_empty();
        scope.parameters.used.borrow_mut().extend(asked);
        let text = text.filter(|_| !unknown)?;
        self.no_nul(&text, node).then_some(text)
    }
}
