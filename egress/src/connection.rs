//! A connection that the policy allows, from its first byte to its last.
//!
//! ```text
//! Nothing has to be seen ──────────────────────────────────────────────→ dial → move bytes
//! client speaks first    → look at its first bytes → for the name? ────→ dial → move bytes
//!                                                  → HTTP: every request is judged (`http`)
//! server may speak first → client silent → dial, pass on what the server says meanwhile ↑
//! ```
//!
//! Where the client has to speak first, nothing is dialled before what it says was judged. A client that asks for a tunnel
//! is an exception ([`ahead`]): it is told whether there is one.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::audit::{Record, Spoken};
use crate::defence::Defence;
use crate::detect::{self, Detected, Detector};
use crate::dial::{DialError, Dialled};
use crate::flows::FlowGuard;
use crate::handover;
use crate::refuse::{self, read_some};
use crate::route::Route;
use crate::sandbox::Sandbox;
use crate::session::{Prefixed, Session};
use crate::splice::{Channel, Direction, Relay};
use crate::verdict::{Inspect, Speech};

/// Read at once while looking at first bytes.
const CHUNK: usize = 4 * 1024;

/// A connection being looked at.
struct Opening<C> {
    client: C,
    session: Session,
    /// What the client said so far.
    first: Vec<u8>,
    detector: Detector,
    /// Whether HTTP could pass: if not, nobody waits for bytes to become that.
    may_be_http: bool,
    /// What a place among the connections that are not established yet is held by.
    place: Option<OwnedSemaphorePermit>,
}

/// What looking came to.
enum Seen {
    /// This.
    As(Detected),
    /// The client went away, or said too little in the time it had.
    Nothing(&'static str),
    /// HTTP, whose requests cannot be judged from their start any more: the server has said something.
    HttpAfterServer,
}

/// Serves `client`, of which `first` was read already, until its end. `place` is given back once the connection is
/// established.
pub(crate) async fn serve<C: Channel>(
    client: C,
    first: Vec<u8>,
    session: Session,
    inspect: Inspect,
    place: Option<OwnedSemaphorePermit>,
) {
    serve_with(client, first, session, inspect, place, None).await;
}

/// The same for a client of a tunnel; `server` is what [`ahead`] gave.
pub(crate) async fn serve_tunnel<C: Channel>(
    client: C,
    first: Vec<u8>,
    session: Session,
    inspect: Inspect,
    server: Option<TcpStream>,
) {
    serve_with(client, first, session, inspect, None, server).await;
}

/// Connects to what a tunnel is for, before its client is told that there is one. Nothing where requests are judged: each
/// of them is answered by itself. What fails is recorded.
pub(crate) async fn ahead(session: &Session, inspect: Inspect) -> Result<Option<TcpStream>, NoServer> {
    if inspect == Inspect::Requests {
        return Ok(None);
    }
    match dial(session).await {
        Ok(server) => Ok(Some(server)),
        Err(why) => {
            record_failed(session, Spoken::Tcp, &why);
            Err(why)
        }
    }
}

async fn serve_with<C: Channel>(
    client: C,
    first: Vec<u8>,
    session: Session,
    inspect: Inspect,
    place: Option<OwnedSemaphorePermit>,
    server: Option<TcpStream>,
) {
    let may_be_http = inspect.lets_pass(session.port, Speech::Http);
    let mut opening = Opening { client, session, first, detector: Detector::default(), may_be_http, place };
    let dialled = |server: Option<TcpStream>| server.map(|server| (server, Direction::default()));
    if inspect == Inspect::Nothing {
        return opening.go(None, dialled(server)).await;
    }
    let limits = opening.session.shared.limits.clone();
    let client_first = inspect != Inspect::Names || matches!(opening.session.port, 80 | 443);
    if !client_first && opening.first.is_empty() {
        opening.first.reserve(CHUNK);
        // An end or an error comes up again when it is looked for more.
        if timeout(limits.silence, read_some(&opening.client, &mut opening.first)).await.is_err() {
            return opening.serve_silent(limits.handshake, server).await;
        }
    }
    let seen = opening.look(limits.handshake).await;
    opening.judge(seen, dialled(server)).await;
}

impl<C: Channel> Opening<C> {
    /// Looks at what the client says, for no longer than `patience`.
    async fn look(&mut self, patience: Duration) -> Seen {
        let Self { client, session, first, detector, may_be_http, .. } = self;
        let looking = async {
            loop {
                if let Some(detected) = detector.look(first) {
                    return Seen::As(detected);
                }
                if !*may_be_http && detect::is_text(first) {
                    // Of what can be no TLS the strictest is said: another policy may be in force by the time it is judged.
                    return Seen::As(Detected::Http);
                }
                first.reserve(CHUNK);
                match read_some(client, first).await {
                    Ok(0) => return Seen::As(detector.end(first)),
                    Ok(_) => {}
                    Err(_) => return Seen::Nothing("broken-off"),
                }
            }
        };
        tokio::select! {
            biased;
            () = session.flow.cancelled() => Seen::Nothing("revoked"),
            seen = timeout(patience, looking) => seen.unwrap_or(Seen::Nothing("handshake-timeout")),
        }
    }

