//! `sbx validate`: no engine, no network, no runtime.

use clap::ValueEnum;
use schema::{LocatedDiagnostic, Severity, report};

use super::Run;
use crate::configuration::{self, Checked, Surroundings};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::text::count;
use crate::render::{diagnostics, json};

/// Arguments of `validate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sbx validate
  sbx validate -f base.yaml -f local.yaml --strict
  sbx validate --format github              annotations in a GitHub workflow
  sbx validate --format sarif > sbx.sarif   for code scanning")]
pub struct Args {
    /// How to print what was found [default: human, or json with --json]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// Let warnings fail too
    #[arg(long)]
    strict: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A report with the lines in question
    Human,
    /// One JSON document
    Json,
    /// Workflow commands of GitHub
    Github,
    /// SARIF 2.1.0
    Sarif,
}

/// Checks the files.
pub fn run(args: &Args, run: &Run<'_>) -> Result<Exit, Failure> {
    let format = args.format.unwrap_or(if run.screen.json { Format::Json } else { Format::Human });
    let mut checked = match configuration::check(run, &Surroundings::find(run)?) {
        // A program that asked for a document gets one, whatever is wrong.
        Err(failure) if failure.exit == Exit::Invalid && format != Format::Human => {
            run.screen.result(&document(format, &[unreadable(&failure)], args.strict))?;
            return Ok(Exit::Invalid);
        }
        checked => checked?,
    };
    checked.judge_policies();
    let located = checked.located();
    let valid = checked.config.is_some() && report::is_valid(&located, args.strict);
    let text =
        if format == Format::Human { human(&checked, valid, run) } else { document(format, &located, args.strict) };
    run.screen.result(&text)?;
    Ok(if valid { Exit::Done } else { Exit::Invalid })
}

fn document(format: Format, located: &[LocatedDiagnostic], strict: bool) -> String {
    match format {
        Format::Human | Format::Json => json::document(&report::json(located, strict)),
        Format::Github => report::github(located),
        Format::Sarif => json::document(&report::sarif(located, env!("CARGO_PKG_VERSION"))),
    }
}

/// A file that could not be read, as a problem without a place.
fn unreadable(failure: &Failure) -> LocatedDiagnostic {
    LocatedDiagnostic {
        code: failure.code,
        severity: Severity::Error,
        message: failure.message.clone(),
        help: failure.help.clone(),
        location: None,
        related: Vec::new(),
    }
}

fn human(checked: &Checked, valid: bool, run: &Run<'_>) -> String {
    let mut text = diagnostics::human(&checked.sources, &checked.diagnostics, run.screen.out);
    let counted = |severity| checked.diagnostics.iter().filter(|problem| problem.severity == severity).count();
    let (errors, warnings) = (counted(Severity::Error), counted(Severity::Warning));
    let mut found = Vec::new();
    found.extend((errors > 0).then(|| count(errors, "error")));
    found.extend((warnings > 0).then(|| count(warnings, "warning")));
    let verdict = match &checked.config {
        Some(config) if valid => {
            let warned = if warnings > 0 { format!(", with {}", count(warnings, "warning")) } else { String::new() };
            let sandboxes = match config.sandboxes.len() {
                1 => String::from("1 sandbox"),
                number => format!("{number} sandboxes"),
            };
            format!("{} is valid: project {}, {sandboxes}{warned}.\n", checked.names(), config.project)
        }
        _ => format!("{} is not valid: {}.\n", checked.names(), found.join(" and ")),
    };
    if !(valid && run.screen.quiet) {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&verdict);
    }
    text
}
