//! Ceilings of a sandbox that is started or restarted while the file asks for others by now.

use super::cases::{one, plain};
use super::*;
use crate::op::Op;
use crate::spec::LimitSpec;

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

/// What is remembered of the container that is there, and of ceilings that it was given.
fn remembered(bench: &Bench, memory: u64) -> PlanOptions {
    let seen = bench.backend.world().containers.keys().map(|id| ("api".to_owned(), id.clone())).collect();
    let given = LimitSpec { memory: Some(memory), ..LimitSpec::default() };
    PlanOptions { seen, ceilings: [("api".to_owned(), given)].into(), ..wish(false) }
}

#[test]
fn a_start_sets_those_that_were_applied_whatever_else_the_file_says_by_now() {
    let mut bench = Bench::new();
    bench.converge(&with(4 << 30));
    bench.converge(&with(2 << 30));
    stop(&bench);
    let known = remembered(&bench, 2 << 30);
    let other = one(Variant { memory: Some(2 << 30), env: 1, ..plain() });
    assert_eq!(set(&bench.plan(&other, &known)), Some(2 << 30), "the file has moved on elsewhere");
    assert_eq!(set(&bench.plan(&with(8 << 30), &known)), Some(2 << 30), "more was not applied");
    // Whoever remembers this may not be the one who applied last.
    assert_eq!(set(&bench.plan(&with(1 << 30), &known)), Some(1 << 30), "no start gives more than the file");
    assert_eq!(set(&bench.plan(&with(1 << 30), &PlanOptions::default())), Some(1 << 30), "an apply sets them");
}

#[test]
fn a_start_without_a_memory_gives_no_more_than_the_file_nor_than_what_it_was_made_with() {
    let mut bench = Bench::new();
    bench.converge(&with(4 << 30));
    bench.converge(&with(1 << 30));
    stop(&bench);
    // An engine that forgets what was set since would start it with 4 GiB.
    assert_eq!(set(&bench.plan(&with(1 << 30), &wish(false))), Some(1 << 30));
    assert_eq!(set(&bench.plan(&with(8 << 30), &wish(false))), None, "the engine knows these, or others that were set");
    let known = remembered(&bench, 8 << 30);
    let other = [("api".to_owned(), "another container".to_owned())].into();
    assert_eq!(set(&bench.plan(&with(8 << 30), &PlanOptions { seen: other, ..known.clone() })), None, "not its own");
    assert_eq!(set(&bench.plan(&with(8 << 30), &known)), Some(8 << 30), "its own, and the file's");
}
