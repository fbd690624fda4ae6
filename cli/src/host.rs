//! What of this host the reconciler is told, and the values of secrets.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use reconciler::backend::{BackendError, ErrorKind, SecretSource};
use reconciler::host::{self, Depth, HostEnv, HostError};
use reconciler::host_facts::HostFacts;
use schema::Config;

use crate::caller::{engine_sockets, environment};
use crate::configuration::Surroundings;
use crate::daemon::Place;
use crate::failure::Failure;

/// A password manager may ask its user to unlock it.
const SECRET_DEADLINE: Duration = Duration::from_mins(1);

/// Where CDI specifications are.
const CDI: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// This host as `surroundings` sees it.
pub fn env(surroundings: &Surroundings, daemon: &Place, init: PathBuf, trust: PathBuf, lockfile: PathBuf) -> HostEnv {
    let Surroundings { person, directories } = surroundings;
    HostEnv {
        env: environment(person),
        identity: person.identity(),
        runtime_dir: directories.runtime.clone(),
        lockfile: Some(lockfile),
        data: directories.data.clone(),
        init,
        trust,
        cdi_dirs: CDI.map(PathBuf::from).into(),
        engine_sockets: engine_sockets(person, directories),
        own: daemon.own(person, directories),
        secret_deadline: SECRET_DEADLINE,
    }
}

/// Gathers what `config` depends on, as far as `depth` goes.
pub async fn gather(config: &Config, env: &HostEnv, depth: Depth) -> Result<HostFacts, Failure> {
    host::gather(config, env, depth).await.map_err(|error| match &error {
        HostError::Lockfile(error) => crate::lockfile::damaged(&error.to_string()),
    })
}

/// Reads secrets as the configuration says.
pub struct Secrets {
    sources: indexmap::IndexMap<schema::Name, schema::config::SecretSource>,
    env: HostEnv,
}

impl Secrets {
    /// Those of `config`.
    pub fn new(config: &Config, env: &HostEnv) -> Self {
        Self { sources: config.secrets.clone(), env: env.clone() }
    }
}

#[async_trait]
impl SecretSource for Secrets {
    async fn read(&self, name: &str) -> Result<secrecy::SecretSlice<u8>, BackendError> {
        let Some(source) = self.sources.get(name) else {
            return Err(BackendError::new(
                ErrorKind::Stale,
                format!("secret {name} is no longer in the configuration"),
            )
            .with_help("plan again"));
        };
        host::secret::read(source, &self.env).await.map_err(|error| {
            BackendError::new(ErrorKind::Failed, error.to_string()).with_help("correct its source, and apply again")
        })
    }
}
