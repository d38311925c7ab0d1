"""HTTP mode: every request is shown under its own client's address, whatever shares the connection; and what a stranger says
about itself never reaches the server, however it is written."""

import os
import select
import socket
import threading
import time

from lab import netns, proc
from lab.case import main
from lab.inbound import (CLIENT, FIELD_NAMES, PYTHON, STRANGER, Answers, InboundCase, ask, connect, fields, nginx_server,
                         proxy_v1, read_all, request)

FORGED = "6.6.6.6"
SERVERS = ("python", "asyncio", "node", "java", "nginx", "go static", "go cgo", "caddy")
# Ways to say who one is. The server must not see the address in any of them.
SPOOFS = {
    "plain": request(fields=[("X-Forwarded-For", FORGED)]),
    "every name": request(fields=[(name, FORGED) for name in FIELD_NAMES]),
    "forwarded": request(fields=[("Forwarded", f'for="{FORGED}";host={FORGED}')]),
    "underscores": request(fields=[("X_Forwarded_For", FORGED), ("x_real-ip", FORGED), ("X-FORWARDED_FOR", FORGED)]),
    "two lines": request(fields=[("X-Forwarded-For", FORGED), ("X-Forwarded-For", "1.1.1.1")]),
    "connection names it": request(fields=[("X-Forwarded-For", FORGED), ("Connection", "X-Forwarded-For")]),
    "obs-fold": b"GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n X-Forwarded-For: 6.6.6.6\r\nConnection: close\r\n\r\n",
    "folded value": b"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For:\r\n\t6.6.6.6\r\nConnection: close\r\n\r\n",
    "blank before colon": b"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For : 6.6.6.6\r\nConnection: close\r\n\r\n",
    "leading blank line": b"\r\n" + request(fields=[("X-Forwarded-For", FORGED)]),
    "bare LF": b"GET / HTTP/1.1\nHost: h\nX-Forwarded-For: 6.6.6.6\nConnection: close\n\n",
    "LF in the middle": b"GET / HTTP/1.1\r\nHost: h\r\nA: b\nX-Forwarded-For: 6.6.6.6\r\nConnection: close\r\n\r\n",
    "NUL": b"GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For\0: 6.6.6.6\r\nConnection: close\r\n\r\n",
    "length and coding": b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
                         + request(fields=[("X-Forwarded-For", FORGED)]),
    "xchunked": b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n" + request(fields=[("X-Forwarded-For", FORGED)]),
    "two lengths": b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 70\r\n\r\n"
                   + request(fields=[("X-Forwarded-For", FORGED)]),
    "no host": b"GET / HTTP/1.1\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    "h2c": request(fields=[("X-Forwarded-For", FORGED), ("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"),
                           ("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA")]),
    "HTTP/0.9": b"GET /\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n",
    "PROXY": proxy_v1(FORGED) + request(),
    "second request": request(close=False) + request(fields=[("X-Forwarded-For", FORGED)]),
    "trailers": b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Forwarded-For\r\nConnection: close\r\n\r\n"
                b"1\r\na\r\n0\r\nX-Forwarded-For: 6.6.6.6\r\nX_Real_IP: 6.6.6.6\r\n\r\n",
    "body that looks like one": request(body=b"X-Forwarded-For: 6.6.6.6\r\n".replace(b"6.6.6.6", b"7.7.7.7")),
    "half TLS": b"\x16\x03\x01 / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n",
}


