//! One rule of egress.

use std::str::FromStr;

use jiff::civil::Date;

use super::Resolver;
use super::allowlist::{Scope, Side};
use super::quantity::duration;
use crate::Span;
use crate::codes::{INVALID_RULE, RULE_EXPIRES, UNENFORCEABLE};
use crate::document::{Entry, Node, NodeKind};
use crate::policy::{HeaderEdits, HostError, HostPattern, PathPattern, Place, PortRange, Protocol, Rule};
use crate::structure::{Refused, show};

/// A rule, and where that is written of it which depends on where it is used.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub rule: Rule,
    /// Parts that only requests have, by name.
    pub requests: Vec<(&'static str, Span)>,
    /// The protocol, or the rule itself.
    pub protocol: Span,
    /// The host, or the rule itself.
    pub host: Span,
    /// Port 53 among its ports, where it is named as such.
    pub resolver: Option<Span>,
    /// The ports, or the rule itself.
    pub ports: Span,
}

/// Parts of a rule that are about HTTP requests.
const REQUESTS: &[&str] =
    &["methods", "paths", "headers", "encodedSeparators", "upgrade", "timeout", "request", "response"];

/// Parts that mean nothing in a deny rule.
const ALLOW_ONLY: &[&str] = &["encodedSeparators", "upgrade", "timeout", "request", "response", "expires"];

/// Days before its end from which a rule is warned of.
const NOTICE: i32 = 7;

