//! Whose a sandbox is: another owner takes effect, and quotas follow who holds it.

use super::cases::{change_of, one, plain};
use super::*;
use crate::quotas::{Wish, exceeded, gained};

/// `shape`, whose sandboxes belong to `owners` in the order of the file.
fn owned(shape: &Shape, owners: &[&str], per_owner: u32) -> Config {
    let mut config = config(shape);
    config.quotas = Quotas { per_owner, total: 7 };
    for (sandbox, owner) in config.sandboxes.values_mut().zip(owners) {
        sandbox.owner = (*owner).to_owned();
    }
    config
}

fn quota(plan: &Plan) -> Option<&str> {
    plan.warnings.iter().find(|notice| notice.code == "sbx::quota").map(|notice| notice.message.as_str())
}

#[test]
fn another_owner_is_a_change_that_takes_effect() {
    let mut bench = Bench::new();
    let shape = one(plain());
    bench.converge(&shape);
    let (bobs, facts) = (owned(&shape, &["bob"], 5), host(&shape));
    for container in bench.backend.world().containers.values_mut() {
        container.probe.changed_files = 3;
    }
    let plan = bench.plan_of(&bobs, &facts, &PlanOptions::default());
    let change = change_of(&plan, "container/api");
    assert_eq!((change.action, change.because.as_slice()), (Action::Replace, &["owner changed".to_owned()][..]));
    assert!(change.fields.iter().any(|field| field.path == "owner" && field.before == "alice" && field.after == "bob"));
    assert_eq!(plan.unaccepted(&[]).count(), 1, "what a replacement loses needs consent");
    assert!(bench.execute(&plan).is_done());
    let owner = |bench: &Bench| {
        let world = bench.backend.world();
        world.containers.values().map(|container| container.facts.labels[label::OWNER].clone()).collect::<Vec<_>>()
    };
    assert_eq!(owner(&bench), ["bob"]);
    assert!(bench.plan_of(&bobs, &facts, &PlanOptions::default()).is_empty());
    // A start changes nothing else.
    let start = PlanOptions {
        intents: BTreeMap::from([("api".to_owned(), Intent::Running)]),
        targets: ["api".to_owned()].into(),
        state_only: true,
        ..PlanOptions::default()
    };
    assert!(bench.plan(&shape, &start).is_empty());
}

#[test]
fn a_saved_plan_is_stale_when_the_owner_is_another_one() {
    let mut bench = Bench::new();
    let shape = one(plain());
    bench.converge(&shape);
    let saved = bench.plan(&shape, &PlanOptions::default());
    let now = bench.plan_of(&owned(&shape, &["bob"], 5), &host(&shape), &PlanOptions::default());
    assert_eq!(crate::planner::moved(&saved, &now), ["container/api: its configuration changed"]);
}

#[test]
fn nobody_holds_more_by_giving_sandboxes_away() {
    let mut bench = Bench::new();
    let (both, facts) = ((vec![Some(plain()), Some(plain()), None], 0), host(&one(plain())));
    bench.converge(&both);
    let mut plan = |shape: &Shape, owners: &[&str], per_owner| {
        bench.plan_of(&owned(shape, owners, per_owner), &facts, &PlanOptions::default())
    };
    // One more than bob may have, though none is added.
    let given = plan(&both, &["bob", "bob"], 1);
    assert_eq!(quota(&given), Some("bob would hold 2 sandboxes, 1 are allowed: acme/api, acme/web"));
    assert_eq!(quota(&plan(&both, &["bob", "alice"], 1)), None, "one each");
    // A target alone: what is not part of the plan belongs to whom its label says, not to whom the file says by now.
    let three = (vec![Some(plain()), Some(plain()), Some(plain())], 0);
    let options = PlanOptions { targets: ["worker".to_owned()].into(), ..PlanOptions::default() };
    let plan = bench.plan_of(&owned(&three, &["bob", "bob", "alice"], 2), &facts, &options);
    assert_eq!(quota(&plan), Some("alice would hold 3 sandboxes, 2 are allowed: acme/api, acme/web, acme/worker"));
}

#[test]
fn what_other_runs_are_about_to_create_counts() {
    let mut bench = Bench::new();
    let shape = one(plain());
    let config = owned(&shape, &["alice"], 1);
    let facts = host(&shape);
    let plan = bench.plan_of(&config, &facts, &PlanOptions::default());
    let snapshot = {
        let query = crate::planner::query(&config, &facts);
        let observed = crate::backend::Observe::snapshot(&bench.backend, &query);
        futures_util::FutureExt::now_or_never(observed).expect("at once").expect("looks")
    };
    let owners = crate::quotas::owners(&config);
    let wish = |total| Wish { project: "acme", quotas: Quotas { per_owner: 1, total }, owners: &owners };
    let of = |owner: &str| BTreeMap::from([(("other".to_owned(), "one".to_owned()), owner.to_owned())]);
    assert_eq!(gained(&wish(7), &plan.changes, &snapshot).len(), 1);
    let told = |total, others: &crate::quotas::Held| {
        let notices = exceeded(&wish(total), &plan.changes, &snapshot, others);
        notices.into_iter().map(|notice| notice.message).collect::<Vec<_>>()
    };
    assert!(told(1, &BTreeMap::new()).is_empty(), "alone it fits");
    assert_eq!(told(7, &of("alice")), ["alice would hold 2 sandboxes, 1 are allowed: acme/api, other/one"]);
    assert!(told(7, &of("bob")).is_empty(), "another's");
    assert_eq!(told(1, &of("bob")), ["there would be 2 sandboxes, 1 are allowed: acme/api (alice), other/one (bob)"]);
}
