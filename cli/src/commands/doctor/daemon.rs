//! The daemon that holds sandboxes to their policies: whether it runs, and whether it should.

use std::time::Duration;

use egress::control::{ControlError, Status};
use egress::daemon::world::{Engine as _, World};
use reconciler::podman::Connect;

use super::Finding;
use crate::args::Global;
use crate::caller::{Directories, Person};
use crate::daemon::engine::Engine;
use crate::daemon::{Place, facts, start, version};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::text::{count, safe};

const CHECK: &str = "daemon";
/// How long an engine may take to say what runs.
const PATIENCE: Duration = Duration::from_secs(10);
/// Sandboxes that are named one by one.
const NAMED: usize = 3;

/// What is to be said of it; fails when interrupted.
pub(super) fn check(global: &Global, person: &Person, directories: &Directories) -> Result<Vec<Finding>, Failure> {
    let place = Place::find(global, person, directories);
    let connect = crate::engine::connect_options(global, person, directories);
    let asked = crate::runtime::block_on(async {
        let status = facts::status(&place).await;
        let waiting = if matches!(status, Ok(None)) { waiting(connect).await } else { None };
        Ok((status, waiting))
    });
    match asked {
        Ok((status, waiting)) => Ok(findings(status, waiting.as_deref())),
        Err(failure) if failure.exit == Exit::Interrupted => Err(failure),
        Err(failure) => Ok(vec![Finding::error(CHECK, failure.message.clone(), "free some memory or processes")]),
    }
}

/// Running sandboxes that have to be served; `None` when no engine on this host says.
async fn waiting(connect: Connect) -> Option<Vec<String>> {
    let url = connect.url.as_ref().or(connect.container_host.as_ref()).filter(|url| !url.is_empty());
    if url.is_some_and(|url| !url.starts_with("unix://")) {
        return None;
    }
    // Where none listens nothing is started for a look.
    let engine = Engine::new(Connect { program: None, ..connect });
    let World { running, .. } = tokio::time::timeout(PATIENCE, engine.look()).await.ok()?.ok()?;
    Some(running.iter().map(|running| name(&running.project, &running.sandbox)).collect())
}

fn name(project: &str, sandbox: &str) -> String {
    format!("{}/{}", safe(project), safe(sandbox))
}

fn findings(status: Result<Option<Status>, ControlError>, waiting: Option<&[String]>) -> Vec<Finding> {
    match status {
        Ok(Some(status)) => runs(&status),
        Ok(None) => vec![none(waiting)],
        Err(error) => {
            let failure = start::failure(&error);
            let remedy = failure.help.clone().unwrap_or_else(|| String::from("see `sbx daemon status`"));
            vec![Finding::error(CHECK, failure.message.clone(), remedy)]
        }
    }
}

fn none(waiting: Option<&[String]>) -> Finding {
    match waiting {
        Some([]) => Finding::ok(CHECK, "none runs, and no sandbox needs one; `sbx apply` starts it when one does"),
        None => Finding::ok(CHECK, "none runs; `sbx apply` starts it when a sandbox needs one (no engine was asked)"),
        Some(waiting) => Finding::error(
            CHECK,
            format!("none runs, and nothing leaves {}: {}", count(waiting.len(), "sandbox"), listed(waiting)),
            "start it with `sbx daemon start`; `sbx daemon install` writes a unit by which systemd runs it",
        ),
    }
}

