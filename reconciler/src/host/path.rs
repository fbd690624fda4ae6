//! What stands at a path.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::host_facts::{FileId, PathKind};

/// See the fields of the same meaning of [`crate::host_facts::HostFacts`].
#[derive(Default)]
pub(super) struct Paths {
    pub kinds: BTreeMap<PathBuf, PathKind>,
    pub unseen: BTreeMap<PathBuf, String>,
    pub identities: BTreeMap<PathBuf, FileId>,
    pub resolved: BTreeMap<PathBuf, PathBuf>,
}

/// Looks at `wanted`, links followed.
pub(super) fn look(wanted: BTreeSet<PathBuf>) -> Paths {
    let mut paths = Paths::default();
    for path in wanted {
        let metadata = match path.metadata() {
            Ok(metadata) => metadata,
            Err(error) => {
                if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) {
                    paths.unseen.insert(path, error.to_string());
                }
                continue;
            }
        };
        if let Ok(real) = path.canonicalize()
            && real != path
        {
            paths.resolved.insert(path.clone(), real);
        }
        paths.identities.insert(path.clone(), id(&metadata));
        paths.kinds.insert(path, kind(metadata.file_type()));
    }
    paths
}

/// Which file `metadata` is of.
pub(super) fn id(metadata: &std::fs::Metadata) -> FileId {
    FileId { device: metadata.dev(), inode: metadata.ino() }
}

fn kind(file_type: std::fs::FileType) -> PathKind {
    match file_type {
        t if t.is_dir() => PathKind::Directory,
        t if t.is_file() => PathKind::File,
        t if t.is_socket() => PathKind::Socket,
        t if t.is_block_device() || t.is_char_device() => PathKind::Device,
        _ => PathKind::Other,
    }
}

/// Where the sockets that exist really are.
pub(super) fn real_sockets(candidates: &[PathBuf]) -> Vec<PathBuf> {
    let real: BTreeSet<PathBuf> = candidates.iter().filter_map(|path| path.canonicalize().ok()).collect();
    real.into_iter().collect()
}

/// Each of `paths` as it is named and, where that differs, where it really is or would be: the links of as much of it as is
/// there are resolved.
pub(super) fn real_or_named(paths: &[PathBuf]) -> Vec<PathBuf> {
    let real = |path: &PathBuf| {
        let mut there = path.ancestors().filter_map(|ancestor| Some((ancestor.canonicalize().ok()?, ancestor)));
        let (real, ancestor) = there.next()?;
        let rest = path.strip_prefix(ancestor).ok().filter(|rest| *rest != Path::new(""));
        Some(rest.map_or_else(|| real.clone(), |rest| real.join(rest)))
    };
    let all: BTreeSet<PathBuf> = paths.iter().flat_map(|path| [Some(path.clone()), real(path)]).flatten().collect();
    all.into_iter().collect()
}

/// Those of `sources` by which something `guarded` is reached, and what: it is there, in there, or above.
pub(super) fn aliases<'a>(
    sources: &BTreeMap<PathBuf, FileId>,
    resolved: &BTreeMap<PathBuf, PathBuf>,
    guarded: impl Iterator<Item = &'a PathBuf>,
) -> BTreeMap<PathBuf, PathBuf> {
    let look = |path: &Path| path.metadata().ok().map(|metadata| id(&metadata));
    let (mut same, mut above) = (HashMap::new(), HashMap::new());
    for path in guarded {
        same.extend(look(path).map(|id| (id, path)));
        for id in path.ancestors().filter_map(look) {
            above.entry(id).or_insert(path);
        }
    }
    let leads = |(source, id): (&PathBuf, &FileId)| {
        let real = resolved.get(source).unwrap_or(source);
        let within = || real.ancestors().skip(1).filter_map(look).find_map(|id| same.get(&id));
        above.get(id).or_else(within).map(|path| (source.clone(), (*path).clone()))
    };
    sources.iter().filter_map(leads).collect()
}

/// Links directly below `root`, as `/bin` to `usr/bin` on most hosts.
pub(super) fn root_links(root: &Path) -> BTreeMap<PathBuf, PathBuf> {
    let Ok(entries) = std::fs::read_dir(root) else { return BTreeMap::new() };
    entries.flatten().filter_map(|entry| Some((entry.path(), std::fs::read_link(entry.path()).ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_kinds_and_links() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().canonicalize().expect("real").join(name);
        std::fs::write(at("file"), "").expect("written");
        std::os::unix::fs::symlink("file", at("link")).expect("linked");
        std::os::unix::fs::symlink("nowhere", at("dangling")).expect("linked");
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).expect("bound");
        let wanted = ["file", "link", "dangling", "socket", "missing"].map(at).into();
        let paths = look(wanted);
        let kinds = [(at("file"), PathKind::File), (at("link"), PathKind::File), (at("socket"), PathKind::Socket)];
        assert_eq!(paths.kinds, kinds.into());
        assert_eq!(paths.resolved, [(at("link"), at("file"))].into());
        std::os::unix::fs::symlink(".", at("here")).expect("linked");
        let own = ["here/file", "here/missing/deeper", "socket"].map(at);
        let expected = ["file", "here/file", "here/missing/deeper", "missing/deeper", "socket"].map(at);
        assert_eq!(real_or_named(&own), expected);
        std::fs::remove_file(at("here")).expect("removed");
        assert_eq!(real_sockets(&[at("socket"), at("missing")]), [at("socket")]);
        // Another name of the same file, one beside it, and what holds it.
        std::fs::hard_link(at("file"), at("alias")).expect("linked");
        let sources = look(["alias", "socket", ""].map(at).into());
        let aliases = |guarded: PathBuf| aliases(&sources.identities, &sources.resolved, [guarded].iter());
        assert_eq!(aliases(at("file")), ["alias", ""].map(|name| (at(name), at("file"))).into());
        assert_eq!(aliases(at("missing")), [(at(""), at("missing"))].into());
        let links = [(at("link"), "file".into()), (at("dangling"), "nowhere".into())];
        assert_eq!(root_links(&at("")), links.into());
    }
}
