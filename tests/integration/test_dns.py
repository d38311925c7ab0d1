# suite: quick
"""Programs that send DNS questions themselves: dig, node, a raw socket, and what they must never let out."""

import os
import re
import socket
import struct
import threading

from lab import netns
from lab.asking import EXEMPT, NAME, PUBLIC, SYNTHETIC, DnsCase
from lab.case import PROBES, main
from lab.dns import Dns

NODE = r"""
const dns = require("dns")
const http = require("http")
const name = process.argv[1], server = process.argv[2]
const resolver = new dns.promises.Resolver({ timeout: 3000, tries: 2 })
if (server) resolver.setServers([server])
const show = (what, promise) => promise.then(found => console.log(what, JSON.stringify(found)),
                                             error => console.log(what, error.code))
;(async () => {
  await show("a", resolver.resolve4(name))
  await show("aaaa", resolver.resolve6(name))
  await show("txt", resolver.resolveTxt("text.exempt.example"))
  const addresses = await resolver.resolve4(name).catch(() => [])
  if (addresses.length) await show("ptr", resolver.reverse(addresses[0]))
  if (process.argv[3]) {
    const lookup = (host, options, done) => resolver.resolve4(host).then(
      found => options.all ? done(null, found.map(address => ({ address, family: 4 }))) : done(null, found[0], 4), done)
    http.get({ host: name, port: Number(process.argv[3]), path: "/node", lookup, agent: false },
             answer => answer.pipe(process.stdout)).on("error", error => { console.error(error); process.exit(1) })
  }
})()
"""


class RawSockets(DnsCase):
    def test_the_bare_twin_asks_the_name_server(self):
        out = self.ask("127.0.0.1", NAME, run=self.bare)
        self.assertIn("rcode 3", out)
        self.assertTrue(self.dns.asked(NAME))

    def test_a_name_that_may_be_tunnelled_is_answered_here(self):
        for server in ("127.0.0.1", PUBLIC, "2001:db8::53", "198.51.100.9"):
            for more in ((), ("connect",)):
                with self.subTest(server=server, more=more):
                    out = self.ask(server, NAME, 1, *more)
                    self.assertRegex(out, f"record 1 {SYNTHETIC}")
                    self.assertIn(f"source {server} 53\n", out)
                    if more:
                        self.assertIn(f"peer {server} 53\n", out)
        self.assert_not_asked()

    def test_no_synthetic_ipv6_and_no_hints_past_the_address(self):
        for kind in (28, 64, 65, 255):
            with self.subTest(kind=kind):
                out = self.ask(PUBLIC, NAME, kind)
                self.assertIn("rcode 0", out)
                self.assertNotIn("record", out)
        self.assert_not_asked()

    def test_exempt_names_are_the_name_servers_business(self):
        self.assertIn("record 1 127.0.0.81", self.ask("127.0.0.1", EXEMPT))
        self.assertIn("record 28 2001:db8::81", self.ask(PUBLIC, EXEMPT, 28))
        self.assertIn("rcode 3", self.ask("127.0.0.1", "nobody.exempt.example"))
        self.assertTrue(self.dns.asked(EXEMPT))

    def test_other_types_are_passed_on(self):
        self.assertIn(b"text of text.exempt.example".hex(), self.ask("127.0.0.1", "text.exempt.example", 16))

    def test_a_name_that_is_no_host_name(self):
        self.assertIn("rcode 3", self.ask("127.0.0.1", "a b.example"))
        self.assertFalse(self.dns.queries)

    def test_dns_local_passes_everything_on(self):
        self.proxy_values(self.proxy.url, exempt="exempt.example", more="dns: local")
        self.assertIn("rcode 3", self.ask("127.0.0.1", NAME))
        self.assertTrue(self.dns.asked(NAME))

    def test_a_server_that_is_exempt_and_not_the_machines_is_left_alone(self):
        other = self.use(Dns({NAME: ["127.0.0.99"]}, address="127.0.0.2"))
        self.assertIn("record 1 127.0.0.99", self.ask("127.0.0.2", NAME))
        self.assertTrue(other.asked(NAME))

    def test_several_servers_from_one_socket(self):
        program = """
import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
def query(number):
    return struct.pack("!HHHHHH", number, 0x100, 1, 0, 0, 0) + b"\\x01%c\\x07example\\0\\0\\x01\\0\\x01" % (97 + number)
servers = ["192.0.2.%d" % (10 + i) for i in range(8)]
for number, server in enumerate(servers):
    s.sendto(query(number), (server, 53))
for _ in servers:
    reply, source = s.recvfrom(512)
    assert source == (servers[reply[1]], 53), (reply, source)
parts = [query(9)]
s.sendmsg(parts, [], 0, ("192.0.2.20", 53))
data, _, _, source = s.recvmsg(512)
assert source == ("192.0.2.20", 53), source
print("all from where they were asked")
"""
        self.assertIn("all from", self.assert_ran(self.towpath("/usr/bin/python3", "-c", program)).out)
        self.assertFalse(self.dns.queries)

    def test_a_child_that_inherits_the_socket(self):
        program = """
import os, socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(5)
query = struct.pack("!HHHHHH", 1, 0x100, 1, 0, 0, 0) + b"\\x01a\\x07example\\0\\0\\x01\\0\\x01"
s.connect(("192.0.2.1", 53))
if os.fork() == 0:
    s.send(query)
    print("child", *s.recvfrom(512)[1], *s.getpeername(), flush=True)
    os._exit(0)
os.wait()
"""
        out = self.assert_ran(self.towpath("/usr/bin/python3", "-c", program)).out
        self.assertIn("child 192.0.2.1 53 192.0.2.1 53", out)


