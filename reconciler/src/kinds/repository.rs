//! Bare clones that worktrees belong to. User data: made and adopted, never removed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Change, Kind, PlanContext, fixed};
use crate::desired::{DesireContext, DesiredState, to_spec};
use crate::diff;
use crate::facts::Observed;
use crate::git::{redact, same_remote};
use crate::op::Op;
use crate::plan::Action;
use crate::resource::ResourceId;

/// The kind.
pub struct Repositories;

/// Its noun.
pub const NOUN: &str = "repository";

/// Identity of a clone: its place, which is unique on the host.
pub fn id(clone: &Path) -> ResourceId {
    ResourceId::new(NOUN, clone.display().to_string())
}

/// `spec` as it is shown: an address may hold a password.
pub(crate) fn shown(spec: &Value, field: &str) -> Value {
    let mut spec = spec.clone();
    if let Some(Value::String(address)) = spec.get_mut(field) {
        *address = redact(address);
    }
    spec
}

impl Kind for Repositories {
    fn noun(&self) -> &'static str {
        NOUN
    }

    fn desire(&self, context: &DesireContext<'_>, state: &mut DesiredState) {
        let mut seen: BTreeMap<&PathBuf, &str> = BTreeMap::new();
        for sandbox in context.config.sandboxes.values() {
            for (index, worktree) in sandbox.worktrees.iter().enumerate() {
                let place = format!("sandboxes.{}.worktrees.{index}", sandbox.name);
                match seen.insert(&worktree.clone, &worktree.repo) {
                    None => {
                        let spec = json!({ "remote": worktree.repo, "path": worktree.clone });
                        let mut desired = fixed(context, NOUN, "", &place, &spec);
                        desired.id = id(&worktree.clone);
                        state.resources.push(desired);
                    }
                    Some(other) if other != worktree.repo => state.notices.push(context.error(
                        "clone-conflict",
                        &place,
                        format!(
                            "{} cannot hold clones of both {} and {}",
                            worktree.clone.display(),
                            redact(other),
                            redact(&worktree.repo)
                        ),
                        "give one of them another `clone:`",
                    )),
                    Some(_) => {}
                }
            }
        }
    }

    fn compare(&self, context: &mut PlanContext<'_>) -> Vec<Change> {
        let mut changes = Vec::new();
        for desired in context.desired_of(NOUN) {
            let clone = PathBuf::from(&desired.id.name);
            let remote = desired.spec["remote"].as_str().unwrap_or_default().to_owned();
            let found = context.snapshot.repositories.get(&clone);
            context.rests_on(&desired.id, Some(desired), found.map(to_spec));
            changes.push(match found {
                Some(Observed::Present(facts)) if !facts.bare => Change::of(desired, Action::Forbidden)
                    .because(format!("{} is a repository with a work tree of its own", clone.display())),
                Some(Observed::Present(facts)) if !same_remote(&facts.remote, &remote) => {
                    Change::of(desired, Action::Forbidden).because(format!(
                        "{} is a clone of {}, not of {}; give this one another `clone:`",
                        clone.display(),
                        redact(&facts.remote),
                        redact(&remote)
                    ))
                }
                Some(Observed::Present(_)) => {
                    let mut change = Change::of(desired, Action::Noop);
                    change.unchanged = 2;
                    change
                }
                Some(Observed::Unknown(why)) => {
                    Change::of(desired, Action::Forbidden).because(format!("{} cannot be read: {why}", clone.display()))
                }
                Some(Observed::Absent) | None => {
                    let mut change = Change::of(desired, Action::Create).because("not there").step(
                        format!("clone {}", redact(&remote)),
                        Op::CloneRepository { repo: remote.clone(), clone },
                    );
                    change.fields = diff::created(&shown(&desired.spec, "remote"));
                    change
                }
            });
        }
        changes
    }
}