class Http(InboundCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        netns.add_address(f"{STRANGER}/32")
        netns.add_address(f"{CLIENT}/32")

    def test_each_request_has_its_own_client(self):
        """Three clients take turns on one connection of a trusted proxy."""
        self.reverse("X-Forwarded-For, X-Real-IP, Forwarded")
        for kind in SERVERS:
            with self.subTest(kind):
                port = self.http_server(kind)
                with connect(("127.0.0.1", port), "127.0.0.2") as peer:
                    answers = Answers(peer)
                    for number in range(12):
                        client = f"198.51.100.{number % 3}"
                        peer.sendall(request(f"/{number}", [("X-Forwarded-For", f"{FORGED}, {client}, 127.9.9.9")], close=False))
                        status, body = answers.next()
                        seen = fields(body)
                        self.assertEqual((status, seen["client"]), (200, client))
                        told = [value for name in seen if name.lower() == "x-forwarded-for" for value in seen[name]]
                        self.assertEqual(told, [client])
                        self.assertNotIn(FORGED, body)

    def test_without_towpath_the_server_sees_the_proxy(self):
        port = self.nginx(nginx_server(self.free_port()), bare=True)
        answer = ask(("127.0.0.1", port), request(fields=[("X-Forwarded-For", FORGED)]), "127.0.0.2").decode()
        self.assertIn("client=127.0.0.2", answer)
        self.assertIn(FORGED, answer)

    def test_a_stranger_cannot_choose_its_address(self):
        for headers, origins in (("X-Forwarded-For", "127.0.0.0/8"), ("X-Forwarded-For", "")):
            self.reverse(headers, origins=origins, timeout="1s")
            for kind in SERVERS:
                port = self.http_server(kind)
                for name, data in SPOOFS.items():
                    with self.subTest(server=kind, spoof=name, origins=origins):
                        answer = ask(("127.0.0.1", port), data, STRANGER).decode("latin-1")
                        self.assertNotIn(FORGED, answer.replace("Host: h", ""))
                        if "client=" in answer:
                            self.assertEqual(fields(answer)["client"], STRANGER)
                        else:
                            self.assertRegex(answer, "^HTTP/1.[01] 4|^$")

    def test_what_is_no_strict_http_gets_400_whoever_says_it(self):
        self.reverse("X-Forwarded-For")
        port = self.http_server("node")
        for name in ("obs-fold", "blank before colon", "leading blank line", "bare LF", "NUL", "length and coding", "xchunked",
                     "two lengths", "no host", "HTTP/2", "HTTP/0.9", "PROXY", "half TLS"):
            with self.subTest(name):
                answer = ask(("127.0.0.1", port), SPOOFS[name], "127.0.0.2")
                self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), answer)
                self.assertNotIn(b"client=", answer)

    def test_strip_without_anybody_trusted(self):
        self.reverse("", more="strip: true", origins="")
        port = self.http_server("node")
        answer = ask(("127.0.0.1", port), SPOOFS["every name"], "127.0.0.2").decode()
        self.assertNotIn(FORGED, answer)
        self.assertIn("client=127.0.0.2", answer)

    def test_a_proxy_header_and_then_requests(self):
        """The client that the PROXY header names is the peer from then on; only if it is trusted its headers count."""
        self.reverse("X-Forwarded-For", more="proxyProtocol: require")
        port = self.http_server("node")
        data = request(fields=[("X-Forwarded-For", "198.51.100.77")])
        for cut in (None, [3], [20], [60]):
            answer = ask(("127.0.0.1", port), proxy_v1() + data, "127.0.0.2", cut).decode()
            self.assertEqual(fields(answer)["client"], CLIENT)
            self.assertNotIn("198.51.100.77", answer)
            answer = ask(("127.0.0.1", port), proxy_v1("127.5.5.5") + data, "127.0.0.2", cut).decode()
            self.assertEqual(fields(answer)["client"], "198.51.100.77")

    def test_bodies_and_pipelining_at_every_cut(self):
        self.reverse("X-Forwarded-For")
        port = self.http_server("node")
        body = bytes(range(32, 127)) * 5
        chunked = (b"POST /2 HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 198.51.100.2\r\nTransfer-Encoding: chunked\r\n"
                   b"Connection: close\r\n\r\n5;x=y\r\nhello\r\n0\r\nX: y\r\nX-Real-IP: 6.6.6.6\r\n\r\n")
        data = request("/1", [("X-Forwarded-For", "198.51.100.1")], close=False, body=body) + chunked
        for cut in range(1, len(data), 23):
            with self.subTest(cut), connect(("127.0.0.1", port), "127.0.0.2") as peer:
                peer.sendall(data[:cut])
                peer.sendall(data[cut:])
                answers = Answers(peer)
                status, first = answers.next()
                self.assertEqual((status, fields(first)["client"]), (200, "198.51.100.1"))
                self.assertTrue(first.endswith(body.decode()))
                status, second = answers.next()
                self.assertEqual((status, fields(second)["client"]), (200, "198.51.100.2"))
                self.assertTrue(second.endswith('hello{"x":"y"}\n'), second)

    def test_large_bodies_both_ways(self):
        self.reverse("X-Forwarded-For")
        port = self.http_server("node")
        body = os.urandom(3 << 20).hex().encode()
        with connect(("127.0.0.1", port), "127.0.0.2", timeout=30) as peer:
            sender = threading.Thread(target=peer.sendall, args=(
                request(fields=[("X-Forwarded-For", CLIENT)], body=body),))
            sender.start()
            _, answer = Answers(peer).next()
            sender.join()
        self.assertTrue(answer.endswith(body.decode()))

    def test_upgrades_are_a_stream_after_the_server_has_agreed(self):
        self.reverse("X-Forwarded-For")
        port = self.http_server("node")
        head = request(fields=[("X-Forwarded-For", CLIENT), ("Connection", "Upgrade"), ("Upgrade", "echo")], close=False)
        payload = b"\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n" + os.urandom(1 << 20)
        with connect(("127.0.0.1", port), "127.0.0.2") as peer:
            peer.sendall(head + payload[:100])  # some of it before the answer
            sender = threading.Thread(target=lambda: (peer.sendall(payload[100:]), peer.shutdown(socket.SHUT_WR)))
            sender.start()
            data, error = read_all(peer)
            sender.join()
        self.assertEqual(error, "")
        self.assertTrue(data.startswith(b"HTTP/1.1 101 "))
        self.assertTrue(data.endswith(f"client={CLIENT}\n".encode() + payload))

    def test_an_upgrade_that_is_refused_stays_http(self):
        self.reverse("X-Forwarded-For")
        port = self.http_server("python")
        head = request(fields=[("X-Forwarded-For", "198.51.100.1"), ("Connection", "Upgrade"), ("Upgrade", "echo")], close=False)
        with connect(("127.0.0.1", port), "127.0.0.2") as peer:
            peer.sendall(head + request(fields=[("X-Forwarded-For", "198.51.100.2")]))
            answers = Answers(peer)
            self.assertEqual([fields(answers.next()[1])["client"] for _ in range(2)], ["198.51.100.1", "198.51.100.2"])

    def test_heads_without_bodies_and_interim_answers(self):
        self.reverse("X-Forwarded-For")
        port = self.http_server("node")
        head = b"HEAD / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 198.51.100.1\r\n\r\n"
        wants = (b"POST / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 198.51.100.2\r\nExpect: 100-continue\r\nContent-Length: 5\r\n"
                 b"Connection: close\r\n\r\n")
        with connect(("127.0.0.1", port), "127.0.0.2") as peer:
            peer.sendall(head + wants)
            file = peer.makefile("rb")
            while file.readline().strip():
                pass
            self.assertEqual(file.readline(), b"HTTP/1.1 100 Continue\r\n")
            file.readline()
            peer.sendall(b"hello")
            answer = file.read().decode()
        self.assertIn("client=198.51.100.2", answer)
        self.assertTrue(answer.endswith("hello"))

    def test_tls_is_handed_over_untouched(self):
        self.reverse("X-Forwarded-For")
        code = ("import socket\ns = socket.create_server(('127.0.0.1', 0))\nprint('listening', s.getsockname()[1], flush=True)\n"
                "while True:\n    c, a = s.accept()\n    c.sendall(c.recv(100) + str(a).encode()); c.close()\n")
        _, port = self.serve(PYTHON, "-c", code)
        hello = bytes.fromhex("1603010200010001fc0303") + bytes(60)
        for cut in (None, [1], [6], [10]):
            answer = ask(("127.0.0.1", port), hello, "127.0.0.2", cut)
            self.assertTrue(answer.startswith(hello[:11]), answer)
            self.assertIn(b"('127.0.0.2', ", answer)

    def test_silent_and_slow_clients(self):
        """500 that say nothing or a byte now and then, and 1000 requests in the meantime."""
        self.reverse("X-Forwarded-For", timeout="2s")
        port = self.http_server("node")
        slow = [connect(("127.0.0.1", port), "127.0.0.2", timeout=30) for _ in range(500)]
        for number, each in enumerate(slow):
            if number % 2:
                each.sendall(b"G")
        dripping = threading.Thread(target=drip, args=(slow[1::2],))
        dripping.start()
        with connect(("127.0.0.1", port), "127.0.0.3", timeout=30) as peer:
            answers = Answers(peer)
            for number in range(1000):
                peer.sendall(request(fields=[("X-Forwarded-For", f"198.51.100.{number % 7}")], close=False))
                self.assertEqual(fields(answers.next()[1])["client"], f"198.51.100.{number % 7}")
        for each in slow:
            self.assertIn(read_all(each)[0][:12], (b"", b"HTTP/1.1 400"))
            each.close()
        dripping.join()

    def test_connections_that_the_server_closes(self):
        """Closed by the server when idle: so is the client's. Without an answer: no answer."""
        self.reverse("X-Forwarded-For")
        code = ("require('http').createServer((q, r) => q.url == '/die' ? q.socket.destroy() : r.end('ok')).on('listening', function() {\n"
                "  console.log('listening', this.address().port) }).listen(0, '127.0.0.1').keepAliveTimeout = 300")
        _, port = self.serve(self.need("node"), "-e", code)
        with connect(("127.0.0.1", port), "127.0.0.2") as peer:
            peer.sendall(request(close=False))
            self.assertTrue(read_all(peer)[0].endswith(b"\r\n\r\nok"))
        self.assertEqual(ask(("127.0.0.1", port), request("/die"), "127.0.0.2"), b"")

    def test_clients_that_leave(self):
        """In the middle of a request, of a response, of nothing: the server learns of it, and goes on."""
        self.reverse("X-Forwarded-For")
        code = ("const server = require('http').createServer((q, r) => { q.on('error', () => {}); r.on('close', () => console.log('gone'));"
                " if (q.url == '/wait') r.write('x'); else if (q.url == '/ok') r.end('ok') })\n"
                "server.listen(0, '127.0.0.1', () => console.log('listening', server.address().port))")
        server, port = self.serve(self.need("node"), "-e", code)
        with connect(("127.0.0.1", port), "127.0.0.2") as peer:
            peer.sendall(request("/wait"))
            peer.recv(1)
        proc.wait_until(lambda: server.out.count("gone") >= 1, "news of the first")
        with connect(("127.0.0.1", port), "127.0.0.2") as peer:
            peer.sendall(b"POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nabc")
        proc.wait_until(lambda: server.out.count("gone") >= 2, "news of the second")
        self.assertIn(b"ok", ask(("127.0.0.1", port), request("/ok"), "127.0.0.2"))

    def test_half_closed_clients_get_their_answer(self):
        self.reverse("X-Forwarded-For")
        port = self.http_server("node")
        with connect(("127.0.0.1", port), "127.0.0.2") as peer:
            peer.sendall(request(fields=[("X-Forwarded-For", CLIENT)]))
            peer.shutdown(socket.SHUT_WR)
            self.assertIn(f"client={CLIENT}".encode(), read_all(peer)[0])

    def test_own_addresses_of_the_server(self):
        """getsockname tells where the client connected to, and v4 clients of a dual-stack listener are mapped."""
        self.reverse("X-Forwarded-For", origins="127.0.0.0/8, '::1/128'")
        code = ("import socket\ns = socket.create_server(('::', 0), family=socket.AF_INET6, dualstack_ipv6=True)\n"
                "print('listening', s.getsockname()[1], flush=True)\n"
                "while True:\n    c, a = s.accept()\n    c.recv(999)\n"
                "    c.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\n' + repr((a, c.getpeername(), c.getsockname())).encode()); c.close()\n")
        _, port = self.serve(PYTHON, "-c", code)
        data = request(fields=[("X-Forwarded-For", CLIENT)])
        answer = ask(("127.0.0.5", port), data, "127.0.0.2").decode()
        self.assertEqual(answer.count(f"('::ffff:{CLIENT}', 0, 0, 0)"), 2, answer)
        self.assertIn(f"('::ffff:127.0.0.5', {port}, 0, 0)", answer)
        answer = ask(("::1", port), request(fields=[("X-Forwarded-For", "2001:db8::9")])).decode()
        self.assertEqual(answer.count("('2001:db8::9', 0, 0, 0)"), 2, answer)
        answer = ask(("127.0.0.5", port), request(fields=[("X-Forwarded-For", "2001:db8::9")]), "127.0.0.2").decode()
        self.assertEqual(answer.count("('2001:db8::9', 0, 0, 0)"), 2, answer)


def drip(peers):
    """A byte a second each, for as long as they may."""
    ends = time.monotonic() + 3
    while time.monotonic() < ends:
        for each in peers:
            try:
                each.sendall(b"E")
            except OSError:
                pass
        select.select([], [], [], 0.5)


if __name__ == "__main__":
    main()
