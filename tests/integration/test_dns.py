# suite: quick
"""Programs that send DNS questions themselves: dig, node, a raw socket, and what they must never let out."""

import os
import re
import socket
import struct

from lab import netns, proc
from lab.case import PROBES, LabCase, main
from lab.dns import Dns
from lab.origin import Origin
from lab.proxy import Proxy

NAME = "tunnelled.example"
EXEMPT = "inside.exempt.example"
SERVERS = ("127.0.0.1",)
PUBLIC = "192.0.2.53"  # nobody is there: a question that reaches the wire is a packet at the default route
SYNTHETIC = r"198\.1[89]\.\d+\.\d+"

# argv: server port name type [connect]; prints rcode, addresses, the source of the answer, the peer
ASK = r"""
import socket, struct, sys
server, port, name, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
connected = len(sys.argv) > 5
family = socket.AF_INET6 if ":" in server else socket.AF_INET
query = struct.pack("!HHHHHH", 0x4242, 0x0100, 1, 0, 0, 0) + b"".join(
    bytes([len(label)]) + label.encode() for label in name.split(".") if label) + b"\0" + struct.pack("!HH", kind, 1)
s = socket.socket(family, socket.SOCK_DGRAM)
s.settimeout(5)
if connected:
    s.connect((server, port))
    print("peer", *s.getpeername()[:2])
    s.send(query)
else:
    s.sendto(query, (server, port))
reply, source = s.recvfrom(4096)
assert reply[:2] == query[:2] and reply[12:len(query)] == query[12:], reply
print("source", *source[:2])
print("rcode", reply[3] & 15)
at = len(query)
for _ in range(struct.unpack_from("!H", reply, 6)[0]):
    at += 2
    found, _, _, size = struct.unpack_from("!HHIH", reply, at)
    at += 10
    data = reply[at:at + size]
    at += size
    print("record", found, socket.inet_ntop(socket.AF_INET6 if size == 16 else socket.AF_INET, data)
          if found in (1, 28) else data.hex())
"""

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


class TextDns(Dns):
    """Also knows TXT, and names whose answer does not fit into a datagram."""

    def _answer(self, query):
        reply = super()._answer(query)
        name, kind = self.queries[-1]
        if reply and kind == "16" and name in self.records:
            end = query.index(b"\0", 12) + 5
            text = f"text of {name}".encode()
            record = struct.pack("!HHHIH", 0xC00C, 16, 1, 60, len(text) + 1) + bytes([len(text)]) + text
            reply = query[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0) + query[12:end] + record
        return reply


class DnsCase(LabCase):
    records = {EXEMPT: ["127.0.0.81", "2001:db8::81"], "text.exempt.example": ["127.0.0.82"]}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.dns.stop()
        cls.dns = cls.start(TextDns(cls.records))
        cls.origin = cls.start(Origin("127.0.0.80"))
        cls.proxy = cls.start(Proxy(names={NAME: ("127.0.0.80", cls.origin.port)}))

    def setUp(self):
        super().setUp()
        self.proxy_values(self.proxy.url, exempt="exempt.example")

    def ask(self, server, name, kind=1, *more, port=53, run=None, code=0):
        command = ("/usr/bin/python3", "-c", ASK, server, port, name, kind, *more)
        return self.assert_ran((run or self.towpath)(*map(str, command)), code).out

    def dig(self, *arguments, code=0):
        return self.assert_ran(self.towpath(self.need("dig"), "+time=3", "+tries=1", *arguments), code).out

    def assert_not_asked(self, name=NAME):
        self.assertFalse(self.dns.asked(name), "the question reached the name server")


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


