//! Build contexts: what a builder is sent, and its hash.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::ignore::Ignore;
use super::walk::{Entry, entries, feed, part};
use super::{archive, link};
use crate::resource::digest_text;

/// Name under which a Containerfile from outside of its context is sent.
pub const OUTSIDE_NAME: &str = ".sbx.Containerfile";

/// Hash of everything in `context` that is sent, and of the Containerfiles in use.
///
/// Owners and times do not count: builders set them.
pub fn hash(context: &Path, containerfiles: &BTreeSet<PathBuf>) -> io::Result<String> {
    let mut hasher = Sha256::new();
    part(&mut hasher, b"sbx context v1");
    for containerfile in containerfiles {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", containerfile.display()));
        part(&mut hasher, archive::hash(containerfile).map_err(named)?.as_bytes());
    }
    for entry in sent(context, containerfiles)? {
        let mode = if entry.metadata.is_symlink() { 0 } else { entry.metadata.permissions().mode() & 0o7777 };
        feed(&mut hasher, &entry, &format!("{mode:o}"))
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", entry.path.display())))?;
    }
    Ok(digest_text(&hasher.finalize()))
}

/// Writes the context as a tar; what [`hash`] covers, and nothing else. Returns the name of the Containerfile in it.
pub fn tar(context: &Path, containerfile: &Path, to: impl Write) -> io::Result<PathBuf> {
    let mut builder = tar::Builder::new(to);
    builder.mode(tar::HeaderMode::Complete);
    let mut links = link::Links::default();
    for entry in sent(context, &BTreeSet::from([containerfile.to_owned()]))? {
        links.append(&mut builder, &entry, Some((0, 0)))?;
    }
    let inside = containerfile.strip_prefix(context).ok().map(Path::to_owned);
    let name = if let Some(name) = inside {
        name
    } else {
        builder.append_file(OUTSIDE_NAME, &mut archive::open(containerfile)?)?;
        PathBuf::from(OUTSIDE_NAME)
    };
    builder.finish()?;
    Ok(name)
}

fn sent(context: &Path, containerfiles: &BTreeSet<PathBuf>) -> io::Result<Vec<Entry>> {
    let ignore = ignore_of(context)?;
    let inside: BTreeSet<&Path> = containerfiles.iter().filter_map(|file| file.strip_prefix(context).ok()).collect();
    // The builder needs its Containerfile, whatever the ignore file says.
    let needed = |path: &Path| inside.iter().any(|file| file.starts_with(path));
    let enter = |path: &Path| !ignore.leaves_out(path) || ignore.takes_back_any() || needed(path);
    let keep = |path: &Path| !ignore.leaves_out(path) || needed(path);
    let found = entries(context, enter, keep)?;
    // Builders skip sockets, and fail on everything else that is special.
    Ok(found.into_iter().filter(|entry| link::is_plain(&entry.metadata)).collect())
}

fn ignore_of(context: &Path) -> io::Result<Ignore> {
    for name in [".containerignore", ".dockerignore"] {
        match std::fs::read(context.join(name)) {
            Ok(text) => return Ok(Ignore::parse(&String::from_utf8_lossy(&text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io::Error::new(error.kind(), format!("{name}: {error}"))),
        }
    }
    Ok(Ignore::default())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(bytes: &[u8]) -> Vec<String> {
        let mut archive = tar::Archive::new(bytes);
        let entries = archive.entries().expect("entries");
        entries.map(|entry| entry.expect("entry").path().expect("path").display().to_string()).collect()
    }

    #[test]
    fn hash_follows_content_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        let files = BTreeSet::from([at("Containerfile")]);
        std::fs::write(at("Containerfile"), "FROM scratch\n").expect("written");
        std::fs::write(at("a"), "1").expect("written");
        std::fs::write(at(".dockerignore"), "*.log\n").expect("written");
        symlink("a", at("link")).expect("linked");
        let first = hash(dir.path(), &files).expect("hashed");
        std::fs::write(at("x.log"), "noise").expect("written");
        std::fs::write(at("a"), "1").expect("written again, at another time");
        assert_eq!(hash(dir.path(), &files).expect("hashed"), first);
        std::fs::set_permissions(at("a"), std::fs::Permissions::from_mode(0o755)).expect("set");
        let executable = hash(dir.path(), &files).expect("hashed");
        assert_ne!(executable, first);
        std::fs::remove_file(at("link")).expect("removed");
        symlink("b", at("link")).expect("linked");
        assert_ne!(hash(dir.path(), &files).expect("hashed"), executable);
        assert!(hash(&at("missing"), &files).is_err());
        let missing = hash(dir.path(), &BTreeSet::from([at("Nope")])).expect_err("no Containerfile");
        assert!(missing.to_string().contains("Nope"), "{missing}");
    }

    #[test]
    fn sends_what_is_not_ignored_and_the_containerfile() {
        let dir = tempfile::tempdir().expect("a directory");
        let context = dir.path().join("context");
        std::fs::create_dir_all(context.join("build/deep")).expect("made");
        std::fs::write(context.join("build/Containerfile"), "FROM scratch\n").expect("written");
        std::fs::write(context.join("build/deep/kept"), "").expect("written");
        std::fs::write(context.join("build/gone"), "").expect("written");
        std::fs::write(context.join(".containerignore"), "build\n!build/deep/kept\n").expect("written");
        let mut bytes = Vec::new();
        let name = tar(&context, &context.join("build/Containerfile"), &mut bytes).expect("packed");
        assert_eq!(name, Path::new("build/Containerfile"));
        assert_eq!(names(&bytes), [".containerignore", "build/", "build/Containerfile", "build/deep/kept"]);

        let outside = dir.path().join("Other");
        std::fs::write(&outside, "FROM scratch\n").expect("written");
        let mut bytes = Vec::new();
        assert_eq!(tar(&context, &outside, &mut bytes).expect("packed"), Path::new(OUTSIDE_NAME));
        assert!(names(&bytes).contains(&OUTSIDE_NAME.to_owned()));
    }
}
