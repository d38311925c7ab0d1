"""Clients and servers for tests of the inbound side: PROXY headers by hand, requests by hand, servers of many kinds that say
which client they saw.

`InboundCase.serve()` starts a program under towpath and waits until it listens. Every server answers a request with a line
`client=ADDRESS` and the header fields that it was given, one per line, so that a forged address is seen wherever it shows.
"""

import os
import re
import socket
import struct
import subprocess

from lab import proc
from lab.case import LabCase, probe, program

PYTHON = "/usr/bin/python3"
TRUSTED = "127.0.0.0/8"     # clients that bind to 127.x come from a trusted proxy
STRANGER = "192.0.2.66"     # an address of this machine that is not trusted
CLIENT = "198.51.100.7"
FIELD_NAMES = ("X-Forwarded-For", "X-Real-IP", "Forwarded", "CF-Connecting-IP", "True-Client-IP", "X-Forwarded-Host",
               "X-Forwarded-Proto")


def proxy_v1(client=CLIENT, port=40000):
    kind = "TCP6" if ":" in client else "TCP4"
    own = "2001:db8::80" if ":" in client else "203.0.113.80"
    return f"PROXY {kind} {client} {own} {port} 80\r\n".encode()


def proxy_v2(client=CLIENT, port=40000, local=False, tlvs=b""):
    family = socket.AF_INET6 if ":" in client else socket.AF_INET
    own = "2001:db8::80" if ":" in client else "203.0.113.80"
    addresses = socket.inet_pton(family, client) + socket.inet_pton(family, own) + struct.pack(">HH", port, 80)
    kind = b"\x21" if family == socket.AF_INET6 else b"\x11"
    payload = addresses + tlvs
    return b"\r\n\r\n\0\r\nQUIT\n" + (b"\x20" if local else b"\x21") + kind + struct.pack(">H", len(payload)) + payload


def connect(where, source=None, timeout=10.0):
    """`source`: the address that the server's kernel sees."""
    family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
    peer = socket.socket(family)
    peer.settimeout(proc.scaled(timeout))
    if source:
        peer.bind((source, 0))
    peer.connect(where)
    return peer


def read_all(peer):
    """(everything up to the end, "" or the name of the error that came instead of it)."""
    data = b""
    while True:
        try:
            part = peer.recv(65536)
        except OSError as error:
            return data, type(error).__name__
        if not part:
            return data, ""
        data += part


def ask(where, data, source=None, pieces=None):
    """Sends, and reads to the end. `pieces`: cut behind these numbers of bytes, each sent by itself."""
    with connect(where, source) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        at = 0
        for cut in [*(pieces or []), len(data)]:
            try:
                peer.sendall(data[at:cut])
            except ConnectionError:
                break  # refused because of what came first
            at = cut
        return read_all(peer)[0]


def request(path="/", fields=(), version="1.1", host="h", close=True, body=b""):
    lines = [f"GET {path} HTTP/{version}" if not body else f"POST {path} HTTP/{version}"]
    if host:
        lines.append(f"Host: {host}")
    lines += [f"{name}: {value}" for name, value in fields]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    if close:
        lines.append("Connection: close")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Answers:
    """Answers of one keep-alive connection, one after the other: (status, body)."""

    def __init__(self, peer):
        self._file = peer.makefile("rb")

    def next(self):
        status = self._file.readline().split(b" ")
        length, chunked = 0, False
        while (line := self._file.readline().strip().lower()):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
            chunked = chunked or line == b"transfer-encoding: chunked"
        if not chunked:
            return int(status[1]), self._file.read(length).decode()
        body = b""
        while (size := int(self._file.readline(), 16)):
            body += self._file.read(size)
            self._file.readline()
        self._file.readline()
        return int(status[1]), body.decode()