impl Resolver<'_> {
    /// The rule `node`; `None` when it is not about any host that could be read.
    pub(super) fn rule(&mut self, node: &Node, refused: &Refused, scope: &Scope<'_>) -> Option<Written> {
        let right = |key: &str| refused.right(node, key);
        let span = node.entries().first().map_or(node.span, |entry| entry.key_span);
        let protocol_node = right("protocol");
        let protocol = protocol_node.and_then(|node| refused.rest(node).ok()).unwrap_or(Protocol::Auto);
        if scope.side == Side::Deny {
            for part in written(node, ALLOW_ONLY) {
                self.no_meaning_in_deny(part);
            }
        }
        let requests: Vec<(&'static str, Span)> =
            REQUESTS.iter().filter_map(|key| Some((*key, node.entry(key)?.key_span))).collect();
        if matches!(protocol, Protocol::Tcp | Protocol::Udp) {
            let named = if protocol == Protocol::Tcp { "tcp" } else { "udp" };
            for (part, span) in &requests {
                let problem = UNENFORCEABLE
                    .at(
                        *span,
                        format!("`{part}` cannot be enforced with `protocol: {named}`: nothing looks at what is said"),
                    )
                    .with_help(format!("remove `{part}`, or write `protocol: http`"));
                self.problem(match protocol_node {
                    Some(node) => problem.with_related(node.span, "the protocol"),
                    None => problem,
                });
            }
        }
        let rule = Rule {
            ports: self.ports(node, refused, protocol, scope),
            protocol,
            methods: self.each(node.get("methods"), scope, Self::method),
            paths: self.each(node.get("paths"), scope, Self::rule_path),
            headers: self.header_matches(right("headers"), scope),
            encoded_separators: is_true(right("encodedSeparators")),
            upgrade: is_true(right("upgrade")),
            timeout: right("timeout").and_then(|node| self.timeout(node, scope)),
            request: right("request").map_or_else(HeaderEdits::default, |node| self.edits(node, refused, scope)),
            response: right("response").map_or_else(HeaderEdits::default, |node| self.edits(node, refused, scope)),
            reason: right("reason").and_then(|node| self.reason(node, scope)),
            expires: right("expires").and_then(|node| self.expires(node, scope.side)),
            place: Place {
                at: self.places.locate(span).map(|place| place.to_string()).unwrap_or_default(),
                list: scope.list.map(str::to_owned),
            },
            host: {
                let host = right("host").and_then(|node| Some((self.scoped_text(node, scope)?, node)));
                host.and_then(|(text, node)| self.host_pattern(&text, node.span))?
            },
        };
        let resolver = node.entry("ports").and_then(|ports| resolver(ports, &rule.ports));
        let at = |key: &str| right(key).map_or(span, |node| node.span);
        Some(Written { rule, requests, protocol: at("protocol"), host: at("host"), ports: at("ports"), resolver })
    }

    fn no_meaning_in_deny(&mut self, part: &Entry) {
        let why = match &*part.key {
            "expires" => "a deny rule never expires",
            "encodedSeparators" => "a deny rule holds for every spelling of a path",
            _ => "a deny rule lets nothing through that could be changed",
        };
        self.problem(
            UNENFORCEABLE
                .at(part.key_span, format!("`{}` means nothing under `deny`: {why}", part.key))
                .with_help("remove it, or write the rule without it under `deny`"),
        );
    }

    /// Items of a list, also of one with others that are no text.
    fn each<T>(
        &mut self,
        list: Option<&Node>,
        scope: &Scope<'_>,
        read: impl Fn(&mut Self, &str, Span) -> Option<T>,
    ) -> Vec<T> {
        let items = list.map(Node::items).unwrap_or_default();
        items
            .iter()
            .filter_map(|item| {
                let text = self.scoped_text(item, scope)?;
                read(self, &text, item.span)
            })
            .collect()
    }

    /// `text`, written at `span`, as a pattern of hosts.
    pub(super) fn host_pattern(&mut self, text: &str, span: Span) -> Option<HostPattern> {
        match HostPattern::from_str(text) {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                let message = format!("`{}` names no hosts: {error}", show(text));
                self.problem(INVALID_RULE.at(span, message).with_help(host_help(text, &error)));
                None
            }
        }
    }

    /// Sorted, without overlaps.
    fn ports(&mut self, node: &Node, refused: &Refused, protocol: Protocol, scope: &Scope<'_>) -> Vec<PortRange> {
        if node.get("ports").is_none() {
            if scope.side == Side::Deny {
                return PortRange::ALL.to_vec();
            }
            if let Some(at) =
                refused.right(node, "protocol").filter(|_| matches!(protocol, Protocol::Tcp | Protocol::Udp))
            {
                let named = show(at.as_str().unwrap_or_default());
                self.problem(
                    INVALID_RULE
                        .at(at.span, format!("a rule for `{named}` names its ports"))
                        .with_help("add `ports: [5432]`; 80 and 443 are the default for the web only"),
                );
            }
            return PortRange::WEB.to_vec();
        }
        let items = node.get("ports").map(Node::items).unwrap_or_default();
        let mut ports: Vec<PortRange> = Vec::with_capacity(items.len());
        for item in items {
            let range = match item.whole() {
                Some(number) => numbered_port(number),
                None => self.scoped_text(item, scope).and_then(|text| self.port_range(&text, item.span)),
            };
            ports.extend(range);
        }
        // All wrong, or parameters that nobody has given yet: nothing comes of such a rule.
        if ports.is_empty() { PortRange::WEB.to_vec() } else { PortRange::join(&ports) }
    }

    /// `text`, written at `span`, as a port or a range of ports.
    pub(super) fn port_range(&mut self, text: &str, span: Span) -> Option<PortRange> {
        let range = match text.split_once('-') {
            Some((first, last)) => port(first).zip(port(last)).map(|(first, last)| PortRange { first, last }),
            None => port(text).map(PortRange::one),
        };
        let (message, help) = match range {
            Some(range) if range.first <= range.last => return Some(range),
            Some(PortRange { first, last }) => {
                (format!("the range `{}` ends before it begins", show(text)), format!("write `{last}-{first}`"))
            }
            None => {
                let help = "write a number from 1 to 65535, or a range: `8000-8010`".to_owned();
                (format!("`{}` is neither a port nor a range of ports", show(text)), help)
            }
        };
        self.problem(INVALID_RULE.at(span, message).with_help(help));
        None
    }

    /// `text`, written at `span`, as an HTTP method.
    pub(super) fn method(&mut self, text: &str, span: Span) -> Option<String> {
        let (message, help) = if !is_token(text) {
            (format!("`{}` is not an HTTP method", show(text)), "write one word for each: `[GET, HEAD]`".to_owned())
        } else if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
            let help = format!("methods are upper case: write `{}`", text.to_ascii_uppercase());
            (format!("`{text}` is a method that no server knows"), help)
        } else if text == "CONNECT" {
            let help = "host and ports decide what can be connected to; remove it".to_owned();
            ("`CONNECT` makes a tunnel and is no request to a host".to_owned(), help)
        } else {
            return Some(text.to_owned());
        };
        self.problem(INVALID_RULE.at(span, message).with_help(help));
        None
    }

    /// `text`, written at `span`, as a pattern of paths.
    pub(super) fn rule_path(&mut self, text: &str, span: Span) -> Option<PathPattern> {
        match PathPattern::from_str(text) {
            Ok(path) => Some(path),
            Err(error) => {
                let help = if text.starts_with('/') {
                    "write the path as it is without query, `.` and `..`; `*` is any text within a segment, `**` any text"
                        .to_owned()
                } else {
                    format!("write `/{}`", show(text))
                };
                self.problem(
                    INVALID_RULE.at(span, format!("`{}` matches no path: {error}", show(text))).with_help(help),
                );
                None
            }
        }
    }

    fn timeout(&mut self, node: &Node, scope: &Scope<'_>) -> Option<std::time::Duration> {
        let text = self.scoped_text(node, scope)?;
        let timeout = duration(&text);
        if timeout.is_none() {
            let message = format!("`{}` is not a duration", show(&text));
            self.problem(
                INVALID_RULE
                    .at(node.span, message)
                    .with_help("write numbers with `s`, `m`, `h`, `d` or `w`: `30s`, `1m30s`"),
            );
        }
        timeout
    }

    fn reason(&mut self, node: &Node, scope: &Scope<'_>) -> Option<String> {
        let text = self.scoped_text(node, scope)?;
        if text.chars().any(char::is_control) {
            let message = "the reason has a line break or another control character";
            self.problem(INVALID_RULE.at(node.span, message).with_help("write it on one line"));
        }
        Some(text)
    }

    fn expires(&mut self, node: &Node, side: Side) -> Option<Date> {
        let text = node.as_str()?;
        // Other spellings of ISO 8601 are not for people.
        let parts: Vec<usize> = text.split('-').map(str::len).collect();
        let Some(last) = text.parse::<Date>().ok().filter(|_| parts == [4, 2, 2]) else {
            let message = format!("`{}` is not a date", show(text));
            self.problem(INVALID_RULE.at(node.span, message).with_help("write year, month and day: `2027-06-30`"));
            return None;
        };
        if side == Side::Deny {
            return None;
        }
        let left = self.caller.today.until(last).map_or(i32::MAX, |span| span.get_days());
        let message = match left {
            i32::MIN..0 => format!("the rule expired on {last}: it allows nothing"),
            0 => "the rule holds until the end of today (UTC)".to_owned(),
            1 => format!("the rule expires tomorrow, on {last}"),
            2..=NOTICE => format!("the rule expires on {last}, in {left} days"),
            _ => return Some(last),
        };
        self.problem(RULE_EXPIRES.at(node.span, message).with_help("remove the rule, or move the date"));
        Some(last)
    }
}

