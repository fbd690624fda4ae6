//! From desired and observed to a plan. Pure: clock, ids and randomness are passed in.

use std::collections::{BTreeMap, BTreeSet};

use crate::desired::{DesireContext, DesiredState};
use crate::elsewhere;
use crate::facts::{ProbeQuery, Probes, Query, Snapshot};
use crate::host_facts::HostFacts;
use crate::kinds::{AFTER_CONTAINERS, PlanContext, REGISTRY, container, image};
use crate::op::Op;
use crate::options::PlanOptions;
use crate::ownership;
use crate::plan::{Action, Basis, Change, FORMAT_VERSION, Loss, Notice, Plan, PlanEngine, Summary};
use crate::quotas::{self, Held, Wish};
use crate::resource::{Labels, Naming, ResourceId};
use crate::spec::{ImageSpec, NewObject};
use crate::unenforced;
use schema::config::{Config, Image, Pull};

/// What a snapshot for `config` has to hold.
pub fn query(config: &Config, host: &HostFacts) -> Query {
    let mut query = Query { project: config.project.to_string(), ..Query::default() };
    for sandbox in config.sandboxes.values() {
        for tree in &sandbox.worktrees {
            query.clones.insert(tree.clone.clone());
            query.worktrees.insert(tree.path.clone(), tree.clone.clone());
        }
    }
    query.policies = config.sandboxes.values().any(|sandbox| !sandbox.egress.policy.is_empty());
    for image in config.images.values() {
        if let Image::Ref { reference, .. } = image {
            query.images.insert(match host.locked.get(reference) {
                Some(digest) => image::pinned(reference, digest),
                None => reference.clone(),
            });
        }
    }
    query
}

/// What `apply` does before it plans: `pull: always` asks the registry each time, and only a pulled image can move.
/// Each with its name in the configuration.
pub fn pulls<'a>(config: &'a Config, host: &HostFacts) -> Vec<(&'a schema::Name, Op)> {
    let mut used: BTreeSet<_> = config.sandboxes.values().map(|sandbox| &sandbox.image).collect();
    let mut look_at: Vec<_> = used.iter().copied().collect();
    while let Some(name) = look_at.pop() {
        // What commands are run in is used as much as what they make.
        if let Some(Image::Setup { from, .. }) = config.images.get(name)
            && used.insert(from)
        {
            look_at.push(from);
        }
    }
    config
        .images
        .iter()
        .filter(|(name, _)| used.contains(name))
        .filter_map(|(name, image)| match image {
            Image::Ref { reference, pull: Pull::Always } if !host.locked.contains_key(reference) => {
                let object = NewObject { name: reference.clone(), labels: Labels::new() };
                let spec = ImageSpec::Ref { reference: reference.clone(), digest: None, pull: "always".to_owned() };
                Some((name, Op::CreateImage { object, spec }))
            }
            _ => None,
        })
        .collect()
}

/// Says what is desired. Pure.
pub fn desire(config: &Config, host: &HostFacts, snapshot: &Snapshot) -> DesiredState {
    let naming = Naming::new(config.project.as_str());
    let context = DesireContext { config, host, snapshot, naming: &naming };
    let mut state = DesiredState {
        project: config.project.to_string(),
        quotas: config.quotas,
        resources: Vec::new(),
        notices: Vec::new(),
        owners: quotas::owners(config),
        sources: host.identities.clone(),
    };
    for kind in REGISTRY {
        kind.desire(&context, &mut state);
    }
    state.notices.extend(unenforced::notices(&context));
    state
}

/// A plan, and what has to be looked at before it is complete.
#[derive(Debug)]
pub struct Draft {
    /// The plan as far as is known.
    pub plan: Plan,
    /// What to look at; empty when the plan is complete.
    pub wanted: ProbeQuery,
}

