//! The resolver of a sandbox: names that are allowed have synthetic addresses, nothing else exists.
//!
//! Nothing is ever asked of another server here. Where the sandbox itself connects (mode `direct`), names that are allowed
//! have their real addresses, which are looked up and opened before they are told.

mod answer;
mod answers;
mod cache;
mod later;
mod serve;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;

use self::answer::Answer;
use self::cache::{Cache, Cached};
use crate::audit::Questions;
use crate::direct::Direct;
use crate::pool::Lease;
use crate::refusals::Refusals;
use crate::sandbox::Sandbox;
use crate::shared::Shared;
use crate::throttle::Bucket;

pub(crate) use self::later::Later;
pub(crate) use self::serve::{serve_tcp, serve_udp};

/// Longest message that is answered; questions are shorter than 512 bytes.
const MAX_MESSAGE: usize = 4096;

/// Payload we say we take (the size of the DNS flag day).
pub(crate) const PAYLOAD: u16 = 1232;

/// How long clients may believe that a name does not exist. Short: policies change while clients run.
const NEGATIVE_TTL: Duration = Duration::from_secs(5);

/// How often the same name is recorded as refused.
const RECORD_AGAIN: Duration = Duration::from_mins(1);

/// Extended error "Blocked" (RFC 8914).
const EXTENDED_ERROR: u16 = 15;
const BLOCKED: u16 = 15;

/// Answers the questions of one sandbox.
///
/// # Guarantees
/// Any bytes may be given to it. What it answers is never longer than 1232 bytes, and at most a few times as long as what
/// it was asked.
pub struct Resolver {
    sandbox: Arc<Sandbox>,
    shared: Arc<Shared>,
    /// Whether the sandbox has IPv6.
    v6: Arc<AtomicBool>,
    cache: Cache,
    rate: Option<Bucket>,
    /// For questions that are not answered from the cache.
    new: Option<Bucket>,
    refusals: Arc<Refusals>,
    /// What opens the addresses it tells, where the sandbox itself connects.
    direct: Option<Arc<Direct>>,
    questions: Questions,
}

/// What becomes of a question.
pub(crate) enum Reply {
    /// It is not answered.
    Silence,
    /// It is not answered, and no other is for a moment: there are too many.
    TooMany,
    /// The answer was written.
    Ready,
    /// The answer has to be looked for.
    Later(Later),
}

impl Resolver {
    /// The resolver of `sandbox`; `v6` says whether IPv6 addresses are of any use to it.
    pub(crate) fn new(
        sandbox: Arc<Sandbox>,
        shared: Arc<Shared>,
        refusals: Arc<Refusals>,
        v6: Arc<AtomicBool>,
        direct: Option<Arc<Direct>>,
        now: Instant,
    ) -> Self {
        let bucket = |rate: Option<u32>| rate.map(|rate| Bucket::new(rate, now));
        let (rate, new) = (bucket(shared.limits.dns_rate), bucket(shared.limits.dns_new));
        let questions = sandbox.sink.questions(&sandbox.project, &sandbox.name);
        Self { sandbox, shared, v6, cache: Cache::default(), rate, new, refusals, direct, questions }
    }

    /// Has answers forgotten that do not hold any more. To be called before each batch of questions.
    pub(crate) fn refresh(&mut self) {
        let stands = (self.sandbox.epoch(), self.shared.today(), self.v6.load(Ordering::Relaxed));
        self.cache.hold_for(stands);
    }

    /// Writes the answer to `request` into `response`, if there is one at once.
    pub(crate) fn answer(&mut self, request: &[u8], response: &mut Vec<u8>, now: Instant) -> Reply {
        response.clear();
        if self.rate.as_mut().is_some_and(|rate| !rate.take(now)) {
            self.refusals.name("", "dns-rate");
            return Reply::TooMany;
        }
        let Some((id, question)) = request.split_first_chunk::<2>() else { return Reply::Silence };
        let held = |lease: &Arc<Lease>| self.sandbox.pool.renew(lease, now);
        if let Some(cached) = self.cache.get(question).filter(|cached| cached.lease.as_ref().is_none_or(held)) {
            response.extend_from_slice(id);
            response.extend_from_slice(&cached.response);
            let counted = if cached.refused.is_some() { &self.questions.refused } else { &self.questions.answered };
            counted.inc();
            if let Some((name, again)) = cached.refused.as_mut().filter(|(_, again)| *again <= now) {
                *again = now + RECORD_AGAIN;
                self.refusals.name(name, "no-rule");
            }
            return Reply::Ready;
        }
        if self.new.as_mut().is_some_and(|rate| !rate.take(now)) {
            self.refusals.name("", "dns-rate");
            return Reply::TooMany;
        }
        self.answer_afresh(request, question, response, now)
    }

