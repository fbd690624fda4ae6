//! From the checked tree to [`Config`]: layers merged, variables and paths expanded, references followed, and everything
//! said that can be said without looking at the host.
//!
//! Every function reports what is wrong and goes on with a stand-in, so that one run finds everything; the result counts
//! only when there were no errors. With errors its policies and assertions can still be judged ([`sound`]).

use std::collections::HashMap;

use indexmap::IndexMap;
use serde::de::DeserializeOwned;

use crate::codes::{INVALID_NAME, UNSUPPORTED_VERSION, WRONG_TYPE};
use crate::config::{Config, Origins, Quotas, Sandbox, Volume};
use crate::document::{Entry, Node};
use crate::report::Locator;
use crate::structure::{Check, Extent, Refused, show};
use crate::{Caller, Diagnostic, Name, Sources, Span, raw};

mod advice;
mod allowlist;
mod check;
mod device;
mod egress;
mod environment;
mod header;
mod image;
mod layers;
mod mount;
mod network;
mod path;
mod quantity;
mod reference;
mod rule;
mod sandbox;
mod secret;
mod security;
mod sound;
mod user;
mod worktree;

use allowlist::Allowlists;
use check::Copies;
use layers::Layers;
use path::Guarded;
pub use path::{KERNELS, WELL_KNOWN_SOCKETS};
use reference::Known;
use worktree::Claims;

