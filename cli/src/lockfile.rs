//! Where `sandboxes.lock` belongs, and writing it. What is in it is the reconciler's.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use reconciler::host::lockfile;
use schema::Config;
use schema::config::Image;

use crate::exit::Exit;
use crate::failure::Failure;

/// Its name, beside the first configuration file.
pub const NAME: &str = "sandboxes.lock";

/// Where it belongs: beside the first file, or in the current directory for standard input.
pub fn path(files: &[PathBuf]) -> PathBuf {
    let first = files.first().filter(|file| !crate::input::is_stdin(file));
    first.and_then(|file| file.parent()).map_or_else(|| PathBuf::from(NAME), |directory| directory.join(NAME))
}

/// Reads it; one that is not there is empty.
pub fn read(path: &Path) -> Result<BTreeMap<String, String>, Failure> {
    lockfile::read(path).map_err(|error| damaged(&error.to_string()))
}

/// Refuses images that are not pinned, when the run is to be `locked`.
pub fn refuse_unlocked(files: &[PathBuf], config: &Config, locked: bool) -> Result<(), Failure> {
    if !locked {
        return Ok(());
    }
    let locks = read(&path(files))?;
    let missing: Vec<String> = config
        .images
        .iter()
        .filter_map(|(name, image)| match image {
            Image::Ref { reference, .. } if !locks.contains_key(reference) => {
                let place = config.origins.find(&format!("images.{name}")).map(|place| format!("{place}: "));
                Some(format!("{}image {name}: {reference} is not in {}", place.unwrap_or_default(), NAME))
            }
            _ => None,
        })
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::refused("sbx::not-locked", "--locked was given, and not every image is pinned; nothing was changed")
        .with_details(missing)
        .with_help("pin them with `sbx lock`"))
}

/// The failure of a lockfile that cannot be used.
pub fn damaged(why: &str) -> Failure {
    Failure::new(Exit::Invalid, "sbx::lockfile", why).with_help("delete it and write it anew with `sbx lock`")
}

/// Writes it whole, or leaves what is there.
pub fn write(path: &Path, images: &BTreeMap<String, String>) -> Result<(), Failure> {
    let temporary = path.with_file_name(format!(".{NAME}.{}", std::process::id()));
    let written = std::fs::File::create(&temporary)
        .and_then(|mut file| file.write_all(lockfile::render(images).as_bytes()))
        .and_then(|()| std::fs::rename(&temporary, path));
    written.map_err(|error| {
        // What is left of a failed write is of no use to anybody.
        let _ = std::fs::remove_file(&temporary);
        Failure::io(format!("cannot write {}", path.display()), &error)
    })
}

/// Whether `text` is `sha256:` and 64 hex digits.
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lies_beside_the_first_file_and_reads_back() {
        assert_eq!(path(&[]), PathBuf::from(NAME));
        assert_eq!(path(&["-".into()]), PathBuf::from(NAME));
        assert_eq!(path(&["/x/a.yaml".into(), "/y/b.yaml".into()]), PathBuf::from("/x/sandboxes.lock"));
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(NAME);
        assert_eq!(read(&path).expect("empty"), BTreeMap::new());
        let images =
            BTreeMap::from([(String::from("docker.io/library/debian"), format!("sha256:{}", "0a".repeat(32)))]);
        write(&path, &images).expect("written");
        assert_eq!(read(&path).expect("read"), images);
        assert_eq!(std::fs::read_dir(directory.path()).expect("there").count(), 1);
    }
}
