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
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// What a container gets between TERM and KILL.
const STOP_SECONDS: &str = "10";

fn address(container: &str, rest: &str) -> String {
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
            UsernsSpec::KeepId => Some(self.reader().shared.keep_id.lock().await),
            UsernsSpec::Private | UsernsSpec::Identity | UsernsSpec::Host => None,
        };
        match self.client().post("/containers/create", &body, SLOW).await {
            Ok(answer) => {
                let _: Made =
                    serde_json::from_slice(&answer).map_err(|error| error::malformed("containers/create", &error))?;
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
                    _ => Err(failure),
                }
            }
        }
    }

    pub(crate) async fn start_container(&self, container: &str) -> Result<(), BackendError> {
        // 304, "runs already", is no failure.
        self.client().call(Method::POST, &address(container, "/start"), SLOW).await.map(drop)
    }

    /// Waits for PID 1's word that the main process runs. What it says is untrusted: it decides nothing but when to
    /// stop waiting.
    pub(crate) async fn await_ready(&self, container: &str) -> Result<(), BackendError> {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(1);
        let mut pid = 0;
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
            126 => "the command cannot be executed (exit code 126)".to_owned(),
            127 => "the command was not found (exit code 127)".to_owned(),
            _ => format!("the main process ended with exit code {code}"),
        };
        if !inspected.state.error.is_empty() {
            message = format!("{message}: {}", inspected.state.error);
        }
        let tail = self.reader().log_tail(container, 5).await.unwrap_or_default();
        if !tail.is_empty() {
            message = format!("{message}; its last words:\n{}", tail.join("\n"));
        }
        BackendError::new(ErrorKind::Failed, message)
    }

    pub(crate) async fn stop_container(&self, container: &str) -> Result<(), BackendError> {
        let path = with_query(&address(container, "/stop"), &[("timeout", STOP_SECONDS)]);
        match self.client().call(Method::POST, &path, SLOW).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.kind != ErrorKind::NotFound && failure.kind != ErrorKind::Unreachable => {
                let state = self.reader().inspect(container).await?.state;
                if state.status == "paused" {
                    // It can neither hear a signal nor, for Podman 5, be stopped.
                    self.client().call(Method::POST, &address(container, "/unpause"), SLOW).await?;
                    return self.client().call(Method::POST, &path, SLOW).await.map(drop);
                }
                // It ended by itself between the plan and now, or was never started.
                if state.running { Err(failure) } else { Ok(()) }
            }
            Err(failure) => Err(failure),
        }
    }

    /// Removes a stopped container, and with it the anonymous volumes it may have; named ones stay.
    pub(crate) async fn remove_container(&self, container: &str) -> Result<(), BackendError> {
        let path = with_query(&address(container, ""), &[("v", "true"), ("force", "false")]);
        match self.client().call(Method::DELETE, &path, SLOW).await {
            Ok(answer) => removal_report(&answer),
            Err(failure) if failure.kind == ErrorKind::NotFound => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    pub(crate) async fn rename_container(&self, container: &str, to: &str) -> Result<(), BackendError> {
        let path = with_query(&address(container, "/rename"), &[("name", to)]);
        match self.client().call(Method::POST, &path, SLOW).await {
            Ok(_) => Ok(()),
            Err(failure) => match self.reader().find_container(to).await? {
                Some(holder) if holder.id == container => Ok(()),
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
        let member = inspected.network_settings.networks.contains(network);
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
