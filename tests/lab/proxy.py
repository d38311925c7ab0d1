"""A scripted proxy (HTTP CONNECT and SOCKS5) with faults, and what it saw.

`Proxy("http", names={"name": (address, port)})` grants by default. `proxy.answer`, or `proxy.answers[target]` for one
target ("name:port"), is one of the steps below: grant, refuse, raw, silence, close, reset. Each accepted connection
is a `Connection` in `proxy.connections` that holds every byte it received: `handshake` (up to the reply), `received`
(through a granted tunnel) and `after_refusal`. Only names and literal addresses in `names` lead anywhere.
"""

import base64
import collections
import socket
import struct
import threading

from lab.listener import Listener, end
from lab.proc import scaled, wait_until

Answer = collections.namedtuple("Answer", "kind delay split early status headers body data after",
                                defaults=(0.0, False, b"", 0, (), b"", b"", None))


def held(answer, event):
    """The answer, once the test has set `event` (a threading.Event)."""
    return answer._replace(after=event)


def grant(delay=0.0, split=False, early=b""):
    """`early` leaves in the same segment as the reply (server-first protocols); `split` sends byte by byte."""
    return Answer("grant", delay=delay, split=split, early=early)


def refuse(status, headers=(), body=b"refused\n", delay=0.0, split=False):
    """An HTTP status, or a SOCKS5 reply code; then listens on for bytes that should not come."""
    return Answer("refuse", delay=delay, split=split, status=status, headers=tuple(headers), body=body)


def raw(data, delay=0.0, split=False):
    """`data` in place of the reply (garbage, a broken head), then reads on."""
    return Answer("raw", delay=delay, split=split, data=data)


def silence():
    return Answer("silence")


def close(delay=0.0):
    return Answer("close", delay=delay)


def reset(delay=0.0):
    return Answer("reset", delay=delay)


class Connection:
    def __init__(self, peer):
        self.peer = peer
        self.target = None          # "name:port" as the client asked for it
        self.target_kind = None     # name, ipv4 or ipv6
        self.credentials = None     # "user:password"
        self.handshake = bytearray()
        self.received = bytearray()
        self.after_refusal = bytearray()
        self.requests = []          # absolute-form requests: (method, url)
        self.ended = threading.Event()  # the client closed its side


class Proxy(Listener):
    def __init__(self, kind="http", names=None, credentials=None, answer=None, address="127.0.0.1", port=0):
        self.kind, self.credentials = kind, credentials
        self.names = dict(names or {})
        self.answer, self.answers = answer or grant(), {}
        self.connections = []
        self.listen(address, port)

    @property
    def url(self):
        login = f"{self.credentials}@" if self.credentials else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'socks5' if self.kind == 'socks5' else 'http'}://{login}{host}:{self.port}"

    def targets(self):
        return [connection.target for connection in self.connections if connection.target]

    def wait_connections(self, count, timeout=10.0):
        wait_until(lambda: len(self.connections) >= count, f"{count} connections at the proxy", timeout)
        return self.connections

    def serve(self, client, peer):
        connection = Connection(peer)
        self.connections.append(connection)
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            handshake = _socks5 if self.kind == "socks5" else _http
            handshake(self, client, connection)
        except (OSError, EOFError):
            pass
        finally:
            connection.ended.set()
            end(client)

    def _reply(self, client, connection, answer, granted, refused):
        """Plays the answer; `granted` and `refused` are the bytes of the protocol for those two."""
        if answer.delay:
            self.closing.wait(scaled(answer.delay))
        while answer.after is not None and not answer.after.wait(0.05) and not self.closing.is_set():
            pass
        if answer.kind == "grant":
            self._grant(client, connection, answer, granted, refused)
        elif answer.kind in ("refuse", "raw"):
            _send(client, answer.data if answer.kind == "raw" else refused, answer.split)
            _collect(client, connection.after_refusal)
        elif answer.kind == "silence":
            _collect(client, connection.after_refusal)
        elif answer.kind == "reset":
            # Without a shutdown before it, this close sends RST and no FIN.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()

    def _grant(self, client, connection, answer, granted, refused):
        host, _, port = connection.target.rpartition(":")
        place = self.names.get(connection.target) or self.names.get(host.strip("[]"))
        if place is None:
            _send(client, refused, answer.split)
            return _collect(client, connection.after_refusal)
        upstream = socket.create_connection((place[0], place[1] or int(port)))
        upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sockets.append(upstream)
        _send(client, granted + answer.early, answer.split)
        back = threading.Thread(target=_pump, args=(upstream, client, None), daemon=True)
        back.start()
        _pump(client, upstream, connection.received)
        connection.ended.set()
        back.join()
        end(upstream)


