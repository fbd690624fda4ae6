//! HTTP without TLS, to the one host that a connection is for.

use std::sync::Arc;

use http::header::ACCEPT;
use schema::policy::Host;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::timeout;

use super::asked::Unfit;
use super::explicit;
use super::head;
use super::refusal::{Form, Refusal};
use super::serve::{self, Door};
use super::target::{Target, unconnected};
use crate::sandbox::Sandbox;
use crate::session::Session;
use crate::shared::Shared;
use crate::verdict::Denial;

/// Serves `client` until its end, every request judged by the policy then in force.
///
/// # Guarantees
/// A request is answered by nobody but the session's host, and only if the policy allows it when it is asked. When the
/// session's flow is cancelled, everything ends at once.
pub async fn serve<S>(client: S, session: Session)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let target = Arc::new(Target::new(session, false, false));
    let door = Arc::clone(&target);
    tokio::select! {
        biased;
        () = target.session.flow.cancelled() => {}
        tunnel = serve::one(client, door) => {
            if let Some(tunnel) = tunnel {
                let refusal = Refusal::unfit(&Unfit::Method);
                Door::refused(&target, &refusal);
                serve::part(tunnel.stream, &refusal, Form::Text).await;
            }
        }
    }
}

/// Tells a client, which may not connect to `host` at all, why. It is told once it has asked.
pub(crate) async fn deny<S>(mut client: S, sandbox: &Sandbox, shared: &Shared, host: &Host, denial: &Denial)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut head: Vec<u8> = Vec::new();
    let reading = async {
        // What was looked at is not looked at again: it may come in single bytes.
        let mut seen = 0;
        while let Ok(None) = head::end(&head, seen) {
            seen = head.len();
            match client.read_buf(&mut head).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
    };
    if timeout(shared.limits.handshake, reading).await.is_err() {
        return;
    }
    let accept = explicit::header(&head, b"accept:").map(|value| (ACCEPT, value)).into_iter().collect();
    // Refused for its host or port, whatever is asked of it.
    let refusal = unconnected(sandbox, host, 80, denial, shared.today());
    serve::part(client, &refusal, Form::of(&accept)).await;
}

#[cfg(test)]
mod tests;
