//! What is somebody else's, whatever it is called and carries.

use super::cases::{change_of, one, plain};
use super::*;

#[test]
fn a_clone_of_ours_is_somebody_elses_also_when_the_original_is_gone() {
    let mut bench = Bench::new();
    let shape = one(plain());
    bench.converge(&shape);
    let ours = bench.backend.world().containers.values().next().expect("one").facts.clone();
    // A clone copies every label, the uid too.
    let clone = bench.backend.world().add_container("acme_api-clone", ours.labels.clone(), &ours.image_id);
    bench.settled(&shape);
    let options = PlanOptions { destroy: Some(Destroy::default()), ..PlanOptions::default() };
    let plan = bench.plan(&shape, &options);
    assert!(!serde_json::to_string(&plan).expect("serializes").contains(&clone), "a step names the clone");
    // With the original gone it could as well be that one, renamed: nothing tells them apart.
    let original = bench.backend.world().containers.remove(&ours.id).expect("there");
    let stop = PlanOptions {
        intents: BTreeMap::from([("api".to_owned(), Intent::Stopped)]),
        targets: ["api".to_owned()].into(),
        state_only: true,
        ..PlanOptions::default()
    };
    for options in [PlanOptions::default(), stop] {
        let plan = bench.plan(&shape, &options);
        let change = change_of(&plan, "container/api");
        assert_eq!(change.action, Action::Forbidden);
        assert!(change.because[0].starts_with("acme_api-clone carries our labels under another name"), "{change:#?}");
    }
    let plan = bench.plan(&shape, &PlanOptions { destroy: Some(Destroy::default()), ..PlanOptions::default() });
    assert!(!serde_json::to_string(&plan.changes).expect("serializes").contains(&clone), "a step names the clone");
    assert!(plan.warnings.iter().any(|notice| notice.code == "sbx::stray"), "{plan:#?}");
    assert_eq!(bench.backend.world().containers.keys().collect::<Vec<_>>(), [&clone]);
    // Beside it: renamed back it is ours.
    bench.backend.world().containers.clear();
    bench.backend.world().containers.insert(ours.id, original);
    bench.settled(&shape);
}

#[test]
fn only_a_builder_that_has_the_name_of_one_is_removed() {
    let mut bench = Bench::new();
    let shape = one(Variant { image: "derived", ..plain() });
    bench.converge(&shape);
    let (mut labels, tag) = {
        let world = bench.backend.world();
        let image = world.images.values().find(|image| image.labels.contains_key(label::BASE)).expect("set up");
        (image.labels.clone(), image.tags[0].clone())
    };
    labels.insert(label::KIND.to_owned(), crate::ownership::BUILDER.to_owned());
    labels.insert(label::UID.to_owned(), "of the run that was cut short".to_owned());
    let name = format!("acme_{}", crate::ownership::builder(&tag));
    let left = bench.backend.world().add_container(&name, labels.clone(), "base");
    let theirs = bench.backend.world().add_container("experiment", labels, "base");
    let plan = bench.plan(&shape, &PlanOptions::default());
    let text = serde_json::to_string(&plan.changes).expect("serializes");
    assert!(text.contains(&left) && !text.contains(&theirs), "{text}");
    bench.converge(&shape);
    assert!(bench.backend.world().containers.contains_key(&theirs));
}

#[test]
fn names_held_by_others_are_forbidden_and_dependants_not_tried() {
    let mut bench = Bench::new();
    bench.backend.world().volumes.insert("acme_data".into(), Labels::new());
    let shape = one(Variant { home: 1, ..plain() });
    let plan = bench.plan(&shape, &PlanOptions::default());
    assert_eq!(change_of(&plan, "volume/data").action, Action::Forbidden);
    let outcome = bench.execute(&plan);
    let container = outcome.results.iter().find(|result| result.resource.kind == "container").expect("in the outcome");
    assert!(matches!(container.ending, crate::outcome::Ending::NotTried { waited_for: Some(_) }), "{outcome:#?}");
    assert!(bench.backend.world().containers.is_empty());
    // Beside it: the same file converges once the name is free.
    bench.backend.world().volumes.clear();
    bench.converge(&shape);
}

