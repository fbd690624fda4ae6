//! What a client is told instead of an answer.

use std::error::Error;
use std::fmt::Write;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use jiff::civil::Date;
use schema::policy::{Host, Rule};
use serde_json::json;

use super::asked::Unfit;
use super::edits::EditFault;
use super::head::Malformed;
use crate::compiled::Compiled;
use crate::dial::DialError;
use crate::explain::{Refused, TO_RESOLVER, refusal_json, refusal_text};

/// Says why, for programs.
const REASON: HeaderName = HeaderName::from_static("sbx-refusal");

/// Why there is no answer. Never holds a secret, a query or a header's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(super) status: StatusCode,
    /// Kebab case, stable; as in the record.
    pub(super) because: &'static str,
    words: Words,
    /// Where the rule is written that decided or came nearest.
    pub(super) rule: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Words {
    /// What happened, and what to do about it.
    Own { message: String, remedy: Option<&'static str> },
    /// What the policy's own words are, in both forms.
    Explained { text: String, json: String },
}

/// What a client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Form {
    /// By what the request says it accepts.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let json = headers.get_all(header::ACCEPT).iter().any(|value| {
            let text = value.to_str().unwrap_or_default();
            text.contains("json") && !text.contains("text/html")
        });
        if json { Self::Json } else { Self::Text }
    }
}

impl Refusal {
    fn new(status: StatusCode, because: &'static str, message: impl Into<String>) -> Self {
        let words = Words::Own { message: message.into(), remedy: None };
        Self { status, because, words, rule: None }
    }

    fn with_remedy(mut self, what: &'static str) -> Self {
        if let Words::Own { remedy, .. } = &mut self.words {
            *remedy = Some(what);
        }
        self
    }

    fn with_rule(mut self, rule: &Rule) -> Self {
        self.rule = Some(rule.place.to_string());
        self
    }

    /// The policy does not allow it.
    pub(super) fn denied(refused: &Refused<'_>, compiled: &Compiled, today: Date) -> Self {
        let text = refusal_text(refused, compiled, today);
        let json = refusal_json(refused, compiled, today).to_string();
        let (status, because) = (StatusCode::FORBIDDEN, refused.denial.because());
        let rule = refused.denial.rule().map(|rule| rule.place.to_string());
        Self { status, because, words: Words::Explained { text, json }, rule }
    }

    /// The request is for another host than the connection.
    pub(super) fn other_host(asked: &Host, asked_port: Option<u16>, host: &Host, port: u16) -> Self {
        let asked_port = asked_port.map(|port| format!(" port {port}")).unwrap_or_default();
        Self::new(
            StatusCode::FORBIDDEN,
            "host-mismatch",
            format!("the request is for {asked}{asked_port}, on a connection to {host} port {port}"),
        )
        .with_remedy("connect to the host that is asked for")
    }

    /// Upgrades to HTTP/2 would carry requests that nobody judges.
    pub(super) fn h2c() -> Self {
        let message = "a connection is not upgraded to HTTP/2 without TLS: nobody would see the requests on it";
        Self::new(StatusCode::FORBIDDEN, "upgrade-h2c", message).with_remedy("ask without an upgrade")
    }

    /// It cannot be read.
    pub(super) fn malformed(malformed: Malformed) -> Self {
        let status = StatusCode::from_u16(malformed.status()).unwrap_or(StatusCode::BAD_REQUEST);
        Self::new(status, malformed.because(), malformed.to_string())
    }

