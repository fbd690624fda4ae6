//! Numbers for Prometheus, in the text format of `OpenMetrics`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::audit::{Questions, Record, Spoken};

pub mod endpoint;

/// What the numbers are told apart by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct Of {
    project: String,
    sandbox: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct Decision {
    project: String,
    sandbox: String,
    protocol: Spoken,
    allowed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct Carried {
    project: String,
    sandbox: String,
    direction: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct Kind {
    project: String,
    sandbox: String,
    protocol: Spoken,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct Question {
    project: String,
    sandbox: String,
    allowed: bool,
}

impl EncodeLabelValue for Spoken {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        EncodeLabelValue::encode(&self.word(), encoder)
    }
}

/// Seconds: a decision, a request, a long connection.
const BUCKETS: [f64; 14] = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 60.0, 600.0, 3600.0];

fn durations() -> Histogram {
    Histogram::new(BUCKETS)
}

/// The numbers of a daemon.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    decisions: Family<Decision, Counter>,
    bytes: Family<Carried, Counter>,
    durations: Family<Kind, Histogram, fn() -> Histogram>,
    flows: Family<Of, Gauge>,
    questions: Family<Question, Counter>,
    lost: Gauge,
    /// Sandboxes there are numbers of, with their label sets, to forget these with them.
    known: Mutex<BTreeMap<Of, BTreeSet<(Spoken, bool)>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("sbx_egress");
        let decisions = Family::<Decision, Counter>::default();
        registry.register(
            "decisions",
            "Decisions by protocol and outcome, as they are recorded; of questions of DNS, few are",
            decisions.clone(),
        );
        let bytes = Family::<Carried, Counter>::default();
        registry.register("bytes", "Bytes carried, as seen from the sandbox", bytes.clone());
        let durations = Family::<Kind, Histogram, fn() -> Histogram>::new_with_constructor(durations);
        registry.register(
            "duration_seconds",
            "Time from the first byte to the last of what was let through: a request, a connection, an answer of DNS",
            durations.clone(),
        );
        let flows = Family::<Of, Gauge>::default();
        registry.register("flows", "Open flows", flows.clone());
        let questions = Family::<Question, Counter>::default();
        registry.register("dns_questions", "Questions of DNS, by whether the name is allowed", questions.clone());
        let lost = Gauge::default();
        registry.register("lost_records", "Audit records that were lost", lost.clone());
        Self { registry, decisions, bytes, durations, flows, questions, lost, known: Mutex::default() }
    }
}

impl Metrics {
    /// What counts questions of DNS of a sandbox.
    pub fn questions(&self, project: &str, sandbox: &str) -> Questions {
        let of = |allowed| {
            let question = Question { project: project.to_owned(), sandbox: sandbox.to_owned(), allowed };
            self.questions.get_or_create(&question).clone()
        };
        self.remember(Of { project: project.to_owned(), sandbox: sandbox.to_owned() }, None);
        Questions { answered: of(true), refused: of(false) }
    }

    /// Counts a record of something that took so long.
    pub fn count(&self, record: &Record, lasted: Duration) {
        let Record { project, sandbox, protocol, allowed, sent, received, .. } = record;
        let (protocol, allowed) = (*protocol, *allowed);
        let of = || (project.clone(), sandbox.clone());
        let (name, of_sandbox) = of();
        self.decisions.get_or_create(&Decision { project: name, sandbox: of_sandbox, protocol, allowed }).inc();
        for (direction, bytes) in [("sent", *sent), ("received", *received)] {
            if bytes > 0 {
                let (project, sandbox) = of();
                self.bytes.get_or_create(&Carried { project, sandbox, direction }).inc_by(bytes);
            }
        }
        if allowed {
            let (project, sandbox) = of();
            self.durations.get_or_create(&Kind { project, sandbox, protocol }).observe(lasted.as_secs_f64());
        }
        let (project, sandbox) = of();
        self.remember(Of { project, sandbox }, Some((protocol, allowed)));
    }

    /// Remembers that there are numbers of a sandbox.
    fn remember(&self, of: Of, labels: Option<(Spoken, bool)>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(of).or_default().extend(labels);
    }

    /// Forgets sandboxes, by project and name, that are not among those to `keep`.
    pub fn retain(&self, keep: impl Fn(&(String, String)) -> bool) {
        let mut gone = Vec::new();
        {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            gone.extend(known.keys().map(|of| (of.project.clone(), of.sandbox.clone())).filter(|of| !keep(of)));
        }
        for (project, sandbox) in gone {
            self.forget(&project, &sandbox);
        }
    }

