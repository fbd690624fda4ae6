#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;

use super::*;
use crate::{Caller, Config, load};

fn source(text: &str) -> Vec<Source> {
    vec![Source { name: "a.yaml".into(), directory: "/".into(), text: text.to_owned() }]
}

fn config(sources: &Sources) -> Config {
    let caller = Caller {
        env: BTreeMap::new(),
        home: "/home/alice".into(),
        user: "alice".into(),
        uid: 1000,
        gid: 1000,
        data_dir: "/data".into(),
        engine_sockets: Vec::new(),
        today: jiff::civil::date(2026, 11, 25),
    };
    let loaded = load(sources, &caller);
    loaded.config.unwrap_or_else(|| panic!("{}\n{:#?}", sources[0].text, loaded.diagnostics))
}

fn hosts(sources: &Sources, sandbox: &str) -> Vec<String> {
    config(sources).sandboxes[sandbox].egress.policy.allow.iter().map(|rule| rule.host.to_string()).collect()
}

const HEAD: &str = "apiVersion: sbx/v1\nproject: acme # ours\n";

/// Adds two rules; what came of it, with the hosts that are then allowed.
fn added(body: &str) -> Result<String, EditError> {
    let sources = source(&format!("{HEAD}{body}"));
    let items = ["{ host: new.test }".to_owned(), "{ host: other.test, ports: [22] }".to_owned()];
    let before = hosts(&sources, "api");
    let changed = apply(&sources, &Editor::new(&sources).add_rules("api", &items)?);
    let expected: Vec<String> = before.into_iter().chain(["new.test".to_owned(), "other.test".to_owned()]).collect();
    assert_eq!(hosts(&changed, "api"), expected, "{}", changed[0].text);
    Ok(changed[0].text.strip_prefix(HEAD).unwrap().to_owned())
}

#[test]
fn rules_are_added_in_the_style_of_what_is_there() {
    let cases = [
        (
            "sandboxes:\n  api:\n    image: host\n    egress:\n      allow:\n        - { host: a.test } # first\n        # the last\n        - host: b.test\n          ports: [443] # tls\n      # none\n      deny: []\n  web: { image: host }\n",
            "sandboxes:\n  api:\n    image: host\n    egress:\n      allow:\n        - { host: a.test } # first\n        # the last\n        - host: b.test\n          ports: [443] # tls\n        - { host: new.test }\n        - { host: other.test, ports: [22] }\n      # none\n      deny: []\n  web: { image: host }\n",
        ),
        (
            "sandboxes:\n  api:\n    image: host\n    egress:\n      allow:\n      - host: a.test",
            "sandboxes:\n  api:\n    image: host\n    egress:\n      allow:\n      - host: a.test\n      - { host: new.test }\n      - { host: other.test, ports: [22] }",
        ),
        (
            "sandboxes:\n  api: { image: host, egress: { allow: [{ host: a.test }] } } # small\n",
            "sandboxes:\n  api: { image: host, egress: { allow: [{ host: a.test }, { host: new.test }, { host: other.test, ports: [22] }] } } # small\n",
        ),
        (
            "sandboxes:\n  api:\n    image: host\n    egress: { allow: [\n      { host: a.test }, # why\n      { host: b.test }, # why not\n    ] }\n",
            "sandboxes:\n  api:\n    image: host\n    egress: { allow: [\n      { host: a.test }, # why\n      { host: b.test }, { host: new.test }, { host: other.test, ports: [22] }, # why not\n    ] }\n",
        ),
        (
            "sandboxes:\n  api:\n    image: host\n    egress: { allow: [], deny: [] }\n",
            "sandboxes:\n  api:\n    image: host\n    egress: { allow: [{ host: new.test }, { host: other.test, ports: [22] }], deny: [] }\n",
        ),
        (
            "sandboxes:\n  api:\n    image: host\n    egress: { deny: [{ host: x.test }] }\n",
            "sandboxes:\n  api:\n    image: host\n    egress: { deny: [{ host: x.test }], allow: [{ host: new.test }, { host: other.test, ports: [22] }] }\n",
        ),
        (
            "sandboxes:\n  api:\n    image: host\n    egress:\n      deny:\n        - host: x.test\n    command: [sleep, infinity]\n",
            "sandboxes:\n  api:\n    image: host\n    egress:\n      deny:\n        - host: x.test\n      allow:\n        - { host: new.test }\n        - { host: other.test, ports: [22] }\n    command: [sleep, infinity]\n",
        ),
        (
            "sandboxes:\n  api:\n    image: host\n    env:\n      TEXT: |\n        long\n        text\n\n  web: { image: host }\n",
            "sandboxes:\n  api:\n    image: host\n    env:\n      TEXT: |\n        long\n        text\n    egress:\n      allow:\n        - { host: new.test }\n        - { host: other.test, ports: [22] }\n\n  web: { image: host }\n",
        ),
        (
            "sandboxes: { api: { image: host } }\n",
            "sandboxes: { api: { image: host, egress: { allow: [{ host: new.test }, { host: other.test, ports: [22] }] } } }\n",
        ),
        (
            "sandboxes:\r\n  api:\r\n    image: host\r\n    egress:\r\n      allow:\r\n        - host: a.test\r\n",
            "sandboxes:\r\n  api:\r\n    image: host\r\n    egress:\r\n      allow:\r\n        - host: a.test\r\n        - { host: new.test }\r\n        - { host: other.test, ports: [22] }\r\n",
        ),
        (
            "allowlists: { git: &git [{ host: a.test }] }\nsandboxes:\n  api:\n    image: host\n    egress:\n      allow:\n        - git\n",
            "allowlists: { git: &git [{ host: a.test }] }\nsandboxes:\n  api:\n    image: host\n    egress:\n      allow:\n        - git\n        - { host: new.test }\n        - { host: other.test, ports: [22] }\n",
        ),
    ];
    for (before, after) in cases {
        assert_eq!(added(before).as_deref(), Ok(after), "{before}");
    }
}

