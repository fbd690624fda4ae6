//! Bodies on their way through, piece by piece, counted.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http::header::HeaderName;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::account::Account;
use super::edits::Edits;
use super::gate::Gate;
use super::hop;
use super::target::Target;
use super::upstream::Sender;
use crate::requests::UnderWay;

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Interrupted {
    /// The policy does not allow the request any more.
    #[error("the request is not allowed any more")]
    Revoked,
    /// The other side broke off.
    #[error("the other side broke off")]
    Broken(#[from] hyper::Error),
}

/// The body of a request, on its way to the server.
pub(super) struct Upload {
    body: Option<Incoming>,
    request: Arc<UnderWay>,
    target: Arc<Target>,
    edits: Arc<Edits>,
}

impl Upload {
    pub(super) fn new(body: Option<Incoming>, request: Arc<UnderWay>, target: Arc<Target>, edits: Arc<Edits>) -> Self {
        if body.as_ref().is_none_or(Body::is_end_stream) {
            request.uploaded.store(true, Ordering::Release);
        }
        Self { body, request, target, edits }
    }

    /// The body itself, if nothing of it was sent.
    pub(super) fn into_inner(self) -> Option<Incoming> {
        self.body
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Interrupted;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        let Self { body: Some(body), request, target, edits } = self.get_mut() else { return Poll::Ready(None) };
        if request.is_cut() {
            return Poll::Ready(Some(Err(Interrupted::Revoked)));
        }
        let mut frame = ready!(Pin::new(&mut *body).poll_frame(cx)?);
        if frame.is_none() || body.is_end_stream() {
            request.uploaded.store(true, Ordering::Release);
        }
        if let Some(frame) = &mut frame {
            if let Some(data) = frame.data_ref() {
                request.uploads(data.remaining() as u64);
                target.session.flow.sent(data.remaining() as u64);
            } else if let Some(trailers) = frame.trailers_mut() {
                clean(trailers, edits);
            }
        }
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// Takes out of trailers what only heads may say, and what a rule has changed in the head.
fn clean(trailers: &mut HeaderMap, edits: &Edits) {
    let gone: Vec<HeaderName> =
        trailers.keys().filter(|name| !hop::may_change(name.as_str()) || edits.touches(name)).cloned().collect();
    for name in gone {
        trailers.remove(name);
    }
}

/// The body of an answer, on its way to the client.
pub(super) struct Payload {
    body: Answer,
    /// Told when this is gone: then the answer has been handed to whoever writes it.
    gate: Option<Arc<Gate>>,
}

enum Answer {
    Whole(Option<Bytes>),
    Passing(Box<Passing>),
}

/// The body of a server's answer.
pub(super) struct Passing {
    pub(super) body: Incoming,
    pub(super) account: Account,
    /// What asked for it, if it can ask again.
    pub(super) sender: Option<Sender>,
    pub(super) edits: Edits,
}

impl Payload {
    /// All of it.
    pub(super) fn whole(bytes: Bytes, gate: Option<Arc<Gate>>) -> Self {
        Self { body: Answer::Whole(Some(bytes).filter(|bytes| !bytes.is_empty())), gate }
    }

    /// As it comes.
    pub(super) fn passing(passing: Passing, gate: Option<Arc<Gate>>) -> Self {
        let mut passing = Box::new(passing);
        if passing.body.is_end_stream() {
            passing.ended();
        }
        Self { body: Answer::Passing(passing), gate }
    }
}

impl Passing {
    /// All has been read: the connection is free for another request.
    fn ended(&mut self) {
        self.account.end(None);
        if let Some(sender) = self.sender.take()
            && self.account.request.uploaded.load(Ordering::Acquire)
        {
            self.account.target.upstream.put_back(sender, self.account.generation);
        }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Interrupted;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        let passing = match &mut self.get_mut().body {
            Answer::Whole(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Answer::Passing(passing) => passing,
        };
        if passing.account.request.poll_cut(cx).is_ready() {
            passing.account.end(Some("revoked"));
            return Poll::Ready(Some(Err(Interrupted::Revoked)));
        }
        match ready!(Pin::new(&mut passing.body).poll_frame(cx)) {
            Some(Ok(mut frame)) => {
                if let Some(data) = frame.data_ref() {
                    passing.account.received(data.remaining() as u64);
                } else if let Some(trailers) = frame.trailers_mut() {
                    clean(trailers, &passing.edits);
                }
                if passing.body.is_end_stream() {
                    passing.ended();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                passing.account.end(Some("upstream-failed"));
                Poll::Ready(Some(Err(error.into())))
            }
            None => {
                passing.ended();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Answer::Whole(bytes) => bytes.is_none(),
            Answer::Passing(passing) => passing.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Answer::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Answer::Passing(passing) => passing.body.size_hint(),
        }
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        if let Some(gate) = &self.gate {
            gate.answered();
        }
    }
}
