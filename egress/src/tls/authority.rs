//! The certificate authority of a project, by which TLS that has to be looked into ends here.
//!
//! Sandboxes of the project trust it, and nobody else does. Its key stays with the daemon.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType, SerialNumber,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, crypto};
use schema::policy::Host;
use secrecy::SecretString;

/// Most hosts whose certificates are kept.
const KEPT: usize = 1024;
/// How long a host's certificate is used; it is valid for longer.
const USED: Duration = Duration::from_hours(24);
/// Days for which a host's certificate is valid, and the authority's.
const HOST_DAYS: i32 = 30;
const AUTHORITY_DAYS: i32 = 3650;

/// Signs for every host, when asked.
pub struct Authority {
    certificate: CertificateDer<'static>,
    pem: String,
    begins: Timestamp,
    ends: Timestamp,
    issuer: Issuer<'static, KeyPair>,
    /// All hosts have the same key: it never leaves this process, and ends with it.
    host_key: KeyPair,
    provider: Arc<CryptoProvider>,
    tickets: Arc<dyn ProducesTickets>,
    hosts: Mutex<HashMap<Host, Kept>>,
}

struct Kept {
    config: Arc<ServerConfig>,
    since: Instant,
}

/// Why there is no authority, or no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// What was stored cannot be read.
    #[error("the project's certificate authority cannot be read: {0}")]
    Read(String),
    /// The key belongs to another certificate.
    #[error("the key of the project's certificate authority is not the one of its certificate")]
    OtherKey,
    /// Something could not be made or signed.
    #[error("no certificate could be made: {0}")]
    Make(String),
}

impl From<rcgen::Error> for AuthorityError {
    fn from(error: rcgen::Error) -> Self {
        Self::Make(error.to_string())
    }
}

impl From<rustls::Error> for AuthorityError {
    fn from(error: rustls::Error) -> Self {
        Self::Make(error.to_string())
    }
}

impl Authority {
    /// A new one, for `project`.
    pub fn generate(project: &str) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, "sbx");
        params.distinguished_name.push(DnType::CommonName, format!("sbx egress of {project}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial(&crypto::aws_lc_rs::default_provider())?);
        valid_for(&mut params, AUTHORITY_DAYS);
        let certificate = params.self_signed(&key)?;
        Self::new(certificate.pem(), certificate.into(), key)
    }

    /// One that was stored: what [`Authority::certificate_pem`] and [`Authority::key_pem`] gave.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, AuthorityError> {
        let read = |error: &dyn fmt::Display| AuthorityError::Read(error.to_string());
        let key = KeyPair::from_pem(key).map_err(|error| read(&error))?;
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|error| read(&error))?;
        Self::new(certificate.to_owned(), der, key)
    }

    fn new(pem: String, certificate: CertificateDer<'static>, key: KeyPair) -> Result<Self, AuthorityError> {
        // The public key stands in the certificate as it is.
        let public = key.subject_public_key_info();
        if !certificate.windows(public.len()).any(|part| part == public) {
            return Err(AuthorityError::OtherKey);
        }
        let (begins, ends) = validity(&certificate)?;
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key).map_err(|error| AuthorityError::Read(error.to_string()))?;
        Ok(Self {
            certificate,
            pem,
            begins,
            ends,
            issuer,
            host_key: KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?,
            provider: Arc::new(crypto::aws_lc_rs::default_provider()),
            tickets: crypto::aws_lc_rs::Ticketer::new()?,
            hosts: Mutex::default(),
        })
    }

    /// Its certificate, which sandboxes trust.
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// The same, as DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its key. To be stored where only the daemon's user can read it.
    pub fn key_pem(&self) -> SecretString {
        self.issuer.key().serialize_pem().into()
    }

    /// Whether clients whose clocks say `time` take what it signs.
    pub fn is_valid_at(&self, time: Timestamp) -> bool {
        self.begins <= time && time < self.ends
    }

    /// How TLS is spoken in the place of `host`.
    pub(crate) fn config(&self, host: &Host) -> Result<Arc<ServerConfig>, AuthorityError> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some(kept) = hosts.get(host).filter(|kept| now.duration_since(kept.since) < USED) {
            return Ok(Arc::clone(&kept.config));
        }
        let config = Arc::new(self.make(host)?);
        if hosts.len() >= KEPT {
            let oldest = hosts.iter().min_by_key(|(_, kept)| kept.since).map(|(host, _)| host.clone());
            if let Some(oldest) = oldest {
                hosts.remove(&oldest);
            }
        }
        hosts.insert(host.clone(), Kept { config: Arc::clone(&config), since: now });
        Ok(config)
    }

    fn make(&self, host: &Host) -> Result<ServerConfig, AuthorityError> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![match host {
            Host::Name(name) => SanType::DnsName(name.as_str().try_into()?),
            Host::Address(address) => SanType::IpAddress(*address),
        }];
        // A common name has at most 64 characters; nobody reads it where there are alternative names.
        let name: String = host.to_string().chars().take(64).collect();
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        // Hosts have one key, and certificates of one authority must differ in their numbers.
        params.serial_number = Some(serial(&self.provider)?);
        valid_for(&mut params, HOST_DAYS);
        let certificate = params.signed_by(&self.host_key, &self.issuer)?;
        let key = PrivatePkcs8KeyDer::from(self.host_key.serialize_der()).into();
        let chain = vec![certificate.into(), self.certificate.clone()];
        let certified = CertifiedKey::new(chain, self.provider.key_provider.load_private_key(key)?);
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Sessions are resumed by tickets, which hold nothing here.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = Arc::clone(&self.tickets);
        Ok(config)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// From when until when a certificate is valid.
