//! Git worktrees: user data at the same path inside and outside.

use std::path::Path;

use super::{Change, Kind, PlanContext, container, repository};
use crate::desired::{DesireContext, Desired, DesiredState, to_spec};
use crate::diff;
use crate::facts::{Observed, WorktreeFacts, WorktreePlace};
use crate::git;
use crate::op::Op;
use crate::plan::{Action, Loss};
use crate::resource::{ResourceId, sha256};
use crate::spec::WorktreeSpec;

/// The kind.
pub struct Worktrees;

/// Its noun.
pub const NOUN: &str = "worktree";

/// Identity of a worktree: its place.
pub fn id(path: &Path) -> ResourceId {
    ResourceId::new(NOUN, path.display().to_string())
}

/// The specification of a configured worktree.
pub fn spec(worktree: &schema::config::Worktree) -> WorktreeSpec {
    let schema::config::Worktree { repo, branch, base, path, clone } = worktree;
    WorktreeSpec {
        repo: repo.clone(),
        clone: clone.clone(),
        branch: branch.clone(),
        base: base.clone(),
        path: path.clone(),
    }
}

impl Kind for Worktrees {
    fn noun(&self) -> &'static str {
        NOUN
    }

    fn desire(&self, context: &DesireContext<'_>, state: &mut DesiredState) {
        for sandbox in context.config.sandboxes.values() {
            for (index, worktree) in sandbox.worktrees.iter().enumerate() {
                let spec = to_spec(&spec(worktree));
                let text = spec.to_string();
                state.resources.push(Desired {
                    id: id(&worktree.path),
                    sandbox: Some(sandbox.name.to_string()),
                    origin: context.origin(&format!("sandboxes.{}.worktrees.{index}", sandbox.name)),
                    after: vec![repository::id(&worktree.clone)],
                    hash: sha256(text.as_bytes()),
                    spec,
                    text,
                    beside: None,
                });
            }
        }
    }

    fn compare(&self, context: &mut PlanContext<'_>) -> Vec<Change> {
        if let Some(destroy) = &context.options.destroy {
            return if destroy.worktrees { removals(context) } else { Vec::new() };
        }
        let mut changes = Vec::new();
        for desired in context.desired_of(NOUN) {
            let spec: WorktreeSpec =
                serde_json::from_value(desired.spec.clone()).expect("made by `desire` of this kind");
            let found = context.snapshot.worktrees.get(&spec.path);
            // Dirty files and commits come and go while people work; a plan does not rest on them.
            context.rests_on(&desired.id, Some(desired), found.map(|found| to_spec(&without_work(found))));
            changes.push(compare(context, desired, spec, found));
        }
        changes
    }
}

fn without_work(place: &Observed<WorktreePlace>) -> Observed<WorktreePlace> {
    let strip = |facts: &WorktreeFacts| WorktreeFacts { dirty: None, ignored: None, unpushed: None, ..facts.clone() };
    match place {
        Observed::Present(WorktreePlace::Worktree(facts)) => Observed::Present(WorktreePlace::Worktree(strip(facts))),
        Observed::Present(WorktreePlace::Missing(facts)) => Observed::Present(WorktreePlace::Missing(strip(facts))),
        other => other.clone(),
    }
}

fn holder(context: &PlanContext<'_>, desired: &Desired) -> String {
    format!("{}/{}", context.naming.project(), desired.sandbox.as_deref().unwrap_or_default())
}