    /// The client is silent: perhaps it waits for the server.
    async fn serve_silent(mut self, patience: Duration, server: Option<TcpStream>) {
        let server = match server {
            Some(server) => server,
            None => match dial(&self.session).await {
                Ok(server) => server,
                Err(why) => return self.failed(Spoken::Tcp, &why),
            },
        };
        // Nothing more than what waits for the client to speak.
        self.place = None;
        let mut down = Direction::default();
        let spoke = self.hear(&server, &mut down).await;
        if let Err(because) = spoke {
            server.reset();
            return self.ended(true, because);
        }
        // While the client's first bytes come, what the server says waits: few bytes, and they come at once or never.
        let seen = self.look(patience).await;
        let seen = match seen {
            // To be judged by request, from its start, on a connection of its own.
            Seen::As(Detected::Http) if self.session.flow.bytes().1 == 0 => return self.judge(seen, None).await,
            Seen::As(Detected::Http) => Seen::HttpAfterServer,
            seen => seen,
        };
        self.judge(seen, Some((server, down))).await;
    }

    /// Passes on what the server says until the client speaks, or why it did not.
    async fn hear(&mut self, server: &TcpStream, down: &mut Direction) -> Result<(), &'static str> {
        let Self { client, session, first, .. } = self;
        let flow = &session.flow;
        first.reserve(CHUNK);
        let mut speaking = pin!(read_some(client, first));
        let spoke = poll_fn(|cx| match down.poll(cx, server, client, &|bytes| flow.received(bytes)) {
            Poll::Ready(Err(_)) => Poll::Ready(Err(ErrorKind::BrokenPipe.into())),
            _ => speaking.as_mut().poll(cx),
        });
        tokio::select! {
            biased;
            () = flow.cancelled() => Err("revoked"),
            spoke = spoke => spoke.map(drop).map_err(|_| "broken-off"),
        }
    }

    /// Goes on by what was seen.
    async fn judge(self, seen: Seen, dialled: Option<(TcpStream, Direction)>) {
        let speech = match seen {
            Seen::As(Detected::Opaque) => Speech::Other,
            Seen::As(Detected::Http) => Speech::Http,
            Seen::As(Detected::Tls(hello)) => {
                if let Some(because) = hello.mismatch(&self.session.host)
                    && !Defence::ServerName.is_off()
                {
                    self.refused(Spoken::Tls, because);
                    return refuse::alert(&self.client, refuse::UNRECOGNIZED_NAME).await;
                }
                Speech::Tls
            }
            Seen::As(Detected::Broken(_)) if Defence::ServerName.is_off() => Speech::Tls,
            Seen::As(Detected::Broken(_)) => {
                self.refused(Spoken::Tls, "client-hello-malformed");
                return refuse::alert(&self.client, refuse::DECODE_ERROR).await;
            }
            Seen::As(Detected::Ssl2) => {
                self.refused(Spoken::Tls, "sni-missing");
                return self.client.reset();
            }
            Seen::HttpAfterServer => {
                self.refused(Spoken::Tcp, "http-after-server");
                return self.client.reset();
            }
            Seen::Nothing(because) => return self.ended(dialled.is_some(), because),
        };
        self.go(Some(speech), dialled).await;
    }

