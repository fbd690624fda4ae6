//! Text with variables, paths of the host, and which of them must stay outside.

use std::path::{Component, Path, PathBuf};

use super::Resolver;
use crate::codes::{ENGINE_SOCKET, INVALID_PATH, SENSITIVE_MOUNT, WRONG_VALUE};
use crate::document::{Node, NodeKind};
use crate::structure::show;
use crate::{Caller, expand};

/// Where engines listen on most hosts, whether or not one was found there.
pub const WELL_KNOWN_SOCKETS: &[&str] = &[
    "/run/podman/podman.sock",
    "/var/run/podman/podman.sock",
    "/run/docker.sock",
    "/var/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/var/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/var/run/crio/crio.sock",
];

/// What under a home directory lets its holder act as the user elsewhere.
const SENSITIVE: &[&str] = &[
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".config/gcloud",
    ".config/gh",
    ".config/op",
    ".kube",
    ".docker",
    ".netrc",
    ".git-credentials",
    ".password-store",
    ".local/share/keyrings",
    ".local/share/containers",
    ".mozilla",
];

/// What the kernel makes up: processes with all their files, the machine's settings, its devices.
pub const KERNELS: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Host paths that are looked at with every mount, lexically clean.
pub(super) struct Guarded {
    /// Sockets no sandbox may see: who reaches one is root on the host, or the user at least.
    sockets: Vec<PathBuf>,
    home: PathBuf,
    /// [`SENSITIVE`], absolute.
    sensitive: Vec<PathBuf>,
}

impl Guarded {
    pub(super) fn of(caller: &Caller) -> Self {
        let runtime = caller.env.get("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
        let runtimes = [Some(PathBuf::from(format!("/run/user/{}", caller.uid))), runtime];
        let of_user = runtimes.into_iter().flatten().flat_map(|directory| {
            ["podman/podman.sock", "docker.sock", "containerd/containerd.sock"].map(|socket| directory.join(socket))
        });
        let sockets = caller.engine_sockets.iter().cloned();
        let sockets = sockets.chain(WELL_KNOWN_SOCKETS.iter().map(PathBuf::from)).chain(of_user);
        let home = clean(&caller.home);
        Self {
            sockets: sockets.map(|path| clean(&path)).collect(),
            sensitive: SENSITIVE.iter().map(|entry| home.join(entry)).collect(),
            home,
        }
    }
}

/// Whether `path` is `parent` or in it; both absolute and clean. The same as [`Path::starts_with`], without taking them
/// apart.
pub(super) fn is_within(path: &Path, parent: &Path) -> bool {
    let (path, parent) = (path.as_os_str().as_encoded_bytes(), parent.as_os_str().as_encoded_bytes());
    path.strip_prefix(parent).is_some_and(|rest| rest.first().is_none_or(|byte| *byte == b'/') || parent == b"/")
}

/// `path` without `.`, `..`, doubled and trailing slashes, by its text alone.
pub(super) fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                cleaned.pop();
            }
            other => cleaned.push(other),
        }
    }
    cleaned
}

