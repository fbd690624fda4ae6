//! `docs/errors.md` is what the catalogue says, and its examples show what they are to show.

#![allow(clippy::disallowed_methods, reason = "`UPDATE=1` is for whoever runs the tests")]

use std::path::Path;

use schema::{Severity, Source, codes, load};

#[path = "fixed/caller.rs"]
mod caller;

use caller::caller;

#[test]
fn the_list_of_errors_is_in_step() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/errors.md");
    let generated = codes::markdown();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, generated).expect("docs/errors.md can be written");
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == generated,
        "docs/errors.md is out of step: run `UPDATE=1 cargo test -p sbx-schema --test errors`"
    );
}

/// What a plan finds is beyond the text: `sbx validate` has nothing to say against these.
#[test]
fn the_examples_of_plans_are_right_as_files() {
    let mut files = 0;
    for entry in codes::of_plans().filter(|entry| !entry.example.starts_with("$ ")) {
        let source = Source { name: "sandboxes.yaml".into(), directory: "/srv".into(), text: entry.example.to_owned() };
        let loaded = load(&[source], &caller());
        let errors: Vec<_> = loaded.diagnostics.iter().filter(|problem| problem.severity == Severity::Error).collect();
        assert!(errors.is_empty() && loaded.config.is_some(), "{}: {errors:#?}", entry.code);
        files += 1;
    }
    assert!(files > 5, "{files} files were looked at");
}
