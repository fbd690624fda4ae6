//! What a value may look like, compiled from JSON Schema.

use std::collections::HashMap;

use serde_json::Value as Json;

use crate::document::{Node, NodeKind};
use crate::suggest::did_you_mean;

/// A compiled schema.
pub(crate) struct Structure {
    definitions: Vec<Shape>,
    names: HashMap<String, usize>,
    /// The shape of a document.
    pub root: Shape,
}

/// What one value may look like.
pub(crate) enum Shape {
    /// Anything.
    Any,
    /// `true` or `false`.
    Boolean,
    /// A whole number within bounds.
    Integer(Bounds),
    /// A number within bounds.
    Number(Bounds),
    /// Text: one of `values`, unless there are none; `later` are values that are not available yet.
    Text { values: Vec<String>, later: Vec<String>, least: usize },
    /// A list.
    Sequence { items: Box<Shape>, least: usize },
    /// A mapping.
    Mapping(Fields),
    /// The first of these that fits.
    AnyOf(Vec<Shape>),
    /// An entry of the definitions.
    Reference(usize),
}

/// What a number is between.
pub(crate) struct Bounds {
    /// The least it may be.
    pub least: f64,
    /// The most it may be.
    pub most: f64,
    /// What to write instead of one that is not.
    pub help: Option<String>,
}

/// The fields of a mapping.
pub(crate) struct Fields {
    known: Vec<(String, Shape, Option<String>)>,
    /// What values of other keys look like; `None`: there are no other keys.
    pub rest: Option<Box<Shape>>,
    /// Keys that must be there.
    pub required: Vec<String>,
    /// Exactly one of these key sets must be there, told apart by their first key.
    pub choices: Vec<Vec<String>>,
    /// Keys that need others.
    pub needs: Vec<(String, Vec<String>)>,
    /// Keys that are reserved.
    pub later: Vec<String>,
    meant: HashMap<String, String>,
}

impl Structure {
    /// Compiles what the language's own schema uses of JSON Schema; anything else would be accepted by the check and
    /// refused by editors, which the fixtures show.
    pub(super) fn of(schema: &Json) -> Self {
        let empty = serde_json::Map::new();
        let definitions = schema.get("definitions").and_then(Json::as_object).unwrap_or(&empty);
        let names: HashMap<String, usize> =
            definitions.keys().enumerate().map(|(index, name)| (name.clone(), index)).collect();
        let compiled = definitions.values().map(|definition| compile(definition, &names)).collect();
        Self { root: compile(schema, &names), definitions: compiled, names }
    }

    /// The definition of that name.
    pub(super) fn definition(&self, name: &str) -> Option<&Shape> {
        self.definitions.get(*self.names.get(name)?)
    }

    /// `shape`, or what it refers to.
    pub(super) fn resolve<'a>(&'a self, mut shape: &'a Shape) -> &'a Shape {
        while let Shape::Reference(index) = shape {
            shape = &self.definitions[*index];
        }
        shape
    }

    /// Whether `node` is of the kind that `shape` describes, right in detail or not.
    pub(super) fn fits(&self, shape: &Shape, node: &Node) -> bool {
        match (self.resolve(shape), &node.kind) {
            (Shape::Any, _)
            | (Shape::Boolean, NodeKind::Bool(_))
            | (Shape::Integer(_) | Shape::Number(_), NodeKind::Integer(_))
            | (Shape::Number(_), NodeKind::Float(_))
            | (Shape::Text { .. }, NodeKind::String(_))
            | (Shape::Sequence { .. }, NodeKind::Sequence(_))
            | (Shape::Mapping(_), NodeKind::Mapping(_)) => true,
            (Shape::Integer(_), NodeKind::Float(_)) => node.whole().is_some(),
            (Shape::AnyOf(choices), _) => choices.iter().any(|choice| self.fits(choice, node)),
            _ => false,
        }
    }

    /// Which of `choices` is meant: of several mappings the first one that has what it needs, else the last.
    pub(super) fn choose<'a>(&'a self, choices: &'a [Shape], node: &Node) -> Option<&'a Shape> {
        let complete = |choice: &&Shape| match self.resolve(choice) {
            Shape::Mapping(fields) => fields.required.iter().all(|key| node.get(key).is_some()),
            _ => true,
        };
        let mut fitting = choices.iter().filter(|choice| self.fits(choice, node));
        let last = fitting.clone().next_back();
        fitting.find(complete).or(last)
    }

    /// What `shape` takes, in words.
    pub(super) fn expected(&self, shape: &Shape) -> String {
        let mut words = Vec::new();
        self.collect_words(shape, &mut words);
        match words.as_slice() {
            [] => "something else".to_owned(),
            [only] => only.clone(),
            [rest @ .., last] => format!("{} or {last}", rest.join(", ")),
        }
    }

    fn collect_words(&self, shape: &Shape, words: &mut Vec<String>) {
        let word = match self.resolve(shape) {
            Shape::AnyOf(choices) => {
                for choice in choices {
                    self.collect_words(choice, words);
                }
                return;
            }
            Shape::Text { values, .. } if !values.is_empty() => {
                words.extend(values.iter().map(|value| format!("`{value}`")));
                return;
            }
            Shape::Any => "anything",
            Shape::Boolean => "`true` or `false`",
            Shape::Integer(_) => "a whole number",
            Shape::Number(_) => "a number",
            Shape::Text { .. } => "text",
            Shape::Sequence { .. } => "a list",
            Shape::Mapping(_) | Shape::Reference(_) => "a mapping",
        };
        if !words.iter().any(|known| known == word) {
            words.push(word.to_owned());
        }
    }
}

