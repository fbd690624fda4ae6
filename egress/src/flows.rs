//! Open connections and flows of datagrams of one sandbox, and what becomes of them when the policy changes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::civil::Date;
use schema::policy::{Host, Rule};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use crate::audit::{Record, Spoken};
use crate::dial::Endpoint;
use crate::generation::Generation;
use crate::pool::InUse;
use crate::requests::Requests;
use crate::route::Route;
use crate::sandbox::Sandbox;
use crate::shared::Shared;
use crate::verdict::{ConnectVerdict, Denial, Inspect, Question, RequestVerdict, Speech, Transport};

/// What is open.
#[derive(Debug, Default)]
pub struct Flows {
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    tcp: usize,
    udp: usize,
    /// Connections to servers, beside those that clients have with us.
    outside: usize,
    flows: HashMap<u64, Arc<Flow>>,
}

/// One of them.
#[derive(Debug)]
struct Flow {
    host: Host,
    port: u16,
    transport: Transport,
    /// Changed only under the registry's lock.
    judged: Mutex<Judged>,
    cut: CancellationToken,
    opened: Instant,
    time: Timestamp,
    sent: AtomicU64,
    received: AtomicU64,
    /// Whether there is a record of how it went.
    recorded: AtomicBool,
    /// Requests on it, where they are judged one by one.
    requests: Arc<Requests>,
}

/// By what it is open.
#[derive(Debug, Clone)]
struct Judged {
    generation: u64,
    rule: Arc<Rule>,
    /// What it turned out to be, if anybody looked.
    speech: Option<Speech>,
    /// Which way it goes; `None` as long as it has not been settled.
    route: Option<Route>,
    /// Where it leads, once it was dialled.
    dialled: Option<Endpoint>,
    /// Where requests on it lead, by the connection they go by.
    asked: HashMap<u64, Endpoint>,
}

/// Why a flow was not opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The policy says so.
    Policy(Denial),
    /// As many are open as may be.
    TooMany,
}

/// A flow that is registered for as long as this lives.
///
/// # Guarantees
/// Where it leads somewhere there is a record of it at its end: by [`FlowGuard::ended`], or when this is dropped before that.
pub struct FlowGuard {
    sandbox: Arc<Sandbox>,
    id: u64,
    flow: Arc<Flow>,
    /// Keeps the address standing for the name.
    _name: Option<InUse>,
    /// One of the connections, or of the other sockets, that all sandboxes may have together.
    _place: OwnedSemaphorePermit,
}

/// A connection to a server that requests of a client are sent by. Connections of both kinds have one bound together.
#[derive(Debug)]
pub(crate) struct Outside {
    sandbox: Arc<Sandbox>,
    /// The flow whose requests go by it, and as which of its connections.
    asked_by: Option<(Arc<Flow>, u64)>,
    _place: OwnedSemaphorePermit,
}

impl Outside {
    /// Room for one, if there is.
    pub(crate) fn take(sandbox: &Arc<Sandbox>, shared: &Shared) -> Option<Self> {
        let mut open = sandbox.flows.lock();
        if open.tcp + open.outside >= shared.limits.connections {
            return None;
        }
        let place = Arc::clone(&shared.connections).try_acquire_owned().ok()?;
        open.outside += 1;
        Some(Self { sandbox: Arc::clone(sandbox), asked_by: None, _place: place })
    }

    /// Whether requests may go by it, as far as where it leads is concerned.
    pub(crate) fn may_be_asked(&self) -> bool {
        self.asked_by.as_ref().is_some_and(|(flow, id)| flow.judged().asked.contains_key(id))
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let mut open = self.sandbox.flows.lock();
        open.outside -= 1;
        if let Some((flow, id)) = &self.asked_by {
            flow.judged().asked.remove(id);
        }
    }
}

impl Flows {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many TCP connections and flows of datagrams are open.
    pub fn count(&self) -> (usize, usize) {
        let open = self.lock();
        (open.tcp, open.udp)
    }

    /// What `generation` would end, as people write it, sorted: flows, and requests on flows that would stay.
    pub fn cut_by(&self, generation: &Generation, today: Date) -> Vec<String> {
        let open = self.lock();
        let mut ended: Vec<String> = Vec::new();
        for flow in open.flows.values() {
            let name = match &flow.host {
                Host::Address(std::net::IpAddr::V6(address)) => format!("[{address}]:{}", flow.port),
                host => format!("{host}:{}", flow.port),
            };
            if flow.judge(generation, today) {
                let requests = if flow.asks_where_it_may(generation, today) {
                    flow.requests.cut_by(generation, &flow.host, flow.port, today)
                } else {
                    flow.requests.all()
                };
                ended.extend(requests.into_iter().map(|request| format!("{name} {request}")));
            } else {
                ended.push(name);
            }
        }
        ended.sort();
        ended
    }

