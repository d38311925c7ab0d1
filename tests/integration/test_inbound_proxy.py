"""PROXY mode: the address in accept, getpeername and SO_PEERNAME is the client's, in every style of accepting, however the
header comes; strangers are not looked at; what is malformed or silent nobody sees."""

import contextlib
import os
import socket
import threading
import time

from lab import netns, proc
from lab.case import TOWPATH, main, probe
from lab.inbound import (CLIENT, PYTHON, STRANGER, InboundCase, ask, connect, line_of, proxy_v1, proxy_v2, read_all)

STYLES = ("block", "threads", "lt", "et", "poll", "select", "prefork", "shared", "reuseport")
REQUIRE = "proxyProtocol: require"


def fetch(port, number, cut=None, host="127.0.0.1", source="127.0.0.2"):
    """One connection whose header names client `number`, cut behind `cut` bytes; what the server said is checked."""
    client, client_port = f"198.51.100.{number % 250}", 1000 + number
    header = proxy_v1(client, client_port) if number % 2 else proxy_v2(client, client_port, tlvs=b"\x04\x00\x03abc")
    data = header + b"line\n"
    answer = ask((host, port), data, source, [cut] if cut else None).decode()
    said, want = line_of(answer), f"{client}:{client_port}"
    if (said.get("accept"), said.get("peer"), said.get("name"), said.get("data")) != (want, want, want, "line"):
        return f"{want}: {answer!r}"
    return None


