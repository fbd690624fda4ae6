//! Patterns of URL paths.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A glob over canonical paths: `*` stands for any characters within a segment, `**` for any across segments; everything
/// else for itself. `/repos/**` does not match `/repos`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPattern(String);

/// Why a text is no pattern of paths.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Does not start with a slash.
    #[error("a path starts with `/`")]
    Relative,
    /// Would never match, because canonical paths have none: `//`, `.`, `..`, a query, a fragment.
    #[error("{0:?} never occurs in a canonical path")]
    Never(String),
    /// A percent sign that no two hex digits follow.
    #[error("a `%` is followed by two hex digits")]
    Percent,
    /// Three stars or more in a row.
    #[error("`*` is any text within a segment, `**` any text; there is no longer row of stars")]
    Stars,
}

impl PathPattern {
    /// The pattern as text, canonical.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PathPattern {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        if !text.starts_with('/') {
            return Err(PathError::Relative);
        }
        if text.contains("***") {
            return Err(PathError::Stars);
        }
        if let Some(bad) = ["?", "#", "//"].into_iter().find(|bad| text.contains(bad)) {
            return Err(PathError::Never(bad.to_owned()));
        }
        if let Some(bad) = text.split('/').find(|segment| matches!(*segment, "." | "..")) {
            return Err(PathError::Never(bad.to_owned()));
        }
        super::url::canonical_escapes(text).map(Self).ok_or(PathError::Percent)
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for PathPattern {
    type Error = PathError;
    fn try_from(text: String) -> Result<Self, PathError> {
        text.parse()
    }
}

impl From<PathPattern> for String {
    fn from(pattern: PathPattern) -> Self {
        pattern.0
    }
}
