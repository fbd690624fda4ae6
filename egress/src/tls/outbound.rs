//! TLS with servers: whom to trust.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use rustls::{ClientConfig, RootCertStore};
use schema::policy::Host;

/// Which certificates of servers are trusted.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Whether those that this machine trusts are.
    pub native: bool,
    /// Authorities besides those.
    pub extra: Vec<CertificateDer<'static>>,
}

/// What is offered to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// HTTP/1.1 only.
    One,
    /// HTTP/2, or HTTP/1.1.
    Both,
}

/// Speaks TLS with servers.
///
/// # Guarantees
/// A server has to show a certificate for the name it was asked by, from an authority that is trusted, at this time.
pub struct Outbound {
    trust: Trust,
    /// Made when first needed: a daemon that intercepts nothing has no use for them.
    configs: OnceLock<Result<Configs, OutboundError>>,
}

struct Configs {
    one: Arc<ClientConfig>,
    both: Arc<ClientConfig>,
}

/// Why TLS cannot be spoken with any server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutboundError {
    /// Nobody is trusted.
    #[error("no certificate authority is trusted on this machine ({0}); install its `ca-certificates` package")]
    NoRoots(String),
    /// The provider of cryptography does not fit.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

impl Outbound {
    /// Trusts `trust`.
    pub fn new(trust: Trust) -> Self {
        Self { trust, configs: OnceLock::new() }
    }

    /// How to speak with a server that is offered `offer`.
    pub(crate) fn config(&self, offer: Offer) -> Result<Arc<ClientConfig>, OutboundError> {
        let configs = self.configs.get_or_init(|| Configs::new(&self.trust)).as_ref().map_err(Clone::clone)?;
        Ok(Arc::clone(match offer {
            Offer::One => &configs.one,
            Offer::Both => &configs.both,
        }))
    }
}

impl Default for Outbound {
    /// Trusts whom this machine trusts.
    fn default() -> Self {
        Self::new(Trust { native: true, extra: Vec::new() })
    }
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound").field("trust", &self.trust).finish_non_exhaustive()
    }
}

impl Configs {
    fn new(trust: &Trust) -> Result<Self, OutboundError> {
        let mut roots = RootCertStore::empty();
        let mut why = String::from("none was given");
        if trust.native {
            let found = rustls_native_certs::load_native_certs();
            why = found.errors.first().map_or_else(|| "none was found".to_owned(), ToString::to_string);
            roots.add_parsable_certificates(found.certs);
        }
        roots.add_parsable_certificates(trust.extra.iter().cloned());
        if roots.is_empty() {
            return Err(OutboundError::NoRoots(why));
        }
        let setup = |error: &dyn fmt::Display| OutboundError::Setup(error.to_string());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let base = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| setup(&error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let offering = |protocols: &[&[u8]]| {
            let mut config = base.clone();
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            Arc::new(config)
        };
        Ok(Self { one: offering(&[b"http/1.1"]), both: offering(&[b"h2", b"http/1.1"]) })
    }
}

/// The name a server's certificate has to have.
pub(crate) fn server_name(host: &Host) -> Result<ServerName<'static>, InvalidDnsNameError> {
    match host {
        Host::Name(name) => ServerName::try_from(name.as_str().to_owned()),
        Host::Address(address) => Ok(ServerName::IpAddress((*address).into())),
    }
}