fn compare(
    context: &mut PlanContext<'_>,
    desired: &Desired,
    spec: WorktreeSpec,
    found: Option<&Observed<WorktreePlace>>,
) -> Change {
    let place = spec.path.display().to_string();
    let holder = holder(context, desired);
    let forbid = |why: String| Change::of(desired, Action::Forbidden).because(why);
    match found {
        Some(Observed::Unknown(why)) => forbid(format!("{place} cannot be read: {why}")),
        Some(Observed::Present(WorktreePlace::Other(what))) => {
            forbid(format!("{place} is {what}, not a worktree of {}", spec.clone.display()))
        }
        Some(Observed::Present(WorktreePlace::Worktree(facts))) if facts.clone != spec.clone => {
            forbid(format!("{place} is a worktree of {}, not of {}", facts.clone.display(), spec.clone.display()))
        }
        Some(Observed::Present(WorktreePlace::Worktree(facts))) => {
            let held_by = facts.lock.as_deref().and_then(|reason| reason.strip_prefix("sbx "));
            let from = match held_by.filter(|other| *other != holder) {
                None => None,
                Some(other) => match taken_over(context, desired, other) {
                    Ok(after) => Some((other.to_owned(), after)),
                    Err(why) => return forbid(why),
                },
            };
            if facts.branch.as_deref() != Some(&spec.branch) {
                let branch = facts.branch.as_deref().unwrap_or("a detached HEAD");
                if held_by.is_none() {
                    return forbid(format!("{place} has {branch} checked out, not {}", spec.branch));
                }
                // Switching branches is work: it is reported, never undone.
                context.warn(
                    "worktree-branch",
                    format!("{place} has {branch} checked out; the configuration says {}", spec.branch),
                    "check the branch out there, or change `branch:`",
                );
            }
            if let Some((other, after)) = from {
                let mut change = Change::of(desired, Action::Update)
                    .because(format!("taken over from sandbox {other}"))
                    .step(format!("lock worktree {place}"), Op::LockWorktree { spec, holder, from: Some(other) });
                change.after.extend(after);
                return change;
            }
            if facts.lock.is_none() {
                let mut change = Change::of(desired, Action::Update)
                    .because("not locked against pruning")
                    .step(format!("lock worktree {place}"), Op::LockWorktree { spec, holder, from: None });
                change.drift = true;
                return change;
            }
            let mut change = Change::of(desired, Action::Noop);
            change.unchanged = 5;
            change
        }
        Some(Observed::Absent | Observed::Present(WorktreePlace::Empty | WorktreePlace::Missing(_))) | None => {
            if let Some(Observed::Present(WorktreePlace::Missing(facts))) = found
                && let Some(other) = facts.lock.as_deref().and_then(|reason| reason.strip_prefix("sbx "))
                && other != holder
                && let Err(why) = taken_over(context, desired, other)
            {
                return forbid(why);
            }
            let elsewhere = context
                .snapshot
                .checkouts
                .get(&spec.clone)
                .and_then(|branches| branches.get(&spec.branch))
                .filter(|path| **path != spec.path);
            if let Some(path) = elsewhere {
                return forbid(format!("branch {} is checked out in {} already", spec.branch, path.display()));
            }
            let deleted = matches!(found, Some(Observed::Present(WorktreePlace::Missing(_))));
            let mut change = Change::of(desired, Action::Create)
                .because(if deleted { "its directory was deleted" } else { "not there" })
                .step(format!("add worktree {place}"), Op::AddWorktree { spec, holder });
            change.drift = deleted;
            change.fields = diff::created(&repository::shown(&desired.spec, "repo"));
            change
        }
    }
}

/// Whether `desired` may have what `other` (`project/sandbox`) has locked, and the changes that come first: within a
/// project, when that sandbox no longer asks for it; from another project, when the user names it.
///
/// # Errors
/// Why not.
fn taken_over(context: &PlanContext<'_>, desired: &Desired, other: &str) -> Result<Vec<ResourceId>, String> {
    let (project, sandbox) = other.split_once('/').unwrap_or((other, ""));
    let place = &desired.id.name;
    if project != context.naming.project() {
        let consent = desired.id.to_string();
        return if context.accepts(&consent) {
            Ok(Vec::new())
        } else {
            Err(format!("{place} belongs to sandbox {other}; take it over with --accept-loss {consent}"))
        };
    }
    let asks = |resource: &Desired| resource.id == desired.id && resource.sandbox.as_deref() == Some(sandbox);
    if context.desired_of(NOUN).any(asks) {
        return Err(format!("{place} belongs to sandbox {other}"));
    }
    // One that goes is gone before another works there. One that stays moves on in a change of its own, which may in
    // turn wait for this sandbox.
    let gone = ResourceId::new(container::NOUN, sandbox);
    Ok(if context.desired_names(container::NOUN).contains(sandbox) { Vec::new() } else { vec![gone] })
}

