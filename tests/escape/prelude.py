# Runs inside a sandbox: reads a list of attempts, tries each in a process of its own, tells how long it took and how it ended.
import ctypes, errno, json, os, signal, socket, ssl, struct, subprocess, sys, time

LIMIT = 5


def dial(host, port, family=0, timeout=3):
    error = OSError("no address")
    for found in socket.getaddrinfo(host, port, family, socket.SOCK_STREAM):
        try:
            made = socket.socket(*found[:3])
            made.settimeout(timeout)
            made.connect(found[4])
            return made
        except OSError as failed:
            error = failed
    raise error


def say(stream, data, more=True):
    stream.sendall(data)
    return stream.recv(65536) if more else b""


def http(host, request, port=80):
    """Sends raw bytes to the address of a name and gives what comes back until the end or a pause."""
    with dial(host, port) as stream:
        stream.sendall(request)
        return everything(stream)


def everything(stream, first=1.5, pause=0.1):
    got = b""
    try:
        stream.settimeout(first)
        while part := stream.recv(65536):
            got += part
            stream.settimeout(pause)
    except (TimeoutError, socket.timeout, ConnectionResetError):
        pass
    return got


def gateway():
    """The first address of the internal network that the sandbox is on: the bridge's own, on the host."""
    own = [line for line in open("/proc/net/fib_trie") if "|--" in line and " 10." in line][0].split()[-1]
    return own.rsplit(".", 1)[0] + ".1"


def idle(number):
    """Those of so many clients of the resolver that say nothing and are not sent away."""
    clients = []
    for _ in range(number):
        try:
            clients.append(dial("198.51.100.1", 53))
        except ConnectionResetError:
            pass
    until = time.monotonic() + 1
    while len(clients) == number and time.monotonic() < until:
        clients = [client for client in clients if stays(client)]
    return clients


def stays(client):
    client.setblocking(False)
    try:
        return client.recv(1) != b""
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False


def private_keys():
    """Files with one, wherever they would be: home first, since it is there on the host."""
    for top in (os.path.expanduser("~"), "/run", "/home", "/root", "/tmp", "/var", "/dev/shm"):
        for directory, _, files in os.walk(top):
            for path in (os.path.join(directory, name) for name in files):
                try:
                    if os.path.isfile(path) and b"PRIVATE " + b"KEY" in open(path, "rb").read():
                        yield path
                except OSError:
                    pass


def writable(path):
    """Mounts what is there anew, not read-only, if that can be done."""
    subprocess.run(["mount", "-o", "remount,bind,rw", path], stderr=subprocess.DEVNULL)


def usable(path):
    """Mounts what is there anew, with devices, if that can be done."""
    subprocess.run(["mount", "-o", "remount,bind,dev", path], stderr=subprocess.DEVNULL)


def get(host, path="/", token="-", more="", method="GET"):
    # Records have the path: by that they name the attempt.
    path += token if path.endswith("/") and token != "-" else ""
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nX-Token: {token}\r\n{more}\r\n".encode()


def demand(got, wanted):
    if wanted not in got:
        raise OSError(f"{wanted!r} is not in {got[:300]!r}")


class Tls:
    """A TLS client whose first flight can be sent in any form."""

    def __init__(self, name, alpn=None):
        context = ssl._create_unverified_context()
        if alpn:
            context.set_alpn_protocols(alpn)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        self.hello = self.outgoing.read()

    def finish(self, stream, pieces=None):
        for piece in pieces or [self.hello]:
            stream.sendall(piece)
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                if self.outgoing.pending:
                    stream.sendall(self.outgoing.read())
                got = stream.recv(65536)
                if not got:
                    raise OSError("closed during the handshake")
                self.incoming.write(got)
        stream.sendall(self.outgoing.read())
        self.stream = stream
        return self

    def ask(self, request):
        self.tls.write(request)
        self.stream.sendall(self.outgoing.read())
        while True:
            try:
                return self.tls.read(65536)
            except ssl.SSLWantReadError:
                got = self.stream.recv(65536)
                if not got:
                    raise OSError("closed")
                self.incoming.write(got)


