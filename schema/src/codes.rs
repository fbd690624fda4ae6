//! The catalogue of problems: what each code means, why it comes up and what to do about it.
//!
//! `docs/errors.md` is [`markdown`] of this catalogue.

use std::fmt::Write as _;

use crate::{Diagnostic, Severity, Span};

mod advice;
mod config;
mod document;
mod egress;
mod meaning;
mod rules;
mod structure;

pub use advice::*;
pub use config::*;
pub use document::*;
pub use egress::*;
pub use meaning::*;
pub use rules::*;
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

/// Every code, in the order of the documentation.
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

/// The entry of `code`.
pub fn find(code: &str) -> Option<&'static Code> {
    catalogue().find(|entry| entry.code == code)
}

/// `docs/errors.md`.
pub fn markdown() -> String {
    let mut out = String::from(
        "# Errors and warnings\n\n\
         Every problem that `sbx validate` reports about a configuration has one of these codes; what only a plan finds\n\
         on this host (a source that is not there) is told with the resource and its line. Generated from the code: change\n\
         `schema/src/codes/` and run `UPDATE=1 cargo test -p sbx-schema --test errors`.\n\n\
         | code | | |\n|---|---|---|\n",
    );
    // Writing to a String cannot fail.
    for entry in catalogue() {
        let _ = writeln!(
            out,
            "| [`{}`](#{}) | {} | {} |",
            entry.code,
            entry.fragment(),
            word(entry.severity),
            entry.summary.replace('|', "\\|")
        );
    }
    for entry in catalogue() {
        let language = if entry.example.starts_with("$ ") { "console" } else { "yaml" };
        let _ = write!(
            out,
            "\n## {}\n\n*{}* · {}.\n\n**Cause.** {}\n\n**Cure.** {}\n\n```{language}\n{}\n```\n",
            entry.code,
            word(entry.severity),
            entry.summary,
            entry.cause,
            entry.cure,
            entry.example.trim_end()
        );
    }
    out
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
        for entry in catalogue() {
            assert!(seen.insert(entry.code), "{} is there twice", entry.code);
            let name = entry.code.strip_prefix("sbx::").expect("the prefix");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{name}");
            assert!(!entry.summary.ends_with('.'), "{name}");
            for sentence in [entry.cause, entry.cure] {
                assert!(sentence.ends_with('.'), "{name}: {sentence}");
            }
            assert!(!entry.example.is_empty(), "{name}");
        }
    }
}
