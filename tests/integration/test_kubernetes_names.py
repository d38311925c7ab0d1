# suite: quick
"""Search domains, as a pod has them: what may be exempt is asked for here, in libc's order, and nothing else is."""

from lab import netns
from lab.case import LabCase, main
from lab.names_probe import NamesProbe
from lab.origin import RawOrigin
from lab.proxy import Proxy

POD = "nameserver 127.0.0.1\nsearch ns.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
SEARCH = ["ns.svc.cluster.local", "svc.cluster.local", "cluster.local"]
V4 = r"198\.1[89]\.\d+\.\d+"


def below(name, *domains):
    return {f"{name}.{domain}" for domain in domains}


class Pod(LabCase):
    records = {"db.ns.svc.cluster.local": ["127.0.0.81"], "db.other.svc.cluster.local": ["127.0.0.82"],
               "plain": ["127.0.0.83"], "proxy.ns.svc.cluster.local": ["192.0.2.33"], "db.corp.example": ["127.0.0.84"]}
    libc = "glibc"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for address in ("127.0.0.81", "127.0.0.82", "127.0.0.83", "127.0.0.84"):
            cls.start(RawOrigin(address, 5432, f"direct {address}\n".encode()))
        cls.start(RawOrigin("127.0.0.80", 5432, b"through the proxy\n"))

    def setUp(self):
        super().setUp()
        self.addCleanup(netns.resolv_conf)
        netns.resolv_conf(POD)
        beyond = ("127.0.0.80", 0)
        names = ("db", "db.other", "github.com", "plain", "api.github.com", "db.ns.svc.cluster.local", "db.corp.example")
        self.proxy = self.use(Proxy("http", {name: beyond for name in names}))

    def start_probe(self, exempt, more=""):
        self.proxy_values(self.proxy.url, exempt, more)
        self.probe = self.use(NamesProbe(self, self.libc))

    def assert_direct(self, name, address, shown=None):
        self.assertRegex(self.probe.ask(f"tcp {name} 5432 family=inet"), rf"^OK {shown or address}:5432 direct {address}$")
        self.assertEqual(self.proxy.targets(), [])

    def assert_tunnelled(self, name, target=None):
        self.assertRegex(self.probe.ask(f"tcp {name} 5432 family=inet"), rf"^OK {V4}:5432 through the proxy$")
        self.assertEqual(self.proxy.targets(), [f"{target or name}:5432"])
        self.proxy.connections.clear()

    def assert_asked(self, names):
        self.assertEqual(self.dns.asked(), set(names))
        self.dns.queries.clear()


class ClusterExempt(Pod):
    def setUp(self):
        super().setUp()
        self.start_probe("cluster.local")

    def test_a_service_of_the_own_namespace(self):
        self.assert_direct("db", "127.0.0.81")
        self.assert_asked(["db.ns.svc.cluster.local"])

    def test_a_service_of_another_namespace(self):
        self.assert_direct("db.other", "127.0.0.82")
        self.assert_asked(below("db.other", *SEARCH[:2]))

    def test_its_full_name(self):
        for name in ("db.ns.svc.cluster.local.", "DB.ns.svc.Cluster.Local."):
            self.assert_direct(name, "127.0.0.81")
            self.assert_asked(["db.ns.svc.cluster.local"])

    def test_by_the_older_functions(self):
        for room in ("", " room=500"):
            self.assertIn("inet/4 127.0.0.81", self.probe.ask(f"hbn db{room}"))
            self.assertRegex(self.probe.ask(f"hbn github.com{room}"), rf"^OK github.com inet/4 {V4}$")
        self.assertEqual(self.probe.ask("hbn db room=8").split()[-1], "ERANGE")
        self.assertNotIn("github.com", self.dns.asked())

    def test_a_name_of_the_internet_goes_to_the_proxy_as_it_was_written(self):
        self.assert_tunnelled("github.com")
        self.assert_asked(below("github.com", *SEARCH))

    def test_a_final_dot_ends_the_search(self):
        self.assert_tunnelled("github.com.", "github.com")
        self.assert_asked([])

    def test_names_with_enough_dots_are_not_searched_for(self):
        self.proxy.names["a.b.c.d.e.github.com"] = ("127.0.0.80", 0)
        self.assert_tunnelled("a.b.c.d.e.github.com")
        self.assert_asked([])

    def test_a_name_server_that_fails_does_not_keep_the_internet_away(self):
        self.dns.broken |= below("github.com", *SEARCH)
        self.addCleanup(self.dns.broken.clear)
        self.assert_tunnelled("github.com")

    def test_a_silent_name_server_is_waited_for_once(self):
        netns.resolv_conf(POD + "options timeout:1 attempts:2\n")
        self.dns.silent |= below("github.com", *SEARCH)
        self.addCleanup(self.dns.silent.clear)
        self.assert_tunnelled("github.com")
        self.assert_asked(below("github.com", SEARCH[0]))
        self.assertRegex(self.probe.ask("hbn github.com"), rf"^OK github.com inet/4 {V4}$")
        self.assertRegex(self.probe.ask("hbn github.com room=500"), rf"^OK github.com inet/4 {V4}$")
        self.assert_asked(below("github.com", SEARCH[0]))

    def test_a_service_without_an_address_of_the_family_is_not_the_proxys(self):
        self.assertIn(self.probe.ask("gai db family=inet6"), ("NODATA", "NONAME"))
        for room in ("", " room=500"):
            self.assertEqual(self.probe.ask(f"hbn db family=inet6{room}"), "NO_DATA")
        self.assertRegex(self.probe.ask("gai github.com family=inet6 type=stream"), r"^OK inet6/stream/6/\[fd74:")

    def test_the_canonical_name_is_the_clusters(self):
        answer = self.probe.ask("gai db flags=canonname type=stream family=inet")
        self.assertRegex(answer, r"/127\.0\.0\.81:0/db\.ns\.svc\.cluster\.local\.?$")


