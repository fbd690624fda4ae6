//! A container in place of another: the old one stays until the new one is ready.

use std::borrow::Cow;

use serde_json::json;

use super::{Comparison, applied_mounts, live, loss, start, trust};
use crate::diff;
use crate::facts::{ContainerFacts, State};
use crate::kinds::{Change, PlanContext, image, policy};
use crate::op::Op;
use crate::options::Intent;
use crate::plan::{Action, FieldChange, Step};
use crate::resource::label;

/// What asks for a replacement.
struct Difference {
    because: Vec<String>,
    fields: Vec<FieldChange>,
    unchanged: usize,
}

impl Comparison<'_> {
    fn difference(&self, context: &PlanContext<'_>, current: &ContainerFacts) -> Option<Difference> {
        let (mut fields, unchanged) = match &self.applied {
            Cow::Borrowed(same) => (Vec::new(), diff::leaves(same)),
            Cow::Owned(applied) => diff::fields(applied, &self.desired.spec, |path| {
                !live::is_live(path, &self.spec, &context.snapshot.engine)
            }),
        };
        // Called otherwise, as by a lockfile that pins what is there, it is the same image still.
        if fields.iter().any(|field| field.path.starts_with("image."))
            && image::find(context.snapshot, &self.spec.image.reference) == Some(current.image_id.as_str())
        {
            fields.retain(|field| !field.path.starts_with("image."));
        }
        // A label, which quotas count by, and which no engine lets be changed.
        let (before, after) = (current.labels.get(label::OWNER), self.desired.beside.as_ref());
        if before != after {
            let path = "owner".to_owned();
            fields.push(FieldChange { path, before: json!(before), after: json!(after), forces_replacement: true });
        }
        let mut because: Vec<String> = if self.applied.is_null() {
            vec!["its last-applied specification cannot be read".to_owned()]
        } else {
            fields
                .iter()
                .filter(|field| field.forces_replacement)
                .map(|field| match field.path.as_str() {
                    "image.key" | "image.reference" => "image: its inputs or digest changed".to_owned(),
                    _ if trust::is_all(field) => "what it trusts for TLS changed".to_owned(),
                    path => format!("{path} changed"),
                })
                .collect()
        };
        because.dedup();
        // An image made from known inputs is what its key says, whatever became of its tag.
        if because.is_empty()
            && self.spec.image.key.is_empty()
            && let Some(id) = image::find(context.snapshot, &self.spec.image.reference)
            && id != current.image_id
        {
            because.push("image: digest moved".to_owned());
        }
        if context.options.replace.contains(self.name) {
            because.push("asked for with --replace".to_owned());
        }
        (!because.is_empty()).then_some(Difference { because, fields, unchanged })
    }

    /// The rest of a replacement that was cut short once its successor ran: that one may have been used since.
    pub(super) fn finish(&self, context: &mut PlanContext<'_>) -> Option<Change> {
        let (current, successor) = (self.current?, self.successor?);
        let taken_over = self.beside(successor);
        let difference = self.difference(context, current);
        if successor.state != State::Running
            || taken_over.difference(context, successor).is_some()
            // As wished, and somebody started it again.
            || (difference.is_none() && current.state == State::Running)
        {
            return None;
        }
        let mut change = taken_over.in_place(context, successor);
        change.action = Action::Replace;
        change.because = vec![format!("a replacement was cut short, and {} runs", successor.name)];
        if let Some(Difference { because, fields, unchanged }) = difference {
            change.because.extend(because);
            change.fields = fields;
            change.unchanged = unchanged;
        }
        change.loses.splice(0..0, loss::of_removal(context, &self.desired.id, current));
        let mut steps = Vec::new();
        // What was there before is what comes back if this one turns out to be of no use.
        let mut undo = vec![Op::StopContainer { container: successor.id.clone() }];
        if matches!(current.state, State::Exited | State::Created) {
            undo.push(start(context, &current.id, &applied_mounts(current)));
        }
        let mut push = |title: String, op: Op, commits: bool| {
            let undo = if commits { Vec::new() } else { std::mem::take(&mut undo) };
            steps.push(Step { title, op, undo, commits });
        };
        if self.wanted == Intent::Running {
            if let Some(op) = policy::at_start(context, self.name) {
                push("put its policy in force".to_owned(), op, false);
            }
            // Nobody knows whether it had got that far; the old one stays until it has.
            let ready = Op::AwaitReady { container: successor.id.clone() };
            push(format!("wait until {} is ready", successor.name), ready, false);
        }
        if !matches!(current.state, State::Exited | State::Created) {
            push(format!("stop {}", current.name), Op::StopContainer { container: current.id.clone() }, true);
        }
        let remove = Op::RemoveContainer { container: current.id.clone(), uid: None };
        push(format!("remove {}", current.name), remove, true);
        change.steps.splice(0..0, steps);
        Some(change)
    }

    /// The replacement, when something asks for one.
    pub(super) fn replacement(&self, context: &mut PlanContext<'_>, current: &ContainerFacts) -> Option<Change> {
        let Difference { because, fields, unchanged } = self.difference(context, current)?;
        let next = context.naming.successor(self.name);
        if self.successor.is_none()
            && let Some(forbidden) = self.name_is_held(context, &next)
        {
            return Some(forbidden);
        }
        let labels = self.labels(context);
        let uid = labels.get(label::UID).cloned();
        let mut change = Change::of(self.desired, Action::Replace);
        change.because = because;
        change.fields = fields;
        change.unchanged = unchanged;
        change.loses = loss::of_removal(context, &self.desired.id, current);
        let was_running = matches!(current.state, State::Running | State::Paused);
        let runs = self.wanted == Intent::Running;
        let by_name = |op: fn(String) -> Op| op(next.clone());
        let mut push =
            |title: String, op: Op, undo: Vec<Op>, commits: bool| change.steps.push(Step { title, op, undo, commits });
        push(
            format!("create {next} beside {}", self.object),
            Op::CreateContainer { name: next.clone(), labels, spec: Box::new(self.spec.clone()) },
            vec![Op::RemoveContainer { container: next.clone(), uid }],
            false,
        );
        if current.state != State::Exited && current.state != State::Created {
            // Both would write to the same home and worktrees: the old one rests while the new one proves itself.
            let undo =
                if was_running { vec![start(context, &current.id, &applied_mounts(current))] } else { Vec::new() };
            push(format!("stop {}", current.name), Op::StopContainer { container: current.id.clone() }, undo, false);
        }
        if runs {
            push(
                format!("start {next}"),
                start(context, &next, &self.spec.mounts),
                vec![by_name(|container| Op::StopContainer { container })],
                false,
            );
            if let Some(op) = policy::at_start(context, self.name) {
                push("put its policy in force".to_owned(), op, Vec::new(), false);
            }
            push(
                format!("wait until {next} is ready"),
                by_name(|container| Op::AwaitReady { container }),
                Vec::new(),
                false,
            );
        }
        push(
            format!("remove {}", current.name),
            Op::RemoveContainer { container: current.id.clone(), uid: None },
            Vec::new(),
            true,
        );
        push(
            format!("rename {next} to {}", self.object),
            Op::RenameContainer { container: next.clone(), to: self.object.clone() },
            Vec::new(),
            false,
        );
        Some(change)
    }
}
