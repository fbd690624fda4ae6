//! `sandboxes.lock`: which digest each image reference stands for.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Why a lockfile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockfileError {
    /// It could not be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is not what `sbx lock` writes.
    #[error("{path} is not a lockfile: {why}; delete it and run `sbx lock`")]
    Content {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u64,
    #[serde(default)]
    images: BTreeMap<String, String>,
}

/// Reads a lockfile; none is an empty one.
pub fn read(path: &Path) -> Result<BTreeMap<String, String>, LockfileError> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text).map_err(|why| LockfileError::Content { path: path.to_owned(), why }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(LockfileError::Read { path: path.to_owned(), error }),
    }
}

/// Reads the text of a lockfile: image reference to digest.
pub fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    let file: File = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    if file.version != 1 {
        return Err(format!("version {} is newer than this sbx", file.version));
    }
    for (reference, digest) in &file.images {
        let hex = digest.strip_prefix("sha256:").unwrap_or_default();
        if hex.len() != 64 || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(format!("{digest:?} of {reference} is no sha256 digest"));
        }
    }
    Ok(file.images)
}

/// The text of a lockfile: sorted, quoted, the same for the same content.
pub fn render(images: &BTreeMap<String, String>) -> String {
    let mut text = String::from("# Written by `sbx lock`. Commit it.\nversion: 1\n");
    if images.is_empty() {
        text.push_str("images: {}\n");
        return text;
    }
    text.push_str("images:\n");
    for (reference, digest) in images {
        // JSON strings are YAML strings. Writing to a String cannot fail.
        let quoted = |value: &String| serde_json::Value::from(value.as_str()).to_string();
        let _ = writeln!(text, "  {}: {}", quoted(reference), quoted(digest));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let images = BTreeMap::from([("example/b:1".to_owned(), digest.clone()), ("a: # \"x\"".to_owned(), digest)]);
        assert_eq!(parse(&render(&images)), Ok(images));
        assert_eq!(parse(&render(&BTreeMap::new())), Ok(BTreeMap::new()));
        assert_eq!(read(Path::new("/nonexistent/lock")).expect("none"), BTreeMap::new());
    }

    #[test]
    fn says_why_it_cannot_be_used() {
        for (text, why) in [
            ("version: 2\n", "newer"),
            ("images: {}\n", "version"),
            ("version: 1\nimages: { a: latest }\n", "no sha256 digest"),
            ("version: 1\nimgs: {}\n", "imgs"),
            ("{", ""),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
