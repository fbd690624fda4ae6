//! Files that make programs inside a sandbox trust the project's authority.
//!
//! Programs look for authorities in different places, and nearly all of them can be shown another one. Most take what is
//! there in place of their own list, so the file holds everybody that was trusted before as well.

use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};

/// Where systems keep the authorities they trust, in one file. The first that is there is meant.
pub const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Files for a directory inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustFiles {
    /// All authorities, PEM.
    pub bundle: String,
    /// The project's authority only, PEM.
    pub authority: String,
    /// All authorities, as Java reads them (JKS).
    pub java: Vec<u8>,
}

/// What cannot be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The project's authority is no certificate.
    #[error("the project's certificate authority cannot be read: {0}")]
    Authority(String),
}

impl TrustFiles {
    /// Files by which the authorities of `system` (PEM, whatever else may be in it) are trusted, and `authority` (PEM).
    ///
    /// What is not a certificate in `system` is left out: comments, and keys that somebody put there by mistake.
    pub fn new(system: &str, authority: &str) -> Result<Self, BundleError> {
        let own = CertificateDer::from_pem_slice(authority.as_bytes())
            .map_err(|error| BundleError::Authority(error.to_string()))?;
        let authority = certificates(authority).next().map(|(text, _)| format!("{text}\n")).unwrap_or_default();
        let mut bundle = String::with_capacity(system.len() + authority.len());
        let mut trusted: Vec<CertificateDer<'static>> = Vec::new();
        for (text, certificate) in certificates(system) {
            if certificate != own && !trusted.contains(&certificate) {
                bundle.push_str(text);
                bundle.push('\n');
                trusted.push(certificate);
            }
        }
        bundle.push_str(&authority);
        trusted.push(own);
        Ok(Self { bundle, authority, java: java(&trusted) })
    }
}

/// The certificates in a text, each as it stands there.
fn certificates(text: &str) -> impl Iterator<Item = (&str, CertificateDer<'static>)> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    text.split(BEGIN).skip(1).filter_map(|rest| {
        let length = rest.find(END)? + END.len();
        // From the start of the line on which it begins.
        let start = rest.as_ptr() as usize - text.as_ptr() as usize - BEGIN.len();
        let block = &text[start..start + BEGIN.len() + length];
        let certificate: Result<_, pem::Error> = CertificateDer::from_pem_slice(block.as_bytes());
        // One that is none makes some programs read no further.
        certificate.ok().filter(|it| x509_parser::parse_x509_certificate(it).is_ok()).map(|it| (block, it))
    })
}

/// A trust store as every Java reads it (JKS). It holds nothing secret; its password is Java's own for such, `changeit`, and
/// need not be given.
fn java(certificates: &[CertificateDer<'_>]) -> Vec<u8> {
    const MAGIC: u32 = 0xfeed_feed;
    const VERSION: u32 = 2;
    const TRUSTED: u32 = 2;
    const PASSWORD: &str = "changeit";
    fn number(store: &mut Vec<u8>, number: usize) {
        // A certificate is a few kilobytes, and there are a few hundred of them.
        store.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes());
    }
    fn text(store: &mut Vec<u8>, text: &str) {
        store.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
        store.extend_from_slice(text.as_bytes());
    }
    let mut store = Vec::new();
    store.extend_from_slice(&MAGIC.to_be_bytes());
    store.extend_from_slice(&VERSION.to_be_bytes());
    number(&mut store, certificates.len());
    for (index, certificate) in certificates.iter().enumerate() {
        store.extend_from_slice(&TRUSTED.to_be_bytes());
        text(&mut store, &format!("ca-{index}"));
        // When it was put in: the same bytes for the same certificates.
        store.extend_from_slice(&0_u64.to_be_bytes());
        text(&mut store, "X.509");
        number(&mut store, certificate.len());
        store.extend_from_slice(certificate);
    }
    // The format's own checksum, which keeps nobody from anything.
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    for unit in PASSWORD.encode_utf16() {
        context.update(&unit.to_be_bytes());
    }
    context.update(b"Mighty Aphrodite");
    context.update(&store);
    store.extend_from_slice(context.finish().as_ref());
    store
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::tls::authority::Authority;

    fn authority() -> (Authority, String) {
        let authority = Authority::generate("acme").unwrap();
        let pem = authority.certificate_pem().to_owned();
        (authority, pem)
    }

    #[test]
    fn everybody_who_was_trusted_still_is_and_the_project_too() {
        let ((one, one_pem), (two, two_pem), (own, own_pem)) = (authority(), authority(), authority());
        let key = one.key_pem();
        let system = format!(
            "# Some Root\r\n{}\n{one_pem}{two_pem}{one_pem}-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n{own_pem}",
            key.expose_secret(),
        );
        let files = TrustFiles::new(&system, &own_pem).unwrap();
        let read: Vec<_> = CertificateDer::pem_slice_iter(files.bundle.as_bytes()).map(Result::unwrap).collect();
        assert_eq!(read, [one.certificate().clone(), two.certificate().clone(), own.certificate().clone()]);
        assert!(!files.bundle.contains("PRIVATE") && !files.bundle.contains('#'), "{}", files.bundle);
        assert_eq!(CertificateDer::from_pem_slice(files.authority.as_bytes()).unwrap(), *own.certificate());
        // Without a system that trusts anybody, and stable.
        let alone = TrustFiles::new("", &own_pem).unwrap();
        assert_eq!(alone.bundle, alone.authority);
        assert_eq!(TrustFiles::new(&system, &own_pem).unwrap(), files);
        assert!(matches!(TrustFiles::new(&system, "nothing"), Err(BundleError::Authority(_))));
    }

    #[test]
    fn java_reads_what_is_written() {
        let (own, pem) = authority();
        let java = TrustFiles::new("", &pem).unwrap().java;
        let certificate = own.certificate();
        let mut expected =
            b"\xfe\xed\xfe\xed\0\0\0\x02\0\0\0\x01\0\0\0\x02\0\x04ca-0\0\0\0\0\0\0\0\0\0\x05X.509".to_vec();
        expected.extend_from_slice(&u32::try_from(certificate.len()).unwrap().to_be_bytes());
        expected.extend_from_slice(certificate);
        let (store, checksum) = java.split_at(java.len() - 20);
        assert_eq!(store, expected);
        // SHA-1 of "\0c\0h\0a\0n\0g\0e\0i\0tMighty Aphrodite" and the store.
        let salted = [b"\0c\0h\0a\0n\0g\0e\0i\0tMighty Aphrodite".as_slice(), store].concat();
        assert_eq!(checksum, digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &salted).as_ref());
    }

    /// Where there is a Java, it is asked as well.
    #[test]
    fn java_itself_reads_it() {
        if std::process::Command::new("keytool").arg("-help").output().is_err() {
            return;
        }
        let ((own, pem), (_, other)) = (authority(), authority());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), TrustFiles::new(&other, &pem).unwrap().java).unwrap();
        let listed = std::process::Command::new("keytool")
            .args(["-J-Duser.language=en", "-list", "-rfc", "-storetype", "JKS", "-storepass", "changeit", "-keystore"])
            .arg(file.path())
            .output()
            .unwrap();
        let text = String::from_utf8(listed.stdout).unwrap();
        assert!(listed.status.success(), "{text}");
        let read: Vec<_> = certificates(&text).map(|(_, certificate)| certificate).collect();
        assert!(read.len() == 2 && read.contains(own.certificate()), "{text}");
    }
}
