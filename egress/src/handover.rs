//! Where connections are handed to what understands HTTP.

use std::sync::Arc;

use schema::policy::Host;
use tokio::net::TcpStream;

use crate::sandbox::Sandbox;
use crate::session::{Prefixed, Session};
use crate::shared::Shared;
use crate::splice::Channel;
use crate::verdict::Denial;

/// HTTP of which every request is judged.
#[expect(clippy::unused_async, reason = "until HTTP is served")]
pub(crate) async fn requests<C: Channel>(client: Prefixed<C>, session: Session) {
    client.get_ref().reset();
    drop(session);
}

/// TLS that ends here.
#[expect(clippy::unused_async, reason = "until HTTP is served")]
pub(crate) async fn intercept<C: Channel>(client: Prefixed<C>, session: Session) {
    client.get_ref().reset();
    drop(session);
}

/// A client that knows that this is a proxy.
#[expect(clippy::unused_async, reason = "until HTTP is served")]
pub(crate) async fn explicit<C: Channel>(client: C, _sandbox: Arc<Sandbox>, _shared: Arc<Shared>) {
    client.reset();
}

/// A client of plain HTTP that is not to be connected.
#[expect(clippy::unused_async, reason = "until HTTP is served")]
pub(crate) async fn denied(client: TcpStream, _: &Arc<Sandbox>, _: &Arc<Shared>, _: &Host, _: &Denial) {
    client.reset();
}
