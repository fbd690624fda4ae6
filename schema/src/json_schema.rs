//! The JSON Schema of the language, made from the types in `raw`.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::raw;

/// What the schema is known by.
const ID: &str = "urn:sbx:schema:v1";

/// The published schema: draft-07, closed, every field with a description.
///
/// Committed as `schema/sandboxes.schema.json`; `sbx schema` prints the same text.
pub fn json_schema() -> Value {
    let mut schema = with_definitions();
    // A mapping that is used in one place or two is written there, for the same reason as values are.
    inline(&mut schema, |name, _| !matches!(name, "Sandbox" | "Rule" | "Use"));
    if let Value::Object(root) = &mut schema {
        // Title and id first, where people look for them.
        let mut ordered = Map::new();
        ordered.extend(root.remove_entry("$schema"));
        ordered.insert("$id".into(), json!(ID));
        ordered.insert("title".into(), json!("sandboxes.yaml"));
        root.remove("title");
        ordered.append(root);
        *root = ordered;
    }
    schema
}

/// The text of [`json_schema`] as it is committed and printed.
pub fn json_schema_text() -> String {
    format!("{:#}\n", json_schema())
}

/// The published schema with a definition for every mapping.
pub(crate) fn with_definitions() -> Value {
    let mut schema = annotated();
    walk(&mut schema, &mut |object| object.retain(|key, _| !key.starts_with("x-")));
    schema
}

/// The schema with the annotations of ours (`x-…`) that the structural check reads.
pub(crate) fn annotated() -> Value {
    let generator = SchemaSettings::draft07().into_generator();
    let mut schema = generator.into_root_schema_for::<raw::Document>().to_value();
    walk(&mut schema, &mut simplify);
    inline(&mut schema, |_, definition| definition.get("type") != Some(&json!("object")));
    schema
}

/// Puts the definitions that `chosen` selects where they are used: editors then show the description of the field, not
/// that of its type.
fn inline(schema: &mut Value, chosen: impl Fn(&str, &Value) -> bool) {
    let mut definitions = schema.get("definitions").and_then(Value::as_object).cloned().unwrap_or_default();
    definitions.retain(|name, definition| chosen(name, definition));
    let value_of = |object: &Map<String, Value>| {
        let reference = object.get("$ref").or_else(|| object.get("allOf")?.get(0)?.get("$ref"))?;
        let name = reference.as_str()?.rsplit('/').next()?;
        definitions.get(name).and_then(Value::as_object)
    };
    // What is put in is visited next, so that values within values are found.
    walk(schema, &mut |object| {
        while let Some(definition) = value_of(object) {
            object.remove("$ref");
            object.remove("allOf");
            for (key, value) in definition {
                object.entry(key).or_insert_with(|| value.clone());
            }
        }
    });
    if let Some(Value::Object(kept)) = schema.get_mut("definitions") {
        kept.retain(|name, _| !definitions.contains_key(name));
    }
}

/// Says the same in the terms editors and strict validators expect.
fn simplify(object: &mut Map<String, Value>) {
    // `Option` means "may be left out"; writing `null` is a mistake.
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
        choices.retain(|choice| choice.get("type") != Some(&json!("null")));
        if let [only] = choices.as_slice()
            && only.get("$ref").is_some()
        {
            let only = only.clone();
            object.remove("anyOf");
            object.insert("allOf".into(), json!([only]));
        }
    }
    // `uint32` and the like are formats no validator knows.
    if object.get("format").and_then(Value::as_str).is_some_and(|format| format.contains("int") || format == "double") {
        object.remove("format");
    }
    // Strict validators want to see what is required.
    if let Some(Value::Array(choices)) = object.get_mut("oneOf") {
        for choice in choices.iter_mut().filter_map(Value::as_object_mut) {
            let required = choice.get("required").and_then(Value::as_array).into_iter().flatten();
            let properties: Map<_, _> =
                required.filter_map(|key| Some((key.as_str()?.to_owned(), json!(true)))).collect();
            if !properties.is_empty() {
                choice.insert("properties".into(), Value::Object(properties));
            }
        }
    }
    // A constant's type is told by its value.
    if object.contains_key("const") && object.get("type").is_none() {
        object.insert("type".into(), json!("string"));
    }
}

fn walk(value: &mut Value, visit: &mut impl FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            visit(object);
            for (key, child) in object.iter_mut() {
                // Data, not schema: a key in there means what the user says.
                if !matches!(key.as_str(), "default" | "examples" | "const" | "enum" | "x-meant" | "x-later") {
                    walk(child, visit);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| walk(item, visit)),
        _ => {}
    }
}