    /// Cuts all that is not allowed any more; how many. What is in force is asked of `newest` under the lock, so that of
    /// several at once the last one has the newest.
    pub(crate) fn judge_again(&self, newest: impl FnOnce() -> (Arc<Generation>, Date)) -> usize {
        let open = self.lock();
        let (generation, today) = newest();
        let generation = generation.as_ref();
        let (allowed, revoked): (Vec<_>, Vec<_>) = open.flows.values().partition(|flow| flow.judge(generation, today));
        for flow in allowed {
            if flow.asks_where_it_may(generation, today) {
                flow.requests.judge_again(generation, &flow.host, flow.port, today);
            } else {
                // Which request leads where is not told apart; the connection itself may stay. Those outside carry no other
                // request any more.
                flow.requests.cut();
                flow.judged().asked.clear();
            }
        }
        for flow in &revoked {
            flow.end();
        }
        revoked.len()
    }

    /// Cuts all: the sandbox is not served any more.
    pub fn cut(&self) {
        for flow in self.lock().flows.values() {
            flow.end();
        }
    }
}

impl Flow {
    fn question(&self) -> Question<'_> {
        Question { host: &self.host, port: self.port, transport: self.transport }
    }

    fn judged(&self) -> MutexGuard<'_, Judged> {
        self.judged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.cut.cancel();
        self.requests.cut();
    }

    /// Whether all that requests on it lead to may still be dialled, and so.
    fn asks_where_it_may(&self, generation: &Generation, today: Date) -> bool {
        self.judged().asked.values().all(|endpoint| self.may_lead(generation, endpoint, today))
    }

    fn may_lead(&self, generation: &Generation, endpoint: &Endpoint, today: Date) -> bool {
        endpoint.may_stay(&generation.policy, &self.host, self.port, self.transport, today)
    }

    /// Whether it may go on.
    fn judge(&self, generation: &Generation, today: Date) -> bool {
        let ConnectVerdict::Allow { inspect, .. } = generation.compiled.connect(self.question(), today) else {
            return false;
        };
        let judged = self.judged();
        if judged.dialled.as_ref().is_some_and(|endpoint| !self.may_lead(generation, endpoint, today)) {
            return false;
        }
        // Not yet seen what it is: that is judged by what is then in force.
        judged.route.is_none_or(|route| route.satisfies(Route::of(inspect, self.port, judged.speech)))
    }
}

impl FlowGuard {
    /// Opens a flow, if the policy allows it; how closely it has to be looked at.
    ///
    /// # Guarantees
    /// Judged by one generation. If another is put in force meanwhile, the flow is either judged by that one, or cut by it.
    pub fn open(
        sandbox: &Arc<Sandbox>,
        shared: &Shared,
        host: Host,
        port: u16,
        transport: Transport,
        name: Option<InUse>,
    ) -> Result<(Self, Inspect), Refused> {
        let today = shared.today();
        let cut = CancellationToken::new();
        // Loaded under the lock: a swap judges again under the same lock, after it has put its generation in force.
        let mut open = sandbox.flows.lock();
        let generation = sandbox.generation();
        let question = Question { host: &host, port, transport };
        let (inspect, rule) = match generation.compiled.connect(question, today) {
            ConnectVerdict::Allow { inspect, rule } => (inspect, rule),
            ConnectVerdict::Deny(denial) => return Err(Refused::Policy(denial)),
        };
        let room = match transport {
            Transport::Tcp => open.tcp + open.outside < shared.limits.connections,
            Transport::Udp => open.udp < shared.limits.udp_flows,
        };
        if !room {
            return Err(Refused::TooMany);
        }
        let places = match transport {
            Transport::Tcp => &shared.connections,
            Transport::Udp => &shared.sockets,
        };
        let place = Arc::clone(places).try_acquire_owned().map_err(|_| Refused::TooMany)?;
        match transport {
            Transport::Tcp => open.tcp += 1,
            Transport::Udp => open.udp += 1,
        }
        let id = open.next;
        open.next += 1;
        let flow = Arc::new(Flow {
            host,
            port,
            transport,
            judged: Mutex::new(Judged {
                generation: generation.number,
                rule,
                speech: None,
                route: None,
                dialled: None,
                asked: HashMap::new(),
            }),
            cut,
            opened: Instant::now(),
            time: (shared.clock)(),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            recorded: AtomicBool::new(false),
            requests: Arc::default(),
        });
        open.flows.insert(id, Arc::clone(&flow));
        drop(open);
        Ok((Self { sandbox: Arc::clone(sandbox), id, flow, _name: name, _place: place }, inspect))
    }

