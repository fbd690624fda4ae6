//! What a plan needs of the daemon.

use std::collections::BTreeMap;
use std::time::Duration;

use egress::control::client::Client;
use egress::control::{ControlError, Request, Response, SandboxStatus, SecretValue, Status};
use reconciler::backend::{BackendError, ErrorKind, SecretSource};
use reconciler::facts::{DaemonFacts, Observed, ServedFacts};
use reconciler::resource::secret_hash;
use schema::Name;
use secrecy::ExposeSecret as _;
use tokio::time::{Instant, sleep};

use super::{Place, run, start};
use crate::failure::Failure;

/// How long one that begins, as its lock says, may take until it answers.
const BEGIN: Duration = Duration::from_secs(2);
/// Pause before it is asked again.
const AGAIN: Duration = Duration::from_millis(20);
/// How long a daemon that ends may take to be followed by another one.
const SUCCESSION: Duration = Duration::from_secs(10);

/// How things stand; `None` when no daemon runs. One that is being replaced is not asked, but its successor is.
pub async fn status(place: &Place) -> Result<Option<Status>, ControlError> {
    let deadline = Instant::now() + BEGIN;
    loop {
        let asked = match Client::connect(&place.socket(), &super::version()).await {
            Ok(mut client) => client.status().await,
            Err(error) => Err(error),
        };
        match asked {
            Ok(status) => return Ok(Some(status)),
            Err(error) if error.is_end() || error.is_absent() => {
                if !run::is_there(place) {
                    return Ok(None);
                }
                if Instant::now() > deadline {
                    return if error.is_end() { Err(error) } else { Ok(None) };
                }
            }
            Err(error) => return Err(error),
        }
        sleep(AGAIN).await;
    }
}

/// The daemon as far as `project` is concerned.
pub async fn observe(place: &Place, project: &str) -> Observed<DaemonFacts> {
    match status(place).await {
        Ok(None) => Observed::Absent,
        Err(error) => Observed::Unknown(error.to_string()),
        Ok(Some(status)) => {
            let served = status.sandboxes.into_iter().filter(|sandbox| sandbox.project == project).map(served);
            Observed::Present(DaemonFacts { version: status.version, served: served.collect() })
        }
    }
}

fn served(status: SandboxStatus) -> ServedFacts {
    let SandboxStatus { container, policy, problem, missing_secrets, .. } = status;
    ServedFacts { container, policy, problem, missing_secrets }
}

/// Open connections that the policies of a probe would end.
pub async fn cut_flows(
    place: &Place,
    project: &str,
    policies: &BTreeMap<String, serde_json::Value>,
) -> BTreeMap<String, Vec<String>> {
    let mut cut = BTreeMap::new();
    if policies.is_empty() {
        return cut;
    }
    // Only information: without it the plan is as good.
    let Ok(mut client) = Client::connect(&place.socket(), &super::version()).await else { return cut };
    for (sandbox, policy) in policies {
        let Ok(policy) = serde_json::from_value(policy.clone()) else { continue };
        let request = Request::WouldCut { project: project.to_owned(), sandbox: sandbox.clone(), policy };
        if let Ok(Response::Flows { flows }) = client.ask(&request).await {
            cut.insert(sandbox.clone(), flows);
        }
    }
    cut
}

/// Has a policy put in force. Values of secrets are read now; they are in no plan, label or message.
pub async fn enforce(
    place: &Place,
    source: &dyn SecretSource,
    project: &str,
    sandbox: &str,
    policy: Option<&str>,
    secrets: &BTreeMap<String, String>,
) -> Result<(), BackendError> {
    let mut values = BTreeMap::new();
    for (name, hash) in secrets {
        let value = source.read(name).await?;
        if secret_hash(project, name, value.expose_secret()) != *hash {
            let message = format!("the value of secret {name} has changed since the plan was made");
            return Err(BackendError::new(ErrorKind::Stale, message).with_help("plan again"));
        }
        let key = Name::new(name).map_err(|error| BackendError::new(ErrorKind::Failed, error.to_string()))?;
        values.insert(key, SecretValue { hash: hash.clone(), value: value.expose_secret().to_vec() });
    }
    let request = Request::Enforce {
        project: project.to_owned(),
        sandbox: sandbox.to_owned(),
        policy: policy.map(str::to_owned),
        secrets: values,
    };
    order(place, policy.is_some(), &request, SUCCESSION).await.map_err(|failure| backend(&failure))
}

/// Has a daemon do something; one that ends meanwhile has a successor within `succession`, which is asked then. `needed`:
/// one is started where none runs.
///
/// What is asked for has to be something that can be asked for again.
pub(super) async fn order(place: &Place, needed: bool, request: &Request, succession: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + succession;
    let mut successor = None;
    loop {
        let mut client = match successor.take() {
            Some(client) => client,
            None if needed => start::ensure(place).await?,
            None => match Client::connect(&place.socket(), &super::version()).await {
                Ok(client) => client,
                // Nobody runs, nobody serves it.
                Err(ControlError::Absent(_)) if !run::is_there(place) || Instant::now() > deadline => return Ok(()),
                Err(error) if (error.is_end() || error.is_absent()) && Instant::now() < deadline => {
                    sleep(AGAIN).await;
                    continue;
                }
                Err(error) => return Err(start::failure(&error)),
            },
        };
        match client.order(request).await {
            Err(error) if error.is_end() && Instant::now() < deadline => {
                tracing::debug!(%error, "the daemon ends: asking the next one");
                let gone = client.daemon.pid;
                successor = start::meet(place, deadline, |there| there.pid != gone).await;
            }
            answer => return answer.map_err(|error| start::failure(&error)),
        }
    }
}

/// A failure to have the daemon do something, as a step that failed.
pub fn backend(failure: &Failure) -> BackendError {
    let mut message = failure.message.clone();
    for detail in &failure.details {
        message = format!("{message}\n{detail}");
    }
    let error = BackendError::new(ErrorKind::Failed, message);
    match &failure.help {
        Some(help) => error.with_help(help.clone()),
        None => error,
    }
}
