//! What documents mean, where their parts are, and what hostile ones cost.

use std::fmt::Write as _;

use schema::document::{MAX_EXPANDED, MAX_NODES, MAX_TEXT, Node, NodeKind, parse};
use schema::{Diagnostic, Span};

fn read(text: &str) -> (Option<Node>, Vec<Diagnostic>) {
    let mut problems = Vec::new();
    let node = parse(0, text, &mut problems);
    (node, problems)
}

fn good(text: &str) -> Node {
    let (node, problems) = read(text);
    assert_eq!(problems, [], "{text}");
    node.expect("a document")
}

fn codes(text: &str) -> Vec<&'static str> {
    read(text).1.iter().map(|problem| problem.code.trim_start_matches("sbx::")).collect()
}

fn written(text: &str, span: Span) -> &str {
    &text[span.start..span.end]
}

fn json(text: &str) -> serde_json::Value {
    serde_json::to_value(good(text).to_value()).expect("JSON has all of it")
}

#[test]
fn spans_cover_exactly_what_is_written() {
    let cases = [
        ("k: plain text # comment\n", "plain text"),
        ("k: 'it''s'\n", "'it''s'"),
        ("k: \"a\\n\" \n", "\"a\\n\""),
        ("\"k\": é\u{1f600}", "é\u{1f600}"),
        ("\u{feff}k: v\r\nz: 1\r\n", "v"),
        ("k: [1, {a: b}] \n", "[1, {a: b}]"),
        ("k: [\n  1,\n] \nz: 2", "[\n  1,\n]"),
        ("k:\n  a: 1\n  b:\n    - x\n    - y # end\n\n\nz: 2\n", "a: 1\n  b:\n    - x\n    - y"),
        ("k:\n- a\n- b\nz: 2\n", "- a\n- b"),
        ("k: |\n  a\n  b\n\n\nz: 2\n", "a\n  b"),
        ("k: >-\n  a\nz: 2", "a"),
        ("k: one\n  two\nz: 3", "one\n  two"),
        ("k: !!str 12", "12"),
        ("k: &a 12", "12"),
        ("k:\nz: 1", ""),
        ("k: {}", "{}"),
        ("k: ''", "''"),
        ("k:\t v\n", "v"),
    ];
    for (text, expected) in cases {
        let node = good(text);
        let entry = node.entry("k").expect("k");
        assert_eq!(written(text, entry.value.span), expected, "{text:?}");
        assert_eq!(written(text, entry.key_span).trim_matches('"'), "k", "{text:?}");
    }
}

#[test]
fn scalars_are_typed_by_yaml_1_2() {
    let cases = [
        ("[no, yes, on, off, y, n]", "[\"no\", \"yes\", \"on\", \"off\", \"y\", \"n\"]"),
        ("[1_000, 0o17, 0x1f, 017, +1, 1e3, .5, -0]", "[\"1_000\", 15, 31, 17, 1, 1000.0, 0.5, 0]"),
        ("['1', \"true\", 'null', '']", "[\"1\", \"true\", \"null\", \"\"]"),
        ("[null, ~, true, FALSE]", "[null, null, true, false]"),
        ("[!!str 1, !!str , ! 1, !!int '7', !!float 1, !!null '']", "[\"1\", \"\", \"1\", 7, 1.0, null]"),
        ("a:\nb: |\n  1\n", "{\"a\": null, \"b\": \"1\\n\"}"),
        ("{no: 1, yes: 2, '1': 3}", "{\"no\": 1, \"yes\": 2, \"1\": 3}"),
        ("!!map {a: !!seq [1]}", "{\"a\": [1]}"),
        ("--- \na: 1\n...\n", "{\"a\": 1}"),
        ("%YAML 1.2\n---\na: 1", "{\"a\": 1}"),
    ];
    for (text, expected) in cases {
        assert_eq!(json(text), serde_json::from_str::<serde_json::Value>(expected).expect("JSON"), "{text}");
    }
}

