//! Records of refusals that cost a sandbox nothing, so bounded that it cannot fill a disk with them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use schema::policy::Host;

use crate::audit::{Record, Spoken};
use crate::sandbox::Sandbox;
use crate::shared::Shared;
use crate::throttle::Throttle;
use crate::verdict::Denial;

/// How often the same refusal is recorded.
const RECORD_AGAIN: Duration = Duration::from_mins(1);

/// What makes two refusals the same: what was spoken, host, port, why.
type Refusal = (Spoken, String, u16, &'static str);

/// Records refusals of one sandbox.
pub(crate) struct Refusals {
    sandbox: Arc<Sandbox>,
    shared: Arc<Shared>,
    /// Names apart from the rest: whoever asks for many has no other refusal left out for it.
    names: Mutex<Throttle<Refusal>>,
    others: Mutex<Throttle<Refusal>>,
}

impl Refusals {
    /// Nothing recorded yet.
    pub fn new(sandbox: Arc<Sandbox>, shared: Arc<Shared>) -> Self {
        let throttle = || Mutex::new(Throttle::new(shared.limits.refusal_records, RECORD_AGAIN));
        let (names, others) = (throttle(), throttle());
        Self { sandbox, shared, names, others }
    }

    /// A question about a name that does not exist here.
    pub fn name(&self, name: &str, because: &'static str) {
        self.record(Spoken::Dns, name, 53, because, None);
    }

    /// A connection that ends for another reason than the policy.
    pub fn connection(&self, host: &str, port: u16, because: &'static str) {
        self.record(Spoken::Tcp, host, port, because, None);
    }

    /// A datagram that is not passed on for another reason than the policy.
    pub fn datagram(&self, host: &str, port: u16, because: &'static str) {
        self.record(Spoken::Udp, host, port, because, None);
    }

    /// What the policy denies.
    pub fn denied(&self, spoken: Spoken, host: &Host, port: u16, denial: &Denial) {
        let rule = denial.rule().map(|rule| rule.place.to_string());
        self.record(spoken, &host.to_string(), port, denial.because(), rule);
    }

    fn record(&self, spoken: Spoken, host: &str, port: u16, because: &'static str, rule: Option<String>) {
        let refusal = (spoken, host.to_owned(), port, because);
        let throttle = if spoken == Spoken::Dns { &self.names } else { &self.others };
        let admitted = throttle.lock().unwrap_or_else(PoisonError::into_inner).admit(refusal, Instant::now());
        let Some(left_out) = admitted else { return };
        if left_out > 0 {
            tracing::warn!(sandbox = self.sandbox.name, left_out, "refusals were not recorded, being too many");
        }
        self.sandbox.sink.record(Record {
            time: (self.shared.clock)(),
            project: self.sandbox.project.clone(),
            sandbox: self.sandbox.name.clone(),
            generation: self.sandbox.generation().number,
            protocol: spoken,
            host: host.to_owned(),
            port,
            method: None,
            path: None,
            allowed: false,
            because: Some(because.to_owned()),
            rule,
            sent: 0,
            received: 0,
            duration_ms: 0,
        });
    }
}

impl std::fmt::Debug for Refusals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Refusals").field("sandbox", &self.sandbox).finish_non_exhaustive()
    }
}
