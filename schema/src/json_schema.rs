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
    let mut schema = annotated();
    walk(&mut schema, &mut |object| object.retain(|key, _| !key.starts_with("x-")));
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

/// The schema with the annotations of ours (`x-…`) that the structural check reads.
pub(crate) fn annotated() -> Value {
    let generator = SchemaSettings::draft07().into_generator();
    let mut schema = generator.into_root_schema_for::<raw::Document>().to_value();
    walk(&mut schema, &mut simplify);
    schema
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