fn runs(status: &Status) -> Vec<Finding> {
    let Status { version: theirs, pid, engine, sandboxes, .. } = status;
    let own = version();
    let mut findings = Vec::new();
    if start::is_older(theirs, &own) {
        findings.push(Finding::warning(
            CHECK,
            format!("version {} runs, which is older than this program, {own}", safe(theirs)),
            "`sbx daemon start` puts this version in its place; connections that are open end",
        ));
    }
    if let Some(why) = engine {
        findings.push(Finding::error(
            CHECK,
            format!("it does not reach the engine, and no change comes into force: {}", safe(why)),
            "start the engine's service; the daemon goes on trying, and `sbx daemon status` tells how it goes",
        ));
    }
    let troubled: Vec<String> = sandboxes
        .iter()
        .filter_map(|sandbox| {
            let problem = sandbox.problem.as_deref()?;
            Some(format!("{}: {}", name(&sandbox.project, &sandbox.sandbox), safe(problem)))
        })
        .collect();
    if !troubled.is_empty() {
        findings.push(Finding::warning(
            CHECK,
            format!("{} not as they should be: {}", count(troubled.len(), "sandbox"), listed(&troubled)),
            "what stands in the way is tried again until it works; `sbx daemon status` tells how it goes",
        ));
    }
    if findings.is_empty() {
        let served = count(sandboxes.len(), "sandbox");
        findings.push(Finding::ok(CHECK, format!("version {}, process {pid}, serves {served}", safe(theirs))));
    }
    findings
}

fn listed(all: &[String]) -> String {
    let named = all.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use egress::control::SandboxStatus;

    use super::super::Level;
    use super::*;

    fn status(version: &str, engine: Option<&str>, problem: Option<&str>) -> Status {
        Status {
            version: version.into(),
            pid: 42,
            since: String::new(),
            engine: engine.map(str::to_owned),
            records: String::new(),
            lost_records: 0,
            sandboxes: vec![SandboxStatus {
                project: "acme".into(),
                sandbox: "api".into(),
                problem: problem.map(str::to_owned),
                ..SandboxStatus::default()
            }],
        }
    }

    #[track_caller]
    fn only(findings: &[Finding], level: Level, words: &[&str]) {
        assert_eq!(findings.len(), 1, "{findings:?}");
        let finding = &findings[0];
        assert_eq!((finding.level, finding.remedy.is_none()), (level, level == Level::Ok), "{finding:?}");
        let text = format!("{} {}", finding.message, finding.remedy.as_deref().unwrap_or_default());
        for word in words {
            assert!(text.contains(word), "{word} is not in {text}");
        }
    }

    #[test]
    fn one_that_runs() {
        let found = |status| findings(Ok(Some(status)), None);
        only(&found(status(&version(), None, None)), Level::Ok, &["process 42", "1 sandbox"]);
        only(&found(status("99.0.0", None, None)), Level::Ok, &["99.0.0"]);
        only(&found(status("0.0.1", None, None)), Level::Warning, &["0.0.1", "sbx daemon start"]);
        only(
            &found(status(&version(), Some("nobody answers"), None)),
            Level::Error,
            &["nobody answers", "engine's service"],
        );
        only(&found(status(&version(), None, Some("no nft"))), Level::Warning, &["acme/api: no nft", "daemon status"]);
        assert_eq!(found(status("0.0.1", Some("gone"), Some("no nft"))).len(), 3);
    }

    #[test]
    fn one_that_does_not_run_is_missed_by_those_who_need_it_only() {
        let found = |waiting: Option<&[&str]>| {
            let waiting: Option<Vec<String>> = waiting.map(|names| names.iter().map(|&name| name.into()).collect());
            findings(Ok(None), waiting.as_deref())
        };
        only(&found(None), Level::Ok, &["no engine was asked"]);
        only(&found(Some(&[])), Level::Ok, &["no sandbox needs one"]);
        only(&found(Some(&["acme/api"])), Level::Error, &["1 sandbox: acme/api", "sbx daemon start"]);
        let many = ["a/1", "a/2", "a/3", "a/4", "a/5"];
        only(&found(Some(&many)), Level::Error, &["5 sandboxes", "a/3 and 2 more"]);
    }

    #[test]
    fn one_that_cannot_be_asked() {
        let error = ControlError::Io(std::io::ErrorKind::TimedOut.into());
        only(&findings(Err(error), None), Level::Error, &["control socket", "daemon status"]);
    }
}
