//! What the HTTP of all sandboxes shares.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use http::header::HeaderValue;
use schema::policy::Host;
use sha2::{Digest, Sha256};

use crate::tls::authority::Authority;
use crate::tls::outbound::Outbound;

/// Shared by all sandboxes of a daemon.
#[derive(Debug)]
pub struct Web {
    /// How TLS is spoken with servers.
    pub(crate) outbound: Outbound,
    /// By project.
    authorities: RwLock<HashMap<String, Arc<Authority>>>,
    /// Known to this process only.
    key: [u8; 32],
}

impl Web {
    /// Speaks TLS with servers by `outbound`.
    pub fn new(outbound: Outbound) -> Self {
        let mut key = [0; 32];
        // A key that others can guess lets them have their own requests taken for loops, and no more than that.
        if rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut key).is_err() {
            tracing::warn!("no random numbers: loops of requests are recognized by a key that can be guessed");
        }
        Self { outbound, authorities: RwLock::default(), key }
    }

    /// Has the TLS of the sandboxes of `project` end by `authority` where it has to be looked into.
    pub fn set_authority(&self, project: &str, authority: Arc<Authority>) {
        let mut authorities = self.authorities.write().unwrap_or_else(PoisonError::into_inner);
        authorities.insert(project.to_owned(), authority);
    }

    /// Forgets the authority of a project that has no sandboxes any more.
    pub fn remove_authority(&self, project: &str) {
        self.authorities.write().unwrap_or_else(PoisonError::into_inner).remove(project);
    }

    /// The authority of `project`.
    pub fn authority(&self, project: &str) -> Option<Arc<Authority>> {
        self.authorities.read().unwrap_or_else(PoisonError::into_inner).get(project).cloned()
    }

    /// Marks requests to `host` as sent from here. Another one for each host, so that hosts cannot tell by it that they are
    /// asked by the same program.
    pub(super) fn mark(&self, host: &Host) -> HeaderValue {
        let digest = Sha256::new().chain_update(self.key).chain_update(host.to_string()).finalize();
        let number = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        HeaderValue::from_str(&format!("{number:016x}")).unwrap_or(HeaderValue::from_static("sbx"))
    }
}
