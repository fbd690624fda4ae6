//! The least a client can do: one request, one connection, read to its end.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// Sends a request to the engine and gives the body of its answer, which has to be a success.
#[track_caller]
pub fn call(socket: &Path, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket).expect("the engine listens");
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).expect("the engine reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the engine answers");
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    let status = answer.get(9).copied();
    assert!(
        matches!(status, Some(b'2' | b'3')),
        "{method} {path}: {}",
        String::from_utf8_lossy(&answer[..answer.len().min(2000)])
    );
    answer.split_off(end)
}
