//! Images: pulled, built, loaded, imported, or made by commands in another one.
//!
//! What is made here stands under a tag of ours that holds the hash of its inputs, so a tag that is there is the image
//! that is wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use futures_util::StreamExt as _;
use hyper::Method;
use podman_api::opts::{PullOpts, PullPolicy};
use tokio::time::timeout;

use super::client::{LONG_SILENCE, SILENCE, SLOW, TAR, encode_name, with_query};
use super::container::same;
use super::wire::StreamItem;
use super::{Podman, Progress, error};
use crate::backend::{BackendError, ErrorKind};
use crate::host;
use crate::resource::Labels;
use crate::spec::{ImageSpec, NewObject};

mod archive;
mod build;
mod scaffold;
mod setup;
mod upload;

impl Podman {
    pub(crate) async fn create_image(
        &self,
        object: &NewObject,
        spec: &ImageSpec,
        progress: Progress<'_>,
    ) -> Result<(), BackendError> {
        if !matches!(spec, ImageSpec::Ref { .. })
            && let Some(there) = self.reader().inspect_image(&object.name).await?
            // A loaded archive cannot carry labels; its tag alone tells.
            && (same(&there.labels, &object.labels) || matches!(spec, ImageSpec::Archive { .. }))
        {
            return Ok(());
        }
        unchanged(spec).await?;
        match spec {
            ImageSpec::Host { directories, links, homes } => {
                let tar = host_root(directories, links, homes)
                    .map_err(|error| BackendError::new(ErrorKind::Failed, error.to_string()))?;
                self.import(object, super::client::full(tar)).await
            }
            ImageSpec::Ref { reference, digest, pull } => {
                self.pull(&object.name, reference, digest.as_deref(), pull, progress).await
            }
            ImageSpec::Build { context, containerfile, args, target, inputs } => {
                let build = build::Build { context, containerfile, args, target: target.as_deref(), inputs };
                self.build(object, &build, progress).await
            }
            ImageSpec::Archive { path, .. } => self.load(object, path, progress).await,
            ImageSpec::Rootfs { path, .. } => {
                progress("importing the root filesystem");
                self.import(object, upload::root_filesystem(path.clone()).await?).await
            }
            ImageSpec::Setup { from, run, egress, policy, resolv_conf, base } => {
                let (policy, resolv_conf) = (policy.as_deref(), resolv_conf.as_deref());
                let setup = setup::Setup { from, commands: run, egress, policy, resolv_conf, base: base.as_deref() };
                self.set_up(object, &setup, progress).await
            }
        }?;
        if self.reader().resolve_image(&object.name).await?.is_none() {
            return Err(BackendError::new(
                ErrorKind::Failed,
                format!("the engine reports success, but {} is not there", object.name),
            ));
        }
        Ok(())
    }

    async fn pull(
        &self,
        name: &str,
        reference: &str,
        digest: Option<&str>,
        policy: &str,
        progress: Progress<'_>,
    ) -> Result<(), BackendError> {
        let exact = digest.map_or_else(|| reference.to_owned(), |digest| pinned(reference, digest));
        if policy != "always"
            && let Some(id) = self.reader().resolve_image(&exact).await?
        {
            return self.answer_to(name, &id).await;
        }
        if policy == "never" {
            return Err(BackendError::new(
                ErrorKind::NotFound,
                format!("{exact} is not on the engine, and pull is `never`"),
            )
            .with_help(format!("`podman pull {exact}`, or set pull: missing")));
        }
        let registry = registry(reference);
        let options = PullOpts::builder().reference(&exact).policy(PullPolicy::Always).build();
        let images = self.api().images();
        let mut stream = images.pull(&options);
        let mut silence = SILENCE.min(self.patience);
        let mut id = None;
        loop {
            let item = timeout(silence, stream.next()).await.map_err(|_| {
                BackendError::new(
                    ErrorKind::TimedOut,
                    format!("the registry {registry} has been silent for {} s", silence.as_secs_f64().round()),
                )
                .with_help("check the network and the registry's name, then try again")
            })?;
            let report = match item {
                None => break,
                Some(report) => report.map_err(|error| error::from_api(&error).context(&exact))?,
            };
            if let Some(text) = report.error.filter(|text| !text.is_empty()) {
                return Err(error::from_text(&text).context(&format!("registry {registry}")));
            }
            if let Some(text) = report.stream {
                // The engine tells when a layer begins and ends, and nothing between.
                if text.starts_with("Copying") {
                    silence = LONG_SILENCE.min(self.patience);
                }
                progress(text.trim());
            }
            id = report.id.filter(|id| !id.is_empty()).or(id);
        }
        match id {
            Some(id) => self.answer_to(name, &id).await,
            None => Err(BackendError::new(ErrorKind::Transient, format!("the pull of {exact} ended without a result"))),
        }
    }

    /// Makes sure that `name` stands for the image `id`.
    async fn answer_to(&self, name: &str, id: &str) -> Result<(), BackendError> {
        if name.contains('@') || self.reader().resolve_image(name).await?.as_deref() == Some(id) {
            return Ok(());
        }
        self.tag(id, name).await
    }

