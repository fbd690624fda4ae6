//! Conditions of sandboxes, worked out from what is written, what is there and what a plan would do about it.

use std::collections::BTreeMap;

use reconciler::facts::{ContainerFacts, Observed, Snapshot, State, WorktreePlace};
use reconciler::kinds::container;
use reconciler::ownership;
use reconciler::plan::{Action, Plan};
use reconciler::resource::{Naming, ResourceId, label};
use schema::Config;
use schema::config::Home;
use serde::Serialize;

use crate::render::json::FORMAT_VERSION;

/// All sandboxes of a project.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Version of this shape.
    pub format_version: &'static str,
    /// Project.
    pub project: String,
    /// In the order of the file; those that are no longer written come last.
    pub sandboxes: Vec<Sandbox>,
}

/// One sandbox.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sandbox {
    /// Name.
    pub name: String,
    /// Owner.
    pub owner: String,
    /// `Pending`, `Running`, `Stopped`, `Failed`, `Orphaned`, `Unknown`.
    pub phase: &'static str,
    /// Image by its name in the file.
    pub image: String,
    /// Conditions.
    pub conditions: Vec<Condition>,
    /// Where its work lives: the workspace on the host, else the home directory inside.
    #[serde(rename = "workspaceRoot")]
    pub workspace_root: String,
    /// Its worktrees.
    pub worktrees: Vec<Worktree>,
    /// What it is held to; absent when nobody has to hold it to anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<Egress>,
    /// Time since the last start, for tables.
    #[serde(skip)]
    pub age: Option<String>,
}

/// One aspect of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// `Ready`, `Synced`, `WorktreesReady`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Whether it holds.
    pub status: Truth,
    /// One word.
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// When it became so, RFC 3339; null where nothing keeps that.
    pub last_transition: Option<String>,
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Truth {
    /// It does.
    True,
    /// It does not.
    False,
    /// Nobody can tell.
    Unknown,
}

impl Truth {
    /// As kubectl writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// What lets a sandbox out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Egress {
    /// As it is written.
    pub mode: &'static str,
    /// Hash of the policy in force; null while none is.
    pub policy: Option<String>,
    /// Counts the policies that were in force since the daemon serves it.
    pub generation: u64,
    /// Whether a daemon serves it.
    pub attached: bool,
    /// What stands in the way.
    pub problem: Option<String>,
    /// Secrets whose values the daemon was not given.
    pub missing_secrets: Vec<String>,
    /// Open flows.
    pub flows: usize,
    /// Until when it is let out to learn what it needs; null while its policy alone holds.
    pub learning: Option<String>,
    /// What was refused last, newest last.
    pub denied: Vec<egress::audit::Record>,
    /// Since when what is in force is, for the condition.
    #[serde(skip)]
    in_force_since: Option<String>,
}

/// One worktree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Worktree {
    /// Where.
    pub path: String,
    /// Branch checked out.
    pub branch: Option<String>,
    /// Whether there are uncommitted files; null when not looked at.
    pub dirty: Option<bool>,
    /// Commits on no remote; null when not looked at.
    pub ahead: Option<u32>,
}

/// The report. `daemon` is what the daemon says of itself, `now` seconds since the epoch; `waits` tells of a running
/// container whether it waits at its gate; `seen` is the id of the container that each sandbox had.
pub fn report(
    config: &Config,
    snapshot: &Snapshot,
    plan: &Plan,
    daemon: Option<&egress::control::Status>,
    now: i64,
    waits: impl Fn(&ContainerFacts) -> bool,
    seen: &BTreeMap<String, String>,
) -> Report {
    let project = config.project.as_str();
    let naming = Naming::new(project);
    let owned = ownership::containers(snapshot, &naming, seen);
    let mut sandboxes: Vec<Sandbox> = Vec::new();
    for (name, written) in &config.sandboxes {
        let container = owned.current.get(name.as_str()).copied();
        let stopped = owned.stopped.contains(name.as_str());
        let worktrees: Vec<Worktree> = written.worktrees.iter().map(|tree| worktree(tree, snapshot)).collect();
        let (phase, ready) = match container {
            Some(container) => readiness(container, stopped, waits(container)),
            None => ("Pending", absent(name.as_str(), plan)),
        };
        let mut conditions = vec![ready, synced(name.as_str(), plan)];
        let egress = held(written, container, daemon, snapshot.engine.local);
        let enforced = |egress| enforced(egress, snapshot.engine.local);
        conditions.extend(egress.as_ref().filter(|_| phase == "Running").map(enforced));
        if !worktrees.is_empty() {
            conditions.push(worktrees_ready(&written.worktrees, snapshot));
        }
        sandboxes.push(Sandbox {
            name: name.to_string(),
            owner: written.owner.clone(),
            phase,
            image: written.image.to_string(),
            conditions,
            workspace_root: match &written.home {
                Home::Workspace(path) => path.display().to_string(),
                Home::Image | Home::Volume(_) | Home::Tmpfs(_) => written.user.home.display().to_string(),
            },
            worktrees,
            egress,
            age: container.and_then(|container| age(container, now)),
        });
    }
    // What is left of a replacement is part of its sandbox, and alone there where that is no longer written either.
    let left: BTreeMap<&str, &ContainerFacts> = owned.successor.into_iter().chain(owned.current).collect();
    for (name, container) in left.into_iter().filter(|(name, _)| !config.sandboxes.contains_key(*name)) {
        // One that somebody has set aside stays.
        if ownership::is_renamed(container, &naming, name) {
            continue;
        }
        sandboxes.push(orphan(name, container, now));
    }
    Report { format_version: FORMAT_VERSION, project: project.to_owned(), sandboxes }
}

