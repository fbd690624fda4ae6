//! One request and its answer.
//!
//! ```text
//! head → for this host? → judged → changed by its rule → sent → answer's head, changed → bodies both ways, counted
//!              └───────────┴─ refused ────┴─ nothing sent ─┴─ no answer ─→ a text that says why
//! ```

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::uri::{PathAndQuery, Scheme};
use http::{Request, Response, StatusCode, Uri, Version};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::upgrade::OnUpgrade;
use schema::policy::Rule;
use tokio::time::timeout;

use super::account::Account;
use super::asked::{Asked, MAX_METHOD, MAX_PATH};
use super::edits::{EditFault, Edits};
use super::gate::Gate;
use super::hop::{self, LOOP};
use super::payload::{Interrupted, Passing, Payload, Upload};
use super::refusal::{Form, Refusal};
use super::target::Target;
use super::upstream::Unsent;
use crate::audit::Record;
use crate::defence::Defence;
use crate::flows::Outside;
use crate::generation::Generation;
use crate::requests::RequestGuard;
use crate::verdict::RequestVerdict;

/// Most of a refused request's body that is read, so that the connection can be used again.
const DRAINED: usize = 64 * 1024;
/// Longest that is waited for it.
const DRAINING: Duration = Duration::from_secs(1);

/// What follows a request.
pub(super) enum Outcome {
    /// An answer.
    Answer(Response<Payload>),
    /// An answer that ends HTTP on this connection, and what follows it.
    Upgraded(Response<Payload>, Upgraded),
    /// Nothing: the request is not allowed any more.
    Cut,
}

/// A connection that has been upgraded at the server's side.
pub(super) struct Upgraded {
    pub(super) server: OnUpgrade,
    pub(super) account: Account,
    /// The connection counts for as long as it is there.
    pub(super) place: Option<Arc<Outside>>,
}

/// Answers `request`, which came on a connection to `target`. `gate` is told when the answer is written.
pub(super) async fn answer(target: Arc<Target>, request: Request<Incoming>, gate: Option<Arc<Gate>>) -> Outcome {
    let (parts, mut body) = request.into_parts();
    let form = Form::of(&parts.headers);
    let expects = parts.headers.contains_key(header::EXPECT);
    let refusal = match decide(&target, parts, body.is_end_stream(), gate.clone()) {
        Ok(allowed) => match allowed.forward(body).await {
            Ok(outcome) => return outcome,
            // What is left of the body goes with the connection to the server.
            Err(refusal) => return refused(&refusal, form, gate),
        },
        Err(refusal) => refusal,
    };
    if !expects && !body.is_end_stream() {
        let draining = async {
            let mut left = DRAINED;
            while let Some(Ok(frame)) = body.frame().await {
                left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
                if left == 0 {
                    break;
                }
            }
        };
        // If there is more, the server closes the connection after its answer.
        let _ = timeout(DRAINING, draining).await;
    }
    refused(&refusal, form, gate)
}

fn refused(refusal: &Refusal, form: Form, gate: Option<Arc<Gate>>) -> Outcome {
    Outcome::Answer(refusal.response(form).map(|text| Payload::whole(text, gate)))
}

/// A request that may be sent on.
struct Allowed {
    account: Account,
    generation: Arc<Generation>,
    rule: Arc<Rule>,
    request_edits: Arc<Edits>,
    response_edits: Edits,
    gate: Option<Arc<Gate>>,
}

