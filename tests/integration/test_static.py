# suite: quick
"""Static programs that are not Go: a blocking connect is held until the verdict and then says 0 or the errno. What
non-blocking ones see is in test_quiet_door.py, too."""

import os
import signal
import socket
import struct
import threading

from lab import docker, netns, proxy
from lab.case import LabCase, main, program
from lab.machine import EPOLLIN, EPOLLOUT, ADD, MSG_DONTWAIT, MSG_FASTOPEN, Machine, address
from lab.origin import Origin, RawOrigin
from lab.proc import scaled, wait_until

FAR = "192.0.2.7"        # a destination that only the proxy reaches
NEAR = "198.51.100.7"    # an exempt one
BANNER = b"220 lab\r\n"
UNSPEC = struct.pack("=H14x", 0)
SYS_io_uring_setup = 425


class StaticCase(LabCase):
    libc = "static"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        netns.add_address(NEAR + "/32")
        cls.addClassCleanup(netns.drop_address, NEAR + "/32")

    def setUp(self):
        super().setUp()
        self.origin = self.use(RawOrigin("127.0.0.80", banner=BANNER))
        self.gate = threading.Event()
        self.addCleanup(self.gate.set)
        self.far = (FAR, self.origin.port)
        self.proxy = self.use(proxy.Proxy("http", {FAR: self.origin.address}))
        self.proxy_values(self.proxy.url, exempt=NEAR)

    def machine(self, held=None, **rest):
        """With `held`, the proxy gives that answer when the test sets self.gate."""
        if held:
            self.proxy.answer = proxy.held(held, self.gate)
        return Machine(self, libc=self.libc, **rest)

    def built(self, name):
        return program(("musl/" if "musl" in self.libc else "static/") + name)

    def begin(self, m, nonblocking=False, fd=None):
        """A connect that is held: (descriptor, call)."""
        fd = m.open(nonblocking) if fd is None else fd
        before = len(self.proxy.targets())
        call = m.begin("connect", fd, address(self.far), 16)
        wait_until(lambda: len(self.proxy.targets()) > before, "request at the proxy")
        self.assertFalse(m.ended(call))
        return fd, call

    @staticmethod
    def outcome(called):
        return called.error or called.result

    def settle(self, m, fd, where=None):
        """What becomes of a connect, blocking or not: 0 or the errno's name."""
        said = m.connect(fd, where or self.far)
        if said != "EINPROGRESS":
            return said
        self.assertIn("OUT", m.poll(fd, 4))
        return m.so_error(fd)


