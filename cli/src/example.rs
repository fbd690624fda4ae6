//! Configurations for tests.

use std::collections::BTreeMap;

use schema::{Caller, Config, Source};

/// What a file of the project `acme` means that says `body`, to a user of this name and id.
pub fn config(body: &str) -> Config {
    let text = format!("apiVersion: sbx/v1\nproject: acme\n{body}");
    let source = Source { name: "sandboxes.yaml".into(), directory: "/project".into(), text };
    let caller = Caller {
        env: BTreeMap::new(),
        home: "/home/alice".into(),
        user: "alice".into(),
        uid: 1000,
        gid: 1000,
        today: jiff::civil::date(2026, 11, 25),
        data_dir: "/data".into(),
        engine_sockets: Vec::new(),
    };
    schema::load(&[source], &caller).config.expect("a configuration without errors")
}
