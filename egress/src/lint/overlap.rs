//! Rules that other rules cover.

use std::collections::HashMap;

use ipnet::IpNet;
use schema::policy::{DnsName, HostPattern, Policy, PortRange, Protocol, Rule};

use super::{Finding, Kind, same};
use crate::cover;

/// Rules by pattern, to find those that cover another without comparing each with each.
struct ByHost<'a>(HashMap<&'a HostPattern, Vec<(usize, &'a Rule)>>);

impl<'a> ByHost<'a> {
    fn new(rules: &'a [Rule]) -> Self {
        let mut by_host: HashMap<&HostPattern, Vec<(usize, &Rule)>> = HashMap::new();
        for (index, rule) in rules.iter().enumerate() {
            by_host.entry(&rule.host).or_default().push((index, rule));
        }
        Self(by_host)
    }

    /// Rules whose hosts are all of `pattern` and maybe more.
    fn covering(&self, pattern: &HostPattern) -> impl Iterator<Item = (usize, &'a Rule)> {
        outer(pattern).into_iter().filter_map(|outer| self.0.get(&outer)).flatten().copied()
    }
}

/// Every pattern that covers `pattern`, itself first.
fn outer(pattern: &HostPattern) -> Vec<HostPattern> {
    let mut all = vec![pattern.clone()];
    let name = match pattern {
        HostPattern::Any => return all,
        HostPattern::Network(network) => {
            let shorter = (0..network.prefix_len()).rev();
            let wider = shorter.filter_map(|length| IpNet::new(network.addr(), length).ok());
            all.extend(wider.map(|network| HostPattern::Network(network.trunc())));
            return all;
        }
        HostPattern::Exact(name) => {
            all.extend(parent(name).map(HostPattern::OneLabel));
            parent(name)
        }
        HostPattern::OneLabel(name) => Some(name.clone()),
        HostPattern::AnyDepth(name) => parent(name),
    };
    let mut suffix = name;
    while let Some(name) = suffix {
        suffix = parent(&name);
        all.push(HostPattern::AnyDepth(name));
    }
    all.push(HostPattern::Any);
    all
}

fn parent(name: &DnsName) -> Option<DnsName> {
    name.as_str().split_once('.')?.1.parse().ok()
}

pub(super) fn find(policy: &Policy, findings: &mut Vec<Finding>) {
    let (allow, deny) = (ByHost::new(&policy.allow), ByHost::new(&policy.deny));
    for (index, rule) in policy.allow.iter().enumerate() {
        // A rule of a list is there for all who use the list: what somebody writes beside it makes it no mistake.
        let beside = |by: &Rule| rule.place.list.is_none() || rule.place.list == by.place.list;
        if let Some((_, by)) = deny.covering(&rule.host).find(|(_, by)| beside(by) && shadows(by, rule)) {
            let message =
                format!("nothing comes of this rule: what it allows is denied by {}", crate::written::deny(by));
            let help = "remove it, or make the deny rule narrower: deny wins over every allow rule";
            findings.push(Finding::new(Kind::Shadowed, rule, message, help).beside(by, "denied here"));
        } else if let Some((other, by)) = allow
            .covering(&rule.host)
            .find(|(other, by)| *other != index && beside(by) && is_elsewhere(by, rule) && makes_redundant(by, rule))
        {
            // Of two that say the same, the later one is too much.
            if other > index && makes_redundant(rule, by) {
                continue;
            }
            findings.push(redundant(rule, by));
        }
        conflicts(rule, &allow, &deny, findings);
    }
}

/// Whether the rules are two texts: a list that is used twice makes each of its rules twice.
fn is_elsewhere(one: &Rule, other: &Rule) -> bool {
    one.place.at != other.place.at
}

fn redundant(rule: &Rule, by: &Rule) -> Finding {
    let (message, help) = if same(rule, by) {
        (String::from("this rule is there twice"), "remove one of them")
    } else if rule.needs_requests() && !by.needs_requests() {
        (
            format!("this rule allows nothing that {} does not allow anyway", crate::written::allow(by)),
            "rules add up, none narrows another: make the other one narrower, or remove this one",
        )
    } else {
        (format!("this rule allows nothing that {} does not allow anyway", crate::written::allow(by)), "remove it")
    };
    Finding::new(Kind::Redundant, rule, message, help).beside(by, "allowed here")
}

/// Whether the deny rule takes away all of the allow rule.
fn shadows(deny: &Rule, allow: &Rule) -> bool {
    let udp = allow.protocol == Protocol::Udp;
    let whole = udp || !deny.needs_requests() || (covers_requests(deny, allow) && is_http(allow));
    whole
        && deny.denies_transport(udp)
        && cover::covers(&deny.host, &allow.host)
        && cover::covers_ports(&deny.ports, &allow.ports)
}

/// Whether only HTTP passes by the rule, so that a rule about requests is about all of it.
fn is_http(rule: &Rule) -> bool {
    rule.needs_requests() || rule.protocol == Protocol::Http
}

/// Whether `outer` is about every request that `inner` is about.
fn covers_requests(outer: &Rule, inner: &Rule) -> bool {
    let methods = outer.methods.is_empty()
        || !inner.methods.is_empty() && inner.methods.iter().all(|method| outer.methods.contains(method));
    let paths = outer.paths.is_empty()
        || !inner.paths.is_empty()
            && inner.paths.iter().all(|path| outer.paths.iter().any(|other| cover::covers_path(other, path)));
    methods && paths && outer.headers.iter().all(|header| inner.headers.contains(header))
}

/// Whether `outer` allows all that `inner` does, so that `inner` changes nothing.
fn makes_redundant(outer: &Rule, inner: &Rule) -> bool {
    // Which of two rules is taken matters where they change requests differently.
    let changes = (&inner.request, &inner.response, inner.timeout) == (&outer.request, &outer.response, outer.timeout);
    let spoken = match (outer.protocol, inner.protocol) {
        (outer, inner) if outer == inner => true,
        (Protocol::Udp, _) | (_, Protocol::Udp) => false,
        (Protocol::Tcp, _) | (Protocol::Http, Protocol::Tls) => true,
        // On the ports of the web `auto` is narrower: plain HTTP on 80, TLS on 443.
        (Protocol::Auto, Protocol::Tls) => !inner.has_port(80),
        (Protocol::Auto, Protocol::Http) => !inner.has_port(80) && !inner.has_port(443),
        (Protocol::Http, Protocol::Auto) => cover::covers_ports(&PortRange::WEB, &inner.ports),
        (Protocol::Tls, Protocol::Auto) => cover::covers_ports(&[PortRange::one(443)], &inner.ports),
        _ => false,
    };
    let lasts = match (outer.expires, inner.expires) {
        (None, _) => true,
        (Some(outer), Some(inner)) => outer >= inner,
        (Some(_), None) => false,
    };
    changes
        && spoken
        && lasts
        && cover::covers(&outer.host, &inner.host)
        && cover::covers_ports(&outer.ports, &inner.ports)
        && covers_requests(outer, inner)
        // A rule about requests lets nothing but HTTP pass.
        && (!outer.needs_requests() || is_http(inner))
        && (outer.encoded_separators || !inner.encoded_separators)
        && (outer.upgrade || !inner.upgrade)
}

/// Where other rules look at requests, so that what is not HTTP does not pass although this rule would let it.
fn conflicts(rule: &Rule, allow: &ByHost<'_>, deny: &ByHost<'_>, findings: &mut Vec<Finding>) {
    if is_http(rule) {
        return;
    }
    let udp = rule.protocol == Protocol::Udp;
    let passes_others = |port: u16| match rule.protocol {
        Protocol::Tcp | Protocol::Udp => true,
        Protocol::Auto => !matches!(port, 80 | 443),
        Protocol::Tls | Protocol::Http => false,
    };
    let meets = |by: &Rule| by.needs_requests() && common_port(rule, by, passes_others);
    let by_deny = deny.covering(&rule.host).map(|(_, by)| by).find(|by| by.denies_transport(udp) && meets(by));
    let by_allow =
        || allow.covering(&rule.host).map(|(_, by)| by).find(|by| !udp && by.protocol != Protocol::Udp && meets(by));
    if let Some(by) = by_deny {
        let message = "a deny rule is about requests here, so that nothing but HTTP passes";
        let help = "give the deny rule the `ports` on which HTTP is spoken, or remove this one";
        findings.push(Finding::new(Kind::NeedsHttp, rule, message, help).beside(by, "requests are looked at for this"));
    } else if let Some(by) = by_allow() {
        let message = "another rule is about requests here, so that nothing but HTTP passes";
        let help = "give the other rule the `ports` on which HTTP is spoken, or remove this one";
        findings.push(Finding::new(Kind::NeedsHttp, rule, message, help).beside(by, "requests are looked at for this"));
    }
}

fn common_port(rule: &Rule, by: &Rule, wanted: impl Fn(u16) -> bool) -> bool {
    // 80 and 443 do not adjoin: of three ports in a row one is another.
    cover::common_ports(&rule.ports, &by.ports).any(|range| (range.first..=range.last).take(3).any(&wanted))
}
