//! HTTP inside TLS that ends at the proxy.

use egress::defence::Defence::*;

use crate::attempt::{Attempt, ByEngine, attempt};
use crate::attempts::INSIDE_TLS;

/// All of them.
pub const ATTEMPTS: &[Attempt] = &[
    attempt(
        "intercepted-sni-and-host-differ",
        "demand(trusting('api.example.org', get('open.example.org', '/v1/x', T)), b'world says')",
        INSIDE_TLS,
    )
    .against(&[Host]),
    attempt("intercepted-path-not-listed", "demand(trusting('api.example.org', get('api.example.org', '/v2/x', T)), b'world says')", INSIDE_TLS)
    .against(&[Path]),
    attempt(
        "intercepted-second-request-to-another-host",
        "got = trusting('api.example.org', get('api.example.org', '/v1/x') + get('open.example.org', '/v1/x', T)); demand(str(got.count(b'world says')).encode(), b'2')",
        "demand(trusting('api.example.org', get('api.example.org', '/v1/x') + get('api.example.org', '/v1/y', T)), b'GET /v1/y')",
    )
    .against(&[EveryRequest]),
    attempt(
        "authority-key-inside",
        "import os
for top in ('/run', '/home', '/root', '/tmp', '/var', '/dev/shm', os.path.expanduser('~')):
    for directory, _, files in os.walk(top):
        for name in files:
            path = os.path.join(directory, name)
            if os.path.isfile(path) and os.access(path, os.R_OK) and b'PRIVATE ' + b'KEY' in open(path, 'rb').read(): sys.exit()
raise OSError('no key in any file')",
        INSIDE_TLS,
    )
    .against_engine(ByEngine::Fixed("no mount leads to it, and a test that could mount it would prove nothing"))
    .unaudited(),
    attempt(
        "authority-exchanged-inside",
        "writable('/run/sbx/trust'); open('/run/sbx/trust/authority.pem', 'r+').close()",
        "open('/run/sbx/trust/authority.pem').read(1)",
    )
    .against_engine(ByEngine::Confinement)
    .stays_inside()
    .unaudited(),
];
