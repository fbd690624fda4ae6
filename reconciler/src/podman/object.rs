//! Operations on volumes, networks and secrets.

use hyper::Method;
use podman_api::opts::{NetworkCreateOpts, VolumeCreateOpts};
use secrecy::ExposeSecret as _;

use super::Podman;
use super::client::{BYTES, SLOW, encode_name, full, with_query};
use super::container::same;
use super::snapshot::within;
use crate::backend::{BackendError, ErrorKind};
use crate::resource::{Labels, secret_hash};
use crate::spec::{EngineNetworkSpec, NewObject};

impl Podman {
    pub(crate) async fn create_volume(&self, object: &NewObject) -> Result<(), BackendError> {
        let options = VolumeCreateOpts::builder().name(&object.name).labels(pairs(&object.labels)).build();
        let volumes = self.api().volumes();
        match within("volume", volumes.create(&options)).await {
            Ok(_) => Ok(()),
            Err(failure) => {
                let holder = within("volume", self.api().volumes().get(&object.name).inspect()).await;
                let labels = holder.ok().map(|volume| volume.labels.into_iter().collect());
                settle(failure, labels.as_ref(), object, "volume")
            }
        }
    }

    pub(crate) async fn remove_volume(&self, volume: &str) -> Result<(), BackendError> {
        gone(within("volume", self.api().volumes().get(volume).delete()).await)
    }

    pub(crate) async fn create_network(
        &self,
        object: &NewObject,
        spec: &EngineNetworkSpec,
    ) -> Result<(), BackendError> {
        let EngineNetworkSpec { internal } = spec;
        let options = NetworkCreateOpts::builder()
            .name(&object.name)
            .driver("bridge")
            .internal(*internal)
            // Off unless asked for, and peers find each other by name.
            .dns_enabled(true)
            .labels(pairs(&object.labels))
            .build();
        match within("network", self.api().networks().create(&options)).await {
            Ok(_) => Ok(()),
            Err(failure) => {
                let holder = within("network", self.api().networks().get(&object.name).inspect()).await;
                let labels = holder.ok().map(|network| network.labels.unwrap_or_default().into_iter().collect());
                settle(failure, labels.as_ref(), object, "network")
            }
        }
    }

    pub(crate) async fn remove_network(&self, network: &str) -> Result<(), BackendError> {
        // Without force: a network with members stays, whoever they are.
        gone(within("network", self.api().networks().get(network).delete()).await.map(drop))
    }

    /// Reads the value now and hands it to the engine; it is in no plan, label or message.
    pub(crate) async fn create_secret(&self, object: &NewObject, secret: &str, hash: &str) -> Result<(), BackendError> {
        let value = self.secret_source().read(secret).await?;
        let project = object.labels.get(crate::resource::label::PROJECT).map_or("", String::as_str);
        if secret_hash(project, secret, value.expose_secret()) != hash {
            return Err(BackendError::new(ErrorKind::Stale, "the value has changed since the plan was made")
                .with_help("plan again"));
        }
        let labels = serde_json::to_string(&object.labels)
            .map_err(|error| BackendError::new(ErrorKind::Failed, error.to_string()))?;
        let path = with_query("/secrets/create", &[("name", &object.name), ("labels", &labels)]);
        let body = full(value.expose_secret().to_vec());
        match self.client().exchange(Method::POST, &path, BYTES, body, SLOW).await?.ok() {
            Ok(_) => Ok(()),
            Err(failure) => {
                let holder = self.reader().secret(&object.name).await.ok().flatten();
                settle(failure, holder.map(|facts| facts.labels).as_ref(), object, "secret")
            }
        }
    }

    pub(crate) async fn remove_secret(&self, secret: &str) -> Result<(), BackendError> {
        let path = format!("/secrets/{}", encode_name(secret));
        gone(self.client().call(Method::DELETE, &path, SLOW).await.map(drop))
    }
}

fn pairs(labels: &Labels) -> impl Iterator<Item = (&str, &str)> {
    labels.iter().map(|(key, value)| (key.as_str(), value.as_str()))
}

/// A failed creation is a success if an earlier attempt made the object.
fn settle(failure: BackendError, holder: Option<&Labels>, object: &NewObject, noun: &str) -> Result<(), BackendError> {
    match holder {
        Some(labels) if same(labels, &object.labels) => Ok(()),
        Some(_) => {
            Err(BackendError::new(ErrorKind::Conflict, format!("the name {} is held by another {noun}", object.name)))
        }
        None => Err(failure),
    }
}

fn gone(result: Result<(), BackendError>) -> Result<(), BackendError> {
    match result {
        Err(failure) if failure.kind == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
