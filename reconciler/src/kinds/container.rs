//! Containers: one per sandbox.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize as _;
use serde_json::Value;

use super::volume::held;
use super::{Change, Kind, PlanContext, network, policy, secret, volume, worktree};
use crate::desired::{DesireContext, Desired, DesiredState, spec_hash, to_spec};
use crate::diff;
use crate::facts::{ContainerFacts, State};
use crate::op::{Entry, Op, Source};
use crate::options::Intent;
use crate::ownership;
use crate::plan::{Action, Loss, Step};
use crate::resource::{Labels, ResourceId, label};
use crate::spec::{ContainerSpec, LimitSpec, MountOrigin, MountSpec, NewObject};

mod build;
pub mod etc;
mod leftovers;
mod live;
mod loss;
mod mounts;
mod replacement;
pub mod trust;

pub use build::DEFAULT_NETWORK;
pub use mounts::{INIT, SOCKET, sockets};

/// The kind.
pub struct Containers;

/// Its noun.
pub const NOUN: &str = "container";

impl Kind for Containers {
    fn noun(&self) -> &'static str {
        NOUN
    }

    fn desire(&self, context: &DesireContext<'_>, state: &mut DesiredState) {
        let mut images = build::Images::default();
        let served = policy::served(&state.resources);
        for sandbox in context.config.sandboxes.values() {
            let image = images.of(context, &sandbox.image, &sandbox.user);
            let mut after = vec![image.id.clone()];
            let mut spec = build::container(context, sandbox, image.used.clone(), &mut state.notices);
            // Where nobody serves it, nobody would let it in.
            spec.gate = served.contains(sandbox.name.as_str());
            let ours = |object: &str| {
                let prefix = context.naming.object("");
                object.strip_prefix(&prefix).map(str::to_owned)
            };
            after.extend(spec.mounts.iter().filter_map(|mount| match &mount.source {
                MountOrigin::Volume { volume } => ours(volume).map(|name| ResourceId::new(volume::NOUN, name)),
                _ => None,
            }));
            after.extend(sandbox.networks.iter().map(|name| ResourceId::new(network::NOUN, name.as_str())));
            // One that goes waits for the container instead.
            after.extend(spec.gate.then(|| policy::id(sandbox.name.as_str())));
            after.extend(sandbox.worktrees.iter().map(|tree| worktree::id(&tree.path)));
            after.extend(sandbox.secrets().map(|name| ResourceId::new(secret::NOUN, name.as_str())));
            let spec = to_spec(&spec);
            let text = spec.to_string();
            state.resources.push(Desired {
                id: ResourceId::new(NOUN, sandbox.name.as_str()),
                sandbox: Some(sandbox.name.to_string()),
                origin: context.origin(&format!("sandboxes.{}", sandbox.name)),
                after,
                hash: spec_hash(&live::frozen(&spec)),
                spec,
                text,
                beside: Some(sandbox.owner.clone()),
            });
        }
    }

    fn compare(&self, context: &mut PlanContext<'_>) -> Vec<Change> {
        let mut changes: Vec<_> =
            context.desired_of(NOUN).map(|desired| Comparison::of(context, desired).change(context)).collect();
        changes.extend(leftovers::leftovers(context));
        changes
    }
}

/// One desired container beside what is there of it.
struct Comparison<'a> {
    desired: &'a Desired,
    spec: ContainerSpec,
    name: &'a str,
    object: String,
    current: Option<&'a ContainerFacts>,
    successor: Option<&'a ContainerFacts>,
    /// See [`ownership::OwnedContainers::strays`].
    stray: Option<&'a ContainerFacts>,
    /// What [`Self::current`] was made from; null when it cannot be read, or nothing is there.
    applied: Cow<'a, Value>,
    marked: bool,
    wanted: Intent,
}

impl<'a> Comparison<'a> {
    fn of(context: &mut PlanContext<'a>, desired: &'a Desired) -> Self {
        let name = desired.id.name.as_str();
        let marked = context.containers.stopped.contains(name);
        let current = context.containers.current.get(name).copied();
        let successor = context.containers.successor.get(name).copied();
        let stray = context.containers.strays.get(name).copied();
        let observed = [current, successor, stray].into_iter().flatten().map(summary).collect::<Vec<_>>();
        context.rests_on(
            &desired.id,
            Some(desired),
            (!observed.is_empty() || marked).then(|| serde_json::json!({ "containers": observed, "stopped": marked })),
        );
        Self {
            desired,
            spec: ContainerSpec::deserialize(&desired.spec).expect("made by `desire` of this kind"),
            name,
            object: context.naming.object(name),
            current,
            successor,
            stray,
            applied: current.map_or(Cow::Owned(Value::Null), |current| applied(desired, current)),
            marked,
            wanted: context.options.intents.get(name).copied().unwrap_or(if marked {
                Intent::Stopped
            } else {
                Intent::Running
            }),
        }
    }

