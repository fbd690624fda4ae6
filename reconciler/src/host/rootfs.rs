//! Root filesystems: a directory or a tar, and its hash.

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::archive;
use super::link::Links;
use super::walk::{entries, feed, part};
use crate::resource::digest_text;

/// Hash of a root filesystem. Owners and modes of a directory's files count, times do not; of a tar its bytes count.
pub fn hash(path: &Path) -> io::Result<String> {
    if !path.metadata()?.is_dir() {
        return archive::hash(path);
    }
    let mut hasher = Sha256::new();
    part(&mut hasher, b"sbx rootfs v1");
    for entry in entries(path, |_| true, |_| true)? {
        let metadata = &entry.metadata;
        let mode = if metadata.is_symlink() { 0 } else { metadata.mode() & 0o7777 };
        let attributes = format!("{mode:o} {} {} {:x}", metadata.uid(), metadata.gid(), metadata.rdev());
        feed(&mut hasher, &entry, &attributes)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", entry.path.display())))?;
    }
    Ok(digest_text(&hasher.finalize()))
}

/// Writes a directory as a tar, with numeric owners, hard links, device nodes and file capabilities.
pub fn tar(directory: &Path, to: impl Write) -> io::Result<()> {
    let mut builder = tar::Builder::new(to);
    let mut links = Links::default();
    for entry in entries(directory, |_| true, |_| true)? {
        links
            .append(&mut builder, &entry, None)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", entry.path.display())))?;
    }
    builder.finish()
}

#[cfg(test)]
mod tests {
    use tar::EntryType::{Directory, Link, Regular, Symlink};

    use super::*;

    #[test]
    fn keeps_links_and_long_names() {
        let dir = tempfile::tempdir().expect("a directory");
        let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
        std::fs::create_dir(dir.path().join("d".repeat(120))).expect("made");
        std::fs::write(dir.path().join(&long), "content").expect("written");
        std::fs::hard_link(dir.path().join(&long), dir.path().join("hard")).expect("linked");
        std::os::unix::fs::symlink("../outside", dir.path().join("soft")).expect("linked");
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).expect("bound");
        let mut bytes = Vec::new();
        tar(dir.path(), &mut bytes).expect("packed");
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut found = Vec::new();
        for entry in archive.entries().expect("entries") {
            let entry = entry.expect("entry");
            found.push((entry.path().expect("path").display().to_string(), entry.header().entry_type()));
        }
        let expected =
            [("d".repeat(120) + "/", Directory), (long, Regular), ("hard".into(), Link), ("soft".into(), Symlink)];
        assert_eq!(found, expected);
        let before = hash(dir.path()).expect("hashed");
        std::fs::write(dir.path().join("hard"), "changed").expect("written");
        assert_ne!(hash(dir.path()).expect("hashed"), before);
    }
}
