# suite: quick
"""What belongs to this machine is never the proxy's to reach: its addresses, those that come later, its name, its link."""

import json
import os
import socket
import subprocess

from lab import netns, proc
from lab.case import LabCase, main
from lab.origin import Origin
from lab.proxy import Proxy

OWN, LATER, METADATA = "192.0.2.7", "192.0.2.8", "169.254.169.254"
OWN_SIX = "2001:db8:7::7"
FAR = "203.0.113.80"  # leads here, and is no interface's

GET = """
import sys, urllib.request
for url in sys.argv[1:]:
    print(urllib.request.urlopen(url, timeout=10).read().decode(), flush=True)
"""
# Asks for its URLs once for every line that it reads.
AGAIN = """
import sys, urllib.request
for line in sys.stdin:
    for url in sys.argv[1:]:
        print(urllib.request.urlopen(url, timeout=10).read().decode().split()[0], flush=True)
"""


class OwnCase(LabCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        netns.own_address(OWN + "/32")
        cls.addClassCleanup(netns.disown_address, OWN + "/32")
        netns.own_address(OWN_SIX + "/128")
        cls.addClassCleanup(netns.disown_address, OWN_SIX + "/128")
        netns.add_address(METADATA + "/32")
        cls.addClassCleanup(netns.drop_address, METADATA + "/32")
        netns.add_address(FAR + "/32")
        cls.addClassCleanup(netns.drop_address, FAR + "/32")
        cls.origin = cls.start(Origin("0.0.0.0"))
        cls.six = cls.start(Origin(OWN_SIX))
        cls.proxy = cls.start(Proxy(names={host: ("127.0.0.1", cls.origin.port) for host in (FAR, LATER, METADATA)}))

    def setUp(self):
        super().setUp()
        self.proxy_values(self.proxy.url)
        self.proxy.connections.clear()

    def url(self, host):
        return f"http://{host}:{self.origin.port}/"

    def get(self, *hosts, run=None):
        return self.assert_ran((run or self.towpath)("/usr/bin/python3", "-c", GET, *map(self.url, hosts)))


class Direct(OwnCase):
    def test_own_addresses(self):
        for run in (self.towpath, self.preload):
            self.get(OWN, "10.77.0.2", run=run)
            self.assert_ran(run("/usr/bin/python3", "-c", GET, f"http://[{OWN_SIX}]:{self.six.port}/"))
            self.assertEqual(self.proxy.targets(), [])
        self.get(FAR)
        self.assertEqual(self.proxy.targets(), [f"{FAR}:{self.origin.port}"])

    def test_the_supervisor_says_the_same(self):
        self.options = ("--mode", "seccomp")
        self.get(OWN, METADATA)
        self.assertEqual(self.proxy.targets(), [])
        self.get(FAR)
        self.assertEqual(self.proxy.targets(), [f"{FAR}:{self.origin.port}"])

    def test_the_own_name(self):
        name = socket.gethostname()
        netns.hosts(f"{OWN} {name}\n")
        self.addCleanup(netns.hosts)
        self.get(name)
        self.assertEqual(self.proxy.targets(), [])

    def test_an_address_that_comes_and_goes_while_the_tree_runs(self):
        netns.add_address(LATER + "/32")
        self.addCleanup(netns.drop_address, LATER + "/32")
        for way in ("run", "preload"):
            with self.subTest(way=way):
                self.follow(way)

    def follow(self, way):
        target = f"{LATER}:{self.origin.port}"
        command = ["/usr/bin/python3", "-c", AGAIN, self.url(LATER)]
        extra = {"LD_PRELOAD": os.path.join(os.environ["TOWPATH_BUILD"], "lib/libtowpath.so"),
                 "TOWPATH_CONFIG": self.config}
        child = subprocess.Popen(self.line(*command) if way == "run" else command, stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, cwd=self.directory, text=True,
                                 env=self._env(extra if way == "preload" else None))
        try:
            def targets():
                self.proxy.connections.clear()
                child.stdin.write("go\n")
                child.stdin.flush()
                self.assertTrue(child.stdout.readline())
                return self.proxy.targets()
            self.assertEqual(targets(), [target])
            netns.own_address(LATER + "/32")
            self.assertEqual(targets(), [])
            self.assertEqual(targets(), [])
            netns.disown_address(LATER + "/32")
            netns.add_address(LATER + "/32")
            # What the process remembers holds until the agent has heard the kernel.
            proc.wait_until(lambda: targets() == [target], "a connection through the proxy")
        finally:
            child.stdin.close()
            child.wait(timeout=proc.scaled(20))
            child.stdout.close()

    def test_the_link(self):
        self.get(METADATA)
        self.assertEqual(self.proxy.targets(), [])
        self.proxy_values(self.proxy.url, more="linkLocal: tunnel")
        self.get(METADATA)
        self.assertEqual(self.proxy.targets(), [f"{METADATA}:{self.origin.port}"])

    def test_datagrams_that_are_blocked_go_to_own_addresses(self):
        self.proxy_values(self.proxy.url, more="udp: block")
        program = """
import socket, sys
there = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
there.bind((sys.argv[1], 0))
there.settimeout(5)
here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
here.sendto(b"hello", there.getsockname())
print(there.recvfrom(9)[0])
try:
    here.sendto(b"hello", (sys.argv[2], 9))
    print("sent")
except OSError as error:
    print(error.errno)
"""
        out = self.assert_ran(self.towpath("/usr/bin/python3", "-c", program, OWN, FAR)).out
        self.assertEqual(out.split(), ["b'hello'", "101"])

    def test_where_netlink_is_refused(self):
        # AF_NETLINK (16) is answered with EAFNOSUPPORT, as systemd's RestrictAddressFamilies does.
        refuse = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
rules = [(0x20, 0, 0, 0), (0x15, 0, 3, NUMBER), (0x20, 0, 0, 16), (0x15, 0, 1, 16), (0x06, 0, 0, 0x50000 | 97), (0x06, 0, 0, 0x7fff0000)]
code = b"".join(struct.pack("HBBI", *rule) for rule in rules)
buffer = ctypes.create_string_buffer(code)
class Program(ctypes.Structure):
    _fields_ = [("count", ctypes.c_ushort), ("code", ctypes.c_void_p)]
program = Program(len(rules), ctypes.addressof(buffer))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0, ctypes.get_errno()
os.execv(sys.argv[1], sys.argv[1:])
""".replace("NUMBER", "41" if os.uname().machine == "x86_64" else "198")
        self.around = ("/usr/bin/python3", "-c", refuse)
        self.get(OWN)
        self.assertEqual(self.proxy.targets(), [])
        self.get(FAR)
        self.assertEqual(self.proxy.targets(), [f"{FAR}:{self.origin.port}"])
        out = self.assert_ran(proc.run("tool", [*self.around, os.path.join(os.environ["TOWPATH_BUILD"], "bin/towpath"),
                                                "explain", "-c", self.config, f"[{OWN_SIX}]:443"], self.directory,
                                       self._env(None), self.directory, 20)).out
        self.assertIn("this host's own address", out)


class Words(OwnCase):
    def test_explain(self):
        for destination, why in ((f"{OWN}:443", "this host's own address"), (f"[{OWN_SIX}]:443", "this host's own address"),
                                 (f"{socket.gethostname()}:80", "this host's name"), (f"{METADATA}:80", "link-local")):
            out = self.assert_ran(self.tool("explain", "-c", self.config, "--json", destination)).out
            self.assertEqual((json.loads(out)["route"], json.loads(out)["rule"]), ("direct", why))
        self.assertIn("tunnel", self.assert_ran(self.tool("explain", "-c", self.config, f"{FAR}:443")).out)
        self.proxy_values(self.proxy.url, more="linkLocal: tunnel")
        self.assertIn("tunnel", self.assert_ran(self.tool("explain", "-c", self.config, f"{METADATA}:80")).out)

    def test_check(self):
        out = self.assert_ran(self.tool("check", "-c", self.config)).out
        self.assertIn("linkLocal: direct\n", out)
        self.assertIn("dnsOtherTypes: empty\n", out)
        self.assertRegex(out, rf"(?m)^# always direct: .*this host's name \({socket.gethostname()}\).*\b{OWN}\b.*{OWN_SIX}")
        again = self.values(out, "again.yaml")
        self.assertEqual(self.assert_ran(self.tool("check", "-c", again)).out.replace("again.yaml", "values.yaml"), out)

    def test_check_does_not_warn_of_a_database_here(self):
        url = {"CODER_PG_CONNECTION_URL": f"postgres://u@{OWN}:5432/db"}
        self.assertNotIn("PG_CONNECTION", self.tool("check", "-c", self.config, env=url).err)
        far = {"CODER_PG_CONNECTION_URL": f"postgres://u@{FAR}:5432/db"}
        self.assertIn("PG_CONNECTION", self.tool("check", "-c", self.config, env=far).err)


if __name__ == "__main__":
    main()
