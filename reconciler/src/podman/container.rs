//! Operations on containers. Each can be repeated: what is done already is success.

use std::time::Duration;

use hyper::{Method, StatusCode};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::client::{JSON, SLOW, encode_name, full, with_query};
use super::create::{CreateBody, Endpoint, Resources};
use super::wire::{InspectedContainer, Made};
use super::{Podman, error, kernel};
use crate::backend::{BackendError, ErrorKind};
use crate::resource::{Labels, label};
use crate::spec::{ContainerSpec, LimitSpec, UsernsSpec};

/// The name PID 1 gives itself when the main process runs.
const READY: &str = "sbx-init:ready";
/// How long that may take.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Longest pause between two looks.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long the last lines of one that ended may take to appear; many say nothing.
const LAST_WORDS_WITHIN: Duration = Duration::from_millis(500);
/// What a container gets between TERM and KILL.
const STOP_SECONDS: &str = "10";

/// The main process as the specification names it. The engine's log of a short-lived container is not always whole.
fn program(inspected: &InspectedContainer) -> String {
    let spec = inspected.config.labels.get(label::SPEC);
    let spec = spec.and_then(|text| serde_json::from_str::<ContainerSpec>(text).ok());
    spec.and_then(|spec| spec.command.into_iter().next()).map(|program| format!(" {program:?}")).unwrap_or_default()
}

pub(super) fn address(container: &str, rest: &str) -> String {
    format!("/containers/{}{rest}", encode_name(container))
}

impl Podman {
    pub(crate) async fn create_container(
        &self,
        name: &str,
        labels: &Labels,
        spec: &ContainerSpec,
    ) -> Result<(), BackendError> {
        let body = CreateBody::new(name, labels, spec, self.facts());
        let _alone = match spec.userns {
            UsernsSpec::KeepId => Some(self.reader().shared.keep_id.take().await),
            UsernsSpec::Private | UsernsSpec::Identity | UsernsSpec::Host => None,
        };
        let create = || self.client().post("/containers/create", &body, SLOW);
        let mut outcome = create().await;
        if outcome.as_ref().is_err_and(|failure| failure.kind == ErrorKind::Conflict)
            && self.clear_remains(name, &spec.image.reference).await?
        {
            outcome = create().await;
        }
        match outcome {
            Ok(answer) => {
                let made: Made =
                    serde_json::from_slice(&answer).map_err(|error| error::malformed("containers/create", &error))?;
                self.reader().made_as(name, &made.id);
                Ok(())
            }
            Err(failure) => {
                let holder = match failure.kind {
                    // Ours already if an earlier attempt got through and its answer did not.
                    ErrorKind::Conflict | ErrorKind::Transient | ErrorKind::TimedOut => {
                        self.reader().find_container(name).await.ok().flatten()
                    }
                    _ => None,
                };
                match holder {
                    Some(holder) if same(&holder.config.labels, labels) => Ok(()),
                    Some(_) if failure.kind == ErrorKind::Conflict => Err(BackendError::new(
                        ErrorKind::Conflict,
                        format!("the name {name} is held by another container"),
                    )),
                    _ => Err(self.or_elsewhere(failure)),
                }
            }
        }
    }

    /// The same failure, with what is most likely wrong where an engine elsewhere does not find what it is to show.
    fn or_elsewhere(&self, failure: BackendError) -> BackendError {
        if self.facts().local || !failure.message.contains("no such file or directory") {
            return failure;
        }
        failure.help_from(Some("the engine runs on another machine, and this is not there: run sbx on that machine"))
    }