/// Plans once. When [`Draft::wanted`] is not empty and has not been probed yet, probe it and plan again with `probes`.
///
/// # Guarantees
/// Same arguments, same plan. Objects that are not ours are never in a step.
pub fn plan(
    desired: &DesiredState,
    snapshot: &Snapshot,
    probes: &Probes,
    options: &PlanOptions,
    generated_at: &str,
    new_uid: &mut dyn FnMut() -> String,
) -> Draft {
    let project = desired.project.as_str();
    let naming = Naming::new(project);
    let containers = ownership::containers(snapshot, &naming, &options.seen);
    let mut context = PlanContext {
        desired,
        snapshot,
        probes,
        options,
        naming: &naming,
        containers: &containers,
        new_uid,
        wanted: ProbeQuery::default(),
        notices: Vec::new(),
        basis: BTreeMap::new(),
    };
    let mut changes: Vec<Change> = REGISTRY.iter().flat_map(|kind| kind.compare(&mut context)).collect();
    let wanted = std::mem::take(&mut context.wanted);
    let mut warnings =
        if options.destroy.is_some() || options.state_only { Vec::new() } else { desired.notices.clone() };
    warnings.append(&mut context.notices);
    let basis = std::mem::take(&mut context.basis);
    recall(&mut changes, &basis, &options.applied);
    let partial = !options.targets.is_empty();
    if options.state_only {
        changes.retain(|change| change.sandbox.as_ref().is_some_and(|sandbox| options.targets.contains(sandbox)));
        changes.retain(|change| change.kind == container::NOUN);
    } else if partial {
        changes = targeted(changes, &options.targets);
        warnings.push(Notice {
            code: "sbx::partial-plan".to_owned(),
            severity: "warning".to_owned(),
            message: "this plan is partial: --target leaves everything else as it is".to_owned(),
            help: None,
            origin: None,
        });
    }
    if options.refresh_only {
        changes.retain(|change| change.drift || matches!(change.action, Action::Noop));
    }
    resolve_order(&mut changes);
    warnings.extend(elsewhere::notices(&changes, snapshot));
    if options.destroy.is_none() {
        let wish = Wish { project, quotas: desired.quotas, owners: &desired.owners };
        warnings.extend(quotas::exceeded(&wish, &changes, snapshot, &Held::new()));
    }
    let kept: BTreeSet<_> = changes.iter().map(|change| change.resource.clone()).collect();
    let basis = basis.into_values().filter(|basis| kept.contains(&basis.resource)).collect();
    Draft {
        plan: Plan {
            format_version: FORMAT_VERSION.to_owned(),
            project: project.to_owned(),
            generated_at: generated_at.to_owned(),
            engine: PlanEngine { kind: snapshot.engine.kind.clone(), version: snapshot.engine.version.clone() },
            summary: summarize(&changes),
            changes,
            warnings,
            partial,
            basis,
        },
        wanted,
    }
}

/// Tells as drift what was there when the very same was applied before, and is not there now.
fn recall(changes: &mut [Change], basis: &BTreeMap<ResourceId, Basis>, applied: &BTreeMap<ResourceId, String>) {
    for change in changes.iter_mut().filter(|change| change.action == Action::Create && !change.drift) {
        let Some(Basis { desired: Some(desired), observed: None, .. }) = basis.get(&change.resource) else { continue };
        if applied.get(&change.resource) == Some(desired) {
            change.drift = true;
            change.because = vec!["it was there, and was removed outside of sbx".to_owned()];
        }
    }
}

fn summarize(changes: &[Change]) -> Summary {
    let mut summary = Summary::default();
    for change in changes {
        *match change.action {
            Action::Create => &mut summary.create,
            Action::Update => &mut summary.update,
            Action::Replace => &mut summary.replace,
            Action::Delete => &mut summary.delete,
            Action::Noop => &mut summary.noop,
            Action::Forbidden => &mut summary.forbidden,
        } += 1;
    }
    summary
}

