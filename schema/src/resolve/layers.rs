//! `defaults`, `profiles` and `extends`: what lies beneath a sandbox.

use std::collections::HashMap;

use super::Resolver;
use super::egress::SinceMode;
use super::reference::Kind;
use super::sound::extends_is_right;
use crate::codes::EXTENDS_CYCLE;
use crate::document::{Entry, Node, NodeKind};
use crate::structure::{Check, Extent, show};
use crate::{Span, merge_sandbox};

/// Longest chain of profiles that is followed; recursion relies on it.
const LONGEST_CHAIN: usize = 64;

/// The layers of the file, and what was laid together already.
pub(super) struct Layers<'a> {
    defaults: Option<&'a Node>,
    profiles: HashMap<&'a str, &'a Entry>,
    /// What lies beneath a sandbox, by the profiles it names. Fleets name few combinations.
    beneath: HashMap<Vec<String>, (Option<Node>, SinceMode)>,
    /// Whether something may not lie beneath a sandbox that was meant to.
    flawed: bool,
    told_of_too_long: bool,
}

impl<'a> Layers<'a> {
    pub(super) fn of(root: &'a Node) -> Self {
        let profiles = root.get("profiles").map(Node::entries).unwrap_or_default();
        Self {
            defaults: root.get("defaults").filter(|node| matches!(node.kind, NodeKind::Mapping(_))),
            profiles: profiles.iter().map(|entry| (&*entry.key, entry)).collect(),
            beneath: HashMap::new(),
            flawed: false,
            told_of_too_long: false,
        }
    }
}

impl<'a> Resolver<'a> {
    /// Checks each layer by itself: one that nothing uses is checked too, and so is what a sandbox overrides.
    pub(super) fn check_layers(&mut self) {
        let defaults = self.root.entry("defaults");
        let profiles = self.root.get("profiles").map(Node::entries).unwrap_or_default();
        for entry in defaults.into_iter().chain(profiles) {
            let check = Check::new(Extent::Layer, &mut self.problems);
            check.definition("Sandbox", &entry.key, entry.key_span, &entry.value);
            self.layers.flawed |= !extends_is_right(&entry.value);
        }
        let before = self.said();
        for entry in profiles {
            self.name("profile", &entry.key, entry.key_span);
        }
        self.find_cycles();
        if let Some(defaults) = self.layers.defaults {
            for (name, span) in extends(defaults) {
                self.reference(Kind::Profile, name, span);
            }
        }
        self.layers.flawed |= self.failed_since(before);
    }

    pub(super) fn layers_are_flawed(&self) -> bool {
        self.layers.flawed
    }

    /// What `node`, the body of a sandbox, comes to with everything beneath it, and what of its egress its mode is over.
    pub(super) fn effective(&mut self, node: &Node) -> (Node, SinceMode) {
        let mut names = Vec::new();
        for (name, span) in extends(node) {
            self.reference(Kind::Profile, name, span);
            names.push(name.to_owned());
        }
        if !self.layers.beneath.contains_key(&names) {
            let beneath = self.lay_out(&names);
            self.layers.beneath.insert(names.clone(), beneath);
        }
        match self.layers.beneath.get(&names) {
            Some((Some(beneath), since)) if matches!(node.kind, NodeKind::Mapping(_)) => {
                (merge_sandbox(beneath, node), since.with(node))
            }
            _ => (node.clone(), SinceMode::default().with(node)),
        }
    }

    fn lay_out(&mut self, names: &[String]) -> (Option<Node>, SinceMode) {
        let mut order = Vec::new();
        if let Some(defaults) = self.layers.defaults {
            for (name, _) in extends(defaults) {
                self.linearize(name, &mut Vec::new(), &mut order);
            }
        }
        let mut layers: Vec<&Node> = order.drain(..).map(|entry| &entry.value).collect();
        layers.extend(self.layers.defaults);
        for name in names {
            self.linearize(name, &mut Vec::new(), &mut order);
        }
        layers.extend(order.into_iter().map(|entry| &entry.value));
        layers.retain(|node| matches!(node.kind, NodeKind::Mapping(_)));
        let since = layers.iter().fold(SinceMode::default(), |since, layer| since.with(layer));
        let node = layers.into_iter().cloned().reduce(|base, over| merge_sandbox(&base, &over)).map(without_extends);
        (node, since)
    }

