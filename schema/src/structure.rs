//! The structural check: fields, types, fixed values and ranges, before anything is interpreted.
//!
//! It is driven by the JSON Schema of the types in `raw`, so that an editor and `sbx validate` agree. It visits the whole
//! tree, reports every problem at its own key or scalar, and hands back what was right: the parts a typed value can be made
//! from. One wrong field never hides what is wrong elsewhere.

use std::sync::LazyLock;

use serde_yaml::Value;

use crate::codes::{
    CONFLICTING_FIELDS, MISSING_FIELD, NOT_AVAILABLE, UNKNOWN_ALIAS, UNKNOWN_FIELD, WRONG_TYPE, WRONG_VALUE,
};
use crate::document::{Entry, Node, NodeKind};
use crate::suggest::did_you_mean;
use crate::{Diagnostic, Span};

mod shape;

pub(crate) use shape::{Fields, Shape, Structure};

/// The language, compiled once.
pub(crate) static LANGUAGE: LazyLock<Structure> = LazyLock::new(|| Structure::of(&crate::json_schema::annotated()));

/// How much of a mapping must be there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Everything required.
    Whole,
    /// A layer that others complete: nothing is required, what is there must be right.
    Layer,
}

/// One pass over a tree.
pub(crate) struct Check<'a> {
    structure: &'a Structure,
    extent: Extent,
    problems: &'a mut Vec<Diagnostic>,
}

/// What a value belongs to, for messages.
#[derive(Clone, Copy)]
struct Owner<'a> {
    key: &'a str,
    key_span: Span,
    item: bool,
}

impl<'a> Check<'a> {
    pub(crate) fn new(extent: Extent, problems: &'a mut Vec<Diagnostic>) -> Self {
        Self { structure: &LANGUAGE, extent, problems }
    }

    /// Checks `node`, written under `key`, against the definition named `shape`. Gives the parts that are right.
    pub(crate) fn definition(&mut self, shape: &str, key: &str, key_span: Span, node: &Node) -> Option<Value> {
        let shape = self.structure.definition(shape)?;
        self.value(shape, node, Owner { key, key_span, item: false })
    }

    /// Checks a whole document.
    pub(crate) fn document(&mut self, node: &Node) {
        let start = Span { end: node.span.start, ..node.span };
        self.value(&self.structure.root, node, Owner { key: "the document", key_span: start, item: false });
    }

    /// Checks the keys at the top of a document, not what is under them.
    pub(crate) fn top(&mut self, node: &Node) {
        let structure = self.structure;
        let start = Span { end: node.span.start, ..node.span };
        let owner = Owner { key: "the document", key_span: start, item: false };
        match (&structure.root, &node.kind) {
            (Shape::Mapping(fields), NodeKind::Mapping(entries)) => {
                for entry in entries {
                    match fields.get(&entry.key) {
                        Some(shape) if matches!(self.structure.resolve(shape), Shape::Mapping(_)) => {
                            if !matches!(entry.value.kind, NodeKind::Mapping(_)) {
                                self.wrong_type(shape, &entry.value, Owner::of(entry));
                            }
                        }
                        Some(shape) => drop(self.value(shape, &entry.value, Owner::of(entry))),
                        None => self.unknown(fields, entry),
                    }
                }
                self.relations(fields, node, owner);
            }
            (root, _) => self.wrong_type(root, node, owner),
        }
    }

