//! What the tests of HTTP share: a server, a client, and a connection between them that is served.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use schema::policy::{Host, Policy, Rule};
use secrecy::SecretSlice;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::audit::Sink;
use crate::dial::{DialSettings, Dialer, NameServers};
use crate::flows::FlowGuard;
use crate::generation::Generation;
use crate::http::Web;
use crate::limits::Limits;
use crate::sandbox::Sandbox;
use crate::session::Session;
use crate::shared::Shared;
use crate::testing::{LONG, Records};
use crate::tls::authority::Authority;
use crate::tls::outbound::{Outbound, Trust};
use crate::verdict::{Speech, Transport};

/// A request as a server got it.
#[derive(Debug, Clone)]
pub(crate) struct Got {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: HeaderMap,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A server, and what it got.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
    connections: Arc<Mutex<usize>>,
}

impl Origin {
    /// A server that answers with what `answer` makes of a request.
    pub(crate) async fn start(answer: impl Fn(&Got) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static) -> Self {
        Self::serve(None, answer).await
    }

    /// The same, over TLS if there is how.
    pub(crate) async fn serve(
        tls: Option<Arc<rustls::ServerConfig>>,
        answer: impl Fn(&Got) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let got: Arc<Mutex<Vec<Got>>> = Arc::default();
        let connections: Arc<Mutex<usize>> = Arc::default();
        let origin = Self { address, got: Arc::clone(&got), connections: Arc::clone(&connections) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *connections.lock().unwrap() += 1;
                let (got, answer, tls) = (Arc::clone(&got), answer.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, got, answer).await,
                        Some(tls) => {
                            if let Ok(stream) = tokio_rustls::TlsAcceptor::from(tls).accept(stream).await {
                                serve(stream, got, answer).await;
                            }
                        }
                    }
                });
            }
        });
        origin
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// What it got so far.
    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// How many connections were made to it.
    pub(crate) fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }
}

async fn serve<S>(
    stream: S,
    got: Arc<Mutex<Vec<Got>>>,
    answer: impl Fn(&Got) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (got, answer) = (Arc::clone(&got), answer.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await?;
            let trailers = body.trailers().cloned().unwrap_or_default();
            let request = Got {
                method: parts.method.to_string(),
                target: parts.uri.to_string(),
                headers: parts.headers,
                body: body.to_bytes().to_vec(),
                trailers,
            };
            let response = answer(&request);
            got.lock().unwrap().push(request);
            hyper::Result::Ok(response)
        }
    });
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

/// `200`, with this body.
pub(crate) fn ok(body: &'static str) -> Response<Full<Bytes>> {
    Response::new(Full::from(body))
}

/// A server that does with one connection after another what it is told.
pub(crate) async fn raw_origin<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// Reads a head from a connection.
pub(crate) async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// A rule, as JSON has it, on `port`.
pub(crate) fn rule(host: &str, port: u16, more: &Value) -> Rule {
    let mut rule = json!({
        "host": host, "ports": [{ "first": port, "last": port }], "place": { "at": "sandboxes.yaml:7:9" },
    });
    rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(rule).unwrap()
}

/// A sandbox, and what its connections need.
pub(crate) struct World {
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) records: Arc<Records>,
}

impl World {
    pub(crate) fn new(allow: Vec<Rule>) -> Self {
        Self::with(allow, &[], Limits::default(), Trust::default())
    }

    pub(crate) fn with(allow: Vec<Rule>, secrets: &[(&str, &str)], limits: Limits, trust: Trust) -> Self {
        let records = Arc::new(Records::default());
        let sink = Arc::clone(&records) as Arc<dyn Sink>;
        let generation = generation(1, policy(allow), secrets);
        let sandbox = Arc::new(Sandbox::new("project".into(), "sandbox".into(), sink, generation));
        let settings = DialSettings { name_servers: NameServers::Fixed(Vec::new()), ..DialSettings::default() };
        let shared =
            Shared { dialer: Dialer::new(settings), web: Web::new(Outbound::new(trust)), ..Shared::within(limits) };
        shared.web.set_authority("project", Arc::new(Authority::generate("project").unwrap()));
        Self { sandbox, shared: Arc::new(shared), records }
    }

