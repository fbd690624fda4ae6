//! A relay between `sbx` and the engine that remembers the requests, so that the same ones can be made without `sbx`.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// A request of a client.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub body: Vec<u8>,
}

impl Request {
    /// Method, kind of object and verb, without names and queries: what a tally counts.
    pub fn call(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        let mut words: Vec<&str> = path.split('/').filter(|word| !word.is_empty()).collect();
        words.retain(|word| *word != "libpod" && !word.starts_with(|c: char| c == 'v' && word.contains('.')));
        let (kind, verb) = (words.first().copied().unwrap_or_default(), words.last().copied().unwrap_or_default());
        if words.len() > 2 {
            format!("{} {kind}/*/{verb}", self.method)
        } else {
            format!("{} {}", self.method, words.join("/"))
        }
    }
}

/// A relay that listens for as long as this process lives.
pub struct Recorder {
    socket: PathBuf,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Recorder {
    /// Listens at `socket` and passes everything on to `engine`.
    pub fn start(socket: PathBuf, engine: &Path) -> Self {
        let listener = UnixListener::bind(&socket).expect("a socket can be made");
        let seen: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let (kept, engine) = (Arc::clone(&seen), engine.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (seen, engine) = (Arc::clone(&kept), engine.clone());
                std::thread::spawn(move || relay(client, &engine, &seen));
            }
        });
        Self { socket, seen }
    }

    /// The address for `sbx`.
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// The requests until now, and forgets them.
    pub fn take(&self) -> Vec<Request> {
        let streams = std::mem::take(&mut *self.seen.lock().expect("no relay panics"));
        streams.iter().flat_map(|stream| requests(stream)).collect()
    }
}

/// Passes bytes on both ways. What the client said is kept before the engine hears it, so that it is there when the
/// client has its answer.
fn relay(mut client: UnixStream, engine: &Path, seen: &Mutex<Vec<Vec<u8>>>) {
    let Ok(mut engine) = UnixStream::connect(engine) else { return };
    let (Ok(mut from_engine), Ok(mut to_client)) = (engine.try_clone(), client.try_clone()) else { return };
    let back = std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_engine, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Write);
    });
    let index = {
        let mut seen = seen.lock().expect("no relay panics");
        seen.push(Vec::new());
        seen.len() - 1
    };
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = client.read(&mut buffer) {
        if let Some(stream) = seen.lock().expect("no relay panics").get_mut(index) {
            stream.extend_from_slice(&buffer[..read]);
        }
        if engine.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = engine.shutdown(Shutdown::Write);
    let _ = back.join();
}

/// Takes the requests of one connection apart. Uploads in chunks end it: they are not made again.
fn requests(mut stream: &[u8]) -> Vec<Request> {
    let mut found = Vec::new();
    while let Some(end) = stream.windows(4).position(|window| window == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&stream[..end]).into_owned();
        let mut lines = head.lines();
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let length = lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse().ok())
            .unwrap_or(0);
        let rest = &stream[end + 4..];
        let body = rest.get(..length).unwrap_or(rest);
        found.push(Request { method: method.to_owned(), path: path.to_owned(), body: body.to_vec() });
        stream = rest.get(length..).unwrap_or_default();
    }
    found
}
