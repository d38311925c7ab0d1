"""The lab itself: leaks are caught, names resolve only where they should, and every scripted fault happens."""

import socket
import time

from lab import netns, proc, proxy
from lab.case import LabCase, main
from lab.dante import Dante
from lab.dns import Dns
from lab.origin import Origin, RawOrigin
from lab.squid import Squid

NAME = "only-at-the-proxy.example"
ORIGIN = "127.0.0.80"


class Namespace(LabCase):
    records = {"inside.example": ["127.0.0.81", "2001:db8::81"]}

    def test_a_bare_connect_to_the_internet_is_counted(self):
        result = self.bare("/usr/bin/python3", "-c",
                           "import socket; s = socket.socket(); s.settimeout(0.1); s.connect(('192.0.2.1', 80))")
        self.assertEqual(result.code, 1)
        self.assertIn("timed out", result.err)
        self.assertGreater(netns.veth_packets(), 0)

    def test_a_leak_fails_the_test_and_is_described(self):
        for family, address, kind, text in (
                (socket.AF_INET, "192.0.2.1", socket.SOCK_DGRAM, "udp to 192.0.2.1 port 53 example"),
                (socket.AF_INET6, "2001:db8::1", socket.SOCK_DGRAM, "udp to 2001:db8::1 port 53 example"),
                (socket.AF_INET, "198.51.100.1", socket.SOCK_STREAM, "tcp to 198.51.100.1 port 53"),
                (socket.AF_INET6, "2001:db8::2", socket.SOCK_STREAM, "tcp to 2001:db8::2 port 53")):
            with self.subTest(text), socket.socket(family, kind) as leak:
                leak.setblocking(False)
                leak.connect_ex((address, 53))
                if kind == socket.SOCK_DGRAM:
                    leak.send(b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x00\x00\x01\x00\x01")
                with self.assertRaisesRegex(AssertionError, f"1 packets .*{text}"):
                    self.assert_absent()
                self._packets = netns.veth_packets()

    def test_the_kernel_sends_nothing_by_itself(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 53))  # a route is looked up, no packet leaves
        self.assertEqual(netns.leaks(), [])

    def test_names_come_from_the_lab(self):
        result = self.bare("getent", "ahosts", "inside.example")
        self.assertIn("127.0.0.81", result.out)
        self.assertIn("2001:db8::81", result.out)
        self.assertTrue(self.dns.asked("inside.example"))
        self.assertEqual(self.bare("getent", "ahosts", NAME).code, 2)
        self.assertTrue(self.dns.asked(NAME))

    def test_hosts_and_resolv_conf_are_private(self):
        self.addCleanup(netns.hosts)
        netns.hosts(f"127.0.0.99 {NAME}\n")
        self.assertIn("127.0.0.99", self.bare("getent", "ahostsv4", NAME).out)
        self.assertFalse(self.dns.asked(NAME))
        other = self.use(Dns({NAME: ["192.0.2.9"]}, address="127.0.0.2"))
        netns.hosts()
        netns.resolv_conf("nameserver 127.0.0.2\n")
        self.addCleanup(netns.resolv_conf)
        self.assertIn("192.0.2.9", self.bare("getent", "hosts", NAME).out)
        self.assertTrue(other.asked(NAME))

    def test_documentation_addresses_can_be_made_local(self):
        netns.add_address("203.0.113.80/32")
        origin = self.use(Origin("203.0.113.80"))
        result = self.bare(self.need("curl"), "-sS", f"http://203.0.113.80:{origin.port}/x")
        self.assertIn("path=/x", self.assert_ran(result).out)

    def test_programs_get_no_proxy_variable(self):
        out = self.bare("env").out
        self.assertNotRegex(out.lower(), "(?m)^[a-z_]*proxy[a-z_]*=")
        self.assertIn("LC_ALL=C", out)


class Processes(LabCase):
    def test_everything_a_program_started_ends_with_it(self):
        process = self.spawn("shell", "sh", "-c", "trap '' TERM; sleep 600 & echo child=$!; wait; sleep 600")
        child = int(process.wait_line(r"child=(\d+)").group(1))
        self.assertIn(child, netns.processes())
        process.stop(grace=0.1)
        self.assertNotIn(child, netns.processes())

    def test_a_command_that_hangs_is_a_failure_with_its_output(self):
        with self.assertRaisesRegex(AssertionError, "(?s)still runs.*about to hang"):
            proc.run("hang", ["sh", "-c", "echo about to hang; sleep 600"], self.directory, timeout=0.3)
        self.assertEqual(netns.processes(), [])

    def test_a_helper_left_behind_does_not_delay_the_result(self):
        self.assert_ran(self.bare("sh", "-c", "sleep 600 & exit 0", timeout=5))
        proc.kill(netns.processes())

    def test_readiness_is_a_listening_port_or_a_line(self):
        process = self.spawn("server", "/usr/bin/python3", "-c", (
            "import socket; s = socket.create_server(('127.0.0.5', 0));"
            "print('port', s.getsockname()[1], flush=True); s.accept()"))
        address, port = process.wait_listening()
        self.assertEqual((address, str(port)), ("127.0.0.5", process.wait_line(r"^port (\d+)").group(1)))

    def test_an_early_end_is_reported_at_once(self):
        process = self.spawn("dead", "sh", "-c", "echo reason >&2; exit 3")
        with self.assertRaisesRegex(AssertionError, "(?s)ended while waiting.*reason"):
            process.wait_line("never")