    pub(crate) async fn start_container(&self, container: &str) -> Result<(), BackendError> {
        // 304, "runs already", is no failure.
        match self.client().call(Method::POST, &address(container, "/start"), SLOW).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.kind == ErrorKind::NotFound || failure.kind == ErrorKind::Unreachable => {
                Err(failure)
            }
            // The engine starts no paused one; it goes on.
            Err(failure) if self.reader().inspect(container).await?.state.is_paused() => {
                self.resume(container).await.map_err(|_| failure)
            }
            Err(failure) => Err(self.or_elsewhere(failure)),
        }
    }

    async fn resume(&self, container: &str) -> Result<(), BackendError> {
        self.client().call(Method::POST, &address(container, "/unpause"), SLOW).await.map(drop)
    }

    /// Waits for PID 1's word that the main process runs. What it says is untrusted: it decides nothing but when to
    /// stop waiting.
    pub(crate) async fn await_ready(&self, container: &str) -> Result<(), BackendError> {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(1);
        let mut pid = self.entered().remove(container).unwrap_or_default();
        loop {
            // The name is one read away; the engine is asked only when the process is not (or no longer) there.
            let named = (pid > 0).then(|| kernel::comm(pid)).flatten();
            if named.as_deref() == Some(READY) {
                return Ok(());
            }
            if named.is_none() {
                let inspected = self.reader().inspect(container).await?;
                if inspected.state.pid == 0 && !inspected.state.running {
                    return Err(self.ended(container, &inspected).await);
                }
                if !self.facts().local {
                    if self.says_ready(container).await? {
                        return Ok(());
                    }
                } else if pid != inspected.state.pid {
                    pid = inspected.state.pid;
                    continue;
                }
            }
            if begun.elapsed() > READY_WITHIN {
                return Err(BackendError::new(
                    ErrorKind::TimedOut,
                    format!("the main process did not start within {} s", READY_WITHIN.as_secs()),
                ));
            }
            sleep(pause).await;
            pause = (pause * 2).min(LOOK_AGAIN);
        }
    }

    /// The same through the engine, when `/proc` of its host is out of reach.
    async fn says_ready(&self, container: &str) -> Result<bool, BackendError> {
        #[derive(serde::Deserialize)]
        struct Top {
            #[serde(rename = "Processes", default)]
            processes: Vec<Vec<String>>,
        }
        let path = with_query(&address(container, "/top"), &[("stream", "false"), ("ps_args", "pid,comm")]);
        let top: Top = self.client().get(&path).await?;
        let first = |row: &&Vec<String>| row.first().is_some_and(|pid| pid.trim() == "1");
        Ok(top.processes.iter().find(first).is_some_and(|row| row.last().is_some_and(|comm| comm.trim() == READY)))
    }

    async fn ended(&self, container: &str, inspected: &InspectedContainer) -> BackendError {
        let code = inspected.state.exit_code;
        let mut message = match code {
            125 => "the sandbox's PID 1 could not start".to_owned(),
            126 => format!("the command{} cannot be executed (exit code 126)", program(inspected)),
            127 => format!("the command{} was not found (exit code 127)", program(inspected)),
            _ => format!("the main process ended with exit code {code}"),
        };
        if !inspected.state.error.is_empty() {
            message = format!("{message}: {}", inspected.state.error);
        }
        // The container's end is known before its monitor has written the last lines.
        let begun = Instant::now();
        let silent = |tail: &[String]| tail.iter().all(|line| line.trim().is_empty());
        let mut tail = Vec::new();
        while silent(&tail) && begun.elapsed() < LAST_WORDS_WITHIN {
            sleep(LOOK_AGAIN).await;
            tail = self.reader().log_tail(container, 5).await.unwrap_or_default();
        }
        if !silent(&tail) {
            message = format!("{message}; its last words:\n{}", tail.join("\n"));
        }
        BackendError::new(ErrorKind::Failed, message)
    }

    pub(crate) async fn stop_container(&self, container: &str) -> Result<(), BackendError> {
        let path = with_query(&address(container, "/stop"), &[("timeout", STOP_SECONDS)]);
        let failure = match self.client().call(Method::POST, &path, SLOW).await {
            Ok(_) => return Ok(()),
            // What is gone does not run.
            Err(failure) if failure.kind == ErrorKind::NotFound => return Ok(()),
            Err(failure) if failure.kind == ErrorKind::Unreachable => return Err(failure),
            Err(failure) => failure,
        };
        let state = match self.reader().inspect(container).await {
            Ok(inspected) => inspected.state,
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if state.is_paused() {
            // The engine stops no paused one.
            self.resume(container).await?;
            return self.client().call(Method::POST, &path, SLOW).await.map(drop);
        }
        // It ended by itself between the plan and now, or was never started.
        if state.running { Err(failure) } else { Ok(()) }
    }

    /// Removes a stopped container, and with it the anonymous volumes it may have; named ones stay. With `uid`, only
    /// the container that carries it.
    pub(crate) async fn remove_container(&self, container: &str, uid: Option<&str>) -> Result<(), BackendError> {
        self.reader().shared.pid_files.gone(container);
        let found;
        let container = match uid {
            None => container,
            Some(uid) => match self.reader().find_container(container).await? {
                Some(holder) if holder.config.labels.get(label::UID).map(String::as_str) == Some(uid) => {
                    found = holder.id;
                    &found
                }
                // Whoever has the name, it is not the one to remove.
                _ => return Ok(()),
            },
        };
        let path = with_query(&address(container, ""), &[("v", "true"), ("force", "false")]);
        match self.client().call(Method::DELETE, &path, SLOW).await {
            Ok(answer) => removal_report(&answer),
            Err(failure) if failure.kind == ErrorKind::NotFound => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    pub(crate) async fn rename_container(&self, container: &str, to: &str) -> Result<(), BackendError> {
        for name in [container, to] {
            self.reader().shared.pid_files.gone(name);
        }
        // By id: after a rename whose answer was lost, the name leads nowhere.
        let id = self.reader().inspect(container).await?.id;
        let path = with_query(&address(&id, "/rename"), &[("name", to)]);
        match self.client().call(Method::POST, &path, SLOW).await {
            Ok(_) => Ok(()),
            Err(failure) => match self.reader().find_container(to).await? {
                Some(holder) if holder.id == id => Ok(()),
                Some(_) => {
                    Err(BackendError::new(ErrorKind::Conflict, format!("the name {to} is held by another container")))
                }
                None => Err(failure),
            },
        }
    }

    /// Changes ceilings and restart policy in place.
    ///
    /// # Caveats
    /// Podman 4 changes the running container only: after a stop the old ceilings are back, and the next plan sees it.
    /// An engine that cannot enforce a ceiling is not asked to: it would note it and then fail to start.
    pub(crate) async fn update_container(
        &self,
        container: &str,
        limits: &LimitSpec,
        restart: Option<&str>,
    ) -> Result<(), BackendError> {
        let facts = self.facts();
        let resources = Resources::new(limits, facts, true);
        let restart = restart.filter(|_| facts.updates_restart);
        if resources.is_none() && restart.is_none() {
            return Ok(());
        }
        let query: Vec<_> = restart.map(|policy| ("restartPolicy", policy)).into_iter().collect();
        let path = with_query(&address(container, "/update"), &query);
        self.client().post(&path, &resources.unwrap_or_default(), SLOW).await.map(drop)
    }

    pub(crate) async fn connect_network(
        &self,
        container: &str,
        network: &str,
        alias: &str,
    ) -> Result<(), BackendError> {
        #[derive(Serialize)]
        struct Connect<'a> {
            container: &'a str,
            #[serde(flatten)]
            endpoint: Endpoint,
        }
        let path = format!("/networks/{}/connect", encode_name(network));
        let body = Connect { container, endpoint: Endpoint { aliases: vec![alias.to_owned()] } };
        match self.client().post(&path, &body, SLOW).await {
            Ok(_) => Ok(()),
            Err(failure) => self.unless_member(container, network, true, failure).await,
        }
    }

    pub(crate) async fn disconnect_network(&self, container: &str, network: &str) -> Result<(), BackendError> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Disconnect<'a> {
            container: &'a str,
            force: bool,
        }
        let path = format!("/networks/{}/disconnect", encode_name(network));
        match self.client().post(&path, &Disconnect { container, force: false }, SLOW).await {
            Ok(_) => Ok(()),
            Err(failure) => self.unless_member(container, network, false, failure).await,
        }
    }

    /// `failure`, unless membership is as it should be.
    async fn unless_member(
        &self,
        container: &str,
        network: &str,
        wanted: bool,
        failure: BackendError,
    ) -> Result<(), BackendError> {
        let inspected = self.reader().inspect(container).await?;
        let member = inspected.network_settings.networks.contains_key(network);
        if member == wanted { Ok(()) } else { Err(failure) }
    }

    /// Stops and removes at once; for containers that hold nothing of anybody.
    pub(crate) async fn discard_container(&self, container: &str) -> Result<(), BackendError> {
        let path = with_query(&address(container, ""), &[("v", "true"), ("force", "true"), ("timeout", "0")]);
        let reply = self.client().exchange(Method::DELETE, &path, JSON, full(""), SLOW).await?;
        if reply.status == StatusCode::NOT_FOUND { Ok(()) } else { reply.ok().map(drop) }
    }
}

