//! Every `fixtures/invalid/NAME.yaml` has its report as people see it in `NAME.report` beside it.
//!
//! A new case is one file: write `NAME.yaml`, run `UPDATE=1 cargo test -p sbx-schema --test corpus`, read `NAME.report`.

#![allow(clippy::disallowed_methods, reason = "`UPDATE=1` is for whoever runs the tests")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use miette::{GraphicalReportHandler, GraphicalTheme};
use schema::{Diagnostic, Source, load, report};

#[path = "fixed/caller.rs"]
mod caller;

use caller::caller;

fn fixtures(kind: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(kind);
    let entries = std::fs::read_dir(&directory).expect("the corpus");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", directory.display());
    paths
}

fn problems(source: &Source) -> Vec<Diagnostic> {
    load(std::slice::from_ref(source), &caller()).diagnostics
}

fn render(source: &Source, problems: &[Diagnostic]) -> String {
    let handler =
        GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_width(100).with_links(false);
    let mut out = String::new();
    for report in report::reports(std::slice::from_ref(source), problems) {
        handler.render_report(&mut out, &report).expect("a String takes everything");
    }
    let mut trimmed = String::new();
    for line in out.lines() {
        writeln!(trimmed, "{}", line.trim_end()).expect("a String takes everything");
    }
    trimmed
}

#[test]
fn invalid_documents_are_reported_as_committed() {
    let mut wrong = String::new();
    for path in fixtures("invalid") {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("a text");
        let source = Source { name, directory: "/project".into(), text };
        let problems = problems(&source);
        if problems.is_empty() {
            writeln!(wrong, "{} has no problem", path.display()).expect("a String takes everything");
            continue;
        }
        for said in problems.iter().flat_map(|problem| std::iter::once(&problem.message).chain(&problem.help)) {
            let fragment = !said.starts_with(char::is_uppercase) && !said.ends_with('.');
            assert!(fragment, "{}: not a fragment in lower case: {said}", path.display());
        }
        let rendered = render(&source, &problems);
        let report = path.with_extension("report");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&report, rendered).expect("the report can be written");
        } else if std::fs::read_to_string(&report).unwrap_or_default() != rendered {
            writeln!(wrong, "{} is now:\n{rendered}", report.display()).expect("a String takes everything");
        }
    }
    assert!(wrong.is_empty(), "{wrong}\nrun `UPDATE=1 cargo test -p sbx-schema --test corpus` and read the changes");
}

#[test]
fn every_report_has_its_document() {
    for path in
        std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/invalid")).expect("the corpus")
    {
        let path = path.expect("an entry").path();
        if path.extension().is_some_and(|end| end == "report") {
            assert!(path.with_extension("yaml").exists(), "{} has no document", path.display());
        }
    }
}