    fn forget(&self, project: &str, sandbox: &str) {
        let of = Of { project: project.to_owned(), sandbox: sandbox.to_owned() };
        self.flows.remove(&of);
        for allowed in [true, false] {
            let (project, sandbox) = (project.to_owned(), sandbox.to_owned());
            self.questions.remove(&Question { project, sandbox, allowed });
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(seen) = known.remove(&of) else { return };
        let Of { project, sandbox } = of;
        for (protocol, allowed) in seen {
            let (project, sandbox) = (project.clone(), sandbox.clone());
            self.decisions.remove(&Decision { project: project.clone(), sandbox: sandbox.clone(), protocol, allowed });
            self.durations.remove(&Kind { project, sandbox, protocol });
        }
        for direction in ["sent", "received"] {
            self.bytes.remove(&Carried { project: project.clone(), sandbox: sandbox.clone(), direction });
        }
    }

    /// The text, with the numbers that are looked up rather than counted.
    pub fn text(&self, flows: &BTreeMap<(String, String), usize>, lost: u64) -> Result<String, fmt::Error> {
        {
            // Of those that are not served any more, nothing is open.
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            for of in known.keys().filter(|of| !flows.contains_key(&(of.project.clone(), of.sandbox.clone()))) {
                self.flows.remove(of);
            }
        }
        for ((project, sandbox), count) in flows {
            let of = Of { project: project.clone(), sandbox: sandbox.clone() };
            self.flows.get_or_create(&of).set(i64::try_from(*count).unwrap_or(i64::MAX));
            self.remember(of, None);
        }
        self.lost.set(i64::try_from(lost).unwrap_or(i64::MAX));
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn records_become_numbers_and_are_forgotten() {
        let metrics = Metrics::default();
        let record = Record { sent: 10, received: 20, duration_ms: 5, ..testing::record() };
        metrics.count(&record, Duration::from_micros(5_200));
        let quick = Record { protocol: Spoken::Http, sent: 0, received: 0, duration_ms: 0, ..record.clone() };
        metrics.count(&quick, Duration::from_micros(250));
        metrics.count(&Record { allowed: false, protocol: Spoken::Dns, ..quick }, Duration::ZERO);
        let questions = metrics.questions("acme", "api");
        questions.answered.inc();
        metrics.questions("acme", "api").answered.inc();
        questions.refused.inc();
        let flows = BTreeMap::from([(("acme".to_owned(), "api".to_owned()), 3)]);
        let text = metrics.text(&flows, 2).expect("encodes");
        for line in [
            r#"sbx_egress_decisions_total{project="acme",sandbox="api",protocol="tls",allowed="true"} 1"#,
            r#"sbx_egress_decisions_total{project="acme",sandbox="api",protocol="dns",allowed="false"} 1"#,
            r#"sbx_egress_bytes_total{project="acme",sandbox="api",direction="sent"} 10"#,
            r#"sbx_egress_bytes_total{project="acme",sandbox="api",direction="received"} 20"#,
            r#"sbx_egress_duration_seconds_bucket{le="0.01",project="acme",sandbox="api",protocol="tls"} 1"#,
            r#"sbx_egress_duration_seconds_bucket{le="0.001",project="acme",sandbox="api",protocol="tls"} 0"#,
            r#"sbx_egress_duration_seconds_bucket{le="0.0003",project="acme",sandbox="api",protocol="http"} 1"#,
            r#"sbx_egress_duration_seconds_bucket{le="0.0001",project="acme",sandbox="api",protocol="http"} 0"#,
            r#"sbx_egress_dns_questions_total{project="acme",sandbox="api",allowed="true"} 2"#,
            r#"sbx_egress_dns_questions_total{project="acme",sandbox="api",allowed="false"} 1"#,
            r#"sbx_egress_flows{project="acme",sandbox="api"} 3"#,
            "sbx_egress_lost_records 2",
        ] {
            assert!(text.lines().any(|there| there == line), "{line} is not in\n{text}");
        }
        // Its numbers stay when it stops, but for what is open.
        let stopped = metrics.text(&BTreeMap::new(), 2).expect("encodes");
        assert!(!stopped.contains("sbx_egress_flows{"), "{stopped}");
        assert!(stopped.contains("sbx_egress_dns_questions_total{"), "{stopped}");
        metrics.questions("acme", "web");
        metrics.retain(|(_, sandbox)| sandbox == "web");
        let text = metrics.text(&BTreeMap::new(), 0).expect("encodes");
        assert!(!text.contains("api") && text.contains("web"), "{text}");
        // Only asked about, and only counted.
        metrics.text(&flows, 0).expect("encodes");
        metrics.retain(|_| false);
        let text = metrics.text(&BTreeMap::new(), 0).expect("encodes");
        assert!(!text.contains("acme"), "{text}");
    }
}
