//! Connections to the server that a client's requests are for.
//!
//! They belong to the client's connection and end with it: what one client makes of a connection never reaches another.
//! Kept alive, they carry one request after another, as the client's own connection does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::payload::Upload;
use super::refusal::Refusal;
use super::target::Target;
use crate::dial::Dialled;
use crate::flows::Outside;
use crate::generation::Generation;
use crate::tls::outbound::{Offer, server_name};

/// Requests of one client connection that are with a server at once by HTTP/1.1, each on a connection of its own. Further
/// ones wait.
pub(super) const AT_ONCE: usize = 16;

/// Connections to one server, for the requests of one client connection.
#[derive(Debug)]
pub(super) struct Upstream {
    /// Turns of requests that have a connection to themselves.
    turns: Arc<Semaphore>,
    kept: Mutex<Kept>,
    /// Whether the client speaks HTTP/2, so that it is offered to the server as well.
    multiplex: bool,
    /// Whether the server may speak HTTP/2, as far as is known.
    may_multiplex: AtomicBool,
    /// One connects at a time for as long as all requests may go by one connection.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Kept {
    /// By which policy they were made.
    generation: u64,
    one: Vec<One>,
    two: Option<Two>,
}

/// Sends a request.
#[derive(Debug)]
pub(super) enum Sender {
    /// By HTTP/1.1, one at a time.
    One(One, OwnedSemaphorePermit),
    /// By HTTP/2, which many requests use.
    Two(http2::SendRequest<Upload>),
}

/// A connection of HTTP/1.1.
#[derive(Debug)]
pub(super) struct One {
    sender: http1::SendRequest<Upload>,
    /// Counts it; also held by what drives it, which ends when the connection becomes something else.
    place: Arc<Outside>,
}

/// A connection of HTTP/2.
#[derive(Debug)]
struct Two {
    sender: http2::SendRequest<Upload>,
    /// What counts it, for as long as it is there.
    place: Weak<Outside>,
}

/// A new connection.
enum Connected {
    One(One),
    Two(Two),
}

impl Kept {
    /// Lets go what an earlier policy than `generation` made, which may lead where this one does not allow, what leads where
    /// nothing may on another day, and what its server has closed. Whether what is left is of this policy.
    fn is_of(&mut self, generation: u64) -> bool {
        if self.generation < generation {
            *self = Self { generation, ..Self::default() };
        }
        self.one.retain(|one| !one.sender.is_closed() && one.place.may_be_asked());
        self.two
            .take_if(|two| !two.place.upgrade().is_some_and(|place| place.may_be_asked()) || two.sender.is_closed());
        self.generation == generation
    }
}

impl Upstream {
    pub(super) fn new(multiplex: bool) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            kept: Mutex::default(),
            multiplex,
            may_multiplex: AtomicBool::new(multiplex),
            connecting: tokio::sync::Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection of HTTP/2 that is there already, made by `generation`.
    fn shared(&self, generation: u64) -> Option<Sender> {
        let mut kept = self.lock();
        if kept.is_of(generation) { kept.two.as_ref().map(|two| Sender::Two(two.sender.clone())) } else { None }
    }

    /// The same of HTTP/1.1, with nothing else on it.
    async fn idle(&self, generation: u64) -> Option<One> {
        loop {
            let mut one = {
                let mut kept = self.lock();
                if kept.is_of(generation) { kept.one.pop()? } else { return None }
            };
            // Its last answer was read to the end just now: it is about to be ready, unless the server closed it.
            if one.sender.ready().await.is_ok() {
                return Some(one);
            }
        }
    }

    /// Takes back a sender whose answer has been read to its end.
    pub(super) fn put_back(&self, sender: Sender, generation: u64) {
        let Sender::One(one, turn) = sender else { return };
        let mut kept = self.lock();
        if kept.is_of(generation) && !one.sender.is_closed() && one.place.may_be_asked() {
            kept.one.push(one);
        }
        drop(kept);
        // Whoever waits for it finds the connection.
        drop(turn);
    }

