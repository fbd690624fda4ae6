//! Laying one document over another, by the rules of compose.
//!
//! - Mappings merge key by key, to any depth. A key that only one side has stays as it is.
//! - Scalars are replaced. So is anything by something of another kind.
//! - Lists are appended; an item that is there already is not added again. So `allow` and `deny` of egress, and the rules
//!   of an allowlist, only ever grow.
//! - `mounts` (by `target`, else `source`), `worktrees` (by `path`) and `networks` (by `name`, or the name alone) hold one
//!   item per key: the later one takes the place of the earlier one.
//! - Commands (`command` of a sandbox or a secret, `setup.run` of an image) are replaced, for half of two is neither; and so
//!   are the addresses of a name in `egress.hosts`.
//! - Alternatives exclude each other: `home: {tmpfs: …}` over `home: {volume: …}` leaves only the tmpfs. The same for the
//!   kinds of images, the sources of secrets and the ways upstream.
//!
//! `null` takes nothing away: it is no value of the language, and the check refuses it wherever it is written.
//!
//! Every node keeps the place it was written at, so that a problem points into the right file.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::document::{Entry, Node, NodeKind};

/// Lays the document `over` on top of `base`: several `-f`.
pub fn merge(base: &Node, over: &Node) -> Node {
    merge_as(Shape::Document, base, over)
}

/// Lays the body of a sandbox on top of what it extends: `defaults`, `profiles`.
pub fn merge_sandbox(base: &Node, over: &Node) -> Node {
    merge_as(Shape::Sandbox, base, over)
}

/// What a node is in the language, as far as merging needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Document,
    Sandboxes,
    Sandbox,
    Images,
    Image,
    Setup,
    Egress,
    Hosts,
    Upstream,
    Secrets,
    Secret,
    Home,
    /// A list with one item per value of these fields, the first present one counts; text stands for itself.
    Keyed(&'static [&'static str]),
    /// Replaced as a whole.
    Whole,
    Other,
}

impl Shape {
    fn child(self, key: &str) -> Self {
        match (self, key) {
            (Self::Document, "defaults") | (Self::Sandboxes, _) => Self::Sandbox,
            (Self::Document, "profiles" | "sandboxes") => Self::Sandboxes,
            (Self::Document, "images") => Self::Images,
            (Self::Document, "secrets") => Self::Secrets,
            (Self::Images, _) => Self::Image,
            (Self::Image, "setup") => Self::Setup,
            (Self::Secrets, _) => Self::Secret,
            (Self::Sandbox, "home") => Self::Home,
            (Self::Sandbox | Self::Setup, "egress") => Self::Egress,
            (Self::Egress, "upstream") => Self::Upstream,
            (Self::Egress, "hosts") => Self::Hosts,
            (Self::Sandbox, "mounts") => Self::Keyed(&["target", "source"]),
            (Self::Sandbox, "worktrees") => Self::Keyed(&["path"]),
            (Self::Sandbox, "networks") => Self::Keyed(&["name"]),
            (Self::Sandbox | Self::Secret, "command") | (Self::Setup, "run") | (Self::Hosts, _) => Self::Whole,
            _ => Self::Other,
        }
    }

    /// Keys of which a mapping has one.
    fn alternatives(self) -> &'static [&'static str] {
        match self {
            Self::Image => &["host", "ref", "build", "archive", "rootfs", "from"],
            Self::Secret => &["env", "file", "command"],
            Self::Home => &["volume", "workspace", "tmpfs"],
            Self::Upstream => &["proxy", "socks5", "netns"],
            _ => &[],
        }
    }
}

// Recursion is bounded by the depth of documents.
fn merge_as(shape: Shape, base: &Node, over: &Node) -> Node {
    let kind = match (&base.kind, &over.kind) {
        (NodeKind::Mapping(ours), NodeKind::Mapping(theirs)) => {
            NodeKind::Mapping(merge_entries(shape, ours, theirs).into())
        }
        (NodeKind::Sequence(ours), NodeKind::Sequence(theirs)) if shape != Shape::Whole => {
            let items = match shape {
                Shape::Keyed(fields) => merge_keyed(fields, ours, theirs),
                _ => append(ours, theirs),
            };
            NodeKind::Sequence(items.into())
        }
        (_, kind) => kind.clone(),
    };
    Node { kind, ..over.clone() }
}