def https(address, name, request, port=443, pieces=None, alpn=None):
    """TLS to an address with the server name `name`, in pieces if `pieces` says how."""
    client = Tls(name, alpn)
    with dial(address, port) as stream:
        client.finish(stream, pieces(client.hello) if pieces else None)
        return client.ask(request)


def trusting(name, request):
    """TLS as programs speak it, verified by what a sandbox trusts."""
    context = ssl.create_default_context()
    with dial(name, 443) as plain, context.wrap_socket(plain, server_hostname=name) as stream:
        stream.sendall(request)
        return everything(stream)


def record(payload):
    return b"\x16\x03\x01" + struct.pack(">H", len(payload)) + payload


def records(hello, size):
    payload = hello[5:]
    return [b"".join(record(payload[at : at + size]) for at in range(0, len(payload), size))]


def string(data):
    return struct.pack(">H", len(data)) + data


def names(*hosts):
    """The extension that names them."""
    return string(b"".join(b"\0" + string(host) for host in hosts))


def hello(name, token, change):
    """The server's answer to a hello for `name` whose extensions, kinds and values, were changed."""
    message = Tls(name, ["http/1.1", token]).hello[9:]
    at = 34
    for width in (1, 2, 1):
        at += width + int.from_bytes(message[at : at + width], "big")
    extensions, rest = [], message[at + 2 :]
    while rest:
        kind, length = struct.unpack(">HH", rest[:4])
        extensions.append((kind, rest[4 : 4 + length]))
        rest = rest[4 + length :]
    body = message[:at] + string(b"".join(struct.pack(">H", kind) + string(value) for kind, value in change(extensions)))
    with dial(name, 443) as stream:
        got = say(stream, record(b"\1" + struct.pack(">I", len(body))[1:] + body))
    if got[:1] != b"\x16":
        raise OSError(f"no answer but {got[:99]!r}")
    return got


def socket_proxy():
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(3)
    made.connect("/run/sbx/egress/egress.sock")
    return made


def tunnel(stream, target):
    return say(stream, f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())


def through_socket(target, token):
    """What the proxy at the socket says of a tunnel; the token goes through it."""
    with socket_proxy() as stream:
        answer = tunnel(stream, target)
        if b" 200 " in answer:
            stream.sendall(token.encode())
        return answer


def over_socket(line, host, token):
    """A request in absolute form."""
    with socket_proxy() as stream:
        stream.sendall(f"{line}\r\nHost: {host}\r\nX-Token: {token}\r\n\r\n".encode())
        return everything(stream)


def question(name, kind=1, number=0x1234):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)


def ask_dns(server, name, kind=1, tcp=False, raw=None):
    """(response code, number of answers)."""
    data = raw or question(name, kind)
    if tcp:
        with dial(server, 53) as stream:
            stream.sendall(struct.pack(">H", len(data)) + data)
            got = stream.recv(65536)[2:]
    else:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stream:
            stream.settimeout(1)
            stream.sendto(data, (server, 53))
            got = stream.recv(65536)
    return got[3] & 15, struct.unpack(">H", got[6:8])[0]


def run(script, token):
    begun = time.monotonic()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        signal.alarm(LIMIT)
        said = "through"
        try:
            exec(script, {**globals(), "T": token})
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said.encode()[:4000])
        os._exit(0)
    os.close(writer)
    said = b""
    while part := os.read(reader, 4096):
        said += part
    os.waitpid(child, 0)
    os.close(reader)
    return {"said": said.decode() or f"killed after {LIMIT} s", "seconds": time.monotonic() - begun}


for line in sys.stdin:
    wanted = json.loads(line)
    print(json.dumps({"name": wanted["name"], **run(wanted["script"], wanted["token"])}), flush=True)