/// How ready a sandbox is that is not there. What has its name may be somebody else's.
fn absent(name: &str, plan: &Plan) -> Condition {
    let forbidden = plan.forbidden().find(|change| change.resource == ResourceId::new(container::NOUN, name));
    let message = match forbidden {
        Some(change) => format!("it is not there, and cannot be created: {}", change.because.join("; ")),
        None => String::from("it is not there; `sbx apply` creates it"),
    };
    let reason = String::from("NotCreated");
    Condition { kind: "Ready", status: Truth::False, reason, message, last_transition: None }
}

fn readiness(container: &ContainerFacts, stopped: bool, waits: bool) -> (&'static str, Condition) {
    let ready = |status, reason: &str, message: String, at: Option<i64>| Condition {
        kind: "Ready",
        status,
        reason: reason.to_owned(),
        message,
        last_transition: at.filter(|at| *at > 0).and_then(rfc3339),
    };
    let (started, ended) = (Some(container.started_at), Some(container.exited_at));
    match container.state {
        State::Running if waits => {
            let message = "nothing runs in it: no daemon holds it to its policy yet; `sbx daemon status` tells why";
            ("Running", ready(Truth::False, "AtItsGate", String::from(message), started))
        }
        State::Running => ("Running", ready(Truth::True, "Running", String::from("the main process runs"), started)),
        State::Paused => ("Stopped", ready(Truth::False, "Paused", String::from("it is paused"), None)),
        _ if stopped => {
            let message = String::from("stopped by `sbx stop`");
            ("Stopped", ready(Truth::False, "StoppedOnPurpose", message, ended))
        }
        State::Created => {
            let message = String::from("it was never started");
            ("Pending", ready(Truth::False, "NotStarted", message, created(container)))
        }
        State::Exited => match container.exit_code {
            Some(code) if code != 0 => {
                ("Failed", ready(Truth::False, "Exited", format!("the main process ended with {code}"), ended))
            }
            _ => ("Stopped", ready(Truth::False, "Exited", String::from("the main process has ended"), ended)),
        },
        State::Other => {
            ("Unknown", ready(Truth::Unknown, "Unknown", String::from("the engine reports no settled state"), None))
        }
    }
}

fn created(container: &ContainerFacts) -> Option<i64> {
    container.created_at.parse().ok().map(jiff::Timestamp::as_second)
}

fn synced(name: &str, plan: &Plan) -> Condition {
    let own = |change: &&reconciler::plan::Change| {
        change.sandbox.as_deref() == Some(name) || change.resource == ResourceId::new(container::NOUN, name)
    };
    let pending: Vec<String> = plan
        .changes
        .iter()
        .filter(own)
        .filter(|change| change.action != Action::Noop)
        .map(|change| format!("{} {}", crate::render::plan::verb(change.action), change.resource))
        .collect();
    let (status, reason, message) = if pending.is_empty() {
        (Truth::True, "UpToDate", String::from("it matches the configuration"))
    } else {
        (Truth::False, "ChangesPending", format!("apply would {}", pending.join(", ")))
    };
    Condition { kind: "Synced", status, reason: reason.to_owned(), message, last_transition: None }
}

/// Why nobody can tell what a sandbox is held to.
const ELSEWHERE: &str = "the engine runs on another machine; whether a daemon serves it there is told there";

