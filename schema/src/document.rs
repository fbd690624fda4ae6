//! A YAML document as a tree in which every key and value knows its place.
//!
//! Typing is the YAML 1.2 core schema: `no`, `yes` and `on` are text, `0o17` and `0xff` are numbers, what is quoted is
//! always text. Aliases and `<<` are resolved; what they produced says where it was used ([`Node::used_at`]).
//!
//! Texts and collections are shared: a clone copies no more than one node, so that ten thousand sandboxes can stand on the
//! same defaults.

use std::rc::Rc;

use crate::Span;

mod parse;
mod scalar;

pub use parse::{MAX_DEPTH, MAX_EXPANDED, MAX_NODES, MAX_TEXT, parse};

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Quoted text with its quotes, a flow collection with its brackets, a block collection from its first to the end of
    /// its last child, a block scalar without its header. Empty for a value that is not written (`key:`).
    pub span: Span,
    /// The value.
    pub kind: NodeKind,
    /// The alias that brought this node here, when one did. Boxed because nearly always absent.
    pub(crate) alias: Option<Box<Span>>,
}

/// A value of the YAML core schema with text keys.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeKind {
    /// `null`, `~`, or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    String(Rc<str>),
    /// A list.
    Sequence(Rc<[Node]>),
    /// Keys in the order written, each once.
    Mapping(Rc<[Entry]>),
}

/// One key of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: Rc<str>,
    /// Where the key is written.
    pub key_span: Span,
    /// Its value.
    pub value: Node,
}

/// One step from a node to a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathSegment {
    /// Into a mapping.
    Key(String),
    /// Into a sequence, from 0.
    Index(usize),
}

impl Node {
    /// A node that is written where it stands.
    pub fn new(span: Span, kind: NodeKind) -> Self {
        Self { span, kind, alias: None }
    }

    /// The outermost alias or `<<` that repeats this node where it now stands; `span` is where it is written.
    pub fn used_at(&self) -> Option<Span> {
        self.alias.as_deref().copied()
    }

    /// The value of `key`, when this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The entry of `key`, when this is a mapping that has it.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| *entry.key == *key)
    }

    /// The entries of a mapping; nothing for other nodes.
    pub fn entries(&self) -> &[Entry] {
        match &self.kind {
            NodeKind::Mapping(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a sequence; nothing for other nodes.
    pub fn items(&self) -> &[Node] {
        match &self.kind {
            NodeKind::Sequence(items) => items,
            _ => &[],
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            NodeKind::String(text) => Some(text),
            _ => None,
        }
    }

    /// The whole number it is, also one that is written with a point: `3.0`, as JSON has it, is three.
    pub fn whole(&self) -> Option<i64> {
        const END: f64 = 9_223_372_036_854_775_808.0;
        match self.kind {
            NodeKind::Integer(number) => Some(number),
            #[expect(clippy::cast_possible_truncation, reason = "whole and in bounds")]
            NodeKind::Float(number) if number.fract() == 0.0 && (-END..END).contains(&number) => Some(number as i64),
            _ => None,
        }
    }

    /// The node at `path`.
    pub fn at(&self, path: &[PathSegment]) -> Option<&Node> {
        path.iter().try_fold(self, |node, segment| match segment {
            PathSegment::Key(key) => node.get(key),
            PathSegment::Index(index) => node.items().get(*index),
        })
    }

    /// What it is, for messages: `a mapping`, `text`.
    pub fn describe(&self) -> &'static str {
        match &self.kind {
            NodeKind::Null => "nothing",
            NodeKind::Bool(true) => "the boolean true",
            NodeKind::Bool(false) => "the boolean false",
            NodeKind::Integer(_) => "a whole number",
            NodeKind::Float(_) => "a number",
            NodeKind::String(_) => "text",
            NodeKind::Sequence(_) => "a list",
            NodeKind::Mapping(_) => "a mapping",
        }
    }

    /// Whether both have the same value, wherever they are written.
    pub fn same_value(&self, other: &Node) -> bool {
        match (&self.kind, &other.kind) {
            (NodeKind::Sequence(ours), NodeKind::Sequence(theirs)) => {
                ours.len() == theirs.len() && ours.iter().zip(theirs.iter()).all(|(a, b)| a.same_value(b))
            }
            (NodeKind::Mapping(ours), NodeKind::Mapping(theirs)) => {
                ours.len() == theirs.len()
                    && ours.iter().zip(theirs.iter()).all(|(a, b)| a.key == b.key && a.value.same_value(&b.value))
            }
            (ours, theirs) => ours == theirs,
        }
    }

    /// The value without places.
    pub fn to_value(&self) -> serde_yaml::Value {
        use serde_yaml::Value;
        match &self.kind {
            NodeKind::Null => Value::Null,
            NodeKind::Bool(value) => Value::Bool(*value),
            NodeKind::Integer(value) => Value::Number((*value).into()),
            NodeKind::Float(value) => Value::Number((*value).into()),
            NodeKind::String(text) => Value::String(text.to_string()),
            NodeKind::Sequence(items) => Value::Sequence(items.iter().map(Node::to_value).collect()),
            NodeKind::Mapping(entries) => Value::Mapping(
                entries.iter().map(|entry| (Value::String(entry.key.to_string()), entry.value.to_value())).collect(),
            ),
        }
    }
}
