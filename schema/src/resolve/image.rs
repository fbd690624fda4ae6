use std::collections::HashMap;
use std::path::PathBuf;

use indexmap::IndexMap;

use super::reference::{BUILT_IN_IMAGE, Kind};
use super::rule::port;
use super::{Resolver, child};
use crate::codes::{ENGINE_SOCKET, IMAGE_CYCLE, WRONG_VALUE};
use crate::config::{Image, Pull, Sandbox};
use crate::document::{Entry, Node};
use crate::structure::show;
use crate::{Name, raw};

impl Resolver<'_> {
    pub(super) fn image(&mut self, entry: &Entry) -> Image {
        let node = &entry.value;
        let checked = self.checked::<raw::Image>("Image", &entry.key, entry.key_span, node);
        let Some((raw, refused)) = checked else { return built_in() };
        if let Some(host) = raw.host {
            return self.host_image(&host, child(node, "host"));
        }
        if raw.r#ref.is_some() {
            return self.registry_image(child(node, "ref"), raw.pull);
        }
        if let Some(build) = raw.build {
            return self.build_image(&build, child(node, "build"));
        }
        if raw.archive.is_some() {
            return Image::Archive { path: self.path(child(node, "archive")).unwrap_or_default() };
        }
        if raw.rootfs.is_some() {
            return Image::Rootfs { path: self.exposed_path(child(node, "rootfs")).unwrap_or_default() };
        }
        let (Some(from), Some(_)) = (raw.from, raw.setup) else { return built_in() };
        let from_node = child(node, "from");
        let Some(from) = self.reference(Kind::Image, &from, from_node.span) else { return built_in() };
        let setup_node = child(node, "setup");
        let commands = child(setup_node, "run").items();
        if let Some(egress) = setup_node.entry("egress") {
            self.origin(format!("images.{}.setup.egress", entry.key), egress.key_span);
        }
        Image::Setup {
            from,
            run: commands.iter().filter_map(|item| self.verbatim(item)).collect(),
            egress: self.setup_egress(setup_node, &refused),
        }
    }

    fn host_image(&mut self, raw: &raw::HostImage, node: &Node) -> Image {
        let Image::Host { dirs: default_dirs, etc: default_etc } = built_in() else { return built_in() };
        let mut dirs = default_dirs;
        if raw.dirs.is_some() {
            dirs = child(node, "dirs").items().iter().filter_map(|item| self.exposed_path(item)).collect();
            let etc = |dir: &PathBuf| dir.starts_with("/etc");
            for (item, _) in child(node, "dirs").items().iter().zip(&dirs).filter(|(_, dir)| etc(dir)) {
                self.problem(
                    ENGINE_SOCKET
                        .at(item.span, "`/etc` holds secrets of the host")
                        .with_help("name what is needed under `etc`"),
                );
            }
        }
        let mut etc = default_etc;
        if raw.etc.is_some() {
            etc = child(node, "etc").items().iter().filter_map(|item| self.etc_entry(item)).collect();
        }
        Image::Host { dirs, etc }
    }

    /// An entry of the host's `/etc`: relative, and none that holds the host's own secrets.
    fn etc_entry(&mut self, node: &Node) -> Option<String> {
        const NEVER: &[&str] = &["shadow", "gshadow", "passwd", "group", "ssh", "sudoers", "machine-id", "krb5.keytab"];
        let text = self.text(node)?;
        let mut parts = text.trim_end_matches('/').split('/');
        let relative = !text.starts_with(['/', '~']) && parts.clone().all(|part| !matches!(part, "" | "." | ".."));
        let first = parts.next().unwrap_or_default();
        if relative && !NEVER.contains(&first.trim_end_matches('-')) && !text.chars().any(char::is_control) {
            return Some(text.trim_end_matches('/').to_owned());
        }
        let (message, help) = if relative {
            (
                format!("`/etc/{}` is never mounted", show(&text)),
                "passwd and group are synthesized; the others hold secrets of the host",
            )
        } else {
            (
                format!("`{}` is not an entry of `/etc`", show(&text)),
                "write a name relative to `/etc`: `ssl`, `java-17/security`",
            )
        };
        self.problem(WRONG_VALUE.at(node.span, message).with_help(help));
        None
    }

    fn registry_image(&mut self, node: &Node, pull: Option<Pull>) -> Image {
        let reference = self.text(node).unwrap_or_default();
        if is_reference(&reference) {
            self.warn_of_reference(&reference, node);
        } else if !reference.is_empty() {
            self.problem(
                WRONG_VALUE
                    .at(node.span, format!("`{}` is not an image reference", show(&reference)))
                    .with_help("write `registry/repository:tag` in lower case, without a scheme: `docker.io/library/debian:bookworm`"),
            );
        }
        Image::Ref { reference, pull: pull.unwrap_or_default() }
    }

    fn build_image(&mut self, raw: &raw::Build, node: &Node) -> Image {
        let context = self.path(child(node, "context")).unwrap_or_default();
        let containerfile = match raw.containerfile {
            // Relative to the context, as every builder reads it.
            Some(_) => {
                let file = child(node, "containerfile");
                let text = self.text(file).unwrap_or_default();
                let relative = !text.starts_with(['/', '~']);
                let path = if relative && !text.is_empty() {
                    self.path_of(&context.join(&text).to_string_lossy(), file)
                } else {
                    self.path_of(&text, file)
                };
                path.unwrap_or_default()
            }
            None => context.join("Containerfile"),
        };
        let mut args = IndexMap::new();
        for entry in node.get("args").map(Node::entries).unwrap_or_default() {
            self.env_name(&entry.key, entry.key_span);
            args.extend(self.scalar(&entry.value).map(|value| (entry.key.to_string(), value)));
        }
        let target = node.get("target").and_then(|target| self.text(target));
        Image::Build { context, containerfile, args, target }
    }

    /// `from` must lead to an image that is not made by a set-up, and not to the host's own directories.
    pub(super) fn check_image_chains(&mut self, images: &IndexMap<Name, Image>) {
        // What each image leads to was found out: `true` while it is being followed.
        let mut open: HashMap<&Name, bool> = HashMap::new();
        for start in images.keys() {
            let mut chain: Vec<&Name> = Vec::new();
            let mut current = start;
            loop {
                if open.get(current) == Some(&true) {
                    let first = chain.iter().position(|name| *name == current).unwrap_or_default();
                    let last = chain.last().copied().unwrap_or(current);
                    let circle: Vec<&str> = chain[first..].iter().chain([&current]).map(|name| name.as_str()).collect();
                    let message = format!("images are made from each other in a circle: {}", show(&circle.join(" → ")));
                    let span = self.written_from(last).map(|node| node.span);
                    let mut problem = IMAGE_CYCLE.nowhere(message).with_help("start one of them from another image");
                    problem.span = span;
                    self.problem(problem);
                    break;
                }
                if open.contains_key(current) {
                    break;
                }
                open.insert(current, true);
                chain.push(current);
                let Some(Image::Setup { from, .. }) = images.get(current) else { break };
                let on_host = match images.get(from) {
                    Some(Image::Host { .. }) => {
                        self.root.get("images").and_then(|images| images.get(from.as_str())?.get("host")).is_some()
                    }
                    None => from.as_str() == BUILT_IN_IMAGE,
                    Some(_) => false,
                };
                if on_host && let Some(node) = self.written_from(current) {
                    let problem = WRONG_VALUE
                        .at(node.span, format!("`{from}` is made of host directories and cannot be set up"))
                        .with_help("start from an image of its own: `ref`, `build`, `archive` or `rootfs`");
                    self.problem(problem);
                }
                let Some((from, _)) = images.get_key_value(from) else { break };
                current = from;
            }
            for name in chain {
                open.insert(name, false);
            }
        }
    }

    fn written_from(&self, image: &Name) -> Option<&Node> {
        self.root.get("images")?.get(image.as_str())?.get("from")
    }
}

