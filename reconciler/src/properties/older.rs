//! Containers that an older `sbx` made.

use super::cases::{change_of, one, plain};
use super::*;

#[test]
fn a_container_of_before_there_was_anything_to_trust_is_made_anew_for_that() {
    let mut bench = Bench::new();
    let shape = one(Variant { policy: 1, ..plain() });
    bench.converge(&shape);
    for container in bench.backend.world().containers.values_mut() {
        let mut spec = applied_spec(&container.facts);
        let mounts = spec["mounts"].as_array_mut().expect("a list");
        mounts.retain(|mount| mount["target"] != crate::kinds::container::trust::DIRECTORY);
        container.facts.labels.insert(label::SPEC.to_owned(), spec.to_string());
        container.facts.labels.insert(label::HASH.to_owned(), "of before".to_owned());
    }
    let plan = bench.plan(&shape, &PlanOptions::default());
    let change = change_of(&plan, "container/api");
    assert_eq!(
        (change.action, change.because.as_slice()),
        (Action::Replace, &["what it trusts for TLS changed".to_owned()][..])
    );
    assert!(bench.execute(&plan).is_done());
    bench.settled(&shape);
}
