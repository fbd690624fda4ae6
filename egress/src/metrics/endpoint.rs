//! Where Prometheus comes for the numbers: HTTP on a unix socket or a loopback address.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

/// Scrapes at once.
const AT_ONCE: usize = 8;
/// How long a client may take over its request.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the text is.
const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves `text` on a unix socket; never returns.
pub async fn serve_unix(listener: UnixListener, text: impl Fn() -> String + Send + Sync + 'static) {
    let (text, places) = (Arc::new(text), Arc::new(Semaphore::new(AT_ONCE)));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => answer(stream, Arc::clone(&text), place),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Serves `text` on an address; never returns.
pub async fn serve_tcp(listener: TcpListener, text: impl Fn() -> String + Send + Sync + 'static) {
    let (text, places) = (Arc::new(text), Arc::new(Semaphore::new(AT_ONCE)));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => answer(stream, Arc::clone(&text), place),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    text: Arc<impl Fn() -> String + Send + Sync + 'static>,
    place: tokio::sync::OwnedSemaphorePermit,
) {
    tokio::spawn(async move {
        let service = service_fn(|request: Request<Incoming>| {
            let response = respond(request.method(), request.uri().path(), &*text);
            std::future::ready(Ok::<_, Infallible>(response))
        });
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        // A client that goes away early has not been answered; nobody else minds.
        let _ = tokio::time::timeout(PATIENCE, serving).await;
        drop(place);
    });
}

fn respond(method: &Method, path: &str, text: &dyn Fn() -> String) -> Response<Full<Bytes>> {
    let (status, body) = match (method, path) {
        (&Method::GET, "/metrics") => (StatusCode::OK, text()),
        (&Method::GET, _) => (StatusCode::NOT_FOUND, "the numbers are at /metrics\n".to_owned()),
        _ => (StatusCode::METHOD_NOT_ALLOWED, String::new()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(TYPE));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn the_numbers_are_at_one_place() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("metrics.sock");
        tokio::spawn(serve_unix(UnixListener::bind(&path).expect("bound"), || "number 1\n".to_owned()));
        let get = async |what: &str| {
            let mut stream = tokio::net::UnixStream::connect(&path).await.expect("connected");
            stream.write_all(format!("{what} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.expect("asked");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("answered");
            answer
        };
        let found = get("GET /metrics").await;
        assert!(found.starts_with("HTTP/1.1 200") && found.ends_with("number 1\n"), "{found}");
        assert!(get("GET /").await.starts_with("HTTP/1.1 404"));
        assert!(get("POST /metrics").await.starts_with("HTTP/1.1 405"));
    }
}
