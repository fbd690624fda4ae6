//! What holds for every text.

use std::collections::BTreeMap;

use miette::{GraphicalReportHandler, GraphicalTheme};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use schema::document::{Node, NodeKind, parse};
use schema::{Diagnostic, Source, Span, report};
use serde_yaml::Value;

const PIECES: &[&str] = &[
    "a",
    "b: ",
    "- ",
    "  ",
    "\n",
    "\r\n",
    "\t",
    "? ",
    ": ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "&x ",
    "*x",
    "<<: ",
    "!!str ",
    "!t ",
    "'",
    "\"",
    "|\n",
    ">-\n",
    "# c\n",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "é",
    "\u{1f600}",
    "\u{feff}",
    "~",
    "1",
    "\\",
    "${",
    "}",
    "k: v\n",
    "\n  ",
    "\n    ",
    "\u{85}",
    "\u{2028}",
];

/// Text that is nearly YAML, which reaches further into the reader than arbitrary text.
fn yamlish() -> impl Strategy<Value = String> {
    vec(prop::sample::select(PIECES), 0..40).prop_map(|pieces| pieces.concat())
}

fn check_span(text: &str, span: Span) -> Result<(), TestCaseError> {
    prop_assert_eq!(span.source, 0);
    prop_assert!(text.get(span.start..span.end).is_some(), "{:?} is no part of {:?}", span, text);
    Ok(())
}

fn check_node(text: &str, node: &Node) -> Result<(), TestCaseError> {
    check_span(text, node.span)?;
    if let Some(span) = node.used_at() {
        check_span(text, span)?;
    }
    for item in node.items() {
        check_node(text, item)?;
    }
    for entry in node.entries() {
        check_span(text, entry.key_span)?;
        check_node(text, &entry.value)?;
    }
    Ok(())
}

fn check_problems(text: &str, problems: &[Diagnostic]) -> Result<(), TestCaseError> {
    for problem in problems {
        check_span(text, problem.span.expect("problems of a text have a place"))?;
        for (span, _) in &problem.related {
            check_span(text, *span)?;
        }
        prop_assert!(schema::codes::find(problem.code).is_some(), "{} is not in the catalogue", problem.code);
    }
    let sources = [Source { name: "x.yaml".into(), directory: "/".into(), text: text.into() }];
    let located = report::locate(&sources, problems);
    prop_assert!(located.iter().all(|problem| problem.location.is_some()));
    prop_assert_eq!(report::github(&located).lines().count(), problems.len());
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::none());
    let mut out = String::new();
    for report in report::reports(&sources, problems) {
        prop_assert!(handler.render_report(&mut out, &report).is_ok(), "rendering failed for {:?}", text);
    }
    Ok(())
}

fn check_text(text: &str) -> Result<(), TestCaseError> {
    let mut problems = Vec::new();
    match parse(0, text, &mut problems) {
        Some(node) => check_node(text, &node)?,
        None => prop_assert!(!problems.is_empty(), "nothing came of {:?}, and nobody says why", text),
    }
    check_problems(text, &problems)
}

/// Values every YAML reader agrees on.
fn value() -> impl Strategy<Value = Value> {
    // The writer breaks lines at three characters that YAML 1.2 no longer counts as line breaks.
    let any_text = any::<String>().prop_map(|text| text.replace(['\u{85}', '\u{2028}', '\u{2029}'], " "));
    let text = prop_oneof![
        any_text,
        "[ -~]{0,12}",
        prop::sample::select(
            &["no", "on", "1_000", "0o7", "1e3", ".inf", "~", "null", "", "é\n", "- a", "a: b", "#"][..]
        )
        .prop_map(str::to_owned),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9_f64).prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            btree_map("[a-zé][a-z0-9 -]{0,8}[a-z]", inner, 0..6).prop_map(|map| Value::Mapping(
                map.into_iter().map(|(key, value)| (Value::from(key), value)).collect()
            )),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused_with_places_inside_of_it(text in any::<String>()) {
        check_text(&text)?;
    }

    #[test]
    fn nearly_yaml_is_read_or_refused_with_places_inside_of_it(text in yamlish()) {
        check_text(&text)?;
    }

    #[test]
    fn a_damaged_file_is_read_or_refused(at in any::<prop::sample::Index>(), piece in yamlish()) {
        let mut text = include_str!("../../fixtures/invalid/merge-not-mapping.yaml").to_owned();
        let at = text.floor_char_boundary(at.index(text.len()));
        text.insert_str(at, &piece);
        check_text(&text)?;
    }

    #[test]
    fn values_are_what_serde_yaml_reads(value in value()) {
        let document = Value::Sequence(vec![value]);
        let text = serde_yaml::to_string(&document).expect("YAML");
        let mut problems = Vec::new();
        let node = parse(0, &text, &mut problems);
        prop_assert_eq!(&problems, &[], "{}", text);
        let ours = node.expect("a document").to_value();
        prop_assert_eq!(&ours, &document, "{}", text);
        prop_assert_eq!(ours, serde_yaml::from_str::<Value>(&text).expect("YAML"));
    }

    #[test]
    fn empty_documents_are_neutral_in_merging(value in value()) {
        let document = Value::Mapping([(Value::from("sandboxes"), value)].into_iter().collect());
        let text = serde_yaml::to_string(&document).expect("YAML");
        let read = || parse(0, &text, &mut Vec::new()).expect("a document");
        let empty = || Node::new(read().span, NodeKind::Mapping([].into()));
        prop_assert!(schema::merge(&read(), &empty()).same_value(&read()));
        prop_assert!(schema::merge(&empty(), &read()).same_value(&read()));
    }

    #[test]
    fn variables_never_leave_the_text(text in prop_oneof![any::<String>(), "[$:{}A-C?é-]{0,30}"]) {
        let env: BTreeMap<String, String> = [("A".to_owned(), "x".to_owned())].into();
        let source = format!("k: {text}\n");
        let span = Span { source: 0, start: 3, end: 3 + text.len() };
        let mut problems = Vec::new();
        let expanded = schema::expand(&text, span, &source, &env, &mut problems);
        prop_assert_eq!(expanded.is_none(), !problems.is_empty());
        if !text.contains('$') {
            prop_assert_eq!(expanded.as_deref(), Some(text.as_str()));
        }
        check_problems(&source, &problems)?;
    }
}
