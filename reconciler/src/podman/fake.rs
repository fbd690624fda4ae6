//! An engine of a test's own: answers what it is told to, and remembers what it was asked.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::{Connect, Podman, Reader};
use crate::backend::{BackendError, SecretSource};

/// Status and body for a request such as `POST /containers/c/stop`; `None` hangs up instead.
pub(super) type Answer = Option<(u16, String)>;

/// At the end of a body: it is announced, and never comes.
pub(super) const CUT: char = '\0';

/// See the module.
pub(super) struct Fake {
    pub podman: Podman,
    asked: Arc<Mutex<Vec<String>>>,
    _dir: tempfile::TempDir,
}

struct NoSecrets;

#[async_trait::async_trait]
impl SecretSource for NoSecrets {
    async fn read(&self, name: &str) -> Result<secrecy::SecretSlice<u8>, BackendError> {
        Err(BackendError::new(crate::backend::ErrorKind::NotFound, name))
    }
}

impl Fake {
    /// An engine that answers as `answer` says. Its threads end with the test's process.
    pub async fn start(mut answer: impl FnMut(&str) -> Answer + Send + 'static) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let socket: PathBuf = dir.path().join("s");
        let listener = UnixListener::bind(&socket).expect("bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut reader = BufReader::new(&stream);
                let (mut first, mut length) = (String::new(), 0);
                let _ = reader.read_line(&mut first);
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) < 3 {
                        break;
                    }
                    if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = text.trim().parse().unwrap_or(0);
                    }
                }
                let _ = reader.read_exact(&mut vec![0; length]);
                let mut words = first.split_whitespace();
                let (Some(method), Some(path)) = (words.next(), words.next()) else { continue };
                let path = path.split('?').next().unwrap_or(path).replace("/v4.0.0/libpod", "");
                let request = format!("{method} {path}");
                let given = if path == "/_ping" { Some((200, String::new())) } else { answer(&request) };
                heard.lock().expect("whole").push(request);
                let Some((status, body)) = given else { continue };
                let (length, sent) = (body.len(), body.trim_end_matches(CUT));
                let _ = write!(
                    &stream,
                    "HTTP/1.1 {status} x\r\nLibpod-API-Version: 4.3.1\r\nContent-Length: {length}\r\n\r\n{sent}"
                );
            }
        });
        let options = Connect { candidates: vec![socket], runtime_dir: dir.path().into(), ..Connect::default() };
        let podman = Reader::connect(&options).await.expect("answers").into_podman(Arc::new(NoSecrets));
        Self { podman, asked, _dir: dir }
    }

    /// Requests that change something, in order.
    pub fn changes(&self) -> Vec<String> {
        let asked = self.asked.lock().expect("whole");
        asked.iter().filter(|request| !request.starts_with("GET")).cloned().collect()
    }
}

/// What an engine says of a container.
#[expect(clippy::unnecessary_wraps, reason = "beside answers that hang up")]
pub(super) fn inspected(id: &str, name: &str, status: &str, uid: &str) -> Answer {
    let running = status == "running";
    let label = crate::resource::label::UID;
    let container = serde_json::json!({
        "Id": id, "Name": name, "State": { "Status": status, "Running": running, "Pid": 0 },
        "Config": { "Labels": { label: uid } },
    });
    Some((200, container.to_string()))
}

/// An engine's failure.
#[expect(clippy::unnecessary_wraps, reason = "beside answers that hang up")]
pub(super) fn failed(status: u16, message: &str) -> Answer {
    Some((status, serde_json::json!({ "cause": message, "message": message, "response": status }).to_string()))
}