impl Fields {
    /// The shape of a known field.
    pub(super) fn get(&self, key: &str) -> Option<&Shape> {
        self.known.iter().find(|(name, ..)| name == key).map(|(_, shape, _)| shape)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.known.iter().map(|(name, ..)| name.as_str())
    }

    /// The field that somebody who wrote `text` instead of the mapping had in mind: the only one, or the one that takes
    /// this very word.
    pub(super) fn taking(&self, text: &str) -> Option<&str> {
        let takes =
            |shape: &Shape| matches!(shape, Shape::Text { values, .. } if values.iter().any(|value| value == text));
        match self.known.as_slice() {
            [(only, ..)] => Some(only),
            fields => fields.iter().find(|(_, shape, _)| takes(shape)).map(|(name, ..)| name.as_str()),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The first sentence of a field's description, as a part of another.
    pub(super) fn describe(&self, key: &str) -> Option<String> {
        let description = self.known.iter().find(|(name, ..)| name == key)?.2.as_deref()?;
        let sentence = description.split_once(". ").map_or(description, |(first, _)| first).trim_end_matches('.');
        let mut letters = sentence.chars();
        Some(letters.next()?.to_lowercase().chain(letters).collect())
    }

    /// The field that somebody who wrote `key` had in mind; `limits.cpus` for one that is further down.
    pub(super) fn guess(&self, key: &str) -> Option<&str> {
        self.meant.get(key).map(String::as_str).or_else(|| did_you_mean(key, self.names()))
    }

    /// What the unknown keys of `node` were meant to be.
    pub(super) fn guesses<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a str> {
        let unknown = node.entries().iter().filter(|entry| self.rest.is_none() && self.get(&entry.key).is_none());
        unknown.filter_map(|entry| self.guess(&entry.key))
    }

    /// The keys of `node` that decide between the choices.
    pub(super) fn chosen<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a str> {
        self.choices.iter().map(|choice| choice[0].as_str()).filter(|key| node.get(key).is_some())
    }
}

fn compile(schema: &Json, names: &HashMap<String, usize>) -> Shape {
    if let Some(reference) = schema.get("$ref").and_then(Json::as_str) {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return names.get(name).map_or(Shape::Any, |index| Shape::Reference(*index));
    }
    if let Some([only]) = schema.get("allOf").and_then(Json::as_array).map(Vec::as_slice) {
        return compile(only, names);
    }
    if let Some(choices) = schema.get("anyOf").and_then(Json::as_array) {
        return Shape::AnyOf(choices.iter().map(|choice| compile(choice, names)).collect());
    }
    // Which of the two is meant is told by what the first one needs.
    if let (Some(first), Some(second)) = (schema.get("then"), schema.get("else")) {
        return Shape::AnyOf(vec![compile(first, names), compile(second, names)]);
    }
    let later = texts(schema.get("x-later"));
    let least = |key: &str| schema.get(key).and_then(Json::as_u64).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    let bound = |key: &str, default: f64| schema.get(key).and_then(Json::as_f64).unwrap_or(default);
    let bounds = || Bounds {
        least: bound("minimum", f64::NEG_INFINITY),
        most: bound("maximum", f64::INFINITY),
        help: schema.get("x-help").and_then(Json::as_str).map(str::to_owned),
    };
    match schema.get("type").and_then(Json::as_str) {
        Some("boolean") => Shape::Boolean,
        Some("integer") => Shape::Integer(bounds()),
        Some("number") => Shape::Number(bounds()),
        Some("string") => {
            let values = schema.get("const").and_then(Json::as_str).map(str::to_owned).into_iter();
            Shape::Text { values: values.chain(texts(schema.get("enum"))).collect(), later, least: least("minLength") }
        }
        Some("array") => Shape::Sequence {
            items: Box::new(schema.get("items").map_or(Shape::Any, |items| compile(items, names))),
            least: least("minItems"),
        },
        Some("object") => Shape::Mapping(fields(schema, later, names)),
        _ => match schema.get("oneOf").and_then(Json::as_array) {
            Some(constants) => Shape::Text {
                values: constants.iter().filter_map(|c| c.get("const")?.as_str().map(str::to_owned)).collect(),
                later,
                least: 0,
            },
            None => Shape::Any,
        },
    }
}

fn fields(schema: &Json, later: Vec<String>, names: &HashMap<String, usize>) -> Fields {
    let object = |key: &str| schema.get(key).and_then(Json::as_object).into_iter().flatten();
    Fields {
        known: object("properties")
            .map(|(name, schema)| {
                let description = schema.get("description").and_then(Json::as_str);
                (name.clone(), compile(schema, names), description.map(str::to_owned))
            })
            .collect(),
        rest: schema
            .get("additionalProperties")
            .filter(|rest| rest.is_object())
            .map(|rest| Box::new(compile(rest, names))),
        required: texts(schema.get("required")),
        choices: schema
            .get("oneOf")
            .and_then(Json::as_array)
            .into_iter()
            .flatten()
            .map(|choice| texts(choice.get("required")))
            .filter(|choice| !choice.is_empty())
            .collect(),
        needs: object("dependencies").map(|(key, needed)| (key.clone(), texts(Some(needed)))).collect(),
        later,
        meant: object("x-meant").filter_map(|(key, name)| Some((key.clone(), name.as_str()?.to_owned()))).collect(),
    }
}

fn texts(list: Option<&Json>) -> Vec<String> {
    let items = list.and_then(Json::as_array).into_iter().flatten();
    items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
}
