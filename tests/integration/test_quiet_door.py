# suite: quick
"""Non-blocking connects of programs whose waiting nobody can gate: the call says EINPROGRESS at once, and until the
verdict the socket is not ready for the kernel itself, whatever the program waits with."""

import os
import signal
import socket
import struct
import threading

from lab import docker, netns, proc, proxy
from lab.case import TOWPATH, main, probe, program
from lab.machine import ADD, EPOLLET, EPOLLIN, EPOLLOUT, Machine, address
from lab.origin import Origin
from lab.proc import scaled, wait_until
from test_static import BANNER, FAR, NEAR, StaticCase

HOWS = ("poll", "select", "level", "edge")
FAR6 = "2001:db8::7"
SO_BINDTODEVICE, TCP_SYNCNT, TCP_USER_TIMEOUT, IPPROTO_MPTCP = 25, 7, 18, 262


class DoorCase(StaticCase):
    binary, options = "static/waits", ()

    def waits(self, how, count, binary=None, hooked=False):
        """The program, fed by its standard input: (process, say)."""
        line = [*self.around, TOWPATH, "run", "-c", self.config, *(() if hooked else self.options), "--"]
        path = probe("waits") if (binary or self.binary) == "dynamic" else program(binary or self.binary)
        read_end, write_end = os.pipe()
        self.addCleanup(os.close, write_end)
        process = self.use(proc.Process("waits", [*line, path, how, str(count), *map(str, self.far)], self.directory,
                                        self._env(None), self.directory, stdin=read_end))
        os.close(read_end)
        return process, lambda word: os.write(write_end, word.encode() + b"\n")

    def told(self, process):
        self.assertEqual(process.wait(scaled(30)), 0, process.output())
        return dict(line.split("=") for line in process.out.splitlines() if "=" in line)

    def agent_of(self, process):
        for pid in netns.processes():
            try:
                with open(f"/proc/{pid}/comm") as comm, open(f"/proc/{pid}/stat") as stat:
                    if comm.read().strip() == "towpath-agent" and \
                            int(stat.read().rpartition(")")[2].split()[1]) == process.pid:
                        return pid
            except OSError:
                continue
        return self.fail("no agent")

    @staticmethod
    def descriptors(pid):
        return len(os.listdir(f"/proc/{pid}/fd"))


@docker.too
class ManyAtOnce(DoorCase):
    def test_nothing_is_serialised_and_the_loop_goes_on(self):
        """The proxy answers none before it has all requests, and the program serves a pipe meanwhile."""
        for how in HOWS:
            with self.subTest(how=how):
                self.gate.clear()
                self.proxy.answer = proxy.held(proxy.grant(), self.gate)
                before = len(self.proxy.targets())
                process, say = self.waits(how, 50)
                wait_until(lambda: len(self.proxy.targets()) == before + 50, "fifty requests", process=process)
                process.wait_line("^pending=50$")
                say("anything")
                process.wait_line("^served$")
                self.assertNotIn("ok=", process.out)
                self.gate.set()
                self.assertEqual(self.told(process), {"pending": "50", "ok": "50", "surprises": "0"})

    def test_outcomes_are_those_of_the_hooked_twin(self):
        for answer in (proxy.refuse(403), proxy.refuse(502), proxy.refuse(504), proxy.refuse(407), proxy.reset(),
                       proxy.close(), proxy.raw(b"garbage\r\n\r\n"), proxy.raw(b"HTTP/1.1 2"), proxy.silence()):
            self.proxy_values(self.proxy.url, exempt=NEAR, more="connectTimeout: 1s")
            self.proxy.answer = answer
            told = {}
            for binary in ("twin", self.binary):
                twin = binary == "twin"
                for how in ("level",) if twin else ("poll", "level", "edge"):
                    process, _ = self.waits(how, 5, binary="dynamic" if twin else binary, hooked=twin)
                    told[binary, how] = self.told(process)
            with self.subTest(answer=answer):
                first, *others = told.values()
                self.assertEqual(first["ok"], "0")
                self.assertEqual(first["surprises"], "0")
                self.assertEqual(others, [first] * len(others))

    def test_a_thousand_half_of_them_closed(self):
        self.proxy.answer = proxy.held(proxy.grant(), self.gate)
        process, say = self.waits("level", 1000)
        process.wait_line("^pending=1000$", scaled(30))
        wait_until(lambda: len(self.proxy.targets()) == 1000, "a thousand requests", 30, process)
        agent = self.agent_of(process)
        full = self.descriptors(agent)
        say("close")
        process.wait_line("^served$")
        # Their carriers, and our copies of them.
        wait_until(lambda: self.descriptors(agent) <= full - 1000, "end of what was closed", 20, process)
        self.gate.set()
        told = self.told(process)
        self.assertEqual((told["ok"], told["surprises"]), ("500", "0"), told)

    def test_left_behind(self):
        """The program ends: so do the attempts, at once or nearly."""
        self.proxy.answer = proxy.silence()
        m = self.machine()
        child = m.fork()
        agent = m.agent()
        before = self.descriptors(agent)
        for _ in range(20):
            self.assertEqual(child.connect(child.open(nonblocking=True), self.far), "EINPROGRESS")
        wait_until(lambda: len(self.proxy.targets()) == 20, "requests")
        os.kill(child.pid, signal.SIGKILL)
        wait_until(lambda: all(one.ended.is_set() for one in self.proxy.connections), "end at the proxy")
        wait_until(lambda: self.descriptors(agent) <= before + 4, "the agent's copies to go")  # the door itself


