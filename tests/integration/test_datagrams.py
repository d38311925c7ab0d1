# suite: quick
"""UDP: what stands for a name gets nothing, `udp: block` blocks, and everything else is left alone."""

import socket
import threading

from lab import netns
from lab.asking import NAME, DnsCase
from lab.case import main


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
