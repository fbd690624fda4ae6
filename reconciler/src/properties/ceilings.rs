//! Ceilings of a sandbox that is started or restarted while the file asks for others by now.

use super::cases::{one, plain};
use super::*;
use crate::op::Op;

fn with(memory: u64) -> Shape {
    one(Variant { memory: Some(memory), ..plain() })
}

fn wish(restart: bool) -> PlanOptions {
    let api: BTreeSet<String> = ["api".to_owned()].into();
    PlanOptions {
        intents: BTreeMap::from([("api".to_owned(), Intent::Running)]),
        restart: if restart { api.clone() } else { BTreeSet::new() },
        targets: api,
        state_only: true,
        ..PlanOptions::default()
    }
}

/// The ceiling on memory that `plan` sets, if it sets any.
fn set(plan: &Plan) -> Option<u64> {
    let mut steps = plan.changes.iter().flat_map(|change| &change.steps);
    steps.find_map(|step| match &step.op {
        Op::UpdateContainer { limits, .. } => limits.memory,
        _ => None,
    })
}

fn stop(bench: &Bench) {
    bench.backend.world().containers.values_mut().for_each(|container| container.facts.state = State::Exited);
}

#[test]
fn a_restart_keeps_those_in_force() {
    let mut bench = Bench::new();
    bench.converge(&with(4 << 30));
    bench.converge(&with(2 << 30));
    // It was made with the first and has the second; the third is not applied.
    let plan = bench.plan(&with(1 << 30), &wish(true));
    assert_eq!(set(&plan), Some(2 << 30), "{plan:#?}");
    let fields: Vec<_> = plan.changes.iter().flat_map(|change| &change.fields).collect();
    assert!(fields.is_empty(), "nothing else changes: {fields:?}");
    assert!(bench.execute(&plan).is_done());
    // Beside it: an apply brings about what the file says.
    let applied = bench.plan(&with(1 << 30), &PlanOptions::default());
    assert_eq!(set(&applied), Some(1 << 30), "{applied:#?}");
}

#[test]
fn a_start_sets_those_that_were_applied_and_no_others() {
    let mut bench = Bench::new();
    bench.converge(&with(4 << 30));
    bench.converge(&with(2 << 30));
    let met = bench.plan(&with(2 << 30), &PlanOptions::default());
    let applied: BTreeMap<_, _> =
        met.basis.iter().filter_map(|basis| Some((basis.resource.clone(), basis.desired.clone()?))).collect();
    stop(&bench);
    let start =
        |bench: &mut Bench, memory| bench.plan(&with(memory), &PlanOptions { applied: applied.clone(), ..wish(false) });
    assert_eq!(set(&start(&mut bench, 2 << 30)), Some(2 << 30), "the very same was applied");
    assert_eq!(set(&start(&mut bench, 1 << 30)), None, "these were not, and the engine knows the others");
    assert_eq!(set(&bench.plan(&with(1 << 30), &PlanOptions::default())), Some(1 << 30), "an apply sets them");
}
