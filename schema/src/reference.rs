//! `docs/reference.md`: the JSON Schema for people.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use crate::json_schema::with_definitions;

/// The reference of all fields, as Markdown.
pub fn reference() -> String {
    let schema = with_definitions();
    let mut page = Page { schema: &schema, out: String::new(), queue: Vec::new(), seen: BTreeSet::new() };
    page.out.push_str(
        "# Reference of `sandboxes.yaml`\n\n\
         Generated from the JSON Schema: change `schema/src/raw/` and run\n\
         `UPDATE=1 cargo test -p sbx-schema --test json_schema`.\n\n\
         `~` is the home directory of whoever runs `sbx`; relative paths start at the directory of the file they are written\n\
         in. `${VAR}` and `${VAR:-default}` are filled in from the environment in paths, `owner`, `ref`, build arguments, `env`,\n\
         `devices`, the fields of worktrees, rules of egress (but their dates) and tests; `$${` is a literal `${`. A field marked *required* must be there in the end: it may\n\
         also come from `defaults` or a profile; but an item of a list has all of its fields where it is written. A whole number\n\
         may be written with a point: `3.0` is `3`.\n",
    );
    page.section("The document", &schema);
    while let Some(name) = page.queue.pop() {
        if let Some(definition) = schema.pointer(&format!("/definitions/{name}")) {
            page.section(&name, definition);
        }
    }
    page.out
}

struct Page<'a> {
    schema: &'a Value,
    out: String,
    queue: Vec<String>,
    seen: BTreeSet<String>,
}

// Writing to a String cannot fail.
impl Page<'_> {
    fn section(&mut self, title: &str, schema: &Value) {
        let _ = write!(self.out, "\n## {title}\n\n{}\n", text(schema, "description"));
        let required: Vec<&str> =
            schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let mut later = Vec::new();
        for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let kind = self.kind(field, &mut later);
            let note = if required.contains(&name.as_str()) { ", *required*" } else { "" };
            let _ = write!(self.out, "\n- **`{name}`** ({kind}{note}): {}", one_line(&text(field, "description")));
            if let Some(default) = field.get("default") {
                let _ = write!(self.out, " Default `{default}`.");
            }
            let examples: Vec<String> = field
                .get("examples")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .map(|e| format!("`{e}`"))
                .collect();
            if !examples.is_empty() {
                let _ = write!(self.out, " Example: {}.", examples.join(", "));
            }
            for (value, meaning) in self.values(field) {
                let _ = write!(self.out, "\n  - `{value}`: {}", one_line(&meaning));
            }
        }
        if schema.get("properties").and_then(Value::as_object).is_none_or(serde_json::Map::is_empty) {
            self.out.push_str("\nNo fields yet: write `{}`.");
        }
        self.out.push('\n');
        later.reverse();
        self.queue.extend(later);
    }

    /// What a value is, in words; sections it needs are noted in `later`.
    fn kind(&mut self, schema: &Value, later: &mut Vec<String>) -> String {
        if let Some(name) = reference_of(schema) {
            let definition = self.schema.pointer(&format!("/definitions/{name}")).unwrap_or(&Value::Null);
            if definition.get("type").and_then(Value::as_str) == Some("object") {
                if self.seen.insert(name.clone()) {
                    later.push(name.clone());
                }
                return format!("[{name}](#{})", name.to_lowercase());
            }
            return self.kind(&definition.clone(), later);
        }
        if let Some(choices) = schema.get("anyOf").and_then(Value::as_array) {
            let kinds: Vec<String> = choices.iter().map(|choice| self.kind(choice, later)).collect();
            return kinds.join(" or ");
        }
        if let (Some(first), Some(second)) = (schema.get("then"), schema.get("else")) {
            return format!("{} or {}", self.kind(first, later), self.kind(second, later));
        }
        if let Some(value) = schema.get("const") {
            return value.as_str().map_or_else(|| format!("`{value}`"), |text| format!("`{text}`"));
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("array") => {
                let items = schema.get("items").map(|items| self.kind(items, later)).unwrap_or_default();
                format!("list of {items}")
            }
            Some("object") => match schema.get("additionalProperties").filter(|rest| rest.is_object()) {
                Some(rest) => format!("names with {}", self.kind(&rest.clone(), later)),
                None => "mapping".to_owned(),
            },
            Some("string") => "text".to_owned(),
            Some("integer") => "whole number".to_owned(),
            Some(other) => other.to_owned(),
            None => "one of".to_owned(),
        }
    }

    /// Fixed values with their meaning.
    fn values(&self, field: &Value) -> Vec<(String, String)> {
        let schema = match reference_of(field) {
            Some(name) => self.schema.pointer(&format!("/definitions/{name}")).unwrap_or(field),
            None => field,
        };
        let choices = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
        choices
            .filter_map(|choice| Some((choice.get("const")?.as_str()?.to_owned(), text(choice, "description"))))
            .collect()
    }
}

fn reference_of(schema: &Value) -> Option<String> {
    let reference = schema.get("$ref").or_else(|| schema.get("allOf")?.get(0)?.get("$ref"))?;
    reference.as_str()?.rsplit('/').next().map(str::to_owned)
}

fn text(schema: &Value, key: &str) -> String {
    schema.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