/// Judges a request by its head. `bodyless` is whether that is all of it.
fn decide(
    target: &Arc<Target>,
    parts: http::request::Parts,
    bodyless: bool,
    gate: Option<Arc<Gate>>,
) -> Result<Allowed, Refusal> {
    let session = &target.session;
    let (method, uri) = (parts.method.clone(), parts.uri.clone());
    let refuse = |path: &str, generation: u64, refusal: Refusal| {
        record_refused(target, method.as_str(), path, generation, &refusal);
        refusal
    };
    let read = target.is_meant(&parts).and_then(|()| {
        if target.is_marked(&parts.headers) {
            return Err(Refusal::came_back());
        }
        Asked::read(parts, target.tls, bodyless).map_err(|unfit| Refusal::unfit(&unfit))
    });
    // By no rule, and so by none of a generation in particular: the one in force has it.
    let in_force = || session.sandbox.generation().number;
    let asked = read.map_err(|refusal| refuse(uri.path(), in_force(), refusal))?;
    if let Some(upgrade) = &asked.upgrade
        && upgrade.as_bytes().to_ascii_lowercase().windows(3).any(|token| token == b"h2c")
        && !Defence::H2c.is_off()
    {
        return Err(refuse(asked.path.as_str(), in_force(), Refusal::h2c()));
    }
    // Registered before it is judged: a change of the policy from here on is not missed.
    let request = RequestGuard::new(session.flow.requests(), asked);
    let generation = Arc::clone(&session.sandbox.generation());
    let verdict = request.asked.judge(&generation, &session.host, session.port, session.shared.today());
    let rule = match verdict {
        RequestVerdict::Allow(rule) => rule,
        RequestVerdict::Deny(denial) => {
            let refusal = target.denied(&request.asked, &denial, &generation);
            return Err(refuse(request.asked.path.as_str(), generation.number, refusal));
        }
    };
    let mut account = Account::new(Arc::clone(target), request, generation.number, Arc::clone(&rule));
    match edits(&rule, &generation) {
        Ok((request_edits, response_edits)) => {
            let request_edits = Arc::new(request_edits);
            Ok(Allowed { account, generation, rule, request_edits, response_edits, gate })
        }
        Err(fault) => {
            let refusal = Refusal::edit(&fault, &rule);
            account.end(Some(refusal.because));
            Err(refusal)
        }
    }
}

/// Changes in both directions, before anything is sent: a server is not asked for what cannot be answered.
fn edits(rule: &Rule, generation: &Generation) -> Result<(Edits, Edits), EditFault> {
    Ok((Edits::to_request(&rule.request, &generation.secrets)?, Edits::to_response(&rule.response)?))
}

/// Records what was not sent.
fn record_refused(target: &Target, method: &str, path: &str, generation: u64, refusal: &Refusal) {
    target.session.sandbox.sink.record(Record {
        // No query, and no more than a line.
        path: Some(path.split('?').next().unwrap_or_default().chars().take(MAX_PATH).collect()),
        method: Some(method.chars().take(MAX_METHOD).collect()),
        allowed: false,
        because: Some(refusal.because.to_owned()),
        rule: refusal.rule.clone(),
        ..target.record((target.session.shared.clock)(), generation)
    });
}

impl Allowed {
    /// Sends it on; what the server answers.
    async fn forward(mut self, body: Incoming) -> Result<Outcome, Refusal> {
        let limit = self.rule.timeout.unwrap_or(self.account.target.session.shared.limits.answer);
        let request = self.account.request.share();
        let cut = poll_fn(|cx| request.poll_cut(cx));
        let sent = tokio::select! {
            biased;
            () = cut => {
                self.account.end(Some("revoked"));
                return Ok(Outcome::Cut);
            }
            sent = self.send(body) => Ok(sent),
            () = request.rests(limit) => Err(limit),
        };
        let host = &self.account.target.session.host;
        let failure = match sent {
            Ok(Ok(outcome)) => return self.pass(outcome),
            Ok(Err(failure)) => failure,
            Err(limit) => Refusal::too_late(host, limit.as_secs(), &self.rule),
        };
        match failure.status {
            StatusCode::FORBIDDEN | StatusCode::LOOP_DETECTED => self.account.refuse(failure.because),
            _ => self.account.end(Some(failure.because)),
        }
        Err(failure)
    }

