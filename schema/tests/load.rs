//! `load` on whole documents.

use schema::{Loaded, Source, load};

mod caller;

use caller::caller;

fn read(texts: &[&str]) -> Loaded {
    let sources: Vec<Source> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| Source {
            name: format!("{index}.yaml"),
            directory: format!("/work/{index}").into(),
            text: (*text).to_owned(),
        })
        .collect();
    load(&sources, &caller())
}

#[test]
fn everything_loads() {
    let loaded = read(&[include_str!("../../fixtures/valid/everything.yaml")]);
    assert_eq!(loaded.diagnostics, []);
    insta::assert_json_snapshot!(loaded.config.expect("no errors"));
}