    /// Puts another policy in force.
    pub(crate) fn swap(&self, number: u64, allow: Vec<Rule>) {
        self.sandbox.swap(generation(number, policy(allow), &[]), &self.shared);
    }

    /// The same, where no address on this machine may be dialled.
    pub(crate) fn swap_closed(&self, number: u64, allow: Vec<Rule>) {
        let closed = Policy { dial_allow: Vec::new(), ..policy(allow) };
        self.sandbox.swap(generation(number, closed, &[]), &self.shared);
    }

    /// A session for `host`, as it is when what is spoken has been seen.
    pub(crate) fn session(&self, host: &str, port: u16, speech: Speech) -> Session {
        let host: Host = host.parse().unwrap();
        let opened = FlowGuard::open(&self.sandbox, &self.shared, host.clone(), port, Transport::Tcp, None);
        let (flow, _) = opened.unwrap();
        flow.settle(&self.shared, Some(speech)).unwrap();
        Session { sandbox: Arc::clone(&self.sandbox), shared: Arc::clone(&self.shared), host, port, flow }
    }

    /// A client's TCP connection to `host` that is served as TLS to be looked into.
    pub(crate) async fn intercepted(&self, host: &str, port: u16) -> TcpStream {
        let session = self.session(host, port, Speech::Tls);
        let (client, server) = pair().await;
        tokio::spawn(crate::http::intercept::serve(server, session));
        client
    }

    /// The same, hands shaken by a client that trusts the project's authority, asks for `host` and offers `protocols`.
    pub(crate) async fn tls(&self, host: &str, port: u16, protocols: &[&str]) -> TlsStream<TcpStream> {
        let authority = self.shared.web.authority("project").unwrap();
        shake(self.intercepted(host, port).await, &authority, host, protocols).await.unwrap()
    }

    /// A client on a connection to `host`, by HTTP/1.1 inside TLS.
    pub(crate) async fn secure(&self, host: &str, port: u16) -> Line<TlsStream<TcpStream>> {
        Line::new(self.tls(host, port, &["http/1.1"]).await)
    }

    /// A client on a connection to `host`, by HTTP/2.
    pub(crate) async fn multiplexed(&self, host: &str, port: u16) -> http2::SendRequest<BoxBody> {
        let stream = self.tls(host, port, &["h2", "http/1.1"]).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    /// A client on a connection to `host` that is served as plain HTTP.
    pub(crate) async fn plain(&self, host: &str, port: u16) -> Line<TcpStream> {
        let session = self.session(host, port, Speech::Http);
        let (client, server) = pair().await;
        tokio::spawn(crate::http::plain::serve(server, session));
        Line::new(client)
    }
}

/// A policy under which every name that is asked for means this machine.
pub(crate) fn policy(allow: Vec<Rule>) -> Policy {
    let here = vec!["127.0.0.1".parse().unwrap()];
    let names = ["a.test", "b.test", "c.test"].map(|name| (name.parse().unwrap(), here.clone()));
    Policy { allow, hosts: names.into(), dial_allow: vec!["127.0.0.0/8".parse().unwrap()], ..Policy::default() }
}

fn generation(number: u64, policy: Policy, secrets: &[(&str, &str)]) -> Generation {
    let secrets: BTreeMap<_, _> = secrets
        .iter()
        .map(|(name, value)| {
            (schema::Name::new(*name).unwrap(), Arc::new(SecretSlice::from(value.as_bytes().to_vec())))
        })
        .collect();
    Generation::new(number, policy, secrets)
}

/// Body of a test's own request.
pub(crate) type BoxBody = http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>;

/// A body with nothing in it.
pub(crate) fn nothing() -> BoxBody {
    http_body_util::Empty::new().boxed()
}

/// Shakes hands as a client that trusts `authority` and nobody else.
pub(crate) async fn shake<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    authority: &Authority,
    host: &str,
    protocols: &[&str],
) -> std::io::Result<TlsStream<S>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.certificate().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let name = rustls::pki_types::ServerName::try_from(host.to_owned()).unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Trusts `authority` as authority of servers.
pub(crate) fn trusting(authority: &Authority) -> Trust {
    Trust { native: false, extra: vec![authority.certificate().clone()] }
}

