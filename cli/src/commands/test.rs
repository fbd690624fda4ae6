//! `sbx test`: `tests:` and `assert:` of the file. No engine, no network.

use egress::assertion::{self, Breach};
use egress::policy_test::{self, Tested};
use schema::Config;
use schema::config::Assertion;
use serde::Serialize;

use super::Run;
use crate::configuration::{self, Surroundings};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::{json, tests as view};

/// Arguments of `test`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sbx test
  sbx test --json | jq '.tests[] | select(.passed | not)'

Exits with 1 when a test or an assertion fails.")]
pub struct Args {}

/// What `test --json` prints.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    format_version: &'a str,
    project: &'a str,
    /// Whether everything passed.
    pub passed: bool,
    /// Every test, for every sandbox it is about.
    pub tests: Vec<Tested>,
    /// Every assertion.
    pub assertions: Vec<Asserted<'a>>,
}

/// An assertion, and what speaks against it.
#[derive(Debug, Serialize)]
pub struct Asserted<'a> {
    /// The sandboxes it is about.
    pub sandboxes: &'a str,
    /// What they must not reach.
    pub reaches: Vec<String>,
    /// Where it is written.
    pub at: String,
    /// Whether it holds.
    pub passed: bool,
    /// The sandboxes it does not hold for, and how they reach it.
    pub breaches: Vec<Breach>,
}

/// Tests.
pub fn run(_: &Args, run: &Run<'_>) -> Result<Exit, Failure> {
    let config = configuration::load_quietly(run, &Surroundings::find(run)?)?;
    let report = report(&config);
    let text =
        if run.screen.json { json::document(&report) } else { view::tests(&report, run.screen.quiet, run.screen.out) };
    run.screen.result(&text)?;
    Ok(if report.passed { Exit::Done } else { Exit::Failed })
}

fn report(config: &Config) -> Report<'_> {
    let today = configuration::today();
    let tests = policy_test::run(config, today);
    let breaches = assertion::prove(config, today);
    let asserted = config.assertions.iter().enumerate().map(|(index, assertion)| {
        let Assertion { sandboxes, reaches, unless: _, at } = assertion;
        let breaches: Vec<Breach> = breaches.iter().filter(|breach| breach.assertion == index).cloned().collect();
        Asserted {
            sandboxes: sandboxes.as_str(),
            reaches: reaches.iter().map(assertion::written_reach).collect(),
            at: at.to_string(),
            passed: breaches.is_empty(),
            breaches,
        }
    });
    let assertions: Vec<Asserted<'_>> = asserted.collect();
    Report {
        format_version: json::FORMAT_VERSION,
        project: config.project.as_str(),
        passed: tests.iter().all(|test| test.passed) && assertions.iter().all(|assertion| assertion.passed),
        tests,
        assertions,
    }
}
