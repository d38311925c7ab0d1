# suite: quick
"""What a proxy answers is what connect() says, whichever way the program calls it, and no byte of the program reaches a
proxy that refused."""

import os
import signal
import time

from lab import proxy
from lab.case import LabCase, main
from lab.machine import ADD, Machine
from lab.origin import RawOrigin
from lab.proc import free_port, scaled

TARGET = ("192.0.2.7", 22)
BANNER = b"SSH-2.0-lab\r\n"
LOGIN = "boat:horse"


# What a waiting call may show, before SO_ERROR is asked: as for a connect that nobody stands in the way of.
FINE = ("OUT", "IN|OUT", {7: "OUT"}, {7: "IN|OUT"}, "w", "rw")
WRONG = ("IN|OUT|ERR|HUP", {7: "IN|OUT|ERR|HUP"}, "rw")


def blocking(m, where):
    fd = m.open()
    return fd, m.connect(fd, where)


def blocking_with_timeout(m, where):
    fd = m.open()
    m.set_timeout(fd, 10000)
    return fd, m.connect(fd, where)


def nonblocking(wait):
    def call(m, where):
        fd = m.open(nonblocking=True)
        started = m.connect(fd, where)
        if started != "EINPROGRESS":
            return fd, f"at once {started}"
        shown = wait(m, fd)
        verdict = m.so_error(fd)
        if shown not in (FINE if verdict == 0 else WRONG):
            return fd, f"{verdict} but {shown}"
        again = m.so_error(fd)
        return fd, verdict if again == 0 else f"{verdict} and again {again}"
    return call


def by_epoll(m, fd):
    epoll = m.epoll()
    m.ctl(epoll, ADD, fd, data=7)
    shown = m.wait(epoll)
    m.close(epoll)
    return shown


CALLERS = {
    "blocking": blocking,
    "SO_SNDTIMEO": blocking_with_timeout,
    "epoll": nonblocking(by_epoll),
    "poll": nonblocking(lambda m, fd: m.poll(fd)),
    "select": nonblocking(lambda m, fd: m.select(fd)),
}

STATUSES = {
    300: "ECONNREFUSED", 401: "EACCES", 403: "EACCES", 404: "ECONNREFUSED", 405: "EACCES", 407: "EACCES",
    500: "ECONNREFUSED", 501: "EACCES", 502: "ECONNREFUSED", 503: "ECONNREFUSED", 504: "ETIMEDOUT",
}
HEADERS = {
    "refused": ("X-Squid-Error", "ERR_CONNECT_FAIL 111", "ECONNREFUSED"),
    "timeout": ("X-Squid-Error", "ERR_CONNECT_FAIL 110", "ETIMEDOUT"),
    "network": ("X-Squid-Error", "ERR_CONNECT_FAIL 101", "ENETUNREACH"),
    "host": ("X-Squid-Error", "ERR_CONNECT_FAIL 113", "EHOSTUNREACH"),
    "dns": ("X-Squid-Error", "ERR_DNS_FAIL 0", "EHOSTUNREACH"),
    "status refused": ("Proxy-Status", "hop; error=connection_refused", "ECONNREFUSED"),
    "status timeout": ("Proxy-Status", "hop; error=connection_timeout", "ETIMEDOUT"),
    "status dns": ("Proxy-Status", "hop; error=dns_error", "EHOSTUNREACH"),
    "status denied": ("Proxy-Status", "hop; error=destination_ip_prohibited", "EACCES"),
}
REPLIES = {1: "ECONNREFUSED", 2: "EACCES", 3: "ENETUNREACH", 4: "EHOSTUNREACH", 5: "ECONNREFUSED", 6: "ETIMEDOUT",
           7: "EOPNOTSUPP", 8: "EAFNOSUPPORT", 99: "ECONNREFUSED"}


