//! Policies as tables, with every list written out.

use jiff::civil::Date;
use schema::config::EgressMode;
use schema::policy::{HeaderEdits, HeaderValue, Policy, PortRange, Protocol, Rule, Upstream};

use super::plan::bold;
use super::status::{lines, table};
use super::text::safe;
use crate::commands::egress::policy::Effective;
use crate::screen::Look;

/// One table for each sandbox, deny rules first: they win.
pub fn policies(sandboxes: &[Effective<'_>], today: Date, look: Look) -> String {
    sandboxes.iter().fold(String::new(), |mut text, effective| {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&one(effective, today, look));
        text
    })
}

fn one(effective: &Effective<'_>, today: Date, look: Look) -> String {
    let Effective { sandbox, mode, transport: _, policy } = effective;
    let mut text = format!("{}: {}\n", look.paint(bold(), &safe(sandbox)), headline(*mode, policy));
    if !policy.allow.is_empty() || !policy.deny.is_empty() {
        let mut table = table(look, &["", "HOST", "PORTS", "PROTOCOL", "REQUESTS", "WRITTEN"]);
        for (word, rules) in [("deny", &policy.deny), ("allow", &policy.allow)] {
            for rule in rules {
                let expired = word == "allow" && !rule.holds(today);
                let cells = [
                    if expired { "expired" } else { word }.to_owned(),
                    rule.host.to_string(),
                    ports(rule),
                    protocol(rule.protocol).to_owned(),
                    requests(rule),
                    rule.place.to_string(),
                ];
                table.add_row(cells.map(|cell| safe(&cell).into_owned()));
            }
        }
        text.push_str(&lines(&table));
    }
    for line in settings(policy) {
        text.push_str(&format!("{}\n", safe(&line)));
    }
    text
}

fn headline(mode: EgressMode, policy: &Policy) -> &'static str {
    match mode {
        EgressMode::None => "mode none, nothing is reached",
        EgressMode::Open => "mode open, everything is reached",
        EgressMode::Direct => "mode direct, by host and port only",
        EgressMode::Allowlist if policy.is_empty() => "mode allowlist, nothing is allowed",
        EgressMode::Allowlist => "mode allowlist",
    }
}

fn ports(rule: &Rule) -> String {
    if rule.ports == PortRange::ALL {
        return String::from("all");
    }
    rule.ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Auto => "auto",
        Protocol::Http => "http",
        Protocol::Tls => "tls",
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

/// Everything a rule says of requests, and does to them.
fn requests(rule: &Rule) -> String {
    let mut parts = Vec::new();
    if !rule.methods.is_empty() {
        parts.push(rule.methods.join(" "));
    }
    if !rule.paths.is_empty() {
        parts.push(rule.paths.iter().map(schema::policy::PathPattern::as_str).collect::<Vec<_>>().join(" "));
    }
    parts.extend(rule.headers.iter().map(|header| match &header.value {
        Some(value) => format!("if {}: {value}", header.name),
        None => format!("if {}", header.name),
    }));
    parts.extend(rule.encoded_separators.then(|| String::from("encoded separators")));
    parts.extend(rule.upgrade.then(|| String::from("upgrades")));
    parts.extend(rule.timeout.map(|timeout| format!("within {}s", timeout.as_secs())));
    for (what, edits) in [("", &rule.request), ("response ", &rule.response)] {
        parts.extend(changes(what, edits));
    }
    parts.extend(rule.expires.map(|last| format!("until {last}")));
    if parts.is_empty() { String::from("any") } else { parts.join("; ") }
}

fn changes<'a>(what: &'a str, edits: &'a HeaderEdits) -> impl Iterator<Item = String> + 'a {
    let value = |value: &HeaderValue| match value {
        HeaderValue::Text(text) => text.clone(),
        HeaderValue::Secret(name) => format!("secret {name}"),
    };
    let HeaderEdits { remove, set, add } = edits;
    let removed = remove.iter().map(move |name| format!("{what}without {name}"));
    let set = set.iter().map(move |(name, to)| format!("{what}{name}: {}", value(to)));
    let add = add.iter().map(move |(name, to)| format!("{what}and {name}: {}", value(to)));
    removed.chain(set).chain(add)
}

/// What is not a rule.
fn settings(policy: &Policy) -> Vec<String> {
    let mut text: Vec<String> = policy
        .hosts
        .iter()
        .map(|(name, addresses)| {
            let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            format!("{name} is at {}", addresses.join(", "))
        })
        .collect();
    if !policy.dial_allow.is_empty() {
        let ranges: Vec<String> = policy.dial_allow.iter().map(ToString::to_string).collect();
        text.push(format!("may be dialled although refused by default: {}", ranges.join(", ")));
    }
    text.extend(
        policy.inbound.iter().map(|(network, ports)| format!("on network {network} others come in at {ports}")),
    );
    text.extend(match &policy.upstream {
        Upstream::Direct => None,
        Upstream::Http(proxy) => Some(format!("through the HTTP proxy {proxy}")),
        Upstream::Socks5(proxy) => Some(format!("through the SOCKS5 proxy {proxy}")),
        Upstream::Netns(path) => Some(format!("from the network namespace {}", path.display())),
    });
    text
}
