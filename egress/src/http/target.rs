//! The one host that requests on a connection are for.

use std::net::IpAddr;

use http::header::{HeaderMap, HeaderValue};
use http::request::Parts;
use jiff::civil::Date;
use schema::policy::Host;

use super::asked::{self, Asked, Unfit};
use super::hop::LOOP;
use super::refusal::Refusal;
use super::upstream::Upstream;
use crate::defence::Defence;
use crate::explain::Refused;
use crate::generation::Generation;
use crate::judge::Wish;
use crate::sandbox::Sandbox;
use crate::session::Session;
use crate::verdict::{Denial, Question, Speech, Transport};

/// Where requests go.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) session: Session,
    /// Whether TLS is spoken with it, and was with the client.
    pub(super) tls: bool,
    pub(super) upstream: Upstream,
    /// `Host`, in the one spelling that servers get to read.
    pub(super) authority: HeaderValue,
    /// Marks requests to it as sent from here.
    pub(super) mark: HeaderValue,
    /// Whether a request was made.
    #[cfg(feature = "failpoints")]
    asked: std::sync::atomic::AtomicBool,
}

impl Target {
    /// What `session` is for. `multiplex` is whether the client asks for several things at once.
    pub(super) fn new(session: Session, tls: bool, multiplex: bool) -> Self {
        let authority = authority(&session.host, session.port, tls);
        let mark = session.shared.web.mark(&session.host);
        Self {
            session,
            tls,
            upstream: Upstream::new(multiplex),
            authority,
            mark,
            #[cfg(feature = "failpoints")]
            asked: std::sync::atomic::AtomicBool::default(),
        }
    }

    /// Whether only the first request of a connection is looked at, and this is a later one.
    #[cfg(feature = "failpoints")]
    fn is_not_asked_again(&self) -> bool {
        self.asked.swap(true, std::sync::atomic::Ordering::Relaxed) && Defence::EveryRequest.is_off()
    }

    #[cfg(not(feature = "failpoints"))]
    #[expect(clippy::unused_self, reason = "as with failpoints")]
    const fn is_not_asked_again(&self) -> bool {
        false
    }

    /// Whether a request with this head is for this host.
    pub(super) fn is_meant(&self, parts: &Parts) -> Result<(), Refusal> {
        let Session { host, port, .. } = &self.session;
        if Defence::Host.is_off() || self.is_not_asked_again() {
            return Ok(());
        }
        match asked::named(&parts.uri, &parts.headers).map_err(|unfit| Refusal::unfit(&unfit))? {
            // HTTP/1.0, which knew no names.
            None if parts.version == http::Version::HTTP_10 => Ok(()),
            None => Err(Refusal::unfit(&Unfit::NoHost)),
            // Where no port is said, it is the connection's.
            Some((named, at)) if named == *host && at.is_none_or(|at| at == *port) => Ok(()),
            Some((named, at)) => Err(Refusal::other_host(&named, at, host, *port)),
        }
    }

    /// Whether a request with these headers was sent from here before.
    pub(super) fn is_marked(&self, headers: &HeaderMap) -> bool {
        if Defence::Loop.is_off() {
            return false;
        }
        headers.get_all(LOOP).iter().any(|marks| {
            marks.as_bytes().split(|byte| *byte == b',').any(|mark| mark.trim_ascii() == self.mark.as_bytes())
        })
    }

    /// Why `asked` is not sent there.
    pub(super) fn denied(&self, asked: &Asked, denial: &Denial, generation: &Generation) -> Refusal {
        let Session { sandbox, shared, host, port, .. } = &self.session;
        let question = Question { host, port: *port, transport: Transport::Tcp };
        let speech = if self.tls { Speech::Tls } else { Speech::Http };
        asked.with(|request| {
            let wish = Wish { question, speech, request: Some(request) };
            let refused = Refused { sandbox: &sandbox.name, wish, denial };
            Refusal::denied(&refused, &generation.compiled, shared.today())
        })
    }
}

/// Why there is no connection to `host` at all.
pub(super) fn unconnected(sandbox: &Sandbox, host: &Host, port: u16, denial: &Denial, today: Date) -> Refusal {
    let question = Question { host, port, transport: Transport::Tcp };
    let wish = Wish { question, speech: Speech::Http, request: None };
    Refusal::denied(&Refused { sandbox: &sandbox.name, wish, denial }, &sandbox.generation().compiled, today)
}

/// `host`, or `host:port` where the port is not the usual one.
fn authority(host: &Host, port: u16, tls: bool) -> HeaderValue {
    let host = match host {
        Host::Address(IpAddr::V6(address)) => format!("[{address}]"),
        host => host.to_string(),
    };
    let usual = if tls { 443 } else { 80 };
    let text = if port == usual { host } else { format!("{host}:{port}") };
    // Names and addresses are made of characters that headers may have.
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("invalid"))
}