/// Fleets merge small collections by the ten thousand; only longer ones are worth an index.
const SMALL: usize = 16;

/// Finds an item by the text it goes by; the last one, where several have it.
enum Index<'a> {
    Small(Vec<Option<&'a str>>),
    Large(usize, HashMap<&'a str, usize>),
}

impl<'a> Index<'a> {
    /// Of `keys`, with room for `most`.
    fn of(keys: impl Iterator<Item = Option<&'a str>>, most: usize) -> Self {
        let mut index = if most <= SMALL {
            Self::Small(Vec::with_capacity(most))
        } else {
            Self::Large(0, HashMap::with_capacity(most))
        };
        keys.for_each(|key| index.push(key));
        index
    }

    fn push(&mut self, key: Option<&'a str>) {
        match self {
            Self::Small(keys) => keys.push(key),
            Self::Large(length, places) => {
                places.extend(key.map(|key| (key, *length)));
                *length += 1;
            }
        }
    }

    fn find(&self, key: &str) -> Option<usize> {
        match self {
            Self::Small(keys) => keys.iter().rposition(|known| *known == Some(key)),
            Self::Large(_, places) => places.get(key).copied(),
        }
    }
}

fn merge_entries(shape: Shape, ours: &[Entry], theirs: &[Entry]) -> Vec<Entry> {
    let alternatives = shape.alternatives();
    let chosen = |key: &str| theirs.iter().any(|entry| *entry.key == *key);
    let another = alternatives.iter().any(|key| chosen(key));
    let stays = |entry: &&Entry| match &*entry.key {
        _ if !another => true,
        key if alternatives.contains(&key) => chosen(key),
        // `pull` belongs to `ref`, `setup` to `from`.
        "pull" if shape == Shape::Image => chosen("ref"),
        "setup" if shape == Shape::Image => chosen("from"),
        _ => true,
    };
    let ours: Vec<&Entry> = ours.iter().filter(stays).collect();
    let places = Index::of(ours.iter().map(|entry| Some(&*entry.key)), ours.len());
    let mut merged = Vec::with_capacity(ours.len() + theirs.len());
    merged.extend(ours.iter().map(|entry| (*entry).clone()));
    for entry in theirs {
        match places.find(&entry.key).and_then(|index| merged.get_mut(index)) {
            Some(place) => {
                let value = merge_as(shape.child(&entry.key), &place.value, &entry.value);
                *place = Entry { value, ..entry.clone() };
            }
            None => merged.push(entry.clone()),
        }
    }
    merged
}

fn merge_keyed(fields: &[&str], ours: &[Node], theirs: &[Node]) -> Vec<Node> {
    fn key<'n>(fields: &[&str], item: &'n Node) -> Option<&'n str> {
        item.as_str().or_else(|| fields.iter().find_map(|field| item.get(field)?.as_str()))
    }
    let places = Index::of(ours.iter().map(|item| key(fields, item)), ours.len());
    let mut items = Vec::with_capacity(ours.len() + theirs.len());
    items.extend_from_slice(ours);
    // One takes the place of one. What has the same key within a layer stays beside it, for whoever finds it to be a mistake.
    let mut replaced = vec![false; ours.len()];
    for item in theirs {
        let place = key(fields, item).and_then(|key| places.find(key)).filter(|index| !replaced[*index]);
        match place {
            Some(index) => {
                replaced[index] = true;
                items[index] = item.clone();
            }
            None => items.push(item.clone()),
        }
    }
    items
}

