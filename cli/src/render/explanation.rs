//! What a sandbox may reach, for people.

use egress::explain::{Explanation, WrittenRule};
use owo_colors::Style;

use super::plan::{bold, red};
use super::text::{columns, safe, wrap};
use crate::screen::Look;

/// Columns of the words on the left.
const LABELS: usize = 11;

/// The answer, why, and what to do.
pub fn explanation(sandbox: &str, asked: &str, explanation: &Explanation, look: Look) -> String {
    let Explanation { allowed, because: _, message, rule, allow, notes } = explanation;
    let verdict = if *allowed { look.paint(Style::new().green(), "allowed") } else { look.paint(red(), "denied") };
    let mut text = format!("{verdict}: {}\n", look.paint(bold(), &safe(asked)));
    let label = |label: &str| format!("  {label}{}", " ".repeat(LABELS.saturating_sub(columns(label))));
    let words = |text: &mut String, name: &str, words: &str| {
        for line in wrap(words, &label(name), &label(""), look.width) {
            text.push_str(line.trim_end());
            text.push('\n');
        }
    };
    words(&mut text, "because", message);
    if let Some(WrittenRule { text: rule, at, list, decided }) = rule {
        // Rules are there to be copied: one line, however long.
        text.push_str(&format!("{}{}\n", label(if *decided { "rule" } else { "nearest" }), safe(rule)));
        let list = list.as_ref().map(|list| format!(", allowlist {list}")).unwrap_or_default();
        text.push_str(&format!("{}{}{list}\n", label(""), safe(at)));
    }
    if let Some(rule) = allow {
        words(&mut text, "to allow", &format!("add under sandboxes.{sandbox}.egress.allow:"));
        text.push_str(&format!("{}- {}\n", label(""), safe(rule)));
    }
    for note in notes {
        words(&mut text, "note", note);
    }
    text
}
