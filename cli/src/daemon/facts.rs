//! What a plan needs of the daemon.

use std::collections::BTreeMap;

use egress::control::client::Client;
use egress::control::{ControlError, Request, Response, SandboxStatus, SecretValue, Status};
use reconciler::backend::{BackendError, ErrorKind, SecretSource};
use reconciler::facts::{DaemonFacts, Observed, ServedFacts};
use reconciler::resource::secret_hash;
use schema::Name;
use secrecy::ExposeSecret as _;

use super::{Place, start};

/// How things stand; `None` when no daemon runs.
pub async fn status(place: &Place) -> Result<Option<Status>, ControlError> {
    match Client::connect(&place.socket(), &super::version()).await {
        Ok(mut client) => client.status().await.map(Some),
        Err(ControlError::Absent(_)) => Ok(None),
        Err(error) => Err(error),
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
    let mut client = match policy {
        Some(_) => start::ensure(place).await.map_err(|failure| backend(&failure))?,
        // Nobody runs, nobody serves it.
        None => match Client::connect(&place.socket(), &super::version()).await {
            Ok(client) => client,
            Err(ControlError::Absent(_)) => return Ok(()),
            Err(error) => return Err(backend(&start::failure(&error))),
        },
    };
    let request = Request::Enforce {
        project: project.to_owned(),
        sandbox: sandbox.to_owned(),
        policy: policy.map(str::to_owned),
        secrets: values,
    };
    client.order(&request).await.map_err(|error| backend(&start::failure(&error)))
}

/// A failure to have the daemon do something, as a step that failed.
pub fn backend(failure: &crate::failure::Failure) -> BackendError {
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
