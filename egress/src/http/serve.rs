//! A client's connection, request after request.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::exchange::{self, Outcome, Upgraded};
use super::gate::Gate;
use super::guard::{Ending, Guard, Patience};
use super::head::{self, Malformed};
use super::payload::Payload;
use super::refusal::{Form, Refusal};
use super::target::Target;
use super::tunnel;
use super::upstream::{CONNECTION_WINDOW, STREAM_WINDOW};
use crate::limits::Limits;
use crate::session::{Prefixed, Session};

/// Streams of HTTP/2 that a client may have open at once.
const STREAMS: u32 = 64;
/// Bytes of an answer that wait for a client that does not take them, in each stream.
const UNSENT: usize = 32 * 1024;
/// How long a client that was refused may take to go.
const PARTING: Duration = Duration::from_millis(500);

/// Whom requests on a connection are for.
pub(super) trait Door: Send + Sync + 'static {
    /// Where a request with this head goes. Records what it refuses.
    fn target(&self, parts: &http::request::Parts) -> Result<Arc<Target>, Refusal>;

    /// Records that something was refused that is no request.
    fn refused(&self, refusal: &Refusal);

    /// How much is allowed.
    fn limits(&self) -> &Limits;
}

/// All requests are for one host.
impl Door for Arc<Target> {
    fn target(&self, _: &http::request::Parts) -> Result<Arc<Target>, Refusal> {
        Ok(Arc::clone(self))
    }

    fn refused(&self, refusal: &Refusal) {
        let Session { sandbox, shared, .. } = &self.session;
        let mut record = self.record((shared.clock)(), sandbox.generation().number);
        record.allowed = false;
        record.because = Some(refusal.because.to_owned());
        sandbox.sink.record(record);
    }

    fn limits(&self) -> &Limits {
        &self.session.shared.limits
    }
}

/// A client that asks for a tunnel: its stream, the head, and what follows the head.
pub(super) struct Tunnel<S> {
    pub(super) stream: S,
    pub(super) head: Bytes,
    pub(super) rest: Bytes,
}

/// Serves HTTP/1 until the connection ends, or asks for a tunnel.
pub(super) async fn one<S, D>(stream: S, door: D) -> Option<Tunnel<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    D: Door + Clone + Unpin,
{
    let limits = door.limits().clone();
    let gate = Arc::new(Gate::default());
    let granted: Arc<Mutex<Option<Upgraded>>> = Arc::default();
    let patience = Patience { head: limits.handshake, idle: limits.http_idle };
    let guard = Guard::new(stream, Arc::clone(&gate), patience);
    let service = {
        let (door, gate, granted) = (door.clone(), Arc::clone(&gate), Arc::clone(&granted));
        service_fn(move |request: Request<Incoming>| {
            let (door, gate, granted) = (door.clone(), Arc::clone(&gate), Arc::clone(&granted));
            // Boxed, since the connection is polled by hand below.
            Box::pin(async move {
                let outcome = respond(&door, request, Some(Arc::clone(&gate))).await;
                if let Outcome::Upgraded(response, upgraded) = outcome {
                    *granted.lock().unwrap_or_else(PoisonError::into_inner) = Some(upgraded);
                    gate.open();
                    return Ok(response);
                }
                outcome.into()
            })
        })
    };
    let mut connection =
        http1::Builder::new().max_headers(head::MOST_HEADERS).serve_connection(TokioIo::new(guard), service);
    if let Err(error) = poll_fn(|cx| connection.poll_without_shutdown(cx)).await {
        // Answered by the server of HTTP itself, which is stricter about URLs.
        if error.is_parse() {
            door.refused(&Refusal::malformed(Malformed::Target));
        }
        return None;
    }
    let parts = connection.into_parts();
    let (mut stream, kept, ending) = parts.io.into_inner().into_parts();
    let malformed = match ending {
        None => {
            let upgraded = granted.lock().unwrap_or_else(PoisonError::into_inner).take()?;
            // What the server of HTTP has read of what follows.
            let read = [parts.read_buf.as_ref(), kept.as_ref()].concat();
            tunnel::run(Prefixed::new(read, stream), upgraded, limits.upgrade_idle).await;
            return None;
        }
        Some(Ending::Tunnel(length)) => {
            let mut kept: BytesMut = kept;
            let head = kept.split_to(length).freeze();
            return Some(Tunnel { stream, head, rest: kept.freeze() });
        }
        Some(Ending::Closed) => {
            let _ = stream.shutdown().await;
            return None;
        }
        Some(Ending::Malformed(malformed)) => malformed,
    };
    let refusal = Refusal::malformed(malformed);
    door.refused(&refusal);
    part(stream, &refusal, Form::Text).await;
    None
}

/// Says why, and closes the connection so that the client gets to read it.
pub(super) async fn part<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, refusal: &Refusal, form: Form) {
    let parting = async {
        stream.write_all(&refusal.raw(form)).await?;
        stream.shutdown().await?;
        // Bytes that nobody read would make the kernel reset the connection, and the answer might be lost.
        let mut sink = vec![0; 4096];
        let mut left = 256 * 1024_usize;
        while left > 0 {
            match stream.read(&mut sink).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        std::io::Result::Ok(())
    };
    let _ = timeout(PARTING, parting).await;
}

/// Serves HTTP/2 until the connection ends.
pub(super) async fn two<S, D>(stream: S, door: D)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    D: Door + Clone,
{
    let idle = door.limits().http_idle;
    // Streams under way, and when the last one ended.
    let busy = Arc::new(tokio::sync::watch::Sender::new(0_usize));
    let service = {
        let (door, busy) = (door.clone(), Arc::clone(&busy));
        service_fn(move |request: Request<Incoming>| {
            let (door, busy) = (door.clone(), Busy::new(&busy));
            async move {
                let outcome = respond(&door, request, None).await;
                drop(busy);
                Result::from(outcome)
            }
        })
    };
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_send_buf_size(UNSENT)
        .max_header_list_size(u32::try_from(head::LONGEST).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(Some(idle))
        .keep_alive_timeout(door.limits().handshake);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let mut watch = busy.subscribe();
    let rests = async {
        loop {
            let resting = *watch.borrow_and_update() == 0;
            match (resting, timeout(idle, watch.changed()).await) {
                (true, Err(_)) => return,
                (_, Ok(Err(_))) => std::future::pending().await,
                _ => {}
            }
        }
    };
    tokio::select! {
        _ = connection.as_mut() => return,
        () = rests => connection.as_mut().graceful_shutdown(),
    }
    let _ = timeout(idle, connection).await;
}

/// Counts a stream for as long as it lives.
struct Busy(Arc<tokio::sync::watch::Sender<usize>>);

impl Busy {
    fn new(count: &Arc<tokio::sync::watch::Sender<usize>>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(Arc::clone(count))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

async fn respond<D: Door>(door: &D, request: Request<Incoming>, gate: Option<Arc<Gate>>) -> Outcome {
    let (parts, body) = request.into_parts();
    match door.target(&parts) {
        Ok(target) => exchange::answer(target, Request::from_parts(parts, body), gate).await,
        Err(refusal) => {
            Outcome::Answer(refusal.response(Form::of(&parts.headers)).map(|text| Payload::whole(text, gate)))
        }
    }
}