    async fn tag(&self, image: &str, name: &str) -> Result<(), BackendError> {
        let (repo, tag) = split_tag(name);
        let path = with_query(&format!("/images/{}/tag", encode_name(image)), &[("repo", repo), ("tag", tag)]);
        self.client().call(Method::POST, &path, SLOW).await.map(drop)
    }

    async fn untag(&self, image: &str, name: &str) -> Result<(), BackendError> {
        let (repo, tag) = split_tag(name);
        let path = with_query(&format!("/images/{}/untag", encode_name(image)), &[("repo", repo), ("tag", tag)]);
        self.client().call(Method::POST, &path, SLOW).await.map(drop)
    }

    async fn import(&self, object: &NewObject, body: super::client::Body) -> Result<(), BackendError> {
        let changes = label_changes(&object.labels);
        let mut query = vec![("reference", object.name.as_str())];
        query.extend(changes.iter().map(|change| ("changes", change.as_str())));
        let path = with_query("/images/import", &query);
        let mut pieces = self.client().stream(Method::POST, &path, TAR, body, LONG_SILENCE).await?;
        pieces.lines(|_| Ok(())).await
    }

    pub(crate) async fn remove_image(&self, image: &str) -> Result<(), BackendError> {
        let path = format!("/images/{}", encode_name(image));
        match self.client().call(Method::DELETE, &path, SLOW).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.kind == ErrorKind::NotFound => Ok(()),
            // A container still runs on it: the name goes, the content stays until its last user does.
            Err(failure)
                if failure.kind == ErrorKind::Conflict && image.contains(':') && !image.starts_with("sha256:") =>
            {
                self.untag(image, image).await
            }
            Err(failure) => Err(failure),
        }
    }
}

/// Fails when what the image is made of is no longer what was planned: the tag would say what the content is not.
async fn unchanged(spec: &ImageSpec) -> Result<(), BackendError> {
    let failed = |error: &dyn std::fmt::Display| BackendError::new(ErrorKind::Failed, error.to_string());
    let spec = spec.clone();
    let look = move || {
        Ok(match spec {
            ImageSpec::Build { context, containerfile, inputs, .. } => {
                let found = host::context::hash(&context, &BTreeSet::from([containerfile]))?;
                (found != inputs).then_some(context)
            }
            ImageSpec::Archive { path, inputs } => (host::archive::hash(&path)? != inputs).then_some(path),
            ImageSpec::Rootfs { path, inputs } => (host::rootfs::hash(&path)? != inputs).then_some(path),
            ImageSpec::Host { .. } | ImageSpec::Ref { .. } | ImageSpec::Setup { .. } => None,
        })
    };
    let looked: std::io::Result<_> = tokio::task::spawn_blocking(look).await.map_err(|error| failed(&error))?;
    match looked.map_err(|error| failed(&error))? {
        None => Ok(()),
        Some(path) => {
            let message = format!("{} has changed since the plan was made", path.display());
            Err(BackendError::new(ErrorKind::Stale, message).with_help("plan again"))
        }
    }
}

/// `LABEL key=value` for each: taken as it is, up to the end of the line.
fn label_changes(labels: &Labels) -> Vec<String> {
    labels.iter().map(|(key, value)| format!("LABEL {key}={value}")).collect()
}

/// Tells progress from the stream of a build or load, and errors.
fn stream_item(line: &[u8], tail: &mut Tail, progress: Progress<'_>) -> Result<(), BackendError> {
    let item: StreamItem = match serde_json::from_slice(line) {
        Ok(item) => item,
        Err(_) if line.iter().all(u8::is_ascii_whitespace) => return Ok(()),
        Err(error) => return Err(error::malformed("a stream", &error)),
    };
    if !item.error.is_empty() {
        let failure = error::from_text(&item.error);
        return Err(BackendError { message: tail.with(&failure.message), ..failure });
    }
    for text in item.stream.lines().map(str::trim_end).filter(|text| !text.is_empty()) {
        progress(text);
        tail.push(text);
    }
    Ok(())
}

/// The last lines of some output, to be shown with a failure.
#[derive(Default)]
struct Tail {
    lines: std::collections::VecDeque<String>,
}

impl Tail {
    const LINES: usize = 12;

    fn push(&mut self, line: &str) {
        if self.lines.len() == Self::LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line.to_owned());
    }

    fn with(&self, message: &str) -> String {
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        if lines.is_empty() { message.to_owned() } else { format!("{message}; the last lines:\n{}", lines.join("\n")) }
    }
}

/// `name:tag` without its tag, with a digest.
fn pinned(reference: &str, digest: &str) -> String {
    let reference = reference.split('@').next().unwrap_or(reference);
    let (repo, _) = split_tag(reference);
    format!("{repo}@{digest}")
}