class Proxy(InboundCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        netns.add_address(f"{STRANGER}/32")

    def test_every_style_of_accepting_with_whole_and_split_headers(self):
        self.reverse(more=REQUIRE)
        for style in STYLES:
            with self.subTest(style):
                server, port = self.acceptor(style)
                wrong = []
                def some(first, step):
                    for number in range(first, 120, step):
                        result = fetch(port, number, cut=(None, 1, 5, 13, 20)[number % 5])
                        if result:
                            wrong.append(result)
                crowd = [threading.Thread(target=some, args=(first, 8)) for first in range(8)]
                for each in crowd:
                    each.start()
                for each in crowd:
                    each.join()
                self.assertEqual(wrong, [])
                server.stop()

    def test_without_towpath_the_server_sees_the_proxy(self):
        _, port = self.acceptor("block", bare=True)
        answer = ask(("127.0.0.1", port), proxy_v1() + b"line\n", "127.0.0.2").decode()
        self.assertEqual(line_of(answer)["accept"].split(":")[0], "127.0.0.2")
        self.assertIn("data=PROXY", answer)

    def test_a_late_header_and_the_bytes_behind_it(self):
        """Parked: the header ends after accept has gone on, and other clients are served in between."""
        self.reverse(more=REQUIRE)
        for style in STYLES:
            with self.subTest(style):
                server, port = self.acceptor(style)
                late = [connect(("127.0.0.1", port), "127.0.0.2") for _ in range(10)]
                for each in late:
                    each.sendall(proxy_v1()[:9])
                self.assertEqual([fetch(port, number) for number in range(10)], [None] * 10)
                for each in late:
                    each.sendall(proxy_v1()[9:] + b"late\n")
                for each in late:
                    answer, _ = read_all(each)
                    self.assertEqual((line_of(answer.decode())["accept"], line_of(answer.decode())["data"]),
                                     (f"{CLIENT}:40000", "late"))
                    each.close()
                server.stop()

    def test_a_stranger_is_not_looked_at_and_not_waited_for(self):
        self.reverse(more=REQUIRE)
        _, port = self.acceptor("lt", "greet", address="0.0.0.0")
        with connect(("127.0.0.1", port), STRANGER) as peer:
            hello = peer.makefile().readline()
            self.assertTrue(line_of(hello)["accept"].startswith(STRANGER + ":"), hello)
            peer.sendall(b"PROXY TCP4 6.6.6.6 6.6.6.6 1 1\r\n")
            answer = peer.makefile().readline()
            self.assertIn("data=PROXY TCP4 6.6.6.6", answer)
            self.assertTrue(line_of(answer)["peer"].startswith(STRANGER + ":"))

    def test_malformed_headers_reach_nobody(self):
        self.reverse(more=REQUIRE)
        server, port = self.acceptor("et")
        for bad in (b"GET / HTTP/1.1\r\n\r\n", b"PROXY TCP4 1.2.3.4 5.6.7.8 080 443\r\nx\n", b"\r\n\r\n\0\r\nQUIT\n\x11\x11\0\0x\n",
                    b"PROXY " + b"x" * 200, proxy_v2()[:12] + b"\x21\x11\xff\xff", b"proxy TCP4 1.2.3.4 5.6.7.8 80 443\r\nx\n"):
            for cut in (None, 1):
                with self.subTest(bad=bad, cut=cut):
                    self.assertEqual(ask(("127.0.0.1", port), bad, "127.0.0.2", [cut] if cut else None), b"")
        self.assertIsNone(fetch(port, 1))

    def test_kept_addresses(self):
        """LOCAL, UNKNOWN and senders of other families: the connection is the proxy's own."""
        self.reverse(more=REQUIRE)
        _, port = self.acceptor("block")
        for header in (proxy_v2(local=True), b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN a b c\r\n", proxy_v2("224.0.0.1"),
                       proxy_v1("255.255.255.255")):
            with self.subTest(header):
                said = line_of(ask(("127.0.0.1", port), header + b"line\n", "127.0.0.2").decode())
                self.assertEqual((said["accept"].split(":")[0], said["data"]), ("127.0.0.2", "line"))
                self.assertEqual(said["accept"], said["peer"])

    def test_optional_takes_both_kinds_and_lets_the_server_speak_first(self):
        self.reverse(more="proxyProtocol: optional", timeout="500ms")
        _, port = self.acceptor("lt", "greet")
        self.assertIn(f"accept={CLIENT}:40000", ask(("127.0.0.1", port), proxy_v1() + b"line\n", "127.0.0.2").decode())
        said = line_of(ask(("127.0.0.1", port), b"PR\n", "127.0.0.2").decode().splitlines()[-1])
        self.assertEqual((said["peer"].split(":")[0], said["data"]), ("127.0.0.2", "PR"))
        with connect(("127.0.0.1", port), "127.0.0.2") as silent:
            self.assertTrue(line_of(silent.makefile().readline())["accept"].startswith("127.0.0.2:"))

    def test_silent_connections_end_at_the_timeout_and_hold_up_nobody(self):
        self.reverse(more=REQUIRE, timeout="1s")
        _, port = self.acceptor("lt")
        silent = [connect(("127.0.0.1", port), "127.0.0.2") for _ in range(100)]
        for number, each in enumerate(silent):
            each.sendall(proxy_v1()[:number % 3 * 4])
        begun = time.monotonic()
        self.assertEqual([fetch(port, number) for number in range(100)], [None] * 100)
        for each in silent:
            self.assertEqual(read_all(each)[0], b"")
            each.close()
        self.assertGreater(time.monotonic() - begun, 0.5)  # not at once: a late header is allowed

    def test_health_checks_disturb_nobody(self):
        self.reverse(more=REQUIRE)
        for style in ("block", "select", "et"):
            with self.subTest(style):
                server, port = self.acceptor(style)
                for _ in range(30):
                    connect(("127.0.0.1", port), "127.0.0.2").close()
                self.assertIsNone(fetch(port, 3))
                server.stop()

    def test_rooms_for_the_address(self):
        self.reverse(more=REQUIRE)
        _, null = self.acceptor("lt", "null")
        self.assertIn(f"accept=- peer={CLIENT}:40000", ask(("127.0.0.1", null), proxy_v1() + b"x\n").decode())
        six = "2001:db8::9"
        _, port = self.acceptor("lt")
        self.assertIn(f"accept=[{six}]:40000 peer=[{six}]:40000 name=[{six}]:40000",
                      ask(("127.0.0.1", port), proxy_v1(six) + b"x\n").decode())
        _, short = self.acceptor("lt", "short")
        said = line_of(ask(("127.0.0.1", short), proxy_v1(six) + b"x\n", "127.0.0.2").decode())
        self.assertEqual(said["accept"].split(":")[0], "127.0.0.2")

    def test_syscall_and_deferred_accept(self):
        self.reverse(more=REQUIRE)
        for option in ("syscall", "defer"):
            _, port = self.acceptor("et", option)
            for number in range(20):
                self.assertIsNone(fetch(port, number, cut=7 if number % 2 else None))

    def test_listeners_of_both_families(self):
        self.reverse(more=REQUIRE, origins="127.0.0.0/8, '::1/128'")
        _, port = self.acceptor("et", address="::")
        for cut in (None, 10):
            cuts = [cut] if cut else None
            said = line_of(ask(("127.0.0.1", port), proxy_v1() + b"x\n", pieces=cuts).decode())
            self.assertEqual((said["accept"], said["peer"]), (f"[::ffff:{CLIENT}]:40000",) * 2)
            said = line_of(ask(("::1", port), proxy_v1("2001:db8::9") + b"x\n", pieces=cuts).decode())
            self.assertEqual((said["accept"], said["peer"]), ("[2001:db8::9]:40000",) * 2)
        _, only = self.acceptor("et", "v6only", address="::")
        said = line_of(ask(("::1", only), proxy_v1() + b"x\n").decode())
        self.assertTrue(said["accept"].startswith("[::1]:"), said)  # an IPv4 client cannot be shown there
        self.assertEqual(said["accept"], said["peer"])

    def test_scope_ids_are_never_shown(self):
        self.reverse(more=REQUIRE, origins="'::1/128'")
        _, port = self.acceptor("lt", address="::1")
        said = line_of(ask(("::1", port), proxy_v1("fe80::1") + b"x\n").decode())
        self.assertEqual((said["accept"], said["peer"]), ("[fe80::1]:40000",) * 2)

    def test_a_group_with_a_member_outside_the_tree(self):
        """Some calls of the agent go to the stranger: they are made again."""
        self.reverse(more=REQUIRE)
        server, port = self.acceptor("reuseport")
        outside = self.use(Outside(port, getattr(self, "uid", 0)))
        late, answered = [], 0
        for _ in range(60):
            peer = connect(("127.0.0.1", port), "127.0.0.2")
            peer.sendall(proxy_v1()[:9])
            late.append(peer)
        for peer in late:
            with contextlib.suppress(OSError):  # the stranger has closed it
                peer.sendall(proxy_v1()[9:] + b"x\n")
        for peer in late:
            answer, _ = read_all(peer)
            answered += f"accept={CLIENT}:40000".encode() in answer
            peer.close()
        self.assertGreater(answered, 10)
        self.assertEqual(answered + len(outside.clients("127.0.0.2")), 60)

    def test_the_listener_is_gone_when_the_header_is_complete(self):
        self.reverse(more=REQUIRE)
        code = ("import socket, sys\ns = socket.create_server(('127.0.0.1', 0))\nprint('listening', s.getsockname()[1], flush=True)\n"
                "s.setblocking(False)\nimport select\n"
                "select.select([s], [], [], 10)\n"
                "try: s.accept()\nexcept BlockingIOError: print('parked', flush=True)\n"
                "s.close()\nprint('closed', flush=True)\nimport signal; signal.pause()\n")
        server, port = self.serve(PYTHON, "-c", code)
        with connect(("127.0.0.1", port), "127.0.0.2") as peer:
            peer.sendall(proxy_v1()[:9])
            server.wait_line("closed")
            peer.sendall(proxy_v1()[9:])
            self.assertEqual(read_all(peer)[0], b"")

    def test_a_polled_blocking_listener_does_not_block(self):
        """Python's socketserver: shutdown() ends at once although a connection is parked."""
        self.reverse(more=REQUIRE)
        code = ("import socketserver, sys, threading, time\n"
                "class H(socketserver.BaseRequestHandler):\n"
                "    def handle(self): self.request.sendall(self.client_address[0].encode())\n"
                "s = socketserver.TCPServer(('127.0.0.1', 0), H)\n"
                "t = threading.Thread(target=s.serve_forever, args=(0.05,)); t.start()\n"
                "print('listening', s.server_address[1], flush=True)\n"
                "sys.stdin.readline()\nbegun = time.monotonic()\ns.shutdown()\n"
                "print('ended', time.monotonic() - begun < 2, flush=True)\n")
        ours, theirs = socket.socketpair()
        with ours, theirs:
            server = self.use(proc.Process("server", [TOWPATH, "run", "-c", self.config, "--", PYTHON, "-u", "-c", code],
                                           self.directory, self._env({}), self.directory, stdin=theirs))
            port = int(server.wait_line(r"listening (\d+)").group(1))
            with connect(("127.0.0.1", port), "127.0.0.2") as parked:
                parked.sendall(b"PRO")
                connect(("127.0.0.1", port), "127.0.0.2").close()
                self.assertEqual(ask(("127.0.0.1", port), proxy_v1()), CLIENT.encode())
                ours.sendall(b"\n")
                self.assertEqual(server.wait_line(r"ended (\w+)").group(1), "True")

    def test_descriptors_run_out(self):
        """EMFILE as without us, and nobody is lost."""
        self.reverse(more=REQUIRE)
        code = ("import errno, resource, select, socket\n"
                "resource.setrlimit(resource.RLIMIT_NOFILE, (12, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n"
                "s = socket.create_server(('127.0.0.1', 0), backlog=128); s.setblocking(False)\n"
                "print('listening', s.getsockname()[1], flush=True)\n"
                "held = []; full = 0; served = 0\n"
                "while served < 40:\n"
                "    select.select([s], [], [], 10)\n"
                "    try:\n"
                "        c, a = s.accept(); held.append(c); c.sendall(a[0].encode()); served += 1\n"
                "    except BlockingIOError: pass\n"
                "    except OSError as e:\n"
                "        assert e.errno == errno.EMFILE, e\n"
                "        full += 1\n"
                "        for c in held: c.close()\n"
                "        held.clear()\n"
                "print('full', full > 0, flush=True)\n")
        server, port = self.serve(PYTHON, "-c", code)
        late = [connect(("127.0.0.1", port), "127.0.0.2") for _ in range(40)]
        for number, each in enumerate(late):
            each.sendall(proxy_v1() if number % 2 else proxy_v1()[:9])
        for number, each in enumerate(late):
            if number % 2 == 0:
                each.sendall(proxy_v1()[9:])
        answers = [read_all(each) for each in late]
        self.assertEqual([(data, error) for data, error in answers if data != CLIENT.encode()], [])
        self.assertEqual(server.wait_line(r"full (\w+)").group(1), "True")

    def test_the_first_accept_of_a_process_with_one_descriptor_left(self):
        self.reverse(more=REQUIRE)
        code = ("import os, resource, select, socket\n"
                "s = socket.create_server(('127.0.0.1', 0)); s.setblocking(False)\n"
                "print('listening', s.getsockname()[1], flush=True)\n"
                "while s.fileno() != os.dup(0) - 8: pass\n"
                "resource.setrlimit(resource.RLIMIT_NOFILE, (13, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n"
                "while True:\n"
                "    select.select([s], [], [], 10)\n"
                "    try: c, a = s.accept()\n"
                "    except BlockingIOError: continue\n"
                "    c.sendall(('%s %d' % (a[0], c.fileno())).encode()); c.close()\n")
        _, port = self.serve(PYTHON, "-c", code)
        for cut in (None, [10], None):
            self.assertEqual(ask(("127.0.0.1", port), proxy_v1(), "127.0.0.2", cut).decode(), f"{CLIENT} 12")

    def test_the_address_survives_exec_fork_and_passing(self):
        """sshd re-executes itself for each connection; others pass descriptors."""
        self.reverse(more=REQUIRE)
        code = ("import os, socket, subprocess, sys\ns = socket.create_server(('127.0.0.1', 0))\n"
                "print('listening', s.getsockname()[1], flush=True)\n"
                "c, _ = s.accept()\n"
                "show = 'import socket, sys; print(socket.socket(fileno=int(sys.argv[1])).getpeername(), flush=True)'\n"
                "fd = os.dup(c.fileno()); os.set_inheritable(fd, True)\n"
                "subprocess.run([sys.executable, '-c', show, str(fd)], close_fds=False, env={})\n"
                "subprocess.run([sys.executable, '-c', show, str(fd)], close_fds=False)\n"
                "left, right = socket.socketpair(); socket.send_fds(left, [b'x'], [fd]); os.close(fd); c.close()\n"
                "print(socket.socket(fileno=socket.recv_fds(right, 1, 1)[1][0]).getpeername(), flush=True)\n")
        server, port = self.serve(PYTHON, "-c", code)
        with connect(("127.0.0.1", port), "127.0.0.2") as peer:
            peer.sendall(proxy_v1())
            server.wait()
            out = server.output()
        self.assertEqual(out.count(f"('{CLIENT}', 40000)"), 3, out)  # with env={}, too: the library goes along

    def test_listeners_of_unusual_kinds(self):
        """Inherited through exec; bound to a device; bound to an address of a network; and UNIX sockets, which are left alone."""
        self.reverse(more=REQUIRE, origins="127.0.0.0/8, 10.77.0.0/16")
        netns.add_address("10.77.5.5/32")
        serve = ("import socket, sys\ns = socket.socket(fileno=int(sys.argv[1]))\n"
                 "print('listening', (s.getsockname()[1:] or [0])[0] if s.family != socket.AF_UNIX else 0, flush=True)\n"
                 "while True:\n    c, a = s.accept()\n    c.recv(1); c.sendall(repr((a, c.getpeername())).encode()); c.close()\n")
        begin = ("import os, socket, sys\ns = %s\ns.listen(9); s.set_inheritable(True)\n"
                 "os.execv(sys.executable, [sys.executable, '-c', sys.argv[1], str(s.fileno())])\n")
        for where, make in (("127.0.0.1", "socket.create_server(('127.0.0.1', 0))"),
                            ("10.77.5.5", "socket.create_server(('10.77.5.5', 0))"),
                            ("127.0.0.9", "socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'lo\\0'); "
                                          "s.bind(('0.0.0.0', 0))")):
            for cut in (None, [10]):
                with self.subTest(make, cut=cut):
                    server, port = self.serve(PYTHON, "-c", begin % make, serve)
                    answer = ask((where, port), proxy_v1() + b"x", where, cut).decode()
                    self.assertEqual(answer.count(f"('{CLIENT}', 40000)"), 2, answer)
                    server.stop()
        path = os.path.join(self.directory, "socket")
        server, _ = self.serve(PYTHON, "-c", begin % f"socket.socket(socket.AF_UNIX); s.bind('{path}')", serve)
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(path)
            peer.sendall(b"PROXY ")
            self.assertEqual(read_all(peer)[0], b"('', '')")

    def test_ports_that_are_not_listed_are_left_alone(self):
        port = self.free_port()
        self.reverse(more=f"proxyProtocol: require\nports: [{{port: {port}, mode: proxy}}]")
        self.acceptor("lt", port=port)
        _, other = self.acceptor("lt")
        self.assertIsNone(fetch(port, 1))
        self.assertIn("data=plain", ask(("127.0.0.1", other), b"plain\n").decode())

    def test_a_dead_agent(self):
        """What it held is gone; the server goes on, and the next connection finds the next agent."""
        self.reverse(more=REQUIRE)
        server, port = self.acceptor("et")
        held = connect(("127.0.0.1", port), "127.0.0.2")
        held.sendall(b"PRO")
        self.assertIsNone(fetch(port, 1, cut=4))
        old = netns.agents()
        proc.kill(old)
        self.assertEqual(read_all(held)[0], b"")
        proc.wait_until(lambda: [pid for pid in netns.agents() if pid not in old], "the next agent")
        self.assertEqual([fetch(port, number, cut=(None, 4)[number % 2]) for number in range(20)], [None] * 20)

    def test_by_preload_alone(self):
        self.reverse(more=REQUIRE)
        server = self.spawn("server", probe("acceptor"), "et", "127.0.0.1", 0, env={
            "LD_PRELOAD": os.path.join(os.path.dirname(os.path.dirname(TOWPATH)), "lib", "libtowpath.so"),
            "TOWPATH_CONFIG": self.config, "TOWPATH_AGENT": TOWPATH, "TOWPATH_IDLE_SECONDS": "1"})
        port = int(server.wait_line(r"port=(\d+)").group(1))
        self.assertEqual([fetch(port, number, cut=(None, 4)[number % 2]) for number in range(20)], [None] * 20)

    def test_under_musl(self):
        self.reverse(more=REQUIRE)
        _, port = self.serve(probe("acceptor", "musl"), "et", "127.0.0.1", 0)
        self.assertEqual([fetch(port, number, cut=(None, 4)[number % 2]) for number in range(20)], [None] * 20)


class Outside:
    """A member of the listener's SO_REUSEPORT group that towpath does not know. Accepts and says nothing."""

    def __init__(self, port, user=0):
        os.seteuid(user)  # a group is one user's
        self._socket = socket.socket()
        os.seteuid(0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind(("127.0.0.1", port))
        self._socket.listen(128)
        self._accepted = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while True:
            try:
                peer, address = self._socket.accept()
            except OSError:
                return
            self._accepted.append(address)
            peer.close()

    def clients(self, host):
        return [address for address in self._accepted if address[0] == host]

    def stop(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


if __name__ == "__main__":
    main()