fn append(ours: &[Node], theirs: &[Node]) -> Vec<Node> {
    let texts = Index::of(ours.iter().map(Node::as_str), ours.len());
    // Made only for lists of something else than text: rules, tests, assertions.
    let mut others: Option<HashMap<u64, Vec<&Node>>> = None;
    let fresh = theirs.iter().filter(|item| {
        if let Some(text) = item.as_str() {
            return texts.find(text).is_none();
        }
        let others = others.get_or_insert_with(|| {
            let mut index: HashMap<u64, Vec<&Node>> = HashMap::new();
            for node in ours.iter().filter(|node| node.as_str().is_none()) {
                index.entry(digest(node)).or_default().push(node);
            }
            index
        });
        !others.get(&digest(item)).is_some_and(|alike| alike.iter().any(|known| known.same_value(item)))
    });
    ours.iter().chain(fresh).cloned().collect()
}

/// The same for nodes of the same value.
fn digest(node: &Node) -> u64 {
    fn feed(node: &Node, hasher: &mut DefaultHasher) {
        std::mem::discriminant(&node.kind).hash(hasher);
        match &node.kind {
            NodeKind::Null => {}
            NodeKind::Bool(value) => value.hash(hasher),
            NodeKind::Integer(value) => value.hash(hasher),
            // Zero and minus zero are equal.
            NodeKind::Float(value) => (value + 0.0).to_bits().hash(hasher),
            NodeKind::String(text) => text.hash(hasher),
            NodeKind::Sequence(items) => items.iter().for_each(|item| feed(item, hasher)),
            NodeKind::Mapping(entries) => entries.iter().for_each(|entry| {
                entry.key.hash(hasher);
                feed(&entry.value, hasher);
            }),
        }
    }
    let mut hasher = DefaultHasher::new();
    feed(node, &mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::parse;

    fn read(source: usize, text: &str) -> Node {
        let mut problems = Vec::new();
        let node = parse(source, text, &mut problems);
        assert_eq!(problems, []);
        node.expect("a document")
    }

    #[test]
    fn merges_as_compose_does() {
        let cases = [
            ("scalars replace", "project: a", "project: b", "project: b"),
            (
                "mappings merge to any depth",
                "sandboxes: {api: {env: {A: 1, B: 1}, image: x}}",
                "sandboxes: {api: {env: {B: 2, C: 2}}, web: {image: y}}",
                "sandboxes: {api: {env: {A: 1, B: 2, C: 2}, image: x}, web: {image: y}}",
            ),
            (
                "lists append without repeating",
                "sandboxes: {api: {networks: [a, b]}}",
                "sandboxes: {api: {networks: [b, c]}}",
                "sandboxes: {api: {networks: [a, b, c]}}",
            ),
            (
                "mounts by target",
                "defaults: {mounts: [{source: ~/.cargo}, {source: ./a, target: /a}, {source: ./b, target: /b}]}",
                "defaults: {mounts: [{source: ./c, target: /a}, {source: ~/.cargo, mode: rw}, {source: /d}]}",
                "defaults: {mounts: [{source: ~/.cargo, mode: rw}, {source: ./c, target: /a}, {source: ./b, target: /b}, {source: /d}]}",
            ),
            (
                "networks by name",
                "defaults: {networks: [a, b, {name: c, ports: [1]}]}",
                "defaults: {networks: [{name: b, ports: [2]}, c, {name: d}, a]}",
                "defaults: {networks: [a, {name: b, ports: [2]}, c, {name: d}]}",
            ),
            (
                "worktrees by path",
                "sandboxes: {api: {worktrees: [{path: ~/a, branch: x}]}}",
                "sandboxes: {api: {worktrees: [{path: ~/a, branch: y}, {path: ~/b}]}}",
                "sandboxes: {api: {worktrees: [{path: ~/a, branch: y}, {path: ~/b}]}}",
            ),
            (
                "commands replace",
                "sandboxes: {api: {command: [a, b]}}\nsecrets: {key: {command: [a]}}\nimages: {i: {from: x, setup: {run: [a]}}}",
                "sandboxes: {api: {command: [c]}}\nsecrets: {key: {command: [b]}}\nimages: {i: {from: y, setup: {run: [b]}}}",
                "sandboxes: {api: {command: [c]}}\nsecrets: {key: {command: [b]}}\nimages: {i: {from: y, setup: {run: [b]}}}",
            ),
            (
                "alternatives exclude each other",
                "defaults: {home: {volume: v}}\nimages: {i: {ref: r, pull: always}}\nsecrets: {s: {env: E}}",
                "defaults: {home: {tmpfs: 1GiB}}\nimages: {i: {archive: a}}\nsecrets: {s: {file: f}}",
                "defaults: {home: {tmpfs: 1GiB}}\nimages: {i: {archive: a}}\nsecrets: {s: {file: f}}",
            ),
            (
                "rules append without repeating",
                "defaults: {egress: {allow: [github, {host: a.example, ports: [1]}], hosts: {a.test: [10.0.0.1]}, upstream: {proxy: 'http://p:1'}}}",
                "defaults: {egress: {allow: [{host: a.example, ports: [1]}, github, {host: a.example}], hosts: {a.test: [10.0.0.2]}, upstream: {netns: /n}}}",
                "defaults: {egress: {allow: [github, {host: a.example, ports: [1]}, {host: a.example}], hosts: {a.test: [10.0.0.2]}, upstream: {netns: /n}}}",
            ),
            (
                "allowlists grow",
                "allowlists: {one: [{host: a.example}], two: {params: {h: host}, rules: [{host: '${h}'}]}}",
                "allowlists: {one: [{host: b.example}], two: {params: {p: port}, rules: [{host: b.example}]}}",
                "allowlists: {one: [{host: a.example}, {host: b.example}], two: {params: {h: host, p: port}, rules: [{host: '${h}'}, {host: b.example}]}}",
            ),
            (
                "names are not mistaken for fields",
                "sandboxes: {home: {env: {ref: a, command: x}}, images: {env: {host: a, from: b}}}",
                "sandboxes: {home: {env: {volume: b}}, images: {env: {ref: c}}}",
                "sandboxes: {home: {env: {ref: a, command: x, volume: b}}, images: {env: {host: a, from: b, ref: c}}}",
            ),
            (
                "another kind replaces",
                "sandboxes: {api: {egress: open}}",
                "sandboxes: {api: {egress: {mode: none}}}",
                "sandboxes: {api: {egress: {mode: none}}}",
            ),
            (
                "null is of another kind and stays for the check to see",
                "defaults: {owner: a, networks: [b], env: {A: 1}}",
                "defaults: {owner: null, networks: ~, env: }",
                "defaults: {owner: null, networks: null, env: null}",
            ),
        ];
        for (name, base, over, expected) in cases {
            let merged = merge(&read(0, base), &read(1, over));
            assert!(merged.same_value(&read(0, expected)), "{name}: {:#?}", merged.to_value());
        }
    }

    #[test]
    fn places_stay_with_what_was_written() {
        let base = "env: {A: 1, B: 2}";
        let over = "env: {B: 3}";
        let merged = merge_sandbox(&read(0, base), &read(1, over));
        let entries = merged.get("env").expect("env").entries();
        let written = |index: usize| {
            let (key, value) = (entries[index].key_span, entries[index].value.span);
            let text = [base, over][key.source];
            (key.source, value.source, &text[key.start..key.end], &text[value.start..value.end])
        };
        assert_eq!(written(0), (0, 0, "A", "1"));
        assert_eq!(written(1), (1, 1, "B", "3"));
    }

    #[test]
    fn empty_documents_are_neutral() {
        let text = "sandboxes: {api: {mounts: [{source: a}], networks: [b], home: {volume: c}}}";
        assert!(merge(&read(0, text), &read(1, "{}")).same_value(&read(0, text)));
        assert!(merge(&read(0, "{}"), &read(1, text)).same_value(&read(0, text)));
        assert!(merge(&read(0, text), &read(1, text)).same_value(&read(0, text)), "merging is idempotent");
    }
}
