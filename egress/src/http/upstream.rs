//! Connections to the server that a client's requests are for.
//!
//! They belong to the client's connection and end with it: what one client makes of a connection never reaches another.
//! Kept alive, they carry one request after another, as the client's own connection does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use schema::policy::Upstream as Way;

use super::payload::Upload;
use super::refusal::Refusal;
use super::target::Target;
use crate::generation::Generation;
use crate::shared::Shared;
use crate::tls::outbound::{Offer, server_name};

/// Connections to one server that the requests of one client connection have at once. Further requests wait.
pub(super) const AT_ONCE: usize = 16;

/// Connections to one server, for the requests of one client connection.
#[derive(Debug)]
pub(super) struct Upstream {
    /// Places for them.
    places: Arc<Semaphore>,
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
    one: Vec<Single>,
    two: Option<Multiplexed>,
}

/// Sends a request.
#[derive(Debug)]
pub(super) enum Sender {
    /// By HTTP/1.1, one at a time.
    One(Single),
    /// By HTTP/2.
    Two(Multiplexed),
}

/// A connection of HTTP/1.1.
#[derive(Debug)]
pub(super) struct Single {
    sender: http1::SendRequest<Upload>,
    _place: Place,
}

/// A connection of HTTP/2, which many requests use.
#[derive(Debug, Clone)]
pub(super) struct Multiplexed {
    sender: http2::SendRequest<Upload>,
    _place: Arc<Place>,
}

/// Room for a connection: among those of its client, and among all of all sandboxes.
#[derive(Debug)]
struct Place {
    _own: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Upstream {
    pub(super) fn new(multiplex: bool) -> Self {
        Self {
            places: Arc::new(Semaphore::new(AT_ONCE)),
            kept: Mutex::default(),
            multiplex,
            may_multiplex: AtomicBool::new(multiplex),
            connecting: tokio::sync::Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that is there already, made by `generation`. Those made by an earlier one may lead where this one does not allow.
    async fn kept(&self, generation: u64, only_one: bool) -> Option<Sender> {
        loop {
            let mut single = {
                let mut kept = self.lock();
                if kept.generation != generation {
                    return None;
                }
                if let (Some(two), false) = (&kept.two, only_one) {
                    if !two.sender.is_closed() {
                        return Some(Sender::Two(two.clone()));
                    }
                    kept.two = None;
                }
                kept.one.pop()?
            };
            // Its last answer was read to the end just now: it is about to be ready, unless the server closed it.
            if single.sender.ready().await.is_ok() {
                return Some(Sender::One(single));
            }
        }
    }

    /// Takes back a sender whose answer has been read to its end.
    pub(super) fn put_back(&self, sender: Sender, generation: u64) {
        let Sender::One(single) = sender else { return };
        let mut kept = self.lock();
        if kept.generation == generation && !single.sender.is_closed() {
            kept.one.push(single);
        }
    }

    /// A sender, and whether it has sent something before. `only_one` asks for HTTP/1.1; `fresh` for a new connection.
    pub(super) async fn sender(
        &self,
        target: &Target,
        generation: &Generation,
        only_one: bool,
        fresh: bool,
    ) -> Result<(Sender, bool), Refusal> {
        let number = generation.number;
        if !fresh && let Some(sender) = self.kept(number, only_one).await {
            return Ok((sender, true));
        }
        let sharing = self.multiplex && !only_one && self.may_multiplex.load(Ordering::Relaxed);
        let _connecting = if sharing { Some(self.connecting.lock().await) } else { None };
        // Somebody else may have connected meanwhile.
        if sharing
            && !fresh
            && let Some(sender) = self.kept(number, only_one).await
        {
            return Ok((sender, true));
        }
        let sender = self.connect(target, generation, only_one).await?;
        let mut kept = self.lock();
        if kept.generation != number {
            *kept = Kept { generation: number, ..Kept::default() };
        }
        match &sender {
            Sender::Two(two) => kept.two = Some(two.clone()),
            Sender::One(_) if sharing => self.may_multiplex.store(false, Ordering::Relaxed),
            Sender::One(_) => {}
        }
        drop(kept);
        Ok((sender, false))
    }

    async fn connect(&self, target: &Target, generation: &Generation, only_one: bool) -> Result<Sender, Refusal> {
        let session = &target.session;
        let (host, web) = (&session.host, &session.shared.web);
        let place = self.place(&session.shared).await?;
        let dialled = session.shared.dialer.dial(generation, host, session.port).await;
        let stream = dialled.map_err(|error| Refusal::dial(&error))?;
        if matches!(generation.policy.upstream, Way::Direct | Way::Netns(_))
            && let Ok(address) = stream.peer_addr()
        {
            session.flow.asks(address.ip());
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

    /// Room for one more, once there is.
    async fn place(&self, shared: &Shared) -> Result<Place, Refusal> {
        let own = Arc::clone(&self.places).acquire_owned().await.map_err(|_| Refusal::too_many())?;
        let of_all = Arc::clone(&shared.connections).try_acquire_owned().map_err(|_| Refusal::too_many())?;
        Ok(Place { _own: own, _of_all: of_all })
    }
}

async fn handshake_one<S>(target: &Target, stream: S, place: Place) -> Result<Sender, Refusal>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let done = http1::Builder::new().max_headers(super::head::MOST_HEADERS * 2).handshake(TokioIo::new(stream)).await;
    let (sender, connection) = done.map_err(|error| Refusal::upstream(&target.session.host, &error))?;
    // Ends when its sender is gone.
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to a server");
        }
    });
    Ok(Sender::One(Single { sender, _place: place }))
}

async fn handshake_two<S>(target: &Target, stream: S, place: Place) -> Result<Sender, Refusal>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
    let done = builder.handshake(TokioIo::new(stream)).await;
    let (sender, connection) = done.map_err(|error| Refusal::upstream(&target.session.host, &error))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to a server");
        }
    });
    Ok(Sender::Two(Multiplexed { sender, _place: Arc::new(place) }))
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

    /// Sends `request`; the head of its answer.
    pub(super) async fn send(&mut self, request: Request<Upload>) -> Result<Response<Incoming>, Unsent> {
        let sent = match self {
            Self::One(single) => single.sender.try_send_request(request).await,
            Self::Two(two) => two.sender.try_send_request(request).await,
        };
        sent.map_err(|mut unsent: TrySendError<_>| {
            let request = unsent.take_message();
            Unsent { error: unsent.into_error(), request }
        })
    }
}