#[test]
fn a_container_that_has_the_successors_name_is_untouched() {
    let mut bench = Bench::new();
    bench.converge(&one(plain()));
    let changed = one(Variant { env: 1, ..plain() });
    // Made before the name was taken: nothing in it knows of somebody else.
    let early = bench.plan(&changed, &PlanOptions::default());
    let theirs = {
        let mut world = bench.backend.world();
        let id = world.add_container("acme_api.next", Labels::new(), "theirs");
        world.containers.get_mut(&id).expect("added").facts.state = State::Exited;
        id
    };
    let outcome = bench.execute(&early);
    assert!(
        matches!(&outcome.results[0].ending, crate::outcome::Ending::Failed { rolled_back: true, .. }),
        "{outcome:#?}"
    );
    assert!(bench.backend.world().containers.contains_key(&theirs), "taking back took somebody else's");
    let late = bench.plan(&changed, &PlanOptions::default());
    assert_eq!(change_of(&late, "container/api").action, Action::Forbidden);
    // Beside it: with the name free, the same file converges.
    bench.backend.world().containers.remove(&theirs);
    bench.converge(&changed);
}

#[test]
fn an_image_that_somebody_keeps_under_our_prefix_is_theirs() {
    let mut bench = Bench::new();
    let shape = one(plain());
    bench.converge(&shape);
    let sandbox = bench.backend.world().containers.values().next().expect("one").facts.labels.clone();
    let keep = |bench: &Bench, id: &str, tag: &str, labels: &Labels| {
        let (id, tags) = (id.to_owned(), vec![format!("localhost/sbx/acme/{tag}")]);
        let labels = labels.clone();
        let image = crate::facts::ImageFacts { id: id.clone(), tags, digests: Vec::new(), labels, in_use: false };
        bench.backend.world().images.insert(id, image);
    };
    // What `podman commit` and `podman tag` make: a copy of a sandbox has its labels, one of an image that image's.
    let made = bench.backend.world().images.values().next().expect("one").clone();
    keep(&bench, "committed", "backup:v1", &sandbox);
    keep(&bench, "with a hash", "api:0123456789ab", &sandbox);
    keep(&bench, "tagged", "backup:v2", &made.labels);
    keep(&bench, "built", "backup:v3", &Labels::new());
    bench.settled(&shape);
    let options = PlanOptions { destroy: Some(Destroy::default()), ..PlanOptions::default() };
    assert!(bench.apply(&shape, &options).is_done());
    let left: Vec<String> = bench.backend.world().images.keys().cloned().collect();
    assert_eq!(left, ["built", "committed", "tagged", "with a hash"], "and not {}", made.id);
    // Beside it: what was loaded here has no labels, and its tag is the hash of what it was loaded from.
    keep(&bench, "loaded", "old:0123456789ab", &Labels::new());
    let plan = bench.plan(&shape, &PlanOptions::default());
    assert_eq!(change_of(&plan, "image/old@0123456789ab").action, Action::Delete);
}