    fn value(&mut self, shape: &Shape, node: &Node, owner: Owner<'_>) -> Option<Value> {
        let structure = self.structure;
        match (structure.resolve(shape), &node.kind) {
            (Shape::Boolean, NodeKind::Bool(_)) | (Shape::Any, _) => Some(node.to_value()),
            (Shape::Number { least, most }, NodeKind::Integer(_) | NodeKind::Float(_)) => {
                self.range(node, owner, *least, *most)
            }
            (Shape::Integer { least, most }, NodeKind::Integer(_)) => self.range(node, owner, *least, *most),
            (Shape::Text { values, later, least }, NodeKind::String(text)) => {
                if values.is_empty() {
                    if text.len() < *least {
                        // Only names have to be longer, and their own rule has spoken.
                        if *least == 1 {
                            self.problems.push(
                                WRONG_VALUE
                                    .at(node.span, format!("{} is empty", owner.title()))
                                    .with_help("Write a value or remove the line."),
                            );
                        }
                        return None;
                    }
                } else if !values.iter().any(|value| value == text) {
                    self.not_a_value(text, node.span, values, later, owner);
                    return None;
                }
                Some(node.to_value())
            }
            (Shape::Sequence { items, least }, NodeKind::Sequence(nodes)) => {
                if nodes.len() < *least {
                    self.problems.push(
                        WRONG_VALUE
                            .at(node.span, format!("{} is empty", owner.title()))
                            .with_help("List at least one, or remove the line."),
                    );
                    return None;
                }
                // Every item is checked; a list with a hole would mean something else than what was written.
                let values: Vec<_> =
                    nodes.iter().map(|item| self.value(items, item, Owner { item: true, ..owner })).collect();
                values.into_iter().collect::<Option<Vec<_>>>().map(Value::Sequence)
            }
            (Shape::Mapping(fields), NodeKind::Mapping(entries)) => self.mapping(fields, node, entries, owner),
            (Shape::AnyOf(choices), _) => {
                let fits = |choice: &&Shape| structure.fits(choice, node);
                let Some(choice) = choices.iter().find(fits) else {
                    self.wrong_type(shape, node, owner);
                    return None;
                };
                self.value(choice, node, owner)
            }
            _ => {
                self.wrong_type(shape, node, owner);
                None
            }
        }
    }

    fn mapping(&mut self, fields: &Fields, node: &Node, entries: &[Entry], owner: Owner<'_>) -> Option<Value> {
        let mut mapping = serde_yaml::Mapping::with_capacity(entries.len());
        for entry in entries {
            let value = match (fields.get(&entry.key), &fields.rest) {
                (Some(shape), _) => self.value(shape, &entry.value, Owner::of(entry)),
                (None, Some(rest)) => self.value(rest, &entry.value, Owner::of(entry)),
                (None, None) => {
                    self.unknown(fields, entry);
                    None
                }
            };
            if let Some(value) = value {
                mapping.insert(Value::String(entry.key.clone()), value);
            }
        }
        self.relations(fields, node, owner);
        let complete = fields.required.iter().all(|key| mapping.contains_key(key.as_str()));
        (complete || self.extent == Extent::Layer).then_some(Value::Mapping(mapping))
    }

