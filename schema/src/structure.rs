//! The structural check: fields, types, fixed values and ranges, before anything is interpreted.
//!
//! It is driven by the JSON Schema of the types in `raw`, so that an editor and `sbx validate` agree. It visits the whole
//! tree, reports every problem at its own key or scalar, and hands back what was [`Refused`]: typed values are made from the
//! rest. One wrong field never hides what is wrong elsewhere.

use std::sync::LazyLock;

use crate::codes::{
    CONFLICTING_FIELDS, MISSING_FIELD, NOT_AVAILABLE, UNKNOWN_ALIAS, UNKNOWN_FIELD, WRONG_TYPE, WRONG_VALUE,
};
use crate::document::{Entry, Node, NodeKind};
use crate::suggest::did_you_mean;
use crate::{Diagnostic, Span};

mod shape;
mod typed;

pub(crate) use shape::{Bounds, Fields, Shape, Structure};
pub(crate) use typed::Refused;

/// The language, compiled once.
pub(crate) static LANGUAGE: LazyLock<Structure> = LazyLock::new(|| Structure::of(&crate::json_schema::annotated()));

/// How much of a mapping must be there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Everything required.
    Whole,
    /// A layer that others complete: of a mapping with something in it nothing is required, what is there must be right.
    /// Items of lists nothing is merged into: they are whole.
    Layer,
}