class Strangers(DnsCase):
    """The name service of a tree answers its own tree, and survives everybody."""

    SLEEPER = ASK + "\nimport time\nprint('ready', flush=True)\ntime.sleep(60)\n"

    def doors(self):
        """The name service's ports: every UDP and TCP port on 127.0.0.1 but those of the lab."""
        found = {}
        for kind in ("udp", "tcp"):
            with open(f"/proc/self/net/{kind}") as table:
                rows = [line.split() for line in table.readlines()[1:]]
            found[kind] = {int(row[1].split(":")[1], 16) for row in rows
                           if row[1].startswith("0100007F:") and (kind == "udp" or row[3] == "0A")}
        return found["udp"], found["tcp"]

    def sleeper(self):
        from lab.case import TOWPATH
        before = self.doors()
        tcp = ASK.replace("reply, source = s", "t = socket.create_connection((server, 53)); t.close()\nreply, source = s")
        self.spawn("sleeper", TOWPATH, "run", "-c", self.config, "--", "/usr/bin/python3", "-c",
                   self.SLEEPER.replace(ASK, tcp), PUBLIC, "53", NAME, "1").wait_line("^ready")
        after = self.doors()
        return [new - old for new, old in zip(after, before)]

    def test_another_user_gets_no_answer(self):
        udp, tcp = self.sleeper()
        self.assertEqual(len(udp), 1)
        self.assertEqual(len(tcp), 1)
        program = """
import socket, struct, sys
query = struct.pack("!HHHHHH", 1, 0x100, 1, 0, 0, 0) + b"\\x06inside\\x06exempt\\x07example\\0\\0\\x01\\0\\x01"
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(0.5)
s.connect(("127.0.0.1", int(sys.argv[1])))
s.send(query)
try:
    print("answered", s.recv(512))
except TimeoutError:
    print("silence")
t = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
try:
    t.send(struct.pack("!H", len(query)) + query)
    print("tcp", t.recv(512))
except ConnectionError:
    print("tcp", b"")
"""
        for user in ("65534", "0"):
            out = self.assert_ran(self.bare("setpriv", "--reuid", user, "--clear-groups", "/usr/bin/python3", "-c", program,
                                            *map(str, (*udp, *tcp)))).out
            self.assertIn("silence", out)
            self.assertIn("tcp b''", out)
        self.assertFalse(self.dns.queries)

    def test_hostile_packets(self):
        program = ASK.replace("query = struct", """
import random
random.seed(7)
def send(packet):
    s.sendto(packet, (server, port))
good = struct.pack("!HHHHHH", 1, 0x0100, 1, 0, 0, 0) + b"\\x01a\\x07example\\0\\0\\x01\\0\\x01"
for cut in range(len(good)):
    send(good[:cut])
send(b"")
send(good[:12] + b"\\xc0\\x0c" + good[-4:])
send(good[:12] + b"\\xc0\\xff" + good[-4:])
send(good[:12] + b"\\x3f" * 300)
send(good[:2] + b"\\x81\\x80" + good[4:])
send(good + b"x" * 60000)
for _ in range(500):
    packet = bytearray(good)
    for _ in range(random.randrange(1, 6)):
        packet[random.randrange(len(packet))] = random.randrange(256)
    send(bytes(packet))
    send(random.randbytes(random.randrange(600)))
s.close()
s = socket.socket(family, socket.SOCK_DGRAM)
s.settimeout(5)
query = struct""", 1)
        out = self.assert_ran(self.towpath("/usr/bin/python3", "-c", program, PUBLIC, "53", NAME, "1")).out
        self.assertRegex(out, f"record 1 {SYNTHETIC}")

    def test_hostile_streams(self):
        program = """
import socket, struct
good = struct.pack("!HHHHHH", 1, 0x0100, 1, 0, 0, 0) + b"\\x01a\\x07example\\0\\0\\x01\\0\\x01"
framed = struct.pack("!H", len(good)) + good
def answers(*parts, count):
    s = socket.create_connection(("192.0.2.53", 53))
    s.settimeout(5)
    for part in parts:
        s.sendall(part)
    s.shutdown(socket.SHUT_WR)
    data = b""
    while part := s.recv(65536):
        data += part
    found = 0
    while data:
        size = struct.unpack_from("!H", data)[0]
        data = data[2 + size:]
        found += 1
    assert found == count, (found, count)
answers(framed, count=1)
answers(*[framed[i:i + 1] for i in range(len(framed))], count=1)
answers(framed * 100, count=100)
answers(b"\\0\\0" * 10, framed, count=1)
answers(framed, b"\\xff\\xff" + b"x" * 1000, count=1)
answers(b"", count=0)
print("all answered")
"""
        self.assertIn("all answered", self.assert_ran(self.towpath("/usr/bin/python3", "-c", program)).out)


