//! Identity of resources, and how their names and labels look on the engine.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// `container/api`: a kind and the name the configuration gives it.
///
/// `deposed` tells an older object of the same resource apart, one that only waits for its users to move on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId {
    /// Noun of the kind: `container`.
    pub kind: String,
    /// Name within the kind and the project.
    pub name: String,
    /// Short key of the older object.
    pub deposed: Option<String>,
}

impl ResourceId {
    /// The current object of `kind` and `name`.
    pub fn new(kind: &str, name: impl Into<String>) -> Self {
        Self { kind: kind.to_owned(), name: name.into(), deposed: None }
    }

    /// An older object of `kind` and `name`.
    pub fn deposed(kind: &str, name: impl Into<String>, key: impl Into<String>) -> Self {
        Self { kind: kind.to_owned(), name: name.into(), deposed: Some(key.into()) }
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)?;
        self.deposed.as_ref().map_or(Ok(()), |key| write!(f, "@{key}"))
    }
}

impl Serialize for ResourceId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ResourceId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (kind, name) = text.split_once('/').ok_or_else(|| serde::de::Error::custom("expected kind/name"))?;
        // Repositories and worktrees are named by absolute paths, which may hold an '@' of their own.
        Ok(match name.rsplit_once('@') {
            Some((name, key)) if !name.contains('/') => Self::deposed(kind, name, key),
            _ => Self::new(kind, name),
        })
    }
}

/// Labels `sbx` puts on what it creates. A label alone proves nothing: an image can carry it.
pub mod label {
    /// Project name; the filter of every list call.
    pub const PROJECT: &str = "sbx.project";
    /// Resource name within project and kind.
    pub const NAME: &str = "sbx.name";
    /// Resource kind.
    pub const KIND: &str = "sbx.kind";
    /// Random id given at creation, different for every object.
    pub const UID: &str = "sbx.uid";
    /// Hash of the specification.
    pub const HASH: &str = "sbx.spec-hash";
    /// The specification as last applied, JSON.
    pub const SPEC: &str = "sbx.spec";
    /// Policies: a number higher than that of any older policy of the same sandbox.
    pub const SERIAL: &str = "sbx.policy-serial";
    /// Policies: JSON, name of each secret it uses to the salted hash of its value.
    pub const SECRETS: &str = "sbx.policy-secrets";
    /// Of an image with commands run in it: id of the image they were run in.
    pub const BASE: &str = "sbx.base";
    /// Owner, for quotas.
    pub const OWNER: &str = "sbx.owner";
}

/// What the name of a container ends with that is to take the place of another.
const NEXT: &str = ".next";

/// How the objects of one project are called on the engine.
///
/// Names of the language have no `_` and no `.`, so `project_name` can be read back in one way only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naming {
    project: String,
}

impl Naming {
    /// For `project`.
    pub fn new(project: impl Into<String>) -> Self {
        Self { project: project.into() }
    }

    /// The project.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// Container, volume or network of `name`.
    pub fn object(&self, name: &str) -> String {
        format!("{}_{name}", self.project)
    }

    /// A container that is to take the place of another.
    pub fn successor(&self, name: &str) -> String {
        format!("{}_{name}{NEXT}", self.project)
    }

    /// The sandbox whose container, or successor of it, is called `object`; `None` where no sandbox's is.
    pub fn sandbox_of<'a>(&self, object: &'a str) -> Option<&'a str> {
        let name = object.strip_prefix(&self.project)?.strip_prefix('_')?;
        let name = name.strip_suffix(NEXT).unwrap_or(name);
        // What else has a name of this form has a dot in it.
        (!name.is_empty() && !name.contains('.')).then_some(name)
    }

    /// The volume whose existence records that `name` was stopped on purpose. Engines offer no label that can be
    /// changed on a container, and the intent has to outlive both the container and the local state directory.
    pub fn stop_marker(&self, name: &str) -> String {
        format!("{}_{name}.stopped", self.project)
    }

    /// The empty volume whose labels hold the policy of `name` with a given hash: engines keep no plain data of others,
    /// and labels cannot be changed, so another policy is another object.
    pub fn policy(&self, name: &str, hash: &str) -> String {
        format!("{}_{name}.policy.{}", self.project, short(hash))
    }

    /// A secret with a given content: secrets are immutable, another content is another object.
    pub fn secret(&self, name: &str, hash: &str) -> String {
        format!("{}_{name}.{}", self.project, short(hash))
    }

    /// Local tag of an image with given inputs.
    pub fn image(&self, name: &str, hash: &str) -> String {
        format!("localhost/sbx/{}/{name}:{}", self.project, short(hash))
    }
}

/// First twelve hex digits of a `sha256:` hash.
pub fn short(hash: &str) -> &str {
    let hex = hash.strip_prefix("sha256:").unwrap_or(hash);
    hex.get(..12).unwrap_or(hex)
}

/// Whether `text` has the form of what [`short`] makes.
pub fn is_short(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// `sha256:` and the hex digest of `bytes`.
pub fn sha256(bytes: &[u8]) -> String {
    digest_text(&Sha256::digest(bytes))
}

/// `sha256:` and `digest` in hex.
pub fn digest_text(digest: &[u8]) -> String {
    use fmt::Write as _;
    digest.iter().fold(String::from("sha256:"), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Salted hash of a secret value: equal values of different projects differ, and the value is not recoverable by a
/// table made for another project.
pub fn secret_hash(project: &str, name: &str, value: &[u8]) -> String {
    let mut hasher = Sha256::new();
    for part in [b"sbx secret v1".as_slice(), project.as_bytes(), name.as_bytes(), value] {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    digest_text(&hasher.finalize())
}

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back() {
        for id in [
            ResourceId::new("container", "api"),
            ResourceId::deposed("secret", "token", "0123456789ab"),
            ResourceId::new("repository", "/srv/git@host/api.git"),
            ResourceId::new("worktree", "/home/a@b/x"),
        ] {
            let text = serde_json::to_string(&id).expect("ids serialize");
            assert_eq!(serde_json::from_str::<ResourceId>(&text).expect("and back"), id);
        }
    }

    #[test]
    fn names_of_containers_lead_back_to_their_sandboxes() {
        let naming = Naming::new("acme");
        for sandbox in ["api", "api-1", "next"] {
            for object in [naming.object(sandbox), naming.successor(sandbox)] {
                assert_eq!(naming.sandbox_of(&object), Some(sandbox), "{object}");
            }
        }
        let builder = naming.object(&crate::ownership::builder("localhost/sbx/acme/base:0"));
        let others =
            [naming.object(""), naming.successor(""), naming.stop_marker("api"), naming.policy("api", "0"), builder];
        for other in others.iter().map(String::as_str).chain(["acme", "acme2_api", "other_api", "api"]) {
            assert_eq!(naming.sandbox_of(other), None, "{other}");
        }
    }

    #[test]
    fn secret_hashes_depend_on_all_parts() {
        let base = secret_hash("acme", "token", b"v");
        assert_ne!(base, secret_hash("acme", "token", b"w"));
        assert_ne!(base, secret_hash("acme", "toke", b"nv"));
        assert_ne!(base, secret_hash("other", "token", b"v"));
    }
}