/// What a sandbox with something to reach is held to.
fn held(
    written: &schema::config::Sandbox,
    container: Option<&ContainerFacts>,
    daemon: Option<&egress::control::Status>,
    local: bool,
) -> Option<Egress> {
    let schema::config::Egress { mode, policy, .. } = &written.egress;
    let served = daemon.and_then(|daemon| {
        let id = container.map(|container| container.id.as_str())?;
        daemon.sandboxes.iter().find(|sandbox| sandbox.container == id)
    });
    if policy.is_empty() && served.is_none() {
        return None;
    }
    let served = served.cloned();
    let problem = match (daemon, &served) {
        (None, _) if !local => Some(String::from(ELSEWHERE)),
        (None, _) => Some(String::from("no daemon runs")),
        (Some(_), None) => Some(String::from("the daemon does not serve it")),
        (Some(_), Some(served)) => served.problem.clone(),
    };
    let served = served.unwrap_or_default();
    Some(Egress {
        mode: mode.as_str(),
        attached: served.generation > 0,
        policy: served.policy,
        generation: served.generation,
        problem,
        missing_secrets: served.missing_secrets,
        flows: served.flows,
        learning: served.learning,
        denied: served.denied,
        in_force_since: served.in_force_since,
    })
}

fn enforced(egress: &Egress, local: bool) -> Condition {
    let condition = |status, reason: &str, message: String| Condition {
        kind: "EgressEnforced",
        status,
        reason: reason.to_owned(),
        message,
        // What stands in the way is tried again and again, and nobody keeps when that began.
        last_transition: egress.in_force_since.clone().filter(|_| egress.problem.is_none()),
    };
    match &egress.problem {
        _ if egress.learning.is_some() => {
            let until = egress.learning.as_deref().unwrap_or_default();
            let message =
                format!("LEARNING until {until}: everything but what deny rules deny is let out, and recorded");
            condition(Truth::False, "Learning", message)
        }
        Some(problem) if !local => condition(Truth::Unknown, "Elsewhere", problem.clone()),
        Some(problem) if egress.attached => condition(Truth::False, "OlderPolicy", problem.clone()),
        Some(problem) => condition(Truth::False, "NotServed", format!("nothing leaves it: {problem}")),
        None if !egress.missing_secrets.is_empty() => {
            let missing = egress.missing_secrets.join(", ");
            let message =
                format!("requests that need secret {missing} fail: the daemon was not given it; `sbx apply` does");
            condition(Truth::False, "MissingSecret", message)
        }
        None => condition(Truth::True, "InForce", String::from("its policy is in force")),
    }
}

fn worktree(written: &schema::config::Worktree, snapshot: &Snapshot) -> Worktree {
    let facts = match snapshot.worktrees.get(&written.path) {
        Some(Observed::Present(WorktreePlace::Worktree(facts))) => Some(facts),
        _ => None,
    };
    Worktree {
        path: written.path.display().to_string(),
        branch: facts.map_or_else(|| Some(written.branch.clone()), |facts| facts.branch.clone()),
        dirty: facts.and_then(|facts| facts.dirty).map(|files| files > 0),
        ahead: facts.and_then(|facts| facts.unpushed),
    }
}

fn worktrees_ready(written: &[schema::config::Worktree], snapshot: &Snapshot) -> Condition {
    let condition = |status, reason: &str, message: String| Condition {
        kind: "WorktreesReady",
        status,
        reason: reason.to_owned(),
        message,
        last_transition: None,
    };
    for tree in written {
        let path = tree.path.display();
        match snapshot.worktrees.get(&tree.path) {
            Some(Observed::Present(WorktreePlace::Worktree(_))) => {}
            Some(Observed::Unknown(why)) => return condition(Truth::Unknown, "Unknown", format!("{path}: {why}")),
            Some(Observed::Present(WorktreePlace::Other(what))) => {
                return condition(Truth::False, "Occupied", format!("{path} is {what}"));
            }
            _ => return condition(Truth::False, "Missing", format!("{path} is not there")),
        }
    }
    condition(Truth::True, "CheckedOut", String::from("all worktrees are there"))
}

fn orphan(name: &str, container: &ContainerFacts, now: i64) -> Sandbox {
    let label = |name| container.labels.get(name).cloned();
    Sandbox {
        name: name.to_owned(),
        owner: label(label::OWNER).unwrap_or_default(),
        phase: "Orphaned",
        image: container.image.clone(),
        conditions: vec![Condition {
            kind: "Synced",
            status: Truth::False,
            reason: String::from("NotWritten"),
            message: String::from("it is not in the configuration; apply removes it"),
            last_transition: None,
        }],
        workspace_root: String::new(),
        worktrees: Vec::new(),
        egress: None,
        age: age(container, now),
    }
}

fn rfc3339(seconds: i64) -> Option<String> {
    jiff::Timestamp::from_second(seconds).ok().map(|time| time.to_string())
}

fn age(container: &ContainerFacts, now: i64) -> Option<String> {
    if container.state != State::Running || container.started_at <= 0 {
        return None;
    }
    // A clock that was set back must not show an age of centuries.
    let seconds = now.saturating_sub(container.started_at).max(0);
    Some(match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    })
}

#[cfg(test)]
mod tests;
