# suite: quick
"""The agent's relay: it is no open proxy for others, and it carries sockets that no route leads from to the proxy."""

import os
import socket
import struct

from lab import netns, proc, proxy
from lab.case import TOWPATH, main
from lab.client import client
from test_tls_proxy import NAME, PROXY, TlsCase

_SAME_PORT = r"""
import os, select, socket, sys, time
first = socket.create_connection((sys.argv[1], 7))
print("first", flush=True)
while not os.path.exists(sys.argv[2]) or "." not in open(sys.argv[2]).read():
    select.select([], [], [], 0.005)
second = socket.socket()
second.bind(("127.0.0.1", int(open(sys.argv[2]).read().strip("."))))
second.connect((sys.argv[1], 7))
second.sendall(b"mine")
print("second=%r" % second.recv(100), flush=True)
"""


class TheDoor(TlsCase):
    """The relay's port is seen by every user of the machine, and opens for announced sockets only."""

    def test_strangers_get_nothing(self):
        server = self.haproxy()
        self.trust(server)
        program = self.spawn("program", TOWPATH, "run", "-c", self.config, "--",
                             *client("blocking", NAME, 7, "hold"))
        program.wait_line("peer=")
        doors = [place for place, inode in proc.listeners() if inode in proc._socket_inodes([netns.agents()[0]])]
        self.assertEqual([place[0] for place in doors], ["127.0.0.1"])
        stranger = ("import os, socket, sys\nos.setgid(65534); os.setuid(65534)\n"
                    "s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\ns.settimeout(10)\n"
                    "try:\n    s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')\n    print('got=%r' % s.recv(100))\n"
                    "except ConnectionResetError:\n    print('reset')\n")
        result = self.assert_ran(self.bare("/usr/bin/python3", "-c", stranger, str(doors[0][1])))
        self.assertIn(result.out, ("got=b''\n", "reset\n"))
        self.assertEqual(len(self.proxy.connections), 1)
        self.assertNotIn(b"GET", self.proxy.connections[0].received)

    def test_what_a_stranger_left_at_the_door_is_nobodys(self):
        # A port that a stranger used a moment ago may be the next program's: not with what the stranger wrote.
        server = self.haproxy()
        self.trust(server)
        program = self.spawn("program", TOWPATH, "run", "-c", self.config, "--",
                             "/usr/bin/python3", "-c", _SAME_PORT, NAME, os.path.join(self.directory, "go"))
        program.wait_line("first")
        door, = [place for place, inode in proc.listeners() if inode in proc._socket_inodes([netns.agents()[0]])]
        stranger = socket.socket()
        stranger.bind(("127.0.0.1", 0))
        port = stranger.getsockname()[1]
        stranger.connect(door)
        stranger.sendall(b"from the stranger")
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stranger.close()
        self.file("go", f"{port}.")
        program.wait_line("second=b'welcome")
        self.assertEqual(program.wait(), 0)
        for one in self.proxy.connections:
            self.assertNotIn(b"stranger", one.received)


class CannotReachTheProxy(TlsCase):
    """A program's socket that no route leads from to the proxy goes through the relay, also to a plain proxy."""

    def reached(self, *more, url=None, authority=False, **options):
        self.proxy_values(url or self.proxy.url, more=f"tls:\n  caFile: {self.authority.file}" if authority else "")
        for mode in ("blocking", "epoll"):
            with self.subTest(mode):
                self.assertIn(r"read=b'welcome\r\nbanana'" + "\nend=eof",
                              self.reach("send=banana", "shut", *more, mode=mode, **options).out)

    def at(self, address):
        self.proxy = self.use(proxy.Proxy("http", {NAME: self.origin.address}, address=address))

    def test_v6_only(self):
        self.reached("family=6", "v6only")

    def test_v6_that_takes_both(self):
        self.reached("family=6")

    def test_v4_and_a_proxy_on_v6(self):
        self.at("::1")
        self.reached()

    def test_bound_to_loopback(self):
        netns.add_address("192.0.2.21/32")
        self.at("192.0.2.21")
        self.reached("bind=127.0.0.1")
        # Linux would let it try, with a source address that no other machine ever answers.
        self.reached("family=6", "bind=2001_db8_77__2")
        self.assertEqual({one.peer[0] for one in self.proxy.connections}, {"192.0.2.21"})

    def test_bound_to_an_address_of_the_other_family(self):
        self.reached("family=6", "bind=__1")
        self.reached("family=6", "bind=2001_db8_77__2")

    def test_bound_to_a_v6_address_and_a_tls_proxy(self):
        server = self.haproxy()
        url = f"https://{PROXY}:{server.port}"
        self.reached("family=6", "bind=__1", url=url, authority=True)
        self.reached("family=6", "v6only", url=url, authority=True)
        self.reached("bind=10.77.0.2", url=url, authority=True)


if __name__ == "__main__":
    main()
