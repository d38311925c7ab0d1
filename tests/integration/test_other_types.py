# suite: quick
"""Questions of other types than addresses: the names in them stay here as well, unless the configuration lets them go."""

import os

from lab.asking import EXEMPT, NAME, PUBLIC, SYNTHETIC, DnsCase
from lab.case import PROBES, main

SERVICE = f"_http._tcp.{NAME}"
OTHERS = {"NS": 2, "SOA": 6, "MX": 15, "TXT": 16, "SRV": 33, "NAPTR": 35, "DS": 43, "DNSKEY": 48, "CAA": 257}
FAR = "9.113.0.203.in-addr.arpa"
FAR_SIX = "1." + "0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa"


class Empty(DnsCase):
    def assert_empty(self, out):
        self.assertIn("rcode 0", out)
        self.assertNotIn("record", out)

    def test_the_bare_twin_asks_the_name_server(self):
        for name, kind in ((NAME, 15), (SERVICE, 33), (FAR, 12)):
            self.ask("127.0.0.1", name, kind, run=self.bare)
            self.assertTrue(self.dns.asked(name))

    def test_every_type_of_a_proxied_name_is_empty(self):
        for name in (NAME, SERVICE, f"_dmarc.{NAME}", "0/25.2.0.192.in-addr.arpa", "113.0.203.in-addr.arpa"):
            for kind, number in OTHERS.items():
                with self.subTest(name=name, kind=kind):
                    self.assert_empty(self.ask("127.0.0.1", name, number))
        self.assertEqual(self.dns.queries, [])

    def test_whichever_server_is_asked(self):
        for server in (PUBLIC, "2001:db8::53"):
            self.assert_empty(self.ask(server, SERVICE, 33))
            self.assert_empty(self.ask(server, SERVICE, 33, "connect"))
        self.assertEqual(self.dns.queries, [])

    def test_pointers_of_addresses_that_would_be_proxied(self):
        for name in (FAR, FAR_SIX):
            self.assert_empty(self.ask("127.0.0.1", name, 12))
        self.assertEqual(self.dns.queries, [])
        self.proxy_values(self.proxy.url, exempt="203.0.113.0/24")
        for name in (FAR, "9.0.0.127.in-addr.arpa", "2.0.77.10.in-addr.arpa"):  # the last one is this machine's own
            self.assertIn("rcode 3", self.ask("127.0.0.1", name, 12))
            self.assertTrue(self.dns.asked(name))

    def test_exempt_names_are_the_name_servers_business(self):
        for name, kind in (("text.exempt.example", 16), (f"_http._tcp.{EXEMPT}", 33), ("exempt.example", 15)):
            self.ask("127.0.0.1", name, kind)
            self.assertTrue(self.dns.asked(name), name)

    def test_a_service_of_a_host_that_is_exempt_by_itself(self):
        self.proxy_values(self.proxy.url, exempt="<local>")
        self.ask("127.0.0.1", "_ldap._tcp.directory", 33)
        self.assertTrue(self.dns.asked("_ldap._tcp.directory"))

    def test_forward_and_local_let_them_go(self):
        for more in ("dnsOtherTypes: forward", "dns: local"):
            with self.subTest(more=more):
                self.proxy_values(self.proxy.url, exempt="exempt.example", more=more)
                for name, kind in ((NAME, 15), (SERVICE, 33), (FAR, 12)):
                    self.assertIn("rcode 3", self.ask("127.0.0.1", name, kind))
                    self.assertTrue(self.dns.asked(name))
                self.dns.queries.clear()

    def test_the_root_carries_no_name(self):
        self.ask("127.0.0.1", "", 2)
        self.assertTrue(self.dns.queries)


class Programs(DnsCase):
    def test_dig(self):
        for more in ((), ("+tcp",), (f"@{PUBLIC}",), (f"@{PUBLIC}", "+tcp")):
            for kind in OTHERS:
                out = self.dig(*more, SERVICE, kind)
                self.assertIn("status: NOERROR", out)
                self.assertIn("ANSWER: 0", out)
                self.assertNotIn("WARNING", out)
        self.assertEqual(self.dns.queries, [])

    def test_host_goes_on(self):
        out = self.assert_ran(self.towpath(self.need("host"), NAME)).out
        self.assertRegex(out, f"has address {SYNTHETIC}")
        self.assertEqual(self.dns.queries, [])

    def test_node(self):
        script = """
const dns = require("dns").promises
const show = found => found.then(x => console.log(JSON.stringify(x)), error => console.log(error.code))
;(async () => {
  await show(dns.resolveSrv("_http._tcp." + process.argv[1]))
  await show(dns.resolveMx(process.argv[1]))
  await show(dns.reverse("203.0.113.9"))
})()"""
        out = self.assert_ran(self.towpath(self.need("node"), "-e", script, NAME)).out
        self.assertEqual(out.split(), ["ENODATA", "ENODATA", "ENOTFOUND"])
        self.assertEqual(self.dns.queries, [])

    def test_the_resolver_inside_libc(self):
        for flavour in ("", "musl"):
            with self.subTest(libc=flavour or "glibc"):
                probe = self.need(os.path.join(PROBES, flavour, "res_query"))
                for name, kind in ((SERVICE, 33), (NAME, 15), (FAR, 12)):
                    self.assertIn("h_errno=4", self.assert_ran(self.towpath(probe, name, str(kind)), 1).out)
                self.assertEqual(self.dns.queries, [])
                self.assertIn("txt=text of text", self.assert_ran(self.towpath(probe, "text.exempt.example", "16")).out)
                self.proxy_values(self.proxy.url, exempt="exempt.example", more="dnsOtherTypes: forward")
                self.assertIn("h_errno=1", self.assert_ran(self.towpath(probe, SERVICE, "33"), 1).out)
                self.assertTrue(self.dns.asked(SERVICE))
                self.dns.queries.clear()
                self.proxy_values(self.proxy.url, exempt="exempt.example")


if __name__ == "__main__":
    main()
