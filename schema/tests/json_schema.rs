//! The published JSON Schema: committed, described, closed.

#![allow(clippy::disallowed_methods, reason = "`UPDATE=1` is for whoever runs the tests")]

use std::path::Path;

use schema::json_schema;
use serde_json::{Map, Value};

#[test]
fn the_committed_schema_is_in_step() {
    in_step("schema/sandboxes.schema.json", &schema::json_schema_text());
}

#[test]
fn the_reference_is_in_step() {
    in_step("docs/reference.md", &schema::reference());
}

fn in_step(path: &str, generated: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, generated).expect("it can be written");
        return;
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == generated,
        "{path} is out of step: run `UPDATE=1 cargo test -p sbx-schema --test json_schema`"
    );
}

#[test]
fn every_field_is_described_and_every_object_closed() {
    let mut wrong = Vec::new();
    walk("#", &json_schema(), &mut |path, schema| {
        let fields = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        // `true` only repeats a name for strict validators.
        for (name, field) in fields.filter(|(_, field)| field.is_object()) {
            let said = |key: &str| field.get(key).is_some();
            if !said("description") {
                wrong.push(format!("{path}/{name} has no description"));
            }
            if !said("examples") {
                wrong.push(format!("{path}/{name} has no example"));
            }
        }
        let object = schema.get("type") == Some(&Value::from("object"));
        if object && schema.get("additionalProperties").is_none_or(|rest| rest == &Value::Bool(true)) {
            wrong.push(format!("{path} is open"));
        }
        if schema.keys().any(|key| key.starts_with("x-")) {
            wrong.push(format!("{path} has annotations of ours"));
        }
        let said = |key: &str| schema.contains_key(key);
        if schema.get("type") == Some(&Value::from("integer")) && !(said("minimum") && said("maximum")) {
            wrong.push(format!("{path} is a number without bounds"));
        }
        if schema.get("format").is_some() {
            wrong.push(format!("{path} has a format"));
        }
    });
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn examples_and_defaults_are_valid() {
    let root = json_schema();
    let mut wrong = Vec::new();
    walk("#", &root, &mut |path, schema| {
        for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let mut alone = field.as_object().cloned().unwrap_or_default();
            alone.insert("definitions".into(), root["definitions"].clone());
            let validator = jsonschema::draft7::new(&Value::Object(alone)).expect("a schema");
            let examples = field.get("examples").and_then(Value::as_array).into_iter().flatten();
            for value in examples.chain(field.get("default")) {
                if let Err(error) = validator.validate(value) {
                    wrong.push(format!("{path}/{name}: {value}: {error}"));
                }
            }
        }
    });
    assert_eq!(wrong, Vec::<String>::new());
}

/// Calls `visit` with every schema object.
fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Map<String, Value>)) {
    let Some(object) = schema.as_object() else { return };
    visit(path, object);
    for (key, value) in object {
        match key.as_str() {
            "properties" | "definitions" => {
                for (name, child) in value.as_object().into_iter().flatten() {
                    walk(&format!("{path}/{name}"), child, visit);
                }
            }
            "anyOf" | "allOf" | "oneOf" => {
                for child in value.as_array().into_iter().flatten() {
                    walk(&format!("{path}/{key}"), child, visit);
                }
            }
            "items" | "additionalProperties" => walk(&format!("{path}/{key}"), value, visit),
            _ => {}
        }
    }
}
