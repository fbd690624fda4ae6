//! From the first look at a target to the last: what the data path decides step by step, in one call.

use jiff::civil::Date;
use schema::policy::{RequestPath, Target};

use crate::compiled::Compiled;
use crate::http::is_sent_on;
use crate::route::Route;
use crate::verdict::{ConnectVerdict, Denial, Headers, Question, Request, RequestVerdict, Speech, Transport};

/// Something somebody wants to do, known before it happens.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// What is to be reached.
    pub question: Question<'a>,
    /// What will be spoken; without meaning for datagrams.
    pub speech: Speech,
    /// The request, if what is spoken is HTTP.
    pub request: Option<Request<'a>>,
}

impl<'a> Wish<'a> {
    /// What a client does that is given `target`. `method` is for targets with a path.
    pub fn new(target: &'a Target, method: &'a str, headers: &'a dyn Headers) -> Self {
        let Target { scheme, host, port, path } = target;
        let transport = if scheme == "udp" { Transport::Udp } else { Transport::Tcp };
        let speech = match scheme.as_str() {
            "http" | "ws" => Speech::Http,
            "https" | "wss" | "tls" | "rediss" | "ldaps" | "imaps" => Speech::Tls,
            _ => Speech::Other,
        };
        let upgrade = matches!(scheme.as_str(), "ws" | "wss");
        let request = |path: &'a RequestPath| Request { method, path, headers, upgrade, tls: speech == Speech::Tls };
        Self { question: Question { host, port: *port, transport }, speech, request: path.as_ref().map(request) }
    }
}

impl Compiled {
    /// What becomes of `wish` from its first packet to its first answer.
    ///
    /// # Guarantees
    /// The same as [`Compiled::connect`], then [`Route::of`], and [`Compiled::request`] where that leads to it, of a request
    /// that would be sent on: plain HTTP is judged request by request whatever the rules are about.
    pub fn judge(&self, wish: &Wish<'_>, today: Date) -> RequestVerdict {
        let Wish { question, speech, request } = wish;
        let (inspect, rule) = match self.connect(*question, today) {
            ConnectVerdict::Deny(denial) => return RequestVerdict::Deny(denial),
            ConnectVerdict::Allow { inspect, rule } => (inspect, rule),
        };
        match (Route::of(inspect, question.port, Some(*speech)), request) {
            (Route::Requests | Route::Intercept, Some(request)) if !is_sent_on(request.method) => {
                RequestVerdict::Deny(Denial::UnfitMethod)
            }
            (Route::Requests | Route::Intercept, Some(request)) => self.request(*question, request, today),
            // TLS that holds no HTTP.
            (Route::Intercept, None) => RequestVerdict::Deny(Denial::Protocol(rule)),
            (Route::Pass | Route::Refuse | Route::Requests, _) => self.spoken(*question, Some(*speech), today),
        }
    }
}
