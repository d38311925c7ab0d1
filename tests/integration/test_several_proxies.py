# suite: full
"""Several proxies: the next one is used while those before it cannot be reached, and the program never hears of it."""

import os
import socket
import subprocess
import threading

from lab import proc, proxy
from lab.absolute import AbsoluteProxy
from lab.case import LabCase, main, program
from lab.client import MODES, client
from lab.dante import Dante
from lab.machine import ADD, EPOLLET, EPOLLIN, EPOLLONESHOT, EPOLLOUT, MOD, Machine, address
from lab.origin import Origin, RawOrigin
from lab.proc import wait_until
from lab.programs import PROGRAMS
from lab.proxy import Proxy
from lab.squid import Squid
from lab.tls import Authority, Front

NAME = "only-at-the-proxy.example"
PLACE = "127.0.0.80"
BANNER = b"220 lab\r\n"
FAR = ("192.0.2.7", 22)
LEVEL = EPOLLIN | EPOLLOUT
DATA = 0xFEDCBA9876543210

# Connects without a pause, in four ways, until standard input ends; a line for each connect that failed, and the
# counts of tunnels that led to the server.
_STREAM = r"""
import select, socket, sys, threading

where, stop, done = (sys.argv[1], int(sys.argv[2])), threading.Event(), [0] * 4

def wait(one, how):
    if how == 1:
        watch = select.epoll()
        watch.register(one, select.EPOLLOUT)
        watch.poll()
    elif how == 2:
        watch = select.poll()
        watch.register(one, select.POLLOUT)
        watch.poll()
    else:
        select.select([], [one], [])

def stream(how):
    while not stop.is_set():
        one = socket.socket()
        one.setblocking(how == 0)
        try:
            if how == 0:
                one.connect(where)
            elif (error := one.connect_ex(where)) != 115:
                raise OSError(error, "connect")
            else:
                wait(one, how)
                if error := one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise OSError(error, "SO_ERROR")
        except OSError as failure:
            print("failed", how, failure, flush=True)
        one.setblocking(True)
        try:  # a tunnel that stood when its proxy was killed has said nothing
            done[how] += one.recv(100) == b"220 lab\r\n"
        except OSError:
            pass
        one.close()

def tell():
    while not stop.wait(0.02):
        print("count", *done, flush=True)

threads = [threading.Thread(target=stream, args=(how,)) for how in range(4)] + [threading.Thread(target=tell)]
for each in threads:
    each.start()
sys.stdin.read()
stop.set()
for each in threads:
    each.join()
print("done", flush=True)
"""


