# suite: quick
"""The relay that asks a proxy in absolute form: what it makes of requests and answers."""

import os
import threading

from lab import netns, proc
from lab.absolute import AbsoluteProxy, field, ok
from lab.case import TOWPATH, LabCase, main
from lab.client import MODES, client
from lab.origin import Origin
from lab.proxy import Proxy, refuse

NAME = "only-at-the-proxy.example"
GET = f"GET /a?b HTTP/1.1\r\nHost: {NAME}\r\n\r\n"

# Sends each argument as it is and reads one answer (head and counted or chunked body) after it.
TALK = r"""
import re, socket, sys
s = socket.create_connection((sys.argv[1], 80))
s.settimeout(30)
data = b""
for part in sys.argv[2:]:
    s.sendall(part.encode("latin-1").decode("unicode_escape").encode("latin-1"))
    while True:
        while b"\r\n\r\n" not in data:
            more = s.recv(65536)
            if not more: print("end=eof"); sys.exit()
            data += more
        head, data = data.split(b"\r\n\r\n", 1)
        print(head.decode("latin-1").replace("\r\n", "|"))
        if not head.split()[1].startswith(b"1"): break
    size = re.search(rb"(?i)content-length: (\d+)", head)
    size = int(size.group(1)) if size and not part.startswith("HEAD") else 0
    while len(data) < size:
        more = s.recv(65536)
        if not more: break
        data += more
    print("body=%r" % data[:size].decode("latin-1"))
    data = data[size:]
print("left=%r" % data.decode("latin-1"))
"""


def _fast_open(value):
    with open("/proc/sys/net/ipv4/tcp_fastopen", "w") as file:
        file.write(value)


class RelayCase(LabCase):
    def setUp(self):
        super().setUp()
        self.serve()

    def serve(self, answer=None, more="", **options):
        self.proxy = self.use(AbsoluteProxy(answer, **options))
        self.proxy_values(self.proxy.url, more=more)

    def send(self, text, *more, mode="blocking", **options):
        return self.assert_ran(self.towpath(*client(mode, NAME, 80, f"send={text}", *more), **options))

    def talk(self, *parts, name=NAME):
        words = [part.encode("unicode_escape").decode() for part in parts]
        return self.assert_ran(self.towpath("/usr/bin/python3", "-c", TALK, name, *words))

    def logged(self, result, event):
        found = [line for line in result.err.splitlines() if f"event={event} " in line]
        self.assertEqual(len(found), 1, result.err)
        return found[0]


