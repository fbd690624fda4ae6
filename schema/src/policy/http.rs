//! What rules say of HTTP headers.

use serde::{Deserialize, Serialize};

use crate::Name;

/// A header a request must have: any value of that name that matches.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HeaderMatch {
    /// Lower case.
    pub name: String,
    /// A glob over the whole value, `*` for any text; `None` asks only that it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// Changes the proxy makes to the headers of a request or a response; in the order remove, set, add.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct HeaderEdits {
    /// Headers taken out; lower case.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
    /// Headers that get exactly this value, whatever was there; lower-case names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<(String, HeaderValue)>,
    /// Headers added beside what is there; lower-case names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<(String, HeaderValue)>,
}

/// The value of a header the proxy writes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeaderValue {
    /// The text itself.
    Text(String),
    /// The value of a secret: a key of [`crate::Config::secrets`]. It never enters the sandbox.
    Secret(Name),
}

impl HeaderEdits {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        let Self { remove, set, add } = self;
        remove.is_empty() && set.is_empty() && add.is_empty()
    }

    /// Secrets whose values are written.
    pub fn secrets(&self) -> impl Iterator<Item = &Name> {
        self.set.iter().chain(&self.add).filter_map(|(_, value)| match value {
            HeaderValue::Secret(name) => Some(name),
            HeaderValue::Text(_) => None,
        })
    }
}
