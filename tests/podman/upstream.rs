//! A web server beyond the engine's uplink: TLS with HTTP/1.1 and HTTP/2, WebSockets, and names whose certificates nobody
//! should take. It remembers what it was asked.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::engine::Engine;

/// The far end of the engine's uplink.
pub const FAR: &str = "198.51.100.1";

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Got {
    pub version: Version,
    pub method: String,
    pub path: String,
    pub host: String,
    pub headers: HeaderMap,
}

/// The server; ends with the test process.
pub struct Upstream {
    /// Who signs the certificates of good names, PEM.
    pub authority: String,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Upstream {
    /// Serves on port 443 of the far end. `good` names have certificates by [`Upstream::authority`], those in `stranger` by
    /// somebody nobody knows, and those in `other` one for another name.
    pub fn start(engine: &Engine, good: &[&str], stranger: &[&str], other: &[&str]) -> Self {
        let listener = engine.listen_outside(FAR, 443);
        listener.set_nonblocking(true).unwrap();
        let (known, unknown) = (Signer::new(), Signer::new());
        let mut certificates = HashMap::new();
        for (names, signer) in [(good, &known), (stranger, &unknown)] {
            certificates.extend(names.iter().map(|name| ((*name).to_owned(), signer.sign(name))));
        }
        certificates.extend(other.iter().map(|name| ((*name).to_owned(), known.sign("somebody-else.test"))));
        let got: Arc<Mutex<Vec<Got>>> = Arc::default();
        let tls = config(certificates);
        let seen = Arc::clone(&got);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { serve(tokio::net::TcpListener::from_std(listener).unwrap(), tls, seen).await });
        });
        Self { authority: known.pem, got }
    }

    /// Everything it was asked so far.
    pub fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// The last request for `path`.
    #[track_caller]
    pub fn last(&self, path: &str) -> Got {
        let found = self.got().into_iter().rfind(|got| got.path == path);
        found.unwrap_or_else(|| panic!("{path} was not asked for: {:?}", self.got()))
    }
}

struct Signer {
    pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Signer {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        parameters.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
        let pem = parameters.self_signed(&key).unwrap().pem();
        Self { pem, issuer: rcgen::Issuer::new(parameters, key) }
    }

    fn sign(&self, name: &str) -> Arc<CertifiedKey> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        // Called as its signer is, it would be taken for one that signed itself.
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        parameters.use_authority_key_identifier_extension = true;
        let leaf = parameters.signed_by(&key, &self.issuer).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
        Arc::new(CertifiedKey::new(vec![leaf.der().clone()], key))
    }
}

#[derive(Debug)]
struct ByName(HashMap<String, Arc<CertifiedKey>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.get(hello.server_name()?).cloned()
    }
}

fn config(certificates: HashMap<String, Arc<CertifiedKey>>) -> Arc<rustls::ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByName(certificates)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

async fn serve(listener: tokio::net::TcpListener, tls: Arc<rustls::ServerConfig>, got: Arc<Mutex<Vec<Got>>>) {
    let acceptor = tokio_rustls::TlsAcceptor::from(tls);
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, got) = (acceptor.clone(), Arc::clone(&got));
        tokio::spawn(async move {
            // Whoever does not take the certificate leaves.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(move |request| answer(request, Arc::clone(&got)));
            let server = auto::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        });
    }
}

/// Tells back what was asked; `/echo` all headers too. WebSockets repeat what they are told.
async fn answer(request: Request<Incoming>, got: Arc<Mutex<Vec<Got>>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let host = request.uri().host().map(str::to_owned);
    let host = host.or_else(|| Some(request.headers().get("host")?.to_str().ok()?.to_owned()));
    let asked = Got {
        version: request.version(),
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        host: host.unwrap_or_default(),
        headers: request.headers().clone(),
    };
    got.lock().unwrap().push(asked.clone());
    if request.headers().contains_key(UPGRADE) {
        tokio::spawn(async move {
            let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
            let mut stream = TokioIo::new(upgraded);
            let mut bytes = [0; 512];
            while let Ok(read) = stream.read(&mut bytes).await
                && read > 0
            {
                let _ = stream.write_all(&bytes[..read]).await;
            }
        });
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        return Ok(response);
    }
    let _ = request.into_body().collect().await;
    let text = format!("far says {} {} of {} by {:?}\n", asked.method, asked.path, asked.host, asked.version);
    Ok(Response::new(Full::new(Bytes::from(text))))
}
