//! The tests that `docs/SECURITY.md` names for its promises are there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Where tests are. Files of tests are named from the top of the repository, others by their modules.
const ROOTS: [&str; 7] = ["tests", "egress", "reconciler", "schema", "init/src", "init/tests", "cli/src"];

/// Sources with tests, by path from the top of the repository.
fn sources() -> BTreeMap<String, String> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = BTreeMap::new();
    let mut directories: Vec<_> = ROOTS.iter().map(|root| repository.join(root)).collect();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source");
                let path = path.strip_prefix(&repository).expect("below it").to_str().expect("plain names").to_owned();
                found.insert(path, text);
            }
        }
    }
    found
}

/// Whether `name`, a test or a module of tests, is in one of `sources`. It may leave out what comes before or after (`…`).
fn is_there(name: &str, sources: &[(&str, &str)]) -> bool {
    let name = name.strip_prefix("…::").unwrap_or(name);
    let (name, whole) = name.strip_suffix('…').map_or((name, true), |start| (start, false));
    let segments: Vec<&str> = name.split("::").collect();
    let Some((last, modules)) = segments.split_last() else { return false };
    let function = if whole { format!("fn {last}(") } else { format!("fn {last}") };
    sources.iter().any(|(path, text)| {
        let file: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
        let inside: Vec<&str> = file.iter().copied().chain(["tests"]).collect();
        let has_tests = text.contains("\nmod tests {");
        let is_module = file.ends_with(&segments) || has_tests && inside.ends_with(&segments);
        let in_module = file.ends_with(modules) || has_tests && inside.ends_with(modules);
        is_module || in_module && text.contains(&function)
    })
}

/// What is named in `text` between backticks and is not in `sources`; how much is.
fn missing(text: &str, sources: &BTreeMap<String, String>) -> (usize, Vec<String>) {
    let all: Vec<(&str, &str)> = sources.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let below = |path: &str| -> Vec<(&str, &str)> {
        let file = |(found, _): &(&str, &str)| *found == path || path.ends_with('/') && found.starts_with(path);
        all.iter().filter(|source| file(source)).copied().collect()
    };
    let (mut there, mut missing) = (0, Vec::new());
    for part in text.split("\n\n").flat_map(|paragraph| paragraph.split(" |\n")) {
        // Where the tests are that follow, and whether something of the kind was named right before.
        let (mut scope, mut follows) = (all.clone(), false);
        let pieces: Vec<&str> = part.split('`').collect();
        for pair in pieces.chunks(2) {
            let [between, token] = pair else { break };
            follows &= between.chars().all(|c| c == ',' || c.is_whitespace());
            let is_path = ROOTS.iter().any(|root| token.starts_with(&format!("{root}/")));
            let is_name = token.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:…".contains(c))
                && token.split("::").all(|segment| !segment.is_empty());
            let found = if is_path {
                scope = below(token);
                !scope.is_empty()
            } else if ["egress", "reconciler"].contains(token) {
                (scope, follows) = (below(&format!("{token}/")), true);
                continue;
            } else if is_name && (follows || token.contains("::")) {
                is_there(token, &scope)
            } else {
                follows = false;
                continue;
            };
            follows = true;
            if found { there += 1 } else { missing.push((*token).to_owned()) }
        }
    }
    (there, missing)
}

#[test]
fn the_tests_that_promises_name_are_there() {
    let (there, missing) = missing(include_str!("../../docs/SECURITY.md"), &sources());
    assert!(missing.is_empty(), "docs/SECURITY.md names what is nowhere: {missing:?}");
    assert!(there > 80, "only {there} names were found in it");
}

#[test]
fn a_test_that_is_renamed_is_missed() {
    let source = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let sources = BTreeMap::from([
        source("egress/src/flows/tests.rs", "#[test]\nfn one_thing() {\n"),
        source("egress/src/limits.rs", "\nmod tests {\n    fn another_thing() {\n"),
        source("tests/podman/secret.rs", "    fn a_secret(engine) {\n"),
    ]);
    let all =
        "`tests/podman/secret.rs` `a_secret`, `egress` `flows::tests::one_thing`, `limits::tests`, `…::another_t…`";
    assert_eq!(missing(all, &sources), (5, Vec::new()));
    for (text, gone) in [
        ("`tests/podman/secrets.rs`", "tests/podman/secrets.rs"),
        ("`tests/podman/secret.rs` `one_secret`", "one_secret"),
        ("| 1 | `egress` `flows::tests::two_things` |\n", "flows::tests::two_things"),
        ("`flows::tests::one_thin`", "flows::tests::one_thin"),
        ("`bounds::tests`", "bounds::tests"),
        ("`reconciler` `flows::tests::one_thing`", "flows::tests::one_thing"),
        ("`tests/podman/secret.rs` `limits::tests`", "limits::tests"),
    ] {
        assert_eq!(missing(text, &sources).1, [gone], "{text}");
    }
}
