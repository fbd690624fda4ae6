//! Clients that know that this is a proxy (`HTTP_PROXY`), with the same decisions as for those that do not.
//!
//! `CONNECT host:port` opens a connection as if the client had connected to the host by its address: what is said on it is
//! looked at in the same way. Where requests are not judged, the answer comes once the host has taken the connection, and says
//! so if it has not. `GET http://host/path` is judged as a request on a connection to the host.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Uri};
use schema::policy::Host;
use tokio::io::AsyncWriteExt;

use super::asked::{self, Unfit};
use super::refusal::{Form, Refusal};
use super::serve::{self, Door, Tunnel};
use super::target::{Target, unconnected};
use crate::audit::{Record, Spoken};
use crate::connection::{self, NoServer};
use crate::explain::DNS;
use crate::flows::{FlowGuard, Refused};
use crate::limits::Limits;
use crate::refusals::Refusals;
use crate::sandbox::Sandbox;
use crate::session::Session;
use crate::shared::Shared;
use crate::splice::Channel;
use crate::verdict::{Inspect, Speech, Transport};

/// Where clients come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// At a port, from a network whose own connections to port 53 are taken to the resolver.
    Port,
    /// At a socket, from where there is no network and no resolver.
    Socket,
}

/// Serves `client` until its end.
///
/// # Guarantees
/// Every host is judged as on a connection to it: no way leads past the policy that transparent connections are held to.
pub(crate) async fn serve<C: Channel>(
    client: C,
    entrance: Entrance,
    sandbox: Arc<Sandbox>,
    shared: Arc<Shared>,
    refusals: Arc<Refusals>,
) {
    let proxy = Arc::new(Proxy { entrance, sandbox, shared, refusals, current: Mutex::default() });
    let Some(tunnel) = serve::one(client, Arc::clone(&proxy)).await else { return };
    let Tunnel { mut stream, head, rest } = tunnel;
    let (session, inspect) = match proxy.tunnel(&head) {
        Ok(opened) => opened,
        Err(refusal) => return serve::part(stream, &refusal, form(&head)).await,
    };
    drop(proxy);
    let server = match connection::ahead(&session, inspect).await {
        Ok(server) => server,
        Err(NoServer::Failed(error)) => return serve::part(stream, &Refusal::dial(&error), form(&head)).await,
        Err(NoServer::Revoked) => return stream.reset(),
    };
    if stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.is_err() {
        // The server has seen a connection, so the records have it too.
        return session.flow.ended(session.flow.record(Spoken::Tcp, Some("broken-off")));
    }
    connection::serve_tunnel(stream, rest.to_vec(), session, inspect, server).await;
}

/// One client.
struct Proxy {
    entrance: Entrance,
    sandbox: Arc<Sandbox>,
    shared: Arc<Shared>,
    refusals: Arc<Refusals>,
    /// What its last request was for. Clients rarely change, and nothing is kept for those that do.
    current: Mutex<Option<Arc<Target>>>,
}

impl Proxy {
    /// Opens a flow to a host, if it may be reached.
    fn open(&self, method: &Method, host: Host, port: u16, path: &str) -> Result<(Session, Inspect), Refusal> {
        if port == DNS && self.entrance == Entrance::Port {
            let refusal = Refusal::resolver();
            self.record(Some(method), &host.to_string(), port, Some(path), &refusal);
            return Err(refusal);
        }
        let opened = FlowGuard::open(&self.sandbox, &self.shared, host.clone(), port, Transport::Tcp, None);
        let (sandbox, shared) = (Arc::clone(&self.sandbox), Arc::clone(&self.shared));
        match opened {
            Ok((flow, inspect)) => Ok((Session { sandbox, shared, host, port, flow }, inspect)),
            Err(Refused::Policy(denial)) => {
                let refusal = unconnected(&sandbox, &host, port, &denial, shared.today());
                self.record(Some(method), &host.to_string(), port, Some(path), &refusal);
                Err(refusal)
            }
            Err(Refused::TooMany) => {
                let refusal = Refusal::too_many();
                // As on a connection to it: it may be tried as often as anybody likes.
                self.refusals.connection(&host.to_string(), port, refusal.because);
                Err(refusal)
            }
        }
    }

