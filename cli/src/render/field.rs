//! One attribute that differs, on one line where it fits, else as a unified diff.

use owo_colors::Style;
use reconciler::plan::FieldChange;
use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use super::plan::{bold, dim, red, yellow};
use super::text::{columns, safe, wrap};
use crate::screen::Look;

/// Lines of one long value that are shown before the rest is counted.
const LONG: usize = 24;

const FORCES: &str = "  # forces replacement";

/// The lines of `change`, indented for a plan.
pub fn lines(change: &FieldChange, full: bool, look: Look) -> String {
    let change = &in_words(change);
    let FieldChange { path, before, after, forces_replacement } = change;
    let (symbol, style) = match (before.is_null(), after.is_null()) {
        (true, true) => return String::new(),
        (true, false) if is_hollow(after) => return String::new(),
        (true, false) => ("+", Style::new().green()),
        (false, true) => ("-", red()),
        (false, false) => ("~", yellow()),
    };
    let path = safe(path);
    let forces = if *forces_replacement { FORCES } else { "" };
    let mut inline = [before, after].map(|value| one_line(&path, value));
    if let ([Some(first), Some(second)], false) = (&inline, full) {
        let short = [short_digests(first), short_digests(second)];
        if short[0] != short[1] {
            inline = short.map(Some);
        }
    }
    if let [Some(before_text), Some(after_text)] = &inline {
        let values = match symbol {
            "+" => after_text.clone(),
            "-" => before_text.clone(),
            _ => format!("{before_text} -> {after_text}"),
        };
        if 8 + columns(&path) + 2 + columns(&values) + columns(forces) <= look.width {
            return format!(
                "      {} {}: {values}{}\n",
                look.paint(style, symbol),
                look.paint(bold(), &path),
                look.paint(red(), forces)
            );
        }
        if matches!((before, after), (Value::String(_) | Value::Null, Value::String(_) | Value::Null)) {
            return stacked(&path, symbol, style, [before, after], [before_text, after_text], forces, look);
        }
    }
    let mut text = head(&path, symbol, style, forces, look);
    text.push_str(&diff(before, after, full, look));
    text
}

/// The attribute as it is called in the file.
fn in_words(change: &FieldChange) -> FieldChange {
    let path = match change.path.as_str() {
        "image.name" => "image",
        "network.networks" => "networks",
        "limits.cpus_milli" => "limits.cpus",
        _ => return change.clone(),
    };
    if path != "limits.cpus" {
        return FieldChange { path: path.to_owned(), ..change.clone() };
    }
    let cpus = |value: &Value| match value.as_u64() {
        Some(milli) if milli % 1000 == 0 => Value::from(milli / 1000),
        Some(milli) => value_of(milli),
        None => value.clone(),
    };
    FieldChange {
        path: path.to_owned(),
        before: cpus(&change.before),
        after: cpus(&change.after),
        forces_replacement: change.forces_replacement,
    }
}

#[expect(clippy::cast_precision_loss, reason = "no machine has that many CPUs")]
fn value_of(milli: u64) -> Value {
    Value::from(milli as f64 / 1000.0)
}

fn head(path: &str, symbol: &str, style: Style, forces: &str, look: Look) -> String {
    let first = format!("      {} {}:", look.paint(style, symbol), look.paint(bold(), path));
    if 9 + columns(path) + columns(forces) <= look.width {
        return format!("{first}{}\n", look.paint(red(), forces));
    }
    let mut text = String::new();
    push(&mut text, &wrap(&format!("{symbol} {path}:"), "      ", "        ", look.width), style, look);
    if !forces.is_empty() {
        push(&mut text, &wrap(forces.trim_start(), "          ", "          ", look.width), red(), look);
    }
    text
}

/// Two values, one above the other, wrapped: no diff says more about two long words.
fn stacked(
    path: &str,
    symbol: &str,
    style: Style,
    values: [&Value; 2],
    texts: [&String; 2],
    forces: &str,
    look: Look,
) -> String {
    let mut text = head(path, symbol, style, forces, look);
    for ((value, shown), (sign, style)) in
        values.into_iter().zip(texts).zip([("- ", red()), ("+ ", Style::new().green())])
    {
        if !value.is_null() {
            push(&mut text, &wrap(shown, &format!("          {sign}"), "            ", look.width), style, look);
        }
    }
    text
}

