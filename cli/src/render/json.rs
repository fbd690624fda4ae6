//! JSON documents of the command line. Fields are only ever added, and never change meaning.

use reconciler::plan::{Action, Change, FieldChange, Loss, Notice, Plan, PlanEngine, Summary};
use reconciler::resource::ResourceId;
use serde::Serialize;

use crate::replayed::Replayed;

/// Version of all JSON documents.
pub const FORMAT_VERSION: &str = "1.0";

/// `value` on one line.
pub fn line(value: &impl Serialize) -> String {
    // Our own types have string keys and no fallible serializers.
    serde_json::to_string(value).unwrap_or_default()
}

/// `value` for people and `jq` alike.
pub fn document(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

/// A plan as `plan --json` prints it: what changes and why, without the steps.
#[derive(Debug, Serialize)]
pub struct PlanDocument<'a> {
    format_version: &'a str,
    project: &'a str,
    generated_at: &'a str,
    engine: &'a PlanEngine,
    changes: Vec<PlanChange<'a>>,
    summary: &'a Summary,
    warnings: &'a [Notice],
    partial: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    replay: Option<&'a Replayed>,
}

#[derive(Debug, Serialize)]
struct PlanChange<'a> {
    resource: &'a ResourceId,
    sandbox: Option<&'a str>,
    kind: &'a str,
    action: Action,
    because: &'a [String],
    drift: bool,
    fields: &'a [FieldChange],
    loses: Vec<PlanLoss<'a>>,
    cuts: &'a [String],
    origin: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct PlanLoss<'a> {
    what: &'a str,
    detail: &'a str,
    consent: &'a str,
}

/// The document of `plan`. `full` holds the unchanged resources too.
pub fn plan<'a>(plan: &'a Plan, full: bool, replay: Option<&'a Replayed>) -> PlanDocument<'a> {
    fn loss(loss: &Loss) -> PlanLoss<'_> {
        // The count is in the detail, in words.
        let Loss { what, detail, count: _, consent } = loss;
        PlanLoss { what, detail, consent }
    }
    fn one(change: &Change) -> PlanChange<'_> {
        let Change { resource, sandbox, kind, action, because, drift, fields, loses, cuts, origin, .. } = change;
        PlanChange {
            resource,
            sandbox: sandbox.as_deref(),
            kind,
            action: *action,
            because,
            drift: *drift,
            fields,
            loses: loses.iter().map(loss).collect(),
            cuts,
            origin: origin.as_deref(),
        }
    }
    let shown = |change: &&Change| full || change.action != Action::Noop;
    PlanDocument {
        format_version: &plan.format_version,
        project: &plan.project,
        generated_at: &plan.generated_at,
        engine: &plan.engine,
        changes: plan.changes.iter().filter(shown).map(one).collect(),
        summary: &plan.summary,
        warnings: &plan.warnings,
        partial: plan.partial,
        replay,
    }
}

#[cfg(test)]
mod tests {
    use crate::render::sample;

    #[test]
    fn the_plan_has_the_promised_shape() {
        let mut plan = sample::plan();
        // One of each shape is enough to read.
        plan.changes.retain(|change| matches!(change.resource.name.as_str(), "api" | "db" | "base"));
        insta::assert_snapshot!(super::document(&super::plan(&plan, false, None)));
    }
}
