# suite: quick
"""What breaks, breaks closed: without proxy, agent or name server nothing is made directly and nothing is asked."""

from lab import netns, proc, proxy
from lab.case import LabCase, main
from lab.names_probe import NamesProbe
from lab.origin import RawOrigin
from lab.proxy import Proxy

NAME = "only-at-the-proxy.example"
EXEMPT = "inside.example"
HOWS = ("how=blocking", "how=nonblocking")
V4 = r"198\.1[89]\.\d+\.\d+"


class FailClosed(LabCase):
    # Known to this machine's name server as well: a lookup or a connect that should not be would succeed.
    records = {EXEMPT: ["127.0.0.81"], NAME: ["127.0.0.81"], "outside.example": ["192.0.2.81"]}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.inside = cls.start(RawOrigin("127.0.0.81", 443, b"direct\n"))
        cls.outside = cls.start(RawOrigin("127.0.0.80", 443, b"through the proxy\n"))

    def setUp(self):
        super().setUp()
        self.addCleanup(netns.resolv_conf)
        self.addCleanup(self.dns.silent.clear)
        self.proxy = self.use(Proxy("http", {NAME: self.outside.address}))

    def start_probe(self, url=None, more="", **options):
        self.proxy_values(url or self.proxy.url, EXEMPT, more)
        self.probe = self.use(NamesProbe(self, **options))
        return self.probe

    def assert_every(self, name, expected, cause=None):
        for how in HOWS:
            self.assertEqual(self.probe.ask(f"tcp {name} 443 {how}"), expected)
        if cause:
            self.assertRegex(self.probe.log, rf"event=connect_failed .*target={name}:443 .*errno={expected} cause={cause}")
        self.assertFalse(self.dns.asked(name))


class WithoutProxy(FailClosed):
    def test_a_proxy_that_is_down(self):
        self.start_probe(f"http://127.0.0.1:{proc.free_port()}")
        self.assert_every(NAME, "ECONNREFUSED", "proxy_unreachable")
        self.assert_every("192.0.2.1", "ECONNREFUSED", "proxy_unreachable")
        self.assertIn("direct", self.probe.ask(f"tcp {EXEMPT} 443"))

    def test_a_proxy_that_comes_back(self):
        port = proc.free_port()
        self.start_probe(f"http://127.0.0.1:{port}")
        self.assert_every(NAME, "ECONNREFUSED")
        self.use(Proxy("http", {NAME: self.outside.address}, port=port))
        self.assertIn("through the proxy", self.probe.ask("again"))

    def test_a_proxy_whose_name_nobody_knows(self):
        self.start_probe("http://nowhere.example:3128")
        for how in HOWS:
            self.assertEqual(self.probe.ask(f"tcp {NAME} 443 {how}"), "EHOSTUNREACH")
        self.assertIn("cause=proxy_unknown", self.probe.log)
        self.assertEqual(self.dns.asked(), {"nowhere.example"})

    def test_a_proxy_that_is_silent(self):
        self.proxy.answer = proxy.silence()
        self.start_probe(more="connectTimeout: 1s")
        self.assert_every(NAME, "ETIMEDOUT", "deadline")

    def test_a_name_that_the_proxy_does_not_know(self):
        self.start_probe()
        self.assert_every("unknown.example", "ECONNREFUSED")
        self.assertRegex(self.probe.log, r"target=unknown.example:443 .*status 503")

    def test_a_proxy_that_refuses(self):
        self.proxy.answer = proxy.refuse(403)
        self.start_probe()
        for how in HOWS:
            self.assertNotIn("OK", self.probe.ask(f"tcp {NAME} 443 {how}"))
        self.assertIn("cause=denied", self.probe.log)


