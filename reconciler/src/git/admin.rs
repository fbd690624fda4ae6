//! What a clone records of its worktrees, read as text.
//!
//! A sandbox can write all of it but what is mounted read-only over it. So nothing here follows a link, opens anything
//! but a regular file, or reads more than it expects; and no git runs.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

use crate::resource;

/// Most bytes of a small text file.
const MOST_TEXT: u64 = 64 << 10;

/// Name of the administrative directory of a worktree `sbx` makes at `path`: known before it exists, and different for
/// every path.
pub fn admin_name(path: &Path) -> String {
    let hash = resource::sha256(path.as_os_str().as_bytes());
    let base = path.file_name().unwrap_or_default().to_string_lossy();
    let base: String = base.chars().filter(char::is_ascii_alphanumeric).take(24).collect();
    let base = if base.is_empty() { "worktree" } else { &base };
    format!("{base}-{}", resource::short(&hash))
}

/// One registered worktree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Registration {
    /// Name of the administrative directory.
    pub name: String,
    /// Where the clone says the worktree is.
    pub path: PathBuf,
    /// What is checked out.
    pub head: Head,
    /// Reason of the lock, empty when none is given.
    pub lock: Option<String>,
}

/// What is checked out in a worktree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Head {
    /// A branch, without `refs/heads/`.
    Branch(String),
    /// A commit, with the branch that a rebase will put back.
    Commit(String, Option<String>),
    /// Nothing git would understand.
    Broken,
}

impl Head {
    /// The branch that is taken by this worktree.
    pub fn branch(&self) -> Option<&str> {
        match self {
            Self::Branch(branch) | Self::Commit(_, Some(branch)) => Some(branch),
            Self::Commit(_, None) | Self::Broken => None,
        }
    }
}

/// All worktrees `clone` lists, by name.
pub(super) fn registrations(clone: &Path) -> io::Result<Vec<Registration>> {
    let entries = match std::fs::read_dir(clone.join("worktrees")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Some(name) = entry.file_name().to_str()
            && entry.file_type()?.is_dir()
            && let Some(registration) = registration(clone, name)
        {
            found.push(registration);
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// The worktree whose administrative directory is called `name`; `None` when it is none.
pub(super) fn registration(clone: &Path, name: &str) -> Option<Registration> {
    let admin = clone.join("worktrees").join(name);
    let git_file = read_line(&admin.join("gitdir")).ok()?;
    let git_file = resolve(&admin, Path::new(OsStr::from_bytes(&git_file)));
    let path = git_file.parent()?.to_owned();
    let lock = match read_text(&admin.join("locked")) {
        Ok(reason) => Some(String::from_utf8_lossy(&reason).trim().to_owned()),
        Err(_) => None,
    };
    Some(Registration { name: name.to_owned(), path, head: head(&admin), lock })
}

fn head(admin: &Path) -> Head {
    let Ok(line) = read_line(&admin.join("HEAD")) else { return Head::Broken };
    let Ok(line) = String::from_utf8(line) else { return Head::Broken };
    if let Some(name) = line.strip_prefix("ref:") {
        return branch_of(name.trim()).map_or(Head::Broken, Head::Branch);
    }
    if !is_object_id(&line) {
        return Head::Broken;
    }
    // While a rebase goes on no branch is checked out, yet none may check it out elsewhere.
    let rebased = ["rebase-merge/head-name", "rebase-apply/head-name"].iter().find_map(|file| {
        let line = read_line(&admin.join(file)).ok()?;
        branch_of(&String::from_utf8(line).ok()?)
    });
    Head::Commit(line, rebased)
}

fn branch_of(reference: &str) -> Option<String> {
    let branch = reference.strip_prefix("refs/heads/")?;
    is_branch_name(branch).then(|| branch.to_owned())
}

/// Whether `text` is the name of an object.
pub(super) fn is_object_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// git's rule for names of branches, `git check-ref-format --branch` without its abbreviations.
pub(super) fn is_branch_name(name: &str) -> bool {
    let part_is_good = |part: &str| {
        !part.is_empty() && !part.starts_with('.') && Path::new(part).extension().is_none_or(|e| e != "lock")
    };
    !name.starts_with('-')
        && name != "HEAD"
        && name != "@"
        && !name.ends_with('.')
        && !name.contains("..")
        && !name.contains("@{")
        && !name.chars().any(|c| c.is_ascii_control() || " ~^:?*[\\".contains(c))
        && name.split('/').all(part_is_good)
}

/// Whom the `.git` file of the directory `place` names: the clone and the name of the administrative directory.
pub(super) fn owner_of(place: &Path) -> Option<(PathBuf, String)> {
    let line = read_line(&place.join(".git")).ok()?;
    let target = line.strip_prefix(b"gitdir:")?;
    let admin = resolve(place, Path::new(OsStr::from_bytes(target.trim_ascii())));
    let name = admin.file_name()?.to_str()?.to_owned();
    let worktrees = admin.parent()?;
    (worktrees.file_name()? == "worktrees").then_some(())?;
    Some((worktrees.parent()?.to_owned(), name))
}

/// Whether two paths are the same place, links resolved where the paths exist.
pub(super) fn same_path(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| {
        // The last component may be gone.
        let parent = path.parent().and_then(|parent| parent.canonicalize().ok());
        path.canonicalize().ok().or_else(|| Some(parent?.join(path.file_name()?)))
    };
    a == b || matches!((real(a), real(b)), (Some(a), Some(b)) if a == b)
}

/// A short regular file without its last newline.
pub(super) fn read_line(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = read_text(path)?;
    text.truncate(text.trim_ascii_end().len());
    Ok(text)
}

fn read_text(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    open_regular(path)?.take(MOST_TEXT).read_to_end(&mut text)?;
    Ok(text)
}

/// Opens a regular file for reading; never through a link, and never waiting for a FIFO's writer.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
}

/// `path` seen from `base`, with `.` and `..` taken out of the text.
fn resolve(base: &Path, path: &Path) -> PathBuf {
    let mut result = PathBuf::new();
    for component in base.join(path).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                result.pop();
            }
            other => result.push(other),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_stable_and_differ_by_path() {
        let name = admin_name(Path::new("/home/dev/worktrees/api/login"));
        assert_eq!(name, admin_name(Path::new("/home/dev/worktrees/api/login")));
        assert_ne!(name, admin_name(Path::new("/home/dev/worktrees/web/login")));
        assert!(name.starts_with("login-"), "{name}");
        let odd = admin_name(Path::new("/x/ \n'../ü"));
        assert!(odd.starts_with("worktree-") && odd.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{odd}");
    }

    #[test]
    fn knows_branch_names() {
        for good in ["main", "feature/login", "a.b", "ü", "x@y"] {
            assert!(is_branch_name(good), "{good}");
        }
        for bad in [
            "", "-f", "a..b", "a b", "/a", "a/", "a//b", ".a", "a/.b", "a.lock", "a.lock/b", "a~1", "@", "HEAD",
            "a@{0}",
        ] {
            assert!(!is_branch_name(bad), "{bad}");
        }
    }

    #[test]
    fn reads_regular_files_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("file");
        std::fs::write(&file, "text\n").expect("written");
        assert_eq!(read_line(&file).expect("read"), b"text");
        std::os::unix::fs::symlink(&file, dir.path().join("link")).expect("linked");
        assert!(read_line(&dir.path().join("link")).is_err());
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("made");
        assert!(read_line(&fifo).is_err());
    }
}
