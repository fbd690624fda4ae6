//! What leaves a sandbox, or a set-up of an image.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Resolver;
use super::allowlist::Side;
use super::rule::{Written, port};
use crate::Span;
use crate::codes::{INVALID_RULE, OPEN_EGRESS, TOO_MANY_UDP_PORTS, UNENFORCEABLE};
use crate::config::{Egress, EgressMode, Transport};
use crate::document::{Entry, Node, NodeKind};
use crate::policy::{DnsName, Host, HostPattern, MOST_UDP_PORTS, Policy, PortRange, Protocol, Rule, Upstream};
use crate::structure::{Refused, show};

/// Fields of egress that only a proxy or a filter can act on.
const SERVED: &[&str] = &["allow", "deny", "upstream", "hosts", "dial", "transport"];

/// The first of the fields in [`SERVED`] that a layer wrote since one wrote the mode: a mode that serves nothing takes
/// away what lies beneath it, never what is written beside or above it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SinceMode(Option<(&'static str, Span)>);

impl SinceMode {
    /// With the layer `node`, the body of a sandbox, on top.
    pub(super) fn with(self, node: &Node) -> Self {
        node.get("egress").map_or(self, |egress| self.with_egress(egress))
    }

    fn with_egress(self, egress: &Node) -> Self {
        let mode = egress.get("mode").map(|mode| mode.span.source);
        let since = self.0.filter(|_| mode.is_none());
        let field = |key: &&'static str| {
            let entry = egress.entry(key)?;
            let nothing = matches!(&entry.value.kind, NodeKind::Sequence(items) if items.is_empty());
            // Of several files that are one layer, the later ones are above.
            let beneath = mode.is_some_and(|mode| entry.key_span.source < mode);
            (!nothing && !beneath).then_some((*key, entry.key_span))
        };
        Self(since.or_else(|| SERVED.iter().find_map(field)))
    }
}