    /// Goes the way of what it turned out to be, if anybody looked.
    async fn go(self, speech: Option<Speech>, dialled: Option<(TcpStream, Direction)>) {
        let spoken = match speech {
            None | Some(Speech::Other) => Spoken::Tcp,
            Some(Speech::Tls) => Spoken::Tls,
            Some(Speech::Http) => Spoken::Http,
        };
        match self.session.flow.settle(&self.session.shared, speech) {
            Ok(Route::Pass) => self.pass(spoken, dialled).await,
            Ok(Route::Requests) => {
                let Self { client, session, first, place, .. } = self;
                drop(place);
                handover::requests(Prefixed::new(first, client), session).await;
            }
            Ok(Route::Intercept) => {
                let Self { client, session, first, place, .. } = self;
                drop(place);
                handover::intercept(Prefixed::new(first, client), session).await;
            }
            Ok(Route::Refuse) => self.client.reset(),
            Err(denial) => {
                self.refused(spoken, denial.because());
                match speech {
                    Some(Speech::Tls) => refuse::alert(&self.client, refuse::ACCESS_DENIED).await,
                    _ => self.client.reset(),
                }
            }
        }
    }

    /// Passes bytes on as they are.
    async fn pass(mut self, spoken: Spoken, dialled: Option<(TcpStream, Direction)>) {
        let (server, down) = match dialled {
            Some(dialled) => dialled,
            None => match dial(&self.session).await {
                Ok(server) => (server, Direction::default()),
                Err(why) => return self.failed(spoken, &why),
            },
        };
        self.place = None;
        let Self { client, session, first, .. } = self;
        let mut account = Account { session: &session, spoken, because: Some("stopped") };
        let end = Relay::new(Bytes::from(first), down).run(&client, &server, &session.flow).await;
        account.because = end.because();
    }

    /// Ends before anything was judged. That it was let out, if `dialled`, stays true.
    fn ended(self, dialled: bool, because: &str) {
        let flow = &self.session.flow;
        let mut record = flow.record(Spoken::Tcp, Some(because));
        record.allowed = dialled;
        flow.ended(record);
        self.client.reset();
    }

    /// Ends for want of something to pass bytes to.
    fn failed(self, spoken: Spoken, why: &NoServer) {
        record_failed(&self.session, spoken, why);
        self.client.reset();
    }

    fn refused(&self, spoken: Spoken, because: &str) {
        let flow = &self.session.flow;
        let mut record = flow.record(spoken, Some(because));
        record.allowed = false;
        flow.ended(record);
    }
}

/// Connects to what the session is for.
async fn dial(session: &Session) -> Result<TcpStream, NoServer> {
    let Session { sandbox, shared, host, port, flow } = session;
    let generation = Arc::clone(&sandbox.generation());
    let dialling = shared.dialer.dial(&generation, host, *port, shared.today());
    tokio::select! {
        biased;
        () = flow.cancelled() => Err(NoServer::Revoked),
        dialled = dialling => {
            let Dialled { stream, endpoint } = dialled.map_err(NoServer::Failed)?;
            flow.leads_to(shared, endpoint);
            Ok(stream)
        }
    }
}

fn record_failed(session: &Session, spoken: Spoken, why: &NoServer) {
    let Session { sandbox, flow, .. } = session;
    flow.ended(failed(sandbox, flow, spoken, why));
}

/// The record of a flow that leads nowhere.
pub(crate) fn failed(sandbox: &Sandbox, flow: &FlowGuard, spoken: Spoken, why: &NoServer) -> Record {
    let mut record = flow.record(spoken, Some("revoked"));
    if let NoServer::Failed(error) = why {
        tracing::debug!(sandbox = sandbox.name, %error, "no connection");
        record.because = Some(dial_failed(error).to_owned());
        record.allowed = !matches!(error, DialError::Refused { .. } | DialError::Loop { .. });
    }
    record
}

/// Why there is nothing to pass bytes to.
#[derive(Debug)]
pub(crate) enum NoServer {
    /// It is not allowed any more.
    Revoked,
    /// There was no connection.
    Failed(DialError),
}

/// Records a connection at its end, however it comes.
struct Account<'a> {
    session: &'a Session,
    spoken: Spoken,
    because: Option<&'static str>,
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        let flow = &self.session.flow;
        flow.ended(flow.record(self.spoken, self.because));
    }
}

/// What records say of a dial that failed.
fn dial_failed(error: &DialError) -> &'static str {
    match error {
        DialError::NotFound { .. } => "no-such-host",
        DialError::Lookup { .. } => "lookup-failed",
        DialError::Refused { .. } => "address-refused",
        DialError::Loop { .. } => "loop",
        DialError::TimedOut { .. } => "upstream-timeout",
        DialError::Unreachable { .. } | DialError::Interfaces { .. } | DialError::Namespace { .. } => "upstream-failed",
        DialError::Proxy { .. } => "upstream-proxy",
    }
}
