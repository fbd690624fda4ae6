//! Host patterns made fast to look up: a trie of labels from the right, and tables of networks.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::{ControlFlow, Range};

use ipnet::IpNet;
use schema::policy::{DnsName, Host, HostPattern};

/// Most labels a name of 253 bytes has.
const MOST_LABELS: usize = 127;

/// A host, borrowed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Key<'a> {
    Name(&'a DnsName),
    Address(IpAddr),
}

impl<'a> From<&'a Host> for Key<'a> {
    fn from(host: &'a Host) -> Self {
        match host {
            Host::Name(name) => Self::Name(name),
            Host::Address(address) => Self::Address(*address),
        }
    }
}

/// Values by host pattern, looked up by host.
///
/// # Guarantees
/// A look-up allocates nothing and takes time in proportion to the labels of the name, each a binary search, or to the
/// networks that contain the address.
#[derive(Debug, Clone)]
pub(super) struct Hosts<T> {
    /// The first is the root, the empty name.
    nodes: Vec<Node>,
    /// Sorted within the range of a node.
    edges: Vec<Edge>,
    /// Text of all labels.
    labels: String,
    v4: Networks,
    v6: Networks,
    /// Sorted by pattern.
    values: Vec<T>,
}

/// Values of one pattern: a range of [`Hosts::values`].
#[derive(Debug, Clone, Copy, Default)]
struct Group {
    first: u32,
    end: u32,
}

/// A name that is a pattern's, or the end of one.
#[derive(Debug, Clone, Default)]
struct Node {
    edges: Group,
    exact: Group,
    one_label: Group,
    any_depth: Group,
}

#[derive(Debug, Clone, Copy)]
struct Edge {
    /// The first bytes of the label; most comparisons end here.
    head: u64,
    label: Group,
    node: u32,
}

/// Networks sorted by their first address, the wider before the narrower. They nest or are apart.
#[derive(Debug, Clone, Default)]
struct Networks(Vec<Network>);

#[derive(Debug, Clone, Copy)]
struct Network {
    first: u128,
    last: u128,
    /// The narrowest network around it.
    around: Option<u32>,
    group: Group,
}

impl<T> Hosts<T> {
    /// Of `values` with their patterns. Values of one pattern keep their order.
    pub(super) fn new(values: Vec<(&HostPattern, T)>) -> Self {
        let mut values = values;
        values.sort_by_key(|(pattern, _)| *pattern);
        let mut builder = Builder::default();
        let mut networks: [Vec<(IpNet, Group)>; 2] = Default::default();
        let mut first = 0;
        for same in values.chunk_by(|(one, _), (other, _)| one == other) {
            let group = Group { first, end: first + index(same.len()) };
            first = group.end;
            let Some((pattern, _)) = same.first() else { continue };
            match pattern {
                HostPattern::Exact(name) => builder.node(name.as_str()).exact = group,
                HostPattern::OneLabel(name) => builder.node(name.as_str()).one_label = group,
                HostPattern::AnyDepth(name) => builder.node(name.as_str()).any_depth = group,
                HostPattern::Any => builder.nodes[0].any_depth = group,
                HostPattern::Network(network) => {
                    networks[usize::from(network.addr().is_ipv6())].push((*network, group));
                }
            }
        }
        let (nodes, edges, labels) = builder.finish();
        let [v4, v6] = networks.map(Networks::new);
        Self { nodes, edges, labels, v4, v6, values: values.into_iter().map(|(_, value)| value).collect() }
    }