#[test]
fn one_that_was_renamed_is_told_from_a_copy_by_the_id_that_was_seen() {
    let mut bench = Bench::new();
    let shape = one(Variant { policy: 1, ..plain() });
    bench.converge(&shape);
    let id = bench.backend.world().containers.keys().next().expect("one").clone();
    let renamed = |bench: &Bench| {
        let mut world = bench.backend.world();
        let ours = world.containers.get_mut(&id).expect("there");
        ours.facts.name = "elsewhere".to_owned();
        let facts = ours.facts.clone();
        // Under that name it is nobody's for the daemon, and another may have the labels too.
        world.daemon.as_mut().expect("it runs").remove(&id);
        world.add_container("copy", facts.labels.clone(), &facts.image_id)
    };
    let copy = renamed(&bench);
    let remembered =
        |id: &str| PlanOptions { seen: [("api".to_owned(), id.to_owned())].into(), ..PlanOptions::default() };
    for nobody in [PlanOptions::default(), remembered("another")] {
        assert_eq!(change_of(&bench.plan(&shape, &nobody), "container/api").action, Action::Forbidden);
    }
    // Nothing is done to it under the other name.
    let stop = PlanOptions {
        intents: BTreeMap::from([("api".to_owned(), Intent::Stopped)]),
        targets: ["api".to_owned()].into(),
        state_only: true,
        ..remembered(&id)
    };
    assert_eq!(change_of(&bench.plan(&shape, &stop), "container/api").action, Action::Forbidden);

    let plan = bench.plan(&shape, &remembered(&id));
    let change = change_of(&plan, "container/api");
    let because = ["it was renamed to elsewhere".to_owned()];
    assert_eq!((change.action, change.drift, &change.because[..]), (Action::Update, true, &because[..]), "{plan:#?}");
    assert!(!serde_json::to_string(&plan).expect("serializes").contains(&copy), "a step names the copy");
    assert!(bench.execute(&plan).is_done());
    assert_eq!(bench.backend.world().containers[&id].facts.name, "acme_api");
    bench.settled(&shape);

    // What has the name by now keeps it.
    bench.backend.world().containers.get_mut(&id).expect("there").facts.name = "elsewhere".to_owned();
    bench.backend.world().add_container("acme_api", Labels::new(), "theirs");
    let plan = bench.plan(&shape, &remembered(&id));
    assert_eq!(change_of(&plan, "container/api").action, Action::Forbidden);
}

/// The container of `shape` under another name, as the engine has it, and what is remembered of it.
fn renamed(bench: &mut Bench, shape: &Shape) -> PlanOptions {
    bench.converge(shape);
    let mut world = bench.backend.world();
    let ours = world.containers.values_mut().next().expect("one");
    ours.facts.name = "keep".to_owned();
    let id = ours.facts.id.clone();
    if let Some(served) = &mut world.daemon {
        served.remove(&id);
    }
    PlanOptions { seen: [("api".to_owned(), id)].into(), ..PlanOptions::default() }
}

#[test]
fn one_that_was_set_aside_stays_when_its_sandbox_goes() {
    let shape = one(plain());
    let mut bench = Bench::new();
    let remembered = renamed(&mut bench, &shape);
    let destroy = PlanOptions { destroy: Some(Destroy::default()), ..remembered.clone() };
    let nothing: Shape = (vec![None, None, None], 0);
    for (shape, options) in [(&nothing, &remembered), (&shape, &destroy)] {
        let plan = bench.plan(shape, options);
        assert!(plan.warnings.iter().any(|notice| notice.code == "sbx::stray"), "{plan:#?}");
        let touched = plan.changes.iter().any(|change| change.resource.to_string() == "container/api");
        assert!(!touched, "{plan:#?}");
        assert!(bench.execute(&plan).is_done());
        let world = bench.backend.world();
        let left: Vec<_> = world.containers.values().map(|container| container.facts.name.as_str()).collect();
        assert_eq!(left, ["keep"]);
    }
    // Beside it: under its own name it goes.
    bench.backend.world().containers.values_mut().for_each(|ours| ours.facts.name = "acme_api".to_owned());
    assert!(bench.apply(&shape, &destroy).is_done());
    assert!(bench.backend.world().containers.is_empty());
}

#[test]
fn one_that_was_renamed_keeps_the_policy_that_its_gate_needs() {
    let shape = one(plain());
    let mut bench = Bench::new();
    bench.converge(&one(Variant { policy: 1, ..plain() }));
    // It was made with a gate, and keeps it.
    let remembered = renamed(&mut bench, &shape);
    let policy = bench.backend.world().newest_policy("api");
    assert!(policy.is_some());
    let plan = bench.plan(&shape, &remembered);
    assert_eq!(change_of(&plan, "container/api").because, ["it was renamed to keep"], "{plan:#?}");
    assert!(bench.execute(&plan).is_done());
    assert_eq!(bench.backend.world().newest_policy("api"), policy);
    bench.settled(&shape);
}
