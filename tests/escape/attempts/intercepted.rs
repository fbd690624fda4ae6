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
    .against(&[Host])
    .recorded("api.example.org", 443, "host-mismatch"),
    attempt("intercepted-path-not-listed", "demand(trusting('api.example.org', get('api.example.org', '/v2/x', T)), b'world says')", INSIDE_TLS)
    .against(&[Path])
    .recorded("api.example.org", 443, "path"),
    attempt(
        "intercepted-second-request-to-another-host",
        "got = trusting('api.example.org', get('api.example.org', '/v1/x') + get('open.example.org', '/v1/x', T)); demand(str(got.count(b'world says')).encode(), b'2')",
        "demand(trusting('api.example.org', get('api.example.org', '/v1/x') + get('api.example.org', '/v1/y', T)), b'GET /v1/y')",
    )
    .against(&[EveryRequest])
    .recorded("api.example.org", 443, "host-mismatch"),
    attempt(
        "authority-key-inside",
        "found = next(private_keys(), None)
if not found: raise OSError('no key in any file')",
        "open('/tmp/planted', 'w').write('-----BEGIN PRIVATE ' + 'KEY-----')
demand(str([*private_keys()]).encode(), b\"['/tmp/planted']\"); os.remove('/tmp/planted')
demand(trusting('api.example.org', get('api.example.org', '/v1/x', T)), b'world says')",
    )
    .against_engine(ByEngine::Namespaces)
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
