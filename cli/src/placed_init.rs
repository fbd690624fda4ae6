//! PID 1 of sandboxes as a file on this host: named by its content, written once, never changed.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::carried::{INIT, INIT_HASH};
use crate::failure::Failure;

/// The file under `data`, written if it is not there or is not what it should be.
///
/// # Guarantees
/// The path stands for the content: sandboxes of an older `sbx` keep theirs, and a half-written file is never seen.
pub fn place(data: &Path) -> Result<PathBuf, Failure> {
    let path = path(data, INIT_HASH);
    if is_whole(&path) {
        return Ok(path);
    }
    write(&path).map_err(|error| Failure::io(format!("cannot write {}", path.display()), &error))?;
    Ok(path)
}

/// Where it is, or would be.
pub fn path(data: &Path, hash: &str) -> PathBuf {
    data.join("init").join(reconciler::resource::short(hash)).join("sbx-init")
}

fn is_whole(path: &Path) -> bool {
    let Ok(meta) = std::fs::symlink_metadata(path) else { return false };
    let mode = meta.mode();
    // Nobody but its owner may be able to exchange what runs as PID 1 of every sandbox.
    meta.is_file() && mode & 0o555 == 0o555 && mode & 0o022 == 0 && holds(path, INIT).unwrap_or(false)
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

fn write(path: &Path) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(path);
    std::fs::create_dir_all(directory)?;
    let temporary = directory.join(format!(".sbx-init.{}", std::process::id()));
    // What an earlier process with our number left is of no use.
    let _ = std::fs::remove_file(&temporary);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(&temporary)?;
    file.write_all(INIT)?;
    rustix::fs::fchmod(&file, rustix::fs::Mode::from_bits_truncate(0o755))?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn is_written_once_and_repaired_when_it_was_touched() {
        let data = tempfile::tempdir().expect("a directory");
        let path = place(data.path()).expect("placed");
        let inode = std::fs::metadata(&path).expect("there").ino();
        assert_eq!(place(data.path()).expect("placed"), path);
        assert_eq!(std::fs::metadata(&path).expect("there").ino(), inode, "left alone");
        let (shorter, longer) = (INIT[..INIT.len() - 1].to_vec(), [INIT, b"x"].concat());
        for other in [b"evil".to_vec(), shorter, longer, Vec::new()] {
            std::fs::write(&path, other).expect("written");
            place(data.path()).expect("repaired");
            assert_eq!(std::fs::read(&path).expect("there"), INIT);
        }
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o755);
        assert_eq!(std::fs::read_dir(path.parent().expect("in a directory")).expect("there").count(), 1);
    }
}