class TheWayThere(RelayCase):
    """connect(): what the program sees of the refusal, and what is remembered."""

    def test_no_mode_notices(self):
        for mode in MODES:
            with self.subTest(mode):
                result = self.send(GET, "shut", mode=mode)
                self.assertIn("errno=0\n", result.out)
                self.assertRegex(result.out, r"peer=198\.1[89]\.")
                self.assertIn(r"\r\n\r\nfine\n", result.out)
                self.assertIn("end=eof", result.out)
        self.assertEqual(self.proxy.targets(), [f"CONNECT {NAME}:80", f"GET http://{NAME}/a?b"] * 4)

    def test_sockets_of_the_other_family(self):
        for more in (["family=6"], ["family=6", "v6only"]):
            with self.subTest(more):
                self.assertIn(r"\r\n\r\nfine\n", self.send(GET, "shut", *more).out)

    def test_without_fast_open(self):
        _fast_open("0")
        self.addCleanup(_fast_open, "1")
        for mode in ("blocking", "epoll"):
            self.assertIn(r"\r\n\r\nfine\n", self.send(GET, "shut", mode=mode).out)

    def test_remembered_for_the_next_connect(self):
        self.send(GET, "shut", "times=5")
        self.assertEqual(self.proxy.targets(), [f"CONNECT {NAME}:80"] + [f"GET http://{NAME}/a?b"] * 5)

    def test_405_is_a_refusal_as_well(self):
        self.serve(refusal=b"HTTP/1.1 405 no\r\nContent-Length: 2\r\n\r\nno")
        self.assertIn(r"\r\n\r\nfine\n", self.send(GET, "shut").out)

    def test_any_other_status_is_the_destinations(self):
        self.serve(refusal=b"HTTP/1.1 503 no\r\nContent-Length: 0\r\n\r\n")
        self.assertIn("errno=ECONNREFUSED\n", self.send(GET, "shut").out)
        self.assertEqual(self.proxy.heads(), [])

    def test_absolute_asks_for_no_tunnel(self):
        self.serve(more="plainHttp: absolute")
        self.assertIn(r"\r\n\r\nfine\n", self.send(GET, "shut").out)
        self.assertEqual(self.proxy.targets(), [f"GET http://{NAME}/a?b"])

    def test_absolute_and_no_proxy(self):
        self.serve(more="plainHttp: absolute")
        self.proxy.stop()
        self.assertIn("errno=ECONNREFUSED\n", self.send(GET, "shut").out)

    def test_connect_reports_the_refusal(self):
        self.serve(more="plainHttp: connect")
        for mode in ("blocking", "epoll"):
            result = self.send(GET, mode=mode)
            self.assertIn("errno=EACCES\n", result.out)
            line = self.logged(result, "connect_failed")
            self.assertIn("status 403", line)
            self.assertRegex(line, 'hint=".*plainHttp: auto')
        self.assertEqual(self.proxy.heads(), [])

    def test_other_ports_are_not_concerned(self):
        for mode in ("auto", "absolute"):
            self.serve(more=f"plainHttp: {mode}")
            for port in (443, 8080):
                result = self.assert_ran(self.towpath(*client("blocking", NAME, port, "send=x")))
                self.assertIn("errno=EACCES\n", result.out)
            self.assertEqual(self.proxy.heads(), [])

    def test_a_socks_proxy_is_not_concerned(self):
        for mode in ("auto", "absolute"):
            server = self.use(Proxy("socks5", answer=refuse(2)))
            self.proxy_values(server.url, more=f"plainHttp: {mode}")
            self.assertIn("errno=EACCES\n", self.send(GET).out)
            self.assertEqual(server.targets(), [f"{NAME}:80"])

    def test_a_proxy_that_tunnels_is_left_at_that(self):
        origin = self.use(Origin())
        self.serve(tunnels=origin.address)
        result = self.send(GET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"), "times=2")
        self.assertEqual(result.out.count("path=/a?b"), 2)
        self.assertEqual(self.proxy.targets(), [f"CONNECT {NAME}:80"] * 2)

    def test_preload_alone(self):
        self.addCleanup(lambda: proc.kill(netns.guards_and_agents()))
        result = self.assert_ran(self.preload(*client("blocking", NAME, 80, f"send={GET}", "shut")))
        self.assertIn(r"\r\n\r\nfine\n", result.out)


class Requests(RelayCase):
    """What the proxy is asked."""

    def head(self, text, **options):
        self.send(text, "shut", **options)
        return self.proxy.wait_heads(1)[-1]

    def test_hop_by_hop_fields_end_here(self):
        head = self.head(f"GET / HTTP/1.1\r\nHost: {NAME}\r\nConnection: x-mine, Keep-Alive, Host, Content-Length\r\n"
                         "X-Mine: 1\r\nX-Other: 2\r\nKeep-Alive: 5\r\nTE: trailers\r\nProxy-Connection: keep-alive\r\n"
                         "Proxy-Authorization: Basic eDp5\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(head.split("\r\n"), [f"GET http://{NAME}/ HTTP/1.1", f"Host: {NAME}", "X-Other: 2",
                                              "Content-Length: 0"])

    def test_credentials_are_the_operators(self):
        self.proxy_values(self.proxy.url.replace("//", "//boat:horse@"))
        head = self.head(f"GET / HTTP/1.1\r\nHost: {NAME}\r\nProxy-Authorization: Basic eDp5\r\n\r\n")
        self.assertEqual(field(head, "Proxy-Authorization"), ["Basic Ym9hdDpob3JzZQ=="])

    def test_options_for_the_whole_server(self):
        self.assertIn(f"OPTIONS http://{NAME} HTTP/1.1\r\n", self.head(f"OPTIONS * HTTP/1.1\r\nHost: {NAME}\r\n\r\n"))

    def test_absolute_form_for_the_same_place(self):
        for target in (f"http://{NAME}/x", f"HTTP://{NAME.upper()}:80/x"):
            self.assertIn(f"GET http://{NAME}/x HTTP/1.1\r\n", self.head(f"GET {target} HTTP/1.1\r\nHost: {NAME}\r\n\r\n"))

    def test_another_host_is_kept_and_does_not_lead(self):
        result = self.send("GET / HTTP/1.1\r\nHost: other.example\r\n\r\n", "shut", "times=3")
        for head in self.proxy.heads():
            self.assertTrue(head.startswith(f"GET http://{NAME}/ "), head)
            self.assertEqual(field(head, "Host"), ["other.example"])
        self.logged(result, "plain_http_host")  # once, not per connection

    def test_a_bare_address_takes_the_name_from_host(self):
        self.assert_ran(self.towpath(*client("blocking", "192.0.2.80", 80, f"send={GET}", "shut")))
        self.assert_ran(self.towpath(*client("blocking", "192.0.2.80", 80, "send=GET / HTTP/1.0\r\n\r\n", "shut")))
        self.assert_ran(self.towpath(*client("blocking", "192.0.2.80", 80, "send=GET / HTTP/1.1\r\nHost: 192.0.2.81\r\n\r\n", "shut")))
        self.assertEqual([head.split(" ")[1] for head in self.proxy.heads()],
                         [f"http://{NAME}/a?b", "http://192.0.2.80/", "http://192.0.2.80/"])

    def test_1_0_stays_1_0(self):
        head = self.head("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        self.assertEqual(head.split("\r\n"), [f"GET http://{NAME}/ HTTP/1.0", "Connection: keep-alive"])

    def test_chunks_and_trailers(self):
        bodies = []

        def answer(connection, head, body):
            bodies.append(body)
            return ok()
        self.serve(answer)
        body = "5;x=y\r\nhello\r\n0\r\nX-Sum: 1\r\nProxy-Authorization: Basic eDp5\r\n\r\n"
        self.talk(f"POST / HTTP/1.1\r\nHost: {NAME}\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n{body}")
        self.assertEqual(bodies, [b"5;x=y\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"])
        self.assertEqual(field(self.proxy.heads()[0], "Trailer"), ["X-Sum"])

    def test_pipelined_requests_go_one_by_one(self):
        seen = []

        def answer(connection, head, body):
            seen.append((head.split(" ")[1][-2:], connection.buffer))
            return ok(head.split(" ")[1][-2:].encode())
        self.serve(answer)
        each = f"POST /%d HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 3\r\n\r\nabc"
        result = self.send("".join(each % i for i in range(5)), "shut")
        self.assertEqual(seen, [(f"/{i}", b"") for i in range(5)])
        self.assertEqual([result.out.find(rf"\r\n/{i}") > 0 for i in range(5)], [True] * 5)

    def test_expectation(self):
        def answer(connection, head, body):
            connection.socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            return ok(connection.take(3 << 20)[-5:])
        self.serve(answer)
        file = self.file("body", "x" * ((3 << 20) - 5) + "tail\n")
        result = self.assert_ran(self.towpath(self.need("curl"), "-sSv", "-H", "Expect: 100-continue", "--data-binary", f"@{file}",
                                              f"http://{NAME}/up"))
        self.assertEqual(result.out, "tail\n")
        self.assertIn("100 Continue", result.err)


class Answers(RelayCase):
    """What the program gets."""

    def test_many_over_one_connection(self):
        self.serve(lambda connection, head, body: ok(head.split(" ")[1].encode()))
        parts = [f"GET /{i} HTTP/1.1\r\nHost: {NAME}\r\n\r\n" for i in range(20)]
        result = self.talk(*parts)
        for i in range(20):
            self.assertIn(f"body='http://{NAME}/{i}'", result.out)
        self.assertEqual(len(self.proxy.connections), 2)  # the refused CONNECT, and this
        self.assertNotIn("Connection", result.out)

    def test_bodies_that_are_none(self):
        answers = [b"HTTP/1.1 200 ok\r\nContent-Length: 5\r\n\r\n", b"HTTP/1.1 204 ok\r\n\r\n",
                   b"HTTP/1.1 304 ok\r\nContent-Length: 0\r\n\r\n", ok(b"last")]
        self.serve(lambda connection, head, body: answers.pop(0))
        request = f"%s / HTTP/1.1\r\nHost: {NAME}\r\n\r\n"
        result = self.talk(request % "HEAD", request % "GET", request % "GET", request % "GET")
        self.assertEqual(result.out.splitlines()[1::2][:4], ["body=''", "body=''", "body=''", "body='last'"])

    def test_early_hints(self):
        self.serve(lambda connection, head, body: b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x\r\n\r\n" + ok())
        result = self.talk(GET)
        self.assertTrue(result.out.startswith("HTTP/1.1 103 Early Hints|Link: </a>\nHTTP/1.1 200 OK|"), result.out)
        self.assertNotIn("103", self.send("GET / HTTP/1.0\r\n\r\n", "shut").out)

    def test_until_the_end(self):
        self.serve(lambda connection, head, body: connection.socket.sendall(b"HTTP/1.1 200 ok\r\n\r\nall of it"))
        result = self.send(GET)
        self.assertIn(r"\r\nConnection: close\r\n\r\nall of it'", result.out)
        self.assertIn("end=eof", result.out)

    def test_trailers_and_fields_of_the_hop(self):
        self.serve(lambda connection, head, body: b"HTTP/1.1 200 ok\r\nTransfer-Encoding: chunked\r\nKeep-Alive: 5\r\n"
                   b"Connection: x-hop, keep-alive\r\nX-Hop: 1\r\nX: 2\r\n\r\n3;e\r\nabc\r\n0\r\nX-Sum: 9\r\n\r\n")
        self.assertIn(r"read=b'HTTP/1.1 200 ok\r\nTransfer-Encoding: chunked\r\nX: 2\r\n\r\n3;e\r\nabc\r\n0\r\nX-Sum: 9\r\n\r\n'",
                      self.send(GET, "shut").out)

    def test_login_is_asked_for(self):
        self.serve(lambda connection, head, body: b"HTTP/1.1 407 login\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n")
        result = self.talk(GET, GET)
        self.assertEqual(result.out.count("HTTP/1.1 407 login|"), 2)
        self.assertIn("credentialsFile", self.logged(result, "plain_http_login"))

    def test_a_proxy_that_closes_after_each_answer(self):
        self.serve(lambda connection, head, body: connection.socket.sendall(ok(b"one", b"Connection: close")))
        result = self.talk(GET, GET, GET)
        self.assertEqual(result.out.count("body='one'"), 3)
        self.assertNotIn("close", result.out)
        self.assertEqual(len(self.proxy.connections), 4)

    def test_a_proxy_that_closes_without_saying_so(self):
        gone = threading.Event()

        def answer(connection, head, body):
            connection.socket.sendall(ok(b"one"))
            gone.set()
        self.serve(answer)
        program = self.spawn("program", TOWPATH, "run", "-c", self.config, "--",
                             "/usr/bin/python3", "-c", _TWICE, NAME, os.path.join(self.directory, "go"))
        program.wait_line("1 ")
        self.proxy.wait_heads(1)
        self.assertTrue(gone.wait(proc.scaled(10)))
        # The agent has noticed when it has closed its end as well.
        proc.wait_until(lambda: not self.to_proxy(), "the agent's connection to the proxy to go")
        self.file("go", "go")
        program.wait_line("2 b'HTTP/1.1 200 OK")
        self.assertEqual(program.wait(), 0)
        self.assertEqual(len(self.proxy.heads()), 2)

    def to_proxy(self):
        port = "%04X" % self.proxy.port
        with open("/proc/net/tcp") as table:
            rows = [line.split() for line in table][1:]
        return [row for row in rows if row[2].endswith(":" + port) and row[3] in ("01", "08")]

    def test_an_answer_before_the_whole_request(self):
        def answer(connection, head, body):
            connection.socket.sendall(b"HTTP/1.1 413 large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n")
        self.serve(answer)
        file = self.file("body", "x" * (40 << 20))
        result = self.towpath(self.need("curl"), "-sS", "-w", "%{http_code}", "-H", "Expect:", "-T", file, f"http://{NAME}/up")
        self.assertEqual(result.out, "no\n413", result)


_TWICE = r"""
import os, select, socket, sys
s = socket.create_connection((sys.argv[1], 80))
for number in "12":
    s.sendall(b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % sys.argv[1].encode())
    data = b""
    while not data.endswith(b"one"):
        data += s.recv(65536)
    print(number, data, flush=True)
    while number == "1" and not os.path.exists(sys.argv[2]):
        select.select([], [], [], 0.005)
"""


if __name__ == "__main__":
    main()
