//! What is lost with a container, and with a stop.

use std::path::{Path, PathBuf};

use super::applied_mounts;
use crate::facts::{ContainerFacts, ContainerProbe, State};
use crate::kinds::PlanContext;
use crate::plan::Loss;
use crate::resource::ResourceId;
use crate::spec::MountOrigin;

/// Writable layer, exec sessions and memory.
pub fn of_removal(context: &mut PlanContext<'_>, id: &ResourceId, container: &ContainerFacts) -> Vec<Loss> {
    let mut losses = of_stop(context, id, container);
    if let Some(probe) = context.probes.containers.get(&container.id) {
        let ContainerProbe { changed_files, changed_bytes, exec_sessions: _, tmpfs: _, restart: _, unknown: _ } = probe;
        if *changed_files > 0 {
            let loss = Loss {
                what: "writable layer".to_owned(),
                detail: format!("{}, {}", count(*changed_files, "file"), bytes(*changed_bytes)),
                count: Some(*changed_files),
                consent: id.to_string(),
            };
            losses.insert(0, loss);
        }
    }
    losses
}

/// Exec sessions and memory.
pub fn of_stop(context: &mut PlanContext<'_>, id: &ResourceId, container: &ContainerFacts) -> Vec<Loss> {
    context.wanted.containers.insert(container.id.clone());
    let targets = tmpfs_targets(container);
    if !targets.is_empty() && matches!(container.state, State::Running | State::Paused) {
        context.wanted.tmpfs.insert(container.id.clone(), targets);
    }
    let Some(probe) = context.probes.containers.get(&container.id) else { return Vec::new() };
    let consent = id.to_string();
    let sessions = probe.exec_sessions.iter().map(|command| Loss {
        what: "exec session".to_owned(),
        detail: command.clone(),
        count: None,
        consent: consent.clone(),
    });
    let memory = probe.tmpfs.iter().filter(|(_, (files, _))| *files > 0).map(|(target, (files, size))| Loss {
        what: "tmpfs".to_owned(),
        detail: format!("{}: {}, {}", target.display(), count(*files, "file"), bytes(*size)),
        count: Some(*files),
        consent: consent.clone(),
    });
    // What could not be looked at may be lost: nobody can say that it is not.
    let unknown = probe.unknown.iter().map(|why| Loss {
        what: "what could not be looked at".to_owned(),
        detail: why.clone(),
        count: None,
        consent: consent.clone(),
    });
    sessions.chain(memory).chain(unknown).collect()
}

/// Memory mounts of a container that hold a user's files: `/run` itself holds only what engine and init put there.
fn tmpfs_targets(container: &ContainerFacts) -> Vec<PathBuf> {
    applied_mounts(container)
        .into_iter()
        .filter(|mount| matches!(mount.source, MountOrigin::Tmpfs { .. }) && mount.target != Path::new("/run"))
        .map(|mount| mount.target)
        .collect()
}

fn count(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Binary units with one decimal.
#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
fn bytes(size: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = size as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{size} B") } else { format!("{value:.1} {}", units[unit]) }
}
