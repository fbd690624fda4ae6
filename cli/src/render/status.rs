//! The conditions of sandboxes, as tables.

use comfy_table::{ContentArrangement, Table, presets};
use owo_colors::Style;

use super::text::{safe, wrap};
use crate::screen::Look;
use crate::status::{Report, Sandbox, Truth};

/// Refusals shown for each sandbox; `sbx egress log` has them all.
const MOST_DENIED: usize = 3;

/// One line per sandbox.
pub fn list(report: &Report, look: Look) -> String {
    if report.sandboxes.is_empty() {
        return String::from("No sandboxes.\n");
    }
    let mut table = table(look, &["NAME", "PHASE", "READY", "OWNER", "IMAGE", "AGE"]);
    for sandbox in &report.sandboxes {
        table.add_row(vec![
            safe(&sandbox.name).as_ref(),
            sandbox.phase,
            ready(sandbox),
            safe(&sandbox.owner).as_ref(),
            safe(&sandbox.image).as_ref(),
            sandbox.age.as_deref().unwrap_or("-"),
        ]);
    }
    phases_in_colour(&lines(&table), look)
}

/// The list, and under it every condition that is not as it should be, and the worktrees.
pub fn status(report: &Report, look: Look) -> String {
    let mut text = list(report, look);
    for sandbox in &report.sandboxes {
        let troubles: Vec<_> = sandbox.conditions.iter().filter(|condition| condition.status != Truth::True).collect();
        let denied = sandbox.egress.iter().flat_map(|egress| &egress.denied);
        let denied: Vec<_> = denied.rev().take(MOST_DENIED).collect();
        if troubles.is_empty() && sandbox.worktrees.is_empty() && denied.is_empty() {
            continue;
        }
        text.push_str(&format!("\n{}\n", look.paint(super::plan::bold(), &safe(&sandbox.name))));
        for condition in troubles {
            let words =
                format!("{} {}: {} ({})", condition.kind, condition.status.word(), condition.message, condition.reason);
            let style = if condition.status == Truth::False { super::plan::yellow() } else { super::plan::dim() };
            for line in wrap(&words, "  ", "    ", look.width) {
                text.push_str(&look.paint(style, &line));
                text.push('\n');
            }
        }
        for record in denied.into_iter().rev() {
            for line in wrap(&super::record::line(record), "  ", "    ", look.width) {
                text.push_str(&line);
                text.push('\n');
            }
        }
        for tree in &sandbox.worktrees {
            let state = match (tree.dirty, tree.ahead) {
                (Some(false), Some(0)) => String::from("clean"),
                (dirty, ahead) => {
                    let mut words = Vec::new();
                    words.extend(dirty.unwrap_or(false).then(|| String::from("dirty")));
                    words.extend(ahead.filter(|ahead| *ahead > 0).map(|ahead| format!("{ahead} ahead")));
                    if words.is_empty() { String::from("unknown") } else { words.join(", ") }
                }
            };
            let words = format!("worktree {} on {}: {state}", tree.path, tree.branch.as_deref().unwrap_or("no branch"));
            text.push_str(&wrap(&words, "  ", "    ", look.width).join("\n"));
            text.push('\n');
        }
    }
    text
}

/// Paints the laid-out table: escape sequences inside would count as columns.
fn phases_in_colour(table: &str, look: Look) -> String {
    let Some(column) = table.find("PHASE").filter(|_| look.color) else { return table.to_owned() };
    let mut text = String::new();
    for (index, line) in table.lines().enumerate() {
        let phase = line.get(column..).and_then(|rest| rest.split_whitespace().next()).unwrap_or_default();
        let style = match phase {
            _ if index == 0 => Style::new().bold(),
            "Running" => Style::new().green(),
            "Stopped" | "Pending" => Style::new().yellow(),
            "Failed" | "Orphaned" | "Unknown" => Style::new().red(),
            _ => Style::new(),
        };
        if index == 0 {
            text.push_str(&look.paint(style, line));
        } else if let (Some(before), Some(after)) = (line.get(..column), line.get(column + phase.len()..)) {
            text.push_str(before);
            text.push_str(&look.paint(style, phase));
            text.push_str(after);
        } else {
            text.push_str(line);
        }
        text.push('\n');
    }
    text
}

fn ready(sandbox: &Sandbox) -> &'static str {
    sandbox
        .conditions
        .iter()
        .find(|condition| condition.kind == "Ready")
        .map_or("Unknown", |condition| condition.status.word())
}

/// A table without lines, as kubectl draws them.
pub fn table(look: Look, head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(look.width).unwrap_or(u16::MAX)).set_header(head.iter().copied());
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table
}

/// The table's text without the blanks at the ends of its lines.
pub fn lines(table: &Table) -> String {
    table.lines().fold(String::new(), |mut text, line| {
        text.push_str(line.trim_end());
        text.push('\n');
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Condition, Worktree};

    #[test]
    fn a_table_and_what_is_not_right() {
        let condition = |kind, status, reason: &str, message: &str| Condition {
            kind,
            status,
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition: None,
        };
        let sandbox = |name: &str, phase, conditions| Sandbox {
            name: name.to_owned(),
            owner: String::from("alice"),
            phase,
            image: String::from("base"),
            conditions,
            workspace_root: String::from("/home/dev"),
            worktrees: Vec::new(),
            egress: None,
            age: Some(String::from("3h")),
        };
        let mut api = sandbox("api", "Running", vec![condition("Ready", Truth::True, "Running", "")]);
        api.worktrees.push(Worktree {
            path: String::from("/home/alice/worktrees/api"),
            branch: Some(String::from("feature/login")),
            dirty: Some(true),
            ahead: Some(2),
        });
        let report = Report {
            format_version: "1.0",
            project: String::from("acme"),
            sandboxes: vec![
                api,
                sandbox(
                    "web",
                    "Failed",
                    vec![condition("Ready", Truth::False, "Exited", "the main process ended with 3")],
                ),
            ],
        };
        let look = Look { color: false, unicode: false, width: 80 };
        insta::assert_snapshot!(status(&report, look));
    }
}
