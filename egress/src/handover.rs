//! Where connections are handed to what understands HTTP.
//!
//! What that needs is large and kept apart, so that connections that only pass bytes on stay small.

use std::sync::Arc;

use schema::policy::Host;
use tokio::net::TcpStream;

use crate::http;
pub(crate) use crate::http::explicit::Entrance;
use crate::refusals::Refusals;
use crate::sandbox::Sandbox;
use crate::session::{Prefixed, Session};
use crate::shared::Shared;
use crate::splice::Channel;
use crate::verdict::Denial;

/// HTTP of which every request is judged.
pub(crate) async fn requests<C: Channel>(client: Prefixed<C>, session: Session) {
    Box::pin(http::plain::serve(client, session)).await;
}

/// TLS that ends here.
pub(crate) async fn intercept<C: Channel>(client: Prefixed<C>, session: Session) {
    Box::pin(http::intercept::serve(client, session)).await;
}

/// A client that knows that this is a proxy.
pub(crate) async fn explicit<C: Channel>(
    client: C,
    entrance: Entrance,
    sandbox: Arc<Sandbox>,
    shared: Arc<Shared>,
    refusals: Arc<Refusals>,
) {
    Box::pin(http::explicit::serve(client, entrance, sandbox, shared, refusals)).await;
}

/// A client of plain HTTP that is not to be connected.
pub(crate) async fn denied(
    client: TcpStream,
    sandbox: &Arc<Sandbox>,
    shared: &Arc<Shared>,
    host: &Host,
    denial: &Denial,
) {
    http::plain::deny(client, sandbox, shared, host, denial).await;
}
