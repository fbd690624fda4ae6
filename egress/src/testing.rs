//! What the tests of the data path share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use schema::policy::{HostPattern, Policy, PortRange, Protocol, Rule};

use crate::audit::{Record, Sink, Spoken};
use crate::generation::Generation;
use crate::limits::Limits;
use crate::sandbox::Sandbox;
use crate::shared::Shared;

pub(crate) mod rules;

/// Longest that anything may take here.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Keeps records.
#[derive(Debug, Default)]
pub(crate) struct Records(Mutex<Vec<Record>>);

impl Sink for Records {
    fn record(&self, record: Record) {
        self.0.lock().unwrap().push(record);
    }
}

impl Records {
    /// All so far; each was decided by a generation.
    pub fn all(&self) -> Vec<Record> {
        let all = self.0.lock().unwrap().clone();
        assert!(all.iter().all(|record| record.generation >= 1), "{all:?}");
        all
    }

    /// The first so many, once there are as many.
    pub async fn wait_for(&self, many: usize) -> Vec<Record> {
        let since = Instant::now();
        while self.all().len() < many {
            assert!(since.elapsed() < LONG, "only {:?}", self.all());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.all()
    }
}

/// The record of a connection that was allowed, with nothing that a test asks for.
pub(crate) fn record() -> Record {
    Record {
        time: Timestamp::UNIX_EPOCH,
        project: "acme".into(),
        sandbox: "api".into(),
        generation: 1,
        protocol: Spoken::Tls,
        host: "example.org".into(),
        port: 443,
        method: None,
        path: None,
        allowed: true,
        because: None,
        rule: None,
        sent: 0,
        received: 0,
        duration_ms: 0,
    }
}

/// A rule for `host`; ports 80 and 443 where none are given.
pub(crate) fn rule(host: &str, ports: &[u16], protocol: Protocol) -> Rule {
    let ports = if ports.is_empty() { &[80, 443] } else { ports };
    let ports: Vec<_> = ports.iter().copied().map(PortRange::one).collect();
    let rule = serde_json::json!({ "host": host, "ports": ports, "protocol": protocol, "place": { "at": host } });
    serde_json::from_value(rule).unwrap()
}

/// A policy that allows `allow`. All names mean this machine, which may be dialled.
pub(crate) fn policy(allow: Vec<Rule>) -> Policy {
    let here = ["127.0.0.1".parse().unwrap()];
    let hosts = allow.iter().filter_map(|rule| match &rule.host {
        HostPattern::Exact(name) => Some((name.clone(), here.to_vec())),
        _ => None,
    });
    let hosts = hosts.collect();
    Policy { allow, hosts, dial_allow: vec!["127.0.0.0/8".parse().unwrap()], ..Policy::default() }
}

/// A generation of it.
pub(crate) fn generation(number: u64, policy: Policy) -> Generation {
    Generation::new(number, policy, BTreeMap::new())
}

/// A sandbox under `policy`, and its records.
pub(crate) fn sandbox(policy: Policy) -> (Arc<Sandbox>, Arc<Records>) {
    let records = Arc::new(Records::default());
    let sink = Arc::clone(&records) as Arc<dyn Sink>;
    (Arc::new(Sandbox::new("project".into(), "sandbox".into(), sink, generation(1, policy))), records)
}

/// What all share, with these bounds.
pub(crate) fn shared(limits: Limits) -> Arc<Shared> {
    Arc::new(Shared::within(limits))
}
