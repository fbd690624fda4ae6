//! PID 1 of sandboxes as a file on this host: named by its content, written once, never changed.

use std::path::{Path, PathBuf};

use crate::carried::{INIT, INIT_HASH};
use crate::failure::Failure;
use crate::placed;

/// The file under `data`, written if it is not there or is not what it should be.
///
/// # Guarantees
/// The path stands for the content: sandboxes of an older `sbx` keep theirs, and a half-written file is never seen.
pub fn place(data: &Path) -> Result<PathBuf, Failure> {
    let path = path(data, INIT_HASH);
    placed::place(&path, INIT, 0o755)?;
    Ok(path)
}

/// Where it is, or would be.
pub fn path(data: &Path, hash: &str) -> PathBuf {
    data.join(reconciler::data::INIT).join(reconciler::resource::short(hash)).join("sbx-init")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

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