fn diff(before: &Value, after: &Value, full: bool, look: Look) -> String {
    let (before, after) = (block(before), block(after));
    let diff = TextDiff::from_lines(&before, &after);
    let mut text = String::new();
    let mut shown = 0usize;
    let mut hidden = 0usize;
    for (index, group) in diff.grouped_ops(2).iter().enumerate() {
        if index > 0 && hidden == 0 {
            text.push_str(&look.paint(dim(), "          ..."));
            text.push('\n');
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            if shown >= LONG && !full {
                hidden += 1;
                continue;
            }
            shown += 1;
            let (sign, style) = match change.tag() {
                ChangeTag::Delete => ("- ", red()),
                ChangeTag::Insert => ("+ ", Style::new().green()),
                ChangeTag::Equal => ("  ", Style::new()),
            };
            let line = change.value().trim_end_matches('\n');
            push(&mut text, &wrap(line, &format!("          {sign}"), "            ", look.width), style, look);
        }
    }
    if hidden > 0 {
        let words = format!("# {hidden} more lines; --full shows them");
        push(&mut text, &wrap(&words, "          ", "            ", look.width), dim(), look);
    }
    text
}

fn push(text: &mut String, lines: &[String], style: Style, look: Look) {
    for line in lines {
        let body = line.trim_start_matches(' ');
        text.push_str(&line[..line.len() - body.len()]);
        text.push_str(&look.paint(style, body));
        text.push('\n');
    }
}

/// The value on one line; `None` when it is written in several lines or takes several to read.
fn one_line(path: &str, value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::from("(none)")),
        Value::String(text) if text.contains('\n') => None,
        Value::String(text) => Some(format!("\"{}\"", safe(text))),
        Value::Number(number) if is_bytes(path) => Some(number.as_u64().map_or_else(|| number.to_string(), bytes)),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Array(_) | Value::Object(_) => {
            let text = match value {
                Value::Array(items) if items.iter().any(|item| item.get("target").is_some()) => return None,
                Value::Array(items) => {
                    format!("[{}]", items.iter().map(Value::to_string).collect::<Vec<_>>().join(", "))
                }
                other => other.to_string(),
            };
            // Beyond this a list is compared faster line by line.
            (columns(&text) <= 40).then(|| safe(&text).into_owned())
        }
    }
}

/// The value in several lines: texts as they are, lists an item a line, the rest as indented JSON.
fn block(value: &Value) -> String {
    let mut text = match value {
        Value::Null => return String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(item).collect::<Vec<_>>().join("\n"),
        other => serde_json::to_string_pretty(other).unwrap_or_default(),
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// One item of a list; a mount in the words people use for it.
pub(super) fn item(value: &Value) -> String {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let (Some(kind), Some(target)) = (text("type"), text("target")) else { return value.to_string() };
    let from = match kind {
        "bind" if text("source") == Some(target) => Some(String::new()),
        "bind" => text("source").map(|source| format!("{source} -> ")),
        "volume" => text("volume").map(|volume| format!("volume {volume} -> ")),
        _ => value.get("size").and_then(Value::as_u64).map(|size| format!("{kind} of {} -> ", bytes(size))),
    };
    let Some(from) = from else { return value.to_string() };
    let read_only = if value.get("read_only") == Some(&Value::Bool(true)) { " (read-only)" } else { "" };
    let relabel = text("relabel").map(|label| format!(" (relabel {label})")).unwrap_or_default();
    // A path may hold a line break: what it hides from a reader of the plan is mounted all the same.
    safe(&format!("{from}{target}{read_only}{relabel}")).into_owned()
}

/// A text with the digests in it cut to what people compare.
fn short_digests(text: &str) -> String {
    const SHOWN: usize = 12;
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("sha256:") {
        let (before, found) = rest.split_at(start + "sha256:".len());
        let hex = found.bytes().take_while(u8::is_ascii_hexdigit).count();
        out.push_str(before);
        if hex == 64 {
            out.push_str(&found[..SHOWN]);
            out.push_str("...");
        } else {
            out.push_str(&found[..hex]);
        }
        rest = &found[hex..];
    }
    out.push_str(rest);
    out
}

/// Nothing worth a line in something new: an empty list, an empty text.
fn is_hollow(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn is_bytes(path: &str) -> bool {
    matches!(path.rsplit('.').next(), Some("memory" | "size"))
}

/// Bytes as they would be written in the file, when that is exact.
fn bytes(number: u64) -> String {
    for (unit, shift) in [("GiB", 30u32), ("MiB", 20), ("KiB", 10)] {
        if number > 0 && number.trailing_zeros() >= shift {
            return format!("{}{unit}", number >> shift);
        }
    }
    number.to_string()
}