    /// Calls `see` with the values of each pattern `host` matches, the one that says most first, until it breaks.
    pub(super) fn each<'a, B>(
        &'a self,
        host: Key<'_>,
        mut see: impl FnMut(&'a [T]) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        if self.values.is_empty() {
            return ControlFlow::Continue(());
        }
        let mut see =
            |group: Group| if group.first == group.end { ControlFlow::Continue(()) } else { see(self.group(group)) };
        let name = match host {
            Key::Address(IpAddr::V4(address)) => return self.v4.each(u32::from(address).into(), see),
            Key::Address(IpAddr::V6(address)) => return self.v6.each(u128::from(address), see),
            Key::Name(name) => name.as_str(),
        };
        // Nodes from the root down to the longest known end of the name.
        let mut path = [0_u32; MOST_LABELS + 1];
        let mut length = 1;
        let mut labels = name.rsplit('.').fuse();
        let mut complete = false;
        loop {
            let Some(label) = labels.next() else {
                complete = true;
                break;
            };
            let (Some(node), true) = (self.child(path[length - 1], label), length < path.len()) else { break };
            path[length] = node;
            length += 1;
        }
        // How many labels of the name lie before the node: none, one or more.
        let before = if complete { 0 } else { 1 + labels.count() };
        for (before, node) in (before..).zip(path[..length].iter().rev()) {
            let node = &self.nodes[*node as usize];
            match before {
                0 => see(node.exact)?,
                1 => {
                    see(node.one_label)?;
                    see(node.any_depth)?;
                }
                _ => see(node.any_depth)?,
            }
        }
        ControlFlow::Continue(())
    }

    fn group(&self, group: Group) -> &[T] {
        &self.values[group.range()]
    }

    fn child(&self, node: u32, label: &str) -> Option<u32> {
        let edges = &self.edges[self.nodes[node as usize].edges.range()];
        let head = head(label);
        let found = edges
            .binary_search_by(|edge| edge.head.cmp(&head).then_with(|| self.labels[edge.label.range()].cmp(label)));
        found.ok().map(|at| edges[at].node)
    }
}

impl Group {
    fn range(self) -> Range<usize> {
        self.first as usize..self.end as usize
    }
}

/// The first eight bytes, so that heads compare as their labels do.
fn head(label: &str) -> u64 {
    let mut head = [0; 8];
    for (to, from) in head.iter_mut().zip(label.bytes()) {
        *to = from;
    }
    u64::from_be_bytes(head)
}

fn index(at: usize) -> u32 {
    u32::try_from(at).expect("a policy has fewer than 4 billion of anything")
}

/// A trie that still grows.
struct Builder<'a> {
    nodes: Vec<Node>,
    children: HashMap<(u32, &'a str), u32>,
}

impl Default for Builder<'_> {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], children: HashMap::new() }
    }
}

impl<'a> Builder<'a> {
    fn node(&mut self, name: &'a str) -> &mut Node {
        let mut at = 0;
        for label in name.rsplit('.') {
            let next = index(self.nodes.len());
            at = *self.children.entry((at, label)).or_insert(next);
            if at == next {
                self.nodes.push(Node::default());
            }
        }
        &mut self.nodes[at as usize]
    }

    fn finish(self) -> (Vec<Node>, Vec<Edge>, String) {
        let Self { mut nodes, children } = self;
        let mut children: Vec<_> = children.into_iter().collect();
        children.sort_unstable();
        let mut labels = String::new();
        let mut edges: Vec<Edge> = Vec::with_capacity(children.len());
        for ((parent, label), node) in children {
            let (first, at) = (index(labels.len()), index(edges.len()));
            labels.push_str(label);
            edges.push(Edge { head: head(label), label: Group { first, end: index(labels.len()) }, node });
            let range = &mut nodes[parent as usize].edges;
            if range.first == range.end {
                range.first = at;
            }
            range.end = at + 1;
        }
        (nodes, edges, labels)
    }
}

impl Networks {
    fn new(networks: Vec<(IpNet, Group)>) -> Self {
        let mut rows: Vec<Network> = networks
            .into_iter()
            .map(|(network, group)| {
                let (first, last) = match network {
                    IpNet::V4(v4) => (u32::from(v4.network()).into(), u32::from(v4.broadcast()).into()),
                    IpNet::V6(v6) => (v6.network().into(), v6.broadcast().into()),
                };
                Network { first, last, around: None, group }
            })
            .collect();
        rows.sort_unstable_by_key(|row| (row.first, std::cmp::Reverse(row.last)));
        let mut open: Vec<usize> = Vec::new();
        for at in 0..rows.len() {
            while open.last().is_some_and(|around| rows[*around].last < rows[at].first) {
                open.pop();
            }
            rows[at].around = open.last().map(|around| index(*around));
            open.push(at);
        }
        Self(rows)
    }