/// Repository and tag; a colon before the last slash belongs to a port.
fn split_tag(reference: &str) -> (&str, &str) {
    match reference.rsplit_once(':') {
        Some((repo, tag)) if !tag.contains('/') => (repo, tag),
        _ => (reference, "latest"),
    }
}

/// The registry a reference leads to, for messages.
fn registry(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "that the engine searches by default",
    }
}

/// A tar with nothing but places to mount on, links, and accounts for root and nobody: the engine adds the user's entry
/// to files that are there, and to no others.
fn host_root(
    directories: &[PathBuf],
    links: &BTreeMap<PathBuf, PathBuf>,
    homes: &BTreeMap<PathBuf, (u32, u32)>,
) -> std::io::Result<Vec<u8>> {
    let mut all: std::collections::BTreeSet<PathBuf> =
        ["/etc", "/proc", "/sys", "/dev", "/run", "/tmp", "/var"].map(PathBuf::from).into();
    let made = directories.iter().map(PathBuf::as_path).chain(links.keys().filter_map(|link| link.parent()));
    for directory in made.chain(homes.keys().map(PathBuf::as_path)) {
        all.extend(directory.ancestors().filter(|part| *part != Path::new("/")).map(Path::to_path_buf));
    }
    let mut tar = tar::Builder::new(Vec::new());
    let header = |kind, mode, size| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        // Equal inputs make an equal image.
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header
    };
    let relative = |path: &Path| path.strip_prefix("/").unwrap_or(path).to_path_buf();
    for directory in all.iter().filter(|directory| !directory.as_os_str().is_empty()) {
        // Old runtimes give a tmpfs the mode of the directory beneath it.
        let shared = ["/tmp", "/var/tmp"].iter().any(|shared| directory == Path::new(shared));
        let mut header = header(tar::EntryType::Directory, if shared { 0o1777 } else { 0o755 }, 0);
        if let Some((uid, gid)) = homes.get(directory) {
            header.set_uid((*uid).into());
            header.set_gid((*gid).into());
        }
        tar.append_data(&mut header, relative(directory), std::io::empty())?;
    }
    for (link, target) in links {
        tar.append_link(&mut header(tar::EntryType::Symlink, 0o777, 0), relative(link), target)?;
    }
    for (name, text) in [
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"),
        ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ] {
        tar.append_data(&mut header(tar::EntryType::Regular, 0o644, text.len() as u64), name, text.as_bytes())?;
    }
    tar.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn content_that_changed_since_the_plan_is_not_sent() {
        let dir = tempfile::tempdir().expect("a directory");
        let containerfile = dir.path().join("Containerfile");
        std::fs::write(&containerfile, "FROM scratch\n").expect("written");
        let inputs = host::context::hash(dir.path(), &BTreeSet::from([containerfile.clone()])).expect("hashed");
        let context = dir.path().to_owned();
        let spec = ImageSpec::Build { context, containerfile, args: BTreeMap::new(), target: None, inputs };
        unchanged(&spec).await.expect("the same");
        std::fs::write(dir.path().join("new"), "").expect("written");
        assert_eq!(unchanged(&spec).await.expect_err("another").kind, ErrorKind::Stale);
    }

    #[test]
    fn references() {
        assert_eq!(pinned("host:5000/a/b:1", "sha256:ab"), "host:5000/a/b@sha256:ab");
        assert_eq!(pinned("host:5000/a/b", "sha256:ab"), "host:5000/a/b@sha256:ab");
        assert_eq!(pinned("a@sha256:cd", "sha256:ab"), "a@sha256:ab");
        assert_eq!(split_tag("localhost/x:1"), ("localhost/x", "1"));
        assert_eq!(registry("quay.example/a"), "quay.example");
        assert!(registry("alpine").contains("default"));
    }

    #[test]
    fn an_empty_root_holds_every_parent() {
        let links = BTreeMap::from([(PathBuf::from("/bin"), PathBuf::from("usr/bin"))]);
        let homes = BTreeMap::from([(PathBuf::from("/home/me"), (1000, 100))]);
        let tar = host_root(&["/home/me/work".into()], &links, &homes).expect("in memory");
        let owned = |name: &str| {
            let mut archive = tar::Archive::new(tar.as_slice());
            let mut entries = archive.entries().expect("reads").map(|entry| entry.expect("entry"));
            let entry = entries.find(|entry| entry.path().expect("path") == Path::new(name)).expect("is there");
            (entry.header().uid().expect("a number"), entry.header().gid().expect("a number"))
        };
        assert_eq!((owned("home"), owned("home/me"), owned("home/me/work")), ((0, 0), (1000, 100), (0, 0)));
        let mut archive = tar::Archive::new(tar.as_slice());
        let names: Vec<String> = archive
            .entries()
            .expect("reads")
            .map(|entry| entry.expect("entry").path().expect("path").display().to_string())
            .collect();
        for name in ["home", "home/me", "home/me/work", "bin", "etc/passwd"] {
            assert!(names.iter().any(|found| found.trim_end_matches('/') == name), "{name} in {names:?}");
        }
    }
}
