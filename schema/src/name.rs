//! The one rule for names of projects, sandboxes and what they refer to.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A name that is safe as host name, container name, label value and path component.
///
/// Letters, digits and hyphens, 3 to 63 characters, first a letter, last not a hyphen, no two hyphens in a row:
/// `^[a-z][a-z0-9-]{1,61}[a-z0-9]$` without `--`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Why a text is not a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Shorter than 3 or longer than 63 characters.
    #[error("a name has 3 to 63 characters, this one has {0}")]
    Length(usize),
    /// A character outside `a-z`, `0-9` and `-`; the position counts characters from 1.
    #[error("{character:?} at position {position} is not allowed: names use a-z, 0-9 and '-'")]
    Character {
        /// The first character that is not allowed.
        character: char,
        /// Its position, from 1.
        position: usize,
    },
    /// Does not start with a letter.
    #[error("a name starts with a letter")]
    Start,
    /// Ends with a hyphen.
    #[error("a name does not end with '-'")]
    End,
    /// Two hyphens in a row.
    #[error("a name has no '--'")]
    DoubleHyphen,
}

impl Name {
    /// Checks `text` against the rule.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if let Some((index, character)) = text.chars().enumerate().find(|(_, c)| !allowed(*c)) {
            return Err(NameError::Character { character, position: index + 1 });
        }
        if !(3..=63).contains(&text.len()) {
            return Err(NameError::Length(text.len()));
        }
        if !text.starts_with(|c: char| c.is_ascii_lowercase()) {
            return Err(NameError::Start);
        }
        if text.ends_with('-') {
            return Err(NameError::End);
        }
        if text.contains("--") {
            return Err(NameError::DoubleHyphen);
        }
        Ok(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_the_rule_allows() {
        for good in ["api", "a1b", "my-app-2", &"a".repeat(63)] {
            assert_eq!(Name::new(good).map(String::from).as_deref(), Ok(good));
        }
    }

    #[test]
    fn says_why_a_name_is_refused() {
        let cases = [
            ("ab", NameError::Length(2)),
            ("", NameError::Length(0)),
            ("1ab", NameError::Start),
            ("-ab", NameError::Start),
            ("ab-", NameError::End),
            ("a--b", NameError::DoubleHyphen),
            ("a_b", NameError::Character { character: '_', position: 2 }),
            ("аpi", NameError::Character { character: 'а', position: 1 }),
            ("api\n", NameError::Character { character: '\n', position: 4 }),
            ("a..b", NameError::Character { character: '.', position: 2 }),
        ];
        for (text, error) in cases {
            assert_eq!(Name::new(text), Err(error), "{text:?}");
        }
        assert_eq!(Name::new("a".repeat(300)), Err(NameError::Length(300)));
    }
}
