"""PROXY mode where no library is loaded: static servers, and dynamic ones under `--mode seccomp`. Everything that the library's
servers see must be the same here (test_inbound_proxy.py), also where the agent makes the sockets (lab/docker.py)."""

import os
import signal
import socket

import test_inbound_proxy

from lab import docker, netns, proc
from lab.case import main, program
from lab.inbound import CLIENT, PYTHON, InboundCase, ask, connect, fields, proxy_v1, proxy_v2, read_all, request


@docker.too
class Static(test_inbound_proxy.Proxy):
    """The probe is linked statically against glibc; Python is a dynamic program without the library."""

    options = ("--mode", "seccomp")
    libc = "static"
    test_by_preload_alone = test_under_musl = None  # the library's

    def acceptor_program(self):
        return program(f"{self.libc}/acceptor")


@docker.too
class StaticMusl(Static):
    libc = "musl"


@docker.too
class Servers(InboundCase):
    options = ("--mode", "seccomp")

    def test_http_servers(self):
        self.reverse("X-Forwarded-For", more="proxyProtocol: optional")
        for kind in ("python", "nginx", "go static", "go cgo", "caddy"):
            with self.subTest(kind):
                port = self.http_server(kind)
                for number in range(20):
                    data = request(fields=[("X-Forwarded-For", f"198.51.100.{number}")])
                    answer = ask(("127.0.0.1", port), data, "127.0.0.2", (None, [5])[number % 2]).decode()
                    self.assertEqual(fields(answer).get("client"), f"198.51.100.{number}", answer)
                    header = (proxy_v1, proxy_v2)[number % 2](f"198.51.100.{number}")
                    answer = ask(("127.0.0.1", port), header + request(), "127.0.0.2", (None, [7])[number % 2]).decode()
                    self.assertEqual(fields(answer).get("client"), f"198.51.100.{number}", answer)

    def test_a_listener_from_outside(self):
        """Inherited by the first program of the tree, as from systemd; TCP of both families, and a UNIX domain one."""
        self.reverse(more="proxyProtocol: require", origins="127.0.0.0/8, '::1/128'")
        serve = ("import socket, sys\ns = socket.socket(fileno=int(sys.argv[1]))\nprint('ready', flush=True)\n"
                 "while True:\n    c, a = s.accept()\n    c.recv(1); c.sendall(repr((a, c.getpeername())).encode()); c.close()\n")
        path = os.path.join(self.directory, "socket")
        for make in (lambda: socket.create_server(("127.0.0.1", 0)),
                     lambda: socket.create_server(("::1", 0), family=socket.AF_INET6),
                     lambda: socket.create_server(path, family=socket.AF_UNIX)):
            with make() as listener:
                listener.set_inheritable(True)
                server = self.use(proc.Process("server", self.line(PYTHON, "-c", serve, listener.fileno()), self.directory,
                                               self._env({}), self.directory, pass_fds=(listener.fileno(),)))
                server.wait_line("ready")
                where = listener.getsockname()
            if isinstance(where, str):
                for _ in range(3):
                    with socket.socket(socket.AF_UNIX) as peer:
                        peer.connect(where)
                        peer.sendall(b"PROXY ")
                        self.assertEqual(read_all(peer)[0], b"('', '')")
                continue
            client = "2001:db8::9" if ":" in where[0] else CLIENT
            for cut in (None, [10], None):
                answer = ask(where[:2], proxy_v1(client) + b"x", pieces=cut).decode()
                self.assertEqual(answer.count(f"('{client}', 40000"), 2, answer)

    def test_a_closed_listener_frees_its_port(self):
        """Also where the agent has a copy, and the agent after it another."""
        self.reverse(more="proxyProtocol: require")
        code = ("import socket, sys\ns = socket.create_server(('127.0.0.1', 0)); port = s.getsockname()[1]\n"
                "print('listening', port, flush=True)\n\n"
                "while True:\n    try: c, a = s.accept(); break\n    except OSError: pass\n"
                "c.sendall(a[0].encode()); c.close()\n"
                "s.close(); print('closed', flush=True)\nsys.stdin.readline()\n"
                "s = socket.create_server(('127.0.0.1', port)); print('again', flush=True)\ns.accept()\n")
        for restart in (False, True):
            ours, theirs = socket.socketpair()
            with self.subTest(restart=restart), ours, theirs:
                server = self.use(proc.Process("server", self.line(PYTHON, "-u", "-c", code), self.directory, self._env({}),
                                               self.directory, stdin=theirs))
                port = int(server.wait_line(r"listening (\d+)").group(1))
                if restart:
                    old = netns.agents()
                    proc.kill(old)
                    proc.wait_until(lambda: [pid for pid in netns.agents() if pid not in old], "the next agent")
                self.assertEqual(ask(("127.0.0.1", port), proxy_v1()), CLIENT.encode())
                server.wait_line("closed", 20)
                proc.wait_until(lambda: not any(at[1] == port for at, _ in proc.listeners()), "end of the listener")
                ours.sendall(b"\n")
                server.wait_line("again")
                server.stop()

    def test_more_listeners_from_outside_than_are_handed_over(self):
        """Managed, or refused with a line: never shown as the proxy."""
        self.reverse(more="proxyProtocol: require")
        code = ("import socket, sys\nprint('ready', flush=True)\n"
                "for number in sys.argv[1:]:\n    s = socket.socket(fileno=int(number))\n"
                "    try: c, a = s.accept(); print('got', a[0], flush=True); c.close()\n"
                "    except PermissionError: print('refused', flush=True)\n"
                "print('done', flush=True)\n")
        listeners = [self.enterContext(socket.create_server(("127.0.0.1", 0))) for _ in range(10)]
        numbers = [each.fileno() for each in listeners]
        peers = [self.enterContext(connect(each.getsockname(), "127.0.0.2")) for each in listeners]
        for peer in peers:
            peer.sendall(proxy_v1())
        server = self.use(proc.Process("server", self.line(PYTHON, "-c", code, *numbers), self.directory, self._env({}),
                                       self.directory, pass_fds=numbers))
        server.wait_line("done")
        got, refused = server.out.count(f"got {CLIENT}"), server.out.count("refused")
        self.assertEqual((got, refused), (8, 2) if self.around else (10, 0), server.output())
        if self.around:
            self.assertIn("connect_refused", server.err)

    def test_a_blocking_accept_and_signals_timeouts_and_shutdown(self):
        self.reverse(more="proxyProtocol: require")
        code = ("import signal, socket, struct, sys, threading\n"
                "s = socket.create_server(('127.0.0.1', 0))\nprint('listening', s.getsockname()[1], flush=True)\n"
                "def on(*_): raise KeyError\n"
                "signal.signal(signal.SIGUSR1, on)\nsignal.signal(signal.SIGUSR2, lambda *_: print('heard', flush=True))\n"
                "try: s.accept()\nexcept KeyError: print('interrupted', flush=True)\n"
                "c, a = s.accept()\nprint('got', a[0], flush=True)\n"
                "s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack('ll', 0, 200000))\n"
                "try: s.accept()\nexcept BlockingIOError: print('timed out', flush=True)\n"
                "s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack('ll', 0, 0))\n"
                "threading.Timer(0.1, s.shutdown, (socket.SHUT_RDWR,)).start()\n"
                "try: s.accept()\nexcept OSError as e: print('ended', e.errno, flush=True)\n")
        server, port = self.serve(PYTHON, "-c", code)
        server.signal(signal.SIGUSR1)
        server.wait_line("interrupted")
        server.signal(signal.SIGUSR2)
        server.wait_line("heard")
        with connect(("127.0.0.1", port), "127.0.0.2") as peer:
            peer.sendall(proxy_v1())
            server.wait_line(f"got {CLIENT}")
            server.wait_line("timed out")
            server.wait_line("ended 22")

    def test_more_silent_connections_than_one_turn_takes(self):
        """Edges: behind two hundred that are kept comes a stranger, and nothing more."""
        self.reverse(more="proxyProtocol: require", origins="127.0.0.2/32", timeout="60s")
        code = ("import select, socket, sys\ns = socket.create_server(('127.0.0.1', 0), backlog=1000); s.setblocking(False)\n"
                "p = select.epoll(); p.register(s, select.EPOLLIN | select.EPOLLET)\n"
                "print('listening', s.getsockname()[1], flush=True)\nsys.stdin.readline()\n"
                "while True:\n    p.poll()\n    while True:\n"
                "        try: c, a = s.accept()\n        except BlockingIOError: break\n        c.sendall(a[0].encode()); c.close()\n")
        ours, theirs = socket.socketpair()
        with ours, theirs:
            server = self.use(proc.Process("server", self.line(PYTHON, "-u", "-c", code), self.directory, self._env({}),
                                           self.directory, stdin=theirs))
            port = int(server.wait_line(r"listening (\d+)").group(1))
            silent = [connect(("127.0.0.1", port), "127.0.0.2") for _ in range(200)]
            with connect(("127.0.0.1", port), "127.0.0.3") as peer:
                ours.sendall(b"\n")
                self.assertEqual(read_all(peer)[0], b"127.0.0.3")
            for each in silent:
                each.close()


if __name__ == "__main__":
    main()