class ClusterExemptWithMusl(ClusterExempt):
    libc = "musl"


class ClusterNotExempt(Pod):
    def test_nothing_is_asked(self):
        self.start_probe("example.com")
        for name in ("db", "db.other", "github.com"):
            self.assert_tunnelled(name)
        self.assert_tunnelled("db.ns.svc.cluster.local.", "db.ns.svc.cluster.local")
        self.assert_asked([])

    def test_only_the_exempt_ones_of_several_search_domains(self):
        netns.resolv_conf("nameserver 127.0.0.1\nsearch other.example svc.cluster.local third.example\noptions ndots:5\n")
        self.start_probe("cluster.local")
        self.assert_direct("db.other", "127.0.0.82")
        self.assert_tunnelled("github.com")
        self.assert_asked(["db.other.svc.cluster.local", "github.com.svc.cluster.local"])


class Otherwise(Pod):
    def test_local_names(self):
        self.start_probe("<local>")
        # As libc finds them, which is through the search list.
        self.assert_direct("db", "127.0.0.81")
        self.assert_direct("plain", "127.0.0.83")
        self.assert_asked({"db.ns.svc.cluster.local", *below("plain", *SEARCH), "plain"})
        self.assert_tunnelled("github.com")
        self.assert_asked([])

    def test_a_resolv_conf_that_changes(self):
        netns.resolv_conf()
        self.start_probe("cluster.local,corp.example")
        self.assert_tunnelled("db")
        self.assert_asked([])
        netns.resolv_conf(POD)
        self.assert_direct("db", "127.0.0.81")
        self.assert_asked(["db.ns.svc.cluster.local"])
        netns.resolv_conf("nameserver 127.0.0.1\nsearch corp.example\n")
        self.assert_direct("db", "127.0.0.84")
        netns.resolv_conf()
        self.assert_tunnelled("db")

    def test_direct_by_port_is_found_through_the_search_list_too(self):
        self.start_probe("", more="ports: [443]")
        self.assert_direct("db", "127.0.0.81", shown=V4)
        self.assert_asked(["db.ns.svc.cluster.local"])

    def test_the_proxy_itself_has_a_short_name(self):
        netns.add_address("192.0.2.33/32")
        self.addCleanup(netns.drop_address, "192.0.2.33/32")
        self.proxy = self.use(Proxy("http", {"github.com": ("127.0.0.80", 0)}, address="192.0.2.33"))
        for host in ("proxy", "proxy.ns.svc.cluster.local", "proxy.ns"):
            self.dns.records["proxy.ns.svc.cluster.local"] = ["192.0.2.33"]
            with self.subTest(host):
                self.proxy_values(f"http://{host}:{self.proxy.port}")
                self.probe = self.use(NamesProbe(self))
                self.assert_tunnelled("github.com")
                # The program may know it by the same name: direct, to where the search list leads.
                self.probe.tell(f"tcp {host} {self.proxy.port}")
                self.proxy.wait_connections(1)
                self.assertEqual(bytes(self.proxy.connections[0].handshake), b"")
                self.proxy.connections.clear()


if __name__ == "__main__":
    main()
