# suite: quick
"""Where a connect goes, and under which name: exempt lists, ports, one proxy only, and everything that stays here."""

import socket

from lab import netns, proc
from lab.case import LabCase, main
from lab.names_probe import NamesProbe
from lab.origin import Origin, RawOrigin
from lab.proxy import Proxy

TUNNELLED = "only-at-the-proxy.example"
BOTH = "db.example"       # known to the proxy and to this machine's name server, at different places
EXEMPT = "inside.example"
V4 = r"198\.1[89]\.\d+\.\d+"
HOWS = ("how=blocking", "how=nonblocking")


class Routes(LabCase):
    """Two origins listen on each port: one that only the proxy leads to, and one on this side."""

    records = {
        EXEMPT: ["127.0.0.81"], BOTH: ["127.0.0.81"], "refuses-first.example": ["127.0.0.82", "127.0.0.81"],
        "refuses.example": ["127.0.0.82", "127.0.0.83"], "outside.example": ["192.0.2.81"], "empty.example": [],
    }
    kind = "http"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for port in (80, 443, 5432, 8080):
            cls.start(RawOrigin("127.0.0.81", port, b"direct\n"))
            cls.start(RawOrigin("127.0.0.80", port, b"through the proxy\n"))

    def setUp(self):
        super().setUp()
        self.addCleanup(netns.hosts)
        self.proxy = self.use(Proxy(self.kind, {name: ("127.0.0.80", 0) for name in (TUNNELLED, BOTH, "192.0.2.1")}))

    def start_probe(self, exempt="", more="", **options):
        self.proxy_values(self.proxy.url, exempt, more)
        self.probe = self.use(NamesProbe(self, **options))
        return self.probe

    def own_address(self, address):
        """An address that would be tunnelled if nothing else were known, unlike those of loopback."""
        netns.add_address(address)
        self.addCleanup(netns.drop_address, address)

    def assert_direct(self, name, port, address=V4):
        for how in HOWS:
            self.assertRegex(self.probe.ask(f"tcp {name} {port} {how}"), rf"^OK {address}:{port} direct$")
        self.assertEqual(self.proxy.targets(), [])

    def assert_tunnelled(self, name, port, address=V4, target=None):
        for how in HOWS:
            self.assertRegex(self.probe.ask(f"tcp {name} {port} {how}"), rf"^OK {address}:{port} through the proxy$")
        self.assertEqual(self.proxy.targets(), [f"{target or name}:{port}"] * 2)
        self.proxy.connections.clear()


