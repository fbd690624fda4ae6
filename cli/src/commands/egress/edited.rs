//! What commands that change policies in the file need to know of a sandbox.

use schema::{Config, Name, Source};

/// A sandbox as it is written, and what is made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Its key in the file.
    pub key: String,
    /// Its final names: several with `replicas`.
    pub names: Vec<Name>,
}

impl Subject {
    /// The one that `sandbox`, a final name, is made of.
    pub fn find(sources: &[Source], config: &Config, sandbox: &str) -> Self {
        let keys = crate::configuration::keys(sources);
        let key = match sandbox.rsplit_once('-') {
            Some((key, _)) if !keys.iter().any(|key| key == sandbox) => key,
            _ => sandbox,
        };
        // Replicas have the place of the sandbox they come from.
        let place = |name: &str| config.origins.find(&format!("sandboxes.{name}"));
        let own = place(sandbox);
        let names = config.sandboxes.keys().filter(|name| place(name.as_str()) == own).cloned().collect();
        Self { key: key.to_owned(), names }
    }
}

/// A rule as it is put into a file, where `${` would begin a variable.
pub fn escaped(rule: &str) -> String {
    rule.replace("${", "$${")
}
