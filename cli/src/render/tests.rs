//! Results of policy tests and assertions, for people.

use egress::assertion::Breach;
use egress::policy_test::Tested;
use owo_colors::Style;
use schema::config::Expectation;

use super::plan::{bold, red};
use super::status::{lines, table};
use super::text::{count, safe};
use crate::commands::test::{Asserted, Report};
use crate::screen::Look;

/// A table, what failed and why, and a verdict. `quiet` leaves out what passed.
pub fn tests(report: &Report<'_>, quiet: bool, look: Look) -> String {
    if report.tests.is_empty() && report.assertions.is_empty() {
        return String::from("Nothing to test: the configuration has neither `tests` nor `assert`.\n");
    }
    let mut text = String::new();
    let shown = |passed: bool| !(passed && quiet);
    let mut table = table(look, &["", "SANDBOX", "EXPECTED", "TARGET"]);
    let mut rows = 0;
    for test in report.tests.iter().filter(|test| shown(test.passed)) {
        let expected = if test.expect == Expectation::Allow { "allow" } else { "deny" };
        table.add_row([mark(test.passed), test.sandbox.as_str(), expected, safe(&test.target).as_ref()]);
        rows += 1;
    }
    for Asserted { sandboxes, reaches, passed, .. } in
        report.assertions.iter().filter(|assertion| shown(assertion.passed))
    {
        table.add_row([mark(*passed), sandboxes, "never", safe(&reaches.join(" and ")).as_ref()]);
        rows += 1;
    }
    if rows > 0 {
        text.push_str(&marked(&lines(&table), look));
    }
    for test in report.tests.iter().filter(|test| !test.passed) {
        text.push_str(&failed_test(test, look));
    }
    for assertion in &report.assertions {
        for breach in &assertion.breaches {
            text.push_str(&failed_assertion(assertion, breach, look));
        }
    }
    if !(quiet && report.passed) {
        text.push_str(&verdict(report, rows > 0));
    }
    text
}

fn mark(passed: bool) -> &'static str {
    if passed { "ok" } else { "FAIL" }
}

/// Paints the laid-out table: escape sequences inside would count as columns.
fn marked(table: &str, look: Look) -> String {
    table.lines().enumerate().fold(String::new(), |mut text, (index, line)| {
        let (style, length) = match line {
            _ if index == 0 => (Style::new().bold(), line.len()),
            line if line.starts_with("FAIL") => (red(), 4),
            _ => (Style::new().green(), 2),
        };
        let (begin, rest) = line.split_at(length.min(line.len()));
        text.push_str(&look.paint(style, begin));
        text.push_str(rest);
        text.push('\n');
        text
    })
}

fn failed_test(test: &Tested, look: Look) -> String {
    let Tested { sandbox, target, at, explanation, .. } = test;
    let asked = format!("{sandbox}: {target} ({at})");
    format!("\n{}", super::explanation::explanation(sandbox.as_str(), &asked, explanation, look))
}

fn failed_assertion(assertion: &Asserted<'_>, breach: &Breach, look: Look) -> String {
    let Breach { sandbox, ways, .. } = breach;
    let title = format!("{sandbox}: reaches {} ({})", assertion.reaches.join(" and "), assertion.at);
    let mut text = format!("\n{}: {}\n", look.paint(red(), "not so"), look.paint(bold(), &safe(&title)));
    for way in ways {
        text.push_str(&format!("  {}\n", safe(&way.shown_from(sandbox))));
    }
    text
}

fn verdict(report: &Report<'_>, after_more: bool) -> String {
    let failed = report.tests.iter().filter(|test| !test.passed).count()
        + report.assertions.iter().filter(|assertion| !assertion.passed).count();
    let blank = if after_more { "\n" } else { "" };
    let outcome = if failed == 0 { String::from("all passed") } else { format!("{failed} failed") };
    format!(
        "{blank}{}, {}: {outcome}.\n",
        count(report.tests.len(), "test"),
        count(report.assertions.len(), "assertion")
    )
}
