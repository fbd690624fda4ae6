//! Worktrees and their repositories, one case each.

use super::cases::{change_of, one, plain};
use super::*;

#[test]
fn a_worktree_whose_removal_was_cut_short_is_removed() {
    let mut bench = Bench::new();
    let shape = one(Variant { worktree: true, ..plain() });
    bench.converge(&shape);
    for place in bench.backend.world().worktrees.values_mut() {
        if let WorktreePlace::Worktree(facts) = place {
            *place = WorktreePlace::Missing(facts.clone());
        }
    }
    let everything = Destroy { volumes: true, worktrees: true, secrets: true };
    let options = PlanOptions { destroy: Some(everything), ..PlanOptions::default() };
    let plan = bench.plan(&shape, &options);
    assert_eq!(plan.unaccepted(&[]).count(), 0, "no files are left to lose");
    assert!(bench.execute(&plan).is_done());
    assert!(bench.backend.world().worktrees.is_empty());
}

#[test]
fn passwords_of_remotes_are_not_shown() {
    let mut bench = Bench::new();
    let shape = one(Variant { worktree: true, ..plain() });
    let mut secret = config(&shape);
    secret.sandboxes[0].worktrees[0].repo = "https://me:hunter2@example.test/api.git".into();
    let (options, facts) = (PlanOptions::default(), host(&shape));
    let shown = |bench: &Bench| {
        let mut new_uid = || "uid-x".to_owned();
        let prepared = prepare(&secret, &facts, &bench.backend, &options, "now", &mut new_uid);
        let mut plan = futures_util::FutureExt::now_or_never(prepared).expect("at once").expect("looks").plan;
        for step in plan.changes.iter_mut().flat_map(|change| &mut change.steps) {
            // The operation itself needs it.
            step.op = crate::op::Op::RemoveImage { image: String::new() };
        }
        format!("{plan:?}")
    };
    let text = shown(&bench);
    assert!(text.contains("example.test") && !text.contains("hunter2"), "{text}");
    bench.backend.world().repositories.insert("/clones/api.git".into(), "https://me:hunter3@example.test/b".into());
    let text = shown(&bench);
    assert!(text.contains("is a clone of") && !text.contains("hunter"), "{text}");
    bench.backend.world().repositories.clear();
    bench.converge(&shape);
}

#[test]
fn a_renamed_sandbox_takes_its_worktree_along_and_nobody_elses() {
    let mut bench = Bench::new();
    let shape = one(Variant { worktree: true, ..plain() });
    bench.converge(&shape);
    let mut renamed = config(&shape);
    let mut sandbox = renamed.sandboxes.shift_remove("api").expect("there");
    sandbox.name = name("service");
    renamed.sandboxes.insert(name("service"), sandbox.clone());
    let (facts, options) = (host(&shape), PlanOptions::default());
    let tree = "worktree//trees/api";
    // Both at once cannot have it.
    let mut both = renamed.clone();
    both.sandboxes.insert(name("api"), Sandbox { name: name("api"), ..sandbox });
    let plan = bench.plan_of(&both, &facts, &options);
    let told: Vec<_> = plan.forbidden().flat_map(|change| change.because.clone()).collect();
    assert_eq!(told, ["/trees/api belongs to sandbox acme/api"]);

    let plan = bench.plan_of(&renamed, &facts, &options);
    let change = change_of(&plan, tree);
    assert_eq!(
        (change.action, change.because.as_slice()),
        (Action::Update, ["taken over from sandbox acme/api".to_owned()].as_slice())
    );
    assert!(change.after.contains(&ResourceId::new("container", "api")), "{change:#?}");
    assert!(bench.execute(&plan).is_done());
    assert!(bench.plan_of(&renamed, &facts, &options).is_empty());
    let lock = |bench: &Bench| match bench.backend.world().worktrees.values().next() {
        Some(WorktreePlace::Worktree(facts)) => facts.lock.clone(),
        _ => None,
    };
    assert_eq!(lock(&bench).as_deref(), Some("sbx acme/service"));

    // Another project's is taken only by name.
    for place in bench.backend.world().worktrees.values_mut() {
        if let WorktreePlace::Worktree(facts) = place {
            facts.lock = Some("sbx other/api".into());
        }
    }
    let plan = bench.plan_of(&renamed, &facts, &options);
    assert_eq!(change_of(&plan, tree).action, Action::Forbidden);
    let named = PlanOptions { accepted: [tree.to_owned()].into(), ..PlanOptions::default() };
    let plan = bench.plan_of(&renamed, &facts, &named);
    assert_eq!(change_of(&plan, tree).action, Action::Update);
    assert!(bench.execute(&plan).is_done());
    assert_eq!(lock(&bench).as_deref(), Some("sbx acme/service"));
}