/// The changes of the targets and, transitively, of what they wait for.
fn targeted(changes: Vec<Change>, targets: &BTreeSet<String>) -> Vec<Change> {
    let mut wanted: BTreeSet<ResourceId> = changes
        .iter()
        .filter(|change| change.sandbox.as_ref().is_some_and(|sandbox| targets.contains(sandbox)))
        .map(|change| change.resource.clone())
        .collect();
    loop {
        let more: BTreeSet<ResourceId> = changes
            .iter()
            .filter(|change| wanted.contains(&change.resource))
            .flat_map(|change| change.after.iter().cloned())
            .filter(|id| !wanted.contains(id))
            .collect();
        if more.is_empty() {
            return changes.into_iter().filter(|change| wanted.contains(&change.resource)).collect();
        }
        wanted.extend(more);
    }
}

/// Replaces [`AFTER_CONTAINERS`] by the container changes of this plan, and drops what the plan does not hold.
fn resolve_order(changes: &mut [Change]) {
    let containers: Vec<ResourceId> = changes
        .iter()
        .filter(|change| change.kind == container::NOUN && !change.steps.is_empty())
        .map(|change| change.resource.clone())
        .collect();
    let present: BTreeSet<ResourceId> = changes.iter().map(|change| change.resource.clone()).collect();
    for change in changes {
        if change.after == *AFTER_CONTAINERS {
            change.after.clone_from(&containers);
        }
        change.after.retain(|id| present.contains(id));
        change.after.sort();
        change.after.dedup();
    }
}

/// What moved between the making of `saved` and now: resources whose basis differs, or that would lose more.
pub fn moved(saved: &Plan, now: &Plan) -> Vec<String> {
    let index = |plan: &Plan| -> BTreeMap<ResourceId, (Option<String>, Option<String>)> {
        plan.basis
            .iter()
            .map(|basis| (basis.resource.clone(), (basis.desired.clone(), basis.observed.clone())))
            .collect()
    };
    let (before, after) = (index(saved), index(now));
    let ids: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let mut moved: BTreeMap<&ResourceId, String> = ids
        .into_iter()
        .filter_map(|id| {
            let what = match (before.get(id), after.get(id)) {
                (Some(old), Some(new)) if old == new => return None,
                (Some(old), Some(new)) if old.0 != new.0 => "its configuration changed",
                (Some(_), Some(_)) => "its state changed",
                (Some(_), None) => "it is no longer part of the plan",
                (None, _) => "it is new",
            };
            Some((id, what.to_owned()))
        })
        .collect();
    for change in &now.changes {
        let shown = saved.changes.iter().find(|shown| shown.resource == change.resource);
        let more = grown(shown.map_or(&[], |shown| shown.loses.as_slice()), &change.loses);
        if !more.is_empty() {
            let more = || format!("what would be lost has changed: {}", more.join("; "));
            moved.entry(&change.resource).or_insert_with(more);
        }
    }
    moved.into_iter().map(|(id, what)| format!("{id}: {what}")).collect()
}

/// What `now` has that `shown` has not, or not as much of. To lose less than was consented to is fine.
fn grown(shown: &[Loss], now: &[Loss]) -> Vec<String> {
    let told = |loss: &Loss| {
        if loss.detail.is_empty() { loss.what.clone() } else { format!("{}, {}", loss.what, loss.detail) }
    };
    let of = |losses: &[Loss], what: &Loss| {
        let same = losses.iter().filter(|loss| (&loss.what, &loss.consent) == (&what.what, &what.consent));
        same.filter_map(|loss| loss.count).sum::<u64>()
    };
    let mut left: Vec<&Loss> = shown.iter().collect();
    let mut is_more = |loss: &Loss| {
        if loss.count.is_some() {
            return of(now, loss) > of(shown, loss);
        }
        match left.iter().position(|other| *other == loss) {
            // Two of the same are two.
            Some(index) => {
                left.swap_remove(index);
                false
            }
            None => true,
        }
    };
    now.iter().filter(|loss| is_more(loss)).map(told).collect()
}
