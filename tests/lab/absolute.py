"""A scripted proxy that is asked in absolute form, and refuses CONNECT (or grants it, to the origin of `tunnels`).

`answer(connection, head, body)` is called for every request and returns the bytes to send; None closes the connection,
RESET resets it. It may also speak through `connection.socket` by itself. What came is in `proxy.connections`.
"""

import re
import socket
import struct
import threading

from lab.listener import Listener, end
from lab.proc import wait_until

RESET = object()
REFUSAL = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"


def ok(body=b"fine\n", *fields):
    return b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (b"".join(f + b"\r\n" for f in fields), len(body), body)


class Connection:
    def __init__(self, client):
        self.socket, self.buffer, self.heads, self.ended = client, b"", [], threading.Event()

    def read_head(self):
        while b"\r\n\r\n" not in self.buffer:
            if not self.more():
                return None
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        self.heads.append(head.decode("latin-1"))
        return self.heads[-1]

    def more(self):
        data = self.socket.recv(65536)
        self.buffer += data
        return bool(data)

    def take(self, count):
        while len(self.buffer) < count:
            if not self.more():
                raise EOFError
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def read_chunks(self):
        """The chunked body as it stands on the wire, trailers included."""
        data = b""
        while True:
            line = self.line()
            data += line
            size = int(line.split(b";")[0], 16)
            if size == 0:
                break
            data += self.take(size + 2)
        while True:
            line = self.line()
            data += line
            if line == b"\r\n":
                return data

    def line(self):
        while b"\r\n" not in self.buffer:
            if not self.more():
                raise EOFError
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line + b"\r\n"


class AbsoluteProxy(Listener):
    def __init__(self, answer=None, refusal=REFUSAL, tunnels=None, context=None):
        self.answer = answer or (lambda connection, head, body: ok())
        self.refusal, self.tunnels, self.context = refusal, tunnels, context
        self.connections = []
        self.listen()

    @property
    def url(self):
        return f"http://{self.host}:{self.port}"

    def heads(self, connects=False):
        """Every request but CONNECT, in the order of connections."""
        return [head for one in self.connections for head in one.heads if connects or not head.startswith("CONNECT ")]

    def targets(self):
        return [" ".join(head.split(" ")[:2]) for head in self.heads(connects=True)]

    def wait_heads(self, count):
        return wait_until(lambda: len(self.heads()) >= count and self.heads(), f"{count} requests at the proxy")

    def serve(self, client, peer):
        connection = Connection(client)
        self.connections.append(connection)
        try:
            while (head := connection.read_head()) is not None:
                if head.startswith("CONNECT "):
                    if self.tunnels is None:
                        client.sendall(self.refusal)
                        continue
                    return self._tunnel(connection)
                answer = self.answer(connection, head, _body(connection, head))
                if answer is None:
                    break
                if answer is RESET:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return client.close()
                client.sendall(answer)
        except (OSError, EOFError):
            pass
        finally:
            connection.ended.set()
            end(client)

    def _tunnel(self, connection):
        upstream = socket.create_connection(self.tunnels)
        self.sockets.append(upstream)
        connection.socket.sendall(b"HTTP/1.1 200 ok\r\n\r\n")

        def back():
            try:
                while data := upstream.recv(65536):
                    connection.socket.sendall(data)
                connection.socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        other = threading.Thread(target=back, daemon=True)
        other.start()
        data = connection.buffer
        while data:
            upstream.sendall(data)
            data = connection.socket.recv(65536)
            if not data:
                break
        else:
            while data := connection.socket.recv(65536):
                upstream.sendall(data)
        upstream.shutdown(socket.SHUT_WR)
        other.join()


def field(head, name):
    """Values of all fields of that name."""
    return [value.strip() for key, _, value in (line.partition(":") for line in head.split("\r\n")[1:])
            if key.lower() == name.lower()]


def _body(connection, head):
    if field(head, "transfer-encoding"):
        return connection.read_chunks()
    length = re.search(r"(?im)^content-length: *(\d+)", head)
    # A large body is left to the answer.
    return connection.take(int(length.group(1))) if length and int(length.group(1)) <= 1 << 20 else b""
