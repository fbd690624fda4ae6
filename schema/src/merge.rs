//! Laying one document over another, by the rules of compose.
//!
//! - Mappings merge key by key, to any depth. A key that only one side has stays as it is.
//! - Scalars are replaced. So is anything by something of another kind.
//! - Lists are appended; an item that is there already is not added again.
//! - `mounts` (by `target`, else `source`) and `worktrees` (by `path`) hold one item per key: the later one takes the
//!   place of the earlier one.
//! - Commands (`command` of a sandbox or a secret, `setup.run` of an image) are replaced, for half of two is neither.
//! - Alternatives exclude each other: `home: {tmpfs: …}` over `home: {volume: …}` leaves only the tmpfs. The same for the
//!   kinds of images and the sources of secrets.
//! - An explicit `null` takes a scalar or a list away; over a mapping it says nothing.
//!
//! Every node keeps the place it was written at, so that a problem points into the right file.

use std::collections::{HashMap, HashSet};

use crate::document::{Entry, Node, NodeKind};

/// Lays the document `over` on top of `base`: several `-f`.
pub fn merge(base: Node, over: Node) -> Node {
    merge_as(Shape::Document, base, over)
}

/// Lays the body of a sandbox on top of what it extends: `defaults`, `profiles`.
pub fn merge_sandbox(base: Node, over: Node) -> Node {
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
    Secrets,
    Secret,
    Home,
    /// A list with one item per value of these fields, the first present one counts.
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
            (Self::Sandbox, "mounts") => Self::Keyed(&["target", "source"]),
            (Self::Sandbox, "worktrees") => Self::Keyed(&["path"]),
            (Self::Sandbox | Self::Secret, "command") | (Self::Setup, "run") => Self::Whole,
            _ => Self::Other,
        }
    }

    /// Keys of which a mapping has one.
    fn alternatives(self) -> &'static [&'static str] {
        match self {
            Self::Image => &["host", "ref", "build", "archive", "rootfs", "from"],
            Self::Secret => &["env", "file", "command"],
            Self::Home => &["volume", "workspace", "tmpfs"],
            _ => &[],
        }
    }
}

// Recursion is bounded by the depth of documents.
fn merge_as(shape: Shape, base: Node, over: Node) -> Node {
    match (base.kind, over.kind) {
        (NodeKind::Mapping(entries), NodeKind::Null) => Node { kind: NodeKind::Mapping(entries), ..base },
        (NodeKind::Mapping(ours), NodeKind::Mapping(theirs)) => {
            Node { kind: NodeKind::Mapping(merge_entries(shape, ours, theirs)), ..over }
        }
        (NodeKind::Sequence(ours), NodeKind::Sequence(theirs)) if shape != Shape::Whole => {
            let items = match shape {
                Shape::Keyed(fields) => merge_keyed(fields, ours, theirs),
                _ => append(ours, theirs),
            };
            Node { kind: NodeKind::Sequence(items), ..over }
        }
        (_, kind) => Node { kind, ..over },
    }
}

/// Fleets merge small mappings by the ten thousand; only longer ones are worth an index.
const SMALL: usize = 16;

fn merge_entries(shape: Shape, mut ours: Vec<Entry>, theirs: Vec<Entry>) -> Vec<Entry> {
    let alternatives = shape.alternatives();
    let chosen = |key: &str| theirs.iter().any(|entry| entry.key == key);
    if alternatives.iter().any(|key| chosen(key)) {
        ours.retain(|entry| !alternatives.contains(&entry.key.as_str()) || chosen(&entry.key));
        // `pull` belongs to `ref`, `setup` to `from`.
        if shape == Shape::Image {
            ours.retain(|entry| match entry.key.as_str() {
                "pull" => chosen("ref"),
                "setup" => chosen("from"),
                _ => true,
            });
        }
    }
    let places: HashMap<String, usize> = match ours.len() {
        0..=SMALL => HashMap::new(),
        _ => ours.iter().enumerate().map(|(index, entry)| (entry.key.clone(), index)).collect(),
    };
    let indexed = ours.len() > SMALL;
    let mut merged = ours;
    let known = merged.len();
    for entry in theirs {
        let place = if indexed {
            places.get(&entry.key).copied()
        } else {
            merged.iter().take(known).position(|base| base.key == entry.key)
        };
        match place.and_then(|index| merged.get_mut(index)) {
            Some(place) => {
                let base = std::mem::replace(&mut place.value, Node::new(entry.value.span, NodeKind::Null));
                let value = merge_as(shape.child(&entry.key), base, entry.value);
                *place = Entry { value, ..entry };
            }
            None => merged.push(entry),
        }
    }
    merged
}

fn merge_keyed(fields: &[&str], ours: Vec<Node>, theirs: Vec<Node>) -> Vec<Node> {
    let key = |item: &Node| fields.iter().find_map(|field| item.get(field)?.as_str()).map(str::to_owned);
    let mut items = ours;
    let mut places: HashMap<String, usize> =
        items.iter().enumerate().filter_map(|(index, item)| Some((key(item)?, index))).collect();
    for item in theirs {
        let key = key(&item);
        if let Some(place) = key.as_ref().and_then(|key| places.get(key)).and_then(|index| items.get_mut(*index)) {
            *place = item;
            continue;
        }
        if let Some(key) = key {
            places.insert(key, items.len());
        }
        items.push(item);
    }
    items
}

fn append(mut ours: Vec<Node>, theirs: Vec<Node>) -> Vec<Node> {
    // Only text is compared: every list of the language but the keyed ones is one of text.
    let known: HashSet<String> = ours.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect();
    ours.extend(theirs.into_iter().filter(|item| item.as_str().is_none_or(|text| !known.contains(text))));
    ours
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
                "null takes scalars and lists away, not mappings",
                "defaults: {owner: a, networks: [b], env: {A: 1}}",
                "defaults: {owner: null, networks: ~, env: }",
                "defaults: {owner: null, networks: null, env: {A: 1}}",
            ),
        ];
        for (name, base, over, expected) in cases {
            let merged = merge(read(0, base), read(1, over));
            assert!(merged.same_value(&read(0, expected)), "{name}: {:#?}", merged.to_value());
        }
    }

    #[test]
    fn places_stay_with_what_was_written() {
        let base = "env: {A: 1, B: 2}";
        let over = "env: {B: 3}";
        let merged = merge_sandbox(read(0, base), read(1, over));
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
        assert!(merge(read(0, text), read(1, "{}")).same_value(&read(0, text)));
        assert!(merge(read(0, "{}"), read(1, text)).same_value(&read(0, text)));
        assert!(merge(read(0, text), read(1, text)).same_value(&read(0, text)), "merging is idempotent");
    }
}