    /// The same with `container` as what is there.
    fn beside(&self, container: &'a ContainerFacts) -> Self {
        Self {
            desired: self.desired,
            spec: self.spec.clone(),
            name: self.name,
            object: self.object.clone(),
            current: Some(container),
            successor: None,
            stray: None,
            applied: applied(self.desired, container),
            marked: self.marked,
            wanted: self.wanted,
        }
    }

    fn change(&self, context: &mut PlanContext<'_>) -> Change {
        if let Some(stray) = self.stray {
            return Change::of(self.desired, Action::Forbidden).because(format!(
                "{} carries our labels under another name: `podman rename {} {}` if it was renamed, remove it if not",
                stray.name, stray.name, self.object
            ));
        }
        if context.options.state_only {
            return self.state_only(context);
        }
        if self.current.is_none_or(|current| current.name != self.object)
            && let Some(forbidden) = self.name_is_held(context, &self.object)
        {
            return forbidden;
        }
        let change = match (self.current, self.successor) {
            (None, Some(successor))
                if successor.labels.get(label::HASH) == Some(&self.desired.hash)
                    && successor.labels.get(label::OWNER) == self.desired.beside.as_ref() =>
            {
                // A replacement was cut short between removing the old one and renaming the new one.
                let change = Change::of(self.desired, Action::Update).because("a replacement was cut short").step(
                    format!("rename {} to {}", successor.name, self.object),
                    Op::RenameContainer { container: successor.id.clone(), to: self.object.clone() },
                );
                if self.wanted == Intent::Running && successor.state != State::Running {
                    self.started(context, change, &successor.id)
                } else {
                    change
                }
            }
            (None, _) => self.create(context),
            (Some(current), _) => self
                .finish(context)
                .or_else(|| self.replacement(context, current))
                .unwrap_or_else(|| self.in_place(context, current)),
        };
        let change = self.without_leftover(context, change);
        self.marker(context, change)
    }

    /// Starts, stops or restarts what is there, and changes nothing else of it.
    fn state_only(&self, context: &mut PlanContext<'_>) -> Change {
        let Some(current) = self.current else {
            return Change::of(self.desired, Action::Forbidden).because("it does not exist yet; run: sbx apply");
        };
        if current.name != self.object {
            // Under the other name it is nobody's for the daemon, and would not be let in.
            let why = format!("it was renamed to {}; run: sbx apply", current.name);
            return Change::of(self.desired, Action::Forbidden).because(why);
        }
        let change = self.state(context, current, Change::of(self.desired, Action::Noop));
        self.marker(context, with_action(change))
    }

    /// Whether somebody else has a name this one needs.
    fn name_is_held(&self, context: &mut PlanContext<'_>, name: &str) -> Option<Change> {
        context.wanted.container_names.insert(name.to_owned());
        let holder = context.probes.held_containers.get(name)?;
        Some(Change::of(self.desired, Action::Forbidden).because(held(NOUN, name, holder)))
    }

    /// A successor that a run left behind goes first, unless it takes over.
    fn without_leftover(&self, context: &mut PlanContext<'_>, mut change: Change) -> Change {
        let Some(successor) = self.successor else { return change };
        if change
            .steps
            .iter()
            .any(|step| matches!(&step.op, Op::RenameContainer { container, .. } if *container == successor.id))
        {
            return change;
        }
        let remove = [
            ("stop", Op::StopContainer { container: successor.id.clone() }),
            ("remove", Op::RemoveContainer { container: successor.id.clone(), uid: None }),
        ];
        // It may have run, and been used since.
        let losses = loss::of_removal(context, &self.desired.id, successor).into_iter();
        change.loses.extend(losses.map(|loss| Loss { detail: format!("{}: {}", successor.name, loss.detail), ..loss }));
        for (index, (verb, op)) in remove.into_iter().enumerate() {
            let title = format!("{verb} what a cut-short replacement left ({})", successor.name);
            change.steps.insert(index, Step { title, op, undo: Vec::new(), commits: false });
        }
        if change.action == Action::Noop {
            change.action = Action::Update;
            change.because.push("a replacement was cut short".to_owned());
        }
        change
    }

