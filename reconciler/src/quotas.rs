//! How many sandboxes there may be on an engine, over all projects, and who holds them.

use std::collections::{BTreeMap, BTreeSet};

use schema::Config;
use schema::config::Quotas;

use crate::facts::Snapshot;
use crate::kinds::container;
use crate::ownership;
use crate::plan::{Action, Change, Notice};
use crate::resource::label;

/// Sandboxes by project and name, with their owners.
pub type Held = BTreeMap<(String, String), String>;

/// What one project asks for.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The project.
    pub project: &'a str,
    /// How many there may be, as it says.
    pub quotas: Quotas,
    /// Owner of each of its sandboxes.
    pub owners: &'a BTreeMap<String, String>,
}

/// Owner of each sandbox of `config`.
pub fn owners(config: &Config) -> BTreeMap<String, String> {
    config.sandboxes.values().map(|sandbox| (sandbox.name.to_string(), sandbox.owner.clone())).collect()
}

/// Sandboxes that `changes` give to an owner who does not hold them yet, made anew or taken from another.
pub fn gained(wish: &Wish<'_>, changes: &[Change], snapshot: &Snapshot) -> Held {
    let held = there(snapshot);
    made(wish, changes)
        .map(|(_, key, owner)| (key, owner))
        .filter(|(key, owner)| held.get(key) != Some(owner))
        .collect()
}

/// Which quotas would not hold, with who holds what. `others`: what runs of other projects are about to create.
///
/// Checked only where something is gained: what runs is never held hostage.
pub fn exceeded(wish: &Wish<'_>, changes: &[Change], snapshot: &Snapshot, others: &Held) -> Vec<Notice> {
    let gained = gained(wish, changes, snapshot);
    if gained.is_empty() {
        return Vec::new();
    }
    let mut held = there(snapshot);
    held.extend(others.clone());
    // An older object, which goes by its own name, is no sandbox.
    let gone = changes.iter().filter(|change| change.kind == container::NOUN && change.action == Action::Delete);
    for change in gone.filter(|change| change.resource.deposed.is_none()) {
        held.remove(&(wish.project.to_owned(), change.resource.name.clone()));
    }
    held.extend(made(wish, changes).map(|(_, key, owner)| (key, owner)));
    let list = |owner: Option<&str>| {
        held.iter()
            .filter(|(_, holder)| owner.is_none_or(|owner| owner == holder.as_str()))
            .map(|((project, name), holder)| match owner {
                Some(_) => format!("{project}/{name}"),
                None => format!("{project}/{name} ({holder})"),
            })
            .collect::<Vec<_>>()
    };
    let mut notices = Vec::new();
    let mut refuse = |message: String, field: &str, of: &dyn Fn(&Change, &str) -> bool| {
        let first = made(wish, changes).find(|(change, key, owner)| gained.contains_key(key) && of(change, owner));
        notices.push(Notice {
            code: "sbx::quota".to_owned(),
            severity: "error".to_owned(),
            message,
            help: Some(format!("destroy a sandbox, or raise quotas.{field}")),
            origin: first.and_then(|(change, ..)| change.origin.clone()),
        });
    };
    for owner in gained.values().collect::<BTreeSet<_>>() {
        let names = list(Some(owner));
        let ceiling = wish.quotas.per_owner;
        if names.len() > ceiling as usize {
            let message =
                format!("{owner} would hold {} sandboxes, {ceiling} are allowed: {}", names.len(), names.join(", "));
            refuse(message, "perOwner", &|_, other| other == owner);
        }
    }
    let adds = |change: &Change| change.action == Action::Create;
    let ceiling = wish.quotas.total;
    if made(wish, changes).any(|(change, ..)| adds(change)) && held.len() > ceiling as usize {
        let names = list(None);
        let message = format!("there would be {} sandboxes, {ceiling} are allowed: {}", names.len(), names.join(", "));
        refuse(message, "total", &|change, _| adds(change));
    }
    notices
}

/// The sandboxes of all projects that are there. Labels of an image make no sandbox.
fn there(snapshot: &Snapshot) -> Held {
    let ours = snapshot.containers.iter().filter(|facts| ownership::is_labelled(snapshot, facts));
    let get = |labels: &crate::resource::Labels, key| labels.get(key).cloned().unwrap_or_default();
    ours.filter(|facts| get(&facts.labels, label::KIND) == container::NOUN)
        .map(|facts| &facts.labels)
        .map(|labels| ((get(labels, label::PROJECT), get(labels, label::NAME)), get(labels, label::OWNER)))
        .collect()
}

/// Sandboxes whose containers `changes` make, with the owners they have then. Whatever else happens to one leaves it with the
/// owner it has.
fn made<'a>(wish: &Wish<'a>, changes: &'a [Change]) -> impl Iterator<Item = (&'a Change, (String, String), String)> {
    let Wish { project, owners, .. } = *wish;
    let making = |change: &&Change| matches!(change.action, Action::Create | Action::Replace);
    changes.iter().filter(|change| change.kind == container::NOUN).filter(making).map(move |change| {
        let name = change.resource.name.clone();
        let owner = owners.get(&name).cloned().unwrap_or_default();
        (change, (project.to_owned(), name), owner)
    })
}
