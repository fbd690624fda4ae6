//! Containers that nobody wants any more.

use super::{NOUN, applied_spec, loss, summary};
use crate::diff;
use crate::facts::ContainerFacts;
use crate::kinds::{Change, PlanContext};
use crate::op::Op;
use crate::ownership;
use crate::plan::Step;
use crate::resource::{ResourceId, label};

/// Containers and stop markers of ours that nothing asks for.
pub(super) fn leftovers(context: &mut PlanContext<'_>) -> Vec<Change> {
    let names = context.desired_names(NOUN);
    let mut changes = Vec::new();
    let owned = context.containers;
    for (name, container) in owned.current.iter().chain(&owned.successor) {
        // One that somebody has set aside is told below.
        if names.contains(name) || ownership::is_renamed(container, context.naming, name) {
            continue;
        }
        let successor = owned.current.get(name).is_some_and(|current| current.id != container.id);
        let id = if successor { ResourceId::deposed(NOUN, *name, "next") } else { ResourceId::new(NOUN, *name) };
        let because = context.why_gone();
        context.rests_on(&id, None, Some(summary(container)));
        let mut change = removal(id.clone(), because, container);
        change.sandbox = Some((*name).to_owned());
        change.loses = loss::of_removal(context, &id, container);
        change.fields = diff::deleted(&applied_spec(container));
        changes.push(change);
    }
    let set_aside = owned.current.iter().filter(|(name, it)| ownership::is_renamed(it, context.naming, name));
    for (name, stray) in set_aside.chain(&owned.strays).filter(|(name, _)| !names.contains(**name)) {
        context.warn(
            "stray",
            format!("{} carries the labels of sandbox {name} under another name; it is left alone", stray.name),
            format!("remove it if nobody needs it: podman rm {}", stray.name),
        );
    }
    for builder in &owned.builders {
        let key = builder.id.get(..12).unwrap_or(&builder.id);
        let name = builder.labels.get(label::NAME).cloned().unwrap_or_default();
        changes.push(removal(ResourceId::deposed(NOUN, name, key), "left by a build that was cut short", builder));
    }
    for volume in &context.snapshot.volumes {
        let Some(name) = volume.labels.get(label::NAME) else { continue };
        if names.contains(name.as_str()) || !ownership::is_stop_marker(volume, context.naming) {
            continue;
        }
        let op = Op::RemoveVolume { volume: volume.name.clone() };
        let title = "forget that it was stopped on purpose";
        let id = ResourceId::new(NOUN, name.as_str());
        match changes.iter_mut().find(|change| change.resource == id) {
            Some(change) => change.steps.push(Step { title: title.to_owned(), op, undo: Vec::new(), commits: false }),
            None => changes.push(Change::deletion(id, context.why_gone()).step(title, op)),
        }
    }
    changes
}

fn removal(id: ResourceId, because: &str, container: &ContainerFacts) -> Change {
    Change::deletion(id, because)
        .step(format!("stop {}", container.name), Op::StopContainer { container: container.id.clone() })
        .step(format!("remove {}", container.name), Op::RemoveContainer { container: container.id.clone(), uid: None })
}