    /// Records or forgets the wish to stay stopped.
    fn marker(&self, context: &mut PlanContext<'_>, mut change: Change) -> Change {
        if self.marked == (self.wanted == Intent::Stopped) || change.action == Action::Forbidden {
            return change;
        }
        let name = context.naming.stop_marker(self.name);
        let (title, op) = if self.marked {
            ("forget that it was stopped on purpose", Op::RemoveVolume { volume: name })
        } else {
            let labels = ownership::labels(context.naming, ownership::STOP_MARKER, self.name, (context.new_uid)(), "");
            ("record that it is stopped on purpose", Op::CreateVolume { object: NewObject { name, labels } })
        };
        // First of all: a run cut short after this converges to what was wished.
        change.steps.insert(0, Step { title: title.to_owned(), op, undo: Vec::new(), commits: false });
        if change.action == Action::Noop {
            change.action = Action::Update;
        }
        change
    }

    fn labels(&self, context: &mut PlanContext<'_>) -> Labels {
        let mut labels = ownership::labels(context.naming, NOUN, self.name, (context.new_uid)(), &self.desired.hash);
        labels.insert(label::SPEC.to_owned(), self.desired.text.clone());
        labels.extend([build::owner_label(self.desired.beside.as_deref().unwrap_or_default())]);
        labels
    }

    fn create(&self, context: &mut PlanContext<'_>) -> Change {
        let mut change = Change::of(self.desired, Action::Create).because("not there").step(
            format!("create container {}", self.object),
            Op::CreateContainer {
                name: self.object.clone(),
                labels: self.labels(context),
                spec: Box::new(self.spec.clone()),
            },
        );
        change.fields = diff::created(&self.desired.spec);
        if self.wanted == Intent::Running { self.started(context, change, &self.object) } else { change }
    }

    /// Adds the steps that start `container` and see it ready.
    fn started(&self, context: &PlanContext<'_>, change: Change, container: &str) -> Change {
        let mounts = match self.current.filter(|current| current.id == container) {
            Some(current) => applied_mounts(current),
            None => self.spec.mounts.clone(),
        };
        let mut change = change.step(format!("start {}", self.object), start(context, container, &mounts));
        if let Some(op) = policy::at_start(context, self.name) {
            change = change.step("put its policy in force", op);
        }
        if !context.options.wait {
            return change;
        }
        change.step(format!("wait until {} is ready", self.object), Op::AwaitReady { container: container.to_owned() })
    }

    /// Everything that can be put right without a new container.
    fn in_place(&self, context: &mut PlanContext<'_>, current: &ContainerFacts) -> Change {
        let mut change = Change::of(self.desired, Action::Noop);
        change.unchanged = diff::leaves(&self.desired.spec);
        let id = current.id.clone();
        let renamed = ownership::is_renamed(current, context.naming, self.name);
        if renamed {
            change.drift = true;
            change = change.because(format!("it was renamed to {}", current.name));
        }
        if current.name != self.object {
            change = change.step(
                format!("rename {} to {}", current.name, self.object),
                Op::RenameContainer { container: id.clone(), to: self.object.clone() },
            );
        }
        if renamed
            && current.state == State::Running
            && let Some(op) = policy::at_start(context, self.name)
        {
            // Under the other name it was nobody's for the daemon.
            change = change.step("put its policy in force", op);
        }
        change = live::networks(&self.spec, &self.applied, current, change);
        change = self.state(context, current, change);
        change = live::restart(context, &self.spec, &self.applied, current, change);
        with_action(change)
    }

    /// See [`live::ceilings`].
    fn ceilings(&self, context: &PlanContext<'_>, current: &ContainerFacts, change: Change, fresh: bool) -> Change {
        // Another container of that name was given its ceilings by somebody else.
        let same = context.options.seen.get(self.name) == Some(&current.id);
        let given = context.options.ceilings.get(self.name).copied().filter(|_| same);
        live::ceilings(context, &self.spec, &self.applied, current, change, fresh, given)
    }