/// Whether both carry the same uid, which no two objects share.
pub(crate) fn same(found: &Labels, wanted: &Labels) -> bool {
    match (found.get(label::UID), wanted.get(label::UID)) {
        (Some(found), Some(wanted)) => found == wanted,
        _ => false,
    }
}

/// A removal answers 200 with a row per container, each with an error of its own.
fn removal_report(answer: &[u8]) -> Result<(), BackendError> {
    #[derive(serde::Deserialize)]
    struct Row {
        #[serde(rename = "Err", default)]
        error: Option<String>,
    }
    let rows: Vec<Row> = serde_json::from_slice(answer).unwrap_or_default();
    match rows.into_iter().find_map(|row| row.error.filter(|text| !text.is_empty())) {
        Some(text) => Err(error::from_text(&text)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Answer, Fake, failed, inspected};
    use crate::backend::Observe as _;

    const DONE: fn() -> Answer = || Some((204, String::new()));

    #[tokio::test]
    async fn a_container_that_is_gone_is_stopped() {
        let gone = Fake::start(|_| failed(404, "no such container")).await;
        gone.podman.stop_container("c").await.expect("does not run");
        // Beside it: one that cannot be stopped is not.
        let stuck = Fake::start(|asked| match asked {
            "POST /containers/c/stop" => failed(500, "stuck"),
            _ => inspected("c", "c", "running", "u"),
        })
        .await;
        assert_eq!(stuck.podman.stop_container("c").await.expect_err("runs").message, "stuck");
    }

    #[tokio::test]
    async fn a_paused_container_goes_on_before_it_is_stopped_and_when_it_is_started() {
        let engine = || {
            let mut paused = true;
            Fake::start(move |asked| match asked {
                "POST /containers/c/unpause" => {
                    paused = false;
                    DONE()
                }
                "POST /containers/c/stop" if !paused => DONE(),
                "GET /containers/c/json" => inspected("c", "c", if paused { "paused" } else { "running" }, "u"),
                _ => failed(500, "container state improper"),
            })
        };
        let stopped = engine().await;
        stopped.podman.stop_container("c").await.expect("stopped");
        let asked = ["POST /containers/c/stop", "POST /containers/c/unpause", "POST /containers/c/stop"];
        assert_eq!(stopped.changes(), asked);
        let started = engine().await;
        started.podman.start_container("c").await.expect("goes on");
        assert_eq!(started.changes(), ["POST /containers/c/start", "POST /containers/c/unpause"]);
    }

    #[tokio::test]
    async fn a_rename_whose_answer_was_lost_is_done() {
        let mut renamed = false;
        let fake = Fake::start(move |asked| match asked {
            "POST /containers/0a1b/rename" => {
                renamed = true;
                None
            }
            "GET /containers/p_s/json" if renamed => inspected("0a1b", "p_s", "running", "u"),
            "GET /containers/p_s.next/json" if !renamed => inspected("0a1b", "p_s.next", "running", "u"),
            _ => failed(404, "no such container"),
        })
        .await;
        fake.podman.rename_container("p_s.next", "p_s").await.expect("renamed");
    }

    #[tokio::test]
    async fn only_the_container_that_was_made_is_removed_by_name() {
        let fake = Fake::start(|asked| match asked {
            "DELETE /containers/0a1b" => Some((200, "[]".to_owned())),
            _ => inspected("0a1b", "p_s.next", "exited", "ours"),
        })
        .await;
        fake.podman.remove_container("p_s.next", Some("another")).await.expect("nothing to do");
        assert_eq!(fake.changes(), Vec::<String>::new());
        fake.podman.remove_container("p_s.next", Some("ours")).await.expect("removed");
        assert_eq!(fake.changes(), ["DELETE /containers/0a1b"]);
    }

    #[tokio::test]
    async fn a_look_that_breaks_off_is_taken_again() {
        let mut broken = false;
        let fake = Fake::start(move |asked| {
            if asked == "GET /images/json" && !std::mem::replace(&mut broken, true) {
                return None;
            }
            Some((200, "[]".to_owned()))
        })
        .await;
        fake.podman.snapshot(&crate::facts::Query::default()).await.expect("looks");
    }
}