    /// Says what the flow turned out to be, if anybody looked; which way it goes by the policy in force.
    pub fn settle(&self, shared: &Shared, speech: Option<Speech>) -> Result<Route, Denial> {
        let _open = self.sandbox.flows.lock();
        let generation = self.sandbox.generation();
        let (question, today) = (self.flow.question(), shared.today());
        match generation.compiled.connect(question, today) {
            ConnectVerdict::Deny(denial) => Err(denial),
            ConnectVerdict::Allow { inspect, .. } => {
                let route = Route::of(inspect, self.flow.port, speech);
                // Not the first rule about host and port, but the one that lets this be spoken.
                let rule = match generation.compiled.spoken(question, speech, today) {
                    RequestVerdict::Allow(rule) if route != Route::Refuse => rule,
                    RequestVerdict::Allow(rule) => return Err(Denial::Protocol(rule)),
                    RequestVerdict::Deny(denial) => return Err(denial),
                };
                let mut judged = self.flow.judged();
                // Requests go by connections of their own: what was dialled before anything was seen is given up.
                let dialled = judged.dialled.take().filter(|_| route == Route::Pass);
                let asked = std::mem::take(&mut judged.asked);
                *judged = Judged { generation: generation.number, rule, speech, route: Some(route), dialled, asked };
                Ok(route)
            }
        }
    }

    /// Says where the flow leads. Should the policy in force not let that be dialled any more, or only another way, the flow
    /// has to end.
    pub fn leads_to(&self, shared: &Shared, endpoint: Endpoint) {
        // Under the lock, as in `open`.
        let _open = self.sandbox.flows.lock();
        self.flow.judged().dialled = Some(endpoint);
        if !self.flow.judge(&self.sandbox.generation(), shared.today()) {
            self.flow.cut.cancel();
        }
    }

    /// Says where requests on it lead by `outside`, as long as that lives; whether they may. If not, what is under way is cut.
    pub(crate) fn asks(&self, shared: &Shared, outside: &mut Outside, endpoint: Endpoint) -> bool {
        let mut open = self.sandbox.flows.lock();
        if !self.flow.may_lead(&self.sandbox.generation(), &endpoint, shared.today()) {
            self.flow.requests.cut();
            return false;
        }
        let id = open.next;
        open.next += 1;
        self.flow.judged().asked.insert(id, endpoint);
        outside.asked_by = Some((Arc::clone(&self.flow), id));
        true
    }

    /// Returns once the flow has to end: it is not allowed any more, or the sandbox is not served any more.
    pub async fn cancelled(&self) {
        self.flow.cut.cancelled().await;
    }

    /// Whether it has to end.
    pub fn is_cancelled(&self) -> bool {
        self.flow.cut.is_cancelled()
    }

    /// Requests on it.
    pub(crate) fn requests(&self) -> &Arc<Requests> {
        &self.flow.requests
    }

    /// Counts bytes from the sandbox.
    pub fn sent(&self, bytes: u64) {
        self.flow.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes to the sandbox.
    pub fn received(&self, bytes: u64) {
        self.flow.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// For how long it is open.
    pub fn age(&self) -> Duration {
        self.flow.opened.elapsed()
    }

    /// Bytes from the sandbox and to it.
    pub fn bytes(&self) -> (u64, u64) {
        (self.flow.sent.load(Ordering::Relaxed), self.flow.received.load(Ordering::Relaxed))
    }

    /// Records how it went.
    pub(crate) fn ended(&self, record: Record) {
        self.flow.recorded.store(true, Ordering::Relaxed);
        self.sandbox.sink.record_lasting(record, self.age());
    }

    /// The record of how it went.
    pub fn record(&self, spoken: Spoken, because: Option<&str>) -> Record {
        let flow = &self.flow;
        let (generation, rule) = {
            let judged = flow.judged();
            (judged.generation, judged.rule.place.to_string())
        };
        let (sent, received) = self.bytes();
        Record {
            time: flow.time,
            project: self.sandbox.project.clone(),
            sandbox: self.sandbox.name.clone(),
            generation,
            protocol: spoken,
            host: flow.host.to_string(),
            port: flow.port,
            method: None,
            path: None,
            allowed: true,
            because: because.map(str::to_owned),
            rule: Some(rule),
            sent,
            received,
            duration_ms: 0,
        }
        .lasted(flow.opened.elapsed())
    }
}

impl Drop for FlowGuard {
    fn drop(&mut self) {
        // Whoever served it was ended.
        if self.flow.judged().dialled.is_some() && !self.flow.recorded.load(Ordering::Relaxed) {
            let spoken = match self.flow.transport {
                Transport::Tcp => Spoken::Tcp,
                Transport::Udp => Spoken::Udp,
            };
            self.ended(self.record(spoken, Some("stopped")));
        }
        let mut open = self.sandbox.flows.lock();
        open.flows.remove(&self.id);
        match self.flow.transport {
            Transport::Tcp => open.tcp -= 1,
            Transport::Udp => open.udp -= 1,
        }
    }
}

impl std::fmt::Debug for FlowGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.flow.fmt(f)
    }
}

#[cfg(test)]
mod tests;