/// One pass over a tree.
pub(crate) struct Check<'a> {
    structure: &'a Structure,
    extent: Extent,
    problems: &'a mut Vec<Diagnostic>,
    refused: Refused,
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
        Self { structure: &LANGUAGE, extent, problems, refused: Refused::default() }
    }

    /// Checks `node`, written under `key`, against the definition named `shape`. Gives what of it is refused; `None` when
    /// that is all.
    pub(crate) fn definition(mut self, shape: &str, key: &str, key_span: Span, node: &Node) -> Option<Refused> {
        let shape = self.structure.definition(shape)?;
        self.value(shape, node, Owner { key, key_span, item: false }).then_some(self.refused)
    }

    /// Checks a whole document.
    pub(crate) fn document(&mut self, node: &Node) {
        if self.extent == Extent::Layer && matches!(&node.kind, NodeKind::Mapping(entries) if entries.is_empty()) {
            return;
        }
        let start = Span { end: node.span.start, ..node.span };
        self.value(&self.structure.root, node, Owner { key: "the document", key_span: start, item: false });
    }

    /// Checks an entry of the mapping `section` at the top of a document. Gives what of it is refused.
    pub(crate) fn entry_of(mut self, section: &str, entry: &Entry) -> Refused {
        let structure = self.structure;
        if let Shape::Mapping(root) = &structure.root
            && let Some(Shape::Mapping(fields)) = root.get(section).map(|shape| structure.resolve(shape))
            && let Some(shape) = &fields.rest
            && !self.value(shape, &entry.value, Owner::of(entry))
        {
            self.refused.add(&entry.value);
        }
        self.refused
    }

    /// Checks the keys at the top of a document and the lists under them, not what is under other keys. Gives what of the
    /// lists is refused.
    pub(crate) fn top(mut self, node: &Node) -> Refused {
        let structure = self.structure;
        let start = Span { end: node.span.start, ..node.span };
        let owner = Owner { key: "the document", key_span: start, item: false };
        match (&structure.root, &node.kind) {
            (Shape::Mapping(fields), NodeKind::Mapping(entries)) => {
                for entry in entries.iter() {
                    match fields.get(&entry.key) {
                        Some(shape) if matches!(self.structure.resolve(shape), Shape::Mapping(_)) => {
                            if !matches!(entry.value.kind, NodeKind::Mapping(_)) {
                                self.wrong_type(shape, &entry.value, Owner::of(entry));
                            }
                        }
                        Some(shape) => {
                            self.value(shape, &entry.value, Owner::of(entry));
                        }
                        None => self.unknown(fields, entry),
                    }
                }
                self.relations(fields, node, owner);
            }
            (root, _) => self.wrong_type(root, node, owner),
        }
        self.refused
    }

    /// Whether `node` is right, or right but for what is refused in it.
    fn value(&mut self, shape: &Shape, node: &Node, owner: Owner<'_>) -> bool {
        let structure = self.structure;
        match (structure.resolve(shape), &node.kind) {
            (Shape::Boolean, NodeKind::Bool(_)) | (Shape::Any, _) => true,
            (Shape::Number(bounds), NodeKind::Integer(_) | NodeKind::Float(_)) => self.range(node, owner, bounds),
            (Shape::Integer(bounds), _) if node.whole().is_some() => self.range(node, owner, bounds),
            (Shape::Text { values, later, least }, NodeKind::String(text)) => {
                if values.is_empty() {
                    if text.len() < *least {
                        // Only names have to be longer, and their own rule has spoken.
                        if *least == 1 {
                            self.empty(node, owner, "write a value or remove the line");
                        }
                        return false;
                    }
                } else if !values.iter().any(|value| **value == **text) {
                    self.not_a_value(text, node.span, values, later, owner);
                    return false;
                }
                true
            }
            (Shape::Sequence { items, least }, NodeKind::Sequence(nodes)) => {
                if nodes.len() < *least {
                    self.empty(node, owner, "list at least one, or remove the line");
                    return false;
                }
                // Every item is checked; a list with a hole would mean something else than what was written.
                let mut right = true;
                let extent = std::mem::replace(&mut self.extent, Extent::Whole);
                for item in nodes.iter() {
                    right &= self.value(items, item, Owner { item: true, ..owner });
                }
                self.extent = extent;
                right
            }
            (Shape::Mapping(fields), NodeKind::Mapping(entries)) => self.mapping(fields, node, entries, owner),
            (Shape::AnyOf(choices), _) => {
                let Some(choice) = structure.choose(choices, node) else {
                    self.wrong_type(shape, node, owner);
                    return false;
                };
                self.value(choice, node, owner)
            }
            _ => {
                self.wrong_type(shape, node, owner);
                false
            }
        }
    }

    fn mapping(&mut self, fields: &Fields, node: &Node, entries: &[Entry], owner: Owner<'_>) -> bool {
        for entry in entries {
            let right = if let Some(shape) = fields.get(&entry.key).or(fields.rest.as_deref()) {
                self.value(shape, &entry.value, Owner::of(entry))
            } else {
                self.unknown(fields, entry);
                false
            };
            if !right {
                self.refused.add(&entry.value);
            }
        }
        self.relations(fields, node, owner);
        let is_right = |key: &String| node.get(key).is_some_and(|value| !self.refused.has(value));
        self.extent == Extent::Layer || fields.required.iter().all(is_right)
    }

    fn empty(&mut self, node: &Node, owner: Owner<'_>, help: &str) {
        self.problems.push(WRONG_VALUE.at(node.span, format!("{} is empty", owner.title())).with_help(help));
    }

    /// What fields demand of each other.
    fn relations(&mut self, fields: &Fields, node: &Node, owner: Owner<'_>) {
        let blame =
            if owner.item { node.entries().first().map_or(node.span, |entry| entry.key_span) } else { owner.key_span };
        let whole = self.extent == Extent::Whole || node.entries().is_empty();
        // A field that is there under a misspelled name has been reported; that it is missing follows from that.
        let misspelled = |key: &str| fields.guesses(node).any(|guess| guess == key);
        let missing = |key: &&String| whole && node.get(key).is_none() && !misspelled(key);
        for key in fields.required.iter().filter(missing) {
            self.problems.push(
                MISSING_FIELD.at(blame, format!("{} has no `{key}`", owner.subject())).with_help(
                    fields
                        .describe(key)
                        .map_or_else(|| format!("add `{key}`"), |description| format!("add `{key}`: {description}")),
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
                            .with_help(format!("add `{other}`, or remove `{key}`")),
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
            [] if whole && !fields.choices.iter().any(|choice| misspelled(&choice[0])) => {
                self.problems.push(
                    MISSING_FIELD
                        .at(blame, format!("{} has none of {}", owner.subject(), names()))
                        .with_help("write exactly one of them"),
                );
            }
            [first, second, ..] => {
                let span = |key: &str| node.entry(key).map_or(node.span, |entry| entry.key_span);
                let mut problem = CONFLICTING_FIELDS
                    .at(span(second), format!("`{first}` and `{second}` exclude each other"))
                    .with_help(format!("keep exactly one of {}", names()));
                problem.related.push((span(first), format!("`{first}` is here")));
                self.problems.push(problem);
            }
            [only] if whole => {
                let choice = fields.choices.iter().find(|choice| choice[0] == *only);
                for other in choice.into_iter().flatten().skip(1).filter(|other| node.get(other).is_none()) {
                    self.problems.push(
                        MISSING_FIELD
                            .at(blame, format!("`{only}` needs `{other}` beside it"))
                            .with_help(format!("add `{other}`")),
                    );
                }
            }
            _ => {}
        }
    }

    fn unknown(&mut self, fields: &Fields, entry: &Entry) {
        let key = &entry.key;
        if fields.later.iter().any(|later| **later == **key) {
            self.problems.push(
                NOT_AVAILABLE
                    .at(entry.key_span, format!("`{key}` is not available yet"))
                    .with_help("remove it: this version would not act on it, and nothing is ever silently ignored"),
            );
            return;
        }
        let help = match fields.guess(key) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("known here: {}", list(fields.names(), "and")),
        };
        self.problems.push(UNKNOWN_FIELD.at(entry.key_span, format!("unknown field `{}`", show(key))).with_help(help));
    }

    fn not_a_value(&mut self, text: &str, span: Span, values: &[String], later: &[String], owner: Owner<'_>) {
        let all = list(values.iter().map(String::as_str), "or");
        if later.iter().any(|later| later == text) {
            self.problems.push(
                NOT_AVAILABLE
                    .at(span, format!("{} `{text}` is not available yet", owner.title()))
                    .with_help(format!("available: {all}")),
            );
            return;
        }
        let help = match did_you_mean(text, values.iter().map(String::as_str)) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("write {all}"),
        };
        self.problems
            .push(WRONG_VALUE.at(span, format!("{} takes {all}, not `{}`", owner.title(), show(text))).with_help(help));
    }

    fn range(&mut self, node: &Node, owner: Owner<'_>, bounds: &Bounds) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "compared with small bounds")]
        let number = match node.kind {
            NodeKind::Integer(number) => number as f64,
            NodeKind::Float(number) => number,
            _ => return false,
        };
        let (word, bound) = if number < bounds.least {
            ("least", bounds.least)
        } else if number > bounds.most {
            ("most", bounds.most)
        } else if number.is_nan() {
            let problem = WRONG_VALUE.at(node.span, format!("{} is not a number", owner.title()));
            self.problems.push(problem.with_help("write a number"));
            return false;
        } else {
            return true;
        };
        let help = bounds.help.as_deref().unwrap_or("change the number");
        self.problems
            .push(WRONG_VALUE.at(node.span, format!("{} is at {word} {bound}", owner.title())).with_help(help));
        false
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
            NodeKind::Float(number) => format!("{} takes {expected}, not {number:?}", owner.title()),
            _ => format!("{} takes {expected}, not {}", owner.title(), node.describe()),
        };
        let resolved = structure.resolve(shape);
        let help = match (resolved, &node.kind) {
            (Shape::Mapping(_), NodeKind::Null) => "write `{}`, or remove the line".to_owned(),
            (_, NodeKind::Null) => "write a value or remove the line".to_owned(),
            (Shape::Text { .. }, NodeKind::Bool(_) | NodeKind::Integer(_) | NodeKind::Float(_)) => {
                "put it in quotes".to_owned()
            }
            (Shape::Boolean, NodeKind::String(text)) if matches!(&**text, "yes" | "on" | "no" | "off") => {
                let word = if matches!(&**text, "yes" | "on") { "true" } else { "false" };
                format!("write `{word}`: in YAML 1.2 `{text}` is text")
            }
            (Shape::Boolean, _) => "write `true` or `false`".to_owned(),
            (Shape::Integer(_) | Shape::Number(_), NodeKind::String(_)) => "write the number without quotes".to_owned(),
            (Shape::Sequence { items, .. }, _) if structure.fits(items, node) => {
                "make it a list: put it in brackets, or on a line of its own after `- `".to_owned()
            }
            (Shape::Mapping(fields), NodeKind::String(text)) if fields.taking(text).is_some() => {
                let field = fields.taking(text).unwrap_or_default();
                format!("write `{}: {{ {field}: {} }}`", show(owner.key), show(text))
            }
            (Shape::Mapping(fields), _) if fields.rest.is_none() && !fields.is_empty() => {
                format!("its fields are {}", list(fields.names(), "and"))
            }
            (Shape::Mapping(_), NodeKind::Sequence(_)) => "write `NAME: …` lines instead of `- ` items".to_owned(),
            _ => format!("write {expected}"),
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
