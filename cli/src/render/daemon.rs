//! The daemon's state, as text and JSON.

use egress::control::Status;
use serde::Serialize;

use super::record;
use super::text::{count, safe, wrap};
use crate::screen::Look;

/// What `daemon status --json` prints.
#[derive(Debug, Serialize)]
pub struct Document<'a> {
    /// Version of this shape.
    pub format_version: &'static str,
    /// Whether one runs.
    pub running: bool,
    /// How things stand in it.
    pub daemon: Option<&'a Status>,
}

/// What `daemon start --json` prints.
#[derive(Debug, Serialize)]
pub struct Started<'a> {
    /// Version of this shape.
    pub format_version: &'static str,
    /// Version of the daemon that runs now.
    pub version: &'a str,
    /// Its process.
    pub pid: u32,
}

/// What `daemon stop --json` prints.
#[derive(Debug, Serialize)]
pub struct Ended<'a> {
    /// Version of this shape.
    pub format_version: &'static str,
    /// Whether one ran.
    pub stopped: bool,
    /// The process that was.
    pub pid: Option<u32>,
    /// The command that starts it again, when a service manager ran it.
    pub start_with: Option<&'a str>,
}

/// What `daemon install --json` prints.
#[derive(Debug, Serialize)]
pub struct Installed<'a> {
    /// Version of this shape.
    pub format_version: &'static str,
    /// The file.
    pub unit: &'a std::path::Path,
    /// Whether it is another one than before.
    pub changed: bool,
    /// The command that starts it, now and at each boot.
    pub start_with: &'a str,
}

/// For people.
pub fn status(status: Option<&Status>, look: Look) -> String {
    let Some(status) = status else { return String::from("No daemon runs.\n") };
    let Status { version, pid, since, engine, records, lost_records, sandboxes } = status;
    let mut text = format!("Daemon {version}, process {pid}, since {since}\n");
    let mut line = |words: &str| {
        text.push_str(&wrap(words, "", "  ", look.width).join("\n"));
        text.push('\n');
    };
    if let Some(why) = engine {
        line(&format!("The engine is out of reach: {why}"));
    }
    line(&format!("Records: {records}"));
    if *lost_records > 0 {
        line(&format!("{} lost", count(usize::try_from(*lost_records).unwrap_or(usize::MAX), "record")));
    }
    for sandbox in sandboxes {
        let policy = sandbox.policy.as_deref().map_or("no policy", reconciler::resource::short);
        line("");
        line(&format!(
            "{}/{}: {policy}, generation {}, {}",
            safe(&sandbox.project),
            safe(&sandbox.sandbox),
            sandbox.generation,
            count(sandbox.flows, "open flow")
        ));
        if let Some(until) = &sandbox.learning {
            line(&format!("  LEARNING until {until}: everything but what deny rules deny is let out, and recorded"));
        }
        if let Some(problem) = &sandbox.problem {
            line(&format!("  problem: {problem}"));
        }
        if !sandbox.missing_secrets.is_empty() {
            line(&format!("  not given: secret {}", sandbox.missing_secrets.join(", ")));
        }
        for denied in &sandbox.denied {
            line(&format!("  {}", record::line(denied)));
        }
    }
    text
}
