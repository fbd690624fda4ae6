//! A git directory made for one call: our configuration, the clone's objects and references.
//!
//! Neither the clone's configuration nor anything in a worktree's administrative directory is read through it.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::command::{Call, Reads};
use super::failure::file;
use super::{Git, mount};
use crate::backend::BackendError;

/// See the module.
pub(super) struct View<'a> {
    git: &'a Git,
    directory: TempDir,
    clone: PathBuf,
}

/// What of a clone's configuration concerns how it is stored, and who it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CloneConfig {
    /// Address of `origin`.
    pub remote: Option<String>,
    /// `core.bare`.
    pub bare: bool,
    /// `extensions.objectFormat`.
    pub object_format: Option<String>,
    /// `extensions.refStorage`.
    pub ref_storage: Option<String>,
    /// Every key that is set, in git's lower-case form.
    pub keys: Vec<String>,
}

impl CloneConfig {
    /// Reads `clone/config` as a file: no includes, nothing else.
    pub async fn read(git: &Git, clone: &Path) -> Result<Self, BackendError> {
        let path = clone.join("config");
        let args =
            [OsStr::new("config"), "--file".as_ref(), path.as_ref(), "--no-includes".as_ref(), "--null".as_ref()];
        let listed = git.call(Reads::Nothing, args.into_iter().chain(["--list".as_ref()])).run().await?;
        let mut config = Self::default();
        for entry in String::from_utf8_lossy(&listed).split('\0').filter(|entry| !entry.is_empty()) {
            // A key without a value has no newline and means true.
            let (key, value) = entry.split_once('\n').unwrap_or((entry, "true"));
            config.keys.push(key.to_owned());
            match key {
                "core.bare" => config.bare = matches!(value.to_ascii_lowercase().as_str(), "true" | "yes" | "on" | "1"),
                "remote.origin.url" => config.remote = Some(value.to_owned()),
                "extensions.objectformat" => config.object_format = Some(value.to_owned()),
                "extensions.refstorage" => config.ref_storage = Some(value.to_owned()),
                _ => {}
            }
        }
        Ok(config)
    }
}

impl<'a> View<'a> {
    /// A view of `clone` whose `HEAD` says `head`.
    pub fn open(git: &'a Git, clone: &Path, config: &CloneConfig, head: &str) -> Result<Self, BackendError> {
        let scratch = git.scratch();
        let directory = tempfile::Builder::new()
            .prefix("sbx-git-")
            .tempdir_in(scratch)
            .map_err(|error| file("make a directory in", scratch, &error))?;
        let at = directory.path();
        let failed = |error| file("write to", at, &error);
        let mut text = String::from("[core]\n\trepositoryformatversion = 1\n\tbare = true\n");
        if config.object_format.as_deref() == Some("sha256") {
            text.push_str("[extensions]\n\tobjectformat = sha256\n");
        }
        std::fs::write(at.join("config"), text).map_err(failed)?;
        std::fs::write(at.join("HEAD"), format!("{head}\n")).map_err(failed)?;
        std::fs::create_dir(at.join("objects")).map_err(failed)?;
        symlink(clone.join("refs"), at.join("refs")).map_err(failed)?;
        let packed = clone.join(mount::PACKED).join("packed-refs");
        let packed = if packed.exists() { packed } else { clone.join("packed-refs") };
        symlink(packed, at.join("packed-refs")).map_err(failed)?;
        Ok(Self { git, directory, clone: clone.to_owned() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A call through the view.
    pub fn call<I, S>(&self, reads: Reads, args: I) -> Call<'_>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut all = vec![with("--git-dir=", self.path())];
        all.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self.git.call(reads, all).env("GIT_OBJECT_DIRECTORY", self.clone.join("objects"))
    }

    /// A call through the view on the files of `tree` and an index of their own.
    pub fn call_in<S: AsRef<OsStr>>(&self, tree: &Path, index: &Path, args: &[S]) -> Call<'_> {
        let all = std::iter::once(with("--work-tree=", tree)).chain(args.iter().map(|arg| arg.as_ref().to_owned()));
        self.call(Reads::Nothing, all).env("GIT_INDEX_FILE", index)
    }

    /// The commit `name` stands for, or `None`.
    pub async fn commit(&self, name: &str) -> Result<Option<String>, BackendError> {
        let name = format!("{name}^{{commit}}");
        let args = ["rev-parse", "--verify", "--quiet", "--end-of-options", &name];
        let output = self.call(Reads::Nothing, args).output().await?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok((output.status.success() && !text.is_empty()).then_some(text))
    }
}

fn with(option: &str, path: &Path) -> OsString {
    let mut text = OsString::from(option);
    text.push(path);
    text
}
