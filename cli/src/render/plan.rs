//! A plan for people: what happens to what, why, and what it costs.

use std::fmt::Write as _;

use owo_colors::Style;
use reconciler::plan::{Action, Change, Notice, Plan, Summary};

use super::creation::{is_news, telling};
use super::field;
use super::text::{columns, count, safe, wrap};
use crate::replayed::Replayed;
use crate::screen::Look;

/// What is shown of a plan.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shown<'a> {
    /// Unchanged resources and long values too.
    pub full: bool,
    /// Losses the user has consented to.
    pub accepted: &'a [String],
    /// What the policies would have meant for what was recorded.
    pub replayed: Option<&'a Replayed>,
}

/// Changes of one drifted resource that are named before the rest is counted.
const DRIFT_FIELDS: usize = 3;
/// Connections that are named before the rest is counted.
const MOST_CUTS: usize = 5;

/// The whole plan, its last line the summary.
pub fn plan(plan: &Plan, shown: Shown<'_>, look: Look) -> String {
    let mut page = Page { text: String::new(), look, shown };
    page.line("", "", &format!("Project {} on {} {}", plan.project, plan.engine.kind, plan.engine.version), bold());
    page.gap();

    let (drifted, wanted): (Vec<&Change>, Vec<&Change>) = plan.effective().partition(|change| change.drift);
    if !drifted.is_empty() {
        let them = if drifted.len() == 1 { "1 resource was" } else { &format!("{} resources were", drifted.len()) };
        page.line("", "", &format!("Drift: {them} changed outside of sbx. Applying puts that right:"), bold());
        for change in &drifted {
            page.drift(change);
        }
        page.gap();
    }
    for change in &wanted {
        page.change(change);
        page.gap();
    }
    if shown.full {
        let unchanged: Vec<&Change> = plan.changes.iter().filter(|change| change.action == Action::Noop).collect();
        for change in &unchanged {
            page.line("    ", "      ", &format!("{} unchanged{}", change.resource, origin(change)), dim());
        }
        if !unchanged.is_empty() {
            page.gap();
        }
    }
    for change in plan.forbidden() {
        page.forbidden(change);
        page.gap();
    }
    for notice in &plan.warnings {
        page.notice(notice);
    }
    if !plan.warnings.is_empty() {
        page.gap();
    }
    if let Some(told) = shown.replayed.and_then(Replayed::told) {
        page.line("", "  ", &told, yellow());
        page.gap();
    }
    let refused = plan.unaccepted(shown.accepted).count();
    if refused > 0 {
        let text = format!("{} would be lost; apply refuses without the consent named above.", count(refused, "thing"));
        page.line("", "", &text, red());
        page.gap();
    }
    // Never wrapped: programs look for this line.
    page.text.push_str(&look.paint(bold(), &summary(plan)));
    page.text.push('\n');
    page.text
}

/// The last line of a plan.
pub fn summary(plan: &Plan) -> String {
    let Summary { create, update, replace, delete, noop: _, forbidden } = plan.summary;
    if plan.is_empty() && forbidden == 0 {
        return if plan.partial {
            String::from("No changes. The targeted sandboxes match the configuration.")
        } else {
            String::from("No changes. Your sandboxes match the configuration.")
        };
    }
    let mut text = format!("Plan: {create} to create, {update} to update, {replace} to replace, {delete} to delete");
    if forbidden > 0 {
        // Writing to a String cannot fail.
        let _ = write!(text, ", {forbidden} forbidden");
    }
    text.push('.');
    text
}

/// Symbol of an action, as Terraform draws them, and its style.
pub fn symbol(action: Action) -> (&'static str, Style) {
    match action {
        Action::Create => ("+", Style::new().green()),
        Action::Update => ("~", yellow()),
        Action::Replace => ("-/+", Style::new().magenta()),
        Action::Delete => ("-", red()),
        Action::Noop => (" ", dim()),
        Action::Forbidden => ("!", red()),
    }
}

/// What is going to happen, in a word.
pub fn verb(action: Action) -> &'static str {
    match action {
        Action::Create => "create",
        Action::Update => "update",
        Action::Replace => "replace",
        Action::Delete => "delete",
        Action::Noop => "leave",
        Action::Forbidden => "not touch",
    }
}

struct Page<'a> {
    text: String,
    look: Look,
    shown: Shown<'a>,
}

