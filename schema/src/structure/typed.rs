//! Typed values straight from the tree.

use std::collections::HashSet;

use serde::Deserialize;
use serde::de::value::{Error, MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use crate::document::{Node, NodeKind};

/// Values that a check found wrong, or under keys that do not exist.
#[derive(Debug, Default)]
pub(crate) struct Refused(HashSet<*const Node>);

impl Refused {
    pub(super) fn add(&mut self, node: &Node) {
        self.0.insert(node);
    }

    pub(super) fn has(&self, node: &Node) -> bool {
        !self.0.is_empty() && self.0.contains(&std::ptr::from_ref(node))
    }

    /// The value of `key` in `node`, when it is right.
    pub(crate) fn right<'n>(&self, node: &'n Node, key: &str) -> Option<&'n Node> {
        node.get(key).filter(|value| !self.has(value))
    }

    /// The value of `node`, the tree that was checked, without what is refused.
    pub(crate) fn rest<'n, T: Deserialize<'n>>(&'n self, node: &'n Node) -> Result<T, Error> {
        T::deserialize(Right { node, refused: self })
    }
}

/// What is right of a node.
#[derive(Clone, Copy)]
struct Right<'n> {
    node: &'n Node,
    refused: &'n Refused,
}

impl<'n> IntoDeserializer<'n> for Right<'n> {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'n> Deserializer<'n> for Right<'n> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Error> {
        let refused = self.refused;
        match &self.node.kind {
            NodeKind::Null => visitor.visit_unit(),
            NodeKind::Bool(value) => visitor.visit_bool(*value),
            NodeKind::Integer(value) => visitor.visit_i64(*value),
            // Who takes a fraction takes a whole number too.
            NodeKind::Float(value) => match self.node.whole() {
                Some(whole) => visitor.visit_i64(whole),
                None => visitor.visit_f64(*value),
            },
            NodeKind::String(text) => visitor.visit_borrowed_str(text),
            NodeKind::Sequence(items) => {
                visitor.visit_seq(SeqDeserializer::new(items.iter().map(|node| Right { node, refused })))
            }
            NodeKind::Mapping(entries) => {
                let right = entries.iter().filter(|entry| !refused.has(&entry.value));
                visitor.visit_map(MapDeserializer::new(
                    right.map(|entry| (&*entry.key, Right { node: &entry.value, refused })),
                ))
            }
        }
    }

    fn deserialize_option<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.node.kind {
            NodeKind::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'n>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'n>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(self.node.as_str().unwrap_or_default().into_deserializer())
    }

    fn deserialize_ignored_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        <V: Visitor<'n>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier
    }
}
