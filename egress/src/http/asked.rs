//! A request as it was read: what is judged, and what is sent on.

use std::fmt;

use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::request::Parts;
use http::{Method, Uri, Version};
use jiff::civil::Date;
use schema::policy::{Host, RequestPath, TargetError};

use super::hop;
use crate::generation::Generation;
use crate::verdict::{Headers, Question, Request, RequestVerdict, Transport};

/// Longest method, as in heads of HTTP/1.
pub(super) const MAX_METHOD: usize = 32;

/// How much of a path is recorded, in characters: whoever asks must not push out what others did.
pub(super) const MAX_PATH: usize = 2048;

/// What somebody asked for. Its headers are those that go beyond this connection.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(super) method: Method,
    pub(super) path: RequestPath,
    pub(super) query: Option<String>,
    pub(super) headers: HeaderMap,
    /// The `Upgrade` header of a request that asks to upgrade the connection.
    pub(super) upgrade: Option<HeaderValue>,
    /// Whether it came inside TLS, and leaves inside TLS.
    pub(super) tls: bool,
}

/// Why a request cannot be taken for one for a host, or be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Its target names one host, its `Host` header another.
    TwoHosts,
    /// The host is none.
    Authority(String),
    /// It says no host.
    NoHost,
    /// It says no port, where there is no usual one.
    NoPort,
    /// Several `Host`, or several `Content-Length`: HTTP/2, where nobody has looked before.
    Repeated,
    /// A method that is not for resources behind a proxy.
    Method,
    /// The path.
    Path(TargetError),
}

/// A host and a port, as requests name them.
pub(super) type Named = (Host, Option<u16>);

/// The host a request names, and the port if it does.
///
/// The target and the `Host` header must agree where both say something.
pub(super) fn named(uri: &Uri, headers: &HeaderMap) -> Result<Option<Named>, Unfit> {
    let mut hosts = headers.get_all(HOST).iter();
    let (header, None) = (hosts.next(), hosts.next()) else { return Err(Unfit::Repeated) };
    let header = header.map(|value| value.to_str().map_err(|_| Unfit::Authority("?".to_owned()))).transpose()?;
    let target = uri.authority().map(http::uri::Authority::as_str);
    match (target, header) {
        (None, None) => Ok(None),
        (Some(text), None) | (None, Some(text)) => authority(text).map(Some),
        (Some(target), Some(header)) => {
            let (target, header) = (authority(target)?, authority(header)?);
            // A port that one of them leaves out is no disagreement.
            let ports = target.1.is_none() || header.1.is_none() || target.1 == header.1;
            if target.0 != header.0 || !ports {
                return Err(Unfit::TwoHosts);
            }
            Ok(Some((target.0, target.1.or(header.1))))
        }
    }
}

/// Whether requests with this method are sent on where requests are looked at.
pub(crate) fn is_sent_on(method: &str) -> bool {
    // As heads of HTTP/1 have to be written; rules compare as it is written.
    let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    // TRACE answers with the request, secrets that were put into it included.
    method.len() <= MAX_METHOD && method.bytes().all(plain) && !matches!(method, "CONNECT" | "TRACE" | "TRACK")
}

/// `host`, `host:port`, `[address]:port`; no user.
pub(super) fn authority(text: &str) -> Result<Named, Unfit> {
    let wrong = || Unfit::Authority(text.chars().take(300).collect());
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
            let port = digits.then(|| port.parse().ok()).flatten().filter(|port| *port != 0);
            (host, Some(port.ok_or_else(wrong)?))
        }
        _ => (text, None),
    };
    if host.contains(':') && !host.starts_with('[') {
        return Err(wrong());
    }
    host.parse().map(|host| (host, port)).map_err(|_| wrong())
}

impl Asked {
    /// What a request's head says, but for where it goes. `bodyless` is whether that is all of it: a request with a body is
    /// not upgraded.
    pub(super) fn read(parts: Parts, tls: bool, bodyless: bool) -> Result<Self, Unfit> {
        let Parts { method, uri, version, mut headers, .. } = parts;
        if !is_sent_on(method.as_str()) {
            return Err(Unfit::Method);
        }
        if headers.get_all(http::header::CONTENT_LENGTH).iter().nth(1).is_some() {
            return Err(Unfit::Repeated);
        }
        let path = path(uri.path())?;
        let upgrade = match version {
            Version::HTTP_11 if bodyless && hop::nominates(&headers, "upgrade") => headers.get(UPGRADE).cloned(),
            _ => None,
        };
        hop::strip(&mut headers);
        headers.remove(HOST);
        // Whoever reads the body says that it may come: that is this program.
        headers.remove(http::header::EXPECT);
        Ok(Self { method, path, query: uri.query().map(str::to_owned), headers, upgrade, tls })
    }