class Exempt(Routes):
    def test_other_names_are_tunnelled_and_never_looked_up(self):
        self.start_probe(exempt=EXEMPT)
        self.assert_tunnelled(TUNNELLED, 80)
        self.assert_tunnelled(BOTH, 443)
        self.assertEqual(self.dns.queries, [])

    def test_an_exempt_name_is_direct_at_the_address_that_the_program_found_itself(self):
        self.start_probe(exempt=EXEMPT)
        self.assert_direct(EXEMPT, 80, r"127\.0\.0\.81")
        self.assertEqual(self.dns.asked(), {EXEMPT})

    def test_an_exempt_name_counts_although_its_address_would_be_tunnelled(self):
        # Not on loopback, which is always direct and would show nothing.
        self.own_address("192.0.2.81/32")
        self.use(RawOrigin("192.0.2.81", 80, b"direct\n"))
        self.start_probe(exempt="outside.example")
        self.assert_direct("outside.example", 80, r"192\.0\.2\.81")
        # Twin: a process of another tree has not learnt the name, and the same address is tunnelled.
        self.proxy.names["192.0.2.81"] = ("127.0.0.80", 0)
        self.start_probe(exempt="outside.example")
        self.assert_tunnelled("192.0.2.81", 80, r"192\.0\.2\.81")

    def test_a_name_of_the_hosts_file_goes_to_the_proxy_as_a_name(self):
        netns.hosts(f"192.0.2.7 {TUNNELLED}\n")
        self.start_probe()
        self.assert_tunnelled(TUNNELLED, 80, r"192\.0\.2\.7")

    def test_ranges_are_about_addresses(self):
        self.own_address("198.51.100.81/32")
        self.use(RawOrigin("198.51.100.81", 80, b"direct\n"))
        self.start_probe(exempt="198.51.100.0/24")
        self.assert_direct("198.51.100.81", 80, r"198\.51\.100\.81")
        self.assert_tunnelled("192.0.2.1", 80, r"192\.0\.2\.1")
        self.assertEqual(self.dns.queries, [])

    def test_a_literal_address_is_tunnelled_as_a_literal_address(self):
        self.proxy.names["2001:db8::1"] = ("127.0.0.80", 0)
        self.start_probe()
        self.assert_tunnelled("192.0.2.1", 80, r"192\.0\.2\.1")
        self.assert_tunnelled("2001:db8::1", 80, r"\[2001:db8::1\]", "[2001:db8::1]")

    def test_one_port_of_a_name(self):
        self.start_probe(exempt=f"{BOTH}:8080")
        self.assert_tunnelled(BOTH, 80)
        self.assertEqual(self.dns.queries, [])
        self.assert_direct(BOTH, 8080)
        self.assertEqual(self.dns.asked(), {BOTH})

    def test_everything(self):
        self.start_probe(exempt="*")
        self.assert_direct(BOTH, 443, r"127\.0\.0\.81")


class Ports(Routes):
    def test_a_list_of_ports(self):
        self.start_probe(more="ports: [443]")
        self.assert_tunnelled(BOTH, 443)
        self.assertEqual(self.dns.queries, [])
        self.assert_direct(BOTH, 5432)
        self.assertEqual(self.dns.asked(), {BOTH})

    def test_a_proxy_for_https_alone_leaves_port_80(self):
        self.values(f'coderd:\n  proxy:\n    http: ""\n    https: "{self.proxy.url}"\n    exempt: ""\n')
        self.probe = self.use(NamesProbe(self))
        self.assert_direct(BOTH, 80)
        self.assert_tunnelled(BOTH, 443)
        self.assert_tunnelled(BOTH, 5432)

    def test_a_proxy_for_http_alone_serves_every_port(self):
        self.start_probe()
        for port in (80, 443, 5432):
            self.assert_tunnelled(BOTH, port)
        self.assertEqual(self.dns.queries, [])

    def test_two_proxies(self):
        other = self.use(Proxy("socks5", {BOTH: ("127.0.0.80", 0)}))
        self.values(f'coderd:\n  proxy:\n    http: "{self.proxy.url}"\n    https: "{other.url}"\n    exempt: ""\n')
        probe = self.use(NamesProbe(self))
        for port in (80, 443, 5432):
            self.assertIn("through the proxy", probe.ask(f"tcp {BOTH} {port}"))
        self.assertEqual((self.proxy.targets(), other.targets()), ([f"{BOTH}:80"], [f"{BOTH}:443", f"{BOTH}:5432"]))