/// State of one run.
pub(crate) struct Resolver<'a> {
    sources: &'a Sources,
    caller: &'a Caller,
    root: &'a Node,
    places: Locator<'a>,
    problems: Vec<Diagnostic>,
    known: Known<'a>,
    layers: Layers<'a>,
    allowlists: Allowlists<'a>,
    claims: Claims,
    origins: Origins,
    guarded: Guarded,
    /// How many there are so far, replicas counted.
    sandboxes: u32,
    /// Whether a sandbox was left without what it reaches, as that did not come out as it was written.
    unsound: bool,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(sources: &'a Sources, caller: &'a Caller, root: &'a Node) -> Self {
        Self {
            sources,
            caller,
            root,
            places: Locator::new(sources),
            problems: Vec::new(),
            known: Known::of(root),
            layers: Layers::of(root),
            allowlists: Allowlists::default(),
            claims: Claims::default(),
            origins: Origins::of(sources.iter().map(|source| source.name.clone()).collect()),
            guarded: Guarded::of(caller),
            sandboxes: 0,
            unsound: false,
        }
    }

    pub(crate) fn into_problems(self) -> Vec<Diagnostic> {
        self.problems
    }

    /// The configuration, as far as it could be made out.
    pub(crate) fn config(&mut self) -> Config {
        let root = self.root;
        let refused = Check::new(Extent::Whole, &mut self.problems).top(root);
        self.version();
        let project = root.entry("project").and_then(|entry| {
            self.origin("project", entry.key_span);
            self.name("project", entry.value.as_str()?, entry.value.span)
        });
        let quotas = self.quotas();
        self.check_layers();
        self.check_allowlists();

        let mut images = self.section("images", Self::image);
        let secrets = self.section("secrets", Self::secret);
        let volumes = self.section("volumes", |resolver, entry| {
            resolver.typed::<raw::Volume>("Volume", entry);
            Volume {}
        });
        let networks = self.section("networks", Self::network);
        self.check_image_chains(&images);
        let (sandboxes, copies) = self.sandboxes();
        let tests = self.tests(&refused, &copies);
        let assertions = self.assertions(&refused, &sandboxes);
        image::add_built_in(&mut images, &sandboxes);
        self.warn_of_unused();
        debug_assert!(!self.unsound || self.failed_since(0), "a policy was dropped, and nobody was told why");
        let origins = std::mem::take(&mut self.origins);
        let project = project.unwrap_or_else(stand_in);
        Config { project, quotas, images, secrets, volumes, networks, sandboxes, tests, assertions, origins }
    }

    fn version(&mut self) {
        const CURRENT: &str = "sbx/v1";
        if let Some(node) = self.root.get("apiVersion")
            && let Some(text) = node.as_str()
            && text != CURRENT
        {
            // The structural check sees a constant; that it is a version is worth a word of its own.
            self.problems.retain(|problem| problem.span != Some(node.span));
            self.problems.push(
                UNSUPPORTED_VERSION
                    .at(node.span, format!("version `{}` of the language is not known", show(text)))
                    .with_help(format!("write `apiVersion: {CURRENT}`; a newer version needs a newer `sbx`")),
            );
        }
    }

    fn quotas(&mut self) -> Quotas {
        let entry = self.root.entry("quotas");
        let raw = entry.and_then(|entry| {
            self.origin("quotas", entry.key_span);
            self.typed::<raw::Quotas>("Quotas", entry)
        });
        let raw = raw.unwrap_or_default();
        Quotas { per_owner: raw.per_owner.unwrap_or(5), total: raw.total.unwrap_or(7) }
    }

    /// Every entry of a top-level mapping under its checked name.
    fn section<T>(
        &mut self,
        key: &'static str,
        mut resolve: impl FnMut(&mut Self, &'a Entry) -> T,
    ) -> IndexMap<Name, T> {
        let entries = self.root.get(key).map(Node::entries).unwrap_or_default();
        let mut resolved = IndexMap::with_capacity(entries.len());
        for entry in entries {
            let name = self.name(kind_of(key), &entry.key, entry.key_span);
            let value = resolve(self, entry);
            if let Some(name) = name {
                self.origin(format!("{key}.{name}"), entry.key_span);
                resolved.insert(name, value);
            }
        }
        resolved
    }

    fn sandboxes(&mut self) -> (IndexMap<Name, Sandbox>, Copies) {
        let entries = self.root.get("sandboxes").map(Node::entries).unwrap_or_default();
        let mut sandboxes = IndexMap::with_capacity(entries.len());
        let mut written: HashMap<Name, Span> = HashMap::with_capacity(entries.len());
        let mut copies = Copies::with_capacity(entries.len());
        for entry in entries {
            let name = self.name("sandbox", &entry.key, entry.key_span);
            let names = copies.entry(entry.key.to_string()).or_default();
            for sandbox in self.sandbox(entry, name) {
                self.claim_name(&mut written, &sandbox.name, entry.key_span);
                names.push(sandbox.name.clone());
                sandboxes.insert(sandbox.name.clone(), sandbox);
            }
        }
        (sandboxes, copies)
    }

    /// The value of `entry` as a type of `raw`: the fields that are right.
    fn typed<T: DeserializeOwned>(&mut self, definition: &str, entry: &Entry) -> Option<T> {
        self.typed_node(definition, &entry.key, entry.key_span, &entry.value)
    }

    fn typed_node<T: DeserializeOwned>(
        &mut self,
        definition: &str,
        key: &str,
        key_span: Span,
        node: &Node,
    ) -> Option<T> {
        self.checked(definition, key, key_span, node).map(|(typed, _)| typed)
    }

    /// The value of `node` as a type of `raw`, and what of it is refused.
    fn checked<T: DeserializeOwned>(
        &mut self,
        definition: &str,
        key: &str,
        key_span: Span,
        node: &Node,
    ) -> Option<(T, Refused)> {
        let refused = Check::new(Extent::Whole, &mut self.problems).definition(definition, key, key_span, node)?;
        match refused.rest(node) {
            Ok(typed) => Some((typed, refused)),
            // The check is made from the same types; should they ever disagree, nothing is taken on trust.
            Err(error) => {
                self.problems.push(WRONG_TYPE.at(key_span, format!("`{}`: {error}", show(key))));
                None
            }
        }
    }

    /// `text` as a name of a `kind`.
    fn name(&mut self, kind: &str, text: &str, span: Span) -> Option<Name> {
        match Name::new(text) {
            Ok(name) => Some(name),
            Err(error) => {
                let help = match like_a_name(text) {
                    Some(name) => format!("for example `{name}`"),
                    None => "3 to 63 of a-z, 0-9 and -, first a letter, last not a -, no --".to_owned(),
                };
                self.problems.push(
                    INVALID_NAME
                        .at(span, format!("`{}` cannot name {} {kind}: {error}", show(text), article(kind)))
                        .with_help(help),
                );
                None
            }
        }
    }

    fn origin(&mut self, path: impl Into<String>, span: Span) {
        if let Some(place) = self.places.place(span) {
            self.origins.insert(path, place);
        }
    }

    fn problem(&mut self, problem: Diagnostic) {
        self.problems.push(problem);
    }
}

/// Stands where no name could be read, which was reported.
fn stand_in() -> Name {
    Name::new("stand-in").expect("a name")
}

/// The nearest text that is a name.
fn like_a_name(text: &str) -> Option<Name> {
    let mut name = String::new();
    for c in text.chars().take(63) {
        let c = c.to_ascii_lowercase();
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    let name = name.trim_start_matches(|c: char| !c.is_ascii_lowercase()).trim_end_matches('-');
    Name::new(name).ok()
}

fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

fn kind_of(section: &str) -> &str {
    section.strip_suffix('s').unwrap_or(section)
}

/// The node of a field, or the mapping it would be in.
fn child<'n>(node: &'n Node, key: &str) -> &'n Node {
    node.get(key).unwrap_or(node)
}
