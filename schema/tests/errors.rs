//! `docs/errors.md` is what the catalogue says.

#![allow(clippy::disallowed_methods, reason = "`UPDATE=1` is for whoever runs the tests")]

use std::path::Path;

#[test]
fn the_list_of_errors_is_in_step() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/errors.md");
    let generated = schema::codes::markdown();
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