    /// It cannot be judged.
    pub(super) fn unfit(unfit: &Unfit) -> Self {
        let bad = |message: String| Self::new(StatusCode::BAD_REQUEST, "malformed", message);
        match unfit {
            Unfit::TwoHosts => bad("the request's target and its Host name different hosts".to_owned()),
            Unfit::NoHost => bad("the request names no host".to_owned()),
            Unfit::NoPort => bad("CONNECT wants host:port".to_owned()),
            Unfit::Authority(text) => bad(format!("the request's host is none: {}", text.escape_debug())),
            Unfit::Repeated => bad("the request has a header twice that it may have once".to_owned()),
            Unfit::Path(why) => Self::new(StatusCode::BAD_REQUEST, "path", format!("the request is refused: {why}")),
            Unfit::Method => Self::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method",
                "CONNECT is for proxies, and TRACE and TRACK are not passed on",
            ),
        }
    }

    /// A proxy is asked for something that is not written as for a proxy.
    pub(super) fn not_for_a_proxy() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "not-for-a-proxy",
            "this is a proxy: it takes `CONNECT host:port` for TLS and anything else, and requests for `http://host/path`",
        )
    }

    /// What is asked for is not where port 53 leads.
    pub(super) fn resolver() -> Self {
        Self::new(StatusCode::FORBIDDEN, "resolver", TO_RESOLVER).with_remedy("ask the resolver")
    }

    /// As many connections are open as may be.
    pub(super) fn too_many() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too-many-connections",
            "there are as many connections as there may be",
        )
    }

    /// The rule's changes cannot be made.
    pub(super) fn edit(fault: &EditFault, rule: &Rule) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "header-edit", format!("nothing was sent: {fault}")).with_rule(rule)
    }

    /// It has been here before.
    pub(super) fn came_back() -> Self {
        Self::new(StatusCode::LOOP_DETECTED, "loop", "the request has come back to the proxy that sent it: a loop")
    }

    /// There is no connection.
    pub(super) fn dial(error: &DialError) -> Self {
        let (status, because) = match error {
            DialError::Refused { .. } => (StatusCode::FORBIDDEN, "address-refused"),
            DialError::Loop { .. } => (StatusCode::LOOP_DETECTED, "loop"),
            DialError::TimedOut { .. } => (StatusCode::GATEWAY_TIMEOUT, "upstream-timeout"),
            DialError::NotFound { .. } => (StatusCode::BAD_GATEWAY, "name-not-found"),
            DialError::Lookup { .. } => (StatusCode::BAD_GATEWAY, "name-lookup-failed"),
            _ => (StatusCode::BAD_GATEWAY, "upstream-unreachable"),
        };
        Self::new(status, because, chain(error))
    }

    /// TLS to the server failed.
    pub(super) fn tls(host: &Host, error: &dyn Error) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "upstream-tls", format!("no trusted connection to {host}: {}", chain(error)))
    }

    /// The server broke off, or does not speak HTTP.
    pub(super) fn upstream(host: &Host, error: &dyn Error) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "upstream-failed", format!("{host} gave no answer: {}", chain(error)))
    }

    /// The server answered with something that has no place here.
    pub(super) fn odd_answer(host: &Host, what: &str) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "upstream-failed", format!("{host} answered with {what}"))
    }

    /// The server took too long.
    pub(super) fn too_late(host: &Host, seconds: u64, rule: &Rule) -> Self {
        let message = format!("{host} did not begin to answer within {seconds} s");
        Self::new(StatusCode::GATEWAY_TIMEOUT, "upstream-timeout", message).with_rule(rule)
    }

    /// As an answer.
    pub(super) fn response(&self, form: Form) -> Response<Bytes> {
        let (kind, body) = match form {
            Form::Json => ("application/json", self.json()),
            Form::Text => ("text/plain; charset=utf-8", self.text()),
        };
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(REASON, HeaderValue::from_static(self.because));
        response
    }

    fn text(&self) -> String {
        match &self.words {
            Words::Explained { text, .. } => text.clone(),
            Words::Own { message, remedy: None } => format!("sbx: {message}.\n"),
            Words::Own { message, remedy: Some(remedy) } => format!("sbx: {message}.\nTo change that: {remedy}\n"),
        }
    }

    fn json(&self) -> String {
        match &self.words {
            Words::Explained { json, .. } => format!("{json}\n"),
            Words::Own { message, remedy } => {
                let denied = self.status == StatusCode::FORBIDDEN;
                let error = if denied { "egress-denied" } else { "egress-failed" };
                let told = json!({ "error": error, "because": self.because, "message": message, "remedy": remedy });
                format!("{told}\n")
            }
        }
    }

    /// As the bytes of the last answer on a connection.
    pub(super) fn raw(&self, form: Form) -> Vec<u8> {
        let response = self.response(form);
        let mut bytes = format!("HTTP/1.1 {}\r\n", self.status).into_bytes();
        for (name, value) in response.headers() {
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        let body = response.body();
        bytes.extend_from_slice(format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(body);
        bytes
    }
}

/// An error and what caused it, on one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        // Some repeat what they wrap.
        if !text.ends_with(&next) {
            let _ = write!(text, ": {next}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_what_the_client_reads() {
        let refusal = Refusal::h2c();
        let accepting = |accept: &'static str| {
            let headers = [(header::ACCEPT, HeaderValue::from_static(accept))].into_iter().collect();
            refusal.response(Form::of(&headers))
        };
        for (accept, kind) in [
            ("*/*", "text/plain; charset=utf-8"),
            ("text/html, application/json", "text/plain; charset=utf-8"),
            ("application/vnd.github+json", "application/json"),
        ] {
            let response = accepting(accept);
            assert_eq!(response.status(), StatusCode::FORBIDDEN);
            assert_eq!(response.headers()[header::CONTENT_TYPE], kind);
            assert_eq!(response.headers()[REASON], "upgrade-h2c");
        }
        let json: serde_json::Value = serde_json::from_slice(accepting("application/json").body()).unwrap();
        assert_eq!((&json["error"], &json["because"]), (&json!("egress-denied"), &json!("upgrade-h2c")));
        assert_eq!(json["remedy"], "ask without an upgrade");
        let raw = String::from_utf8(Refusal::malformed(Malformed::BothFramings).raw(Form::Text)).unwrap();
        assert!(raw.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{raw}");
        assert!(raw.ends_with("\r\n\r\nsbx: the request has both Content-Length and Transfer-Encoding.\n"), "{raw}");
    }
}