#[test]
fn what_an_alias_brings_is_left_alone() {
    let shared = "sandboxes:\n  web: { image: host, egress: &shared { allow: [{ host: a.test }] } }\n";
    for api in ["  api: { image: host, egress: *shared }\n", "  api:\n    image: host\n    egress: *shared\n"] {
        assert_eq!(added(&format!("{shared}{api}")), Err(EditError::Aliased));
    }
    let sources = source(&format!("{HEAD}sandboxes: {{ api: {{ image: host }} }}\n"));
    assert_eq!(Editor::new(&sources).add_rules("web", &["{ host: a.test }".into()]), Err(EditError::Absent));
}

fn removed(editor: &Editor<'_>, place: &str) -> Result<Vec<Splice>, EditError> {
    editor.remove(place)
}

/// Edits the rule for `host`, by the place that the configuration says it has.
fn edited(body: &str, host: &str, edit: impl Fn(&Editor<'_>, &str) -> Result<Vec<Splice>, EditError>) -> Vec<Source> {
    let sources = source(&format!("{HEAD}{body}"));
    let before = config(&sources);
    let rules = before.sandboxes.values().flat_map(|sandbox| &sandbox.egress.policy.allow);
    let place = rules.into_iter().find(|rule| rule.host.to_string() == host).unwrap().place.at.clone();
    apply(&sources, &edit(&Editor::new(&sources), &place).unwrap())
}

#[test]
fn rules_go_with_their_lines_and_nothing_else_does() {
    let cases = [
        (
            "allow:\n  - { host: a.test } # a\n  # about c\n  - host: b.test\n    ports: [443] # b\n  - { host: c.test }\n",
            "allow:\n  - { host: a.test } # a\n  # about c\n  - { host: c.test }\n",
        ),
        ("allow:\n  - { host: b.test } # b\n  - { host: c.test }\n", "allow:\n  - { host: c.test }\n"),
        ("allow:\n  - host: b.test\ndeny:\n  - host: x.test\n", "allow: []\ndeny:\n  - host: x.test\n"),
        ("allow: [{ host: a.test }, { host: b.test }]\n", "allow: [{ host: a.test }]\n"),
        ("allow: [{ host: b.test }, { host: a.test }]\n", "allow: [{ host: a.test }]\n"),
        ("allow: [{ host: b.test }]\n", "allow: []\n"),
        (
            "allow: [\n  { host: a.test }, # a\n  { host: b.test }, # b\n  { host: c.test }, # c\n]\n",
            "allow: [\n  { host: a.test }, # a\n  { host: c.test }, # c\n]\n",
        ),
        ("allow: [\n  { host: a.test }, # a\n  { host: b.test } # b\n]\n", "allow: [\n  { host: a.test }, # a\n]\n"),
    ];
    let indented = |text: &str| text.lines().flat_map(|line| ["      ", line, "\n"]).collect::<String>();
    for (before, after) in cases {
        let body =
            |text: &str| format!("sandboxes:\n  api:\n    image: host\n    egress:\n{}    owner: a\n", indented(text));
        let changed = edited(&body(before), "b.test", removed);
        assert_eq!(changed[0].text, format!("{HEAD}{}", body(after)), "{before}");
        assert!(!hosts(&changed, "api").contains(&"b.test".to_owned()));
    }
}

#[test]
fn fields_are_put_in_and_changed_where_they_are() {
    let cases = [
        ("- { host: b.test } # b\n", "- { host: b.test, ports: [443] } # b\n"),
        ("- { host: b.test, ports: [80, 443], reason: x } # b\n", "- { host: b.test, ports: [443], reason: x } # b\n"),
        ("- host: b.test # b\n  reason: x\n", "- host: b.test # b\n  ports: [443]\n  reason: x\n"),
        (
            "- host: b.test\n  ports:\n    - 80\n    - 443\n  reason: x\n",
            "- host: b.test\n  ports: [443]\n  reason: x\n",
        ),
        ("- reason: x\n  host: b.test\n", "- reason: x\n  host: b.test\n  ports: [443]\n"),
    ];
    let indented = |text: &str| text.lines().flat_map(|line| ["        ", line, "\n"]).collect::<String>();
    for (before, after) in cases {
        let body =
            |text: &str| format!("sandboxes:\n  api:\n    image: host\n    egress:\n      allow:\n{}", indented(text));
        let changed = edited(&body(before), "b.test", |editor, place| editor.set(place, "ports", "[443]"));
        assert_eq!(changed[0].text, format!("{HEAD}{}", body(after)), "{before}");
        let ports = &config(&changed).sandboxes["api"].egress.policy.allow[0].ports;
        assert_eq!(ports, &[crate::policy::PortRange::one(443)]);
    }
}

#[test]
fn rules_of_lists_and_layers_are_found_where_they_are_written() {
    let body = "allowlists:\n  git:\n    params: { h: host }\n    rules:\n      - { host: \"${h}\" }\n      - { host: b.test }\n\
        defaults:\n  image: host\n  egress: { allow: [{ host: c.test }] }\n\
        sandboxes:\n  api: { egress: { allow: [{ use: git, h: a.test }] } }\n";
    for (host, left) in [("b.test", ["c.test", "a.test"]), ("c.test", ["a.test", "b.test"])] {
        let changed = edited(body, host, removed);
        assert_eq!(hosts(&changed, "api"), left);
    }
    let sources = source(&format!("{HEAD}{body}"));
    assert_eq!(Editor::new(&sources).remove("a.yaml:1:1"), Err(EditError::Absent));
    let named = source(&format!(
        "{HEAD}allowlists: {{ git: [{{ host: a.test }}] }}\nsandboxes: {{ api: {{ image: host, egress: {{ allow: [git, {{ host: b.test }}] }} }} }}\n"
    ));
    let editor = Editor::new(&named);
    let place = editor.use_of("api", "git").unwrap();
    assert_eq!(hosts(&apply(&named, &editor.remove(&place).unwrap()), "api"), ["b.test"]);
    assert_eq!(editor.use_of("api", "hub"), None);
}