    /// Does `work` with what is judged of it.
    pub(super) fn with<T>(&self, work: impl FnOnce(Request<'_>) -> T) -> T {
        work(Request {
            method: self.method.as_str(),
            path: &self.path,
            headers: &Seen(&self.headers),
            upgrade: self.upgrade.is_some(),
            tls: self.tls,
        })
    }

    /// What becomes of it.
    pub(crate) fn judge(&self, generation: &Generation, host: &Host, port: u16, today: Date) -> RequestVerdict {
        let question = Question { host, port, transport: Transport::Tcp };
        self.with(|request| generation.compiled.request(question, &request, today))
    }

    /// Whether it may be sent again when nobody knows what became of it the first time.
    pub(super) fn is_safe(&self) -> bool {
        self.method.is_safe()
    }
}

/// The path in its one form.
fn path(raw: &str) -> Result<RequestPath, Unfit> {
    #[cfg(feature = "failpoints")]
    if crate::defence::Defence::CanonicalPath.is_off() {
        return Ok(RequestPath::as_written(raw));
    }
    RequestPath::parse(raw).map_err(Unfit::Path)
}

/// `GET /v1/x`: never a query or a header.
impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path.as_str())
    }
}

struct Seen<'a>(&'a HeaderMap);

impl Headers for Seen<'_> {
    fn any(&self, name: &str, matches: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { return false };
        self.0.get_all(name).iter().any(|value| matches(value.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named_by(target: &str, hosts: &[&str]) -> Result<Option<(String, Option<u16>)>, Unfit> {
        let headers = hosts.iter().map(|host| (HOST, HeaderValue::from_str(host).unwrap())).collect();
        named(&target.parse().unwrap(), &headers).map(|named| named.map(|(host, port)| (host.to_string(), port)))
    }

    #[test]
    fn one_host_is_named_once() {
        let is = |host: &str, port| Ok(Some((host.to_owned(), port)));
        assert_eq!(named_by("/", &["example.org"]), is("example.org", None));
        assert_eq!(named_by("/", &["EXAMPLE.org.:80"]), is("example.org", Some(80)));
        assert_eq!(named_by("/", &["[2001:db8::1]:8080"]), is("2001:db8::1", Some(8080)));
        assert_eq!(named_by("/", &["[2001:db8::1]"]), is("2001:db8::1", None));
        assert_eq!(named_by("/", &["192.0.2.1"]), is("192.0.2.1", None));
        assert_eq!(named_by("/", &[]), Ok(None));
        assert_eq!(named_by("http://example.org/a", &["Example.ORG"]), is("example.org", None));
        assert_eq!(named_by("http://example.org:81/a", &["example.org"]), is("example.org", Some(81)));
        assert_eq!(named_by("http://example.org/a", &[]), is("example.org", None));
    }

    #[test]
    fn two_hosts_or_none_are_refused() {
        assert_eq!(named_by("http://example.org/a", &["example.com"]), Err(Unfit::TwoHosts));
        assert_eq!(named_by("http://example.org:80/a", &["example.org:81"]), Err(Unfit::TwoHosts));
        assert_eq!(named_by("/", &["a.test", "a.test"]), Err(Unfit::Repeated));
        for odd in [
            "",
            " a.test",
            "user@a.test",
            "a.test:",
            "a.test:0",
            "a.test:99999",
            "a.test:+80",
            "a.test:80:80",
            "a.test/x",
            "2001:db8::1",
            "[2001:db8::1",
            "[::1%25eth0]",
            "127.1",
            "0x7f.1",
            "a..test",
            "a.test,b.test",
            "a.test\t",
        ] {
            assert!(matches!(named_by("/", &[odd]), Err(Unfit::Authority(_))), "{odd:?}");
        }
        assert!(matches!(named_by("http://u:p@a.test/", &["a.test"]), Err(Unfit::Authority(_))));
    }

    fn read(request: http::Request<()>) -> Result<Asked, Unfit> {
        Asked::read(request.into_parts().0, false, true)
    }

    #[test]
    fn what_is_between_neighbours_stays_between_them() {
        let request = http::Request::get("/a/%2e/b?c=%2e")
            .header("host", "a.test")
            .header("connection", "keep-alive, X-Mine")
            .header("x-mine", "1")
            .header("proxy-authorization", "Basic c2VjcmV0")
            .header("expect", "100-continue")
            .header("upgrade", "websocket")
            .header("accept", "*/*")
            .body(())
            .unwrap();
        let asked = read(request).unwrap();
        assert_eq!(asked.path.as_str(), "/a/b");
        assert_eq!(asked.query.as_deref(), Some("c=%2e"));
        assert_eq!(asked.headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
        assert_eq!(asked.upgrade, None, "not nominated");
    }

    #[test]
    fn what_cannot_be_judged_is_refused() {
        let long = "A".repeat(33);
        for method in ["CONNECT", "TRACE", "TRACK", "trace", "Track", "get", "G+T", long.as_str()] {
            let request = http::Request::builder().method(method).uri("/").body(()).unwrap();
            assert_eq!(read(request).err(), Some(Unfit::Method), "{method}");
        }
        let star = http::Request::builder().method("OPTIONS").uri("*").body(()).unwrap();
        assert!(matches!(read(star), Err(Unfit::Path(_))));
        assert_eq!(
            read(http::Request::get("/a//b").body(()).unwrap()).err(),
            Some(Unfit::Path(TargetError::EmptySegment))
        );
        let lengths = http::Request::post("/").header("content-length", "1").header("content-length", "1");
        assert_eq!(read(lengths.body(()).unwrap()).err(), Some(Unfit::Repeated));
    }
}
