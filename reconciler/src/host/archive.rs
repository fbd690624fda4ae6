//! Hash of an archive: of its bytes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::resource::digest_text;

/// Hash of the file at `path`.
pub(crate) fn hash(path: &Path) -> io::Result<String> {
    let file = open(path)?;
    let mut hasher = Sha256::new();
    feed(&mut hasher, file)?;
    Ok(digest_text(&hasher.finalize()))
}

/// Feeds all bytes of `from`.
pub(super) fn feed(hasher: &mut Sha256, mut from: impl Read) -> io::Result<()> {
    let mut buffer = vec![0_u8; 1 << 17];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Opens a regular file; links are followed, FIFOs and devices are refused and never waited for.
pub(super) fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
}
