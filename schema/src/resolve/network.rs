//! Networks, and what sandboxes are on them.

use std::collections::BTreeMap;

use super::reference::Kind;
use super::rule::numbered_port;
use super::{Resolver, child};
use crate::codes::{NOT_AVAILABLE, UNENFORCEABLE, WRONG_VALUE};
use crate::config::{EgressMode, Network};
use crate::document::{Entry, Node};
use crate::policy::{Inbound, PortRange};
use crate::structure::Refused;
use crate::{Name, Span, raw};

/// Most ports and ranges of one list: all of them go into the rules of each sandbox at once.
const MOST_RANGES: usize = 128;

/// The networks a sandbox is in.
#[derive(Debug, Default)]
pub(super) struct Memberships {
    pub networks: Vec<Name>,
    /// Those on which it is reached at some ports only.
    pub inbound: BTreeMap<Name, Inbound>,
    /// Where the first of these says so, and by which field.
    narrowed: Option<(&'static str, Span)>,
}

impl Resolver<'_> {
    pub(super) fn network(&mut self, entry: &Entry) -> Network {
        let raw: Option<raw::Network> = self.typed("Network", entry);
        if raw.and_then(|raw| raw.internal) == Some(false) {
            self.problem(
                NOT_AVAILABLE
                    .at(child(&entry.value, "internal").span, "networks with a way out are not available yet")
                    .with_help("write `internal: true`; `egress: { mode: open }` lets a single sandbox out"),
            );
        }
        Network { internal: true }
    }

    /// The networks of the sandbox `node`.
    pub(super) fn memberships(&mut self, node: &Node, refused: &Refused) -> Memberships {
        let mut found = Memberships::default();
        for item in node.get("networks").map(Node::items).unwrap_or_default() {
            let named = if item.as_str().is_some() { Some(item) } else { refused.right(item, "name") };
            let Some(named) = named else { continue };
            let reference = named.as_str().and_then(|text| self.reference(Kind::Network, text, named.span));
            // Also of a network that is none: one run names all that is wrong.
            let inbound = self.inbound(item, refused);
            let Some(name) = reference else { continue };
            if found.networks.contains(&name) {
                let message = format!("network `{name}` is listed twice");
                self.problem(WRONG_VALUE.at(named.span, message).with_help("remove one"));
                continue;
            }
            if let Some((inbound, field, span)) = inbound {
                found.narrowed.get_or_insert((field, span));
                found.inbound.insert(name.clone(), inbound);
            }
            found.networks.push(name);
        }
        found
    }

    /// The ports at which the sandbox is reached on the network `item`, and the first field that says so; none where that is
    /// every port.
    fn inbound(&mut self, item: &Node, refused: &Refused) -> Option<(Inbound, &'static str, Span)> {
        let field = ["ports", "udpPorts"].into_iter().find_map(|key| Some((key, item.entry(key)?.key_span)));
        let (field, span) = field?;
        let tcp = self.inbound_ports(refused.right(item, "ports"));
        let udp = self.inbound_ports(refused.right(item, "udpPorts"));
        Some((Inbound { tcp, udp }, field, span))
    }

    /// Sorted, without overlaps.
    fn inbound_ports(&mut self, list: Option<&Node>) -> Vec<PortRange> {
        let mut ports: Vec<PortRange> = Vec::new();
        for item in list.map(Node::items).unwrap_or_default() {
            ports.extend(match item.whole() {
                Some(number) => numbered_port(number),
                None => self.text(item).and_then(|text| self.port_range(&text, item.span)),
            });
        }
        let ports = PortRange::join(&ports);
        if let Some(list) = list.filter(|_| ports.len() > MOST_RANGES) {
            let message = format!("these are {} ports and ranges; there may be {MOST_RANGES} at most", ports.len());
            let help = "write ranges, or nothing but the name of the network, for every port";
            self.problem(WRONG_VALUE.at(list.span, message).with_help(help));
        }
        ports
    }

    /// Refuses ports where nothing would hold others to them.
    pub(super) fn check_served(&mut self, memberships: &Memberships, mode: EgressMode, sandbox: &Node) {
        if let (EgressMode::Open, Some((field, span))) = (mode, memberships.narrowed) {
            let message =
                format!("`{field}` decides nothing with `mode: open`: there are no rules that hold others to it");
            self.problem(
                UNENFORCEABLE
                    .at(span, message)
                    .with_help(format!("remove `{field}`, or write `mode: direct` or `mode: allowlist`"))
                    .with_related(child(child(sandbox, "egress"), "mode").span, "the mode"),
            );
        }
    }
}
