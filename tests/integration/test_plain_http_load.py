# suite: full
"""The relay in absolute form under load: bulk both ways, slow readers, many at once; and what squid's log says."""

import hashlib
import http.server
import os
import re
import socketserver
import threading
import unittest

from lab import proc, squid, tinyproxy
from lab.absolute import AbsoluteProxy, ok
from lab.case import TOWPATH, LabCase, main
from lab.tls import Authority, Haproxy
from lab.tree import agent_of

NAME = "only-at-the-proxy.example"
ORIGIN = "127.0.0.80"
MEGABYTES = 200
PIECE = bytes(range(256)) * 4096  # 1 MB


class Bulk:
    """GET /N answers N MB, POST answers the SHA-256 of what came; 100-continue is python's own."""

    def __init__(self):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                count = int(self.path[1:].partition("?")[0])
                self.send_response(200)
                self.send_header("Content-Length", str(count * len(PIECE)))
                self.end_headers()
                for _ in range(count):
                    self.wfile.write(PIECE)

            def do_POST(self):
                digest = hashlib.sha256()
                if self.headers.get("Transfer-Encoding"):
                    while size := int(self.rfile.readline(), 16):
                        digest.update(self.rfile.read(size))
                        self.rfile.readline()
                    self.rfile.readline()
                else:
                    left = int(self.headers["Content-Length"])
                    while left:
                        part = self.rfile.read(min(left, 1 << 20))
                        if not part:
                            return
                        digest.update(part)
                        left -= len(part)
                text = digest.hexdigest().encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address, daemon_threads, request_queue_size = True, True, 128

            def handle_error(self, *_):
                pass
        self._server = Server((ORIGIN, 80), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Through(LabCase):
    @classmethod
    def setUpClass(cls):
        if cls is Through:
            raise unittest.SkipTest("the rows are those of the classes below")
        super().setUpClass()
        cls.start(Bulk())
        cls.prepare()

    @classmethod
    def prepare(cls):
        if not squid.Squid.PROGRAM:
            raise unittest.SkipTest("squid is not installed")
        cls.proxy = cls.start(squid.Squid(cls.class_directory, {NAME: ORIGIN}, shipped_rules=True))

    def setUp(self):
        super().setUp()
        self.proxy_values(self.proxy.url)

    def curl(self, *words, **options):
        return self.assert_ran(self.towpath(self.need("curl"), "-sS", "--fail", *words, timeout=120, **options))

    def body(self):
        path = os.path.join(self.directory, "body")
        digest = hashlib.sha256()
        with open(path, "wb") as file:
            for _ in range(MEGABYTES):
                file.write(PIECE)
                digest.update(PIECE)
        return path, digest.hexdigest()

    def test_download(self):
        path = os.path.join(self.directory, "down")
        self.curl("-o", path, f"http://{NAME}/{MEGABYTES}")
        with open(path, "rb") as file:
            for _ in range(MEGABYTES):
                self.assertTrue(file.read(len(PIECE)) == PIECE)
            self.assertEqual(file.read(), b"")
        os.unlink(path)

    def test_upload(self):
        path, digest = self.body()
        for words in (["-H", "Expect:"], ["-H", "Expect: 100-continue"], ["-H", "Transfer-Encoding: chunked"]):
            with self.subTest(words):
                result = self.curl("-v", *words, "-X", "POST", "-T", path, f"http://{NAME}/")
                self.assertEqual(result.out, digest)
                if "continue" in words[1] and self.continues:
                    self.assertIn("100 Continue", result.err)
        os.unlink(path)

    continues = True

    def test_a_connection_is_used_again(self):
        result = self.curl("-w", "%{stderr}%{num_connects} ", f"http://{NAME}/1?[1-20]")
        self.assertEqual(result.err.split(), ["1"] + ["0"] * 19)


class Squid(Through):
    def test_one_connect_is_refused_and_none_follows(self):
        # Another host per command, and all of them in one tree.
        before = len(self.proxy.access_log)
        self.assert_ran(self.towpath("sh", "-c", f"for i in 1 2 3; do curl -sS --fail -o /dev/null http://{NAME}/1 && "
                                     f"wget -q -O /dev/null http://{NAME}/1 || exit 1; done"))
        rows = [line.split()[:3] for line in self.proxy.access_log[before:]]
        self.assertEqual(rows, [["CONNECT", f"{NAME}:80", "403"]] + [["GET", f"http://{NAME}/1", "200"]] * 6)

    def test_connect_and_the_hint(self):
        self.proxy_values(self.proxy.url, more="plainHttp: connect")
        result = self.towpath(self.need("curl"), "-sS", f"http://{NAME}/1")
        self.assertEqual(result.code, 7)
        self.assertRegex(result.err, r'event=connect_failed .*status 403.*hint="[^"]*plainHttp: auto')


class Tls(Through):
    @classmethod
    def prepare(cls):
        super().prepare()
        cls.authority = Authority(cls.class_directory)
        cls.before = cls.start(Haproxy(cls.class_directory, cls.proxy, cls.authority.certificate("proxy", "IP:127.0.0.1")))

    def setUp(self):
        super().setUp()
        self.proxy_values(f"https://127.0.0.1:{self.before.port}", more=f"tls:\n  caFile: {self.authority.file}")


class Tinyproxy(Through):
    @classmethod
    def prepare(cls):
        if not tinyproxy.Tinyproxy.PROGRAM:
            raise unittest.SkipTest("tinyproxy is not installed")
        cls.proxy = cls.start(tinyproxy.Tinyproxy(cls.class_directory, {NAME: ORIGIN}))

    continues = False  # it passes no interim answer on


_SLOW = r"""
import signal, socket, sys
s = socket.create_connection((sys.argv[1], 80))
s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
print("asked", flush=True)
signal.pause()
"""

_STUFFED = r"""
import select, socket, sys
s = socket.create_connection((sys.argv[1], 80))
s.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
s.setblocking(False)
sent = 0
while select.select([], [s], [], 1)[1]:
    sent += s.send(b"x" * 65536)
print("sent=%d" % sent, flush=True)
"""

_PIPELINED = r"""
import select, socket, sys
s = socket.create_connection((sys.argv[1], 80))
s.setblocking(False)
sent, piece = 0, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2000
while select.select([], [s], [], 1)[1]:
    sent += s.send(piece[sent % 27:])
print("sent=%d" % sent, flush=True)
"""

_MANY = r"""
import asyncio, sys
async def one(number):
    reader, writer = await asyncio.open_connection(sys.argv[1], 80)
    for turn in range(3):
        writer.write(b"GET /%d-%d HTTP/1.1\r\nHost: %s\r\n\r\n" % (number, turn, sys.argv[1].encode()))
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
        assert body == b"http://%s/%d-%d" % (sys.argv[1].encode(), number, turn), body
    writer.close()
async def main():
    await asyncio.gather(*(one(number) for number in range(300)))
    print("all")
asyncio.run(main())
"""


class Bounds(LabCase):
    """A side that does not read keeps the other from sending, and costs the agent no memory."""

    def agent_memory(self, program):
        with open(f"/proc/{agent_of(program.pid)}/status") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))

    def test_a_program_that_does_not_read(self):
        sent = [0]

        def answer(connection, head, body):
            connection.socket.sendall(b"HTTP/1.1 200 ok\r\nContent-Length: 1000000000\r\n\r\n")
            connection.socket.settimeout(1)
            try:
                while True:
                    sent[0] += connection.socket.send(PIECE)
            except TimeoutError:
                stuck.set()
                return None
        stuck = threading.Event()
        proxy = self.use(AbsoluteProxy(answer))
        self.proxy_values(proxy.url)
        program = self.spawn("program", TOWPATH, "run", "-c", self.config, "--", "/usr/bin/python3", "-c", _SLOW, NAME)
        program.wait_line("asked")
        self.assertTrue(stuck.wait(proc.scaled(30)))
        # What the kernel's buffers of three sockets hold, and 256 KB of ours.
        self.assertLess(sent[0], 40 << 20)
        self.assertLess(self.agent_memory(program), 40 << 10)

    def test_a_proxy_that_does_not_read(self):
        gone = threading.Event()
        proxy = self.use(AbsoluteProxy(lambda connection, head, body: gone.wait(proc.scaled(30)) and None))
        self.addCleanup(gone.set)
        self.proxy_values(proxy.url)
        program = self.spawn("program", TOWPATH, "run", "-c", self.config, "--", "/usr/bin/python3", "-c", _STUFFED, NAME)
        sent = int(program.wait_line(r"sent=(\d+)", 60).group(1))
        self.assertLess(sent, 40 << 20)

    def test_a_program_that_only_asks(self):
        proxy = self.use(AbsoluteProxy(lambda connection, head, body: ok(b"x" * 100000)))
        self.proxy_values(proxy.url)
        program = self.spawn("program", TOWPATH, "run", "-c", self.config, "--", "/usr/bin/python3", "-c",
                             _PIPELINED + "import signal; signal.pause()\n", NAME)
        sent = int(program.wait_line(r"sent=(\d+)", 60).group(1))
        self.assertLess(sent, 40 << 20)
        self.assertLess(self.agent_memory(program), 40 << 10)
        self.assertLess(len(proxy.heads()), 1000)

    def test_three_hundred_at_once(self):
        def answer(connection, head, body):
            text = head.split(" ")[1].encode()
            return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)
        proxy = self.use(AbsoluteProxy(answer))
        self.proxy_values(proxy.url)
        result = self.assert_ran(self.towpath("/usr/bin/python3", "-c", _MANY, NAME, timeout=60))
        self.assertEqual(result.out, "all\n")


if __name__ == "__main__":
    main()