impl Resolver<'_> {
    /// A text value with its variables filled in.
    pub(super) fn text(&mut self, node: &Node) -> Option<String> {
        let text = node.as_str()?;
        if !text.contains("${") && !text.contains('\0') {
            return Some(text.to_owned());
        }
        let source = self.sources.get(node.span.source).map(|source| source.text.as_str()).unwrap_or_default();
        let expanded = expand(text, node.span, source, &self.caller.env, &mut self.problems)?;
        self.no_nul(&expanded, node).then_some(expanded)
    }

    /// Text that is passed on as it is written: arguments, shell commands.
    pub(super) fn verbatim(&mut self, node: &Node) -> Option<String> {
        let text = node.as_str()?;
        self.no_nul(text, node).then(|| text.to_owned())
    }

    /// A program and its arguments, as they are written.
    pub(super) fn command_line(&mut self, list: &Node) -> Vec<String> {
        let items = list.items();
        if let Some(program) = items.first().filter(|item| item.as_str() == Some("")) {
            self.problem(
                WRONG_VALUE
                    .at(program.span, "the program is empty")
                    .with_help("write what is run, then its arguments: `[python3, -m, http.server]`"),
            );
        }
        items.iter().filter_map(|item| self.verbatim(item)).collect()
    }

    /// Text, or a number or boolean as it is written: `1.10` stays `1.10`.
    pub(super) fn scalar(&mut self, node: &Node) -> Option<String> {
        match node.kind {
            NodeKind::Bool(_) | NodeKind::Integer(_) | NodeKind::Float(_) => {
                let source = self.sources.get(node.span.source)?;
                source.text.get(node.span.start..node.span.end).map(|text| text.trim().to_owned())
            }
            _ => self.text(node),
        }
    }

    /// Whether `text`, of `node`, has no NUL; says so when it has.
    pub(super) fn no_nul(&mut self, text: &str, node: &Node) -> bool {
        let good = !text.contains('\0');
        if !good {
            self.problem(
                WRONG_VALUE
                    .at(node.span, "the text has a NUL character")
                    .with_help("remove the `\\0`: nothing on the host can take it"),
            );
        }
        good
    }

    /// A host path: variables and `~` expanded, absolute, relative to the file it is written in.
    pub(super) fn path(&mut self, node: &Node) -> Option<PathBuf> {
        let text = self.text(node)?;
        self.path_of(&text, node)
    }

    /// `text`, expanded from `node`, as a host path.
    pub(super) fn path_of(&mut self, text: &str, node: &Node) -> Option<PathBuf> {
        if !self.path_text(text, node) {
            return None;
        }
        let path = match self.tilde(text, node)? {
            path if path.is_absolute() => path,
            path => self.sources.get(node.span.source)?.directory.join(path),
        };
        Some(clean(&path))
    }

    /// A path inside a sandbox: absolute, and not one of those the engine and `sbx` need for themselves.
    pub(super) fn inside_path(&mut self, node: &Node) -> Option<PathBuf> {
        let text = self.text(node)?;
        if !self.path_text(&text, node) {
            return None;
        }
        let path = self.tilde(&text, node)?;
        if !path.is_absolute() {
            self.problem(INVALID_PATH.at(node.span, format!("`{}` is not an absolute path", show(&text))).with_help(
                format!("inside a sandbox paths start with `/`: write `/{}`", show(text.trim_start_matches("./"))),
            ));
            return None;
        }
        Some(clean(&path))
    }

    fn path_text(&mut self, text: &str, node: &Node) -> bool {
        let problem = if text.is_empty() {
            "the path is empty"
        } else if text.len() > 4095 {
            "the path is longer than 4095 bytes"
        } else {
            return true;
        };
        self.problem(INVALID_PATH.at(node.span, problem).with_help("write the path as it is on disk"));
        false
    }

    fn tilde(&mut self, text: &str, node: &Node) -> Option<PathBuf> {
        match text.strip_prefix('~') {
            None => Some(PathBuf::from(text)),
            Some("") => Some(self.caller.home.clone()),
            Some(rest) if rest.starts_with('/') => Some(self.caller.home.join(rest.trim_start_matches('/'))),
            Some(_) => {
                self.problem(
                    INVALID_PATH
                        .at(node.span, format!("`{}`: only `~` itself is expanded, not other users' homes", show(text)))
                        .with_help("write the absolute path, or `./~…` for a file of that name"),
                );
                None
            }
        }
    }

    /// A host path that becomes visible inside. Refuses what would hand over the host; `by_user` warns of what would
    /// hand over the user.
    pub(super) fn exposed_path(&mut self, node: &Node) -> Option<PathBuf> {
        let path = self.path(node)?;
        self.check_exposed(&path, node);
        Some(path)
    }

    pub(super) fn check_exposed(&mut self, path: &Path, node: &Node) {
        if let Some(kernel) = KERNELS.iter().find(|kernel| is_within(path, Path::new(kernel))) {
            self.problem(
                ENGINE_SOCKET
                    .at(node.span, format!("`{}` leads to all of the host", show(&path.to_string_lossy())))
                    .with_help(format!("`{kernel}` is never mounted from the host; the sandbox has its own")),
            );
            return;
        }
        if let Some(socket) = self.guarded.sockets.iter().find(|socket| is_within(socket, path)) {
            let shown = show(&path.to_string_lossy());
            let message = if socket == path {
                format!("`{shown}` is the socket of a container engine")
            } else {
                format!("`{shown}` contains the socket of a container engine, `{}`", show(&socket.to_string_lossy()))
            };
            self.problem(ENGINE_SOCKET.at(node.span, message).with_help(
                "whoever reaches the socket controls the host; mount only the directories the sandbox needs",
            ));
            return;
        }
        self.warn_if_sensitive(path, node);
    }

    fn warn_if_sensitive(&mut self, path: &Path, node: &Node) {
        let Guarded { home, sensitive, .. } = &self.guarded;
        if is_within(home, path) {
            let what = if path == home { "your whole home directory" } else { "a parent of your home directory" };
            self.problem(
                SENSITIVE_MOUNT
                    .at(node.span, format!("this mounts {what}, with keys, tokens and shell start-up files"))
                    .with_help("mount the directories that are needed, one by one"),
            );
            return;
        }
        if let Some(found) = sensitive.iter().find(|entry| is_within(path, entry) || is_within(entry, path)) {
            let found = found.strip_prefix(home).unwrap_or(found).to_string_lossy().into_owned();
            self.problem(
                SENSITIVE_MOUNT
                    .at(node.span, format!("this hands the credentials in `~/{found}` to the sandbox"))
                    .with_help("use `secrets` for the one value that is needed"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn within_is_what_the_standard_library_says() {
        let paths = ["/", "/a", "/a/b", "/ab", "/a/bc", "/b", "/a/b/c"].map(Path::new);
        for (path, parent) in paths.iter().flat_map(|path| paths.map(|parent| (path, parent))) {
            assert_eq!(is_within(path, parent), path.starts_with(parent), "{path:?} {parent:?}");
        }
    }

    #[test]
    fn cleans_by_text() {
        for (path, cleaned) in [
            ("/a/./b//c/", "/a/b/c"),
            ("/a/../b", "/b"),
            ("/../..", "/"),
            ("/var/run/../run/docker.sock", "/var/run/docker.sock"),
        ] {
            assert_eq!(clean(Path::new(path)), Path::new(cleaned));
        }
    }
}
