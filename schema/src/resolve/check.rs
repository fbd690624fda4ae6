//! `tests` and `assert`: what the file demands of its own policies.

use std::collections::HashMap;

use indexmap::IndexMap;

use super::Resolver;
use super::reference::Kind;
use super::sound::is_right;
use crate::codes::{INVALID_TARGET, MATCHES_NOTHING, UNKNOWN_REFERENCE, WRONG_VALUE};
use crate::config::{Assertion, Exception, Expectation, NameGlob, PolicyTest, Reach, Sandbox};
use crate::document::{Entry, Node};
use crate::policy::{Target, TargetError};
use crate::structure::{Refused, show};
use crate::suggest::did_you_mean;
use crate::{Location, Name};

/// Names of sandboxes: as they are written, and those they come to.
pub(super) type Copies = HashMap<String, Vec<Name>>;

impl Resolver<'_> {
    /// The entries of `tests`.
    pub(super) fn tests(&mut self, refused: &Refused, copies: &Copies) -> Vec<PolicyTest> {
        let items = self.root.get("tests").map(Node::items).unwrap_or_default();
        items.iter().filter_map(|item| self.test(item, refused, copies)).collect()
    }

    fn test(&mut self, item: &Node, refused: &Refused, copies: &Copies) -> Option<PolicyTest> {
        let sandboxes = refused.right(item, "sandbox").and_then(|node| self.tested(node, copies));
        let (expect, node) = [("allow", Expectation::Allow), ("deny", Expectation::Deny)]
            .into_iter()
            .find_map(|(key, expect)| Some((expect, refused.right(item, key)?)))?;
        let written = self.text(node)?;
        let (method, target) = self.target(&written, node)?;
        Some(PolicyTest { sandboxes: sandboxes?, expect, written, method, target, at: self.place_of(item) })
    }

    /// The sandboxes a test names.
    fn tested(&mut self, node: &Node, copies: &Copies) -> Option<Vec<Name>> {
        let text = node.as_str()?;
        if let Some(names) = copies.get(text) {
            return Some(names.clone());
        }
        let single = copies.values().flatten().find(|name| name.as_str() == text);
        if let Some(name) = single {
            return Some(vec![name.clone()]);
        }
        let mut names: Vec<&str> = copies.keys().map(String::as_str).collect();
        names.sort_unstable();
        let help = match did_you_mean(text, names.into_iter()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "write the name of an entry of `sandboxes`, or of one of its replicas".to_owned(),
        };
        self.problem(UNKNOWN_REFERENCE.at(node.span, format!("there is no sandbox `{}`", show(text))).with_help(help));
        None
    }

    /// `text`, of `node`, as a target with the method before it.
    fn target(&mut self, text: &str, node: &Node) -> Option<(Option<String>, Target)> {
        let (method, url) = match text.split_once(' ') {
            Some((method, url)) => (Some(self.method(method, node.span)?), url.trim_start()),
            None => (None, text),
        };
        match Target::parse(url) {
            Ok(target) if target.path.is_some() => Some((Some(method.unwrap_or_else(|| "GET".to_owned())), target)),
            Ok(target) if method.is_none() => Some((None, target)),
            Ok(target) => {
                let message = format!("`{}` has no methods", show(&target.scheme));
                self.problem(INVALID_TARGET.at(node.span, message).with_help(format!("write `{}` alone", show(url))));
                None
            }
            Err(error) => {
                let help = match error {
                    TargetError::Scheme => format!("for the web write `https://{}`", show(url.trim_start_matches('/'))),
                    TargetError::Port => "write the port after the host: `tcp://db.example.com:5432`".to_owned(),
                    _ => "write a method, if it matters, and a URL: `POST https://api.example.com/v1/items`".to_owned(),
                };
                let message = format!("`{}` is not a target: {error}", show(text));
                self.problem(INVALID_TARGET.at(node.span, message).with_help(help));
                None
            }
        }
    }

    /// The entries of `assert`.
    pub(super) fn assertions(&mut self, refused: &Refused, sandboxes: &IndexMap<Name, Sandbox>) -> Vec<Assertion> {
        let items = self.root.get("assert").map(Node::items).unwrap_or_default();
        items.iter().filter_map(|item| self.assertion(item, refused, sandboxes)).collect()
    }

    /// Of an assertion that is not right nothing can be said: without one of its parts it demands more.
    fn assertion(&mut self, item: &Node, refused: &Refused, sandboxes: &IndexMap<Name, Sandbox>) -> Option<Assertion> {
        let before = self.said();
        let never = refused.right(item, "never")?;
        let glob = refused.right(never, "sandbox").and_then(|node| Some((self.name_glob(node)?, node)));
        let items = refused.right(never, "reaches").map(Node::items).unwrap_or_default();
        let reaches: Vec<Reach> = items.iter().filter_map(|item| self.reach(item)).collect();
        let unless = refused.right(item, "unless");
        let unless = Exception {
            egress: unless.and_then(|unless| refused.right(unless, "egress")).and_then(|node| refused.rest(node).ok()),
            sandboxes: unless.and_then(|unless| refused.right(unless, "sandbox")).and_then(|node| self.name_glob(node)),
        };
        let whole = reaches.len() == items.len() && !self.failed_since(before) && is_right("Assertion", item);
        let (glob, node) = glob?;
        if !sandboxes.keys().any(|name| glob.matches(name)) {
            self.problem(
                MATCHES_NOTHING
                    .at(node.span, format!("no sandbox is named like `{}`", glob.as_str()))
                    .with_help("correct it, or remove the assertion: it cannot fail"),
            );
        }
        whole.then(|| Assertion { sandboxes: glob, reaches, unless, at: self.place_of(item) })
    }

    fn name_glob(&mut self, node: &Node) -> Option<NameGlob> {
        let text = node.as_str()?;
        let glob = NameGlob::new(text);
        if glob.is_none() {
            self.problem(
                WRONG_VALUE
                    .at(node.span, format!("`{}` matches no name of a sandbox", show(text)))
                    .with_help("write a name, with `*` for any text: `web-*`"),
            );
        }
        glob
    }

    /// A network, or a pattern of hosts.
    fn reach(&mut self, node: &Node) -> Option<Reach> {
        let text = self.text(node)?;
        if self.known.has(Kind::Network, &text) {
            return Name::new(text).ok().map(Reach::Network);
        }
        // One word is rather a network that is misspelled than a host.
        if Name::new(text.as_str()).is_ok() {
            self.mention(Kind::Network, &text, node.span);
            return None;
        }
        self.host_pattern(&text, node.span).map(Reach::Host)
    }

    fn place_of(&self, item: &Node) -> Location {
        let span = item.entries().first().map_or(item.span, |entry: &Entry| entry.key_span);
        self.places.locate(span).unwrap_or_default()
    }
}
