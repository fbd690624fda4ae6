//! Overlay trees: the files that are mounted one by one.

use std::io;
use std::path::Path;

use super::walk::entries;
use crate::host_facts::OverlayFile;

/// Regular files of `tree`, sorted.
///
/// # Errors
/// Links that lead out of the tree, and anything that is neither file, directory nor link: mounted by name, they would
/// show what the tree does not hold. Links within the tree stand for the file they lead to.
pub fn files(tree: &Path) -> io::Result<Vec<OverlayFile>> {
    let root = tree.canonicalize()?;
    let mut files = Vec::new();
    for entry in entries(tree, |_| true, |_| true)? {
        let refuse = |why: &str| Err(io::Error::other(format!("{} {why}", entry.path.display())));
        let kind = entry.metadata.file_type();
        if kind.is_dir() {
            continue;
        }
        if kind.is_symlink() {
            match entry.full.canonicalize() {
                Ok(target) if !target.starts_with(&root) => return refuse("leads out of the tree"),
                Ok(target) if target.is_file() => {}
                Ok(_) => return refuse("is a link to something that is no file"),
                Err(_) => return refuse("is a link to nothing"),
            }
        } else if !kind.is_file() {
            return refuse("is no file: a socket, FIFO or device cannot be part of an overlay");
        }
        let id = super::path::id(&entry.full.metadata()?);
        files.push(OverlayFile { path: entry.path, id });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn lists_files_and_refuses_what_leads_out() {
        let dir = tempfile::tempdir().expect("a directory");
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("home/user")).expect("made");
        std::fs::write(tree.join("home/user/.bashrc"), "").expect("written");
        std::fs::write(tree.join("b"), "").expect("written");
        symlink("b", tree.join("a")).expect("linked");
        let paths = |tree: &Path| files(tree).map(|files| files.into_iter().map(|file| file.path).collect::<Vec<_>>());
        assert_eq!(
            paths(&tree).expect("listed"),
            ["a", "b", "home/user/.bashrc"].map(Into::<std::path::PathBuf>::into)
        );
        symlink("/etc/hostname", tree.join("c")).expect("linked");
        assert!(paths(&tree).is_err());
        std::fs::remove_file(tree.join("c")).expect("removed");
        rustix::fs::mknodat(rustix::fs::CWD, tree.join("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .expect("made");
        assert!(paths(&tree).expect_err("a FIFO").to_string().contains("fifo is no file"));
        assert!(paths(&dir.path().join("missing")).is_err());
    }
}