/// Two ends of a TCP connection.
pub(crate) async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap());
    let (client, server) = tokio::join!(connecting, listener.accept());
    (client.unwrap(), server.unwrap().0)
}

/// A client's end of a connection.
pub(crate) struct Line<S> {
    pub(crate) stream: S,
}

/// An answer as a client got it.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answered {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream }
    }

    pub(crate) async fn send(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Sends a request without a body, and reads the answer.
    pub(crate) async fn get(&mut self, host: &str, path: &str) -> Answered {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await
    }

    /// Sends `text`, and reads the answer.
    pub(crate) async fn ask(&mut self, text: &str) -> Answered {
        self.send(text).await;
        self.answer(text.starts_with("HEAD")).await
    }

    /// Reads an answer's head.
    pub(crate) async fn head(&mut self) -> (u16, String) {
        let head = timeout(LONG, read_head(&mut self.stream)).await.expect("a head in time");
        let status = head.split(' ').nth(1).unwrap_or_else(|| panic!("no head, but {head:?}")).parse().unwrap();
        (status, head)
    }

    /// Reads an answer; `headless` is whether it is one to HEAD.
    pub(crate) async fn answer(&mut self, to_head: bool) -> Answered {
        let (status, head) = self.head().await;
        let mut answered = Answered { status, head, body: String::new() };
        if to_head || matches!(status, 101 | 204 | 304) {
            return answered;
        }
        let mut body = Vec::new();
        let reading = async {
            if let Some(length) = answered.header("content-length") {
                body.resize(length.parse().unwrap(), 0);
                self.stream.read_exact(&mut body).await.unwrap();
            } else if answered.header("transfer-encoding").is_some() {
                loop {
                    let chunk = self.chunk().await;
                    if chunk.is_empty() {
                        break;
                    }
                    body.extend(chunk);
                }
            } else {
                self.stream.read_to_end(&mut body).await.unwrap();
            }
        };
        timeout(LONG, reading).await.expect("a body in time");
        answered.body = String::from_utf8(body).unwrap();
        answered
    }

    /// Reads a chunk; the last one is empty, and read with what follows it.
    pub(crate) async fn chunk(&mut self) -> Vec<u8> {
        let size = self.line().await;
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or_else(|_| panic!("no size: {size:?}"));
        let mut chunk = vec![0; size];
        self.stream.read_exact(&mut chunk).await.unwrap();
        if size == 0 {
            while self.line().await != "\r\n" {}
        } else {
            assert_eq!(self.line().await, "\r\n");
        }
        chunk
    }

    pub(crate) async fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            line.push(self.stream.read_u8().await.unwrap());
        }
        String::from_utf8(line).unwrap()
    }

    /// Whether the connection ends, with nothing more said.
    pub(crate) async fn ends(&mut self) -> bool {
        let mut byte = [0];
        match timeout(LONG, self.stream.read(&mut byte)).await {
            Ok(Ok(read)) => read == 0,
            Ok(Err(_)) => true,
            Err(_) => false,
        }
    }

    /// Whether nothing is said for a moment.
    pub(crate) async fn rests(&mut self) -> bool {
        timeout(Duration::from_millis(50), self.stream.read(&mut [0])).await.is_err()
    }
}

/// How servers of `a.test` speak TLS, and who says that they are it.
pub(crate) fn server_tls(protocols: &[&str]) -> (Arc<rustls::ServerConfig>, Authority) {
    let authority = Authority::generate("the world").unwrap();
    let mut config = (*authority.config(&"a.test".parse().unwrap()).unwrap()).clone();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    (Arc::new(config), authority)
}

/// A request by HTTP/2.
pub(crate) fn get(uri: &str) -> Request<BoxBody> {
    Request::get(uri).version(Version::HTTP_2).body(nothing()).unwrap()
}

/// Status and body of an answer.
pub(crate) async fn text(response: Response<Incoming>) -> (u16, String) {
    let status = response.status().as_u16();
    let body = timeout(LONG, response.into_body().collect()).await.unwrap().unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}
