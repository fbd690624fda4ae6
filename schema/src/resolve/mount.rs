//! What is visible at which path inside.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;

use super::path::is_within;
use super::reference::Kind;
use super::{Resolver, child};
use crate::codes::{DUPLICATE_TARGET, RELABEL_SHARED, RESERVED_TARGET};
use crate::config::{Home, Mount, MountSource};
use crate::document::Node;
use crate::structure::show;
use crate::{Span, raw};

/// Paths of the engine's and of ours; what is below them is taken too.
const RESERVED: &[&str] = &["/proc", "/sys", "/dev", "/run/sbx"];

/// Host directories whose labels other programs rely on.
const SHARED: &[&str] = &[
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/opt", "/root", "/run", "/sbin", "/srv", "/sys",
    "/tmp", "/usr", "/var",
];

/// Which paths of one sandbox are taken, and where that was written. Clean paths are the same when their texts are.
#[derive(Default)]
pub(super) struct Targets(HashMap<OsString, Span>);

impl Resolver<'_> {
    /// Takes `path`, written at `span`, as a mount point.
    pub(super) fn take_target(&mut self, targets: &mut Targets, path: &Path, span: Span) {
        let shown = show(&path.to_string_lossy());
        if path == Path::new("/") || RESERVED.iter().any(|reserved| is_within(path, Path::new(reserved))) {
            self.problem(
                RESERVED_TARGET
                    .at(span, format!("nothing can be mounted at `{shown}`"))
                    .with_help("the engine and `sbx` need this path; choose another target"),
            );
            return;
        }
        match targets.0.get(path.as_os_str()) {
            Some(first) if *first != span => {
                let problem = DUPLICATE_TARGET
                    .at(span, format!("two things are mounted at `{shown}`"))
                    .with_help("give one of them another target, or remove it")
                    .with_related(*first, "the other one");
                self.problem(problem);
            }
            Some(_) => {}
            None => {
                targets.0.insert(path.into(), span);
            }
        }
    }

    pub(super) fn home(&mut self, raw: Option<raw::Home>, sandbox: &Node, at: &Path, targets: &mut Targets) -> Home {
        let Some(entry) = sandbox.entry("home") else { return Home::Image };
        let node = &entry.value;
        let home = match raw {
            Some(raw::Home { volume: Some(name), .. }) => {
                self.reference(Kind::Volume, &name, child(node, "volume").span).map(Home::Volume)
            }
            Some(raw::Home { workspace: Some(_), .. }) => {
                self.exposed_path(child(node, "workspace")).map(Home::Workspace)
            }
            Some(raw::Home { tmpfs: Some(size), .. }) => self.size(&size, child(node, "tmpfs")).map(Home::Tmpfs),
            _ => None,
        };
        self.take_target(targets, at, entry.key_span);
        home.unwrap_or(Home::Image)
    }

    pub(super) fn mounts(&mut self, raw: &[raw::Mount], sandbox: &Node, targets: &mut Targets) -> Vec<Mount> {
        let items = sandbox.get("mounts").map(Node::items).unwrap_or_default();
        raw.iter().zip(items).filter_map(|(raw, node)| self.mount(raw, node, targets)).collect()
    }

    fn mount(&mut self, raw: &raw::Mount, node: &Node, targets: &mut Targets) -> Option<Mount> {
        let source_node = child(node, "source");
        let source = match &raw.volume {
            Some(name) => self.reference(Kind::Volume, name, child(node, "volume").span).map(MountSource::Volume),
            None => self.exposed_path(source_node).map(MountSource::Path),
        };
        let (target, target_span) = match (node.get("target"), &source) {
            (Some(target), _) => (self.inside_path(target), target.span),
            (None, Some(MountSource::Path(path))) => (Some(path.clone()), source_node.span),
            (None, _) => (None, node.span),
        };
        if let Some(target) = &target {
            self.take_target(targets, target, target_span);
        }
        if raw.relabel.is_some()
            && let Some(MountSource::Path(path)) = &source
            && (SHARED.iter().any(|shared| path == Path::new(shared))
                || path.starts_with("/usr")
                || *path == self.caller.home)
        {
            let problem = RELABEL_SHARED
                .at(
                    child(node, "relabel").span,
                    format!("`{}` is shared with the rest of the host", show(&path.to_string_lossy())),
                )
                .with_help(
                    "relabelling it would lock other programs out; remove `relabel`, or mount a directory of its own",
                );
            self.problem(problem);
        }
        Some(Mount { source: source?, target: target?, mode: raw.mode.unwrap_or_default(), relabel: raw.relabel })
    }
}