class Verdicts(LabCase):
    libc = "glibc"

    def setUp(self):
        super().setUp()
        self.origin = self.use(RawOrigin(banner=BANNER))

    def machine(self, kind, credentials=None, more="", **rest):
        self.proxy = self.use(proxy.Proxy(kind, {TARGET[0]: self.origin.address}, credentials))
        self.proxy_values(self.proxy.url, more=more)
        return Machine(self, libc=self.libc, **rest)

    def refused(self, m, answer, expected, cause, line_has=(), callers=CALLERS, hint=True):
        """Every caller gets that errno, no byte follows, and the log says why."""
        self.proxy.answer = answer
        for caller in callers:
            with self.subTest(caller=caller, answer=answer.kind, status=answer.status, headers=answer.headers):
                before, lines = len(self.proxy.connections), m.process.err.count("\n")
                fd, got = CALLERS[caller](m, TARGET)
                # At once, before the proxy could even know.
                wrote = m.write(fd, b"GET / HTTP/1.0\r\n\r\n")
                self.assertEqual(got, expected)
                self.assertIn(wrote, ("EPIPE", "ENOTCONN"))
                self.assertEqual(m.read(fd) if caller in ("epoll", "poll", "select") else b"", b"")
                m.close(fd)
                mine = self.proxy.connections[before:]
                for connection in mine:
                    self.assertTrue(connection.ended.wait(scaled(5)), "the proxy still holds the connection")
                    self.assertEqual(bytes(connection.after_refusal), b"")
                    self.assertEqual(bytes(connection.received), b"")
                line = m.process.err.splitlines()[lines:]
                self.assertEqual(len(line), 1, line)
                for word in ("connect_failed", f"target={TARGET[0]}:{TARGET[1]}", f"errno={expected}",
                             f"cause={cause}", str(self.proxy.port), *line_has):
                    self.assertIn(word, line[0])
        self.assertEqual(self.origin.received, [])

    def test_grants(self):
        for kind in ("http", "socks5"):
            for login in (None, LOGIN):
                m = self.machine(kind, login)
                for answer in (proxy.grant(), proxy.grant(split=True), proxy.grant(early=b"early "),
                               proxy.grant(early=b"early ", split=True), proxy.grant(delay=0.02)):
                    self.proxy.answer = answer
                    for caller, connect in CALLERS.items():
                        with self.subTest(kind=kind, login=login, caller=caller, answer=answer):
                            fd, got = connect(m, TARGET)
                            self.assertEqual(got, 0)
                            self.assertEqual(m.peer(fd), TARGET)
                            self.assertEqual(m.write(fd, b"hello"), 5)
                            wanted, seen = answer.early + BANNER + b"hello", b""
                            while len(seen) < len(wanted):
                                self.assertEqual(m.poll(fd, 1), "IN")
                                seen += m.read(fd)
                            self.assertEqual(seen, wanted)
                            self.assertEqual(m.close(fd), 0)
                            self.assertEqual(self.proxy.connections[-1].target, "%s:%d" % TARGET)
                            self.assertTrue(self.proxy.connections[-1].ended.wait(scaled(5)))
                            self.assertEqual(bytes(self.proxy.connections[-1].received), b"hello")

    def test_http_statuses(self):
        m = self.machine("http")
        for status, expected in STATUSES.items():
            causes = {407: "wants_credentials", 504: "target_timeout"}
            cause = causes.get(status, "denied" if expected == "EACCES" else "refused")
            headers = [("Proxy-Authenticate", 'Basic realm="lab"')] if status == 407 else []
            # All callers for some, two for the rest: the status is not what tells callers apart.
            callers = CALLERS if status in (403, 407, 502, 504) else ("blocking", "epoll")
            self.refused(m, proxy.refuse(status, headers), expected, cause, [f"status {status}"], callers)

    def test_http_causes(self):
        m = self.machine("http")
        for name, value, expected in HEADERS.values():
            self.proxy.answer = proxy.refuse(503, [(name, value)])
            for caller in ("blocking", "poll"):
                with self.subTest(value=value, caller=caller):
                    fd, got = CALLERS[caller](m, TARGET)
                    self.assertEqual(got, expected)
                    m.close(fd)

    def test_http_refusal_byte_by_byte(self):
        self.refused(self.machine("http"), proxy.refuse(403, [("Via", "x" * 200)], split=True), "EACCES", "denied")

    def test_http_credentials(self):
        m = self.machine("http", LOGIN)
        self.proxy.credentials = "boat:cow"
        self.refused(m, proxy.grant(), "EACCES", "bad_credentials", ["check user and password"])
        self.assertNotIn("horse", m.process.err)

    def test_http_without_credentials(self):
        m = self.machine("http")
        self.proxy.credentials = LOGIN
        self.refused(m, proxy.grant(), "EACCES", "wants_credentials", ["hint="], ("blocking", "select"))

    def test_socks_replies(self):
        m = self.machine("socks5")
        for reply, expected in REPLIES.items():
            self.proxy.answer = proxy.refuse(reply, split=reply % 2 == 0)
            for caller in CALLERS if reply in (1, 2, 6) else ("blocking", "epoll"):
                with self.subTest(reply=reply, caller=caller):
                    fd, got = CALLERS[caller](m, TARGET)
                    self.assertEqual(m.write(fd, b"GET"), "EPIPE")
                    self.assertEqual(got, expected)
                    m.close(fd)
                    self.assertIn(f"SOCKS5 reply {reply}", m.process.err.splitlines()[-1])
        for connection in self.proxy.connections:
            self.assertTrue(connection.ended.wait(scaled(5)))
            self.assertEqual(bytes(connection.after_refusal), b"")

    def test_socks_credentials(self):
        m = self.machine("socks5", LOGIN)
        self.proxy.credentials = "boat:cow"
        self.refused(m, proxy.grant(), "EACCES", "bad_credentials", ["check user and password"], ("blocking", "poll"))
        self.assertNotIn("horse", m.process.err)
        m = self.machine("socks5")
        self.proxy.credentials = LOGIN
        self.refused(m, proxy.grant(), "EACCES", "wants_credentials", ["hint="], ("blocking", "poll"))

    def test_garbage(self):
        m = self.machine("http")
        self.refused(m, proxy.raw(b"\xffgarbage\n" * 10), "EPROTO", "reply_malformed")
        self.refused(m, proxy.raw(b"\x05\x00"), "EPROTO", "looks_like_socks", ["socks5://"], ("blocking", "epoll"))
        m = self.machine("socks5")
        self.refused(m, proxy.raw(b"\x07\x07garbage"), "EPROTO", "reply_malformed")

    def test_closed_and_reset(self):
        for kind in ("http", "socks5"):
            m = self.machine(kind)
            # ssh -D says no by closing in place of the reply.
            expected = ("ECONNRESET", "closed_early") if kind == "http" else ("ECONNREFUSED", "refused")
            self.refused(m, proxy.reset(), *expected)
            self.refused(m, proxy.close(), *expected)

    def test_silence(self):
        """All callers at once, since each waits for connectTimeout."""
        for kind in ("http", "socks5"):
            m = self.machine(kind, more="connectTimeout: 1s")
            self.proxy.answer = proxy.silence()
            self.check_timeouts(m)
            for connection in self.proxy.connections:
                self.assertTrue(connection.ended.wait(scaled(5)))
                self.assertEqual(bytes(connection.after_refusal), b"")

    def check_timeouts(self, m):
        began = time.monotonic()
        held = m.open()
        call = m.begin("connect", held, *self.sockaddr())
        fds = [m.open(nonblocking=True) for _ in range(3)]
        for fd in fds:
            self.assertEqual(m.connect(fd, TARGET), "EINPROGRESS")
        epoll = m.epoll()
        m.ctl(epoll, ADD, fds[0], data=7)
        self.assertEqual(m.poll(fds[1], timeout=0), "timeout")
        self.assertEqual([m.wait(epoll), m.poll(fds[1]), m.select(fds[2])],
                         [{7: "IN|OUT|ERR|HUP"}, "IN|OUT|ERR|HUP", "rw"])
        self.assertEqual([m.so_error(fd) for fd in fds], ["ETIMEDOUT"] * 3)
        self.assertEqual(m.end(call).error, "ETIMEDOUT")
        self.assertGreaterEqual(time.monotonic() - began, 0.9)
        self.assertLess(time.monotonic() - began, scaled(8))
        self.assertEqual(m.process.err.count("cause=deadline"), 4, m.process.err)
        for fd in (*fds, held):
            self.assertIn(m.write(fd), ("EPIPE", "ENOTCONN"))

    @staticmethod
    def sockaddr(where=TARGET):
        from lab.machine import address
        data = address(where)
        return data, len(data)

    def test_dropped_syn(self):
        """A proxy that is not there for anybody; another program reaches its own meanwhile."""
        lost = self.use(proxy.SynDrop())
        self.proxy_values(f"http://{lost.host}:{lost.port}", more="connectTimeout: 1s")
        m = Machine(self, libc=self.libc)
        call = m.begin("connect", m.open(), *self.sockaddr())
        m.wait_asleep()
        good = self.machine("http")
        fd, got = blocking(good, TARGET)
        self.assertEqual(got, 0)
        self.assertFalse(m.ended(call))
        self.assertEqual(m.end(call).error, "ETIMEDOUT")
        m2 = self.config
        self.proxy_values(f"http://{lost.host}:{lost.port}", more="connectTimeout: 1s")
        self.check_timeouts(Machine(self, libc=self.libc))
        self.config = m2

    def test_proxy_port_closed(self):
        self.proxy = self.use(proxy.Proxy("http"))
        self.proxy_values(f"http://127.0.0.1:{free_port()}")
        m = Machine(self, libc=self.libc)
        self.proxy.port = self.config and open(self.config).read().split("127.0.0.1:")[1].split('"')[0]
        self.refused(m, proxy.grant(), "ECONNREFUSED", "proxy_unreachable", ["is the proxy running"])

    def test_a_refused_socket_can_connect_again(self):
        m = self.machine("http")
        for caller, connect in CALLERS.items():
            with self.subTest(caller=caller):
                self.proxy.answer = proxy.refuse(403)
                fd, got = connect(m, TARGET)
                self.assertEqual(got, "EACCES")
                self.proxy.answer = proxy.grant()
                again = m.connect(fd, TARGET)
                if caller in ("epoll", "poll", "select"):
                    self.assertEqual(again, "EINPROGRESS")
                    self.assertIn(m.poll(fd), ("OUT", "IN|OUT"))
                    self.assertEqual(m.so_error(fd), 0)
                else:
                    self.assertEqual(again, 0)
                self.assertEqual(m.peer(fd), TARGET)
                self.assertEqual(m.poll(fd, 1), "IN")
                self.assertEqual(m.read(fd), BANNER)
                m.close(fd)

    def test_connect_reports_an_asynchronous_failure_itself(self):
        """Some programs never ask SO_ERROR: they call connect() again."""
        m = self.machine("http")
        self.proxy.answer = proxy.refuse(504)
        fd = m.open(nonblocking=True)
        self.assertEqual(m.connect(fd, TARGET), "EINPROGRESS")
        self.assertEqual(m.poll(fd), "IN|OUT|ERR|HUP")
        self.assertEqual(m.connect(fd, TARGET), "ETIMEDOUT")
        self.proxy.answer = proxy.grant()
        self.assertEqual(m.connect(fd, TARGET), "EINPROGRESS")
        self.assertIn(m.poll(fd), ("OUT", "IN|OUT"))
        self.assertEqual(m.connect(fd, TARGET), 0)
        self.assertEqual(m.connect(fd, TARGET), "EISCONN")
        self.assertEqual(m.poll(fd, 1), "IN")
        self.assertEqual(m.read(fd), BANNER)


class VerdictsUnderMusl(Verdicts):
    libc = "musl"
    # The kinds of answers are the agent's; what musl changes is how the program calls.
    test_http_causes = test_garbage = test_socks_replies = test_http_credentials = None
    test_dropped_syn = test_socks_credentials = None


if __name__ == "__main__":
    main()