#[test]
fn aliases_and_merges_are_resolved() {
    let cases = [
        ("a: &x [1, &y 2]\nb: *x\nc: *y", "{\"a\": [1, 2], \"b\": [1, 2], \"c\": 2}"),
        ("a: &x 1\nb: *x\nc: &x 2\nd: *x", "{\"a\": 1, \"b\": 1, \"c\": 2, \"d\": 2}"),
        (
            "a: &x {k: 1}\nb: &y {l: *x}\nc: [*y, *y]",
            "{\"a\": {\"k\": 1}, \"b\": {\"l\": {\"k\": 1}}, \"c\": [{\"l\": {\"k\": 1}}, {\"l\": {\"k\": 1}}]}",
        ),
        ("a: &x name\n*x : 1", "{\"a\": \"name\", \"name\": 1}"),
        ("&k key: v\nb: *k", "{\"key\": \"v\", \"b\": \"key\"}"),
        ("a: &x {k: 1, l: 2}\nb: {<<: *x, k: 3}", "{\"a\": {\"k\": 1, \"l\": 2}, \"b\": {\"k\": 3, \"l\": 2}}"),
        ("b: {<<: [{k: 1}, {k: 2, l: 2}], m: 3}", "{\"b\": {\"m\": 3, \"k\": 1, \"l\": 2}}"),
        (
            "a: &x {k: 1}\nb: &y {<<: *x, l: 2}\nc: {<<: *y}",
            "{\"a\": {\"k\": 1}, \"b\": {\"l\": 2, \"k\": 1}, \"c\": {\"l\": 2, \"k\": 1}}",
        ),
        ("{'<<': 1, a: <<}", "{\"<<\": 1, \"a\": \"<<\"}"),
    ];
    for (text, expected) in cases {
        assert_eq!(json(text), serde_json::from_str::<serde_json::Value>(expected).expect("JSON"), "{text}");
    }
}

#[test]
fn what_an_alias_brings_says_where_it_is_written_and_where_it_is_used() {
    let text = "a: &x {k: {l: 1}}\nb: *x\nc: {<<: *x}\n";
    let node = good(text);
    let inner = |key: &str| node.get(key).and_then(|value| value.get("k")).and_then(|value| value.get("l")).expect("l");
    assert_eq!(inner("a").used_at(), None);
    for (key, start) in [("b", 21), ("c", 32)] {
        let used = inner(key).used_at().expect("a use");
        assert_eq!((written(text, inner(key).span), written(text, used), used.start), ("1", "*x", start));
    }
    assert_eq!(written(text, node.span), text.trim_end());
}

#[test]
fn problems_of_documents_have_codes_and_both_places() {
    // Code, what is marked, what is marked besides.
    type Problem = (&'static str, &'static str, &'static [&'static str]);
    let cases: &[(&str, &[Problem])] = &[
        ("a: 1\nb: 2\na: 3\na: 4", &[("duplicate-key", "a", &["a"]), ("duplicate-key", "a", &["a"])]),
        ("a: &x {k: 1, k: 2}\nb: *x", &[("duplicate-key", "k", &["k"])]),
        ("x: &a {}\nb: {<<: *a, <<: *a}", &[("duplicate-key", "<<", &["<<"])]),
        (
            "1: a\ntrue: b\n~: c\n? [x]\n: d\n? {}\n: e\n1.5: f",
            &[
                ("key-not-text", "1", &[]),
                ("key-not-text", "true", &[]),
                ("key-not-text", "~", &[]),
                ("key-not-text", "[x]", &[]),
                ("key-not-text", "{}", &[]),
                ("key-not-text", "1.5", &[]),
            ],
        ),
        ("a: &small 1\nb: *smal", &[("unknown-alias", "*smal", &["&small"])]),
        ("b: *x\na: &x 1", &[("unknown-alias", "*x", &[])]),
        ("a: &x [*x]\nb: *x", &[("alias-cycle", "*x", &["&x"])]),
        ("a: &x {<<: *x}", &[("alias-cycle", "*x", &["&x"]), ("merge-not-mapping", "*x", &[])]),
        ("a: &x 1\nb: {<<: *x}", &[("merge-not-mapping", "*x", &["1"])]),
        ("b: {<<: [{}, 2, x]}", &[("merge-not-mapping", "2", &[]), ("merge-not-mapping", "x", &[])]),
        (
            "a: !include x\nb: !<tag:x.org:y> [1]\nc: !!binary aa",
            &[("custom-tag", "!include", &[]), ("custom-tag", "!<tag:x.org:y>", &[]), ("custom-tag", "!!binary", &[])],
        ),
        (
            "a: !!int x\nb: !!seq {}\nc: !!map x",
            &[("tag-mismatch", "!!int", &[]), ("tag-mismatch", "!!seq", &[]), ("tag-mismatch", "!!map", &[])],
        ),
        ("a: 99999999999999999999", &[("number-range", "99999999999999999999", &[])]),
        ("a: 1\n---\nb: 2\n---\n{", &[("several-documents", "---", &[])]),
        ("", &[("empty-document", "", &[])]),
        ("\u{feff}", &[("empty-document", "", &[])]),
        ("# only this\r\n", &[("empty-document", "", &[])]),
        ("---\n...\n", &[("empty-document", "", &[])]),
        ("a:\n\tb: 1", &[("syntax", "\t", &[])]),
        ("a: @x", &[("syntax", "@", &[])]),
        ("é: [1", &[("syntax", "[", &[])]),
        ("a:\n  b: 1\n c: 2", &[("syntax", "c", &[])]),
    ];
    for (text, expected) in cases {
        let found: Vec<_> = read(text)
            .1
            .iter()
            .map(|problem| {
                let span = problem.span.expect("a place");
                let related: Vec<&str> = problem.related.iter().map(|(span, _)| written(text, *span)).collect();
                (problem.code.trim_start_matches("sbx::"), written(text, span), related)
            })
            .collect();
        let expected: Vec<_> =
            expected.iter().map(|(code, place, related)| (*code, *place, related.to_vec())).collect();
        assert_eq!(found, expected, "{text:?}");
    }
}