    /// The networks around an address, the narrowest first.
    fn each<B>(&self, address: u128, mut see: impl FnMut(Group) -> ControlFlow<B>) -> ControlFlow<B> {
        let after = self.0.partition_point(|row| row.first <= address);
        let mut at = after.checked_sub(1);
        while let Some(row) = at.map(|at| self.0[at]) {
            if address <= row.last {
                see(row.group)?;
            }
            at = row.around.map(|around| around as usize);
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(patterns: &[&str], host: &str) -> Vec<String> {
        let patterns: Vec<HostPattern> = patterns.iter().map(|text| text.parse().expect(text)).collect();
        let hosts = Hosts::new(patterns.iter().map(|pattern| (pattern, pattern.to_string())).collect());
        let mut found = Vec::new();
        let _: ControlFlow<()> = hosts.each(Key::from(&host.parse::<Host>().expect(host)), |values| {
            found.extend(values.iter().cloned());
            ControlFlow::Continue(())
        });
        found
    }

    #[test]
    fn names_find_what_says_most_first() {
        let patterns =
            ["**", "**.org", "*.org", "example.org", "*.example.org", "**.example.org", "a.example.org", "a.b"];
        let cases: &[(&str, &[&str])] = &[
            ("example.org", &["example.org", "*.org", "**.org", "**"]),
            ("a.example.org", &["a.example.org", "*.example.org", "**.example.org", "**.org", "**"]),
            ("z.example.org", &["*.example.org", "**.example.org", "**.org", "**"]),
            ("z.a.example.org", &["**.example.org", "**.org", "**"]),
            ("org", &["**"]),
            ("b", &["**"]),
            ("xexample.org", &["*.org", "**.org", "**"]),
            ("192.0.2.1", &[]),
        ];
        for (host, expected) in cases {
            assert_eq!(found(&patterns, host), *expected, "{host}");
        }
    }

    #[test]
    fn addresses_find_the_networks_around_them() {
        let patterns =
            ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "10.2.0.0/16", "::/0", "2001:db8::/32", "**"];
        let cases: &[(&str, &[&str])] = &[
            ("10.1.2.3", &["10.1.2.3", "10.1.0.0/16", "10.0.0.0/8", "0.0.0.0/0"]),
            ("10.1.2.4", &["10.1.0.0/16", "10.0.0.0/8", "0.0.0.0/0"]),
            ("10.3.0.0", &["10.0.0.0/8", "0.0.0.0/0"]),
            ("11.0.0.0", &["0.0.0.0/0"]),
            ("255.255.255.255", &["0.0.0.0/0"]),
            ("::1", &["::/0"]),
            ("2001:db8::1", &["2001:db8::/32", "::/0"]),
            ("::ffff:10.2.0.1", &["10.2.0.0/16", "10.0.0.0/8", "0.0.0.0/0"]),
        ];
        for (host, expected) in cases {
            assert_eq!(found(&patterns, host), *expected, "{host}");
        }
        assert_eq!(found(&["10.0.0.0/8"], "9.255.255.255"), [""; 0]);
    }

    #[test]
    fn a_name_of_the_most_labels_is_no_trouble() {
        let longest = vec!["a"; MOST_LABELS].join(".");
        assert_eq!(found(&[&longest, "**.a"], &longest), [&*longest, "**.a"]);
        assert_eq!(found(&[&longest[2..]], &longest), [""; 0]);
        assert_eq!(found(&[&format!("*.{}", &longest[2..])], &longest), [format!("*.{}", &longest[2..])]);
    }
}
