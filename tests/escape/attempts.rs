//! The table of attempts to get out, by what they try.

mod direct;
mod dns;
mod files;
mod http;
mod intercepted;
mod network;
mod socket;
mod tls;

use crate::attempt::Attempt;

/// Controls that several attempts share.
pub const PLAIN: &str = "demand(http('open.example.org', get('open.example.org', '/', T)), b'world says')";
pub const SECURE: &str =
    "demand(https('open.example.org', 'open.example.org', get('open.example.org', '/', T)), b'world says')";
pub const JUDGED: &str = "demand(http('api.example.org', get('api.example.org', '/v1/x', T)), b'world says')";
pub const INSIDE_TLS: &str = "demand(trusting('api.example.org', get('api.example.org', '/v1/x', T)), b'world says')";
pub const BANNER: &str =
    "s = dial('open.example.org', 9999); s.recv(99); demand(say(s, (T + '\\n').encode()), T.encode())";
pub const DATAGRAM: &str = "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2)
s.sendto(T.encode(), ('open.example.org', 5353)); demand(s.recv(99), T.encode())";
pub const TUNNELLED: &str = "demand(through_socket('open.example.org:443', T), b' 200 ')
demand(over_socket('GET http://open.example.org/ HTTP/1.1', 'open.example.org', T), b'world says')";
pub const PEER: &str = "demand(http('peer', get('peer', '/' + T), 7000), b'404')";

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Attempt> {
    let topics = [
        network::ATTEMPTS,
        dns::ATTEMPTS,
        tls::ATTEMPTS,
        http::ATTEMPTS,
        intercepted::ATTEMPTS,
        direct::ATTEMPTS,
        socket::ATTEMPTS,
        files::ATTEMPTS,
    ];
    topics.into_iter().flatten()
}
