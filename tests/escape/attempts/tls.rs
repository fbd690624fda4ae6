//! TLS that is passed through, and tunnels for it.

use egress::defence::Defence::*;

use crate::attempt::{Attempt, attempt};
use crate::attempts::SECURE;

/// The hello that is altered, as it is.
const UNCHANGED: &str = "demand(hello('open.example.org', T, lambda all: all), b'\\x16\\3')";

/// All of them.
pub const ATTEMPTS: &[Attempt] = &[
    attempt(
        "sni-of-another-name",
        "https('open.example.org', 'other.example.net', get('other.example.net', '/', T))",
        SECURE,
    )
    .against(&[ServerName])
    .recorded("open.example.org", 443, "sni-mismatch"),
    attempt(
        "allowed-sni-to-a-foreign-address",
        "https('192.0.2.7', 'open.example.org', get('open.example.org', '/', T))",
        SECURE,
    )
    .against(&[Rules])
    .recorded_once_a_minute("192.0.2.7", 443, "no-rule"),
    attempt("no-sni", "https('open.example.org', None, get('open.example.org', '/', T))", SECURE)
    .against(&[ServerName])
    .recorded("open.example.org", 443, "sni-missing"),
    attempt(
        "sni-that-is-an-address",
        "hello('open.example.org', T, lambda all: [(kind, names(b'198.51.100.1') if kind == 0 else value) for kind, value in all])",
        UNCHANGED,
    )
    .against(&[ServerName])
    .recorded("open.example.org", 443, "sni-mismatch"),
    attempt(
        "two-names-in-one-hello",
        "hello('open.example.org', T, lambda all: [(kind, names(b'open.example.org', b'other.example.net') if kind == 0 else value) for kind, value in all])",
        UNCHANGED,
    )
    .against(&[ServerName])
    .recorded("open.example.org", 443, "client-hello-malformed"),
    attempt(
        "encrypted-hello",
        "hello('open.example.org', T, lambda all: all + [(0xFE0D, b'\\0\\0\\1\\0\\1\\7' + string(bytes(32)) + string(bytes(208)))])",
        UNCHANGED,
    )
    .against(&[ServerName])
    .recorded("open.example.org", 443, "encrypted-client-hello"),
    attempt(
        "hello-in-single-bytes",
        "https('open.example.org', 'other.example.net', get('x', '/', T), pieces=lambda h: [h[i:i+1] for i in range(len(h))])",
        "demand(https('open.example.org', 'open.example.org', get('x', '/', T), pieces=lambda h: [h[i:i+1] for i in range(len(h))]), b'world')",
    )
    .against(&[ServerName])
    .recorded("open.example.org", 443, "sni-mismatch"),
    attempt(
        "hello-over-several-records",
        "https('open.example.org', 'other.example.net', get('x', '/', T), pieces=lambda h: records(h, 40))",
        "demand(https('open.example.org', 'open.example.org', get('x', '/', T), pieces=lambda h: records(h, 40)), b'world')",
    )
    .against(&[ServerName])
    .recorded("open.example.org", 443, "sni-mismatch"),
    attempt(
        "long-hello",
        "https('open.example.org', 'other.example.net', get('x', '/', T), alpn=['http/1.1'] + ['x' * 250] * 12)",
        "demand(https('open.example.org', 'open.example.org', get('x', '/', T), alpn=['http/1.1'] + ['x' * 250] * 12), b'world')",
    )
    .against(&[ServerName])
    .recorded("open.example.org", 443, "sni-mismatch"),
    attempt("plain-bytes-on-443", "s = dial('open.example.org', 443); s.sendall(T.encode() * 99); s.recv(9); raise OSError(s.recv(9))", SECURE)
    .against(&[Speech])
    .recorded("open.example.org", 443, "protocol"),
    attempt(
        "connect-with-another-inner-name",
        "s = dial('127.0.0.1', PROXY); demand(say(s, b'CONNECT open.example.org:443 HTTP/1.1\\r\\nHost: open.example.org:443\\r\\n\\r\\n'), b' 200 ')
c = Tls('other.example.net').finish(s); c.ask(get('other.example.net', '/', T))",
        "s = dial('127.0.0.1', PROXY); demand(say(s, b'CONNECT open.example.org:443 HTTP/1.1\\r\\nHost: open.example.org:443\\r\\n\\r\\n'), b' 200 ')
c = Tls('open.example.org').finish(s); demand(c.ask(get('open.example.org', '/', T)), b'world')",
    )
    .against(&[ServerName])
    .recorded("open.example.org", 443, "sni-mismatch"),
    attempt(
        "connect-to-a-port-not-listed",
        "s = dial('127.0.0.1', PROXY); demand(say(s, b'CONNECT open.example.org:8080 HTTP/1.1\\r\\nHost: open.example.org:8080\\r\\n\\r\\n'), b' 200 '); demand(say(s, get('x', '/', T)), b'world')",
        "s = dial('127.0.0.1', PROXY); demand(say(s, get('open.example.org', 'http://open.example.org/', T)), b'world')",
    )
    .against(&[Rules])
    .recorded("open.example.org", 8080, "port"),
    attempt(
        "connect-to-the-proxy-itself",
        "s = dial('127.0.0.1', PROXY); demand(say(s, f'CONNECT 127.0.0.1:{PROXY} HTTP/1.1\\r\\nHost: 127.0.0.1:{PROXY}\\r\\n\\r\\n'.encode()), b' 200 '); demand(say(s, get('x', '/', T)), b'world')",
        "s = dial('127.0.0.1', PROXY); demand(say(s, get('open.example.org', 'http://open.example.org/', T)), b'world')",
    )
    .against(&[Rules, Addresses])
    .recorded("127.0.0.1", egress::attach::TCP_PORT, "no-rule"),
];