    /// A sender, and whether it has sent something before. `only_one` asks for HTTP/1.1; `fresh` for a new connection, because
    /// one that was kept turned out to be of no use any more.
    pub(super) async fn sender(
        &self,
        target: &Target,
        generation: &Generation,
        only_one: bool,
        fresh: bool,
    ) -> Result<(Sender, bool), Refusal> {
        let number = generation.number;
        if fresh {
            // Those that were kept beside it are as old.
            self.lock().one.clear();
        }
        let sharing = || self.multiplex && !only_one && self.may_multiplex.load(Ordering::Relaxed);
        let may_share = || if fresh || only_one { None } else { self.shared(number) };
        if let Some(sender) = may_share() {
            return Ok((sender, true));
        }
        let mut connecting = if sharing() { Some(self.connecting.lock().await) } else { None };
        // Somebody else may have connected meanwhile.
        if let Some(sender) = may_share() {
            return Ok((sender, true));
        }
        let sharing = sharing();
        connecting.take_if(|_| !sharing);
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| Refusal::too_many())?;
        if let Some(one) = self.idle(number).await {
            return Ok((Sender::One(one, turn), true));
        }
        let connected = self.connect(target, generation, only_one).await?;
        let mut kept = self.lock();
        Ok(match connected {
            Connected::Two(two) => {
                let sender = two.sender.clone();
                if kept.is_of(number) {
                    kept.two = Some(two);
                }
                (Sender::Two(sender), false)
            }
            Connected::One(one) => {
                if sharing {
                    self.may_multiplex.store(false, Ordering::Relaxed);
                }
                (Sender::One(one, turn), false)
            }
        })
    }

    async fn connect(&self, target: &Target, generation: &Generation, only_one: bool) -> Result<Connected, Refusal> {
        let session = &target.session;
        let (host, web) = (&session.host, &session.shared.web);
        let mut place = Outside::take(&session.sandbox, &session.shared).ok_or_else(Refusal::too_many)?;
        let dialled = session.shared.dialer.dial(generation, host, session.port, session.shared.today()).await;
        let Dialled { stream, endpoint } = dialled.map_err(|error| Refusal::dial(&error))?;
        if !session.flow.asks(&session.shared, &mut place, endpoint) {
            // Whoever asked is cut, and with that this ends.
            return std::future::pending().await;
        }
        if !target.tls {
            return handshake_one(target, stream, place).await;
        }
        let offer = if self.multiplex && !only_one { Offer::Both } else { Offer::One };
        let config = web.outbound.config(offer).map_err(|error| Refusal::tls(host, &error))?;
        let name = server_name(host).map_err(|error| Refusal::tls(host, &error))?;
        let shaking = TlsConnector::from(config).connect(name, stream);
        let stream = match timeout(session.shared.limits.handshake, shaking).await {
            Ok(done) => done.map_err(|error| Refusal::tls(host, &error))?,
            Err(late) => return Err(Refusal::tls(host, &late)),
        };
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            handshake_two(target, stream, place).await
        } else {
            handshake_one(target, stream, place).await
        }
    }
}

async fn handshake_one<S>(target: &Target, stream: S, place: Outside) -> Result<Connected, Refusal>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let done = http1::Builder::new().max_headers(super::head::MOST_HEADERS * 2).handshake(TokioIo::new(stream)).await;
    let (sender, connection) = done.map_err(|error| Refusal::upstream(&target.session.host, &error))?;
    let place = Arc::new(place);
    let driven = Arc::clone(&place);
    // Ends when its sender is gone, the server closes it, or it becomes something else.
    tokio::spawn(async move {
        let _place = driven;
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to a server");
        }
    });
    Ok(Connected::One(One { sender, place }))
}

async fn handshake_two<S>(target: &Target, stream: S, place: Outside) -> Result<Connected, Refusal>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
    let done = builder.handshake(TokioIo::new(stream)).await;
    let (sender, connection) = done.map_err(|error| Refusal::upstream(&target.session.host, &error))?;
    let driven = Arc::new(place);
    let place = Arc::downgrade(&driven);
    tokio::spawn(async move {
        let _place = driven;
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to a server");
        }
    });
    Ok(Connected::Two(Two { sender, place }))
}

/// Bytes that may be under way in one stream of HTTP/2, and in all streams of a connection.
pub(super) const STREAM_WINDOW: u32 = 256 * 1024;
pub(super) const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// A request that was not answered.
pub(super) struct Unsent {
    /// What happened.
    pub(super) error: hyper::Error,
    /// The request itself, if nothing of it was sent.
    pub(super) request: Option<Request<Upload>>,
}

impl Sender {
    /// Whether requests name their host in the target.
    pub(super) fn is_two(&self) -> bool {
        matches!(self, Self::Two(_))
    }

    /// What counts the connection, for when it becomes something else than HTTP: only HTTP/1.1 does.
    pub(super) fn place(self) -> Option<Arc<Outside>> {
        match self {
            Self::One(one, _) => Some(one.place),
            Self::Two(_) => None,
        }
    }

    /// Sends `request`; the head of its answer.
    pub(super) async fn send(&mut self, request: Request<Upload>) -> Result<Response<Incoming>, Unsent> {
        let sent = match self {
            Self::One(one, _) => one.sender.try_send_request(request).await,
            Self::Two(two) => two.try_send_request(request).await,
        };
        sent.map_err(|mut unsent: TrySendError<_>| {
            let request = unsent.take_message();
            Unsent { error: unsent.into_error(), request }
        })
    }
}

#[cfg(test)]
mod tests;