class Programs(DnsCase):
    def test_dig(self):
        for server in ((), (f"@{PUBLIC}",), ("@2001:db8::53",), ("+tcp",), (f"@{PUBLIC}", "+tcp"), ("@2001:db8::53", "+tcp")):
            with self.subTest(server=server):
                out = self.dig(*server, NAME, "A")
                self.assertIn("status: NOERROR", out)
                self.assertRegex(out, rf"{NAME}\.\s+\d\s+IN\s+A\s+{SYNTHETIC}")
                self.assertNotIn("WARNING", out)
                address = re.search(rf"\sA\s+({SYNTHETIC})", out).group(1)
                self.assertRegex(self.dig(*server, NAME, "A", "-x", address), rf"PTR\s+{NAME}\.")
                for kind in ("AAAA", "HTTPS", "SVCB", "ANY"):
                    out = self.dig(*server, NAME, kind)
                    self.assertIn("status: NOERROR", out)
                    self.assertIn("ANSWER: 0", out)
                self.assertRegex(self.dig(*server, EXEMPT, "A"), r"A\s+127\.0\.0\.81")
                self.assertRegex(self.dig(*server, "text.exempt.example", "TXT"), "text of text.exempt.example")
                if server and server[0].startswith("@"):
                    self.assertIn(f";; SERVER: {server[0][1:]}#53", self.dig(*server, NAME))
        self.assertIn("status: NXDOMAIN", self.dig("-x", "198.18.255.254"))
        self.assert_not_asked()

    def test_node(self):
        for server in ("", PUBLIC):
            with self.subTest(server=server):
                out = self.assert_ran(self.towpath(self.need("node"), "-e", NODE, NAME, server, str(self.origin.port))).out
                self.assertRegex(out, rf'a \["{SYNTHETIC}"\]')
                self.assertIn("aaaa ENODATA", out)
                self.assertIn('txt [["text of text.exempt.example"]]', out)
                self.assertIn(f'ptr ["{NAME}"]', out)
                self.assertIn("path=/node", out)
        self.assert_not_asked()
        self.assertIn(f"{NAME}:{self.origin.port}", self.proxy.targets())

    def test_node_finds_exempt_names_and_they_stay_exempt(self):
        before = len(self.proxy.connections)
        out = self.assert_ran(self.towpath(self.need("node"), "-e", NODE, EXEMPT)).out
        self.assertIn('a ["127.0.0.81"]', out)
        self.assertIn('aaaa ["2001:db8::81"]', out)
        self.assertEqual(len(self.proxy.connections), before)

    def test_the_resolver_inside_libc(self):
        for flavour in ("", "musl"):
            with self.subTest(libc=flavour or "glibc"):
                probe = self.need(os.path.join(PROBES, flavour, "res_query"))
                self.assertRegex(self.assert_ran(self.towpath(probe, NAME, "1")).out, f"a={SYNTHETIC}")
                self.assertIn("aaaa=2001:db8::81", self.assert_ran(self.towpath(probe, EXEMPT, "28")).out)
                self.assertIn("txt=text of text", self.assert_ran(self.towpath(probe, "text.exempt.example", "16")).out)
                self.assertIn("h_errno=4", self.assert_ran(self.towpath(probe, NAME, "28"), 1).out)
                self.assertIn("h_errno=1", self.assert_ran(self.towpath(probe, "nobody.exempt.example", "1"), 1).out)
                self.assert_not_asked()
                self.assertIn("h_errno=1", self.assert_ran(self.bare(probe, NAME, "1"), 1).out)
                self.dns.queries.clear()


