//! A unix socket through which a sandbox comes to us, in a directory that is mounted into it.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::OFlags;

use super::{Target, kernel};

/// Its name in the directory.
pub const NAME: &str = "egress.sock";

/// The network namespace of a process: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(u64, u64);

/// A socket, and who may come through it.
#[derive(Debug)]
pub struct SocketDoor {
    /// Takes clients.
    pub listener: UnixListener,
    /// The one network namespace they may come from.
    pub network: Network,
}

impl SocketDoor {
    /// Makes the socket anew in `directory`, for the sandbox of `target`.
    ///
    /// Anybody may connect, as whoever programs are inside; who may stay is told by [`Network::is_that_of`].
    ///
    /// # Errors
    /// There is no such directory, or the sandbox has ended.
    pub fn make(directory: &Path, target: &Target) -> io::Result<Self> {
        let flags = (OFlags::DIRECTORY | OFlags::NOFOLLOW).bits().cast_signed();
        let directory = OpenOptions::new().read(true).custom_flags(flags).open(directory)?;
        // By its descriptor: it is that directory, and the path of a socket has to be short.
        let path = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(NAME);
        match fs::symlink_metadata(&path) {
            Ok(left) if left.file_type().is_socket() => fs::remove_file(&path)?,
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else than a socket is there")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let network = Network::of(target.pid())?;
        if !target.is_alive() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let listener = UnixListener::bind(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, network })
    }
}

impl Network {
    /// That of process `pid`.
    pub fn of(pid: u32) -> io::Result<Self> {
        let found = fs::metadata(format!("/proc/{pid}/ns/net"))?;
        Ok(Self(found.dev(), found.ino()))
    }

    /// One that no process is in.
    #[cfg(test)]
    pub(crate) fn nowhere() -> Self {
        Self(0, 0)
    }

    /// Whether the process that made `connection` is in it. One that has ended by now is in none.
    pub fn is_that_of(self, connection: impl std::os::fd::AsFd) -> bool {
        kernel::peer(connection).and_then(Self::of).is_ok_and(|found| found == self)
    }
}
