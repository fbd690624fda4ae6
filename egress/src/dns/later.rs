//! Questions of a sandbox that itself connects: looked up, opened, and only then answered.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hickory_proto::op::{Message, ResponseCode};
use schema::policy::DnsName;

use super::answer::{self, Answer};
use super::{Resolver, written};
use crate::audit::{Record, Spoken};
use crate::dial::DialError;
use crate::direct::{Direct, Meaning, Unopened};
use crate::shared::Shared;

/// A question whose answer has to be looked for.
pub(crate) struct Later {
    pub(super) name: DnsName,
    pub(super) request: Message,
    pub(super) direct: Arc<Direct>,
    pub(super) shared: Arc<Shared>,
}

impl Later {
    /// What the name means. It is open by then.
    pub async fn meaning(&self) -> Result<Meaning, Unopened> {
        self.direct.resolve(&self.shared, &self.name).await
    }
}

impl Resolver {
    /// Writes the answer to a question that had to be looked for into `response`; false if there is none to be given.
    pub(crate) fn finish(&self, later: &Later, found: Result<Meaning, Unopened>, response: &mut Vec<u8>) -> bool {
        response.clear();
        let Some(query) = later.request.queries.first() else { return false };
        let answer = match found {
            Ok(Meaning { addresses, ttl, opened }) => {
                if let Some(rule) = opened {
                    self.record(&later.name, rule);
                }
                answer::for_a_time(query, addresses, self.v6.load(Ordering::Relaxed), ttl)
            }
            Err(Unopened::Denied) => {
                self.refusals.name(later.name.as_str(), "no-rule");
                answer::refused(later.name.to_string())
            }
            Err(Unopened::Unresolved(DialError::NotFound { .. })) => Answer::code(ResponseCode::NXDomain),
            Err(Unopened::Unresolved(DialError::Refused { .. } | DialError::Loop { .. })) => {
                self.refusals.name(later.name.as_str(), "address-refused");
                Answer { refused: Some(later.name.to_string()), ..Answer::code(ResponseCode::NXDomain) }
            }
            Err(why) => {
                tracing::debug!(sandbox = self.sandbox.name, name = %later.name, ?why, "no answer");
                Answer::code(ResponseCode::ServFail)
            }
        };
        let Some(bytes) = written(&later.request, &answer) else { return false };
        response.extend_from_slice(&bytes);
        true
    }

    /// The one decision that is made about everything that goes to this name from now on.
    fn record(&self, name: &DnsName, rule: String) {
        self.sandbox.sink.record(Record {
            time: (self.shared.clock)(),
            project: self.sandbox.project.clone(),
            sandbox: self.sandbox.name.clone(),
            generation: self.sandbox.generation().number,
            protocol: Spoken::Dns,
            host: name.to_string(),
            port: 53,
            method: None,
            path: None,
            allowed: true,
            because: None,
            rule: Some(rule),
            sent: 0,
            received: 0,
            duration_ms: 0,
        });
    }
}
