//! Replacements that fail, are interrupted or cut short.

use super::cases::{change_of, one, plain};
use super::*;

#[test]
fn a_replacement_that_never_gets_ready_brings_the_old_one_back() {
    let mut bench = Bench::new();
    let shape = one(plain());
    bench.converge(&shape);
    let old = bench.backend.world().containers.keys().next().expect("one").clone();
    let mut plan = bench.plan(&one(Variant { env: 1, ..plain() }), &PlanOptions::default());
    assert_eq!(change_of(&plan, "container/api").action, Action::Replace);
    for step in plan.changes.iter_mut().flat_map(|change| &mut change.steps) {
        if let crate::op::Op::CreateContainer { spec, .. } = &mut step.op {
            spec.command = vec!["broken".into()];
        }
    }
    bench.backend.broken_commands.insert("broken".into());
    let outcome = bench.execute(&plan);
    assert!(
        matches!(&outcome.results[0].ending, crate::outcome::Ending::Failed { rolled_back: true, .. }),
        "{outcome:#?}"
    );
    let world = bench.backend.world();
    assert_eq!(world.containers.len(), 1);
    let back = &world.containers[&old].facts;
    assert_eq!((back.name.as_str(), back.state), ("acme_api", State::Running));
}

#[test]
fn an_interrupt_before_the_point_of_no_return_brings_the_old_one_back() {
    for (heard_at, expected) in [("wait until", "old"), ("remove acme_api", "new")] {
        let mut bench = Bench::new();
        bench.converge(&one(plain()));
        let old = bench.backend.world().containers.keys().next().expect("one").clone();
        let plan = bench.plan(&one(Variant { env: 1, ..plain() }), &PlanOptions::default());
        let (interrupt, stop) = watch::channel(false);
        let on_event = |event| {
            if let crate::outcome::Event::Step { message, .. } = event
                && message.starts_with(heard_at)
            {
                interrupt.send_replace(true);
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let options = ExecuteOptions { attempts: 1, ..ExecuteOptions::default() };
        let outcome = runtime.block_on(execute(&plan, &bench.backend, &options, stop, &on_event));
        // Past that point all is done, and nothing was kept from being done.
        assert_eq!(outcome.interrupted, expected == "old");
        let world = bench.backend.world();
        let left: Vec<_> = world.containers.values().map(|container| &container.facts).collect();
        assert_eq!(left.len(), 1, "{left:#?}");
        assert_eq!((left[0].name.as_str(), left[0].state), ("acme_api", State::Running));
        assert_eq!(left[0].id == old, expected == "old", "{heard_at}: {outcome:#?}");
    }
}

#[test]
fn a_successor_that_is_all_there_is_goes_with_consent_only() {
    let mut bench = Bench::new();
    bench.converge(&one(plain()));
    for container in bench.backend.world().containers.values_mut() {
        container.facts.name = "acme_api.next".into();
        container.probe.changed_files = 3;
    }
    // Killed before the renaming, used since, and now the file says something else.
    let plan = bench.plan(&one(Variant { env: 1, ..plain() }), &PlanOptions::default());
    let change = change_of(&plan, "container/api");
    assert_eq!((change.action, change.loses.len()), (Action::Create, 1), "{change:#?}");
    // Beside it: where the file is the same, it takes its place and loses nothing.
    let plan = bench.plan(&one(plain()), &PlanOptions::default());
    assert_eq!(change_of(&plan, "container/api").loses.len(), 0);
    bench.converge(&one(plain()));
}

/// What a run leaves that is killed after its successor ran: both containers, the old one stopped.
fn cut_short(bench: &mut Bench, from: &Shape, to: &Shape) {
    bench.converge(from);
    let plan = bench.plan(to, &PlanOptions::default());
    let remove = |step: &crate::plan::Step| step.title == "remove acme_api";
    let until = change_of(&plan, "container/api").steps.iter().position(remove).expect("the point of no return");
    let mut plan = plan;
    for change in &mut plan.changes {
        change.steps.truncate(until);
    }
    assert!(bench.execute(&plan).is_done());
    assert_eq!(bench.backend.world().containers.len(), 2);
}

#[test]
fn a_successor_that_runs_takes_over_and_is_not_made_anew() {
    let mut bench = Bench::new();
    let (from, to) = (one(plain()), one(Variant { env: 1, ..plain() }));
    cut_short(&mut bench, &from, &to);
    let successor = |bench: &Bench| {
        let world = bench.backend.world();
        world.containers.values().find(|container| container.facts.name == "acme_api.next").map(|c| c.facts.id.clone())
    };
    let next = successor(&bench).expect("there");
    bench.backend.world().containers.get_mut(&next).expect("there").probe.changed_files = 3;
    let plan = bench.plan(&to, &PlanOptions::default());
    let change = change_of(&plan, "container/api");
    assert_eq!((change.action, change.loses.len()), (Action::Replace, 0), "{change:#?}");
    let text = serde_json::to_string(change).expect("serializes");
    assert!(!text.contains("create-container") && text.contains("await-ready"), "{text}");
    bench.converge(&to);
    let world = bench.backend.world();
    assert_eq!(world.containers.keys().collect::<Vec<_>>(), [&next]);
}

#[test]
fn a_successor_that_never_gets_ready_leaves_its_place_to_the_old_one() {
    let mut bench = Bench::new();
    let (from, to) = (one(plain()), one(Variant { env: 1, ..plain() }));
    cut_short(&mut bench, &from, &to);
    let plan = bench.plan(&to, &PlanOptions::default());
    for container in bench.backend.world().containers.values_mut() {
        container.broken = container.facts.name == "acme_api.next";
    }
    let outcome = bench.execute(&plan);
    assert!(
        matches!(&outcome.results[0].ending, crate::outcome::Ending::Failed { rolled_back: true, .. }),
        "{outcome:#?}"
    );
    let states = |bench: &Bench| {
        let world = bench.backend.world();
        let states = world.containers.values().map(|container| (container.facts.name.clone(), container.facts.state));
        states.collect::<std::collections::BTreeMap<_, _>>()
    };
    assert_eq!(states(&bench)["acme_api"], State::Running, "{:#?}", states(&bench));
    assert_eq!(states(&bench)["acme_api.next"], State::Exited);
    // What is left of it is no obstacle.
    bench.converge(&to);
    assert_eq!(states(&bench).into_iter().collect::<Vec<_>>(), [("acme_api".to_owned(), State::Running)]);
}

#[test]
fn a_successor_that_is_not_wanted_goes_with_consent_only() {
    let (from, to) = (one(plain()), one(Variant { env: 1, ..plain() }));
    // Back to what was, and on to something else.
    for wished in [from.clone(), one(Variant { memory: Some(1 << 30), env: 0, home: 1, ..plain() })] {
        let mut bench = Bench::new();
        cut_short(&mut bench, &from, &to);
        for container in bench.backend.world().containers.values_mut() {
            if container.facts.name == "acme_api.next" {
                container.probe.changed_files = 3;
                container.probe.exec_sessions = vec!["vim".into()];
            }
        }
        let plan = bench.plan(&wished, &PlanOptions::default());
        let losses: Vec<_> = plan.unaccepted(&[]).map(|(_, loss)| loss.detail.as_str()).collect();
        assert_eq!(losses, ["acme_api.next: 3 files, 0 B", "acme_api.next: vim"], "{plan:#?}");
        bench.converge(&wished);
    }
}
