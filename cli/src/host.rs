//! Facts of this host, and the values of secrets.

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;
use reconciler::backend::{BackendError, ErrorKind, SecretSource};
use reconciler::host_facts::HostFacts;
use schema::Config;

use crate::configuration::Surroundings;

/// Gathers what `config` depends on.
pub async fn gather(
    _config: &Config,
    surroundings: &Surroundings,
    init: PathBuf,
    locked: BTreeMap<String, String>,
) -> HostFacts {
    HostFacts { locked, init, runtime_dir: surroundings.directories.runtime.clone(), ..HostFacts::default() }
}

/// Reads secrets as the configuration says.
pub struct Secrets;

/// The source for `config`.
pub fn secrets(_config: &Config, _surroundings: &Surroundings) -> Secrets {
    Secrets
}

#[async_trait]
impl SecretSource for Secrets {
    async fn read(&self, name: &str) -> Result<secrecy::SecretSlice<u8>, BackendError> {
        Err(BackendError::new(ErrorKind::Failed, format!("secret {name} cannot be read yet")))
    }
}