    fn answer_afresh(&mut self, request: &[u8], question: &[u8], response: &mut Vec<u8>, now: Instant) -> Reply {
        // A response, or less than a header: whatever is sent back could be taken for a question again.
        let Some(header) = request.first_chunk::<12>().filter(|header| header[2] & 0x80 == 0) else {
            return Reply::Silence;
        };
        let readable = request.len() <= MAX_MESSAGE && is_plain(header);
        let message = readable.then(|| Message::from_vec(request).ok()).flatten();
        let Some(message) = message.filter(|message| message.queries.len() == 1 || message.op_code != OpCode::Query)
        else {
            response.extend_from_slice(&malformed(header));
            return Reply::Ready;
        };
        let mut answer = self.decide(&message, now);
        if let Some((name, direct)) = answer.later.take().zip(self.direct.as_ref()) {
            let (direct, shared) = (Arc::clone(direct), Arc::clone(&self.shared));
            self.questions.answered.inc();
            return Reply::Later(Later { name, request: message, direct, shared });
        }
        let Some(bytes) = written(&message, &answer) else { return Reply::Silence };
        response.extend_from_slice(&bytes);
        let Answer { lease, refused, lasting, .. } = answer;
        let counted = if refused.is_some() { &self.questions.refused } else { &self.questions.answered };
        counted.inc();
        if let Some(name) = &refused {
            self.refusals.name(name, "no-rule");
        }
        if lasting && let Some((_, rest)) = bytes.split_first_chunk::<2>() {
            let refused = refused.map(|name| (name, now + RECORD_AGAIN));
            self.cache.put(question, Cached { response: rest.into(), lease, refused });
        }
        Reply::Ready
    }

    fn decide(&self, request: &Message, now: Instant) -> Answer {
        match (request.op_code, request.queries.first(), &request.edns) {
            (_, _, Some(asked)) if asked.version() > 0 => Answer::code(ResponseCode::BADVERS),
            (OpCode::Query, Some(query), _) => {
                let v6 = self.v6.load(Ordering::Relaxed);
                answer::to(&self.sandbox, &self.shared, v6, self.direct.is_some(), query, now)
            }
            _ => Answer::code(ResponseCode::NotImp),
        }
    }
}

/// The message that says `answer` to `request`; `None` if nothing can be said.
fn written(request: &Message, answer: &Answer) -> Option<Vec<u8>> {
    let failed = || Message::error_msg(request.id, request.op_code, ResponseCode::ServFail);
    respond(request, answer).to_vec().or_else(|_| failed().to_vec()).ok()
}

fn respond(request: &Message, answer: &Answer) -> Message {
    let mut response = Message::response(request.id, request.op_code);
    response.metadata.recursion_desired = request.recursion_desired;
    response.metadata.recursion_available = true;
    response.metadata.checking_disabled = request.checking_disabled;
    response.add_queries(request.queries.iter().cloned());
    let mut edns = request.edns.as_ref().map(|_| {
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD);
        edns
    });
    response.metadata.response_code = answer.code;
    response.add_answers(answer.records.iter().cloned());
    if answer.negative() {
        response.add_authority(answer::start_of_authority());
    }
    if let Some(edns) = &mut edns {
        edns.set_rcode_high(answer.code.high());
        if answer.refused.is_some() {
            let mut value = BLOCKED.to_be_bytes().to_vec();
            value.extend_from_slice(b"not in the allowlist of this sandbox");
            edns.options_mut().insert(EdnsOption::Unknown(EXTENDED_ERROR, value));
        }
    }
    if let Some(edns) = edns {
        response.set_edns(edns);
    }
    response
}

/// Whether a message has what questions have: one question, and no records but what is said about the message itself. Names
/// can be written so short, and so many of them, that reading all is too much to do for anybody who asks.
fn is_plain(header: &[u8; 12]) -> bool {
    let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    count(4) == 1 && count(6) == 0 && count(8) == 0 && count(10) <= 2
}

/// What is said to a message nobody can read: its own id and operation, and that it is malformed.
fn malformed(header: &[u8; 12]) -> [u8; 12] {
    const RESPONSE: u8 = 0x80;
    const OPERATION_AND_RECURSION: u8 = 0x79;
    const FORMAT_ERROR: u8 = 1;
    let mut response = [0; 12];
    response[..2].copy_from_slice(&header[..2]);
    response[2] = RESPONSE | (header[2] & OPERATION_AND_RECURSION);
    response[3] = FORMAT_ERROR;
    response
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("sandbox", &self.sandbox).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