    /// The profile and those it extends, lowest first, each once.
    fn linearize(&mut self, name: &str, above: &mut Vec<&'a str>, order: &mut Vec<&'a Entry>) {
        let Some(entry) = self.layers.profiles.get(name).copied() else { return };
        // Circles are reported by `find_cycles`; here they only must not run for ever.
        if above.contains(&&*entry.key) || order.iter().any(|known| known.key == entry.key) {
            return;
        }
        if above.len() >= LONGEST_CHAIN {
            // `find_cycles` does not see it where profiles that are extended come first.
            self.layers.flawed = true;
            self.chain_of_profiles_is_too_long(entry.key_span);
            return;
        }
        above.push(&entry.key);
        for (name, _) in extends(&entry.value) {
            self.linearize(name, above, order);
        }
        above.pop();
        self.known.take(Kind::Profile, &entry.key);
        order.push(entry);
    }

    fn find_cycles(&mut self) {
        let mut state: HashMap<&'a str, bool> = HashMap::new();
        let profiles = self.root.get("profiles").map(Node::entries).unwrap_or_default();
        for entry in profiles {
            self.visit(entry, &mut Vec::new(), &mut state);
        }
    }

    /// `state` tells visited profiles from those being visited.
    fn visit(&mut self, entry: &'a Entry, path: &mut Vec<&'a str>, state: &mut HashMap<&'a str, bool>) {
        if state.contains_key(&*entry.key) {
            return;
        }
        state.insert(&entry.key, false);
        path.push(&entry.key);
        for (name, span) in extends(&entry.value) {
            let Some(next) = self.layers.profiles.get(name).copied() else {
                self.reference(Kind::Profile, name, span);
                continue;
            };
            let being_visited = state.get(name) == Some(&false);
            if being_visited || path.len() >= LONGEST_CHAIN {
                let start = path.iter().position(|known| *known == name).unwrap_or_default();
                let chain: Vec<&str> = path[start..].iter().copied().chain([name]).collect();
                if being_visited {
                    let message = format!("profiles extend each other in a circle: {}", show(&chain.join(" → ")));
                    self.problem(EXTENDS_CYCLE.at(span, message).with_help("remove one `extends` of the circle"));
                } else {
                    self.chain_of_profiles_is_too_long(span);
                }
            } else {
                self.visit(next, path, state);
            }
        }
        path.pop();
        state.insert(&entry.key, true);
    }

    /// Says so once: a chain is as long from whichever of its profiles it is looked at.
    fn chain_of_profiles_is_too_long(&mut self, at: Span) {
        if !std::mem::replace(&mut self.layers.told_of_too_long, true) {
            let message = format!("a chain of profiles is longer than {LONGEST_CHAIN}");
            self.problem(EXTENDS_CYCLE.at(at, message).with_help("write some of them into one"));
        }
    }
}

/// The names `node` extends, with their places.
fn extends(node: &Node) -> Vec<(&str, Span)> {
    let Some(value) = node.get("extends") else { return Vec::new() };
    match value.as_str() {
        Some(name) => vec![(name, value.span)],
        None => value.items().iter().filter_map(|item| Some((item.as_str()?, item.span))).collect(),
    }
}

/// Followed already: a sandbox does not extend what its profiles extend.
fn without_extends(node: Node) -> Node {
    let entries = node.entries().iter().filter(|entry| *entry.key != *"extends").cloned().collect();
    Node { kind: NodeKind::Mapping(entries), ..node }
}
