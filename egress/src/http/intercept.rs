//! HTTP inside TLS, to the one host that a connection is for: TLS ends here, and begins again on the way out.

use std::sync::Arc;

use rustls::server::Acceptor;
use schema::policy::Host;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::asked::Unfit;
use super::refusal::{Form, Refusal};
use super::serve::{self, Door};
use super::target::Target;
use crate::audit::Spoken;
use crate::session::Session;

/// Serves `client` until its end, every request judged by the policy then in force.
///
/// # Guarantees
/// As [`super::plain::serve`]. The name that TLS is asked for is the session's host; the server's certificate is verified
/// for that name, or nothing is sent to it.
pub async fn serve<S>(client: S, session: Session)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let shaken = tokio::select! {
        biased;
        () = session.flow.cancelled() => Err("revoked"),
        shaken = timeout(session.shared.limits.handshake, shake(client, &session)) => {
            shaken.unwrap_or(Err("handshake-timeout"))
        }
    };
    let stream = match shaken {
        Ok(stream) => stream,
        Err(because) => {
            let mut record = session.flow.record(Spoken::Https, Some(because));
            record.allowed = false;
            return session.flow.ended(record);
        }
    };
    let multiplex = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let target = Arc::new(Target::new(session, true, multiplex));
    let door = Arc::clone(&target);
    let serving = async {
        if multiplex {
            return serve::two(stream, door).await;
        }
        if let Some(tunnel) = serve::one(stream, door).await {
            let refusal = Refusal::unfit(&Unfit::Method);
            Door::refused(&target, &refusal);
            serve::part(tunnel.stream, &refusal, Form::Text).await;
        }
    };
    tokio::select! {
        biased;
        () = target.session.flow.cancelled() => {}
        () = serving => {}
    }
}

/// Shakes hands in the place of the session's host.
async fn shake<S>(client: S, session: &Session) -> Result<TlsStream<S>, &'static str>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some(authority) = session.shared.web.authority(&session.sandbox.project) else {
        tracing::warn!(project = session.sandbox.project, "no certificate authority: nothing can be looked into");
        return Err("no-authority");
    };
    let hello = LazyConfigAcceptor::new(Acceptor::default(), client).await.map_err(|_| "tls-handshake")?;
    let named = hello.client_hello().server_name().map(str::parse::<Host>);
    match (named, &session.host) {
        (Some(Ok(named)), host) if named == *host => {}
        // TLS has no names for addresses.
        (None, Host::Address(_)) => {}
        (None, Host::Name(_)) => return Err("sni-missing"),
        (Some(Err(_)), _) => return Err("sni-malformed"),
        (Some(Ok(_)), _) => return Err("sni-mismatch"),
    }
    let config = authority.config(&session.host).map_err(|error| {
        tracing::warn!(%error, host = %session.host, "no certificate");
        "no-certificate"
    })?;
    // Mostly clients that do not trust the authority, and say so.
    hello.into_stream(config).await.map_err(|_| "tls-handshake")
}

#[cfg(test)]
mod tests;
