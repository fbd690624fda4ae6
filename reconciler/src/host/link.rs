//! Appends entries of a tree to a tar: hard links kept, file capabilities kept.

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::archive;
use super::walk::Entry;

/// Files seen that have further names.
#[derive(Default)]
pub(super) struct Links(HashMap<(u64, u64), PathBuf>);

impl Links {
    /// Appends `entry`, owned by `owner` or by its numeric ids.
    pub fn append<W: Write>(
        &mut self,
        builder: &mut tar::Builder<W>,
        entry: &Entry,
        owner: Option<(u64, u64)>,
    ) -> io::Result<()> {
        let metadata = &entry.metadata;
        let mut header = tar::Header::new_gnu();
        header.set_metadata(metadata);
        let (uid, gid) = owner.unwrap_or((u64::from(metadata.uid()), u64::from(metadata.gid())));
        header.set_uid(uid);
        header.set_gid(gid);
        let kind = metadata.file_type();
        if kind.is_symlink() {
            header.set_size(0);
            return builder.append_link(&mut header, &entry.path, std::fs::read_link(&entry.full)?);
        }
        if kind.is_dir() {
            header.set_size(0);
            // A name that ends with a slash is what readers take for a directory.
            return builder.append_data(&mut header, directory_name(&entry.path), io::empty());
        }
        if !kind.is_file() {
            return append_special(builder, &mut header, entry);
        }
        if metadata.nlink() > 1 {
            if let Some(first) = self.0.get(&(metadata.dev(), metadata.ino())) {
                header.set_entry_type(tar::EntryType::Link);
                header.set_size(0);
                return builder.append_link(&mut header, &entry.path, first);
            }
            self.0.insert((metadata.dev(), metadata.ino()), entry.path.clone());
        }
        if let Some(capability) = capability(&entry.full) {
            builder.append_pax_extensions([("SCHILY.xattr.security.capability", capability.as_slice())])?;
        }
        let file = archive::open(&entry.full)?;
        // The length of now: the file may have grown since it was listed.
        let size = file.metadata()?.len();
        header.set_size(size);
        builder.append_data(&mut header, &entry.path, Exactly { file, left: size })
    }
}

fn append_special<W: Write>(builder: &mut tar::Builder<W>, header: &mut tar::Header, entry: &Entry) -> io::Result<()> {
    let kind = entry.metadata.file_type();
    let entry_type = match kind {
        kind if kind.is_fifo() => tar::EntryType::Fifo,
        kind if kind.is_char_device() => tar::EntryType::Char,
        kind if kind.is_block_device() => tar::EntryType::Block,
        // A socket is nothing without its listener.
        _ => return Ok(()),
    };
    header.set_entry_type(entry_type);
    header.set_size(0);
    header.set_device_major(rustix::fs::major(entry.metadata.rdev()))?;
    header.set_device_minor(rustix::fs::minor(entry.metadata.rdev()))?;
    builder.append_data(header, &entry.path, io::empty())
}

fn directory_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("/");
    name.into()
}

fn capability(path: &Path) -> Option<Vec<u8>> {
    let mut value = vec![0_u8; 256];
    let length = rustix::fs::lgetxattr(path, "security.capability", value.as_mut_slice()).ok()?;
    value.truncate(length);
    Some(value)
}

/// Whether a tar of a context may hold it: a file, directory or link.
pub(super) fn is_plain(metadata: &std::fs::Metadata) -> bool {
    metadata.is_file() || metadata.is_dir() || metadata.is_symlink()
}

/// A file read to the length it had: never more, and an error when less.
struct Exactly {
    file: std::fs::File,
    left: u64,
}

impl io::Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.file.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file shrank while it was read"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}