class SynDrop:
    """A listener whose queue is full: SYNs to it are dropped, so that a connect hangs until its own deadline."""

    def __init__(self, address="127.0.0.1", port=0):
        self._listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        self._listener.bind((address, port))
        self._listener.listen(0)
        self.host, self.port = self._listener.getsockname()[:2]
        self._filler = socket.create_connection((self.host, self.port))

    def stop(self):
        self._filler.close()
        self._listener.close()


def _http(proxy, client, connection):
    while True:
        start = len(connection.handshake)
        while b"\r\n\r\n" not in connection.handshake[start:]:
            connection.handshake += _take(client, 1)
        head = bytes(connection.handshake[start:]).decode("latin-1")
        method, target, _ = head.split("\r\n")[0].split(" ", 2)
        headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in head.split("\r\n")[1:]}
        scheme, _, login = headers.get("proxy-authorization", "").partition(" ")
        if scheme.lower() == "basic":
            connection.credentials = base64.b64decode(login).decode("latin-1")
        connection.target = target if method == "CONNECT" else target.split("/")[2]
        answer = proxy.answers.get(connection.target, proxy.answer)
        if proxy.credentials and connection.credentials != proxy.credentials and answer.kind == "grant":
            answer = refuse(407, [("Proxy-Authenticate", 'Basic realm="lab"')])
        if method == "CONNECT":
            connection.target_kind = _kind(connection.target.rpartition(":")[0].strip("[]"))
            granted = b"HTTP/1.1 200 Connection established\r\n\r\n"
            return proxy._reply(client, connection, answer, granted, _http_refusal(answer))
        connection.requests.append((method, target))
        if answer.kind != "grant":
            return proxy._reply(client, connection, answer, b"", _http_refusal(answer))
        connection.received += _take(client, int(headers.get("content-length", 0)))
        body = f"absolute {method} {target}\n".encode()
        _send(client, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body), answer.split)


def _http_refusal(answer):
    status = answer.status or 503
    headers = "".join(f"{name}: {value}\r\n" for name, value in answer.headers)
    body = answer.body or b"no such host\n"
    return f"HTTP/1.1 {status} Scripted\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _socks5(proxy, client, connection):
    def take(count):
        data = _take(client, count)
        connection.handshake.extend(data)
        return data

    version, count = take(2)
    methods = take(count)
    wanted = 2 if proxy.credentials else 0
    if version != 5 or wanted not in methods:
        client.sendall(b"\x05\xff")
        return _collect(client, connection.after_refusal)
    client.sendall(bytes([5, wanted]))
    if wanted:
        _, length = take(2)
        user = take(length)
        connection.credentials = (user + b":" + take(take(1)[0])).decode("latin-1")
        good = connection.credentials == proxy.credentials
        client.sendall(b"\x01\x00" if good else b"\x01\x01")
        if not good:
            return _collect(client, connection.after_refusal)
    _, _, _, form = take(4)
    if form == 3:
        connection.target_kind, host = "name", take(take(1)[0]).decode("latin-1")
    elif form == 1:
        connection.target_kind, host = "ipv4", socket.inet_ntop(socket.AF_INET, take(4))
    else:
        connection.target_kind, host = "ipv6", f"[{socket.inet_ntop(socket.AF_INET6, take(16))}]"
    connection.target = f"{host}:{int.from_bytes(take(2), 'big')}"
    answer = proxy.answers.get(connection.target, proxy.answer)
    refused = bytes([5, answer.status or 4, 0, 1]) + bytes(6)
    proxy._reply(client, connection, answer, bytes([5, 0, 0, 1]) + bytes(6), refused)


def _kind(host):
    for family, kind in ((socket.AF_INET, "ipv4"), (socket.AF_INET6, "ipv6")):
        try:
            socket.inet_pton(family, host)
            return kind
        except OSError:
            continue
    return "name"


def _take(source, count):
    data = b""
    while len(data) < count:
        more = source.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def _send(sink, data, split):
    if not split:
        return sink.sendall(data)
    for index in range(len(data)):
        sink.sendall(data[index:index + 1])


def _collect(source, into):
    while data := source.recv(65536):
        into.extend(data)


def _pump(source, sink, record):
    try:
        while data := source.recv(65536):
            if record is not None:
                record.extend(data)
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