@docker.too
class Connect(StaticCase):
    def test_blocking(self):
        m = self.machine()
        fd = m.open()
        story = [m.peer(fd), m.connect(fd, self.far), m.peer(fd), m.so_error(fd), m.connect(fd, self.far),
                 m.read(fd), m.write(fd, b"abc"), m.read(fd, 3), m.poll(fd, 4), m.close(fd), m.close(fd), m.peer(fd)]
        self.assertEqual(story, ["ENOTCONN", 0, self.far, 0, "EISCONN", BANNER, 3, b"abc", "OUT", 0, "EBADF", "EBADF"])
        self.assertEqual(self.proxy.targets(), ["%s:%d" % self.far])

    def test_nonblocking(self):
        m = self.machine(held=proxy.grant())
        fd = m.open(nonblocking=True)
        pending = [m.connect(fd, self.far), m.connect(fd, self.far), m.so_error(fd), m.poll(fd, timeout=0), m.peer(fd),
                   m.read(fd), m.write(fd)]
        self.assertEqual(pending, ["EINPROGRESS", "EALREADY", 0, "timeout", "ENOTCONN", "EAGAIN", "EAGAIN"])
        self.gate.set()
        again = "EISCONN" if self.around else 0  # the agent has no copy of that socket any more
        self.assertEqual([m.poll(fd, 4), m.so_error(fd), m.connect(fd, self.far), m.connect(fd, self.far), m.peer(fd),
                          m.poll(fd, 1), m.read(fd)], ["OUT", 0, again, "EISCONN", self.far, "IN", BANNER])
        self.assertEqual(len(self.proxy.connections), 1)

    def test_registered_before_connect(self):
        m = self.machine(held=proxy.grant())
        fd, epoll = m.open(nonblocking=True), m.epoll()
        self.assertEqual(m.ctl(epoll, ADD, fd, EPOLLIN | EPOLLOUT, 9), 0)
        self.assertEqual(m.connect(fd, self.far), "EINPROGRESS")
        self.assertEqual(m.wait(epoll, 0), {})
        self.gate.set()
        wait_until(lambda: m.wait(epoll) == {9: "IN|OUT"}, "the banner")
        self.assertEqual(m.read(fd), BANNER)

    def test_refusals(self):
        m = self.machine()
        for status, name in ((403, "EACCES"), (504, "ETIMEDOUT"), (502, "ECONNREFUSED")):
            for nonblocking in (False, True):
                with self.subTest(status=status, nonblocking=nonblocking):
                    self.proxy.answer = proxy.refuse(status)
                    fd = m.open(nonblocking)
                    self.assertEqual(self.settle(m, fd), name)
                    self.assertEqual(m.peer(fd), "ENOTCONN")
                    self.assertEqual(m.so_error(fd), 0)
                    self.assertIn(m.write(fd), ("EPIPE", "ENOTCONN"))
                    self.proxy.answer = proxy.grant()
                    self.assertEqual((self.settle(m, fd), m.peer(fd)), (0, self.far))
        self.assertEqual([bytes(one.after_refusal) for one in self.proxy.connections], [b""] * len(self.proxy.connections))

    def test_unspec_ends_a_tunnel(self):
        m = self.machine()
        fd = m.open()
        self.assertEqual(m.connect(fd, self.far), 0)
        self.assertEqual(m.result("connect", fd, UNSPEC, 16), 0)
        self.assertEqual(m.peer(fd), "ENOTCONN")
        self.assertTrue(self.proxy.connections[0].ended.wait(scaled(5)))
        if self.around:  # the agent has no copy of that socket any more: refused, not direct
            return self.assertEqual(m.connect(fd, self.far), "EACCES")
        self.assertEqual((m.connect(fd, self.far), m.read(fd)), (0, BANNER))

    def test_a_second_connect_while_one_is_held(self):
        """It waits with it. On a non-blocking socket it does not, also when that one's pending."""
        m = self.machine(held=proxy.grant())
        fd, call = self.begin(m)
        second = m.begin("connect", fd, address(self.far), 16)
        other = m.open(nonblocking=True)
        self.assertEqual([m.connect(other, self.far), m.connect(other, self.far)], ["EINPROGRESS", "EALREADY"])
        m.call("fcntl", other, 4, 0)  # blocking from now on
        waiting = m.begin("connect", other, address(self.far), 16)
        self.assertEqual([m.peer(fd), m.peer(other)], ["ENOTCONN"] * 2)
        self.assertFalse(m.ended(second))
        self.gate.set()
        self.assertEqual([self.outcome(m.end(one)) for one in (call, waiting)], [0, 0])
        self.assertEqual((m.peer(other), m.read(other)), (self.far, BANNER))
        self.assertIn(self.outcome(m.end(second)), (0, "EISCONN"))
        self.assertEqual(len(self.proxy.connections), 2)

    def test_exempt_destinations_are_direct(self):
        inside = self.use(RawOrigin(NEAR, banner=b"direct"))
        m = self.machine()
        for nonblocking in (False, True):
            fd = m.open(nonblocking)
            self.assertIn(m.connect(fd, inside.address), (0, "EINPROGRESS"))
            self.assertEqual([m.poll(fd, 4), m.so_error(fd), m.peer(fd), m.poll(fd, 1), m.read(fd)],
                             ["OUT", 0, inside.address, "IN", b"direct"])
        closed = (NEAR, 1)
        self.assertEqual(m.connect(m.open(), closed), "ECONNREFUSED")
        self.assertEqual(m.connect(m.open(), ("127.0.0.1", 1)), "ECONNREFUSED")
        self.assertEqual(self.proxy.connections, [])

    def test_errors_of_the_call_itself(self):
        """As bare: bad descriptors, addresses and sizes."""
        def story(m):
            data = address(("127.0.0.1", 1))
            tcp, udp, pipe = m.open(), m.open(kind=socket.SOCK_DGRAM), m.result("open", b"/dev/null\0", 2)
            return [m.result("connect", fd, *arguments) for fd in (tcp, pipe, 0x7000, -1) for arguments in (
                (0, 16), (8, 16), (data, 0), (data, 1), (data, 2), (data, 15), (data, -1), (data, 129),
                (struct.pack("=H", socket.AF_UNIX) + b"/nowhere\0", 11), (struct.pack("=H", 99) + bytes(14), 16))
            ] + [m.result("connect", udp, data, 16), m.peer(udp), m.result("connect", udp, UNSPEC, 16)] + [
                m.result("getpeername", tcp, 8, struct.pack("=i", 16)), m.result("epoll_ctl", m.epoll(), ADD, tcp, 8),
                m.result("getsockopt", tcp, 1, 4, 8, struct.pack("=i", 4)), m.result("epoll_ctl", 0x7000, ADD, tcp, 8)]
        self.assertEqual(story(self.machine()), story(self.machine(bare=True)))

    def test_other_families_are_untouched(self):
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        name = "\0lab-" + self.directory
        listener.bind(name)
        listener.listen()
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(udp.close)
        udp.bind(("127.0.0.1", 0))

        def story(m):
            unix = m.open(family=socket.AF_UNIX)
            place = struct.pack("=H", socket.AF_UNIX) + name.encode()
            datagram, netlink = m.open(kind=socket.SOCK_DGRAM), m.open(family=socket.AF_NETLINK, kind=socket.SOCK_RAW)
            return [m.result("connect", unix, place, len(place)), m.write(unix, b"u"), m.so_error(unix),
                    m.result("connect", netlink, struct.pack("=HHII", socket.AF_NETLINK, 0, 0, 0), 12),
                    m.connect(datagram, udp.getsockname()), m.write(datagram, b"d"), m.peer(datagram),
                    m.result("sendto", datagram, b"e", 1, 0, address(udp.getsockname()), 16)]
        self.assertEqual(story(self.machine()), story(self.machine(bare=True)))
        self.assertEqual([udp.recv(9) for _ in range(4)], [b"d", b"e"] * 2)
        self.assertEqual(self.proxy.connections, [])

    def test_fast_open_is_not_there(self):
        """Programs fall back to connect; a datagram's address is no matter of ours."""
        m = self.machine()
        data = address(self.far)
        message = struct.pack("=QI4xQQQQi4x", m.put(data), 16, m.put(struct.pack("=QQ", m.put(b"abc"), 3)), 1, 0, 0, 0)
        for flags in (MSG_FASTOPEN, MSG_FASTOPEN | MSG_DONTWAIT):
            fd = m.open()
            self.assertEqual(m.result("sendto", fd, b"abc", 3, flags, data, 16), "EOPNOTSUPP")
            self.assertEqual(m.result("sendmsg", fd, message, flags), "EOPNOTSUPP")
            self.assertEqual(m.result("sendmmsg", fd, message + bytes(8), 1, flags), "EOPNOTSUPP")
            self.assertEqual((m.connect(fd, self.far), m.write(fd, b"abc"), m.read(fd, len(BANNER))), (0, 3, BANNER))
        self.assertEqual(len(self.proxy.connections), 2)

    def test_other_ways_into_the_kernel_are_closed(self):
        m = self.machine()
        self.assertEqual(m.result("syscall", SYS_io_uring_setup, 4, bytes(120)), "ENOSYS")
        netns.add_address(FAR + "/32")
        self.addCleanup(netns.drop_address, FAR + "/32")
        decoy = self.use(RawOrigin(FAR))
        result = self.assert_ran(self.towpath(self.built("sockets"), "foreign", *decoy.address))
        self.assertEqual(len(result.out.split()), 3, result.out)
        self.assertNotRegex(result.out, "=0$")
        self.assertEqual(decoy.received, [])

    def test_an_address_that_changes_in_between(self):
        """Whichever it was, it was one of the two: the decoy at the far address is never reached directly."""
        netns.add_address(FAR + "/32")
        self.addCleanup(netns.drop_address, FAR + "/32")
        decoy = self.use(RawOrigin(FAR, banner=b"D"))
        self.use(RawOrigin(NEAR, decoy.port, banner=b"N"))
        self.proxy.names[FAR] = self.use(RawOrigin("127.0.0.80", banner=b"F")).address
        result = self.assert_ran(self.towpath(self.built("sockets"), "rewrite", FAR, NEAR, decoy.port, 300))
        self.assertRegex(result.out, r"^F=\d+\nN=\d+\nfailures=0\n$")
        self.assertEqual(decoy.received, [])
        self.assertEqual(set(self.proxy.targets()), {f"{FAR}:{decoy.port}"})


