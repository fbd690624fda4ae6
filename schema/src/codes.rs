//! The catalogue of problems: what each code means, why it comes up and what to do about it.
//!
//! Three parts, by who finds them: [`catalogue`] what a text says, [`of_plans`] what only a plan sees, [`of_runs`] why a
//! run ended. `docs/errors.md` is [`markdown`] of all of them.

use std::fmt::Write as _;

use crate::{Diagnostic, Severity, Span};

mod advice;
mod config;
mod document;
mod egress;
mod meaning;
mod plan;
mod rules;
mod run;
mod structure;

pub use advice::*;
pub use config::*;
pub use document::*;
pub use egress::*;
pub use meaning::*;
pub use rules::*;
pub use run::Ending;
pub use structure::*;

/// One kind of problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// `sbx::unknown-field`; never changes once released.
    pub code: &'static str,
    /// Whether it stops the run.
    pub severity: Severity,
    /// What is wrong, a few words without a full stop.
    pub summary: &'static str,
    /// Why it comes up.
    pub cause: &'static str,
    /// What to do.
    pub cure: &'static str,
    /// YAML (or a command) that shows the problem.
    pub example: &'static str,
}

impl Code {
    /// A diagnostic of this kind at `span`.
    pub fn at(&self, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic { span: Some(span), ..self.nowhere(message) }
    }

    /// A diagnostic of this kind that no text can be blamed for.
    pub fn nowhere(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            code: self.code,
            severity: self.severity,
            message: message.into(),
            help: None,
            span: None,
            label: None,
            related: Vec::new(),
        }
    }

    /// The heading's fragment in `docs/errors.md`, as GitHub and GitLab make it.
    pub fn fragment(&self) -> String {
        self.code.replace(':', "")
    }

    /// Address of the explanation; `None` while the package names no repository.
    pub fn url(&self) -> Option<String> {
        let repository = env!("CARGO_PKG_REPOSITORY").trim_end_matches('/');
        (!repository.is_empty()).then(|| format!("{repository}/blob/main/docs/errors.md#{}", self.fragment()))
    }
}

/// Every code that a text can have, which is what `sbx validate` reports, in the order of the documentation.
pub fn catalogue() -> impl Iterator<Item = &'static Code> {
    document::ENTRIES
        .iter()
        .chain(config::ENTRIES)
        .chain(structure::ENTRIES)
        .chain(meaning::ENTRIES)
        .chain(egress::ENTRIES)
        .chain(advice::ENTRIES)
        .chain(rules::ENTRIES)
}

/// Every code that only a plan can have.
pub fn of_plans() -> impl Iterator<Item = &'static Code> {
    plan::ENTRIES.iter()
}

/// Every code that only a run can end with.
pub fn of_runs() -> impl Iterator<Item = &'static Ending> {
    run::ENTRIES.iter()
}

/// Codes of [`catalogue`] that a run can end with as well.
pub fn shared_with_runs() -> impl Iterator<Item = &'static Ending> {
    run::SHARED.iter()
}

/// The entry of `code` in [`catalogue`].
pub fn find(code: &str) -> Option<&'static Code> {
    catalogue().find(|entry| entry.code == code)
}

/// `docs/errors.md`.
pub fn markdown() -> String {
    let mut out = String::from(
        "# Errors and warnings\n\n\
         Every problem has a code that never changes: the `code` of whatever `--json` prints is on this page. Generated from\n\
         the code: change `schema/src/codes/` and run `UPDATE=1 cargo test -p sbx-schema --test errors`.\n\n\
         1. [Of a file](#of-a-file): what `sbx validate` reports, and every other command before anything else.\n\
         2. [Of a plan](#of-a-plan): what does not fit this host or this engine.\n\
         3. [Of a run](#of-a-run): why a command ended without doing what it was asked.\n\n\
         ## Of a file\n\n\
         In the file at a line, which the report shows. Errors end a run with 65, also `sbx validate`; warnings only with\n\
         `--strict`.\n\n",
    );
    table(&mut out, catalogue().map(|entry| (entry, word(entry.severity).to_owned())), "");
    for entry in catalogue() {
        section(&mut out, entry, word(entry.severity));
    }
    out.push_str(
        "\n## Of a plan\n\n\
         Among the `warnings` of a plan, with the line that asks for it. An error is in the way of the whole plan: `sbx plan`\n\
         tells them all and ends with 65, and `sbx apply` changes nothing. A plan may also find\n\
         [`sbx::engine-socket`](#sbxengine-socket), where links lead to a socket that the text alone does not show.\n\n",
    );
    table(&mut out, of_plans().map(|entry| (entry, word(entry.severity).to_owned())), "");
    for entry in of_plans() {
        section(&mut out, entry, word(entry.severity));
    }
    out.push_str(
        "\n## Of a run\n\n\
         The `code` of a failure with `--json`, and the exit code that it goes with. `sbx diff` ends with 2 where others end\n\
         with 1, which is its word for a difference.\n\n",
    );
    let ended = |ending: &'static Ending| (&ending.entry, exits(ending.exits));
    table(&mut out, of_runs().chain(shared_with_runs()).map(ended), "exit code");
    for ending in of_runs() {
        section(&mut out, &ending.entry, &format!("exit code {}", exits(ending.exits)));
    }
    out
}

/// The overview of a part; `kind` is what its second column holds.
fn table(out: &mut String, entries: impl Iterator<Item = (&'static Code, String)>, kind: &str) {
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(out, "| code | {kind} | |\n|---|---|---|");
    for (entry, what) in entries {
        let summary = entry.summary.replace('|', "\\|");
        let _ = writeln!(out, "| [`{}`](#{}) | {what} | {summary} |", entry.code, entry.fragment());
    }
}

fn section(out: &mut String, entry: &Code, kind: &str) {
    let language = if entry.example.starts_with("$ ") { "console" } else { "yaml" };
    let _ = write!(
        out,
        "\n### {}\n\n*{kind}* · {}.\n\n**Cause.** {}\n\n**Cure.** {}\n\n```{language}\n{}\n```\n",
        entry.code,
        entry.summary,
        entry.cause,
        entry.cure,
        entry.example.trim_end()
    );
}

/// `1, 75 or 124`.
fn exits(codes: &[u8]) -> String {
    let mut texts: Vec<String> = codes.iter().map(u8::to_string).collect();
    match texts.pop() {
        Some(last) if !texts.is_empty() => format!("{} or {last}", texts.join(", ")),
        last => last.unwrap_or_default(),
    }
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn entries_are_complete_and_distinct() {
        let mut seen = BTreeSet::new();
        for entry in catalogue().chain(of_plans()).chain(of_runs().map(|ending| &ending.entry)) {
            assert!(seen.insert(entry.code), "{} is there twice", entry.code);
            let name = entry.code.strip_prefix("sbx::").expect("the prefix");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{name}");
            assert!(!entry.summary.ends_with('.'), "{name}");
            for sentence in [entry.cause, entry.cure] {
                assert!(sentence.ends_with('.'), "{name}: {sentence}");
            }
            assert!(!entry.example.is_empty(), "{name}");
        }
        for ending in of_runs().chain(shared_with_runs()) {
            assert!(!ending.exits.is_empty() && ending.exits.is_sorted(), "{}", ending.entry.code);
        }
        for ending in shared_with_runs() {
            assert_eq!(find(ending.entry.code), Some(&ending.entry));
        }
    }
}
