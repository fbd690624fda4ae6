//! Headers in rules.

use super::Resolver;
use super::allowlist::Scope;
use super::reference::Kind;
use super::rule::is_token;
use crate::Span;
use crate::codes::{INVALID_RULE, UNENFORCEABLE};
use crate::document::Node;
use crate::policy::{HeaderEdits, HeaderMatch, HeaderValue};
use crate::structure::{Refused, show};

/// Headers that are about a connection, how a message ends, or which host is meant: the proxy's own.
const OF_THE_PROXY: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl Resolver<'_> {
    /// Headers a request must have.
    pub(super) fn header_matches(&mut self, node: Option<&Node>, scope: &Scope<'_>) -> Vec<HeaderMatch> {
        let mut matches: Vec<HeaderMatch> = Vec::new();
        for entry in node.map(Node::entries).unwrap_or_default() {
            let seen = matches.iter().map(|known| known.name.as_str());
            let name = self.header_name(&entry.key, entry.key_span, seen);
            let value = self.header_text(&entry.value, scope);
            let (Some(name), Some(value)) = (name, value) else { continue };
            matches.push(HeaderMatch { name, value: Some(value).filter(|value| value != "*") });
        }
        matches
    }

    /// Changes to headers.
    pub(super) fn edits(&mut self, node: &Node, refused: &Refused, scope: &Scope<'_>) -> HeaderEdits {
        let mut remove: Vec<String> = Vec::new();
        for item in node.get("remove").map(Node::items).unwrap_or_default() {
            let Some(text) = self.scoped_text(item, scope) else { continue };
            remove.extend(self.header_name(&text, item.span, remove.iter().map(String::as_str)));
        }
        let set = self.header_values(refused.right(node, "set"), scope);
        let add = self.header_values(refused.right(node, "add"), scope);
        HeaderEdits { remove, set, add }
    }

    fn header_values(&mut self, node: Option<&Node>, scope: &Scope<'_>) -> Vec<(String, HeaderValue)> {
        let mut values: Vec<(String, HeaderValue)> = Vec::new();
        for entry in node.map(Node::entries).unwrap_or_default() {
            let seen = values.iter().map(|(known, _)| known.as_str());
            let name = self.header_name(&entry.key, entry.key_span, seen);
            let value = match entry.value.get("secret") {
                Some(secret) => secret.as_str().and_then(|secret_name| {
                    self.reference(Kind::Secret, secret_name, secret.span).map(HeaderValue::Secret)
                }),
                None => self.header_text(&entry.value, scope).map(HeaderValue::Text),
            };
            values.extend(name.zip(value));
        }
        values
    }

    /// `text` as the lower-case name of a header that rules may be about and that is not `seen` yet.
    fn header_name<'n>(&mut self, text: &str, span: Span, mut seen: impl Iterator<Item = &'n str>) -> Option<String> {
        let name = text.to_ascii_lowercase();
        let problem = if !is_token(text) {
            INVALID_RULE
                .at(span, format!("`{}` is not the name of a header", show(text)))
                .with_help("write the name alone: letters, digits and `-`")
        } else if OF_THE_PROXY.contains(&name.as_str()) {
            let help = match name.as_str() {
                "host" => "`host` of the rule decides it; remove this",
                "upgrade" => "write `upgrade: true` beside `host`; remove this",
                _ => "remove it",
            };
            UNENFORCEABLE
                .at(span, format!("`{name}` belongs to the connection, not to the request: the proxy writes its own"))
                .with_help(help)
        } else if seen.any(|known| known == name) {
            INVALID_RULE
                .at(span, format!("the header `{name}` is there twice"))
                .with_help("names of headers are the same in upper and lower case; remove one")
        } else {
            return Some(name);
        };
        self.problem(problem);
        None
    }

    /// The value of a header.
    fn header_text(&mut self, node: &Node, scope: &Scope<'_>) -> Option<String> {
        let text = if node.as_str().is_some() { self.scoped_text(node, scope) } else { self.scalar(node) }?;
        let bad = |byte: u8| !(matches!(byte, b'\t' | b' '..=b'~'));
        let problem = if text.bytes().any(bad) {
            "a header's value is plain ASCII on one line"
        } else if text.trim() != text {
            "a header's value does not begin or end with a blank"
        } else {
            return Some(text);
        };
        self.problem(INVALID_RULE.at(node.span, problem).with_help("write it without; other text has to be encoded"));
        None
    }
}