class ManyAtOnceSeccomp(ManyAtOnce):
    options = ("--mode", "seccomp")


class ManyAtOnceDynamic(ManyAtOnce):
    """The library is not in the way at all."""
    binary, options = "dynamic", ("--mode", "seccomp")


class ManyAtOnceMusl(ManyAtOnce):
    binary = "musl/waits"


class ManyAtOnceUser(ManyAtOnce):
    def setUp(self):
        super().setUp()
        self.around = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        os.chown(self.directory, 65534, 65534)


@docker.too
class OneSocket(DoorCase):
    def pending(self, m, fd=None):
        fd = m.open(nonblocking=True) if fd is None else fd
        before = len(self.proxy.targets())
        self.assertEqual(m.connect(fd, self.far), "EINPROGRESS")
        wait_until(lambda: len(self.proxy.targets()) > before, "request at the proxy")
        return fd

    def assert_opens(self, m, fd, far=None):
        self.gate.set()
        self.assertEqual([m.poll(fd, 4), m.so_error(fd), m.peer(fd)], ["OUT", 0, far or self.far])
        self.assertEqual([m.poll(fd, 1), m.read(fd), m.write(fd, b"abc"), m.poll(fd, 1), m.read(fd)],
                         ["IN", BANNER, 3, "IN", b"abc"])

    def test_it_waits_through_repeated_syns(self):
        """Until TCP has sent its SYN three times."""
        m = self.machine(held=proxy.grant())
        fd = self.pending(m)

        def repeated():
            called = m.call("getsockopt", fd, socket.IPPROTO_TCP, socket.TCP_INFO, bytes(104), struct.pack("=i", 104))
            return called.buffers[0][2] >= 2  # tcpi_retransmits
        wait_until(repeated, "repeated SYN", 20)
        self.assertEqual(m.poll(fd, timeout=0), "timeout")
        self.assert_opens(m, fd)

    def test_one_event_for_an_edge(self):
        m = self.machine(held=proxy.grant())
        fd, epoll = m.open(nonblocking=True), m.epoll()
        self.assertEqual(m.ctl(epoll, ADD, fd, EPOLLIN | EPOLLOUT | EPOLLET, 9), 0)
        m.wait(epoll, 0)  # HUP: it is not connecting yet
        self.pending(m, fd)
        self.assertEqual(m.wait(epoll, 0), {})
        self.gate.set()
        self.assertIn(m.wait(epoll), ({9: "OUT"}, {9: "IN|OUT"}))
        wait_until(lambda: "IN" in m.poll(fd, 1), "the banner")
        self.assertEqual(m.read(fd), BANNER)

    def test_bound_sockets(self):
        """To an address, a port, or both: it waits and is opened. To a device it is held, and goes nowhere else."""
        m = self.machine()
        for place in (("127.0.0.1", 0), ("127.0.0.9", 0), ("0.0.0.0", proc.free_port("0.0.0.0")), (NEAR, 0)):
            with self.subTest(place=place):
                fd = m.open(nonblocking=True)
                self.assertEqual(m.result("bind", fd, address(place), 16), 0)
                self.assert_opens(m, fd) if m.connect(fd, self.far) == "EINPROGRESS" else self.fail("held")
        fd = m.open(nonblocking=True)
        said = m.result("setsockopt", fd, socket.SOL_SOCKET, SO_BINDTODEVICE, b"veth-lab\0", 9)
        if said == 0:
            self.assertIsInstance(m.connect(fd, self.far), (int, str))

    def test_ipv6(self):
        """Also where v4 is not to be had (IPV6_V6ONLY), and bound to an address of its own."""
        far6 = (FAR6, self.origin.port)
        self.proxy.names[FAR6] = self.origin.address
        m = self.machine()
        for v6_only, bound in ((0, None), (1, None), (0, "::1"), (1, "::1")):
            with self.subTest(v6_only=v6_only, bound=bound):
                fd = m.open(nonblocking=True, family=socket.AF_INET6)
                m.call("setsockopt", fd, socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, struct.pack("=i", v6_only), 4)
                if bound:
                    self.assertEqual(m.result("bind", fd, address((bound, 0)), 28), 0)
                self.assertEqual(m.connect(fd, far6), "EINPROGRESS")
                self.assert_opens(m, fd, far6)

    def test_what_cannot_wait_there_is_held(self):
        """Multipath TCP, and a socket that begins with its first write: the verdict all the same."""
        m = self.machine()
        fd = m.open(nonblocking=True)
        m.call("setsockopt", fd, socket.IPPROTO_TCP, 30, struct.pack("=i", 1), 4)  # TCP_FASTOPEN_CONNECT
        self.assertEqual((m.connect(fd, self.far), m.peer(fd)), (0, self.far))
        fd = m.call("socket", socket.AF_INET, socket.SOCK_STREAM | os.O_NONBLOCK, IPPROTO_MPTCP).result
        if fd >= 0:
            self.assertIn(self.settle(m, fd), (0, "EOPNOTSUPP"))

    def test_its_own_patience_is_shorter(self):
        """The kernel ends it with ETIMEDOUT, and the attempt ends with it."""
        m = self.machine()
        self.proxy.answer = proxy.silence()
        fd = m.open(nonblocking=True)
        m.call("setsockopt", fd, socket.IPPROTO_TCP, TCP_USER_TIMEOUT, struct.pack("=i", 500), 4)
        m.call("setsockopt", fd, socket.IPPROTO_TCP, TCP_SYNCNT, struct.pack("=i", 1), 4)
        self.pending(m, fd)
        self.assertIn("ERR", m.poll(fd, timeout=15000))
        self.assertEqual([m.so_error(fd), m.so_error(fd)], ["ETIMEDOUT", 0])
        self.assertTrue(self.proxy.connections[0].ended.wait(scaled(5)))
        self.proxy.answer = proxy.grant()
        self.assertEqual((self.settle(m, fd), m.peer(fd)), (0, self.far))

    def test_given_up_by_the_program(self):
        """By AF_UNSPEC and by shutdown: nothing goes on, and the socket can have another."""
        m = self.machine()
        for how in ("unspec", "shutdown", "close"):
            with self.subTest(how=how):
                self.proxy.answer = proxy.silence()
                fd = self.pending(m)
                if how == "unspec":
                    self.assertEqual(m.result("connect", fd, struct.pack("=H14x", socket.AF_UNSPEC), 16), 0)
                elif how == "shutdown":
                    m.call("shutdown", fd, socket.SHUT_RDWR)
                else:
                    self.assertEqual(m.close(fd), 0)
                    fd = None
                self.assertTrue(self.proxy.connections[-1].ended.wait(scaled(5)))
                self.proxy.answer = proxy.grant()
                if fd is not None:
                    self.assertEqual(m.so_error(fd) if how == "unspec" else 0, 0 if how != "unspec" else "ECONNRESET")
                    self.assertEqual((self.settle(m, fd), m.peer(fd)), (0, self.far))

    def test_a_stranger_at_the_door(self):
        """Waits as well, and is never let in; whoever comes from elsewhere meets nobody."""
        m = self.machine(held=proxy.grant())
        fd = self.pending(m)
        called = m.call("getsockname", fd, bytes(16), struct.pack("=i", 16))
        own = socket.ntohs(struct.unpack_from("=HH", called.buffers[0])[1])
        door = next(int(words[2].split(":")[1], 16) for words in map(str.split, open("/proc/net/tcp"))
                    if words[1].endswith(f":{own:04X}") and words[3] == "02")
        strangers = [socket.socket() for _ in range(5)]
        for one in strangers:
            self.addCleanup(one.close)
            one.setblocking(False)
            self.assertNotEqual(one.connect_ex(("127.0.0.1", door)), 0)
        intruder = self.use(_Closing(socket.socket()))
        with self.assertRaises(ConnectionRefusedError):
            intruder.socket.connect(("127.0.0.1", own))  # as anybody's: not from the door's port
        self.assert_opens(m, fd)
        for one in strangers:
            self.assertEqual(m.so_error(fd), 0)
            with self.assertRaises(OSError):
                one.send(b"x")

    def test_shared_after_fork(self):
        m = self.machine(held=proxy.grant())
        fd = self.pending(m)
        child = m.fork()
        self.assertEqual(m.close(fd), 0)
        self.assertEqual(child.connect(fd, self.far), "EALREADY")
        self.assert_opens(child, fd)
        self.assertEqual(len(self.proxy.connections), 1)

    def test_the_number_is_another_sockets_by_then(self):
        """No event comes from what was closed, and the new one has nothing of the old one."""
        m = self.machine(held=proxy.refuse(403))
        epoll, fd = m.epoll(), m.open(nonblocking=True)
        self.assertEqual(m.ctl(epoll, ADD, fd, EPOLLIN | EPOLLOUT, 9), 0)
        self.pending(m, fd)
        self.assertEqual((m.close(fd), m.open(nonblocking=True)), (0, fd))
        self.gate.set()
        self.assertTrue(self.proxy.connections[0].ended.wait(scaled(5)))
        self.assertEqual(m.wait(epoll, 0), {})
        self.assertEqual((m.peer(fd), m.so_error(fd)), ("ENOTCONN", 0))