#[test]
fn bombs_end_at_the_budget() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..20 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        writeln!(laughs, "a{level}: &a{level} [{aliases}]").expect("a String takes everything");
    }
    let mut merges = String::from("a0: &a0 {k0: {x: 1}}\n");
    for level in 1..40 {
        let before = level - 1;
        writeln!(merges, "a{level}: &a{level} {{<<: *a{before}, p{level}: *a{before}, q{level}: *a{before}}}")
            .expect("a String takes everything");
    }
    let long = format!("a: &a \"{}\"\nb: [{}]", "x".repeat(1 << 20), "*a,".repeat(1000));
    for bomb in [laughs, merges, long] {
        let (node, problems) = read(&bomb);
        assert!(node.is_none());
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].code, "sbx::alias-budget");
        assert!(written(&bomb, problems[0].span.expect("a place")).starts_with('*'));
        assert!(written(&bomb, problems[0].related[0].0).starts_with('&'));
    }
}

#[test]
fn the_budgets_leave_room_for_honest_files() {
    // As many aliases as fit, and one more.
    let aliases = |count: usize| format!("a: &a x\nb: [{}]", "*a,".repeat(count));
    assert_eq!(codes(&aliases(MAX_EXPANDED)), [""; 0]);
    assert_eq!(codes(&aliases(MAX_EXPANDED + 1)), ["alias-budget"]);
    // Root, `a`, the sequence.
    let plain = |count: usize| format!("a: [{}]", "x,".repeat(count));
    assert_eq!(codes(&plain(MAX_NODES - 3)), [""; 0]);
    assert_eq!(codes(&plain(MAX_NODES - 2)), ["too-large"]);
}

#[test]
fn hostile_texts_are_refused() {
    let nested = |open: &str, close: &str, count: usize| format!("{}{}", open.repeat(count), close.repeat(count));
    assert_eq!(codes(&nested("[", "]", 64)), [""; 0]);
    assert_eq!(codes(&nested("[", "]", 65)), ["too-deep"]);
    assert_eq!(codes(&nested("[", "", 1 << 20)), ["too-deep"]);
    assert_eq!(codes(&nested("{a: ", "}", 65)), ["too-deep"]);
    assert_eq!(codes(&nested("- ", "", 1 << 20)), ["too-deep"]);
    assert_eq!(codes(&"x".repeat(MAX_TEXT + 1)), ["too-large"]);
    // Depth made of aliases.
    let mut chain = String::from("a0: &a0 [x]\n");
    for level in 1..80 {
        writeln!(chain, "a{level}: &a{level} [*a{}]", level - 1).expect("a String takes everything");
    }
    assert_eq!(codes(&chain), ["too-deep"]);
    // Very many problems.
    assert_eq!(codes(&"- *x\n".repeat(100_000)).len(), 200);
    // Not text at all.
    for text in ["\0", "a: \u{1}", "a\u{7}b: 1", "\u{feff}\u{feff}"] {
        assert!(!codes(text).is_empty(), "{text:?}");
    }
}

#[test]
fn values_keep_their_kind() {
    assert_eq!(good("a: 0").get("a").map(|node| node.kind.clone()), Some(NodeKind::Integer(0)));
    assert_eq!(good("a: .inf").get("a").map(|node| node.kind.clone()), Some(NodeKind::Float(f64::INFINITY)));
}