class AlwaysDirect(Routes):
    def test_loopback_and_this_host(self):
        self.start_probe()
        server = self.use(RawOrigin("0.0.0.0", 0, b"direct\n"))
        six = self.use(RawOrigin("::1", 0, b"direct\n"))
        for name, address in (("127.0.0.1", r"127\.0\.0\.1"), ("127.9.9.9", r"127\.9\.9\.9"),
                              ("0.0.0.0", r"127\.0\.0\.1"), ("localhost", r"127\.0\.0\.1")):
            self.assertRegex(self.probe.ask(f"tcp {name} {server.port} family=inet"), rf"^OK {address}:\d+ direct$")
        for name in ("::1", "::", "localhost"):
            self.assertRegex(self.probe.ask(f"tcp {name} {six.port} family=inet6"), r"^OK \[::1\]:\d+ direct$")
        self.assertEqual(self.proxy.connections, [])

    def proxied_by_curl(self, proxy_name, expected):
        curl = self.need("curl")
        result = self.assert_ran(self.towpath(curl, "-sS", "-p", "-x", f"http://{proxy_name}:{self.proxy.port}",
                                              f"http://{TUNNELLED}/"))
        self.assertIn("path=/", result.out)
        self.assertEqual(self.proxy.targets(), [expected])

    def test_a_program_with_its_own_proxy_support_is_not_proxied_twice(self):
        origin = self.use(Origin())
        self.proxy.names[TUNNELLED] = origin.address
        # The address must be one that would be tunnelled if it were not the proxy's.
        self.own_address("192.0.2.33/32")
        proxy = self.proxy = self.use(Proxy("http", {TUNNELLED: origin.address}, address="192.0.2.33"))
        self.dns.records["proxy.example"] = ["192.0.2.33"]
        for configured, used in (("192.0.2.33", "192.0.2.33"), ("proxy.example", "proxy.example"),
                                 ("proxy.example", "Proxy.Example.")):
            with self.subTest(configured=configured, used=used):
                self.proxy_values(f"http://{configured}:{proxy.port}")
                self.proxied_by_curl(used, f"{TUNNELLED}:80")
                proxy.connections.clear()

    def test_the_proxys_address_once_its_name_has_led_there(self):
        self.own_address("192.0.2.34/32")
        self.proxy = self.use(Proxy("http", {TUNNELLED: ("127.0.0.80", 0)}, address="192.0.2.34"))
        self.dns.records["proxy.example"] = ["192.0.2.34"]
        self.proxy_values(f"http://proxy.example:{self.proxy.port}")
        probe = self.use(NamesProbe(self))
        self.assertIn("through the proxy", probe.ask(f"tcp {TUNNELLED} 80"))
        # Direct: the proxy waits for a request and sends no banner, so only its log can tell.
        probe.tell(f"tcp 192.0.2.34 {self.proxy.port}")
        self.proxy.wait_connections(2)
        self.assertEqual(bytes(self.proxy.connections[1].handshake), b"")


class DirectByName(Routes):
    """Direct behind a synthetic address: the agent resolves the name, and tries what it finds."""

    def start_by_port(self):
        self.start_probe(more="ports: [443]", log="debug")

    def test_an_unknown_name(self):
        self.start_by_port()
        for name in ("unknown.example", "empty.example"):
            for how in HOWS:
                self.assertEqual(self.probe.ask(f"tcp {name} 5432 {how}"), "EHOSTUNREACH")
            self.assertRegex(self.probe.log, rf"event=connect_failed .*target={name}:5432 via=direct errno=EHOSTUNREACH")

    def test_the_next_address_is_tried(self):
        self.start_by_port()
        self.assert_direct("refuses-first.example", 5432)

    def test_every_address_refuses(self):
        self.start_by_port()
        for how in HOWS:
            self.assertEqual(self.probe.ask(f"tcp refuses.example 5432 {how}"), "ECONNREFUSED")

    def test_a_name_server_that_fails(self):
        self.start_by_port()
        self.dns.broken.add("broken.example")
        self.addCleanup(self.dns.broken.clear)
        self.assertEqual(self.probe.ask("tcp broken.example 5432"), "EHOSTUNREACH")

    def test_a_name_server_that_is_silent(self):
        self.start_probe(more="ports: [443]\nconnectTimeout: 1s", log="debug")
        self.dns.silent.add("silent.example")
        self.addCleanup(self.dns.silent.clear)
        for how in HOWS:
            self.assertEqual(self.probe.ask(f"tcp silent.example 5432 {how}"), "ETIMEDOUT")
        self.assertIn("through the proxy", self.probe.ask(f"tcp {TUNNELLED} 443"))

    def test_the_hosts_file_comes_first(self):
        self.start_by_port()
        # The program finds it there, too: what the agent reads itself shows in a name that comes later.
        address = self.probe.ask("gai later.example type=stream").split("/")[3].partition(":")[0]
        netns.hosts("127.0.0.81 later.example\n")
        self.assertRegex(self.probe.ask(f"tcp {address} 5432"), rf"^OK {V4}:5432 direct$")
        self.assertEqual(self.dns.queries, [])

    def test_ipv6_sockets(self):
        self.start_by_port()
        self.assertRegex(self.probe.ask(f"tcp {BOTH} 5432 family=inet6"), r"^OK \[fd74:[0-9a-f:]+\]:5432 direct$")
        self.assertRegex(self.probe.ask(f"tcp {BOTH} 443 family=inet6"), r"^OK \[fd74:[0-9a-f:]+\]:443 through the proxy$")


