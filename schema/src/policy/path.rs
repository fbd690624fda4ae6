//! Patterns of URL paths.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::url::{self, Dots};

/// A glob over canonical paths: `*` stands for any characters within a segment, `**` for any across segments; everything
/// else for itself. `/repos/**` matches `/repos/` and what is below it, not `/repos`. A star itself is written `%2A`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPattern(String);

/// Why a text is no pattern of paths.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Does not start with a slash.
    #[error("a path starts with `/`")]
    Relative,
    /// Would never match, because canonical paths have none: `//`, `.`, `..`, a query, a fragment, blanks, `\\`.
    #[error("{0:?} never occurs in a canonical path")]
    Never(String),
    /// A percent sign that no two hex digits follow.
    #[error("a `%` is followed by two hex digits")]
    Percent,
    /// An escape of a control character, or of a character in more bytes than it takes: refused in every path.
    #[error("it has an escape that no path may have")]
    Escape,
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
        let never = |what: &str| Err(PathError::Never(what.to_owned()));
        if let Some(bad) = text.chars().find(|c| c.is_control() || matches!(c, ' ' | '?' | '#' | '\\')) {
            return never(bad.encode_utf8(&mut [0; 4]));
        }
        let text = url::escape_non_ascii(text);
        // Looked at as canonical: `%2e%2e` never matches either.
        let text = url::canonical_escapes(&text).ok_or(PathError::Percent)?;
        if text.contains("//") {
            return never("//");
        }
        if url::has_control_escape(&text) || url::has_overlong_escape(&text) {
            return Err(PathError::Escape);
        }
        if let Some(bad) = text.split('/').find(|segment| url::dots(segment) != Dots::None) {
            return never(bad);
        }
        Ok(Self(text))
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
