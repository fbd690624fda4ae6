//! The plan: a value that people read, machines read, and the executor follows.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::op::Op;
use crate::resource::ResourceId;

/// Version of the JSON form.
pub const FORMAT_VERSION: &str = "1.0";

/// What happens to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Made.
    Create,
    /// Changed in place.
    Update,
    /// Made anew; the old one goes when the new one is ready.
    Replace,
    /// Removed.
    Delete,
    /// Nothing.
    Noop,
    /// Nothing, because it is not ours or must not be touched; `because` says why.
    Forbidden,
}

/// One attribute that differs. Secret values appear only as hashes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FieldChange {
    /// Dotted path: `limits.memory`.
    pub path: String,
    /// What is there; null when nothing.
    pub before: Value,
    /// What will be there; null when nothing.
    pub after: Value,
    /// Whether this alone asks for a replacement.
    pub forces_replacement: bool,
}

/// Something a change destroys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// `writable layer`, `uncommitted files`, `ignored files`, `unpushed commits`, `exec session`, `tmpfs`, `volume`.
    pub what: String,
    /// `12 files, 3.1 MiB`.
    pub detail: String,
    /// How many there are, where they can be counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// What `--accept-loss` must name.
    pub consent: String,
}

/// An operation, and what takes it back when a later one of the same change fails.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// In words: `create container acme_api`.
    pub title: String,
    /// The operation.
    pub op: Op,
    /// Operations that take it back, in order. A step with `commits` is never taken back, nor is one before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undo: Vec<Op>,
    /// From here on a failure leaves things as they are: the new state is good.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub commits: bool,
}

/// What happens to one resource, why, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The resource.
    pub resource: ResourceId,
    /// The sandbox it belongs to, when it is one's own.
    pub sandbox: Option<String>,
    /// Kind, as in the resource.
    pub kind: String,
    /// What happens.
    pub action: Action,
    /// Why, in words.
    pub because: Vec<String>,
    /// Whether the cause is an edit from outside rather than the configuration.
    pub drift: bool,
    /// Attributes that differ.
    pub fields: Vec<FieldChange>,
    /// Number of attributes that do not.
    pub unchanged: usize,
    /// What is lost.
    pub loses: Vec<Loss>,
    /// Open connections that the change ends, as people write them. They can be made again, so nobody is asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cuts: Vec<String>,
    /// Where it is written: `sandboxes.yaml:12:3`; absent for what is no longer written anywhere.
    pub origin: Option<String>,
    /// Changes that come first.
    pub after: Vec<ResourceId>,
    /// How, in order.
    pub steps: Vec<Step>,
}

/// Counts by action.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// To create.
    pub create: usize,
    /// To update.
    pub update: usize,
    /// To replace.
    pub replace: usize,
    /// To delete.
    pub delete: usize,
    /// Unchanged.
    pub noop: usize,
    /// Not to be touched.
    pub forbidden: usize,
}

/// The engine a plan was made against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanEngine {
    /// `podman`.
    pub kind: String,
    /// Version.
    pub version: String,
}

/// A warning or an error found while planning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// `sbx::missing-device`.
    pub code: String,
    /// `error` or `warning`.
    pub severity: String,
    /// What.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// Where it is written.
    pub origin: Option<String>,
}

/// Everything `apply` will do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// [`FORMAT_VERSION`].
    pub format_version: String,
    /// Project.
    pub project: String,
    /// RFC 3339.
    pub generated_at: String,
    /// The engine.
    pub engine: PlanEngine,
    /// All resources, the unchanged ones too, in the order of the configuration.
    pub changes: Vec<Change>,
    /// Counts.
    pub summary: Summary,
    /// Warnings and errors; an error forbids applying.
    pub warnings: Vec<Notice>,
    /// Made with `--target`: other differences may remain.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// What the plan rests on: resource to a hash of what was desired and what was observed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub basis: Vec<Basis>,
}

/// What the plan of one resource rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basis {
    /// The resource.
    pub resource: ResourceId,
    /// Hash of what is desired; absent when it is not.
    pub desired: Option<String>,
    /// Hash of what was observed; absent when nothing was there.
    pub observed: Option<String>,
}

impl Plan {
    /// Whether anything would be done.
    pub fn is_empty(&self) -> bool {
        self.changes.iter().all(|change| matches!(change.action, Action::Noop | Action::Forbidden))
    }

    /// The changes that do something.
    pub fn effective(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| !matches!(change.action, Action::Noop | Action::Forbidden))
    }

    /// Losses nobody has consented to. `accepted` names resources, `container/api`.
    pub fn unaccepted<'a>(&'a self, accepted: &'a [String]) -> impl Iterator<Item = (&'a Change, &'a Loss)> {
        self.effective()
            .flat_map(|change| change.loses.iter().map(move |loss| (change, loss)))
            .filter(|(_, loss)| !accepted.contains(&loss.consent))
    }

    /// What forbids applying.
    pub fn errors(&self) -> impl Iterator<Item = &Notice> {
        self.warnings.iter().filter(|notice| notice.severity == "error")
    }

    /// What is forbidden.
    pub fn forbidden(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| change.action == Action::Forbidden)
    }
}
