//! `sbx doctor`: what this host lacks or has wrong, each with its remedy.

use owo_colors::Style;
use serde::Serialize;

use super::Run;
use crate::caller::{Directories, Person};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::json;
use crate::render::text::wrap;
use crate::screen::Look;

mod binaries;
mod daemon;
mod engine;
mod kernel;
mod namespaces;
mod rootless;

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sbx doctor\n  sbx doctor --json\n\nExits with 1 when something that sbx needs is missing."
)]
pub struct Args {}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// As it should be.
    Ok,
    /// Some features are missing.
    Warning,
    /// Nothing works.
    Error,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    level: Level,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, message: message.into(), remedy: None }
    }

    fn warning(check: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, level: Level::Warning, message: message.into(), remedy: Some(remedy.into()) }
    }

    fn error(check: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, level: Level::Error, message: message.into(), remedy: Some(remedy.into()) }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    format_version: &'static str,
    healthy: bool,
    findings: &'a [Finding],
}

/// Looks, and says what it found.
pub fn run(_: &Args, run: &Run<'_>) -> Result<Exit, Failure> {
    let person = Person::find();
    let directories = Directories::find(&person, run.global.state_dir.as_deref())?;
    let root = rustix::process::geteuid().is_root();
    let mut findings = binaries::check(root);
    findings.extend(kernel::check(root));
    findings.extend(namespaces::check(root));
    if !root {
        findings.extend(rootless::check(&person, &directories));
    }
    findings.extend(engine::check(&crate::engine::connect_options(&run.global, &person, &directories))?);
    findings.extend(daemon::check(&run.global, &person, &directories)?);
    findings.push(writable("data directory", &directories.data));
    findings.push(writable("state directory", &directories.state));

    let healthy = findings.iter().all(|finding| finding.level != Level::Error);
    let text = if run.screen.json {
        json::document(&Document { format_version: json::FORMAT_VERSION, healthy, findings: &findings })
    } else {
        render(&findings, run.screen.out)
    };
    run.screen.result(&text)?;
    Ok(if healthy { Exit::Done } else { Exit::Failed })
}

fn writable(check: &'static str, directory: &std::path::Path) -> Finding {
    // What does not exist yet can be made when the nearest directory that does can be written.
    let existing = directory.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(directory);
    match rustix::fs::access(existing, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK) {
        Ok(()) => Finding::ok(check, directory.display().to_string()),
        Err(error) => Finding::error(
            check,
            format!("{} cannot be written: {}", directory.display(), crate::failure::io_text(&error.into())),
            "make it writable, or choose another with --state-dir, XDG_STATE_HOME or XDG_DATA_HOME",
        ),
    }
}

fn render(findings: &[Finding], look: Look) -> String {
    let mut text = String::new();
    for finding in findings {
        let (mark, style) = match finding.level {
            Level::Ok => ("ok  ", Style::new().green()),
            Level::Warning => ("warn", Style::new().yellow()),
            Level::Error => ("FAIL", Style::new().red().bold()),
        };
        for (index, line) in
            wrap(&format!("{}: {}", finding.check, finding.message), "     ", "       ", look.width).iter().enumerate()
        {
            let line =
                if index == 0 { format!("{} {}", look.paint(style, mark), line.trim_start()) } else { line.clone() };
            text.push_str(&line);
            text.push('\n');
        }
        for line in
            finding.remedy.iter().flat_map(|remedy| wrap(&format!("help: {remedy}"), "     ", "       ", look.width))
        {
            text.push_str(&look.paint(Style::new().cyan(), &line));
            text.push('\n');
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    text.push_str(&match (count(Level::Error), count(Level::Warning)) {
        (0, 0) => String::from("\nThis host is ready.\n"),
        (0, warnings) => format!("\nThis host is ready, with {}.\n", crate::render::text::count(warnings, "warning")),
        (errors, _) => format!("\nThis host is not ready: {}.\n", crate::render::text::count(errors, "problem")),
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_has_its_remedy() {
        let findings = [
            Finding::ok("podman", "podman version 5.4.2"),
            Finding::warning("limits", "no memory limits for users without root on cgroup v1", "boot with cgroup v2"),
            Finding::error("newuidmap", "not found", "apt-get install uidmap"),
        ];
        insta::assert_snapshot!(render(&findings, Look { color: false, unicode: false, width: 60 }));
    }
}