/// `image: host` works without an entry.
pub(super) fn add_built_in(images: &mut IndexMap<Name, Image>, sandboxes: &IndexMap<Name, Sandbox>) {
    let used = sandboxes.values().find(|sandbox| sandbox.image.as_str() == BUILT_IN_IMAGE);
    if let Some(sandbox) = used.filter(|sandbox| !images.contains_key(&sandbox.image)) {
        images.insert(sandbox.image.clone(), built_in());
    }
}

/// Host tools: what `image: host` is without an entry, and what an entry without fields is.
fn built_in() -> Image {
    Image::Host {
        dirs: ["/usr", "/lib", "/lib64"].map(PathBuf::from).into(),
        etc: ["ssl", "ca-certificates", "alternatives", "ld.so.cache"].map(str::to_owned).into(),
    }
}

/// `[registry[:port]/]path[:tag][@digest]`, by the grammar all engines share.
fn is_reference(text: &str) -> bool {
    let (rest, digest) = text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest)));
    let (registry, path) = rest
        .split_once('/')
        .filter(|(first, _)| first.contains(['.', ':']) || *first == "localhost")
        .map_or((None, rest), |(registry, path)| (Some(registry), path));
    let (path, tag) = path.rsplit_once(':').map_or((path, None), |(path, tag)| (path, Some(tag)));
    let word = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    let lower = |text: &str| {
        let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        text.starts_with(ends) && text.ends_with(ends) && text.chars().all(|c| ends(c) || "._-".contains(c))
    };
    let is_registry = |registry: &str| {
        let (host, digits) = registry.rsplit_once(':').map_or((registry, None), |(host, port)| (host, Some(port)));
        word(host, ".-") && !host.starts_with(['.', '-']) && digits.is_none_or(|digits| port(digits).is_some())
    };
    registry.is_none_or(is_registry)
        && path.split('/').all(lower)
        && tag.is_none_or(|tag| tag.len() <= 128 && word(tag, "_.-") && !tag.starts_with(['.', '-']))
        && digest.is_none_or(|digest| {
            digest.split_once(':').is_some_and(|(kind, hash)| {
                word(kind, "+._-") && hash.len() >= 32 && hash.chars().all(|c| c.is_ascii_hexdigit())
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_references() {
        let digest = format!("debian@sha256:{}", "0".repeat(64));
        for good in [
            "debian",
            "debian:12",
            "docker.io/library/debian:bookworm",
            "localhost:5000/a/b_c:1.0",
            &digest,
            "ghcr.io/a/b",
        ] {
            assert!(is_reference(good), "{good}");
        }
        for bad in [
            "",
            "Debian",
            "https://docker.io/debian",
            "a b",
            "a/",
            "/a",
            "a:",
            "a:-x",
            "a@sha256:12",
            "-a",
            "a//b",
            "a.b:x/c",
            "a\n",
        ] {
            assert!(!is_reference(bad), "{bad}");
        }
    }
}
