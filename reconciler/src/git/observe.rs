//! Looks at clones and worktrees.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::admin::{self, Head, Registration, owner_of, same_path};
use super::command::Reads;
use super::view::{CloneConfig, View};
use super::{Git, GitFacts, layout};
use crate::backend::{BackendError, ErrorKind};
use crate::facts::{Observed, RepositoryFacts, WorktreeFacts, WorktreePlace};

pub(super) async fn observe(git: &Git, clones: &BTreeSet<PathBuf>, worktrees: &BTreeMap<PathBuf, PathBuf>) -> GitFacts {
    let mut facts = GitFacts::default();
    for clone in clones {
        facts.repositories.insert(clone.clone(), repository(git, clone).await);
        if let Ok(list) = admin::registrations(clone) {
            facts.checkouts.insert(clone.clone(), checkouts(&list));
        }
    }
    for (path, clone) in worktrees {
        facts.worktrees.insert(path.clone(), place(path, clone));
    }
    facts
}

pub(super) async fn probe(
    git: &Git,
    worktrees: &BTreeMap<PathBuf, PathBuf>,
) -> BTreeMap<PathBuf, Observed<WorktreePlace>> {
    let mut probes = BTreeMap::new();
    for (path, clone) in worktrees {
        let mut observed = place(path, clone);
        if let Observed::Present(WorktreePlace::Worktree(facts)) = &mut observed
            && let Err(error) = look_closer(git, path, facts).await
        {
            observed = Observed::Unknown(error.message);
        }
        probes.insert(path.clone(), observed);
    }
    probes
}

/// Fills in what removing the worktree would lose.
pub(super) async fn look_closer(git: &Git, path: &Path, facts: &mut WorktreeFacts) -> Result<(), BackendError> {
    let gone = || BackendError::new(ErrorKind::Stale, "the worktree has changed meanwhile");
    let registration = admin::registration(&facts.clone, &facts.admin).ok_or_else(gone)?;
    let config = CloneConfig::read(git, &facts.clone).await?;
    let (head, start) = match &registration.head {
        Head::Branch(branch) => (format!("ref: refs/heads/{branch}"), format!("refs/heads/{branch}")),
        Head::Commit(id, _) => (id.clone(), id.clone()),
        Head::Broken => return Err(BackendError::new(ErrorKind::Failed, "the worktree's HEAD cannot be read")),
    };
    let view = View::open(git, &facts.clone, &config, &head)?;
    let files = files(&view, path, &facts.clone.join("worktrees").join(&facts.admin)).await?;
    (facts.dirty, facts.ignored) = (Some(files.dirty), Some(files.ignored));
    facts.unpushed = Some(match view.commit(&start).await? {
        Some(commit) => unpushed(&view, &commit).await?,
        // A branch without a commit.
        None => 0,
    });
    Ok(())
}

/// Files of a worktree that are in no commit.
struct Files {
    /// Changed or not tracked, and submodules that hold a repository: those are not looked into, because that would read
    /// their configuration.
    dirty: u32,
    /// Ignored; a directory that is ignored as such counts once, whatever is in it.
    ignored: u32,
}

async fn files(view: &View<'_>, tree: &Path, admin: &Path) -> Result<Files, BackendError> {
    let index = view.path().join("index");
    match admin::open_regular(&admin.join("index")) {
        Ok(mut from) => {
            let copied = std::fs::File::create(&index).and_then(|mut to| io::copy(&mut from, &mut to));
            copied.map_err(|error| super::failure::file("copy the index of", tree, &error))?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(super::failure::file("read the index of", tree, &error)),
    }
    let staged = view.call_in(tree, &index, &["ls-files", "--stage", "-v", "-z"]).run().await?;
    let exists = |name: &[u8]| tree.join(OsStr::from_bytes(name)).symlink_metadata().is_ok();
    let mut populated = 0;
    let (mut unchanged, mut skipped) = (Vec::new(), Vec::new());
    for entry in staged.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()) {
        let Some(tab) = entry.iter().position(|byte| *byte == b'\t') else { continue };
        let (tag, name) = (entry[0], &entry[tab + 1..]);
        if entry[1..].starts_with(b" 160000 ") && exists(&[name, b"/.git"].concat()) {
            populated += 1;
        }
        let mark = |list: &mut Vec<u8>| {
            list.extend_from_slice(name);
            list.push(0);
        };
        if tag.is_ascii_lowercase() {
            mark(&mut unchanged);
        }
        // One that a sparse checkout leaves out is not there to be lost.
        if tag.eq_ignore_ascii_case(&b'S') && exists(name) {
            mark(&mut skipped);
        }
    }
    // Git does not look at files that are marked so, and edits of them would be deleted unseen.
    for (option, names) in [("--no-assume-unchanged", unchanged), ("--no-skip-worktree", skipped)] {
        if !names.is_empty() {
            let args = ["update-index", option, "-z", "--stdin"];
            let list = view.path().join("marked");
            std::fs::write(&list, names).map_err(|error| super::failure::file("write", &list, &error))?;
            view.call_in(tree, &index, &args).input(&list).run().await?;
        }
    }
    let args = [
        "status",
        "--porcelain=v1",
        "-z",
        "--untracked-files=all",
        "--ignored=matching",
        "--ignore-submodules=all",
        "--no-renames",
    ];
    let status = view.call_in(tree, &index, &args).run().await?;
    let (ignored, changed): (Vec<_>, Vec<_>) =
        status.split(|byte| *byte == 0).filter(|entry| !entry.is_empty()).partition(|entry| entry.starts_with(b"!! "));
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Ok(Files { dirty: count(changed.len() + populated), ignored: count(ignored.len()) })
}

