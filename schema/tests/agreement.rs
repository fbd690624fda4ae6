//! The JSON Schema, which editors read, and the program agree.
//!
//! Every place of the valid documents gets odd values, every key is left out, gets another name or company that nobody
//! knows. What the program takes, the schema takes, without exception. What the program refuses, the schema refuses, but
//! for what is [`BEYOND`] a schema; and the program says where it is and what to do.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use schema::document::parse;
use schema::{Diagnostic, Severity, Source, json_schema, load};
use serde_json::{Value, json};

#[path = "fixed/caller.rs"]
mod caller;

use caller::caller;

const EVERYTHING: &str = include_str!("../../fixtures/valid/everything.yaml");
const EGRESS: &str = include_str!("../../fixtures/valid/egress.yaml");

/// What the program alone refuses: the code, a part of the message, and a part of the place that was changed.
const BEYOND: &[(&str, &str, &str)] = &[
    // No document, so that there is no value yet.
    ("number-range", "", ""),
    // A name that must exist, or must not exist twice.
    ("unknown-reference", "", ""),
    ("duplicate-name", "", ""),
    ("duplicate-target", "", ""),
    ("wrong-value", "there is no capability", "/security"),
    ("invalid-rule", "is there twice", ""),
    // What one field says is wrong because of another; what a sandbox has may come from a layer.
    ("missing-field", "has no `image`", ""),
    ("allowlist-parameter", "", ""),
    ("unenforceable", "", ""),
    // What all rules of a sandbox come to together.
    ("too-many-udp-ports", "", ""),
    ("variable-unset", "", "/params"),
    ("wrong-value", "made of host directories", "/from"),
    ("invalid-rule", "names its ports", ""),
    ("invalid-rule", "matches no path", "/egress/allow/"),
    // Paths that are the host's or the engine's, however they are written.
    ("reserved-target", "", ""),
    ("relabel-shared", "", ""),
    ("engine-socket", "", ""),
    ("invalid-path", "cannot be a home directory", "/user/home"),
    ("invalid-path", "longer than 4095 bytes", ""),
    ("wrong-value", "`/etc`", "/etc"),
    ("wrong-value", "`/etc/", "/etc"),
    // Arithmetic and the calendar.
    ("wrong-value", "too little", ""),
    ("wrong-value", "too much", ""),
    ("wrong-value", "`99999999999999999999TiB` is not a size", ""),
    ("wrong-value", "`99999999999999999999s` is not a duration", ""),
    ("invalid-rule", "`99999999999999999999s` is not a duration", ""),
    ("invalid-rule", "ends before it begins", ""),
    ("invalid-rule", "`2027-02-30` is not a date", ""),
    // Grammars of others: DNS, URLs, Git. And the one method that is none.
    ("invalid-rule", "names no hosts", ""),
    ("invalid-rule", "is not a name", "/hosts"),
    ("invalid-rule", "`CONNECT` makes a tunnel", ""),
    ("invalid-target", "", "/tests"),
    ("wrong-value", "cannot name a", "/worktrees"),
    ("wrong-value", "is not the address of a repository", "/repo"),
    // Only tuples tell the first of a list from the others, and strict validators want them closed.
    ("wrong-value", "the program is empty", "/command"),
];

/// How many texts are tried in place of a list or a mapping.
const SOME: usize = 3;

