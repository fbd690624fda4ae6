//! The JSON Schema, the check and the resolved configuration agree on the corpora.

use std::path::{Path, PathBuf};

use schema::{Severity, Source, json_schema, load};
use serde_json::Value;

#[path = "fixed/caller.rs"]
mod caller;

use caller::caller;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn documents(directory: &str) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(root().join(directory)).expect("the corpus");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{directory} is empty");
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a text");
        (path.file_name().expect("a name").to_string_lossy().into_owned(), text)
    };
    paths.into_iter().map(read).collect()
}

fn load_one(name: &str, text: &str) -> schema::Loaded {
    load(&[Source { name: name.into(), directory: "/project".into(), text: text.into() }], &caller())
}

fn value_of(text: &str) -> Option<Value> {
    let mut problems = Vec::new();
    let value = schema::document::parse(0, text, &mut problems)?.to_value();
    problems.is_empty().then(|| serde_json::to_value(value).expect("text keys"))
}

#[test]
fn valid_documents_are_valid_for_both() {
    let validator = jsonschema::draft7::new(&json_schema()).expect("a schema");
    for (name, text) in documents("fixtures/valid") {
        let loaded = load_one(&name, &text);
        assert!(loaded.config.is_some(), "{name}: {:#?}", loaded.diagnostics);
        let value = value_of(&text).expect("no problems");
        let errors: Vec<String> =
            validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert_eq!(errors, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn what_is_structurally_wrong_is_wrong_for_both() {
    const STRUCTURAL: &[&str] = &[
        "sbx::unknown-field",
        "sbx::not-available",
        "sbx::wrong-type",
        "sbx::missing-field",
        "sbx::conflicting-fields",
        "sbx::unsupported-version",
        "sbx::invalid-name",
    ];
    // What these miss can come from another layer, or needs more than a schema.
    const ONLY_HERE: &[&str] = &["has no `image`", "a replica"];
    let validator = jsonschema::draft7::new(&json_schema()).expect("a schema");
    for (name, text) in documents("fixtures/invalid") {
        let Some(value) = value_of(&text) else { continue };
        let loaded = load_one(&name, &text);
        let structural = loaded.diagnostics.iter().any(|problem| {
            STRUCTURAL.contains(&problem.code) && !ONLY_HERE.iter().any(|message| problem.message.contains(message))
        });
        assert!(
            !(structural && validator.is_valid(&value)),
            "{name}: editors see nothing wrong, but {:#?}",
            loaded.diagnostics
        );
        if !validator.is_valid(&value) {
            assert!(
                loaded.diagnostics.iter().any(|problem| problem.severity == Severity::Error),
                "{name}: only editors see {:?}",
                validator.iter_errors(&value).map(|error| error.to_string()).collect::<Vec<_>>()
            );
        }
    }
}