class LocalDns(Routes):
    def test_the_program_resolves_and_the_proxy_gets_the_name(self):
        self.dns.records["outside.example"] = ["192.0.2.81"]
        self.proxy.names["outside.example"] = ("127.0.0.80", 0)
        self.start_probe(more="dns: local")
        self.assert_tunnelled("outside.example", 80, r"192\.0\.2\.81")
        self.assertEqual(self.dns.asked(), {"outside.example"})

    def test_by_the_older_functions_too(self):
        self.proxy.names["outside.example"] = ("127.0.0.80", 0)
        self.start_probe(more="dns: local")
        for number, command in enumerate(("hbn outside.example", "hbn outside.example room=500",
                                          "hbn outside.example family=inet room=500")):
            self.assertIn("192.0.2.81", self.probe.ask(command))
            self.assertIn("through the proxy", self.probe.ask("tcp 192.0.2.81 80"))
            self.assertEqual(self.proxy.targets(), ["outside.example:80"] * (number + 1))
            self.proxy.names["192.0.2.81"] = ("127.0.0.80", 0)

    def test_a_name_that_nobody_knows_here(self):
        self.start_probe(more="dns: local")
        self.assertEqual(self.probe.ask(f"tcp {TUNNELLED} 80"), "NONAME")
        self.assertEqual(self.proxy.connections, [])


class Nowhere(Routes):
    def test_a_synthetic_address_that_stands_for_no_name(self):
        self.start_probe(log="debug")
        for address in ("198.18.255.1", "198.18.0.0", "198.19.255.255", "fd74:6f77:7061:7468::ffff",
                        "fd74:6f77:7061:7468:ffff::1", "::ffff:198.18.255.1"):
            for how in HOWS:
                with self.subTest(address, how=how):
                    self.assertEqual(self.probe.ask(f"tcp {address} 80 {how}"), "EHOSTUNREACH")
        self.assertIn("target=198.18.255.1:80", self.probe.log)
        self.assertEqual(self.proxy.connections, [])

    def test_datagrams_for_a_name_stay_here(self):
        self.start_probe()
        for name in (TUNNELLED, "198.18.255.1", "fd74:6f77:7061:7468::ffff", "::ffff:198.18.255.1"):
            for how in ("connect", "sendto", "sendmsg"):
                for family in ("inet", "inet6"):
                    if (":" in name) == (family == "inet6") or name == TUNNELLED:
                        with self.subTest(name, how=how, family=family):
                            self.assertEqual(self.probe.ask(f"udp {name} 443 how={how} family={family}"), "ENETUNREACH")

    def test_datagrams_for_others_are_untouched(self):
        self.start_probe(exempt=EXEMPT)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.bind(("127.0.0.81", 0))
            receiver.settimeout(proc.scaled(10))
            for how in ("connect", "sendto", "sendmsg"):
                self.assertEqual(self.probe.ask(f"udp {EXEMPT} {receiver.getsockname()[1]} how={how}"), "OK")
                self.assertEqual(receiver.recv(10), b"x")


class OverSocks(Exempt, Ports):
    kind = "socks5"


if __name__ == "__main__":
    main()
