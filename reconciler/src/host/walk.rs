//! Lists a tree in an order that depends on names alone.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

/// One entry below a root; never the root itself.
pub(super) struct Entry {
    /// Relative to the root.
    pub path: PathBuf,
    /// On the host.
    pub full: PathBuf,
    /// Of the entry itself, not of what a link leads to.
    pub metadata: std::fs::Metadata,
}

/// All entries below `root` for which `keep` says so, parents first, sorted by name within a directory. Directories
/// that `enter` refuses are not entered.
pub(super) fn entries(
    root: &Path,
    enter: impl Fn(&Path) -> bool,
    keep: impl Fn(&Path) -> bool,
) -> io::Result<Vec<Entry>> {
    if !root.metadata()?.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotADirectory, "not a directory"));
    }
    let relative = |path: &Path| path.strip_prefix(root).unwrap_or(path).to_owned();
    let mut found = Vec::new();
    let walk = WalkDir::new(root).min_depth(1).follow_links(false).sort_by(|a, b| a.file_name().cmp(b.file_name()));
    let walk = walk.into_iter().filter_entry(|entry| !entry.file_type().is_dir() || enter(&relative(entry.path())));
    for entry in walk {
        let entry = entry?;
        let path = relative(entry.path());
        if keep(&path) {
            found.push(Entry { path, metadata: entry.metadata()?, full: entry.into_path() });
        }
    }
    Ok(found)
}

/// Feeds a hasher with parts that cannot run into each other.
pub(super) fn part(hasher: &mut sha2::Sha256, bytes: &[u8]) {
    use sha2::Digest as _;
    hasher.update((bytes.len() as u64).to_be_bytes());
    hasher.update(bytes);
}

/// Feeds what an entry is and holds: its path, type, `attributes`, and content or target.
///
/// Times are left out: a checkout of the same content is the same.
pub(super) fn feed(hasher: &mut sha2::Sha256, entry: &Entry, attributes: &str) -> io::Result<()> {
    use sha2::Digest as _;
    part(hasher, entry.path.as_os_str().as_bytes());
    part(hasher, attributes.as_bytes());
    let kind = entry.metadata.file_type();
    if kind.is_symlink() {
        part(hasher, b"link");
        part(hasher, std::fs::read_link(&entry.full)?.as_os_str().as_bytes());
    } else if kind.is_file() {
        part(hasher, b"file");
        let mut content = sha2::Sha256::new();
        super::archive::feed(&mut content, super::archive::open(&entry.full)?)?;
        part(hasher, &content.finalize());
    } else if kind.is_dir() {
        part(hasher, b"directory");
    } else {
        part(hasher, b"special");
    }
    Ok(())
}