    /// What fields demand of each other.
    fn relations(&mut self, fields: &Fields, node: &Node, owner: Owner<'_>) {
        let blame =
            if owner.item { node.entries().first().map_or(node.span, |entry| entry.key_span) } else { owner.key_span };
        let whole = self.extent == Extent::Whole;
        // A field that is there under a misspelled name has been reported; that it is missing follows from that.
        let misspelled: Vec<&str> = if whole { fields.guesses(node).collect() } else { Vec::new() };
        let missing = |key: &&String| whole && node.get(key).is_none() && !misspelled.contains(&key.as_str());
        for key in fields.required.iter().filter(missing) {
            self.problems.push(
                MISSING_FIELD.at(blame, format!("{} has no `{key}`", owner.subject())).with_help(
                    fields
                        .describe(key)
                        .map_or_else(|| format!("Add `{key}`."), |description| format!("Add `{key}`: {description}")),
                ),
            );
        }
        for (key, needed) in fields.needs.iter().filter(|_| whole) {
            let Some(entry) = node.entry(key) else { continue };
            for other in needed.iter().filter(|other| node.get(other).is_none()) {
                // What is missing beside a field that must not be here at all is no news.
                if !fields.choices.is_empty() && fields.chosen(node).any(|choice| choice != *key) {
                    self.problems.push(
                        CONFLICTING_FIELDS
                            .at(entry.key_span, format!("`{key}` belongs to `{other}`, which is not here")),
                    );
                } else {
                    self.problems.push(
                        MISSING_FIELD
                            .at(entry.key_span, format!("`{key}` needs `{other}` beside it"))
                            .with_help(format!("Add `{other}`, or remove `{key}`.")),
                    );
                }
            }
        }
        if fields.choices.is_empty() {
            return;
        }
        let names = || list(fields.choices.iter().map(|choice| choice[0].as_str()), "and");
        let chosen: Vec<&str> = fields.chosen(node).collect();
        match chosen.as_slice() {
            [] if whole && !fields.choices.iter().any(|choice| misspelled.contains(&choice[0].as_str())) => {
                self.problems.push(
                    MISSING_FIELD
                        .at(blame, format!("{} has none of {}", owner.subject(), names()))
                        .with_help("Write exactly one of them."),
                );
            }
            [first, second, ..] => {
                let span = |key: &str| node.entry(key).map_or(node.span, |entry| entry.key_span);
                let mut problem = CONFLICTING_FIELDS
                    .at(span(second), format!("`{first}` and `{second}` exclude each other"))
                    .with_help(format!("Keep exactly one of {}.", names()));
                problem.related.push((span(first), format!("`{first}` is here")));
                self.problems.push(problem);
            }
            [only] if whole => {
                let choice = fields.choices.iter().find(|choice| choice[0] == *only);
                for other in choice.into_iter().flatten().skip(1).filter(|other| node.get(other).is_none()) {
                    self.problems.push(
                        MISSING_FIELD
                            .at(blame, format!("`{only}` needs `{other}` beside it"))
                            .with_help(format!("Add `{other}`.")),
                    );
                }
            }
            _ => {}
        }
    }

    fn unknown(&mut self, fields: &Fields, entry: &Entry) {
        let key = &entry.key;
        if fields.later.iter().any(|later| later == key) {
            self.problems.push(
                NOT_AVAILABLE
                    .at(entry.key_span, format!("`{key}` is not available yet"))
                    .with_help("Remove it: this version would not act on it, and nothing is ever silently ignored."),
            );
            return;
        }
        let help = match fields.guess(key) {
            Some(name) => format!("Did you mean `{name}`?"),
            None => format!("Known here: {}.", list(fields.names(), "and")),
        };
        self.problems.push(UNKNOWN_FIELD.at(entry.key_span, format!("unknown field `{}`", show(key))).with_help(help));
    }

    fn not_a_value(&mut self, text: &str, span: Span, values: &[String], later: &[String], owner: Owner<'_>) {
        let all = list(values.iter().map(String::as_str), "or");
        if later.iter().any(|later| later == text) {
            self.problems.push(
                NOT_AVAILABLE
                    .at(span, format!("{} `{text}` is not available yet", owner.title()))
                    .with_help(format!("Available: {all}.")),
            );
            return;
        }
        let help = match did_you_mean(text, values.iter().map(String::as_str)) {
            Some(name) => format!("Did you mean `{name}`?"),
            None => format!("Write {all}."),
        };
        self.problems
            .push(WRONG_VALUE.at(span, format!("{} takes {all}, not `{}`", owner.title(), show(text))).with_help(help));
    }

    fn range(&mut self, node: &Node, owner: Owner<'_>, least: f64, most: f64) -> Option<Value> {
        #[expect(clippy::cast_precision_loss, reason = "compared with small bounds")]
        let number = match node.kind {
            NodeKind::Integer(number) => number as f64,
            NodeKind::Float(number) => number,
            _ => return None,
        };
        let (word, bound) = if number < least {
            ("least", least)
        } else if number > most {
            ("most", most)
        } else if number.is_nan() {
            self.problems.push(WRONG_VALUE.at(node.span, format!("{} is not a number", owner.title())));
            return None;
        } else {
            return Some(node.to_value());
        };
        self.problems.push(
            WRONG_VALUE
                .at(node.span, format!("{} is at {word} {bound}", owner.title()))
                .with_help("Change the number."),
        );
        None
    }

