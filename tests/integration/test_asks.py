# suite: quick
"""Questions that static programs, and any program in --mode seccomp, send with sendmsg and sendmmsg."""

import socket
import subprocess

from lab import docker, netns, proc
from lab.asking import PUBLIC, SYNTHETIC, DnsCase
from lab.case import main, program

NAME = "tunnelled.example"


@docker.too
class Asks(DnsCase):
    def asks(self, way, *more, server="127.0.0.1", kind="static", run=None, options=()):
        command = (program(f"{kind}/asks"), way, server, NAME, *map(str, more))
        return self.assert_ran(run(*command) if run else self.towpath(*command, options=options)).out

    def test_one_message_with_control_data(self):
        for kind in ("static", "musl"):
            for server in ("127.0.0.1", PUBLIC):
                with self.subTest(kind=kind, server=server):
                    out = self.asks("sendmsg", server=server, kind=kind)
                    self.assertRegex(out, rf"^sent=35\nanswer0={SYNTHETIC} from={server}:53\n$")
        self.assertEqual(self.dns.queries, [])

    def test_both_families_at_once(self):
        for kind in ("static", "musl"):
            for way in ("pair", "connected"):
                for server in ("127.0.0.1", PUBLIC):
                    with self.subTest(kind=kind, way=way, server=server):
                        self.assertRegex(self.asks(way, server=server, kind=kind),
                                         rf"^sent=2 35 35\nanswer0={SYNTHETIC} from={server}:53\n"
                                         rf"answer1=none from={server}:53\n$")
        self.assertEqual(self.dns.queries, [])

    def test_messages_for_others_among_them(self):
        for udp in ("allow", "block"):
            self.proxy_values(self.proxy.url, more=f"udp: {udp}")
            with self.subTest(udp=udp), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as near:
                near.bind(("127.0.0.1", 0))
                near.settimeout(5)
                out = self.asks("mixed", near.getsockname()[1], server=PUBLIC)
                self.assertRegex(out, rf"^sent=3 35 5 35\nanswer0={SYNTHETIC} from={PUBLIC}:53\nanswer1=none from={PUBLIC}:53\n$")
                self.assertEqual(near.recv(100), b"plain")
        self.assertEqual(self.dns.queries, [])

    def test_errors_are_the_kernels(self):
        bare = self.asks("holes", run=self.bare)
        self.assertRegex(bare, "(?s)sent=1 35\n.*sent=-1 Bad address\nsendmsg=-1 Bad address\nparts=-1 Message too long\n")
        self.dns.queries.clear()
        out = self.asks("holes")
        self.assertEqual([line for line in out.splitlines() if "answer" not in line],
                         [line for line in bare.splitlines() if "answer" not in line])
        self.assertEqual(self.dns.queries, [])

    def test_unix_domain_sockets_are_nobodys_business(self):
        for udp in ("allow", "block"):
            self.proxy_values(self.proxy.url, more=f"udp: {udp}")
            self.assertEqual(self.asks("unix"), "passed=1\nreceived=1 written=1\nsent=2 1 1\n")

    def test_fast_open_is_not_available(self):
        self.assertEqual(self.asks("fastopen"),
                         "sendmsg=-1 Operation not supported\nsendmmsg=-1 Operation not supported\n")

    def test_the_bare_twin_asks_the_name_server(self):
        for way in ("pair", "connected"):
            self.asks(way, run=self.bare)
            self.assertTrue(self.dns.asked(NAME))
            self.dns.queries.clear()


class Dynamic(DnsCase):
    def test_programs_in_mode_seccomp(self):
        self.options = ("--mode", "seccomp")
        script = """
import socket, struct, sys
question = struct.pack("!HHHHHH", 1, 0x100, 1, 0, 0, 0) + b"\\x09tunnelled\\x07example\\0\\0\\x01\\0\\x01"
for server in sys.argv[1:]:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(10)
    s.sendmsg([question[:5], question[5:]], [], 0, (server, 53))
    reply, source = s.recvfrom(512)
    assert source == (server, 53), source
    print(socket.inet_ntoa(reply[-4:]))
print(socket.gethostbyname("tunnelled.example"))
"""
        out = self.assert_ran(self.towpath("/usr/bin/python3", "-c", script, "127.0.0.1", PUBLIC)).out
        self.assertRegex(out, rf"^({SYNTHETIC}\n){{3}}$")
        self.assertEqual(self.dns.queries, [])

    def test_blocked_datagrams_follow_the_configuration(self):
        netns.add_address("203.0.113.5/32")
        self.addCleanup(netns.drop_address, "203.0.113.5/32")
        script = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for line in sys.stdin:
    try:
        print(s.sendmsg([b"x"], [], 0, ("203.0.113.5", 9)), flush=True)
    except OSError as error:
        print(error.errno, flush=True)
"""
        command = self.line("/usr/bin/python3", "-c", script, options=("--mode", "seccomp"))
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                 cwd=self.directory, env=self._env(None))
        try:
            def outcome():
                child.stdin.write("\n")
                child.stdin.flush()
                return child.stdout.readline().strip()
            self.assertEqual(outcome(), "1")
            self.proxy_values(self.proxy.url, more="udp: block")
            proc.wait_until(lambda: outcome() == "101", "an end of datagrams")
        finally:
            child.stdin.close()
            child.wait(timeout=proc.scaled(20))
            child.stdout.close()


if __name__ == "__main__":
    main()