@docker.too
class Interrupted(StaticCase):
    def test_an_alarm_of_a_program_with_one_thread(self):
        """busybox nc -w and the like: the handler runs, and connect says EINTR."""
        self.proxy.answer = proxy.silence()
        result = self.assert_ran(self.towpath(self.built("sockets"), "alarm", *self.far))
        self.assertEqual(result.out, "errno=4\n")
        self.assertTrue(self.proxy.connections[0].ended.wait(scaled(5)))

    def test_busybox_gives_up(self):
        self.proxy.answer = proxy.silence()
        result = self.towpath(self.need("busybox"), "nc", "-w", "1", FAR, "7")
        self.assertIn("timed out", result.err)
        self.assertEqual(len(self.proxy.connections), 1)

    def test_a_signal_to_one_of_many_threads(self):
        m = self.machine(held=proxy.grant())
        m.handle(signal.SIGUSR1)
        _, call = self.begin(m)
        os.kill(m.pid, signal.SIGUSR1)
        self.assertEqual(self.outcome(m.end(call)), "EINTR")
        self.assertEqual(m.handled(), 1)

    def test_a_handler_that_restarts(self):
        """SA_RESTART, and a signal that is ignored: the call goes on, and is made once."""
        m = self.machine(held=proxy.grant())
        m.handle(signal.SIGUSR1, 0x10000000)
        _, call = self.begin(m)
        for _ in range(5):
            os.kill(m.pid, signal.SIGUSR1)
            os.kill(m.pid, signal.SIGCHLD)
        wait_until(lambda: m.handled(), "handler")
        self.assertFalse(m.ended(call))
        self.gate.set()
        self.assertIn(self.outcome(m.end(call)), (0, "EISCONN"))  # a connect that is restarted may find its own work done
        self.assertEqual(len(self.proxy.connections), 1)

    def test_a_send_timeout(self):
        m = self.machine(held=proxy.grant())
        fd = m.open()
        m.set_timeout(fd, 100)
        self.assertIn(m.connect(fd, self.far), ("EINPROGRESS", "EAGAIN"))

    def test_closed_meanwhile(self):
        """The number is reused at once; the new socket has nothing of the old one."""
        m = self.machine(held=proxy.grant())
        fd, call = self.begin(m)
        self.assertEqual(m.close(fd), 0)
        self.assertEqual(m.open(), fd)
        self.gate.set()
        m.end(call)  # whatever it says
        self.assertEqual((m.peer(fd), m.poll(fd, 4)), ("ENOTCONN", "OUT|HUP"))
        self.assertTrue(self.proxy.connections[0].ended.wait(scaled(5)), "the closed socket is still open somewhere")
        self.assertEqual((m.connect(fd, self.far), m.read(fd)), (0, BANNER))

    def test_killed_meanwhile(self):
        m = self.machine()
        self.proxy.answer = proxy.silence()
        child = m.fork()
        self.begin(child)
        os.kill(child.pid, signal.SIGKILL)
        self.assertTrue(self.proxy.connections[0].ended.wait(scaled(5)))
        self.proxy.answer = proxy.grant()
        self.assertEqual(m.connect(m.open(), self.far), 0)

    def test_becomes_another_program_meanwhile(self):
        """The thread in connect is gone; the socket, which was not to be kept, too."""
        m = self.machine()
        self.proxy.answer = proxy.silence()
        fd = m.open()
        m.call("fcntl", fd, 2, 1)  # FD_CLOEXEC
        self.begin(m, fd=fd)
        path = self.built("calls").encode() + b"\0"
        words = m.put(struct.pack("=QQ", m.put(path), 0))
        m.begin("execve", path, words, m.put(bytes(8)), how="call")
        self.assertEqual(m.call("getpid").result, m.pid)
        self.assertTrue(self.proxy.connections[0].ended.wait(scaled(5)))
        self.proxy.answer = proxy.grant()
        self.assertEqual(m.connect(m.open(), self.far), 0)