/// Texts, and values that are none.
fn odd_values() -> (Vec<Value>, Vec<Value>) {
    let words = "x 0 host -1 1 1.0 0.0005 0.12345 1e9 0443 65535 65536 8010-8000 0-5 8192.5 0s 0m0s 10s 1h05m \
                 99999999999999999999s 4GB 1.5GiB 0GiB 0.0GiB 1.0000000000001GiB 99999999999999999999TiB unlimited never \
                 caller all yes null 2027-02-30 2027-13-01 20270101 / /x /dev/null /proc/x ./x ../x ~ ~/x ~bob abc ABC a--b \
                 a-b ab- 9ab a_b GET get CONNECT GE(T ** * *.x example.org host:443 [::1] ::1 ::1:80 [::1]:80 10.0.0.0/8 \
                 10.0.0.1 http://x:80 http://x x:+80 socks5://x:1 reg:+5/x Reg/x a.b/c:d a=b v/c=d NET_RAW NET-RAW é \
                 ${X:-1} ${X:-10s} ${USER} ${NOPE} ${ $${x} ~${X:-/x}";
    let texts = words.split_whitespace().chain(["", " ", "   ", "443 ", "1.5 GiB", "a b", "a\nb", "\t", "a\u{85}b"]);
    let mut texts: Vec<Value> = texts.map(Value::from).collect();
    texts.push("a".repeat(5000).into());
    let mut others: Vec<Value> = [0_i64, -1, 1, 512, 65_536, 1 << 32, 1 << 53, i64::MAX].map(Value::from).into();
    others.push((1_u64 << 63).into());
    others.extend([1.0, -1.0, -0.0, 3.0, 1.5, 0.001, 0.300_000_000_000_000_04, 8192.5, 1e9, 1e300].map(Value::from));
    others.extend([
        json!(null),
        json!(true),
        json!(false),
        json!([]),
        json!({}),
        json!([[]]),
        json!([null]),
        json!([0]),
    ]);
    others.extend([json!([""]), json!(["", "a"]), json!(["a"]), json!(["a", "a"]), json!([{}])]);
    others.extend([json!({"": ""}), json!({"a": "b"}), json!({"a": {}}), json!({"a": []}), json!({"use": "x"})]);
    (texts, others)
}

/// Calls `visit` with the place of every value below `value`, as a JSON pointer.
fn places(value: &Value, place: &str, visit: &mut impl FnMut(&str)) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => {
            fields.iter().map(|(key, child)| (key.replace('~', "~0").replace('/', "~1"), child)).collect()
        }
        Value::Array(items) => items.iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect(),
        _ => Vec::new(),
    };
    for (step, child) in children {
        let place = format!("{place}/{step}");
        visit(&place);
        places(child, &place, visit);
    }
}

/// What `place` of `document` is in the language: the same wherever a sandbox or a rule is written, and under any name.
fn kind(document: &Value, place: &str) -> String {
    const NAMED: [&str; 15] = [
        "profiles",
        "images",
        "allowlists",
        "secrets",
        "volumes",
        "networks",
        "sandboxes",
        "params",
        "hosts",
        "headers",
        "set",
        "add",
        "args",
        "env",
        "tmpfs",
    ];
    let mut steps: Vec<&str> = Vec::new();
    for step in place.split('/').skip(1) {
        let index = step.bytes().all(|byte| byte.is_ascii_digit());
        let chosen = steps.last().is_some_and(|last| NAMED.contains(last));
        steps.push(if index || chosen { "*" } else { step });
    }
    let mut kind = steps.join("/");
    for (written, is) in [
        ("defaults", "sandboxes/*"),
        ("profiles/*", "sandboxes/*"),
        ("sandboxes/*/egress", "egress"),
        ("images/*/setup/egress", "egress"),
        ("egress/allow/*", "rule"),
        ("egress/deny/*", "rule"),
        ("allowlists/*/rules/*", "rule"),
        ("allowlists/*/*", "rule"),
    ] {
        if let Some(rest) = kind.strip_prefix(written).filter(|rest| rest.is_empty() || rest.starts_with('/')) {
            kind = format!("{is}{rest}");
        }
    }
    let parent = place.rsplit_once('/').and_then(|(parent, _)| document.pointer(parent));
    if parent.is_some_and(|parent| parent.get("use").is_some()) { format!("{kind} of a use") } else { kind }
}

