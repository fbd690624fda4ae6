//! What makes programs in a sandbox trust the authority by which the proxy looks into TLS: a directory of files, and
//! variables that name them.
//!
//! It is the directory that is mounted, so that another authority is another file in it and no other container.

use std::collections::BTreeMap;
use std::path::Path;

use schema::config::{EgressMode, Sandbox};
use serde_json::Value;

use crate::plan::FieldChange;
use crate::spec::MountSpec;

/// Where the files are inside.
pub const DIRECTORY: &str = "/run/sbx/trust";
/// Everybody whom this host trusts, and the project's authority.
pub const BUNDLE: &str = "ca-bundle.pem";
/// The project's authority alone.
pub const AUTHORITY: &str = "authority.pem";
/// [`BUNDLE`] for Java.
pub const JAVA: &str = "ca-bundle.jks";
/// Has apt use [`BUNDLE`]; TLS of apt follows no variable.
pub const APT: &str = "apt.conf";
/// The same for wget.
pub const WGET: &str = "wgetrc";

/// Variables that name a file which is used in place of the program's own list.
const IN_PLACE_OF_THEIR_OWN: [&str; 15] = [
    // OpenSSL and what uses it: Python, Ruby, PHP, Perl. Go and Rust follow.
    "SSL_CERT_FILE",
    "NIX_SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "HTTPLIB2_CA_CERTS",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
    // Node's own variable is enough for npm, but not where a configuration of this machine's npm names a file.
    "NPM_CONFIG_CAFILE",
    "BUNDLE_SSL_CA_CERT",
    "AWS_CA_BUNDLE",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "PERL_LWP_SSL_CA_FILE",
    "HEX_CACERTS_PATH",
];

/// Variables that name a file which is used besides it.
const BESIDES_THEIR_OWN: [&str; 2] = ["NODE_EXTRA_CA_CERTS", "DENO_CERT"];

/// Whether `sandbox` gets them: wherever a policy could ask for a look into TLS, and not only where one does by now, so
/// that a policy which comes later needs no other container.
pub fn is_shown(sandbox: &Sandbox) -> bool {
    sandbox.egress.mode == EgressMode::Allowlist
}

/// The variables.
pub fn environment() -> BTreeMap<&'static str, String> {
    let file = |name: &str| format!("{DIRECTORY}/{name}");
    let mut variables: BTreeMap<_, _> = IN_PLACE_OF_THEIR_OWN.map(|name| (name, file(BUNDLE))).into();
    variables.extend(BESIDES_THEIR_OWN.map(|name| (name, file(AUTHORITY))));
    let java = format!("-Djavax.net.ssl.trustStore={} -Djavax.net.ssl.trustStoreType=JKS", file(JAVA));
    variables.extend([("JAVA_TOOL_OPTIONS", java), ("APT_CONFIG", file(APT)), ("SYSTEM_WGETRC", file(WGET))]);
    variables
}

/// Files that only lead to [`BUNDLE`], and what is in them.
pub fn pointers() -> [(&'static str, String); 2] {
    [
        (APT, format!("Acquire::https::CAInfo \"{DIRECTORY}/{BUNDLE}\";\n")),
        (WGET, format!("ca_certificate = {DIRECTORY}/{BUNDLE}\n")),
    ]
}

/// Whether a container with these mounts is shown the files.
pub fn is_mounted(mounts: &[MountSpec]) -> bool {
    mounts.iter().any(|mount| mount.target == Path::new(DIRECTORY))
}

/// Whether the mounts differ in these files only: a container of before there were any, or of another mode.
pub fn is_all(field: &FieldChange) -> bool {
    fn without(mounts: &Value) -> Vec<&Value> {
        mounts.as_array().into_iter().flatten().filter(|mount| mount["target"] != DIRECTORY).collect()
    }
    field.path == "mounts" && without(&field.before) == without(&field.after)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_name_the_files() {
        let variables = environment();
        assert_eq!(variables["SSL_CERT_FILE"], "/run/sbx/trust/ca-bundle.pem");
        assert_eq!(variables["NODE_EXTRA_CA_CERTS"], "/run/sbx/trust/authority.pem");
        assert!(variables["JAVA_TOOL_OPTIONS"].contains("trustStore=/run/sbx/trust/ca-bundle.jks "));
        assert_eq!(variables.len(), IN_PLACE_OF_THEIR_OWN.len() + BESIDES_THEIR_OWN.len() + 3, "none is there twice");
    }

    #[test]
    fn a_difference_in_trust_is_told_from_others() {
        let field = |path: &str, before: Value, after: Value| FieldChange {
            path: path.to_owned(),
            before,
            after,
            forces_replacement: true,
        };
        let (trust, other) = (json!({ "target": DIRECTORY }), json!({ "target": "/srv" }));
        assert!(is_all(&field("mounts", json!([other]), json!([trust, other]))));
        assert!(is_all(&field("mounts", json!([{ "target": DIRECTORY, "source": "/a" }]), json!([trust]))));
        assert!(!is_all(&field("mounts", json!([]), json!([trust, other]))));
        assert!(!is_all(&field("env.A", json!(1), json!(2))));
    }
}
