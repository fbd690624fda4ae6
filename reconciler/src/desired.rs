//! Desired state: one resource per thing the configuration asks for.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use schema::Config;
use schema::config::Quotas;
use serde::Serialize;
use serde_json::Value;

use crate::facts::Snapshot;
use crate::host_facts::{FileId, HostFacts};
use crate::plan::Notice;
use crate::resource::{Naming, ResourceId, sha256};

/// One resource as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Desired {
    /// Its identity.
    pub id: ResourceId,
    /// The sandbox it belongs to, when it is one's own.
    pub sandbox: Option<String>,
    /// Where it is written.
    pub origin: Option<String>,
    /// Resources that must be there first.
    pub after: Vec<ResourceId>,
    /// Its specification, the JSON form of the kind's own type.
    pub spec: Value,
    /// The same as text.
    pub text: String,
    /// Hash of the part of the specification that cannot change in place.
    pub hash: String,
    /// What is wished of it beside its specification, as an object's labels are.
    pub beside: Option<String>,
}

impl Desired {
    /// Hash of all that is wished of it.
    pub fn wish(&self) -> String {
        let text = match &self.beside {
            Some(beside) => Cow::Owned(format!("{beside}\n{}", self.text)),
            None => Cow::Borrowed(&self.text),
        };
        sha256(text.as_bytes())
    }
}

/// Everything desired, and what stands in the way.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredState {
    /// The project.
    pub project: String,
    /// How many sandboxes may exist.
    pub quotas: Quotas,
    /// In the order of the registry, then of the configuration.
    pub resources: Vec<Desired>,
    /// Warnings and errors.
    pub notices: Vec<Notice>,
    /// Owner of each sandbox.
    pub owners: BTreeMap<String, String>,
    /// Which file each bind source of the host was when it was looked at.
    pub sources: BTreeMap<PathBuf, FileId>,
}

/// What a kind may read to say what is desired.
#[derive(Clone, Copy)]
pub struct DesireContext<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The host.
    pub host: &'a HostFacts,
    /// Engine and images: how a reference resolves, what the engine can do.
    pub snapshot: &'a Snapshot,
    /// Names on the engine.
    pub naming: &'a Naming,
}

impl DesireContext<'_> {
    /// Where `path` is written, as text.
    pub fn origin(&self, path: &str) -> Option<String> {
        self.config.origins.find(path).map(|place| place.to_string())
    }

    /// An error at `path`.
    pub fn error(&self, code: &str, path: &str, message: impl Into<String>, help: impl Into<String>) -> Notice {
        self.notice("error", code, path, message.into(), help.into())
    }

    /// A warning at `path`.
    pub fn warning(&self, code: &str, path: &str, message: impl Into<String>, help: impl Into<String>) -> Notice {
        self.notice("warning", code, path, message.into(), help.into())
    }

    fn notice(&self, severity: &str, code: &str, path: &str, message: String, help: String) -> Notice {
        Notice {
            code: format!("sbx::{code}"),
            severity: severity.to_owned(),
            message,
            help: Some(help).filter(|help| !help.is_empty()),
            origin: self.origin(path),
        }
    }
}

/// The JSON form of a specification. Specifications are plain data with string keys.
pub fn to_spec<T: Serialize>(spec: &T) -> Value {
    serde_json::to_value(spec).expect("specifications are plain data with string keys")
}

/// Hash of a specification.
pub fn spec_hash(spec: &Value) -> String {
    sha256(spec.to_string().as_bytes())
}