/// `document` without what the value at `place` has nothing to do with: the less there is, the faster it is read.
fn around(document: &Value, place: &str) -> Value {
    let mut document = document.clone();
    let mut steps = place.split('/').skip(1);
    let Some(root) = document.as_object_mut() else { return document };
    match (steps.next(), steps.next(), steps.next()) {
        (Some("sandboxes"), Some(name), field) => {
            root.retain(|key, _| !matches!(key.as_str(), "tests" | "assert"));
            for (_, sandboxes) in root.iter_mut().filter(|(key, _)| *key == "sandboxes") {
                let sandboxes = sandboxes.as_object_mut().expect("a mapping");
                sandboxes.retain(|known, _| known == name);
                for fields in sandboxes.values_mut().filter_map(Value::as_object_mut).filter(|_| field.is_some()) {
                    fields.retain(|key, _| matches!(key.as_str(), "extends" | "image") || Some(key.as_str()) == field);
                }
            }
        }
        // A sandbox that hides nothing of the layer: what is hidden is checked for its structure only.
        (Some(section @ ("defaults" | "profiles")), name, _) => {
            root.retain(|key, _| !matches!(key.as_str(), "tests" | "assert"));
            let extends = name.filter(|_| section == "profiles").map_or(json!([]), |name| json!([name]));
            root.insert("sandboxes".to_owned(), json!({"api": {"image": "host", "extends": extends}}));
        }
        (Some("allowlists"), ..) => {
            root.retain(|key, _| matches!(key.as_str(), "apiVersion" | "project" | "allowlists" | "secrets"));
        }
        (Some(section @ ("quotas" | "images" | "secrets" | "volumes" | "networks")), ..) => {
            root.retain(|key, _| key == section || matches!(key.as_str(), "apiVersion" | "project" | "allowlists"));
        }
        _ => {}
    }
    document
}

/// What is said of one document by both.
struct Trial {
    validator: jsonschema::Validator,
    taken: usize,
    refused: usize,
    wrong: String,
}

impl Trial {
    fn new() -> Self {
        let validator = jsonschema::draft7::new(&json_schema()).expect("a schema");
        Self { validator, taken: 0, refused: 0, wrong: String::new() }
    }

    /// Judges `document`, which differs from a valid one at `place` by `change`.
    fn judge(&mut self, document: &Value, place: &str, change: &str) {
        let text = document.to_string();
        let sources = [Source { name: "sandboxes.yaml".into(), directory: "/project".into(), text }];
        let mut errors = load(&sources, &caller()).diagnostics;
        errors.retain(|problem| problem.severity == Severity::Error);
        let valid = self.validator.is_valid(document);
        let change: String = change.chars().take(60).collect();
        for problem in errors.iter().filter(|problem| problem.span.is_none() || problem.help.is_none()) {
            let _ = writeln!(self.wrong, "{place} {change}: neither where nor what to do: {problem:?}");
        }
        match (valid, errors.is_empty()) {
            (true, true) => self.taken += 1,
            (false, false) => self.refused += 1,
            (false, true) => {
                let why: Vec<String> = self.validator.iter_errors(document).map(|error| error.to_string()).collect();
                let _ = writeln!(self.wrong, "{place} {change}: only the schema refuses it: {why:?}");
            }
            (true, false) => {
                // What a variable comes to is known when it is filled in.
                let open = change.contains("${");
                for problem in errors.iter().filter(|problem| !open && !is_beyond(problem, place)) {
                    let said = (problem.code, &problem.message);
                    let _ = writeln!(self.wrong, "{place} {change}: only the program refuses it: {said:?}");
                }
            }
        }
    }

    fn done(self) {
        assert!(self.wrong.is_empty(), "{} differences:\n{}", self.wrong.lines().count(), self.wrong);
        assert!(self.taken > 100 && self.refused > 100, "{} taken, {} refused", self.taken, self.refused);
    }
}

fn is_beyond(problem: &Diagnostic, place: &str) -> bool {
    BEYOND.iter().any(|(code, message, at)| {
        problem.code.strip_prefix("sbx::") == Some(code) && problem.message.contains(message) && place.contains(at)
    })
}

fn read(text: &str) -> Value {
    let mut problems = Vec::new();
    let value = parse(0, text, &mut problems).expect("a document").to_value();
    serde_json::to_value(value).expect("text keys")
}

fn kinds_of_places(document: &Value) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    places(document, "", &mut |place| {
        if seen.insert(kind(document, place)) {
            found.push(place.to_owned());
        }
    });
    found
}

/// Puts every odd value at every place of `text` of which `chosen` is true.
fn substitute(text: &str, chosen: impl Fn(&str) -> bool) {
    let document = read(text);
    let (texts, others) = odd_values();
    let mut trial = Trial::new();
    for place in kinds_of_places(&document).iter().filter(|place| chosen(place)) {
        let mut changed = around(&document, place);
        let was = changed.pointer(place).cloned().unwrap_or_default();
        // Of texts one is as wrong as another where there is none.
        let texts = if was.is_object() || was.is_array() { &texts[..SOME] } else { &texts };
        for value in texts.iter().chain(&others) {
            changed.pointer_mut(place).expect("the place").clone_from(value);
            trial.judge(&changed, place, &value.to_string());
        }
    }
    trial.done();
}

