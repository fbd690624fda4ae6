//! Bodies that are made while they are sent, so that no archive is held in memory.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc::{Sender, channel};

use crate::backend::{BackendError, ErrorKind};
use crate::host::rootfs;
use crate::podman::client::Body;

const PIECE: usize = 256 * 1024;

/// A body written by `produce` on a thread of its own. An error of it breaks the request off.
pub(super) fn written(produce: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static) -> Body {
    let (sender, receiver) = channel::<io::Result<Bytes>>(4);
    tokio::task::spawn_blocking(move || {
        let mut writer = BufWriter::with_capacity(PIECE, Pipe { sender: sender.clone() });
        let result = produce(&mut writer).and_then(|()| writer.flush());
        if let Err(error) = result {
            // Nobody listens when the request has ended already.
            let _ = sender.blocking_send(Err(error));
        }
    });
    let frames = futures_util::stream::unfold(receiver, async |mut receiver| {
        receiver.recv().await.map(|piece| (piece.map(Frame::data), receiver))
    });
    StreamBody::new(Box::pin(frames)).boxed_unsync()
}

/// Hands what is written to the request's body.
struct Pipe {
    sender: Sender<io::Result<Bytes>>,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sender.blocking_send(Ok(Bytes::copy_from_slice(bytes))).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn unreadable(path: &Path, error: &io::Error) -> BackendError {
    let kind = if error.kind() == io::ErrorKind::NotFound { ErrorKind::NotFound } else { ErrorKind::Failed };
    BackendError::new(kind, format!("{}: {error}", path.display()))
}

/// A file, gunzipped if it is gzipped: not every engine loads a compressed docker archive.
pub(super) fn file(path: &Path) -> Result<Body, BackendError> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    Ok(written(move |writer| {
        let mut file = BufReader::with_capacity(PIECE, file);
        if file.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
            io::copy(&mut MultiGzDecoder::new(file), writer)?;
        } else {
            io::copy(&mut file, writer)?;
        }
        Ok(())
    }))
}

/// A root filesystem: a tar as it is, a directory as a tar of everything in it, with its owners and modes.
pub(super) async fn root_filesystem(path: PathBuf) -> Result<Body, BackendError> {
    let metadata = tokio::fs::metadata(&path).await.map_err(|error| unreadable(&path, &error))?;
    if !metadata.is_dir() {
        return file(&path);
    }
    Ok(written(move |writer| rootfs::tar(&path, writer)))
}