/// `destroy --worktrees`: those of the configuration that are there and ours.
fn removals(context: &mut PlanContext<'_>) -> Vec<Change> {
    let mut changes = Vec::new();
    for desired in context.desired.resources.iter().filter(|resource| resource.id.kind == NOUN) {
        let spec: WorktreeSpec = serde_json::from_value(desired.spec.clone()).expect("made by `desire` of this kind");
        // One that is missing lost its directory to a removal that was cut short, or to somebody: the rest goes too.
        let Some(Observed::Present(WorktreePlace::Worktree(facts) | WorktreePlace::Missing(facts))) =
            context.snapshot.worktrees.get(&spec.path)
        else {
            continue;
        };
        // Whichever sandbox of the project it was last: it may have been renamed since.
        let ours = format!("sbx {}/", context.naming.project());
        if facts.clone != spec.clone || !facts.lock.as_deref().is_some_and(|reason| reason.starts_with(&ours)) {
            continue;
        }
        context.wanted.worktrees.insert(spec.path.clone(), spec.clone.clone());
        let consent = desired.id.to_string();
        let mut change = Change::of(desired, Action::Delete).because("destroyed by name");
        // What runs in a sandbox may still be writing there.
        change.after = crate::kinds::AFTER_CONTAINERS.to_vec();
        let look = match context.probes.worktrees.get(&spec.path) {
            Some(Observed::Present(WorktreePlace::Worktree(facts))) => facts,
            _ => facts,
        };
        let missing =
            matches!(context.snapshot.worktrees.get(&spec.path), Some(Observed::Present(WorktreePlace::Missing(_))));
        let mut lose = |what: &str, count: Option<u32>, one: &str, many: &str| {
            let detail = match count {
                Some(0) => return,
                // No files are left; commits that only it knows are refused when it is removed.
                None if missing => return,
                Some(1) => format!("1 {one}"),
                Some(count) => format!("{count} {many}"),
                None => format!("{many} could not be counted"),
            };
            change.loses.push(Loss {
                what: what.to_owned(),
                detail,
                count: count.map(u64::from),
                consent: consent.clone(),
            });
        };
        lose("uncommitted files", look.dirty, "file", "files");
        lose("ignored files", look.ignored, "file or directory", "files or directories");
        lose("unpushed commits", look.unpushed, "commit", "commits");
        let consented = context.accepts(&consent).then(|| look.unsaved());
        context.rests_on(&desired.id, None, Some(to_spec(facts)));
        changes.push(
            change.step(format!("remove worktree {}", spec.path.display()), Op::RemoveWorktree { spec, consented }),
        );
    }
    changes
}

/// What a sandbox sees of its worktrees.
pub fn mounts(snapshot: &crate::facts::Snapshot, specs: &[WorktreeSpec]) -> Vec<crate::spec::MountSpec> {
    let admin = |spec: &WorktreeSpec| match snapshot.worktrees.get(&spec.path) {
        // One that was made by hand keeps the name git gave it.
        Some(Observed::Present(WorktreePlace::Worktree(facts))) if facts.clone == spec.clone => facts.admin.clone(),
        _ => git::admin_name(&spec.path),
    };
    let names: Vec<String> = specs.iter().map(admin).collect();
    let named: Vec<_> = specs.iter().zip(names.iter().map(String::as_str)).collect();
    git::mounts(&named)
}