    /// Running or stopped as wished, with the ceilings that hold while it runs.
    fn state(&self, context: &mut PlanContext<'_>, current: &ContainerFacts, mut change: Change) -> Change {
        let id = current.id.clone();
        let asked = context.options.restart.contains(self.name) || context.options.intents.contains_key(self.name);
        match (self.wanted, current.state) {
            (Intent::Running, State::Running) if context.options.restart.contains(self.name) => {
                change = change.because("restart asked for");
                change.loses = loss::of_stop(context, &self.desired.id, current);
                change = change.step(format!("stop {}", self.object), Op::StopContainer { container: id.clone() });
                change = self.started(context, change, &id);
                change = self.ceilings(context, current, change, true);
            }
            (Intent::Running, State::Running) if !current.replaced_binds.is_empty() => {
                // A mount shows the file that was there at the start; only a new start shows its successor.
                for target in &current.replaced_binds {
                    change = change.because(format!("the file behind {} was replaced: restart", target.display()));
                }
                change.drift = true;
                change.loses = loss::of_stop(context, &self.desired.id, current);
                change = change.step(format!("stop {}", self.object), Op::StopContainer { container: id.clone() });
                change = self.started(context, change, &id);
                change = self.ceilings(context, current, change, true);
            }
            (Intent::Running, State::Running) => {
                change = self.ceilings(context, current, change, false);
            }
            (Intent::Running, state) => {
                change.drift |= !asked && state != State::Created;
                change = change.because(match state {
                    State::Created => "was never started".to_owned(),
                    State::Exited => format!("not running (exit code {})", current.exit_code.unwrap_or_default()),
                    State::Paused => "paused".to_owned(),
                    _ => "neither running nor stopped".to_owned(),
                });
                // A paused one goes on where it was; nothing of it is lost.
                if !matches!(state, State::Created | State::Exited | State::Paused) {
                    change = change.step(format!("stop {}", self.object), Op::StopContainer { container: id.clone() });
                }
                change = self.started(context, change, &id);
                change = self.ceilings(context, current, change, true);
            }
            (Intent::Stopped, State::Created | State::Exited) => {}
            (Intent::Stopped, _) => {
                change.drift |= !asked;
                change.loses = loss::of_stop(context, &self.desired.id, current);
                change = change
                    .because(if asked { "stop asked for" } else { "started outside, though stopped on purpose" })
                    .step(format!("stop {}", self.object), Op::StopContainer { container: id.clone() });
            }
        }
        change
    }
}

/// An update, when there is something to do.
fn with_action(mut change: Change) -> Change {
    if !change.steps.is_empty() {
        change.action = Action::Update;
        change.unchanged = change.unchanged.saturating_sub(change.fields.len());
    }
    change
}

/// The ceilings that each sandbox should have.
pub fn ceilings(state: &DesiredState) -> BTreeMap<String, LimitSpec> {
    let containers = state.resources.iter().filter(|resource| resource.id.kind == NOUN);
    let limits = |desired: &Desired| LimitSpec::deserialize(&desired.spec["limits"]).expect("made by this kind");
    containers.map(|desired| (desired.id.name.clone(), limits(desired))).collect()
}

/// What `container` was made from, beside what is desired.
fn applied<'a>(desired: &'a Desired, container: &ContainerFacts) -> Cow<'a, Value> {
    // Nearly always: there is nothing to read then.
    if container.labels.get(label::SPEC) == Some(&desired.text) {
        return Cow::Borrowed(&desired.spec);
    }
    Cow::Owned(applied_spec(container))
}

/// The specification a container was made from; null when it cannot be read.
pub fn applied_spec(container: &ContainerFacts) -> Value {
    container.labels.get(label::SPEC).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// The mounts a container was made with.
///
/// Nothing but these is read: a specification of another version of `sbx` may not be readable as a whole.
fn applied_mounts(container: &ContainerFacts) -> Vec<MountSpec> {
    serde_json::from_value(applied_spec(container)["mounts"].take()).unwrap_or_default()
}

/// A start that shows what was looked at, or none.
fn start(context: &PlanContext<'_>, container: &str, mounts: &[MountSpec]) -> Op {
    let entry = |mount: &MountSpec| Entry {
        target: mount.target.clone(),
        read_only: mount.read_only,
        source: match &mount.source {
            MountOrigin::Bind { source } => {
                context.desired.sources.get(source).map(|id| Source { path: source.clone(), id: *id })
            }
            MountOrigin::Volume { .. } | MountOrigin::Tmpfs { .. } => None,
        },
    };
    Op::StartContainer { container: container.to_owned(), entries: mounts.iter().map(entry).collect() }
}

/// What of a container a plan rests on: nothing that changes by itself.
fn summary(container: &ContainerFacts) -> Value {
    let ContainerFacts {
        id,
        name,
        labels: _,
        state,
        exit_code: _,
        image_id,
        image: _,
        networks,
        mount_targets: _,
        pid: _,
        created_at: _,
        started_at: _,
        exited_at: _,
        limits,
        replaced_binds,
    } = container;
    serde_json::json!({
        "id": id, "name": name, "state": state, "image": image_id, "networks": networks, "limits": limits,
        "replaced": replaced_binds,
    })
}