class RealProxies(LabCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.origin = cls.start(Origin(ORIGIN, 80))

    def curl(self, *arguments, code=0):
        result = self.bare(self.need("curl"), "-sS", "--max-time", "10", *arguments)
        return self.assert_ran(result, code)

    def proxy(self, kind, **options):
        if not kind.PROGRAM:
            self.skipTest(f"{kind.__name__} is not installed")
        return self.use(kind(self.directory, {NAME: ORIGIN}, **options))

    def test_the_name_is_unknown_without_a_proxy(self):
        self.curl(f"http://{NAME}/", code=6)

    def test_squid_resolves_and_logs_the_name(self):
        server = self.proxy(Squid)
        result = self.curl("-p", "-x", server.url, f"http://{NAME}/squid")
        self.assertIn(f"path=/squid\nhost={NAME}\n", result.out)
        server.wait_target(f"{NAME}:80")
        self.assertEqual(self.dns.queries, [])

    def test_squid_wants_credentials(self):
        server = self.proxy(Squid, users={"boat": "horse"})
        self.assertIn("407", self.curl("-p", "-x", f"http://127.0.0.1:{server.port}", f"http://{NAME}/", code=56).err)
        self.assertIn("path=/", self.curl("-p", "-x", server.url, f"http://{NAME}/").out)
        proc.wait_until(lambda: f"CONNECT {NAME}:80 200 boat" in server.access_log, "user in squid's log")

    def test_squid_with_shipped_rules_tunnels_only_443(self):
        server = self.proxy(Squid, shipped_rules=True)
        self.assertIn("403", self.curl("-p", "-x", server.url, f"http://{NAME}/", code=56).err)
        self.assertIn("path=/absolute", self.curl("-x", server.url, f"http://{NAME}/absolute").out)

    def test_squid_reports_an_unknown_name(self):
        server = self.proxy(Squid)
        self.curl("-p", "-x", server.url, "http://nowhere.example/", code=56)
        proc.wait_until(lambda: "CONNECT nowhere.example:80 500 -" in server.access_log, "a line in squid's log")

    def test_dante_resolves_and_logs_the_name(self):
        server = self.proxy(Dante)
        result = self.curl("-x", server.url.replace("socks5:", "socks5h:"), f"http://{NAME}/dante")
        self.assertIn("path=/dante", result.out)
        server.wait_target(f"{NAME}:80")
        self.assertEqual(self.dns.queries, [])

    def test_dante_wants_credentials(self):
        server = self.proxy(Dante, users={"boat": "horse"})
        self.curl("--socks5-hostname", f"127.0.0.1:{server.port}", f"http://{NAME}/", code=97)
        self.curl("-x", f"socks5h://boat:cow@127.0.0.1:{server.port}", f"http://{NAME}/", code=97)
        result = self.curl("-x", server.url.replace("socks5:", "socks5h:"), f"http://{NAME}/")
        self.assertIn("path=/", result.out)
        server.wait_target(f"{NAME}:80")

    def test_dante_can_refuse(self):
        server = self.proxy(Dante, refuse=True)
        self.curl("--socks5-hostname", f"127.0.0.1:{server.port}", f"http://{NAME}/", code=97)


class ScriptedProxy(LabCase):
    REQUEST = f"CONNECT {NAME}:22 HTTP/1.1\r\nHost: {NAME}:22\r\n\r\n".encode()

    def connect(self, server):
        client = socket.create_connection((server.host, server.port), proc.scaled(5))
        self.addCleanup(client.close)
        return client

    def ask(self, answer, more=b""):
        self.server = self.use(proxy.Proxy("http", {NAME: self.origin.address}, answer=answer))
        client = self.connect(self.server)
        client.sendall(self.REQUEST + more)
        return client

    def setUp(self):
        super().setUp()
        self.origin = self.use(RawOrigin(banner=b"SSH-2.0-lab\r\n"))

    def read(self, client, ending):
        data = b""
        while not data.endswith(ending):
            more = client.recv(4096)
            if not more:
                break
            data += more
        return data

    def test_granted_tunnels_carry_bytes_both_ways(self):
        client = self.ask(proxy.grant(split=True))
        self.assertIn(b"200", self.read(client, b"lab\r\n"))
        client.sendall(b"hello")
        self.assertEqual(self.read(client, b"hello"), b"hello")
        connection = self.server.connections[0]
        self.assertEqual(connection.target, f"{NAME}:22")
        self.assertEqual(connection.target_kind, "name")
        self.assertEqual(bytes(connection.handshake), self.REQUEST)
        self.assertEqual(bytes(connection.received), b"hello")

    def test_early_bytes_come_in_the_segment_of_the_reply(self):
        client = self.ask(proxy.grant(early=b"EARLY"))
        self.assertTrue(client.recv(4096).endswith(b"\r\n\r\nEARLY"))

    def test_a_delayed_answer_is_late(self):
        began = time.monotonic()
        self.ask(proxy.grant(delay=0.2)).recv(1)
        self.assertGreaterEqual(time.monotonic() - began, proc.scaled(0.2))

    def test_refusals_have_headers_and_bytes_after_them_are_recorded(self):
        client = self.ask(proxy.refuse(403, [("X-Squid-Error", "ERR_ACCESS_DENIED 0")]))
        reply = self.read(client, b"refused\n")
        self.assertIn(b"HTTP/1.1 403 ", reply)
        self.assertIn(b"X-Squid-Error: ERR_ACCESS_DENIED 0\r\n", reply)
        client.sendall(b"GET / HTTP/1.1\r\n")
        client.close()
        connection = self.server.connections[0]
        self.assertTrue(connection.ended.wait(proc.scaled(5)))
        self.assertEqual(bytes(connection.after_refusal), b"GET / HTTP/1.1\r\n")
        self.assertEqual(self.origin.received, [])

    def test_garbage_close_reset_and_silence(self):
        self.assertEqual(self.read(self.ask(proxy.raw(b"SSH-2.0\n")), b"\n"), b"SSH-2.0\n")
        self.assertEqual(self.ask(proxy.close()).recv(1), b"")
        with self.assertRaises(ConnectionResetError):
            self.ask(proxy.reset()).recv(1)
        client = self.ask(proxy.silence())
        client.settimeout(0.05)
        with self.assertRaises(TimeoutError):
            client.recv(1)

    def test_unknown_targets_lead_nowhere(self):
        server = self.use(proxy.Proxy("http"))
        client = self.connect(server)
        client.sendall(self.REQUEST)
        self.assertIn(b" 503 ", client.recv(4096))

    def test_http_credentials(self):
        origin = self.use(Origin())
        server = self.use(proxy.Proxy("http", {NAME: origin.address}, credentials="boat:horse"))
        curl = self.need("curl")
        bad = self.bare(curl, "-sS", "-p", "-x", f"http://{server.host}:{server.port}", f"http://{NAME}/")
        self.assertIn("407", bad.err)
        self.assertIn("path=/", self.assert_ran(self.bare(curl, "-sS", "-p", "-x", server.url, f"http://{NAME}/")).out)
        self.assertEqual(server.connections[-1].credentials, "boat:horse")

    def test_absolute_form_requests_are_recorded(self):
        server = self.use(proxy.Proxy("http"))
        result = self.bare(self.need("curl"), "-sS", "-x", server.url, f"http://{NAME}/a", f"http://{NAME}/b")
        self.assertEqual(result.out, f"absolute GET http://{NAME}/a\nabsolute GET http://{NAME}/b\n")
        self.assertEqual(server.connections[0].requests, [("GET", f"http://{NAME}/{x}") for x in "ab"])

    def test_socks5(self):
        origin = self.use(Origin())
        curl = self.need("curl")
        for login in (None, "boat:horse"):
            with self.subTest(login=login):
                server = self.use(proxy.Proxy("socks5", {NAME: origin.address}, login))
                where = server.url.replace("socks5:", "socks5h:")
                result = self.assert_ran(self.bare(curl, "-sS", "-x", where, f"http://{NAME}/socks"))
                self.assertIn("path=/socks", result.out)
                self.assertEqual(server.targets(), [f"{NAME}:80"])
                self.assertEqual(server.connections[0].credentials, login)
                server.answer = proxy.refuse(2, split=True)
                self.assertEqual(self.bare(curl, "-sS", "-x", where, f"http://{NAME}/").code, 97)
                self.assertEqual(bytes(server.connections[1].after_refusal), b"")

    def test_a_full_backlog_drops_the_syn(self):
        server = self.use(proxy.SynDrop())
        with socket.socket() as client:
            client.settimeout(0.2)
            with self.assertRaises(TimeoutError):
                client.connect((server.host, server.port))


class NameServer(LabCase):
    def test_failures_and_silence(self):
        self.dns.broken.add("broken.example")
        self.dns.silent.add("silent.example")
        self.assertEqual(self.bare("getent", "ahostsv4", "broken.example").code, 2)
        netns.resolv_conf("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        self.addCleanup(netns.resolv_conf)
        began = time.monotonic()
        self.assertEqual(self.bare("getent", "ahostsv4", "silent.example").code, 2)
        self.assertGreater(time.monotonic() - began, 0.9)
        self.assertTrue(self.dns.asked("silent.example"))


if __name__ == "__main__":
    main()