class WithoutAgent(FailClosed):
    def test_a_new_agent_takes_the_place_of_one_that_was_killed(self):
        self.start_probe()
        for _ in range(3):
            self.assertRegex(self.probe.ask(f"tcp {NAME} 443"), f"^OK {V4}:443 through the proxy$")
            self.probe.kill_agent()
        self.assertIn("direct", self.probe.ask(f"tcp {EXEMPT} 443"))
        self.assertIn("event=agent_died", self.probe.log)

    def test_a_new_agent_knows_what_the_program_resolved_before(self):
        netns.add_address("192.0.2.81/32")
        self.addCleanup(netns.drop_address, "192.0.2.81/32")
        self.use(RawOrigin("192.0.2.81", 443, b"direct\n"))
        self.proxy_values(self.proxy.url, "outside.example")
        self.probe = self.use(NamesProbe(self))
        self.assertIn("192.0.2.81", self.probe.ask("gai outside.example type=stream"))
        # No connect before: the library remembers direct verdicts by itself.
        self.probe.kill_agent()
        self.assertEqual(self.probe.ask("tcp 192.0.2.81 443"), "OK 192.0.2.81:443 direct")
        self.assertEqual(self.proxy.connections, [])

    def test_a_handshake_whose_agent_dies_fails(self):
        self.proxy.answer = proxy.silence()
        self.start_probe()
        for number, how in enumerate(HOWS, 1):
            self.probe.tell(f"tcp {NAME} 443 {how}")
            self.proxy.wait_connections(number)
            proc.wait_until(lambda: b"\r\n\r\n" in self.proxy.connections[-1].handshake, "request at the proxy")
            self.probe.kill_agent()
            self.assertEqual(self.probe.ask(), "ENETDOWN")
        self.proxy.answer = proxy.grant()
        self.assertIn("through the proxy", self.probe.ask("again"))

    def check_nothing_works(self):
        for name in (NAME, EXEMPT, "outside.example"):
            self.assertEqual(self.probe.ask(f"gai {name}", f"gai {name} family=inet6", f"hbn {name}", f"hbn {name} room=500"),
                             ["AGAIN", "AGAIN", "TRY_AGAIN", "TRY_AGAIN EAGAIN"])
        for address in ("192.0.2.1", "2001:db8::1", "198.18.255.1", "10.77.0.1"):
            for how in HOWS:
                self.assertEqual(self.probe.ask(f"tcp {address} 443 {how}"), "ENETDOWN")
        for how in ("connect", "sendto", "sendmsg"):
            self.assertIn(self.probe.ask(f"udp 198.18.255.1 443 how={how}"), ("ENETDOWN", "ENETUNREACH"))
        self.assertIn("direct", self.probe.ask("tcp 127.0.0.81 443"))
        self.assertEqual(self.dns.queries, [])

    def test_a_program_that_lost_launcher_and_agent(self):
        self.start_probe()
        self.assertIn("through the proxy", self.probe.ask(f"tcp {NAME} 443"))
        self.probe.kill_towpath()
        self.assertEqual(self.probe.ask("again"), "ENETDOWN")
        self.check_nothing_works()
        self.assertEqual(len(self.proxy.connections), 1)

    def test_a_program_that_starts_when_both_are_gone(self):
        self.start_probe(shell='echo ready; read go; exec "$0"')
        self.assertEqual(self.probe.ask(), "ready")
        self.probe.kill_towpath()
        self.probe.tell("go")
        self.check_nothing_works()
        self.assertEqual(self.proxy.connections, [])


class WithoutNameServer(FailClosed):
    def test_silence_is_only_felt_by_exempt_names(self):
        netns.resolv_conf("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        self.dns.silent |= {NAME, EXEMPT}
        self.start_probe()
        self.assertIn("through the proxy", self.probe.ask(f"tcp {NAME} 443"))
        self.assertEqual(self.probe.ask(f"gai {EXEMPT}", f"hbn {EXEMPT}"), ["AGAIN", "TRY_AGAIN"])
        self.assertEqual(self.dns.asked(), {EXEMPT})

    def test_none_at_all(self):
        netns.resolv_conf("nameserver 127.0.0.99\noptions timeout:1 attempts:1\n")
        self.start_probe()
        self.assertIn("through the proxy", self.probe.ask(f"tcp {NAME} 443"))
        self.assertEqual(self.probe.ask(f"gai {EXEMPT}"), "AGAIN")

    def test_a_proxys_name_that_is_not_answered(self):
        self.dns.silent.add("proxy.example")
        self.start_probe("http://proxy.example:3128", more="connectTimeout: 1s")
        for how in HOWS:
            self.assertEqual(self.probe.ask(f"tcp {NAME} 443 {how}"), "ETIMEDOUT")


if __name__ == "__main__":
    main()