    async fn send(&self, body: Incoming) -> Result<Sent, Refusal> {
        let target = &self.account.target;
        let asked = &self.account.request.asked;
        let only_one = asked.upgrade.is_some();
        let empty = body.is_end_stream();
        let mut body = Some(body);
        let mut fresh = false;
        loop {
            let (mut sender, used) = target.upstream.sender(target, &self.generation, only_one, fresh).await?;
            let upload = Upload::new(
                body.take().filter(|_| !empty),
                self.account.request.share(),
                Arc::clone(target),
                Arc::clone(&self.request_edits),
            );
            let request = self.request(upload, sender.is_two());
            match sender.send(request).await {
                Ok(response) => return Ok(Sent { response, sender }),
                Err(Unsent { error, request }) => {
                    // A connection that was kept alive may have been closed while the request was on its way there, as
                    // every client has to expect. It is asked again where that does no harm.
                    let untouched = request.is_some();
                    if !used || !(untouched || (empty && asked.is_safe() && error.is_incomplete_message())) {
                        return Err(self.failed(&error));
                    }
                    body = request.and_then(|request| request.into_body().into_inner());
                    fresh = true;
                }
            }
        }
    }

    fn failed(&self, error: &hyper::Error) -> Refusal {
        // The body that was sent on may be what was wrong.
        if let Some(malformed) = self.gate.as_ref().and_then(|gate| gate.fault()) {
            return Refusal::malformed(malformed);
        }
        Refusal::upstream(&self.account.target.session.host, error)
    }

    /// The request as it is sent.
    fn request(&self, upload: Upload, two: bool) -> Request<Upload> {
        let target = &self.account.target;
        let asked = &self.account.request.asked;
        let mut request = Request::new(upload);
        *request.method_mut() = asked.method.clone();
        let mut headers = asked.headers.clone();
        self.request_edits.apply(&mut headers);
        headers.append(HeaderName::from_static(LOOP), target.mark.clone());
        let path = match &asked.query {
            Some(query) => PathAndQuery::try_from(format!("{}?{query}", asked.path.as_str())),
            None => PathAndQuery::try_from(asked.path.as_str()),
        };
        // Both have been read as parts of a URL before.
        let path = path.unwrap_or_else(|_| PathAndQuery::from_static("/"));
        let mut uri = http::uri::Parts::default();
        uri.path_and_query = Some(path);
        if two {
            uri.scheme = Some(Scheme::HTTPS);
            uri.authority = target.authority.to_str().ok().and_then(|authority| authority.parse().ok());
            *request.version_mut() = Version::HTTP_2;
        } else {
            headers.insert(header::HOST, target.authority.clone());
        }
        if let Some(upgrade) = &asked.upgrade {
            headers.insert(header::UPGRADE, upgrade.clone());
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        }
        *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        *request.headers_mut() = headers;
        request
    }

    /// Passes an answer on.
    fn pass(mut self, sent: Sent) -> Result<Outcome, Refusal> {
        let Sent { mut response, sender } = sent;
        let host = &self.account.target.session.host;
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if switched && self.account.request.asked.upgrade.is_none() {
            let refusal = Refusal::odd_answer(host, "another protocol than it was asked for");
            self.account.end(Some(refusal.because));
            return Err(refusal);
        }
        let upgrade = response.headers().get(header::UPGRADE).cloned();
        let server = switched.then(|| hyper::upgrade::on(&mut response));
        let (parts, body) = response.into_parts();
        let mut answer = Response::new(());
        *answer.status_mut() = parts.status;
        let mut headers = parts.headers;
        hop::strip(&mut headers);
        self.response_edits.apply(&mut headers);
        let Some(server) = server else {
            *answer.headers_mut() = headers;
            let Self { account, response_edits: edits, gate, .. } = self;
            let passing = Passing { body, account, sender: Some(sender), edits };
            return Ok(Outcome::Answer(answer.map(|()| Payload::passing(passing, gate))));
        };
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        if let Some(upgrade) = upgrade {
            headers.insert(header::UPGRADE, upgrade);
        }
        *answer.headers_mut() = headers;
        let Self { account, gate, .. } = self;
        let answer = answer.map(|()| Payload::whole(Bytes::new(), gate));
        Ok(Outcome::Upgraded(answer, Upgraded { server, account, place: sender.place() }))
    }
}

/// An answer's head, and who fetched it.
struct Sent {
    response: Response<Incoming>,
    sender: super::upstream::Sender,
}

/// The request is not allowed any more; whoever serves the connection ends it.
impl From<Outcome> for Result<Response<Payload>, Interrupted> {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Answer(response) | Outcome::Upgraded(response, _) => Ok(response),
            Outcome::Cut => Err(Interrupted::Revoked),
        }
    }
}
