//! Policies for tests, written short.

use schema::policy::{HeaderEdits, HeaderValue, HostPattern, Place, Policy, PortRange, Protocol, Rule};

/// An allow rule for the ports of the web.
pub(crate) fn rule(host: &str) -> Rule {
    Rule::of(host.parse::<HostPattern>().expect(host))
}

/// A rule with parts put into it.
pub(crate) trait With: Sized {
    fn ports(self, ports: &[u16]) -> Self;
    fn every_port(self) -> Self;
    fn protocol(self, protocol: Protocol) -> Self;
    fn methods(self, methods: &[&str]) -> Self;
    fn paths(self, paths: &[&str]) -> Self;
    fn secret(self) -> Self;
}

impl With for Rule {
    fn ports(self, ports: &[u16]) -> Self {
        Self { ports: ports.iter().copied().map(PortRange::one).collect(), ..self }
    }

    fn every_port(self) -> Self {
        Self { ports: PortRange::ALL.to_vec(), ..self }
    }

    fn protocol(self, protocol: Protocol) -> Self {
        Self { protocol, ..self }
    }

    fn methods(self, methods: &[&str]) -> Self {
        Self { methods: methods.iter().map(|method| (*method).to_owned()).collect(), ..self }
    }

    fn paths(self, paths: &[&str]) -> Self {
        Self { paths: paths.iter().map(|path| path.parse().expect(path)).collect(), ..self }
    }

    fn secret(self) -> Self {
        let secret = HeaderValue::Secret(schema::Name::new("model-key").expect("a name"));
        let request = HeaderEdits { set: vec![(String::from("x-api-key"), secret)], ..HeaderEdits::default() };
        Self { request, ..self }
    }
}

/// Rules with places: allow rules on lines from 10 on, deny rules on lines from 50 on.
pub(crate) fn policy(allow: impl IntoIterator<Item = Rule>, deny: impl IntoIterator<Item = Rule>) -> Policy {
    let placed = |rules: Vec<Rule>, line: usize| {
        let numbered = rules.into_iter().enumerate();
        numbered
            .map(|(index, rule)| Rule { place: Place { at: format!("a.yaml:{}:9", line + index), list: None }, ..rule })
            .collect()
    };
    Policy {
        allow: placed(allow.into_iter().collect(), 10),
        deny: placed(deny.into_iter().collect(), 50),
        ..Policy::default()
    }
}

/// A project of sandboxes, one per line `NAME MODE NETWORK…`, without rules.
pub(crate) fn fleet(sandboxes: &[&str]) -> schema::Config {
    let mut text = String::from("apiVersion: sbx/v1\nproject: acme\nnetworks: { front: {}, back: {} }\nsandboxes:\n");
    for line in sandboxes {
        let mut words = line.split(' ');
        let (name, mode) = (words.next().expect("a name"), words.next().expect("a mode"));
        let networks: Vec<&str> = words.collect();
        text.push_str(&format!(
            "  {name}: {{ image: host, egress: {{ mode: {mode} }}, networks: [{}] }}\n",
            networks.join(", ")
        ));
    }
    let source = schema::Source { name: "a.yaml".into(), directory: "/".into(), text };
    let caller = schema::Caller {
        env: std::collections::BTreeMap::new(),
        home: "/home/alice".into(),
        user: "alice".into(),
        uid: 1000,
        gid: 1000,
        data_dir: "/data".into(),
        engine_sockets: Vec::new(),
        today: jiff::civil::date(2026, 11, 25),
    };
    let loaded = schema::load(&[source], &caller);
    loaded.config.unwrap_or_else(|| panic!("{:#?}", loaded.diagnostics))
}