    /// What a `CONNECT` asks for.
    fn tunnel(&self, head: &Bytes) -> Result<(Session, Inspect), Refusal> {
        let named = tunnelled(head).and_then(|(host, port)| Ok((host, port.ok_or(Unfit::NoPort)?)));
        match named {
            Ok((host, port)) => self.open(&Method::CONNECT, host, port, ""),
            Err(unfit) => {
                let refusal = Refusal::unfit(&unfit);
                self.record(Some(&Method::CONNECT), "", 0, None, &refusal);
                Err(refusal)
            }
        }
    }

    fn record(&self, method: Option<&Method>, host: &str, port: u16, path: Option<&str>, refusal: &Refusal) {
        self.sandbox.sink.record(Record {
            time: (self.shared.clock)(),
            project: self.sandbox.project.clone(),
            sandbox: self.sandbox.name.clone(),
            generation: self.sandbox.generation().number,
            protocol: Spoken::Http,
            host: host.to_owned(),
            port,
            method: method.map(|method| method.as_str().to_owned()),
            path: path.filter(|path| !path.is_empty()).map(|path| path.chars().take(2048).collect()),
            allowed: false,
            because: Some(refusal.because.to_owned()),
            rule: refusal.rule.clone(),
            sent: 0,
            received: 0,
            duration_ms: 0,
        });
    }

    /// Where a request goes that is not for a tunnel.
    fn find(&self, parts: &Parts) -> Result<Arc<Target>, Refusal> {
        let named = asked::named(&parts.uri, &parts.headers).map_err(|unfit| Refusal::unfit(&unfit));
        let refuse = |host: &str, refusal: Refusal| {
            self.record(Some(&parts.method), host, 0, Some(parts.uri.path()), &refusal);
            refusal
        };
        let named = named.map_err(|refusal| refuse("", refusal))?;
        let (host, port) = match (parts.uri.scheme_str(), named) {
            (Some("http"), Some((host, port))) => (host, port.unwrap_or(80)),
            (_, named) => {
                let host = named.map(|(host, _)| host.to_string()).unwrap_or_default();
                return Err(refuse(&host, Refusal::not_for_a_proxy()));
            }
        };
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(target) = &*current
            && (&target.session.host, target.session.port) == (&host, port)
            && !target.session.flow.is_cancelled()
        {
            return Ok(Arc::clone(target));
        }
        // Before another flow is opened: it counts.
        *current = None;
        let (session, _) = self.open(&parts.method, host, port, parts.uri.path())?;
        if let Err(denial) = session.flow.settle(&self.shared, Some(Speech::Http)) {
            let Session { sandbox, shared, host, port, .. } = &session;
            let refusal = unconnected(sandbox, host, *port, &denial, shared.today());
            self.record(Some(&parts.method), &host.to_string(), *port, Some(parts.uri.path()), &refusal);
            return Err(refusal);
        }
        let target = Arc::new(Target::new(session, false, false));
        *current = Some(Arc::clone(&target));
        Ok(target)
    }
}

impl Door for Arc<Proxy> {
    fn target(&self, parts: &Parts) -> Result<Arc<Target>, Refusal> {
        self.find(parts)
    }

    fn refused(&self, refusal: &Refusal) {
        self.record(None, "", 0, None, refusal);
    }

    fn limits(&self) -> &Limits {
        &self.shared.limits
    }
}

/// Host and port of a `CONNECT`, whose head is well-formed.
fn tunnelled(head: &[u8]) -> Result<asked::Named, Unfit> {
    let odd = || Unfit::Authority("?".to_owned());
    let text = std::str::from_utf8(head).map_err(|_| odd())?;
    let target = text.split(' ').nth(1).ok_or_else(odd)?;
    // `CONNECT http://host/` is something else.
    asked::authority(target)?;
    let uri =
        Uri::builder().authority(target).build().map_err(|_| Unfit::Authority(target.chars().take(300).collect()))?;
    let hosts = header(head, b"host:").map(|value| (HOST, value));
    asked::named(&uri, &hosts.into_iter().collect::<HeaderMap>())?.ok_or(Unfit::NoHost)
}

/// How whoever sent this head reads refusals.
fn form(head: &[u8]) -> Form {
    let accept = header(head, b"accept:").map(|value| (http::header::ACCEPT, value));
    Form::of(&accept.into_iter().collect())
}

/// A header of a well-formed head. `name` is in lower case, with its colon.
pub(super) fn header(head: &[u8], name: &[u8]) -> Option<HeaderValue> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let (start, value) = line.split_at_checked(name.len())?;
        start.eq_ignore_ascii_case(name).then(|| HeaderValue::from_bytes(value.trim_ascii()).ok()).flatten()
    })
}

#[cfg(test)]
mod tests;
