//! Values of secrets, in memory and in a file of the runtime directory that only this user can read.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::statfs;
use secrecy::{ExposeSecret as _, SecretSlice};

use crate::control::SecretValue;

/// What the kernel calls a file system in memory.
const TMPFS: i64 = 0x0102_1994;

/// A value, and how many looks at the engine had begun when it came.
#[derive(Debug)]
struct Kept {
    value: Arc<SecretSlice<u8>>,
    looks: u64,
}

/// Values by salted hash.
///
/// # Guarantees
/// A value is written nowhere but to a file system in memory; where the runtime directory is none, a restart forgets it.
#[derive(Debug, Default)]
pub struct SecretStore {
    values: BTreeMap<String, Kept>,
    file: Option<PathBuf>,
}

impl SecretStore {
    /// What `file` holds from before; a file that cannot be read holds nothing.
    pub fn open(file: Option<PathBuf>) -> Self {
        let file = file.filter(|file| file.parent().is_some_and(is_in_memory));
        let text = file.as_ref().and_then(|file| std::fs::read(file).ok()).unwrap_or_default();
        let values: BTreeMap<String, Vec<u8>> = serde_json::from_slice(&text).unwrap_or_default();
        let kept = |value: Vec<u8>| Kept { value: Arc::new(value.into()), looks: 0 };
        let values = values.into_iter().map(|(hash, value)| (hash, kept(value))).collect();
        Self { values, file }
    }

    /// The value with this hash.
    pub fn get(&self, hash: &str) -> Option<Arc<SecretSlice<u8>>> {
        self.values.get(hash).map(|kept| Arc::clone(&kept.value))
    }

    /// Adds values; so many `looks` at the engine have begun.
    pub fn insert(&mut self, secrets: impl IntoIterator<Item = SecretValue>, looks: u64) -> io::Result<()> {
        for SecretValue { hash, value } in secrets {
            self.values.insert(hash, Kept { value: Arc::new(value.into()), looks });
        }
        self.write()
    }

    /// Forgets all but those with the hashes `kept`, which the look number `look` has found, and those that came since that
    /// began: it may not have seen what they are for.
    pub fn retain<'a>(&mut self, kept: impl IntoIterator<Item = &'a String>, look: u64) {
        if self.values.is_empty() {
            return;
        }
        let kept: BTreeSet<&str> = kept.into_iter().map(String::as_str).collect();
        let before = self.values.len();
        self.values.retain(|hash, value| value.looks >= look || kept.contains(hash.as_str()));
        if self.values.len() != before
            && let Err(error) = self.write()
        {
            tracing::warn!(%error, "forgotten secrets are still in the runtime directory");
        }
    }

    /// All, to be handed over.
    pub fn all(&self) -> BTreeMap<String, SecretValue> {
        let value = |(hash, kept): (&String, &Kept)| {
            (hash.clone(), SecretValue { hash: hash.clone(), value: kept.value.expose_secret().to_vec() })
        };
        self.values.iter().map(value).collect()
    }

    fn write(&self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        if self.values.is_empty() {
            return match std::fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let values: BTreeMap<&String, &[u8]> =
            self.values.iter().map(|(hash, kept)| (hash, kept.value.expose_secret())).collect();
        let text = serde_json::to_vec(&values)?;
        let new = file.with_extension("new");
        let _ = std::fs::remove_file(&new);
        let mut opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        opened.write_all(&text)?;
        std::fs::rename(&new, file)
    }
}

fn is_in_memory(directory: &Path) -> bool {
    statfs(directory).is_ok_and(|found| i128::from(found.f_type) == i128::from(TMPFS))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn value(hash: &str) -> SecretValue {
        SecretValue { hash: hash.into(), value: b"value".to_vec() }
    }

    #[test]
    fn values_outlive_a_restart_in_memory_only() {
        let tmpfs = Path::new("/dev/shm");
        assert!(is_in_memory(tmpfs));
        let dir = tempfile::tempdir_in(tmpfs).expect("a directory");
        let file = dir.path().join("secrets");
        let mut store = SecretStore::open(Some(file.clone()));
        store.insert([value("a"), value("b")], 0).expect("kept");
        assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        let mut again = SecretStore::open(Some(file.clone()));
        assert_eq!(again.get("a").expect("kept").expose_secret(), b"value");
        again.retain([&"b".to_owned()], 1);
        assert!(again.get("a").is_none() && SecretStore::open(Some(file.clone())).get("a").is_none());
        again.retain([], 2);
        assert!(!file.exists(), "nothing is left to hold");
    }

    #[test]
    fn a_look_does_not_forget_what_came_since_it_began() {
        let mut store = SecretStore::default();
        store.insert([value("before")], 0).expect("kept");
        store.insert([value("since")], 1).expect("kept");
        store.retain([], 1);
        assert!(store.get("before").is_none() && store.get("since").is_some());
        store.retain([], 2);
        assert!(store.get("since").is_none(), "the next one does");
    }

    #[test]
    fn nothing_is_written_to_a_disk() {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a directory");
        if is_in_memory(dir.path()) {
            return;
        }
        let file = dir.path().join("secrets");
        let mut store = SecretStore::open(Some(file.clone()));
        store.insert([value("a")], 0).expect("kept");
        assert!(store.get("a").is_some() && !file.exists());
    }
}