fn validity(certificate: &CertificateDer<'_>) -> Result<(Timestamp, Timestamp), AuthorityError> {
    let read = |error: &dyn fmt::Display| AuthorityError::Read(error.to_string());
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|error| read(&error))?;
    let time =
        |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).map_err(|error| read(&error));
    let validity = parsed.validity();
    Ok((time(validity.not_before)?, time(validity.not_after)?))
}

fn serial(provider: &CryptoProvider) -> Result<SerialNumber, AuthorityError> {
    let mut bytes = [0; 16];
    provider.secure_random.fill(&mut bytes).map_err(|_| AuthorityError::Make("no random numbers".to_owned()))?;
    // Positive, and of full length.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// From yesterday on, for clocks that are behind.
fn valid_for(params: &mut CertificateParams, days: i32) {
    let today = TimeZone::UTC.to_datetime(Timestamp::now()).date();
    let date = |day: Date| {
        // Months and days are small and positive.
        let number = |part: i8| u8::try_from(part).unwrap_or(1);
        rcgen::date_time_ymd(day.year().into(), number(day.month()), number(day.day()))
    };
    params.not_before = date(today.saturating_sub(1.day()));
    params.not_after = date(today.saturating_add(days.days()));
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};
    use secrecy::ExposeSecret;

    use super::*;

    /// Shakes hands by memory; the certificate that was shown.
    fn shake(authority: &Authority, host: &str, asked: &str) -> Result<CertificateDer<'static>, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate().clone())?;
        let config = ClientConfig::builder_with_provider(Arc::new(crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(asked.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name)?;
        let mut server = ServerConnection::new(authority.config(&host.parse().unwrap()).unwrap())?;
        while client.is_handshaking() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut bytes.as_slice()).unwrap();
            server.process_new_packets()?;
            bytes.clear();
            server.write_tls(&mut bytes).unwrap();
            client.read_tls(&mut bytes.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(client.peer_certificates().unwrap()[0].clone().into_owned())
    }

    #[test]
    fn certificates_are_for_one_host_and_trusted_by_who_trusts_the_authority() {
        let authority = Authority::generate("acme").unwrap();
        for host in ["a.test", "xn--bcher-kva.test", "192.0.2.1", "2001:db8::1"] {
            shake(&authority, host, host).unwrap();
        }
        let long = format!("{}.test", ["a".repeat(60).as_str(); 3].join("."));
        shake(&authority, &long, &long).unwrap();
        for (host, asked) in [("a.test", "b.test"), ("a.test", "192.0.2.1"), ("192.0.2.1", "192.0.2.2")] {
            let error = shake(&authority, host, asked).unwrap_err();
            assert!(matches!(error, rustls::Error::InvalidCertificate(_)), "{error:?}");
        }
    }

    #[test]
    fn certificates_are_kept_bounded_and_never_share_a_number() {
        let authority = Authority::generate("acme").unwrap();
        let first = shake(&authority, "a.test", "a.test").unwrap();
        assert_eq!(shake(&authority, "a.test", "a.test").unwrap(), first);
        let numbers: HashSet<_> = (0..20).map(|_| serial(&authority.provider).unwrap().to_bytes()).collect();
        assert_eq!(numbers.len(), 20);
        for number in 0..KEPT {
            authority.config(&format!("h{number}.test").parse().unwrap()).unwrap();
        }
        assert_eq!(authority.hosts.lock().unwrap().len(), KEPT);
        assert_ne!(shake(&authority, "a.test", "a.test").unwrap(), first, "the oldest had to go");
    }

    #[test]
    fn what_was_stored_is_the_same_authority() {
        let authority = Authority::generate("acme").unwrap();
        let key = authority.key_pem();
        let again = Authority::from_pem(authority.certificate_pem(), key.expose_secret()).unwrap();
        assert_eq!(again.certificate(), authority.certificate());
        shake(&again, "a.test", "a.test").unwrap();
        let other = Authority::generate("acme").unwrap();
        let mixed = Authority::from_pem(other.certificate_pem(), key.expose_secret());
        assert_eq!(mixed.err(), Some(AuthorityError::OtherKey));
        assert!(matches!(Authority::from_pem("", key.expose_secret()), Err(AuthorityError::Read(_))));
        assert!(matches!(Authority::from_pem(authority.certificate_pem(), "x"), Err(AuthorityError::Read(_))));
        assert!(!format!("{authority:?} {key:?}").contains("PRIVATE"));
    }

    #[test]
    fn it_is_known_how_long_one_is_good_for() {
        let authority = Authority::generate("acme").unwrap();
        let now = Timestamp::now();
        let in_days = |days: i64| now.saturating_add(jiff::SignedDuration::from_hours(24 * days)).unwrap();
        assert!(authority.is_valid_at(now) && authority.is_valid_at(in_days(3600)));
        assert!(!authority.is_valid_at(in_days(3651)) && !authority.is_valid_at(in_days(-3)));
    }
}
