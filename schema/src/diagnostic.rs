//! Problems with a place, a code and a cure.

use serde::Serialize;

use crate::config::Location;

/// Whether a problem stops the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Legal but unwise.
    Warning,
    /// Nothing is changed while it stands.
    Error,
}

/// A byte range of one source text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// Index of the source in [`crate::Sources`].
    pub source: usize,
    /// First byte.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
}

/// One problem. `code` is an entry of the catalogue in `crate::codes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// `sbx::unknown-field`.
    pub code: &'static str,
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong: a fragment in lower case without a full stop, as those of `help` and `label`.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// Exactly the offending key or scalar.
    pub span: Option<Span>,
    /// What the span says beside the underline.
    pub label: Option<String>,
    /// Further places: the first definition of a duplicate, the anchor of an alias.
    pub related: Vec<(Span, String)>,
}

/// A diagnostic with its place counted out, the shape of `validate --format json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LocatedDiagnostic {
    /// Same as [`Diagnostic::code`].
    pub code: &'static str,
    /// Same as [`Diagnostic::severity`].
    pub severity: Severity,
    /// Same as [`Diagnostic::message`].
    pub message: String,
    /// Same as [`Diagnostic::help`].
    pub help: Option<String>,
    /// Where; absent when no place exists, as for an unreadable file.
    #[serde(flatten)]
    pub location: Option<Location>,
    /// Same as [`Diagnostic::related`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<RelatedPlace>,
}

/// A further place of a [`LocatedDiagnostic`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RelatedPlace {
    /// What is there.
    pub message: String,
    /// Where.
    #[serde(flatten)]
    pub location: Location,
}

impl Diagnostic {
    /// The same with a help line.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same with another place and what it says there.
    #[must_use]
    pub fn with_related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push((span, label.into()));
        self
    }
}
