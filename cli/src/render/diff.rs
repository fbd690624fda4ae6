//! Differences as unified text, one pair of documents per resource.

use owo_colors::Style;
use reconciler::plan::{Action, Change, Plan};
use serde_json::Value;
use similar::TextDiff;

use super::text::safe;
use crate::screen::Look;

/// The differences of `plan`; empty when there are none. Lines are not wrapped: other programs read this.
pub fn diff(plan: &Plan, look: Look) -> String {
    plan.effective().map(|change| resource(change, look)).collect()
}

fn resource(change: &Change, look: Look) -> String {
    let name = safe(&change.resource.to_string()).into_owned();
    let origin =
        change.origin.as_deref().map_or_else(|| String::from("configuration"), |origin| safe(origin).into_owned());
    let before = document(change, Side::Before);
    let after = document(change, Side::After);
    let (left, right) = match change.action {
        Action::Create => (String::from("/dev/null"), format!("{name}\t{origin}")),
        Action::Delete => (format!("{name}\tengine"), String::from("/dev/null")),
        _ => (format!("{name}\tengine"), format!("{name}\t{origin}")),
    };
    let diff = TextDiff::from_lines(&before, &after);
    let text = diff.unified_diff().context_radius(3).header(&left, &right).to_string();
    if !look.color {
        return text;
    }
    text.lines().fold(String::new(), |mut out, line| {
        let style = match line.as_bytes() {
            [b'-', b'-', b'-', ..] | [b'+', b'+', b'+', ..] => Style::new().bold(),
            [b'-', ..] => Style::new().red(),
            [b'+', ..] => Style::new().green(),
            [b'@', ..] => Style::new().cyan(),
            _ => Style::new(),
        };
        out.push_str(&look.paint(style, line));
        out.push('\n');
        out
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

/// One line per attribute, several for texts of several lines. An object that is not there has no lines at all.
fn document(change: &Change, side: Side) -> String {
    let absent = match side {
        Side::Before => change.action == Action::Create,
        Side::After => change.action == Action::Delete,
    };
    if absent {
        return String::new();
    }
    let mut text = String::new();
    for field in &change.fields {
        let value = if side == Side::Before { &field.before } else { &field.after };
        attribute(&mut text, &field.path, value);
    }
    if change.fields.is_empty() {
        // What is made or removed as a whole still has a name.
        attribute(&mut text, "resource", &Value::String(change.resource.to_string()));
    }
    text
}

fn attribute(text: &mut String, path: &str, value: &Value) {
    let path = safe(path);
    match value {
        Value::Null => {}
        Value::String(long) if long.contains('\n') => {
            text.push_str(&format!("{path}: |\n"));
            for line in long.lines() {
                text.push_str(&format!("  {}\n", safe(line)));
            }
        }
        Value::Array(items) => {
            text.push_str(&format!("{path}:\n"));
            for item in items {
                text.push_str(&format!("- {}\n", safe(&super::field::item(item))));
            }
        }
        other => text.push_str(&format!("{path}: {}\n", safe(&other.to_string()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn unified_text_per_resource() {
        let look = Look { color: false, unicode: false, width: 80 };
        insta::assert_snapshot!(diff(&sample::plan(), look));
        assert_eq!(diff(&sample::empty(), look), "");
    }
}
