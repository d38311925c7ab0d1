"""What the tests of name service share: a question from a raw socket, a name server that also knows TXT, a case."""

import struct

from lab.case import LabCase
from lab.dns import Dns
from lab.origin import Origin
from lab.proxy import Proxy

NAME = "tunnelled.example"
EXEMPT = "inside.exempt.example"
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


class TextDns(Dns):
    """Also knows TXT, by a sentence that has the name."""

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