/// Entries of `node` that are among `keys`.
fn written<'n>(node: &'n Node, keys: &[&str]) -> impl Iterator<Item = &'n Entry> {
    keys.iter().filter_map(|key| node.entry(key))
}

/// Where `written` names port 53, and not a range that happens to hold it. `ports` are what came of it.
fn resolver(written: &Entry, ports: &[PortRange]) -> Option<Span> {
    let named = written.value.items().iter().find(|item| item.whole() == Some(53) || item.as_str() == Some("53"));
    // By a parameter.
    let alone = ports == [PortRange::one(53)];
    named.map(|item| item.span).or(alone.then_some(written.key_span))
}

fn is_true(node: Option<&Node>) -> bool {
    matches!(node.map(|node| &node.kind), Some(NodeKind::Bool(true)))
}

/// Whether `text` is a token of HTTP: a method, the name of a header.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// `number` as a port; the structural check has said what is wrong with one that is none.
pub(super) fn numbered_port(number: i64) -> Option<PortRange> {
    u16::try_from(number).ok().filter(|port| *port != 0).map(PortRange::one)
}

/// `text` as a port: digits, and not 0.
pub(super) fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse::<u16>().ok().filter(|port| digits && *port != 0)
}

/// What to write instead of `text`, which names no hosts.
fn host_help(text: &str, error: &HostError) -> String {
    if let Some((_, rest)) = text.split_once("://") {
        let host = rest.split(['/', ':', '?', '#']).next().unwrap_or_default();
        return format!("write the host alone: `{}`; paths go under `paths`, ports under `ports`", show(host));
    }
    if let HostError::NetworkBits { meant, .. } = error {
        return format!("write `{meant}`, or the address alone");
    }
    if let Some((host, port)) = text.split_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
    {
        return format!("write `host: {}, ports: [{}]`", show(host), show(port));
    }
    if let Some((host, path)) =
        text.split_once('/').filter(|(host, _)| host.contains(|c: char| c.is_ascii_alphabetic()))
    {
        return format!("write `host: {}, paths: [\"/{}\"]`", show(host), show(path));
    }
    match (error, text) {
        (HostError::Star, "*") => "write `**` for every name".to_owned(),
        (HostError::Star, _) => "write `*.example.org` for one label, `**.example.org` for one or more".to_owned(),
        (_, text) if text.starts_with('.') => format!("write `**{}` for everything below it", show(text)),
        _ => "write a name (`example.org`), `*.` or `**.` and a name, an address or a range of addresses".to_owned(),
    }
}
