"""Servers that a program wants to reach: an HTTP/1.1 origin that tells what it saw, and a raw one.

`Origin` answers every request with lines `path=`, `host=`, `peer=`, or with a file below `directory` where that has a
folder of the path's first part; `hits` holds (method, path, headers). `RawOrigin` speaks first when it has a `banner` and then echoes; `received` holds, per
connection, all that came.
"""

import http.server
import os
import socket
import socketserver
import threading


class Origin:
    def __init__(self, address="127.0.0.1", port=0, directory=None):
        self.hits = []
        origin = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                body_length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(body_length)
                origin.hits.append((self.command, self.path, dict(self.headers.items())))
                code, reply = origin._reply(self, directory, body)
                self.send_response(code)
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(reply)

            do_GET = do_HEAD = do_POST = do_PUT = answer

            def log_message(self, *_):
                pass

        server = type("Server", (_Server, http.server.ThreadingHTTPServer), {
            "address_family": socket.AF_INET6 if ":" in address else socket.AF_INET})
        self._server = server((address, port), Handler)
        self.host, self.port = self._server.server_address[:2]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def address(self):
        return self.host, self.port

    def paths(self):
        return [path for _, path, _ in self.hits]

    def names(self):
        """The host that each request was meant for, without a port."""
        return [value.rpartition(":")[0] or value for _, _, headers in self.hits
                for name, value in headers.items() if name.lower() == "host"]

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @staticmethod
    def _reply(handler, directory, body):
        path = handler.path.partition("?")[0]
        file = os.path.join(directory, path.lstrip("/")) if directory else ""
        if directory and os.path.isfile(file):
            with open(file, "rb") as content:
                return 200, content.read()
        if directory and os.path.isdir(os.path.join(directory, path.split("/")[1])):
            return 404, b"not here\n"
        peer = "%s:%d" % handler.client_address[:2]
        return 200, f"path={handler.path}\nhost={handler.headers.get('Host')}\npeer={peer}\n".encode() + body


class RawOrigin:
    def __init__(self, address="127.0.0.1", port=0, banner=b"", echo=True):
        self.received = []
        origin = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                bytes_seen = bytearray()
                origin.received.append(bytes_seen)
                if banner:
                    self.request.sendall(banner)
                try:
                    while data := self.request.recv(65536):
                        bytes_seen.extend(data)
                        if echo:
                            self.request.sendall(data)
                except OSError:
                    pass

        server = type("Server", (_Server, socketserver.ThreadingTCPServer), {
            "address_family": socket.AF_INET6 if ":" in address else socket.AF_INET, "allow_reuse_address": True})
        self._server = server((address, port), Handler)
        self.host, self.port = self._server.server_address[:2]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    address = Origin.address
    stop = Origin.stop


class _Server:
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def server_bind(self):
        # http.server asks for the name of its own address, which is a query that no test meant.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "origin", self.server_address[1]

    def handle_error(self, request, client_address):
        pass  # clients that go away are what tests are made of
