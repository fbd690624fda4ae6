//! Field-level comparison of two specifications.

use serde_json::{Map, Value};

use crate::plan::FieldChange;

/// Compares `before` and `after` leaf by leaf. Lists are leaves: an order that changed is one change, not many.
///
/// Returns what differs, in the order of `after`, and how many leaves do not.
pub fn fields(before: &Value, after: &Value, forces_replacement: impl Fn(&str) -> bool) -> (Vec<FieldChange>, usize) {
    let mut changes = Vec::new();
    let mut same = 0;
    walk("", before, after, &mut |path, before, after| {
        if before == after {
            same += 1;
        } else {
            changes.push(FieldChange {
                path: path.to_owned(),
                before: before.clone(),
                after: after.clone(),
                forces_replacement: forces_replacement(path),
            });
        }
    });
    (changes, same)
}

/// All leaves of a specification that is to be created.
pub fn created(after: &Value) -> Vec<FieldChange> {
    fields(&Value::Null, after, |_| false).0
}

/// All leaves of a specification that is to be deleted.
pub fn deleted(before: &Value) -> Vec<FieldChange> {
    fields(before, &Value::Null, |_| false).0
}

/// How many leaves a specification has: as many as [`created`] would list.
pub fn leaves(spec: &Value) -> usize {
    match spec {
        Value::Object(entries) => entries.values().map(leaves).sum(),
        _ => usize::from(!is_nothing(spec)),
    }
}

fn walk(path: &str, before: &Value, after: &Value, visit: &mut dyn FnMut(&str, &Value, &Value)) {
    let empty = Map::new();
    let (old, new) = match (before, after) {
        (Value::Object(old), Value::Object(new)) => (old, new),
        (Value::Object(old), Value::Null) if !old.is_empty() => (old, &empty),
        (Value::Null, Value::Object(new)) if !new.is_empty() => (&empty, new),
        _ => {
            if !(is_nothing(before) && is_nothing(after)) {
                visit(path, before, after);
            }
            return;
        }
    };
    let join = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    for (key, value) in new {
        walk(&join(key), old.get(key).unwrap_or(&Value::Null), value, visit);
    }
    for (key, value) in old.iter().filter(|(key, _)| !new.contains_key(*key)) {
        walk(&join(key), value, &Value::Null, visit);
    }
}

/// Absent, null and empty mean the same in a specification: a field that a newer version added is not a difference.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_leaves_by_dotted_path() {
        let (changes, same) = fields(
            &json!({"a": 1, "b": {"c": [1], "d": "x"}, "gone": true}),
            &json!({"a": 1, "b": {"c": [2], "d": "x"}, "new": {"e": 5}}),
            |path| path == "b.c",
        );
        let seen: Vec<_> =
            changes.iter().map(|c| (c.path.as_str(), &c.before, &c.after, c.forces_replacement)).collect();
        assert_eq!(
            seen,
            [
                ("b.c", &json!([1]), &json!([2]), true),
                ("new.e", &Value::Null, &json!(5), false),
                ("gone", &json!(true), &Value::Null, false),
            ]
        );
        assert_eq!(same, 2);
    }

    #[test]
    fn leaves_are_those_that_a_creation_lists() {
        for spec in [
            json!({"a": 1, "b": {"c": [1], "d": "", "e": {}}, "f": null, "g": [], "h": false}),
            json!({}),
            json!(null),
            json!("x"),
        ] {
            assert_eq!(leaves(&spec), created(&spec).len(), "{spec}");
        }
    }

    #[test]
    fn empty_and_absent_are_the_same() {
        assert_eq!(fields(&json!({"a": 1}), &json!({"a": 1, "b": [], "c": null, "d": {}}), |_| true), (vec![], 1));
    }
}