_HTTP_SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        text = "client=%s\\n" % self.client_address[0] + "".join("%s: %s\\n" % item for item in self.headers.items())
        data = text.encode() + body
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    do_POST = do_GET
server = http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler)
print("listening", server.server_address[1], flush=True)
server.serve_forever()
"""

_ASYNCIO = """
import asyncio, sys
async def serve(reader, writer):
    try:
        while True:
            head = (await reader.readuntil(b"\\r\\n\\r\\n")).decode("latin-1")
            lines = head.split("\\r\\n")
            text = "client=%s\\n" % writer.get_extra_info("peername")[0] + "\\n".join(lines[1:-2]) + "\\n"
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(text) + text.encode())
            await writer.drain()
            if "connection: close" in head.lower():
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    writer.close()
async def main():
    server = await asyncio.start_server(serve, sys.argv[1], int(sys.argv[2]))
    print("listening", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""

_NODE = """
const server = require("http").createServer((request, answer) => {
  let text = "client=" + request.socket.remoteAddress.replace("::ffff:", "") + "\\n"
  for (let i = 0; i < request.rawHeaders.length; i += 2) text += request.rawHeaders[i] + ": " + request.rawHeaders[i + 1] + "\\n"
  request.on("data", data => text += data).on("end", () => {
    if (Object.keys(request.trailers).length) text += JSON.stringify(request.trailers) + "\\n"
    answer.setHeader("Content-Length", Buffer.byteLength(text))
    answer.end(text)
  })
})
server.on("upgrade", (request, socket) => {
  socket.write("HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: echo\\r\\nConnection: Upgrade\\r\\n\\r\\nclient=" +
               socket.remoteAddress.replace("::ffff:", "") + "\\n")
  socket.pipe(socket)
})
server.listen(+process.argv[2], process.argv[1], () => console.log("listening", server.address().port))
"""

_JAVA = """
import com.sun.net.httpserver.*;
import java.net.*;

public class Serve {
  public static void main(String[] arguments) throws Exception {
    HttpServer server = HttpServer.create(new InetSocketAddress(arguments[0], Integer.parseInt(arguments[1])), 0);
    server.createContext("/", exchange -> {
      StringBuilder text = new StringBuilder("client=" + exchange.getRemoteAddress().getAddress().getHostAddress() + "\\n");
      exchange.getRequestHeaders().forEach((name, values) -> values.forEach(value ->
          text.append(name).append(": ").append(value).append("\\n")));
      byte[] data = text.toString().getBytes();
      exchange.sendResponseHeaders(200, data.length);
      exchange.getResponseBody().write(data);
      exchange.close();
    });
    server.start();
    System.out.println("listening " + server.getAddress().getPort());
  }
}
"""

NGINX = """
daemon off; master_process {master}; worker_processes 2; pid {directory}/nginx.pid; error_log {directory}/error.log;
events {{ worker_connections 1024; }}
{more}
"""


def nginx_server(port, address="127.0.0.1"):
    """An origin that says which client it sees and what it was told."""
    told = "".join(f"{name}: $http_{name.lower().replace('-', '_')}\\n" for name in FIELD_NAMES)
    return ("http { access_log off; underscores_in_headers on; server { listen %s:%d; location / { "
            'return 200 "client=$remote_addr\\n%s"; } } }' % (address, port, told))


class InboundCase(LabCase):
    """Servers under towpath. `reverse(text)` writes the reverseProxy section."""

    def reverse(self, headers="", more="", origins=TRUSTED, timeout="5s"):
        return self.values(f"coderd:\n  reverseProxy:\n    trustedOrigins: [{origins}]\n    headers: [{headers}]\n"
                           f"    headerTimeout: {timeout}\n" + "".join(f"    {line}\n" for line in more.splitlines()))

    def serve(self, *command, ready=r"listening (\d+)|port=(\d+)", bare=False, env=None, name="server"):
        """(process, port)."""
        server = self.spawn(name, *(command if bare else self.line(*command)), env={"TOWPATH_LOG": "info", **(env or {})})
        found = server.wait_line(ready)
        return server, int(next((one for one in found.groups() if one), 0)) if found.groups() else 0

    def acceptor(self, style, *options, address="127.0.0.1", port=0, bare=False):
        return self.serve(self.acceptor_program(), style, address, port, *options, bare=bare)

    def acceptor_program(self):
        return probe("acceptor")

    def http_server(self, kind, address="0.0.0.0"):
        """A server of that kind under towpath: its port."""
        if kind == "python":
            return self.serve(PYTHON, "-c", _HTTP_SERVER, address, 0)[1]
        if kind == "asyncio":
            return self.serve(PYTHON, "-c", _ASYNCIO, address, 0)[1]
        if kind == "node":
            return self.serve(self.need("node"), "-e", _NODE, address, 0)[1]
        if kind == "java":
            return self.serve(self.need("java"), "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx64m", "-cp",
                              self._java_classes(), "Serve", address, 0)[1]
        if kind in ("go static", "go cgo"):
            return self.serve(program(kind.replace(" ", "-") + "/goserver"), "client", f"{address}:0",
                              ready=r"listening=\S+:(\d+)")[1]
        if kind == "caddy":
            return self.caddy_server(self.free_port(), address)
        return self.nginx(nginx_server(self.free_port(), address))

    def caddy_server(self, port, address):
        """A Go program that this repository does not build; its body cannot contain the client's."""
        told = "".join(f"{name}: {{header.{name}}}\n" for name in FIELD_NAMES)
        path = self.file(f"caddy-{port}", '{\n admin off\n auto_https off\n}\nhttp://:%d {\n bind %s\n respond `client={remote_host}\n%s`'
                         '\n}\n' % (port, address, told))
        server = self.spawn(f"caddy-{port}", *self.line(self.need("caddy"), "run", "--adapter", "caddyfile", "--config", path))
        proc.wait_until(lambda: any(at[1] == port for at, _ in proc.listeners()), "caddy listens", 20, server)
        return port

    def nginx(self, more, bare=False, name="nginx", master="off"):
        """Runs until the test ends; the first port that `more` listens on."""
        place = os.path.join(self.directory, name)
        os.makedirs(place, exist_ok=True)
        os.chown(place, os.stat(self.directory).st_uid, -1)  # lab/docker.py
        port = int(re.search(r"listen (?:\S+:)?(\d+)", more).group(1))
        config = self.file(f"{name}.conf", NGINX.format(directory=place, master=master, more=more))
        command = [self.need("nginx"), "-p", place, "-c", config, "-e", f"{place}/error.log"]
        self.spawn(name, *(command if bare else self.line(*command)), env={"TOWPATH_LOG": "info"})
        proc.wait_until(lambda: any(at[1] == port for at, _ in proc.listeners()), f"{name} listens on {port}")
        return port

    def haproxy(self, server_line, port, more="", frontend=""):
        """haproxy in front of 127.0.0.1:`port`, with options of its `server` line: where clients go."""
        own = self.free_port()
        config = self.file("haproxy.cfg", f"""
defaults
  mode tcp
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend in
  bind 0.0.0.0:{own}
{frontend}
  default_backend out
backend out
{more}
  server one 127.0.0.1:{port} source 127.0.0.1 {server_line}
""")
        self.spawn("haproxy", self.need("haproxy"), "-db", "-f", config)
        proc.wait_until(lambda: any(at[1] == own for at, _ in proc.listeners()), f"haproxy listens on {own}")
        return own

    def free_port(self):
        """Of this namespace, where nobody else takes ports; never the same twice in a test."""
        self._ports = getattr(self, "_ports", [])
        with socket.socket() as one:
            one.bind(("0.0.0.0", 0))
            port = one.getsockname()[1]
        if port in self._ports:
            return self.free_port()
        self._ports.append(port)
        return port

    def _java_classes(self):
        place = os.path.join(type(self).class_directory, "java")
        if not os.path.isdir(place):
            os.mkdir(place)
            with open(os.path.join(place, "Serve.java"), "w") as file:
                file.write(_JAVA)
            subprocess.run([self.need("javac"), "-d", place, os.path.join(place, "Serve.java")], check=True)
        return place


def fields(answer):
    """{"client": address, "X-Forwarded-For": [...], ...} of a server's answer, names as the server has them."""
    found = {}
    for line in answer.replace("\r\n", "\n").splitlines():
        if line.startswith("client="):
            found["client"] = line[7:]
        elif ": " in line:
            name, _, value = line.partition(": ")
            found.setdefault(name, []).append(value)
    return found


def line_of(text):
    """{"accept": ..., "peer": ..., ...} of the probe's line."""
    return dict(word.split("=", 1) for word in text.strip().split(" ") if "=" in word)
