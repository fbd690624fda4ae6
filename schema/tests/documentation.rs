//! What the documentation shows of the language is right.

use std::path::Path;

use schema::{Config, Source, load};

#[path = "fixed/caller.rs"]
mod caller;

use caller::caller;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).expect(path)
}

fn check(name: &str, text: String) -> Config {
    let loaded = load(&[Source { name: name.to_owned(), directory: "/project".into(), text }], &caller());
    assert_eq!(loaded.diagnostics, [], "{name}");
    loaded.config.expect("no problems")
}

/// What the blocks of YAML in `path` come to, with the head that parts of a file lack.
fn blocks(path: &str) -> Vec<Config> {
    let text = read(path);
    let blocks = text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().expect("an end"));
    let whole = |block: &str| {
        let head = if block.starts_with("apiVersion:") { "" } else { "apiVersion: sbx/v1\nproject: acme\n" };
        format!("{head}{block}")
    };
    blocks.enumerate().map(|(index, block)| check(&format!("{path} {}", index + 1), whole(block))).collect()
}

#[test]
fn every_block_is_right_as_it_stands() {
    let rules =
        |config: &Config| config.sandboxes.values().map(|sandbox| sandbox.egress.policy.allow.len()).sum::<usize>();
    let egress = blocks("docs/egress.md");
    assert!(egress.len() >= 11 && egress.iter().map(rules).sum::<usize>() > 20);
    assert_eq!(blocks("README.md").len(), 1);
    assert_eq!(blocks("docs/guide.md").len(), 1);
}

#[test]
fn the_example_of_egress_is_right() {
    let config = check("egress.yaml", read("examples/egress.yaml"));
    assert!(config.sandboxes["agent"].egress.policy.allow.len() >= 5);
    assert!(config.tests.len() >= 6 && !config.assertions.is_empty());
}