class _Closing:
    def __init__(self, one):
        self.socket = one

    def stop(self):
        self.socket.close()


class OneSocketMusl(OneSocket):
    libc = "static-musl"


@docker.too
class Names(DoorCase):
    records = {"near.example": ["127.0.0.81"]}

    def test_direct_behind_a_synthetic_address(self):
        """Only the port makes it direct: looked up and connected here, and the program's socket waits meanwhile."""
        near = self.use(Origin("127.0.0.81"))
        self.proxy_values(self.proxy.url, exempt=f"near.example:{near.port}")
        result = self.assert_ran(self.towpath(self.built("sockets"), "get", "poll", "near.example", near.port, "/near"))
        self.assertRegex(result.out, r"(?s)^connected=198\.1[89]\..*path=/near\n")
        self.assertEqual(self.proxy.connections, [])


class Faults(DoorCase):
    def test_the_agent_dies(self):
        """What waits is reset, says ENETDOWN, and nobody else can be met at the port."""
        m = self.machine(held=proxy.grant())
        fds = [m.open(nonblocking=True) for _ in range(20)]
        for fd in fds:
            self.assertEqual(m.connect(fd, self.far), "EINPROGRESS")
        wait_until(lambda: len(self.proxy.targets()) == 20, "requests")
        called = m.call("getsockname", fds[0], bytes(16), struct.pack("=i", 16))
        own = struct.unpack_from("=HH", called.buffers[0])[1]
        door = next(int(words[2].split(":")[1], 16) for words in map(str.split, open("/proc/net/tcp"))
                    if words[1].endswith(f":{socket.ntohs(own):04X}") and words[3] == "02")
        old = m.agent()
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: m.agent() not in (None, old), "another agent")
        thief = socket.socket()
        self.addCleanup(thief.close)
        with self.assertRaises(OSError):
            thief.bind(("127.0.0.1", door))
        for fd in fds:
            self.assertIn("ERR", m.poll(fd))
            self.assertEqual([m.so_error(fd), m.connect(fd, self.far), m.peer(fd)], ["ENETDOWN", "ENETDOWN", "ENOTCONN"])
        self.gate.set()
        fd = m.open(nonblocking=True)
        self.assertEqual((self.settle(m, fd), m.peer(fd)), (0, self.far))

    def test_another_network_namespace(self):
        m = self.machine()
        self.assertEqual(m.result("unshare", 0x40000000), 0)
        self.assertIsInstance(self.settle(m, m.open(nonblocking=True)), str)
        self.assertEqual(self.proxy.connections, [])

    def test_connects_under_fire(self):
        """Signals at every moment: each connect says EINPROGRESS once, EINTR, or EALREADY after it."""
        m = self.machine()
        m.handle(signal.SIGUSR1, 0x10000000)
        stop = threading.Event()

        def shoot():
            while not stop.wait(0.0002):
                os.kill(m.pid, signal.SIGUSR1)
        thread = threading.Thread(target=shoot)
        thread.start()
        try:
            for _ in range(200):
                fd = m.open(nonblocking=True)
                self.assertEqual(m.connect(fd, self.far), "EINPROGRESS")
                while (shown := m.poll(fd, 4)) == "EINTR":
                    pass
                self.assertEqual((shown, m.so_error(fd)), ("OUT", 0))
                self.assertEqual(m.close(fd), 0)
        finally:
            stop.set()
            thread.join()


if __name__ == "__main__":
    main()
