//! The kinds of resources. A new kind is one file here and one line in [`REGISTRY`].

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::desired::{DesireContext, Desired, DesiredState, spec_hash, to_spec};
use crate::facts::{ProbeQuery, Probes, Snapshot};
use crate::options::PlanOptions;
use crate::ownership::OwnedContainers;
use crate::plan::{Action, Basis, Change, Notice, Step};
use crate::resource::{Naming, ResourceId, sha256};

pub mod container;
pub mod image;
pub mod network;
pub mod policy;
pub mod repository;
pub mod secret;
pub mod volume;
pub mod worktree;

/// All kinds, in the order in which a plan lists them.
pub static REGISTRY: &[&dyn Kind] = &[
    &image::Images,
    &volume::Volumes,
    &network::Networks,
    &secret::Secrets,
    &repository::Repositories,
    &worktree::Worktrees,
    &policy::Policies,
    &container::Containers,
];

/// Stands in `after` for every change of a container.
pub static AFTER_CONTAINERS: std::sync::LazyLock<Vec<ResourceId>> =
    std::sync::LazyLock::new(|| vec![ResourceId::new(container::NOUN, "*")]);

/// A kind of resource: what is desired, and what has to change.
pub trait Kind: Sync {
    /// Noun, first half of the resource's id.
    fn noun(&self) -> &'static str;

    /// Whether the labels of a resource `name` lead to an object that is called `object`.
    fn leads_to(&self, naming: &Naming, name: &str, object: &str) -> bool {
        object == naming.object(name)
    }

    /// Adds what the configuration asks for.
    fn desire(&self, context: &DesireContext<'_>, state: &mut DesiredState);

    /// Compares what is desired with what is there, and with what is there but no longer desired.
    fn compare(&self, context: &mut PlanContext<'_>) -> Vec<Change>;
}

/// What a kind may read to compare, and where it leaves what it found.
pub struct PlanContext<'a> {
    /// What is desired.
    pub desired: &'a DesiredState,
    /// What is there.
    pub snapshot: &'a Snapshot,
    /// What a closer look found.
    pub probes: &'a Probes,
    /// The user's wishes.
    pub options: &'a PlanOptions,
    /// Names on the engine.
    pub naming: &'a Naming,
    /// Our containers.
    pub containers: &'a OwnedContainers<'a>,
    /// Makes a new uid.
    pub new_uid: &'a mut dyn FnMut() -> String,
    /// What has to be looked at more closely before the plan is complete.
    pub wanted: ProbeQuery,
    /// Warnings and errors.
    pub notices: Vec<Notice>,
    /// What the plan rests on.
    pub basis: BTreeMap<ResourceId, Basis>,
}

impl<'a> PlanContext<'a> {
    /// Desired resources of a kind; none when everything is to be destroyed.
    pub fn desired_of(&self, noun: &'static str) -> impl Iterator<Item = &'a Desired> + use<'a> {
        let desired: &'a DesiredState = self.desired;
        let destroying = self.options.destroy.is_some();
        desired.resources.iter().filter(move |resource| !destroying && resource.id.kind == noun)
    }

    /// Why something goes that is not desired.
    pub fn why_gone(&self) -> &'static str {
        if self.options.destroy.is_some() { "destroyed" } else { "no longer in the configuration" }
    }

    /// Names of a kind's desired resources.
    pub fn desired_names(&self, noun: &'static str) -> BTreeSet<&'a str> {
        self.desired_of(noun).map(|resource| resource.id.name.as_str()).collect()
    }

    /// Records what the plan of `id` rests on.
    pub fn rests_on(&mut self, id: &ResourceId, desired: Option<&Desired>, observed: Option<Value>) {
        self.basis.insert(
            id.clone(),
            Basis {
                resource: id.clone(),
                desired: desired.map(Desired::wish),
                observed: observed.map(|value| spec_hash(&value)),
            },
        );
    }

    /// Whether the user named `consent`.
    pub fn accepts(&self, consent: &str) -> bool {
        self.options.accepted.contains(consent)
    }

    /// A warning that belongs to no line of the file.
    pub fn warn(&mut self, code: &str, message: impl Into<String>, help: impl Into<String>) {
        self.notices.push(Notice {
            code: format!("sbx::{code}"),
            severity: "warning".to_owned(),
            message: message.into(),
            help: Some(help.into()),
            origin: None,
        });
    }
}

impl Change {
    /// A change to a desired resource, without reasons and steps yet.
    pub fn of(desired: &Desired, action: Action) -> Self {
        Self {
            resource: desired.id.clone(),
            sandbox: desired.sandbox.clone(),
            kind: desired.id.kind.clone(),
            action,
            because: Vec::new(),
            drift: false,
            fields: Vec::new(),
            unchanged: 0,
            loses: Vec::new(),
            cuts: Vec::new(),
            origin: desired.origin.clone(),
            after: desired.after.clone(),
            steps: Vec::new(),
        }
    }

    /// The deletion of a resource nobody asks for any more.
    pub fn deletion(id: ResourceId, because: impl Into<String>) -> Self {
        Self {
            kind: id.kind.clone(),
            resource: id,
            sandbox: None,
            action: Action::Delete,
            because: vec![because.into()],
            drift: false,
            fields: Vec::new(),
            unchanged: 0,
            loses: Vec::new(),
            cuts: Vec::new(),
            origin: None,
            after: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// With a reason.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.because.push(reason.into());
        self
    }

    /// With a step that nothing takes back.
    #[must_use]
    pub fn step(mut self, title: impl Into<String>, op: crate::op::Op) -> Self {
        self.steps.push(Step { title: title.into(), op, undo: Vec::new(), commits: false });
        self
    }
}

/// A desired resource of `noun` whose whole specification is fixed at creation.
pub(crate) fn fixed<T: serde::Serialize>(
    context: &DesireContext<'_>,
    noun: &str,
    name: &str,
    origin: &str,
    spec: &T,
) -> Desired {
    let spec = to_spec(spec);
    let text = spec.to_string();
    Desired {
        id: ResourceId::new(noun, name),
        sandbox: None,
        origin: context.origin(origin),
        after: Vec::new(),
        hash: sha256(text.as_bytes()),
        spec,
        text,
        beside: None,
    }
}