impl Resolver<'_> {
    /// Egress of a sandbox; `entry` is its field, `span` stands for it where it is not written.
    pub(super) fn egress(&mut self, entry: Option<&Entry>, refused: &Refused, since: SinceMode, span: Span) -> Egress {
        let Some(entry) = entry else { return Egress::default() };
        let node = &entry.value;
        let mode_node = refused.right(node, "mode");
        let mode: EgressMode = mode_node.and_then(|node| refused.rest(node).ok()).unwrap_or_default();
        let mode_span = mode_node.map_or(span, |node| node.span);
        if mode == EgressMode::Open {
            self.problem(
                OPEN_EGRESS
                    .at(mode_span, "everything the engine's network reaches is open to this sandbox")
                    .with_help("name what is needed under `allow` instead: code inside can send out all it can read"),
            );
        }
        if let (EgressMode::None | EgressMode::Open, Some((field, at))) = (mode, since.0) {
            let mode = mode.as_str();
            self.problem(
                UNENFORCEABLE
                    .at(at, format!("`{field}` decides nothing with `mode: {mode}`"))
                    .with_help(format!("remove `{field}`, or write `mode: allowlist` beside it"))
                    .with_related(mode_span, "the mode"),
            );
        }
        let allow = self.rules(node.get("allow"), refused, Side::Allow);
        let deny = self.rules(node.get("deny"), refused, Side::Deny);
        let upstream = self.upstream(refused.right(node, "upstream"), refused);
        if mode == EgressMode::Direct {
            self.check_direct(&allow, &deny, node, mode_span);
        }
        if mode == EgressMode::Allowlist {
            self.check_udp_ports(&allow);
        }
        let transport: Transport =
            refused.right(node, "transport").and_then(|node| refused.rest(node).ok()).unwrap_or_default();
        let is_served = matches!(mode, EgressMode::Allowlist | EgressMode::Direct);
        if is_served && transport == Transport::Transparent {
            self.check_ways(&allow, mode, mode_span);
        }
        let carriers = [
            ("upstream", matches!(upstream, Upstream::Http(_)), "an HTTP proxy", "the proxy"),
            // Datagrams by SOCKS5 exist on paper; the dialler asks for connections only.
            ("upstream", matches!(upstream, Upstream::Socks5(_)), "a SOCKS5 proxy", "the proxy"),
            ("transport", transport == Transport::Socket, "a socket for HTTP", "the transport"),
        ];
        for (field, _, carrier, related) in carriers.into_iter().filter(|(_, is, ..)| *is) {
            for rule in allow.iter().filter(|rule| rule.rule.protocol == Protocol::Udp) {
                self.problem(
                    UNENFORCEABLE
                        .at(rule.protocol, format!("{carrier} carries no datagrams"))
                        .with_help("remove the rule, or reach the outside another way")
                        .with_related(node.entry(field).map_or(span, |entry| entry.key_span), related),
                );
            }
        }
        let rules = |written: Vec<Written>| -> Vec<Rule> { written.into_iter().map(|written| written.rule).collect() };
        let policy = Policy {
            allow: rules(allow),
            deny: rules(deny),
            hosts: self.hosts(refused.right(node, "hosts")),
            dial_allow: self.dial(refused.right(node, "dial"), refused),
            upstream,
            // What sandboxes say of their networks is not written here.
            inbound: BTreeMap::new(),
        };
        match mode {
            EgressMode::Allowlist | EgressMode::Direct => Egress { mode, policy, transport },
            EgressMode::None | EgressMode::Open => Egress { mode, ..Egress::default() },
        }
    }

    /// Egress of a set-up, which nothing lies beneath.
    pub(super) fn setup_egress(&mut self, setup: &Node, refused: &Refused) -> Egress {
        let entry = setup.entry("egress");
        let since = entry.map_or_else(SinceMode::default, |entry| SinceMode::default().with_egress(&entry.value));
        let egress = self.egress(entry, refused, since, setup.span);
        let field = |key: &str| entry.and_then(|entry| entry.value.get(key)).map_or(setup.span, |node| node.span);
        if egress.mode == EgressMode::Direct {
            self.problem(
                UNENFORCEABLE
                    .at(field("mode"), "a set-up has no `mode: direct`")
                    .with_help("write `allowlist`, which is stronger"),
            );
        }
        if egress.transport == Transport::Socket {
            self.problem(
                UNENFORCEABLE
                    .at(field("transport"), "a set-up has no `transport: socket`")
                    .with_help("remove it: connections come to the proxy by themselves"),
            );
        }
        egress
    }

    /// Rules about what the namespace's own rules lead elsewhere, or refuse before anybody asks.
    fn check_ways(&mut self, allow: &[Written], mode: EgressMode, at: Span) {
        for Written { rule, protocol, host, resolver, .. } in allow {
            if let Some(port) = resolver {
                self.problem(
                    UNENFORCEABLE
                        .at(*port, "port 53 leads to the sandbox's own resolver, never to this host")
                        .with_help("remove it: the resolver answers for the names that rules allow"),
                );
            }
            let datagrams = rule.protocol == Protocol::Udp && matches!(rule.host, HostPattern::Network(_));
            if datagrams && mode == EgressMode::Allowlist {
                self.problem(
                    UNENFORCEABLE
                        .at(*host, "with `mode: allowlist` datagrams go to names, never to addresses")
                        .with_help(
                            "write the rule for a name, whose addresses `hosts` can say, or write `mode: direct`",
                        )
                        .with_related(*protocol, "the protocol")
                        .with_related(at, "the mode"),
                );
            }
        }
    }

    /// Ports for datagrams that would take more sockets than one sandbox is given.
    fn check_udp_ports(&mut self, allow: &[Written]) {
        let mut ports: Vec<PortRange> = Vec::new();
        for written in allow.iter().filter(|written| written.rule.protocol == Protocol::Udp) {
            ports = PortRange::join(ports.iter().chain(&written.rule.ports));
            let count: usize = ports.iter().map(|range| range.count()).sum();
            if count > MOST_UDP_PORTS {
                let message = format!(
                    "with this rule the sandbox has {count} ports for datagrams; it may have {MOST_UDP_PORTS} at most"
                );
                let help = "name the ports that are needed; with `mode: direct` there may be any number";
                self.problem(TOO_MANY_UDP_PORTS.at(written.ports, message).with_help(help));
                return;
            }
        }
    }

    /// What a packet filter cannot see.
    fn check_direct(&mut self, allow: &[Written], deny: &[Written], egress: &Node, mode: Span) {
        let mut refuse = |span: Span, what: &str| {
            let problem = UNENFORCEABLE
                .at(
                    span,
                    format!("{what} cannot be enforced with `mode: direct`, which knows addresses and ports only"),
                )
                .with_help("remove it, or write `mode: allowlist`")
                .with_related(mode, "the mode");
            self.problem(problem);
        };
        for written in allow.iter().chain(deny) {
            for (part, span) in &written.requests {
                refuse(*span, &format!("`{part}`"));
            }
            match written.rule.protocol {
                Protocol::Http => refuse(written.protocol, "`protocol: http`"),
                Protocol::Tls => refuse(written.protocol, "`protocol: tls`"),
                Protocol::Auto | Protocol::Tcp | Protocol::Udp => {}
            }
        }
        for key in ["upstream", "transport"] {
            if let Some(entry) = egress.entry(key) {
                refuse(entry.key_span, &format!("`{key}`"));
            }
        }
    }

    fn upstream(&mut self, node: Option<&Node>, refused: &Refused) -> Upstream {
        let Some(node) = node else { return Upstream::Direct };
        if let Some(node) = refused.right(node, "netns") {
            return self.path(node).map_or(Upstream::Direct, Upstream::Netns);
        }
        if let Some(node) = refused.right(node, "proxy") {
            return self.address(node, "http").map_or(Upstream::Direct, Upstream::Http);
        }
        if let Some(node) = refused.right(node, "socks5") {
            return self.address(node, "socks5").map_or(Upstream::Direct, Upstream::Socks5);
        }
        Upstream::Direct
    }

    /// `host:port`, with `scheme://` before it or not.
    fn address(&mut self, node: &Node, scheme: &str) -> Option<String> {
        let text = self.text(node)?;
        let (written, rest) = text.split_once("://").map_or((scheme, text.as_str()), |(scheme, rest)| (scheme, rest));
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let problem = if rest.contains('@') {
            "a name or password has no place in the address of a proxy".to_owned()
        } else if written != scheme {
            format!("`{}` is not a way to speak to this proxy", show(written))
        } else {
            let parts = rest.rsplit_once(':').map(|(host, digits)| (host.parse::<Host>(), port(digits)));
            match parts {
                // `2001:db8::1:3128` could be either.
                Some((Ok(Host::Address(IpAddr::V6(_))), _)) if !rest.starts_with('[') => {
                    format!("`{}` has no brackets around its address", show(&text))
                }
                Some((Ok(Host::Address(IpAddr::V6(address))), Some(port))) => {
                    return Some(format!("[{address}]:{port}"));
                }
                Some((Ok(host), Some(port))) => return Some(format!("{host}:{port}")),
                Some((Err(error), _)) => format!("`{}` is not the address of a proxy: {error}", show(&text)),
                _ => format!("`{}` does not say which port", show(&text)),
            }
        };
        self.problem(
            INVALID_RULE.at(node.span, problem).with_help(format!("write `{scheme}://proxy.example.com:3128`")),
        );
        None
    }

    fn hosts(&mut self, node: Option<&Node>) -> BTreeMap<DnsName, Vec<IpAddr>> {
        let mut hosts = BTreeMap::new();
        for entry in node.map(Node::entries).unwrap_or_default() {
            let name = match entry.key.parse::<DnsName>() {
                Ok(name) => Some(name),
                Err(error) => {
                    let message = format!("`{}` is not a name: {error}", show(&entry.key));
                    self.problem(
                        INVALID_RULE.at(entry.key_span, message).with_help("write the whole name, without stars"),
                    );
                    None
                }
            };
            let mut addresses: Vec<IpAddr> = Vec::new();
            for item in entry.value.items() {
                let Some(text) = self.text(item) else { continue };
                match text.parse::<IpAddr>() {
                    Ok(address) => addresses.push(address.to_canonical()),
                    Err(_) => self.problem(
                        INVALID_RULE
                            .at(item.span, format!("`{}` is not an address", show(&text)))
                            .with_help("write an IPv4 or IPv6 address: `10.1.2.3`, `2001:db8::1`"),
                    ),
                }
            }
            if let Some(name) = name
                && hosts.insert(name, addresses).is_some()
            {
                self.problem(
                    INVALID_RULE
                        .at(entry.key_span, format!("`{}` is there twice, in another spelling", show(&entry.key)))
                        .with_help("keep one"),
                );
            }
        }
        hosts
    }

    fn dial(&mut self, node: Option<&Node>, refused: &Refused) -> Vec<IpNet> {
        let ranges = node.and_then(|node| refused.right(node, "allowRanges")).map(Node::items).unwrap_or_default();
        let mut networks = Vec::with_capacity(ranges.len());
        for item in ranges {
            let Some(text) = self.text(item) else { continue };
            match text.parse() {
                Ok(HostPattern::Network(network)) => networks.push(network),
                Ok(_) => self.problem(
                    INVALID_RULE
                        .at(item.span, format!("`{}` is not a range of addresses", show(&text)))
                        .with_help("write an address or a range: `10.1.2.0/24`"),
                ),
                Err(error) => self.problem(
                    INVALID_RULE
                        .at(item.span, format!("`{}` is not a range of addresses: {error}", show(&text)))
                        .with_help("write an address or a range: `10.1.2.0/24`"),
                ),
            }
        }
        networks
    }
}
