//! `sandboxes.lock`: image references and the digests they stood for. Meant to be committed.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::exit::Exit;
use crate::failure::{Failure, io_text};

/// Its name, beside the first configuration file.
pub const NAME: &str = "sandboxes.lock";

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lockfile {
    /// Version of this shape.
    pub format_version: String,
    /// Reference, as the configuration writes it, to `sha256:` digest.
    pub images: BTreeMap<String, String>,
}

/// Where it belongs: beside the first file, or in the current directory for standard input.
pub fn path(files: &[PathBuf]) -> PathBuf {
    let first = files.first().filter(|file| !crate::input::is_stdin(file));
    first.and_then(|file| file.parent()).map_or_else(|| PathBuf::from(NAME), |directory| directory.join(NAME))
}

/// Reads it; one that is not there is empty.
pub fn read(path: &Path) -> Result<Lockfile, Failure> {
    let wrong = |why: String| {
        Failure::new(Exit::Invalid, "sbx::lockfile", format!("{}: {why}", path.display()))
            .with_help("write it anew with `sbx lock`")
    };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Lockfile::default()),
        Err(error) => return Err(wrong(io_text(&error))),
    };
    let lockfile: Lockfile = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    match lockfile.images.iter().find(|(_, digest)| !is_digest(digest)) {
        Some((reference, _)) => Err(wrong(format!("{reference} has no sha256 digest"))),
        None => Ok(lockfile),
    }
}

/// Writes it whole, or leaves what is there.
pub fn write(path: &Path, images: BTreeMap<String, String>) -> Result<(), Failure> {
    let lockfile = Lockfile { format_version: crate::render::json::FORMAT_VERSION.to_owned(), images };
    let temporary = path.with_file_name(format!(".{NAME}.{}", std::process::id()));
    let written = std::fs::File::create(&temporary)
        .and_then(|mut file| file.write_all(crate::render::json::document(&lockfile).as_bytes()))
        .and_then(|()| std::fs::rename(&temporary, path));
    written.map_err(|error| {
        // What is left of a failed write is of no use to anybody.
        let _ = std::fs::remove_file(&temporary);
        Failure::io(format!("cannot write {}", path.display()), &error)
    })
}

/// Whether `text` is `sha256:` and 64 hex digits.
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_and_refuses_what_is_no_digest() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(NAME);
        assert_eq!(read(&path).expect("empty"), Lockfile::default());
        let images =
            BTreeMap::from([(String::from("docker.io/library/debian"), format!("sha256:{}", "0a".repeat(32)))]);
        write(&path, images.clone()).expect("written");
        assert_eq!(read(&path).expect("read").images, images);
        std::fs::write(&path, r#"{"format_version":"1.0","images":{"a":"latest"}}"#).expect("written");
        assert_eq!(read(&path).expect_err("no digest").exit, Exit::Invalid);
    }
}