impl Page<'_> {
    fn gap(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    fn line(&mut self, first: &str, rest: &str, text: &str, style: Style) {
        for line in wrap(text, first, rest, self.look.width) {
            let body = line.trim_start_matches(' ');
            self.text.push_str(&line[..line.len() - body.len()]);
            self.text.push_str(&self.look.paint(style, body));
            self.text.push('\n');
        }
    }

    fn label(&mut self, label: &str, style: Style, message: &str) {
        for (index, line) in wrap(&format!("{label}: {message}"), "", "  ", self.look.width).into_iter().enumerate() {
            match line.strip_prefix(label) {
                Some(rest) if index == 0 => {
                    self.text.push_str(&self.look.paint(style, label));
                    self.text.push_str(rest);
                }
                _ => self.text.push_str(&line),
            }
            self.text.push('\n');
        }
    }

    /// `-/+ container/api (sandboxes.yaml:12:3)`
    fn heading(&mut self, change: &Change) {
        let (symbol, style) = symbol(change.action);
        let place = origin(change);
        let name = safe(&change.resource.to_string()).into_owned();
        let plain = format!("{symbol:>3} {name}");
        if columns(&plain) + columns(&place) <= self.look.width {
            let padding = " ".repeat(3 - symbol.len());
            let _ = writeln!(
                self.text,
                "{padding}{} {}{}",
                self.look.paint(style.bold(), symbol),
                self.look.paint(bold(), &name),
                self.look.paint(dim(), &place)
            );
        } else {
            self.line(&format!("{symbol:>3} "), "    ", &name, style.bold());
            self.line("    ", "    ", place.trim_start(), dim());
        }
    }

    fn change(&mut self, change: &Change) {
        self.heading(change);
        let full = self.shown.full;
        for reason in change.because.iter().filter(|reason| full || is_news(change, reason)) {
            self.line("    ", "      ", &format!("because {reason}"), dim());
        }
        if change.action == Action::Delete && !self.shown.full {
            // What goes as a whole needs no list of its parts.
            self.losses(change);
            return;
        }
        let (fields, hidden) = if change.action == Action::Create && !self.shown.full {
            telling(change)
        } else {
            (change.fields.clone(), 0)
        };
        for change in &fields {
            self.text.push_str(&field::lines(change, self.shown.full, self.look));
        }
        if hidden > 0 {
            let text = format!("# {} as usual; --full shows all", count(hidden, "attribute"));
            self.line("      ", "        ", &text, dim());
        }
        if change.unchanged > 0 {
            let text = format!("# {} unchanged", count(change.unchanged, "attribute"));
            self.line("      ", "        ", &text, dim());
        }
        self.losses(change);
        self.cuts(change);
    }

    /// One resource in the drift section: collapsed, unless something would be lost.
    fn drift(&mut self, change: &Change) {
        self.heading(change);
        let (named, rest) =
            change.fields.split_at(change.fields.len().min(if self.shown.full { usize::MAX } else { DRIFT_FIELDS }));
        if named.is_empty() {
            for reason in &change.because {
                self.line("      ", "        ", reason, dim());
            }
        }
        for change in named {
            self.text.push_str(&field::lines(change, self.shown.full, self.look));
        }
        if !rest.is_empty() {
            self.line(
                "      ",
                "        ",
                &format!("# {} more; --full shows them", count(rest.len(), "attribute")),
                dim(),
            );
        }
        self.losses(change);
    }

    fn losses(&mut self, change: &Change) {
        for loss in &change.loses {
            let what =
                if loss.detail.is_empty() { loss.what.clone() } else { format!("{}: {}", loss.what, loss.detail) };
            if self.shown.accepted.contains(&loss.consent) {
                self.line("    ! ", "      ", &format!("loses {what} (accepted)"), yellow());
            } else {
                self.line("    ! ", "      ", &format!("loses {what}"), red().bold());
                self.line("      ", "        ", &format!("consent with --accept-loss {}", loss.consent), red());
            }
        }
    }

    /// Connections that end with it: they can be made again, so nobody is asked.
    fn cuts(&mut self, change: &Change) {
        if change.cuts.is_empty() {
            return;
        }
        let shown = if self.shown.full { change.cuts.len() } else { MOST_CUTS };
        let mut text = format!("cuts {}: ", count(change.cuts.len(), "open connection"));
        text.push_str(&change.cuts.iter().take(shown).map(|flow| safe(flow)).collect::<Vec<_>>().join(", "));
        if change.cuts.len() > shown {
            text.push_str(&format!(" and {} more", change.cuts.len() - shown));
        }
        self.line("    ! ", "      ", &text, yellow());
    }

    fn forbidden(&mut self, change: &Change) {
        self.heading(change);
        self.line("    ", "      ", "forbidden, nothing will be touched:", red());
        for reason in &change.because {
            self.line("      ", "        ", reason, Style::new());
        }
    }

    fn notice(&mut self, notice: &Notice) {
        let (label, style) =
            if notice.severity == "error" { ("error", red().bold()) } else { ("warning", yellow().bold()) };
        let place = notice.origin.as_ref().map(|origin| format!("{origin}: ")).unwrap_or_default();
        self.label(label, style, &format!("{place}{} [{}]", notice.message, notice.code));
        if let Some(help) = &notice.help {
            self.label("help", Style::new().cyan().bold(), help);
        }
    }
}

fn origin(change: &Change) -> String {
    change.origin.as_ref().map(|origin| format!("  ({})", safe(origin))).unwrap_or_default()
}

pub(super) fn bold() -> Style {
    Style::new().bold()
}

pub(super) fn dim() -> Style {
    Style::new().dimmed()
}

pub(super) fn red() -> Style {
    Style::new().red()
}

pub(super) fn yellow() -> Style {
    Style::new().yellow()
}

#[cfg(test)]
mod tests;