class SeveralCase(LabCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.origin = cls.start(RawOrigin(PLACE, banner=BANNER))
        cls.web = cls.start(Origin(PLACE))
        cls.names = {NAME: (PLACE, 0), FAR[0]: cls.origin.address}
        cls.authority = Authority(cls.class_directory)

    def several(self, *urls, key="http", more=""):
        listed = ", ".join(f'"{url}"' for url in urls)
        extra = "".join(f"    {line}\n" for line in more.splitlines())
        self.values(f"coderd:\n  proxy:\n    {key}: [{listed}]\n{extra}")

    def scripted(self, answer=None, kind="http", **more):
        return self.use(Proxy(kind, self.names, answer=answer, **more))

    def closed(self):
        return f"http://127.0.0.1:{proc.free_port()}"

    def lines(self, result, event):
        return [line for line in result.err.splitlines() if f"event={event} " in line]

    def reach(self, mode="blocking", *more, code=0, **options):
        result = self.assert_ran(self.towpath(*client(mode, NAME, self.origin.port, *more), **options), code)
        self.assertFalse(self.dns.asked(NAME))
        return result


class Unreachable(SeveralCase):
    """Each way of not being there, with every kind of program; real proxies are what works."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.squid = cls.start(Squid(cls.class_directory, {NAME: PLACE}, users={"captain": "secret"}))

    def everybody(self, first, cause, more=""):
        self.several(first, self.squid.url, more=more)
        line = None
        for mode in MODES:
            with self.subTest(program=mode):
                result = self.reach(mode, "want=9")
                self.assertIn("errno=0\n", result.out, result.err)
                self.assertIn(f"read={BANNER!r}\n", result.out)
                self.assertEqual(self.lines(result, "connect_failed"), [])
                (line,) = self.lines(result, "proxy_unreachable")
                self.assertIn(cause, line)
                self.assertIn(f"instead=http://127.0.0.1:{self.squid.port}", line)
                self.assertNotIn("secret", result.err)
        for name in ("curl", "node http.get", "node net.connect"):
            with self.subTest(program=name):
                path = "/" + name.replace(" ", "-")
                result = self.assert_ran(self.towpath(*PROGRAMS[name](self, NAME, self.web.port, path)))
                self.assertIn(f"path={path}\n", result.out)
        with self.subTest(program="go static"):
            result = self.assert_ran(self.towpath(program("go-static/goclient"), "dial", f"{NAME}:{self.origin.port}"))
            self.assertIn('read="220 lab\\r\\n"', result.out)
        with self.subTest(program="static"):
            for how in ("blocking", "poll", "epoll-first"):
                result = self.assert_ran(self.towpath(program("static/sockets"), "get", how, NAME, str(self.web.port), "/x"))
                self.assertIn("path=/x\n", result.out)
        self.squid.wait_target(f"{NAME}:{self.origin.port}")
        self.assertFalse(self.dns.asked(NAME))

    def test_refused(self):
        self.everybody(self.closed(), "Connection refused")

    def test_black_hole(self):
        hole = self.use(proxy.SynDrop())
        self.everybody(f"http://{hole.host}:{hole.port}", "no answer in time", more="connectTimeout: 3s")

    def test_unknown_name(self):
        self.everybody("http://no-such-proxy.example:3128", "name does not resolve")

    def test_closes(self):
        self.everybody(self.scripted(proxy.close()).url, "closed without a reply")

    def test_resets(self):
        self.everybody(self.scripted(proxy.reset()).url, "closed without a reply")

    def test_tls_that_is_not_believed(self):
        front = self.use(Front(self.scripted(), Authority(self.directory, "other").certificate("p", "IP:127.0.0.1")))
        self.everybody(f"https://127.0.0.1:{front.port}", "certificate is not accepted",
                       more=f"tls:\n  caFile: {self.authority.file}\n")

    def test_silence_in_place_of_tls(self):
        self.everybody(f"https://127.0.0.1:{self.scripted(kind='socks5').port}", "no answer in time",
                       more="connectTimeout: 3s")


class Kinds(SeveralCase):
    """The way is decided anew for each: whose socket carries the handshake, and in which protocol."""

    def firsts(self):
        hole = self.use(proxy.SynDrop())
        bad = self.use(Front(self.scripted(), Authority(self.directory, "other").certificate("p", "IP:127.0.0.1")))
        return {"http refused": self.closed(), "http reset": self.scripted(proxy.reset()).url,
                "https refused": f"https://127.0.0.1:{proc.free_port()}", "https bad": f"https://127.0.0.1:{bad.port}",
                "socks5 refused": f"socks5://127.0.0.1:{proc.free_port()}", "http hole": f"http://{hole.host}:{hole.port}"}

    def all_ways(self, second, modes=MODES):
        for what, first in self.firsts().items():
            for mode in modes:
                with self.subTest(first=what, mode=mode):
                    self.several(first, second, more=f"connectTimeout: 3s\ntls: {{caFile: {self.authority.file}}}")
                    result = self.reach(mode, "want=9")
                    self.assertIn("errno=0\n", result.out, result.err)
                    self.assertIn(f"read={BANNER!r}\n", result.out, result.err)
                    self.assertEqual(len(self.lines(result, "proxy_unreachable")), 1)

    def test_dante(self):
        self.need("danted")
        self.all_ways(self.use(Dante(self.directory, {NAME: PLACE})).url)

    def test_tls(self):
        front = self.use(Front(self.scripted(), self.authority.certificate("good", "IP:127.0.0.1")))
        self.all_ways(f"https://127.0.0.1:{front.port}", ("blocking", "epoll"))

    def test_an_ipv6_proxy_behind_an_ipv4_one(self):
        second = self.scripted(address="::1")
        self.all_ways(second.url, ("blocking", "epoll"))

    def test_an_address_that_this_machine_cannot_use(self):
        """Whatever errno the kernel has for it: another proxy may have one that can be used."""
        for route, address in (("prohibit", "198.51.100.7"), ("blackhole", "198.51.100.8"), ("unreachable", "198.51.100.9")):
            subprocess.run(["ip", "route", "add", route, address], check=True)
            self.addCleanup(subprocess.run, ["ip", "route", "del", route, address], check=True)
        path = "/proc/sys/net/ipv6/conf/all/disable_ipv6"
        with open(path) as file:
            before = file.read()
        self.addCleanup(lambda: open(path, "w").write(before))
        with open(path, "w") as file:
            file.write("1")
        self.firsts = lambda: {one: f"http://{one}:3128" for one in ("198.51.100.7", "198.51.100.8", "198.51.100.9",
                                                                     "[2001:db8::1]")}
        self.all_ways(self.scripted().url)

    def test_without_fast_open(self):
        """The asker dials then, where nobody is left to turn to."""
        with open("/proc/sys/net/ipv4/tcp_fastopen") as file:
            before = file.read()
        with open("/proc/sys/net/ipv4/tcp_fastopen", "w") as file:
            file.write("0")
        self.addCleanup(lambda: open("/proc/sys/net/ipv4/tcp_fastopen", "w").write(before))
        self.all_ways(self.scripted().url, ("blocking",))

    def test_three(self):
        third = self.scripted(kind="socks5")
        self.several(self.closed(), self.scripted(proxy.close()).url, third.url)
        result = self.reach("blocking", "times=3", "want=9")
        self.assertEqual(result.out.count("errno=0\n"), 3, result.err)
        self.assertEqual(len(self.lines(result, "proxy_unreachable")), 2)

    def test_from_the_command_line(self):
        second = self.scripted()
        result = self.reach("blocking", "want=9", options=("--http", self.closed(), "--http", second.url))
        self.assertIn("errno=0\n", result.out, result.err)
        self.assertEqual(len(second.connections), 1)


class Final(SeveralCase):
    def test_what_a_proxy_answers_is_the_truth(self):
        second = self.scripted()
        for kind, status, errno in (("http", 403, "EACCES"), ("http", 407, "EACCES"), ("http", 502, "EHOSTUNREACH"),
                                    ("http", 504, "ETIMEDOUT"), ("socks5", 2, "EACCES"), ("socks5", 5, "ECONNREFUSED")):
            for mode in ("blocking", "epoll"):
                with self.subTest(kind=kind, status=status, mode=mode):
                    self.several(self.scripted(proxy.refuse(status), kind).url, second.url)
                    result = self.reach(mode)
                    self.assertRegex(result.out, f"^errno=({errno}|ECONNREFUSED)\n$" if status == 502 else f"^errno={errno}\n$")
                    self.assertEqual(self.lines(result, "proxy_unreachable"), [])
        self.assertEqual(second.connections, [])

    def test_the_real_one(self):
        self.need("squid")
        second = self.scripted()
        self.several(self.use(Squid(self.directory, {NAME: PLACE}, shipped_rules=True)).url, second.url)
        for mode in MODES:
            self.assertIn("errno=EACCES\n", self.reach(mode).out)  # the port is none of its SSL_ports
        self.assertEqual(second.connections, [])

    def test_all_are_down(self):
        urls = self.closed(), self.scripted(proxy.close()).url, f"socks5://u:secret@127.0.0.1:{proc.free_port()}"
        self.several(*urls)
        for mode in MODES:
            with self.subTest(mode=mode):
                result = self.reach(mode, "times=2")
                self.assertEqual(result.out, "errno=ECONNREFUSED\n" * 2, result.err)
                failed = self.lines(result, "connect_failed")
                self.assertEqual(len(failed), 2, result.err)
                for line in failed:
                    self.assertIn(f"{urls[0]} (cannot connect to the proxy: Connection refused)", line)
                    self.assertIn(f"{urls[1]} (the proxy closed without a reply)", line)
                    self.assertIn("via=socks5://127.0.0.1", line)
                self.assertEqual(len(self.lines(result, "proxy_unreachable")), 3)
                self.assertNotIn("secret", result.err)
        result = self.assert_ran(self.towpath(program("go-static/goclient"), "dial", f"{NAME}:{self.origin.port}"), 1)
        self.assertIn("error=ECONNREFUSED", result.out)

    def test_the_whole_time_is_one(self):
        holes = [self.use(proxy.SynDrop()) for _ in range(3)]
        self.several(*(f"http://{hole.host}:{hole.port}" for hole in holes), more="connectTimeout: 900ms")
        for mode in ("blocking", "epoll"):
            result = self.reach(mode)
            self.assertEqual(result.out, "errno=ETIMEDOUT\n", result.err)
            self.assertEqual(len(self.lines(result, "proxy_unreachable")), 3, result.err)

    def test_a_back_off(self):
        first, second = self.scripted(proxy.reset()), self.scripted()
        self.several(first.url, second.url)
        result = self.reach("blocking", "times=200", "want=9")
        self.assertEqual(result.out.count("errno=0\n"), 200, result.err)
        self.assertEqual(len(second.connections), 200)
        self.assertLess(len(first.connections), 20)  # 1, 2, 4 ... seconds apart
        self.assertEqual(len(self.lines(result, "proxy_unreachable")), 1)


class Hidden(SeveralCase):
    """Between two proxies a socket is reset, hung up and connected anew: nothing of that may show."""

    libc = "glibc"

    def setUp(self):
        super().setUp()
        self.gates = [threading.Event(), threading.Event()]
        for gate in self.gates:
            self.addCleanup(gate.set)
        self.first = self.scripted(proxy.held(proxy.reset(), self.gates[0]))
        self.second = self.scripted(proxy.held(proxy.grant(), self.gates[1]))
        self.several(self.first.url, self.second.url)
        self.m = Machine(self, libc=self.libc)
        self.epoll = self.m.epoll()

    def at(self, which, count=1):
        wait_until(lambda: len(which.targets()) >= count, "request at the proxy")

    def quiet(self, fd):
        self.assertEqual(self.m.wait(self.epoll, 0), {})
        self.assertEqual(self.m.poll(fd, 5, 0), "timeout")
        self.assertEqual(self.m.select(fd, 0), "timeout")
        self.assertEqual(self.m.so_error(fd), 0)
        self.assertEqual(self.m.read(fd), "EAGAIN")
        self.assertEqual(self.m.connect(fd, FAR), "EALREADY")

    def test_epoll(self):
        for before in (False, True):
            for events in (LEVEL, LEVEL | EPOLLET, LEVEL | EPOLLONESHOT):
                for answer in (proxy.reset(), proxy.close()):
                    with self.subTest(before=before, events=hex(events), answer=answer.kind):
                        self.story(before, events, answer)

    def story(self, before, events, answer):
        for gate in self.gates:
            gate.clear()
        for one in (self.first, self.second):
            one.connections.clear()
        self.first.answer = proxy.held(answer, self.gates[0])
        m = Machine(self, libc=self.libc)  # a pool of its own: the first proxy is tried
        self.m, self.epoll = m, m.epoll()
        fd = m.open(nonblocking=True)
        if before:
            m.ctl(self.epoll, ADD, fd, events, DATA)
            m.wait(self.epoll, 0)
            if events & EPOLLONESHOT:
                m.ctl(self.epoll, MOD, fd, events, DATA)
        self.assertEqual(m.connect(fd, FAR), "EINPROGRESS")
        if not before:
            self.assertEqual(m.ctl(self.epoll, ADD, fd, events, DATA), 0)
        self.at(self.first)
        waiting = m.begin("epoll_wait", self.epoll, bytes(12 * 64), 64, 10000)
        polling = m.begin("poll", fd.to_bytes(4, "little") + (5).to_bytes(4, "little"), 1, 10000)
        self.quiet(fd)
        self.gates[0].set()
        self.at(self.second)
        self.quiet(fd)
        self.assertFalse(m.ended(waiting), "the program saw the change")
        self.assertFalse(m.ended(polling), "the program saw the change")
        self.gates[1].set()
        self.assertIn(m.wait_text(m.end(waiting)), ({DATA: "OUT"}, {DATA: "IN|OUT"}))
        self.assertIn(m.poll_text(m.end(polling)), ("OUT", "IN|OUT"))
        self.assertEqual(m.so_error(fd), 0)
        self.assertEqual(m.poll(fd, 1), "IN")
        self.assertEqual(m.read(fd), BANNER)
        self.assertEqual(m.peer(fd), FAR)

    def test_a_blocking_caller(self):
        fd = self.m.open()
        call = self.m.begin("connect", fd, address(FAR), 16)
        self.at(self.first)
        self.gates[0].set()
        self.at(self.second)
        self.assertFalse(self.m.ended(call))
        self.gates[1].set()
        self.assertEqual(self.m.end(call).result, 0)
        self.assertEqual(self.m.read(fd), BANNER)

    def test_a_bound_port_stays(self):
        fd, port = self.m.open(nonblocking=True), proc.free_port()
        where = address(("127.0.0.1", port))
        self.assertEqual(self.m.result("bind", fd, where, len(where)), 0)
        self.assertEqual(self.m.connect(fd, FAR), "EINPROGRESS")
        for each in self.gates:
            each.set()
        self.assertEqual(self.m.poll(fd, 1), "IN")
        self.assertEqual(self.m.read(fd), BANNER)
        self.assertEqual([one.connections[0].peer[1] for one in (self.first, self.second)], [port, port])

    def test_closed_in_between(self):
        """The program gives up while the second proxy is asked: nothing is left of it, and the next connect works."""
        fd = self.m.open(nonblocking=True)
        self.assertEqual(self.m.connect(fd, FAR), "EINPROGRESS")
        self.at(self.first)
        self.gates[0].set()
        self.at(self.second)
        self.assertEqual(self.m.close(fd), 0)
        self.gates[1].set()
        fd = self.m.open()
        self.assertEqual(self.m.connect(fd, FAR), 0)
        self.assertEqual(self.m.read(fd), BANNER)


class HiddenMusl(Hidden):
    libc = "musl"


class Restart(SeveralCase):
    def test_killed_and_started_again_under_load(self):
        self.need("squid")
        self.need("danted")
        first = self.use(Squid(self.directory, {NAME: PLACE}))
        second = self.use(Dante(self.directory, {NAME: PLACE}))
        self.several(first.url, second.url)
        reading, writing = os.pipe()
        line = self.line("/usr/bin/python3", "-c", _STREAM, NAME, self.origin.port)
        with open(reading, "rb") as stdin:
            stream = self.use(proc.Process("stream", line, self.directory, self._env(None), stdin=stdin))

        def counts():
            told = [row for row in stream.out.splitlines() if row.startswith("count ")]
            return [int(word) for word in told[-1].split()[1:]] if told else [0] * 4

        def more(each=5):
            begun = counts()
            wait_until(lambda: all(now >= then + each for now, then in zip(counts(), begun)), "connects of each kind",
                       30, stream)
        more()
        first.wait_target(f"{NAME}:{self.origin.port}")
        self.assertEqual(second.targets(), [])
        for _ in range(2):
            first.process.stop(grace=0)
            stream.wait_line("event=proxy_unreachable ")
            more()
            self.assertTrue(second.targets())
            first = self.use(Squid(self.directory, {NAME: PLACE}, port=first.port))
            wait_until(lambda: len(first.targets()) > 20, "the first proxy's return", 60, stream)
        os.close(writing)
        stream.wait()
        self.assertNotIn("failed", stream.out)
        self.assertIn("done", stream.out)
        self.assertEqual(stream.err.count("event=proxy_unreachable"), stream.err.count("event=proxy_back"), stream.err)
        self.assertNotIn("connect_failed", stream.err)
        self.assertFalse(self.dns.asked(NAME))


class PlainHttp(SeveralCase):
    def test_one_that_takes_connections_and_says_nothing_in_absolute_form(self):
        """No tunnel shows that it is gone: the first request meets it, the next connect does not."""
        first, second = self.scripted(proxy.close()), self.use(AbsoluteProxy())
        self.several(first.url, second.url, more="plainHttp: absolute")
        result = self.towpath("sh", "-c", f"curl -s http://{NAME}/a; echo first=$?; for i in b c d; do "
                                          f"curl -s http://{NAME}/$i; done; true")
        self.assertRegex(result.out, "first=(52|56)")
        self.assertIn("closes without an answer", self.lines(result, "proxy_unreachable")[0])
        self.assertEqual(self.lines(result, "proxy_back"), [])
        # Not three: on a slow machine its back-off may be over before the last.
        self.assertGreaterEqual(len(second.heads()), 1)

    def test_in_absolute_form(self):
        first, second = self.use(AbsoluteProxy()), self.use(AbsoluteProxy())
        self.several(first.url, second.url, more="plainHttp: absolute")
        get = PROGRAMS["curl"](self, NAME, 80, "/")
        self.assert_ran(self.towpath(*get))
        self.assertEqual((len(first.heads()), len(second.heads())), (1, 0))
        first.stop()
        result = self.assert_ran(self.towpath(*get))
        self.assertEqual((len(first.heads()), len(second.heads())), (1, 1))
        self.assertEqual(len(self.lines(result, "proxy_unreachable")), 1)

    def test_one_of_them_tunnels_the_other_does_not(self):
        """The refusal of CONNECT belongs to the proxy that spoke it."""
        second = self.use(AbsoluteProxy())
        self.several(self.closed(), second.url)
        self.assert_ran(self.towpath(*PROGRAMS["curl"](self, NAME, 80, "/")))
        self.assertEqual([target.split(" ")[0] for target in second.targets()], ["CONNECT", "GET"])


if __name__ == "__main__":
    main()