    fn wrong_type(&mut self, shape: &Shape, node: &Node, owner: Owner<'_>) {
        let structure = self.structure;
        if matches!(node.kind, NodeKind::Null)
            && self.problems.iter().any(|problem| problem.code == UNKNOWN_ALIAS.code && problem.span == Some(node.span))
        {
            return;
        }
        let expected = structure.expected(shape);
        let span = match node.kind {
            // Nothing to underline, or far too much.
            NodeKind::Null | NodeKind::Mapping(_) | NodeKind::Sequence(_) if !owner.item => owner.key_span,
            NodeKind::Mapping(_) => node.entries().first().map_or(node.span, |entry| entry.key_span),
            _ => node.span,
        };
        let message = match node.kind {
            NodeKind::Null => format!("{} has no value; it takes {expected}", owner.title()),
            NodeKind::Float(number) => format!("{} takes {expected}, not {number}", owner.title()),
            _ => format!("{} takes {expected}, not {}", owner.title(), node.describe()),
        };
        let resolved = structure.resolve(shape);
        let help = match (resolved, &node.kind) {
            (Shape::Mapping(_), NodeKind::Null) => "Write `{}`, or remove the line.".to_owned(),
            (_, NodeKind::Null) => "Write a value or remove the line.".to_owned(),
            (Shape::Text { .. }, NodeKind::Bool(_) | NodeKind::Integer(_) | NodeKind::Float(_)) => {
                "Put it in quotes.".to_owned()
            }
            (Shape::Boolean, NodeKind::String(text)) if matches!(text.as_str(), "yes" | "on" | "no" | "off") => {
                let word = if matches!(text.as_str(), "yes" | "on") { "true" } else { "false" };
                format!("Write `{word}`: in YAML 1.2 `{text}` is text.")
            }
            (Shape::Boolean, _) => "Write `true` or `false`.".to_owned(),
            (Shape::Integer { .. } | Shape::Number { .. }, NodeKind::String(_)) => {
                "Write the number without quotes.".to_owned()
            }
            (Shape::Sequence { items, .. }, _) if structure.fits(items, node) => {
                "Make it a list: put it in brackets, or on a line of its own after `- `.".to_owned()
            }
            (Shape::Mapping(fields), NodeKind::String(text)) if fields.names().count() == 1 => {
                let field = fields.names().next().unwrap_or_default();
                format!("Write `{}: {{ {field}: {} }}`.", show(owner.key), show(text))
            }
            (Shape::Mapping(fields), _) if fields.rest.is_none() && !fields.is_empty() => {
                format!("Its fields are {}.", list(fields.names(), "and"))
            }
            (Shape::Mapping(_), NodeKind::Sequence(_)) => "Write `NAME: …` lines instead of `- ` items.".to_owned(),
            _ => format!("Write {expected}."),
        };
        self.problems.push(WRONG_TYPE.at(span, message).with_help(help));
    }
}

impl<'a> Owner<'a> {
    fn of(entry: &'a Entry) -> Self {
        Self { key: &entry.key, key_span: entry.key_span, item: false }
    }

    fn title(self) -> String {
        if self.key.contains(' ') {
            self.key.to_owned()
        } else if self.item {
            format!("an item of `{}`", show(self.key))
        } else {
            format!("`{}`", show(self.key))
        }
    }

    fn subject(self) -> String {
        if self.item { format!("this item of `{}`", show(self.key)) } else { self.title() }
    }
}

/// `a`, `a and b`, `a, b and c`, each as code.
pub(crate) fn list<'a>(names: impl Iterator<Item = &'a str>, word: &str) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    match names.as_slice() {
        [] => "nothing".to_owned(),
        [only] => only.clone(),
        [rest @ .., last] => format!("{} {word} {last}", rest.join(", ")),
    }
}

/// Text of the user's as it goes into a message: on one line, not endless.
pub(crate) fn show(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut shown: String = text
        .chars()
        .take(LONGEST)
        .flat_map(|c| if c.is_control() || is_invisible(c) { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect();
    if text.chars().count() > LONGEST {
        shown.push('…');
    }
    shown
}

/// Characters that reorder or hide what stands around them.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}
