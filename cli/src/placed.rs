//! Files for sandboxes on this host: named by their content, written once, never changed.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::failure::Failure;

/// Writes the file if it is not there or is not what it should be.
///
/// # Guarantees
/// A half-written file is never seen at `path`, and nobody but its owner can exchange what is there.
pub fn place(path: &Path, content: &[u8], mode: u32) -> Result<(), Failure> {
    if is_whole(path, content, mode) {
        return Ok(());
    }
    write(path, content, mode).map_err(|error| Failure::io(format!("cannot write {}", path.display()), &error))
}

fn is_whole(path: &Path, content: &[u8], mode: u32) -> bool {
    let Ok(meta) = std::fs::symlink_metadata(path) else { return false };
    // Everybody inside reads it, as whoever they are; nobody but its owner may be able to exchange it.
    meta.is_file()
        && meta.mode() & mode & 0o555 == mode & 0o555
        && meta.mode() & 0o022 == 0
        && holds(path, content).unwrap_or(false)
}

/// Whether the file is exactly `expected`, read piece by piece: memory for all of it would cost more than the reading.
fn holds(path: &Path, mut expected: &[u8]) -> std::io::Result<bool> {
    let mut file = std::fs::File::open(path)?;
    let mut piece = [0; 16 * 1024];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok(expected.is_empty());
        }
        match expected.strip_prefix(&piece[..read]) {
            Some(rest) => expected = rest,
            None => return Ok(false),
        }
    }
}

fn write(path: &Path, content: &[u8], mode: u32) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(path);
    std::fs::create_dir_all(directory)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = directory.join(format!(".{name}.{}", std::process::id()));
    // What an earlier process with our number left is of no use.
    let _ = std::fs::remove_file(&temporary);
    fill(&temporary, content, mode).and_then(|()| std::fs::rename(&temporary, path)).inspect_err(|_| {
        // What is left of a failed write is of no use to anybody, and may be part of a key.
        let _ = std::fs::remove_file(&temporary);
    })
}

fn fill(path: &Path, content: &[u8], mode: u32) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    rustix::fs::fchmod(&file, rustix::fs::Mode::from_bits_truncate(mode))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("key.pem");
        // Nothing can be put in the place of a directory.
        std::fs::create_dir_all(path.join("held")).expect("made");
        place(&path, b"secret", 0o600).expect_err("held");
        let there: Vec<_> = std::fs::read_dir(directory.path()).expect("there").flatten().collect();
        assert_eq!(there.len(), 1, "{there:?}");
    }
}