fn is_of_sandbox(place: &str) -> bool {
    place.starts_with("/sandboxes")
}

#[test]
fn odd_values_of_sandboxes() {
    substitute(EVERYTHING, is_of_sandbox);
}

#[test]
fn odd_values_beside_sandboxes() {
    substitute(EVERYTHING, |place| !is_of_sandbox(place));
}

#[test]
fn odd_values_of_egress() {
    substitute(EGRESS, is_of_sandbox);
}

#[test]
fn odd_values_of_allowlists() {
    substitute(EGRESS, |place| place.starts_with("/allowlists"));
}

#[test]
fn odd_values_beside_egress() {
    substitute(EGRESS, |place| !is_of_sandbox(place) && !place.starts_with("/allowlists"));
}

#[test]
fn keys_that_are_missing_renamed_or_unknown() {
    const NAMES: [&str; 8] = ["", "ab", "a--b", "A b", "1x", "/x", "x:y", "something-else"];
    let mut trial = Trial::new();
    for document in [EVERYTHING, EGRESS].map(read) {
        for place in kinds_of_places(&document) {
            let around = around(&document, &place);
            let (parent, step) = place.rsplit_once('/').expect("a pointer");
            let key = step.replace("~1", "/").replace("~0", "~");
            let mut without = around.clone();
            match without.pointer_mut(parent).expect("the parent") {
                Value::Object(fields) => drop(fields.shift_remove(&key)),
                Value::Array(items) => drop(items.remove(key.parse().expect("an index"))),
                _ => continue,
            }
            trial.judge(&without, &place, "left out");
            let Some(value) = around.pointer(&place) else { continue };
            for name in NAMES {
                if let Some(Value::Object(fields)) = without.pointer_mut(parent) {
                    fields.insert(name.to_owned(), value.clone());
                    trial.judge(&without, &place, &format!("named {name:?}"));
                }
                if let Some(Value::Object(fields)) = without.pointer_mut(parent) {
                    fields.shift_remove(name);
                }
            }
            let mut more = around.clone();
            if let Some(Value::Object(fields)) = more.pointer_mut(&place) {
                fields.insert("something_else".to_owned(), json!(1));
                trial.judge(&more, &place, "with something else");
            }
        }
    }
    trial.done();
}

/// Where they do not agree, as docs/ci.md says: a layer over another file is no document of its own, and text that no
/// sandbox comes to is not interpreted.
#[test]
fn known_differences() {
    let validator = jsonschema::draft7::new(&json_schema()).expect("a schema");
    let source = |name: &str, text: &str| Source { name: name.into(), directory: "/project".into(), text: text.into() };
    let taken = |texts: &[&str]| {
        let sources: Vec<Source> = texts.iter().map(|text| source("sandboxes.yaml", text)).collect();
        load(&sources, &caller()).config.is_some()
    };
    let base = "apiVersion: sbx/v1\nproject: acme\nsandboxes: { api: { image: host } }\n";
    let over = "sandboxes: { api: { restart: always } }\n";
    assert!(taken(&[base, over]) && !taken(&[over]));
    assert!(validator.is_valid(&read(base)) && !validator.is_valid(&read(over)));
    assert!(validator.is_valid(&read(&format!("apiVersion: sbx/v1\nproject: acme\n{over}"))));

    for layer in ["defaults: { limits: { memory: 4GB } }\n", "profiles: { big: { limits: { memory: 4GB } } }\n"] {
        let hidden = format!("{base}{layer}").replace("image: host", "image: host, limits: { memory: 4GiB }");
        let used = hidden
            .replace("limits: { memory: 4GiB }", "extends: [big]")
            .replace("defaults:", "profiles: { big: {} }\ndefaults:");
        assert!(taken(&[&hidden]) && !validator.is_valid(&read(&hidden)), "{hidden}");
        assert!(!taken(&[&used]) && !validator.is_valid(&read(&used)), "{used}");
        let structure = hidden.replace("memory: 4GB", "memoryy: 4GiB");
        assert!(!taken(&[&structure]) && !validator.is_valid(&read(&structure)), "{structure}");
    }
}