/// Commits that no remote-tracking branch has.
pub(super) async fn unpushed(view: &View<'_>, commit: &str) -> Result<u32, BackendError> {
    let args = ["rev-list", "--count", commit, "--not", "--remotes"];
    let count = view.call(Reads::Nothing, args).run().await?;
    let count = String::from_utf8_lossy(&count).trim().parse();
    count.map_err(|_| BackendError::new(ErrorKind::Failed, "git counted no number"))
}

async fn repository(git: &Git, clone: &Path) -> Observed<RepositoryFacts> {
    match std::fs::read_dir(clone) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Observed::Absent,
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
        Err(error) => return Observed::Unknown(format!("cannot read {}: {error}", clone.display())),
        Ok(mut entries) => {
            if entries.next().is_none() {
                return Observed::Absent;
            }
        }
    }
    let looks_right = clone.join("objects").is_dir() && clone.join("refs").is_dir() && clone.join("config").is_file();
    if !looks_right {
        // Something else is in the place.
        return Observed::Present(RepositoryFacts { remote: String::new(), bare: false });
    }
    match CloneConfig::read(git, clone).await {
        Ok(config) => {
            Observed::Present(RepositoryFacts { remote: config.remote.unwrap_or_default(), bare: config.bare })
        }
        Err(error) => Observed::Unknown(error.message),
    }
}

/// Branches that are taken, by worktree.
pub(super) fn checkouts(registrations: &[Registration]) -> BTreeMap<String, PathBuf> {
    let taken = registrations.iter().filter_map(|r| Some((r.head.branch()?.to_owned(), r.path.clone())));
    taken.collect()
}

/// What is at `path`, which should be a worktree of `clone`.
pub(super) fn place(path: &Path, clone: &Path) -> Observed<WorktreePlace> {
    let metadata = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return missing(path, clone),
        Err(error) => return Observed::Unknown(format!("cannot look at {}: {error}", path.display())),
    };
    let other = |what: &str| Observed::Present(WorktreePlace::Other(what.to_owned()));
    if metadata.is_symlink() {
        return other("a symbolic link");
    }
    if !metadata.is_dir() {
        return other("a file");
    }
    if path.join(".git").symlink_metadata().is_ok_and(|m| m.is_dir()) {
        return other("a git repository of its own");
    }
    let Some((owner, name)) = owner_of(path) else {
        return match std::fs::read_dir(path).map(Iterator::count) {
            Ok(0) => Observed::Present(WorktreePlace::Empty),
            Ok(count) => other(&format!("a directory with {count} entries that is no worktree")),
            Err(error) => Observed::Unknown(format!("cannot read {}: {error}", path.display())),
        };
    };
    // Only a clone that was asked for is looked into; what a file here says of another is shown and no more.
    if !same_path(&owner, clone) {
        return Observed::Present(WorktreePlace::Worktree(WorktreeFacts {
            clone: owner,
            admin: name,
            branch: None,
            lock: None,
            dirty: None,
            ignored: None,
            unpushed: None,
        }));
    }
    match admin::registration(clone, &name) {
        Some(registration) if same_path(&registration.path, path) => {
            Observed::Present(WorktreePlace::Worktree(facts(clone, registration)))
        }
        Some(registration) => other(&format!("a copy of the worktree {}", registration.path.display())),
        None => other("a worktree that its clone no longer knows"),
    }
}

fn missing(path: &Path, clone: &Path) -> Observed<WorktreePlace> {
    match admin::registrations(clone) {
        Ok(list) => match list.into_iter().find(|registration| same_path(&registration.path, path)) {
            Some(registration) => Observed::Present(WorktreePlace::Missing(facts(clone, registration))),
            None => Observed::Absent,
        },
        Err(error) => Observed::Unknown(format!("cannot read the worktrees of {}: {error}", clone.display())),
    }
}

fn facts(clone: &Path, registration: Registration) -> WorktreeFacts {
    // A lock counts once all that goes with it is there, so that whoever wants it locked gets the rest too.
    let ready = layout::is_prepared(clone, &registration.name);
    WorktreeFacts {
        clone: clone.to_owned(),
        branch: registration.head.branch().map(str::to_owned),
        lock: registration.lock.filter(|_| ready),
        admin: registration.name,
        dirty: None,
        ignored: None,
        unpushed: None,
    }
}

/// Whether `commit` is on no branch, tag or remote.
pub(super) async fn only_here(view: &View<'_>, commit: &str) -> Result<bool, BackendError> {
    if view.commit(commit).await?.is_none() {
        return Ok(false);
    }
    let args = ["rev-list", "--count", commit, "--not", "--branches", "--tags", "--remotes"];
    let count = view.call(Reads::Nothing, args).run().await?;
    Ok(String::from_utf8_lossy(&count).trim() != "0")
}