class SearchDomains(DnsCase):
    """What a resolver makes of a name with the search list of a cluster."""

    records = {"db.corp.example": ["192.0.2.1"], "six.corp.example": ["2001:db8::1"], "db.svc.exempt.example": ["127.0.0.83"]}

    def setUp(self):
        super().setUp()
        self.addCleanup(netns.resolv_conf)
        netns.resolv_conf("search svc.exempt.example corp.example silent.example\nnameserver 127.0.0.1\noptions ndots:5\n")

    def test_a_candidate_that_does_not_exist_is_said_not_to(self):
        for kind in (1, 28):
            self.assertIn("rcode 3", self.ask("127.0.0.1", f"{NAME}.corp.example", kind))
        self.assertTrue(self.dns.asked(f"{NAME}.corp.example"))
        self.assertRegex(self.ask("127.0.0.1", NAME), f"record 1 {SYNTHETIC}")
        self.assert_not_asked()

    def test_a_candidate_that_exists_is_tunnelled_by_name(self):
        self.assertRegex(self.ask("127.0.0.1", "db.corp.example"), f"record 1 {SYNTHETIC}")
        out = self.ask("127.0.0.1", "db.corp.example", 28)
        self.assertIn("rcode 0", out)
        self.assertNotIn("record", out)
        self.assertRegex(self.ask("127.0.0.1", "six.corp.example"), f"record 1 {SYNTHETIC}")

    def test_a_candidate_that_is_exempt_is_passed_on(self):
        self.assertIn("record 1 127.0.0.83", self.ask("127.0.0.1", "db.svc.exempt.example"))

    def test_silence_is_no(self):
        self.dns.silent.add("db.silent.example")
        self.addCleanup(self.dns.silent.clear)
        self.assertIn("rcode 3", self.ask("127.0.0.1", "db.silent.example"))

    def test_the_resolver_inside_glibc_searches(self):
        probe = os.path.join(PROBES, "res_query")
        self.assertIn("a=127.0.0.83", self.assert_ran(self.towpath(probe, "db", "1", "search")).out)
        self.assertRegex(self.assert_ran(self.towpath(probe, NAME, "1", "search")).out, f"a={SYNTHETIC}")
        self.assert_not_asked()


class LongAnswers(DnsCase):
    """A name server whose UDP answers are cut off."""

    def setUp(self):
        super().setUp()
        self.asked = []
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.3", 53))
        self.tcp = socket.create_server(("127.0.0.3", 53))
        self.addCleanup(self.udp.close)
        self.addCleanup(self.tcp.close)
        self.addCleanup(self.tcp.shutdown, socket.SHUT_RDWR)
        threading.Thread(target=self.serve_udp, daemon=True).start()
        threading.Thread(target=self.serve_tcp, daemon=True).start()
        self.addCleanup(netns.resolv_conf)
        netns.resolv_conf("nameserver 127.0.0.4\nnameserver 127.0.0.3\n")  # nobody at the first

    def serve_udp(self):
        while True:
            try:
                query, peer = self.udp.recvfrom(4096)
            except OSError:
                return
            self.asked.append("udp")
            end = query.index(b"\0", 12) + 5
            self.udp.sendto(query[:2] + struct.pack("!HHHHH", 0x8380, 1, 0, 0, 0) + query[12:end], peer)

    def serve_tcp(self):
        while True:
            try:
                client, _ = self.tcp.accept()
            except OSError:
                return
            with client, client.makefile("rb") as stream:
                query = stream.read(struct.unpack("!H", stream.read(2))[0])
                self.asked.append("tcp")
                end = query.index(b"\0", 12) + 5
                record = struct.pack("!HHHIH", 0xC00C, 16, 1, 60, 201) + b"\xc8" + b"t" * 200
                reply = query[:2] + struct.pack("!HHHHH", 0x8180, 1, 20, 0, 0) + query[12:end] + record * 20
                framed = struct.pack("!H", len(reply)) + reply
                client.sendall(framed[:1000])
                client.sendall(framed[1000:])

    def test_they_are_fetched_whole_and_the_next_server_is_asked(self):
        out = self.dig("long.exempt.example", "TXT")
        self.assertEqual(out.count("t" * 200), 20)
        # dig sees the truncation and comes again by TCP, where the answer is fetched for it.
        self.assertEqual(self.asked, ["udp", "udp", "tcp"])


if __name__ == "__main__":
    main()
