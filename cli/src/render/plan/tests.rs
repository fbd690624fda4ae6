use reconciler::plan::{FieldChange, Loss, PlanEngine};
use reconciler::resource::ResourceId;
use serde_json::{Value, json};

use super::*;
use crate::render::sample;

fn look(color: bool, width: usize) -> Look {
    Look { color, unicode: false, width }
}

fn shown(look: Look) -> String {
    super::plan(&sample::plan(), Shown::default(), look)
}

#[test]
fn eighty_columns() {
    insta::assert_snapshot!(shown(look(false, 80)));
}

#[test]
fn fifty_columns() {
    insta::assert_snapshot!(shown(look(false, 50)));
}

#[test]
fn in_colour() {
    insta::assert_snapshot!(shown(look(true, 80)).replace('\x1b', "␛"));
}

#[test]
fn colour_changes_no_character() {
    let plain = anstream::adapter::strip_str(&shown(look(true, 80))).to_string();
    assert_eq!(plain, shown(look(false, 80)));
}

#[test]
fn no_line_is_wider_than_asked_and_all_of_it_is_ascii() {
    for width in [40, 50, 80, 200] {
        let text = shown(look(false, width));
        assert!(text.is_ascii(), "{text}");
        // The last line is one line at any width.
        for line in text.lines().filter(|line| !line.starts_with("Plan: ")) {
            assert!(columns(line) <= width, "{width}: {line:?}");
        }
    }
}

#[test]
fn full_shows_unchanged_resources_and_all_lines() {
    let text = super::plan(&sample::plan(), Shown { full: true, ..Shown::default() }, look(false, 80));
    insta::assert_snapshot!(text);
}

#[test]
fn accepted_losses_are_said_but_not_refused() {
    let accepted = [String::from("container/api")];
    let text = super::plan(&sample::plan(), Shown { accepted: &accepted, ..Shown::default() }, look(false, 80));
    assert!(text.contains("loses writable layer: 12 files, 3.1 MiB (accepted)"), "{text}");
    assert!(!text.contains("--accept-loss container/api"), "{text}");
}

#[test]
fn nothing_to_do() {
    let mut plan = sample::plan();
    plan.changes.retain(|change| change.action == Action::Noop);
    plan.summary = Summary { noop: plan.changes.len(), ..Summary::default() };
    plan.warnings.clear();
    plan.partial = false;
    insta::assert_snapshot!(super::plan(&plan, Shown::default(), look(false, 80)));
}

#[test]
fn connections_that_end_are_named() {
    let mut change = sample::change(Action::Update, "policy", "api");
    change.cuts = (1..=7).map(|number| format!("host-{number}.example:443")).collect();
    let plan = Plan { changes: vec![change], ..sample::empty() };
    let text = super::plan(&plan, Shown::default(), look(false, 80));
    let told = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(told.contains("cuts 7 open connections: host-1.example:443, host-2.example:443,"), "{text}");
    assert!(told.contains("host-5.example:443 and 2 more"), "{text}");
    assert!(plan.unaccepted(&[]).next().is_none(), "nobody has to consent");
}

#[test]
fn hostile_values_stay_inside_their_line() {
    let fields = vec![
        FieldChange {
            path: String::from("env.A\nPlan: 0 to create"),
            before: Value::Null,
            after: json!("\u{1b}[2J\u{202e}evil"),
            forces_replacement: false,
        },
        FieldChange {
            path: String::from("script"),
            before: json!("one\n\u{1b}]0;title\u{7}\n"),
            after: json!("two\n"),
            forces_replacement: true,
        },
    ];
    let change = Change {
        resource: ResourceId::new("container", "x\n+ container/forged"),
        fields,
        loses: vec![Loss { what: "a\rb".into(), detail: String::new(), count: None, consent: "c".into() }],
        ..sample::change(Action::Replace, "container", "x")
    };
    let plan = Plan {
        engine: PlanEngine { kind: "podman".into(), version: "5\n4".into() },
        changes: vec![change],
        ..sample::empty()
    };
    let text = super::plan(&plan, Shown::default(), look(false, 80));
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    insta::assert_snapshot!(text);
}
