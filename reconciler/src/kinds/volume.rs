//! Named volumes: user data, created and never removed unless named.

use serde_json::json;

use super::{Change, Kind, PlanContext, fixed};
use crate::desired::{DesireContext, DesiredState, to_spec};
use crate::diff;
use crate::op::Op;
use crate::ownership;
use crate::plan::{Action, Loss};
use crate::resource::{ResourceId, label};
use crate::spec::NewObject;

/// The kind.
pub struct Volumes;

/// Its noun.
pub const NOUN: &str = "volume";

impl Kind for Volumes {
    fn noun(&self) -> &'static str {
        NOUN
    }

    fn desire(&self, context: &DesireContext<'_>, state: &mut DesiredState) {
        for name in context.config.volumes.keys() {
            let spec = json!({ "name": context.naming.object(name.as_str()) });
            state.resources.push(fixed(context, NOUN, name.as_str(), &format!("volumes.{name}"), &spec));
        }
    }

    fn compare(&self, context: &mut PlanContext<'_>) -> Vec<Change> {
        let mut changes = Vec::new();
        for desired in context.desired_of(NOUN) {
            let name = &desired.id.name;
            let object = context.naming.object(name);
            let found = context.snapshot.volumes.iter().find(|volume| volume.name == object);
            context.rests_on(&desired.id, Some(desired), found.map(to_spec));
            changes.push(match found {
                Some(volume) if ownership::is_ours(volume, context.naming, &Volumes) => {
                    let mut change = Change::of(desired, Action::Noop);
                    change.unchanged = 1;
                    change
                }
                Some(_) => Change::of(desired, Action::Forbidden)
                    .because(format!("volume {object} carries labels that do not belong to it")),
                None => {
                    context.wanted.volume_names.insert(object.clone());
                    if let Some(holder) = context.probes.held_volumes.get(&object) {
                        Change::of(desired, Action::Forbidden).because(held(NOUN, &object, holder))
                    } else {
                        let labels = ownership::labels(context.naming, NOUN, name, (context.new_uid)(), &desired.hash);
                        let mut change = Change::of(desired, Action::Create).because("not there").step(
                            format!("create volume {object}"),
                            Op::CreateVolume { object: NewObject { name: object, labels } },
                        );
                        change.fields = diff::created(&desired.spec);
                        change
                    }
                }
            });
        }
        changes.extend(leftovers(context));
        changes
    }
}

/// Volumes of ours that nothing asks for: kept, unless the user names them.
fn leftovers(context: &mut PlanContext<'_>) -> Vec<Change> {
    let desired = context.desired_names(NOUN);
    let mut changes = Vec::new();
    for volume in &context.snapshot.volumes {
        let Some(name) = volume.labels.get(label::NAME) else { continue };
        if desired.contains(name.as_str()) || !ownership::is_ours(volume, context.naming, &Volumes) {
            continue;
        }
        let id = ResourceId::new(NOUN, name);
        let consent = id.to_string();
        let destroyed = context.options.destroy.as_ref().map(|destroy| destroy.volumes);
        if destroyed == Some(true) || context.accepts(&consent) {
            context.rests_on(&id, None, Some(to_spec(volume)));
            let mut change = Change::deletion(id, context.why_gone())
                .step(format!("remove volume {}", volume.name), Op::RemoveVolume { volume: volume.name.clone() });
            // The engine refuses while a container has it.
            change.after = crate::kinds::AFTER_CONTAINERS.to_vec();
            if destroyed != Some(true) {
                // `--volumes` names them all; without it each has to be named.
                change.loses.push(Loss {
                    what: "volume".to_owned(),
                    detail: format!("everything in {}", volume.name),
                    count: None,
                    consent,
                });
            }
            changes.push(change);
        } else if destroyed.is_none() {
            context.warn(
                "volume-kept",
                format!("volume {} is no longer in the configuration; it is kept", volume.name),
                format!("remove it with: sbx apply --accept-loss {consent}"),
            );
        }
    }
    changes
}

/// Why a name cannot be used.
pub(crate) fn held(noun: &str, object: &str, holder: &str) -> String {
    format!("{noun} {object} exists and was not made for this project ({holder}); rename or remove it")
}
