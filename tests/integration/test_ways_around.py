"""Ways around that a review found: each is a call that Linux takes in a form the hooks might not expect."""

import threading

from lab.case import LabCase, main
from lab.proxy import Proxy, held

# Python's socket module would not make these calls: they go through libc by ctypes.
COMMON = """
import ctypes, errno, os, socket, struct, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
def address(family, host, port):
    return struct.pack("=H", family) + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)
def said(result):
    return "ok" if result >= 0 else errno.errorcode[ctypes.get_errno()]
"""


class WaysAround(LabCase):
    def python(self, script):
        return self.assert_ran(self.towpath("/usr/bin/python3", "-c", COMMON + script)).out.split()

    def pending(self):
        self.gate = threading.Event()
        self.addCleanup(self.gate.set)
        self.proxy = self.use(Proxy("http", {"192.0.2.7": ("127.0.0.1", 9)}))
        self.proxy.answer = held(self.proxy.answer, self.gate)
        self.proxy_values(self.proxy.url)

    def assert_only_the_handshake(self):
        (connection,) = self.proxy.connections
        self.assertNotIn(b"LEAK", bytes(connection.handshake + connection.received + connection.after_refusal))

    def test_an_ipv6_datagram_socket_and_an_ipv4_address(self):
        self.proxy_values("http://127.0.0.1:9", more="udp: block")
        self.assertEqual(self.python("""
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
where = address(socket.AF_INET, "192.0.2.7", 443)
print(said(libc.connect(s.fileno(), where, 16)), said(libc.send(s.fileno(), b"x", 1, 0)))
"""), ["ok", "ENETUNREACH"])

    def test_an_unspecified_family_that_means_ipv4(self):
        self.proxy_values("http://127.0.0.1:9", more="udp: block")
        self.assertEqual(self.python("""
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print(said(libc.sendto(s.fileno(), b"x", 1, 0, address(socket.AF_UNSPEC, "192.0.2.7", 443), 16)))
"""), ["ENETUNREACH"])

    def test_fast_open_without_an_address_and_another_family_while_pending(self):
        self.pending()
        self.assertEqual(self.python("""
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
print(said(libc.connect(s.fileno(), address(socket.AF_INET, "192.0.2.7", 80), 16)))
MSG_FASTOPEN = 0x20000000
print(said(libc.sendto(s.fileno(), b"LEAK", 4, MSG_FASTOPEN, None, 0)))
other = struct.pack("=H", socket.AF_INET6) + struct.pack("!H", 80) + bytes(24)
print(said(libc.connect(s.fileno(), other, 28)))
"""), ["EINPROGRESS", "EAGAIN", "EALREADY"])
        self.assert_only_the_handshake()


if __name__ == "__main__":
    main()