class Datagrams(DnsCase):
    """UDP is not tunnelled: what must not leave fails, and programs that only look are not disturbed."""

    SEND = """
import errno, socket, sys
def attempt(what, call):
    try:
        print(what, "ok", call())
    except OSError as error:
        print(what, errno.errorcode[error.errno])
host, port = sys.argv[1], int(sys.argv[2])
address = socket.getaddrinfo(host, port, 0, socket.SOCK_DGRAM)[0][4]
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
attempt("connect", lambda: s.connect(address))
attempt("peer", lambda: s.getpeername() == address)
attempt("name", lambda: s.getsockname()[0])
attempt("send", lambda: s.send(b"x"))
attempt("write", lambda: __import__("os").write(s.fileno(), b"x"))
attempt("sendmsg", lambda: s.sendmsg([b"x"]))
t = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
attempt("sendto", lambda: t.sendto(b"x", address))
attempt("sendmsg_to", lambda: t.sendmsg([b"x"], [], 0, address))
if len(sys.argv) > 3:
    s.connect(("127.0.0.1", int(sys.argv[3])))
    s.settimeout(5)
    attempt("again", lambda: (s.send(b"echo"), s.recv(100)))
    t.settimeout(5)
    attempt("here", lambda: (t.sendto(b"echo", ("127.0.0.1", int(sys.argv[3]))), t.recvfrom(100)[1]))
"""

    def run_send(self, host, *more):
        out = self.assert_ran(self.towpath("/usr/bin/python3", "-c", self.SEND, host, "443", *map(str, more))).out
        return dict(line.split(" ", 1) for line in out.splitlines())

    def echo(self, address="127.0.0.1"):
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((address, 0))
        self.addCleanup(server.close)
        import threading

        def serve():
            try:
                while True:
                    data, peer = server.recvfrom(2048)
                    server.sendto(data, peer)
            except OSError:
                pass
        threading.Thread(target=serve, daemon=True).start()
        return server.getsockname()[1]

    def assert_silenced(self, found):
        self.assertEqual(found["connect"], "ok None")
        self.assertEqual(found["peer"], "ok True")
        self.assertEqual(found["name"], "ok 10.77.0.2")
        for call in ("send", "write", "sendmsg", "sendto", "sendmsg_to"):
            self.assertEqual(found[call], "ENETUNREACH", call)

    def test_a_synthetic_address_can_be_connected_and_gets_nothing(self):
        port = self.echo()
        found = self.run_send(NAME, port)
        self.assert_silenced(found)
        self.assertIn("b'echo'", found["again"])
        self.assertIn(str(port), found["here"])

    def test_udp_allow_leaves_the_rest_alone(self):
        netns.add_address("203.0.113.5/32")
        port = self.echo("203.0.113.5")
        program = self.SEND + """
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.settimeout(5)
u.connect(address)
u.send(b"echo")
print("echo", u.recv(100))
"""
        out = self.assert_ran(self.towpath("/usr/bin/python3", "-c", program, "203.0.113.5", str(port))).out
        self.assertIn("echo b'echo'", out)

    def test_udp_block(self):
        netns.add_address("203.0.113.6/32")
        port = self.echo("203.0.113.6")
        self.proxy_values(self.proxy.url, exempt="203.0.113.6", more="udp: block")
        found = self.run_send("192.0.2.77", self.echo())
        self.assert_silenced(found)
        self.assertIn("b'echo'", found["again"])
        program = """
import socket, sys
for _ in range(3):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(5)
    s.sendto(b"echo", ("203.0.113.6", int(sys.argv[1])))
    print(s.recv(10))
    s.connect(("203.0.113.6", int(sys.argv[1])))
    s.send(b"again")
    print(s.recv(10))
"""
        out = self.assert_ran(self.towpath("/usr/bin/python3", "-c", program, str(port))).out
        self.assertEqual(out.count("b'echo'"), 3)
        self.assertEqual(out.count("b'again'"), 3)


if __name__ == "__main__":
    main()
