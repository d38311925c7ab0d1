# suite: quick
"""Go programs, static and with cgo: their event loop learns of a tunnel when it stands, and keeps its own deadlines."""

import os
import signal
import socket
import subprocess
import threading

from lab import docker, netns, proc, proxy, tree
from lab.case import LabCase, main, program
from lab.origin import RawOrigin
from lab.proc import scaled, wait_until
from lab.tls import Authority

NAME = "tunnelled.example"
EXEMPT = "inside.exempt.example"


def fields(text):
    """The key=value lines of a program: {key: number or text}."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {key: int(value) if value.isdigit() else value for key, value in pairs}


class GoCase(LabCase):
    kind = "go-static"
    records = {EXEMPT: ["127.0.0.81"]}

    def setUp(self):
        super().setUp()
        self.client, self.server = program(f"{self.kind}/goclient"), program(f"{self.kind}/goserver")
        self.origin = self.use(RawOrigin("127.0.0.80"))
        self.gate = threading.Event()
        self.addCleanup(self.gate.set)
        self.proxy = self.use(proxy.Proxy("http", {NAME: self.origin.address}))
        self.proxy_values(self.proxy.url, exempt="exempt.example")

    def hold(self, answer=None):
        """The proxy answers when the test sets self.gate."""
        self.proxy.answer = proxy.held(answer or proxy.grant(), self.gate)

    def wait_requests(self, count):
        wait_until(lambda: len(self.proxy.targets()) >= count, f"{count} requests at the proxy", 20)

    def go(self, *words, code=0, timeout=60.0):
        result = self.assert_ran(self.towpath(self.client, *words, timeout=timeout), code)
        self.assertNotIn("errno-", result.out, "an error that no manual page of connect knows")
        return fields(result.out)

    def start_go(self, *words):
        """A goclient that keeps running; its standard input is a pipe."""
        return self.use(proc.Process("goclient", self.line(self.client, *words), self.directory, self._env(None),
                                     self.directory, stdin=subprocess.PIPE))

    @staticmethod
    def running_client():
        """The process that `towpath run` started."""
        return wait_until(lambda: next((pid for pid in netns.processes() if tree.name(pid) == "goclient"), None), "goclient")

    def started(self, command, *words):
        """A goserver of the test, bare: what the client wants to reach."""
        server = self.use(proc.Process("goserver", [program("go-static/goserver"), command, "127.0.0.80:0", *words],
                                       self.directory, self._env(None), stdin=subprocess.PIPE))
        host, _, port = server.wait_line(r"listening=(\S+)").group(1).rpartition(":")
        self.proxy.names[NAME] = (host, int(port))


class Client(GoCase):
    def test_two_hundred_dials_at_once(self):
        """The proxy answers when it has all of the requests: a dial that waited for another would never come."""
        self.hold()
        opener = threading.Thread(target=lambda: (self.wait_requests(200), self.gate.set()))
        opener.start()
        self.assertEqual(self.go("dials", 200, f"{NAME}:7")["ok"], 200)
        opener.join()
        self.assertEqual(self.proxy.targets(), [f"{NAME}:7"] * 200)
        self.assertFalse(self.dns.queries)

    def test_errors_are_true(self):
        for status, name in ((403, "EACCES"), (407, "EACCES"), (504, "ETIMEDOUT")):
            with self.subTest(status=status):
                self.proxy.answer = proxy.refuse(status)
                self.assertEqual(self.go("dials", 20, f"{NAME}:7", code=1)[name], 20)

    def test_a_proxy_that_resets(self):
        self.proxy.answer = proxy.reset()
        self.assertEqual(self.go("dial", f"{NAME}:7", code=1)["error"], "ECONNRESET")

    def test_a_proxy_that_is_not_there(self):
        self.proxy_values(f"http://127.0.0.1:{proc.free_port()}")
        self.assertEqual(self.go("dial", f"{NAME}:7", code=1)["error"], "ECONNREFUSED")

    def test_the_server_speaks_first(self):
        banner = self.use(RawOrigin("127.0.0.80", banner=b"220 lab\r\n"))
        self.proxy.names[NAME] = banner.address
        for answer in (proxy.grant(), proxy.grant(early=b"early "), proxy.grant(split=True)):
            self.proxy.answer = answer
            self.assertIn(self.go("dial", f"{NAME}:7")["read"], ('"220 lab\\r\\n"', '"early "', '"early 220 lab\\r\\n"'))

    def test_the_peer_is_what_was_dialled(self):
        self.proxy.names["192.0.2.7"] = self.use(RawOrigin("127.0.0.80", banner=b"b")).address
        self.assertEqual(self.go("dial", "192.0.2.7:22")["peer"], "192.0.2.7:22")
        self.assertRegex(self.proxy.targets()[-1], r"^192\.0\.2\.7:22$")

    def test_ipv6_literals(self):
        self.proxy.names["2001:db8:1::7"] = self.use(RawOrigin("127.0.0.80", banner=b"b")).address
        self.assertEqual(self.go("dial", "[2001:db8:1::7]:22")["peer"], "[2001:db8:1::7]:22")

    def test_timeouts_of_the_program(self):
        """The proxy is silent, or not even its connection is made; towpath itself would wait for a minute."""
        self.proxy.answer = proxy.silence()
        lost = self.use(proxy.SynDrop())
        for url in (self.proxy.url, f"http://{lost.host}:{lost.port}"):
            with self.subTest(url=url):
                self.proxy_values(url)
                seen = self.go("timeout", "300ms", f"{NAME}:7", code=1)
                self.assertEqual(seen["error"], "timeout")
                self.assertGreaterEqual(seen["ms"], 299)
        self.assertTrue(self.proxy.connections[0].ended.wait(scaled(5)), "the tunnel that nobody waits for is not closed")

    def test_cancelling(self):
        self.proxy.answer = proxy.silence()
        client = self.start_go("cancel", f"{NAME}:7")
        self.wait_requests(1)
        client.popen.stdin.close()
        self.assertEqual(client.wait(), 1)
        self.assertEqual(fields(client.out)["error"], "canceled")
        self.assertTrue(self.proxy.connections[0].ended.wait(scaled(5)))

    def test_http_2_over_tls_to_the_origin(self):
        authority = Authority(self.directory)
        self.started("https", authority.certificate("origin", f"DNS:{NAME}"))
        seen = self.go("h2", f"https://{NAME}/second", authority.file)
        self.assertEqual((seen["proto"], seen["path"]), ("HTTP/2.0", "/second"))
        self.assertEqual(self.proxy.targets(), [f"{NAME}:443"])

    def test_upgrade(self):
        self.started("http")
        self.assertEqual(self.go("upgrade", f"{NAME}:80"), {"status": 101, "echoes": 100})

    def test_long_lived_connections_under_garbage_collection(self):
        seen = self.go("long", 20, 300, f"{NAME}:7")
        self.assertEqual(seen["ok"], 20)
        self.assertGreater(seen["collections"], 10)

    def test_a_thousand_dials_while_signals_storm(self):
        seen = self.go("storm", 1000, f"{NAME}:7", timeout=120)
        self.assertEqual(seen["ok"], 1000)
        self.assertGreater(seen["alarms"], 10)
        self.assertEqual(len(self.proxy.targets()), 1000, "a dial that was interrupted was made twice")

    def test_fin_is_sent_when_the_program_closes(self):
        client = self.start_go("hold", 20, f"{NAME}:7")
        client.wait_line("held=20")
        self.assertFalse([one for one in self.proxy.connections if one.ended.is_set()])
        client.popen.stdin.close()
        client.wait_line("closed=20")
        for one in self.proxy.connections:
            self.assertTrue(one.ended.wait(scaled(5)), "somebody else still has the socket")
        self.assertEqual(client.wait(), 0)

    def test_killed_while_it_dials(self):
        self.proxy.answer = proxy.silence()
        client = self.start_go("dials", 20, f"{NAME}:7")
        self.wait_requests(20)
        os.kill(self.running_client(), signal.SIGKILL)
        client.wait()
        for one in self.proxy.connections:
            self.assertTrue(one.ended.wait(scaled(5)))

    def test_datagrams_to_loopback_are_untouched(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as echo:
            echo.bind(("127.0.0.81", 0))
            client = self.start_go("udp", "127.0.0.81:%d" % echo.getsockname()[1], "question")
            echo.settimeout(scaled(10))
            text, sender = echo.recvfrom(100)
            echo.sendto(text[::-1], sender)
        self.assertEqual(client.wait(), 0)
        self.assertEqual(fields(client.out)["read"], '"noitseuq"')


class Names(GoCase):
    def test_a_tunnelled_name_is_not_asked_for(self):
        self.assertRegex(self.go("dns", NAME)["address"], r"^198\.1[89]\.")
        self.assertFalse(self.dns.queries)

    def test_an_exempt_name_is(self):
        self.assertEqual(self.go("dns", EXEMPT)["address"], "127.0.0.81")
        self.assertTrue(self.dns.asked(EXEMPT))
        inside = self.use(RawOrigin("127.0.0.81", banner=b"direct"))
        self.assertEqual(self.go("dial", f"{EXEMPT}:{inside.port}")["read"], '"direct"')
        self.assertEqual(self.proxy.connections, [])

    def test_search_domains(self):
        """The first candidate is no name of its own, and the proxy gets the name as it was written."""
        netns.resolv_conf("nameserver 127.0.0.1\nsearch ns.svc.cluster.local compute.internal\noptions ndots:5\n")
        self.addCleanup(netns.resolv_conf)
        self.go("dials", 3, f"{NAME}:7")
        self.assertEqual(self.proxy.targets(), [f"{NAME}:7"] * 3)
        self.assertFalse(self.dns.asked(NAME))

    def test_localhost_and_numbers(self):
        inside = self.use(RawOrigin("127.0.0.1", banner=b"direct"))
        for host in ("localhost", "127.0.0.1"):
            self.assertEqual(self.go("dial", f"{host}:{inside.port}")["read"], '"direct"')
        self.assertEqual((self.proxy.connections, self.dns.queries), ([], []))


@docker.too
class StaticClient(Client):
    pass


@docker.too
class StaticNames(Names):
    pass


@docker.too
class CgoClient(Client):
    kind = "go-cgo"


class CgoNames(Names):
    kind = "go-cgo"


class CgoByLibc(Names):
    kind = "go-cgo"

    def setUp(self):
        super().setUp()
        self.environment["GODEBUG"] = "netdns=cgo"


del Client, Names  # their tests are those of the classes above

if __name__ == "__main__":
    main()