@docker.too
class OwnResolver(StaticCase):
    records = {"inside.exempt.example": ["127.0.0.81"]}

    def setUp(self):
        super().setUp()
        self.proxy_values(self.proxy.url, exempt="exempt.example")

    def test_names(self):
        """getaddrinfo of a static libc asks by datagrams, and compares who answers."""
        self.proxy.names["tunnelled.example"] = self.use(Origin("127.0.0.80")).address
        inside = self.use(Origin("127.0.0.81"))
        for libc in ("static", "musl"):
            with self.subTest(libc=libc):
                command = [program(f"{libc}/sockets"), "get", "poll"]
                self.dns.queries.clear()
                result = self.assert_ran(self.towpath(*command, "tunnelled.example", 7, "/far"))
                self.assertRegex(result.out, r"(?s)^connected=198\.1[89]\..*path=/far\n")
                self.assertFalse(self.dns.queries)
                result = self.assert_ran(self.towpath(*command, "inside.exempt.example", inside.port, "/near"))
                self.assertIn("path=/near\n", result.out)
                self.assertTrue(self.dns.asked("inside.exempt.example"))
        self.assertEqual(self.proxy.targets(), ["tunnelled.example:7"] * 2)

    def test_a_question_by_hand(self):
        """recvfrom names the server that was asked, not ours."""
        elsewhere = "192.0.2.53"
        m = self.machine()
        question = struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0) + b"\x09tunnelled\x07example\0" + struct.pack("!HH", 1, 1)
        for server in ("127.0.0.1", elsewhere):
            for connected in (False, True):
                with self.subTest(server=server, connected=connected):
                    fd = m.open(kind=socket.SOCK_DGRAM)
                    if connected:
                        self.assertEqual(m.connect(fd, (server, 53)), 0)
                        self.assertEqual(m.peer(fd), (server, 53))
                        self.assertEqual(m.write(fd, question), len(question))
                    else:
                        sent = m.result("sendto", fd, question, len(question), 0, address((server, 53)), 16)
                        self.assertEqual(sent, len(question))
                    self.assertEqual(m.poll(fd, 1), "IN")
                    called = m.call("recvfrom", fd, bytes(512), 512, 0, bytes(16), struct.pack("=i", 16))
                    self.assertEqual(called.buffers[1][2:8], struct.pack("!H", 53) + socket.inet_aton(server))
                    self.assertRegex(socket.inet_ntoa(called.buffers[0][called.result - 4:called.result]), r"^198\.1[89]\.")
        self.assertFalse(self.dns.queries)


class ConnectMusl(Connect):
    libc = "static-musl"


class InterruptedMusl(Interrupted):
    libc = "static-musl"


if __name__ == "__main__":
    main()
