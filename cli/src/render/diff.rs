//! Differences as unified text, one pair of documents per resource.

use owo_colors::Style;
use reconciler::plan::{Action, Change, Plan};
use serde_json::Value;
use similar::TextDiff;

use super::text::safe;
use crate::screen::Look;

/// What a resource is that nothing is to be done about.
const RIGHT: &str = "as it should be";

/// The differences of `plan`, those that are not ours to remove among them; empty when there are none. Lines are not
/// wrapped: other programs read this.
pub fn diff(plan: &Plan, look: Look) -> String {
    plan.changes.iter().filter(|change| change.action != Action::Noop).map(|change| resource(change, look)).collect()
}

fn resource(change: &Change, look: Look) -> String {
    let name = safe(&change.resource.to_string()).into_owned();
    let origin =
        change.origin.as_deref().map_or_else(|| String::from("configuration"), |origin| safe(origin).into_owned());
    let (mut before, mut after) = (document(change, Side::Before), document(change, Side::After));
    if before == after {
        // It differs in what is no attribute: whether it runs, what it is called, who serves it.
        before = state(&change.because.join("; "));
        after = state(RIGHT);
    }
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
    if change.fields.is_empty() && matches!(change.action, Action::Create | Action::Delete) {
        // What is made or removed as a whole still has a name.
        attribute(&mut text, "resource", &Value::String(change.resource.to_string()));
    }
    text
}

fn state(what: &str) -> String {
    let mut text = String::new();
    attribute(&mut text, "state", &Value::String(what.to_owned()));
    text
}

fn attribute(text: &mut String, path: &str, value: &Value) {
    let path = safe(path);
    match value {
        Value::Null => {}
        Value::String(long) if long.contains('\n') => {
            // As YAML has it: with the last line break or without.
            let (mark, long) = long.strip_suffix('\n').map_or(("|-", long.as_str()), |long| ("|", long));
            text.push_str(&format!("{path}: {mark}\n"));
            for line in long.split('\n') {
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
    use reconciler::plan::FieldChange;

    use super::*;
    use crate::render::sample;

    #[test]
    fn unified_text_per_resource() {
        let look = Look { color: false, unicode: false, width: 80 };
        insta::assert_snapshot!(diff(&sample::plan(), look));
        assert_eq!(diff(&sample::empty(), look), "");
    }

    /// Whoever is told by the exit code that something differs is told what.
    #[test]
    fn what_differs_in_no_attribute_is_told_by_its_reason() {
        let look = Look { color: false, unicode: false, width: 80 };
        let told = |change: Change| diff(&Plan { changes: vec![change], ..sample::empty() }, look);
        for action in [Action::Update, Action::Replace, Action::Forbidden] {
            for reason in ["paused", "it was renamed to elsewhere", "image: digest moved", "two\nlines"] {
                let mut change = sample::change(action, "container", "api");
                change.because = vec![reason.to_owned(), "something else".to_owned()];
                let text = told(change);
                assert!(text.starts_with("--- container/api\tengine\n+++ container/api\tconfiguration\n@@"), "{text}");
                let first = reason.lines().next().expect("a line");
                assert!(text.lines().any(|line| line.starts_with('-') && line.contains(first)), "{text}");
                assert!(text.ends_with("+state: \"as it should be\"\n"), "{text}");
            }
        }
        for action in [Action::Create, Action::Delete] {
            assert!(told(sample::change(action, "network", "inner")).contains("resource: \"network/inner\""));
        }
        assert_eq!(told(sample::change(Action::Noop, "container", "api")), "");
    }

    #[test]
    fn texts_that_differ_in_their_last_line_break_differ() {
        let look = Look { color: false, unicode: false, width: 80 };
        let mut change = sample::change(Action::Replace, "container", "api");
        let (before, after) = (Value::from("a\nb"), Value::from("a\nb\n"));
        change.fields.push(FieldChange { path: "env.A".to_owned(), before, after, forces_replacement: true });
        let text = diff(&Plan { changes: vec![change], ..sample::empty() }, look);
        assert!(text.contains("-env.A: |-\n+env.A: |\n"), "{text}");
    }
}
