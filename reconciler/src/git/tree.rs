//! Removes a tree that somebody else may have filled: by descriptors, following nothing, crossing no mount.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, openat2, renameat, statat, unlinkat};
use rustix::io::Errno;

use super::failure::file;
use crate::backend::{BackendError, ErrorKind};

/// Removes the directory or file at `path` itself, never what a link there leads to; nothing there is fine.
///
/// A tree of any depth takes two descriptors: directories are moved up to the root of the tree before they are emptied.
///
/// # Errors
/// `Conflict` when something is mounted in the tree; what is mounted is untouched.
pub(super) fn remove(path: &Path) -> Result<(), BackendError> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(file("look at", path, &error)),
        Ok(metadata) if !metadata.is_dir() => {
            return std::fs::remove_file(path).map_err(|error| file("remove", path, &error));
        }
        Ok(_) => {}
    }
    remove_tree(path).map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::BUSY | Errno::XDEV) => {
            let message = format!("something is mounted in {}", path.display());
            BackendError::new(ErrorKind::Conflict, message).with_help("unmount it and try again")
        }
        _ => file("remove", path, &error),
    })
}

fn remove_tree(path: &Path) -> io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let parent = rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let name = path.file_name().ok_or_else(|| io::Error::other("no name"))?;
    let name = CString::new(name.as_encoded_bytes())?;
    let top = open_directory(parent.as_fd(), &name)?;
    let mut moved = 0_u64;
    // Directories at the top; each is emptied, its own directories become further ones.
    let (mut waiting, mut rest): (Vec<_>, Vec<_>) = entries(top.as_fd())?.into_iter().partition(|(_, is_dir)| *is_dir);
    while let Some((directory, _)) = waiting.pop() {
        let inner = open_directory(top.as_fd(), &directory)?;
        for (name, is_directory) in entries(inner.as_fd())? {
            if is_directory {
                make_writable(inner.as_fd(), &name)?;
                waiting.push((move_up(inner.as_fd(), &name, top.as_fd(), &mut moved)?, true));
            } else {
                gone(unlinkat(&inner, &name, AtFlags::empty()))?;
            }
        }
        gone(unlinkat(&top, &directory, AtFlags::REMOVEDIR))?;
    }
    while let Some((name, _)) = rest.pop() {
        gone(unlinkat(&top, &name, AtFlags::empty()))?;
    }
    gone(unlinkat(&parent, &name, AtFlags::REMOVEDIR))
}

fn gone(result: rustix::io::Result<()>) -> io::Result<()> {
    match result {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Opens a directory for reading and, where its owner took the right away, gives it back first.
fn open_directory(parent: BorrowedFd<'_>, name: &CString) -> io::Result<OwnedFd> {
    make_writable(parent, name)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat2(parent, name, flags, Mode::empty(), ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS)?)
}

fn make_writable(parent: BorrowedFd<'_>, name: &CString) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    let handle = openat2(parent, name, flags, Mode::empty(), resolve)?;
    let mode = rustix::fs::fstat(&handle)?.st_mode;
    if mode & 0o700 != 0o700 {
        use std::os::fd::AsRawFd as _;
        // The descriptor is of the directory itself, so the link of /proc can lead nowhere else.
        let handle = format!("/proc/self/fd/{}", handle.as_raw_fd());
        std::fs::set_permissions(handle, std::fs::Permissions::from_mode(mode & 0o7777 | 0o700))?;
    }
    Ok(())
}

fn move_up(from: BorrowedFd<'_>, name: &CString, top: BorrowedFd<'_>, moved: &mut u64) -> io::Result<CString> {
    loop {
        let to = CString::new(format!(".sbx-{moved}"))?;
        *moved += 1;
        if statat(top, &to, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            continue;
        }
        return match renameat(from, name, top, &to) {
            // Made in the meantime: the next name.
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => continue,
            Ok(()) => Ok(to),
            Err(error) => Err(error.into()),
        };
    }
}

fn entries(directory: BorrowedFd<'_>) -> io::Result<Vec<(CString, bool)>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_owned();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => FileType::from_raw_mode(statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode),
            kind => kind,
        };
        found.push((name, kind == FileType::Directory));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_deep_locked_and_linked_trees() {
        let dir = tempfile::tempdir().expect("a directory");
        let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
        std::fs::create_dir_all(&outside).expect("made");
        std::fs::write(outside.join("kept"), "").expect("written");
        let mut deep = tree.clone();
        for _ in 0..300 {
            deep.push("d");
        }
        std::fs::create_dir_all(&deep).expect("made");
        std::fs::create_dir(tree.join(".sbx-0")).expect("made");
        std::fs::write(tree.join("file"), "").expect("written");
        std::os::unix::fs::symlink(&outside, tree.join("link")).expect("linked");
        std::os::unix::fs::symlink(&outside, deep.join("link")).expect("linked");
        let locked = tree.join("locked");
        std::fs::create_dir_all(locked.join("inner")).expect("made");
        std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o000)).expect("set");
        remove(&tree).expect("removed");
        assert!(!tree.exists() && outside.join("kept").exists());
        remove(&tree).expect("nothing to do");
    }

    #[test]
    fn removes_a_link_and_not_its_target() {
        let dir = tempfile::tempdir().expect("a directory");
        let outside = dir.path().join("outside");
        std::fs::create_dir(&outside).expect("made");
        std::os::unix::fs::symlink(&outside, dir.path().join("link")).expect("linked");
        remove(&dir.path().join("link")).expect("removed");
        assert!(outside.exists() && dir.path().join("link").symlink_metadata().is_err());
    }
}
