# suite: quick
"""connect() under towpath behaves as connect() does: the same calls, bare, to a server that is really there."""

import os
import socket
import struct
import subprocess
import threading

from lab import netns, proxy
from lab.case import LabCase, main
from lab.machine import MSG_DONTWAIT, MSG_FASTOPEN, Machine, address
from lab.origin import RawOrigin
from lab.proc import scaled, wait_until

FAR = "192.0.2.7"        # a destination that only the proxy reaches
FAR6 = "2001:db8:1::7"
NEAR = "198.51.100.7"    # the same server for the bare twin
NEAR6 = "2001:db8:2::7"
BANNER = b"220 lab\r\n"


class ConnectCase(LabCase):
    libc = "glibc"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        netns.add_address(NEAR + "/32")
        subprocess.run(["ip", "-6", "address", "add", NEAR6 + "/128", "dev", "lo", "nodad"], check=True)
        cls.addClassCleanup(netns.drop_address, NEAR + "/32")
        cls.addClassCleanup(os.system, f"ip -6 address del {NEAR6}/128 dev lo")

    def setUp(self):
        super().setUp()
        self.origin = self.use(RawOrigin(NEAR, banner=BANNER))
        self.origin6 = self.use(RawOrigin(NEAR6, self.origin.port, banner=BANNER))
        self.gate = threading.Event()
        self.addCleanup(self.gate.set)
        self.port = self.origin.port
        self.far = (FAR, self.port)

    def start_proxy(self, kind="http", answer=None, **rest):
        self.proxy = self.use(proxy.Proxy(kind, {FAR: self.origin.address, FAR6: self.origin.address}, answer=answer, **rest))
        self.proxy_values(self.proxy.url)

    def machine(self, **rest):
        self.start_proxy()
        return Machine(self, libc=self.libc, **rest)

    def held_machine(self, answer=None, **rest):
        """The proxy answers when the test sets self.gate."""
        self.start_proxy(answer=proxy.held(answer or proxy.grant(), self.gate))
        return Machine(self, libc=self.libc, **rest)

    def pending(self, m, where=None):
        """A non-blocking socket in the middle of its handshake: the proxy has the request."""
        fd = m.open(nonblocking=True)
        before = len(self.proxy.targets())
        self.assertEqual(m.connect(fd, where or self.far), "EINPROGRESS")
        wait_until(lambda: len(self.proxy.targets()) > before, "request at the proxy")
        return fd


class AsBare(ConnectCase):
    """Every scenario runs twice and must tell the same story."""

    def both(self, scenario):
        self.start_proxy()
        bare = scenario(Machine(self, bare=True, libc=self.libc), {4: (NEAR, self.port), 6: (NEAR6, self.port)})
        wait_until(lambda: self.origin.received + self.origin6.received, "connection of the bare twin")
        seen = len(self.proxy.connections)
        wrapped = scenario(Machine(self, libc=self.libc), {4: self.far, 6: (FAR6, self.port)})
        self.assertGreater(len(self.proxy.connections), seen, "nothing went through the proxy")
        plain = str(bare).replace(NEAR6, FAR6).replace(NEAR, FAR)
        self.assertEqual(str(wrapped), plain)
        return wrapped

    def test_blocking(self):
        def scenario(m, to):
            fd = m.open()
            return [m.peer(fd), m.connect(fd, to[4]), m.peer(fd), m.so_error(fd), m.connect(fd, to[4]),
                    m.connect(fd, to[4]), m.read(fd), m.write(fd, b"abc"), m.read(fd, 3), m.poll(fd, 4), m.close(fd),
                    m.close(fd), m.peer(fd), m.connect(fd, to[4])]
        self.both(scenario)

    def test_nonblocking(self):
        def scenario(m, to):
            fd = m.open(nonblocking=True)
            story = [m.connect(fd, to[4]), m.poll(fd, 4), m.so_error(fd), m.connect(fd, to[4]), m.connect(fd, to[4]),
                     m.peer(fd), m.poll(fd, 1), m.read(fd), m.read(fd)]
            return [*story, m.write(fd, b"abc"), m.poll(fd, 1), m.read(fd)]
        self.both(scenario)

    def test_ipv6(self):
        def scenario(m, to):
            fd = m.open(family=socket.AF_INET6)
            story = [m.connect(fd, to[6]), m.peer(fd), m.read(fd)]
            mapped = m.open(family=socket.AF_INET6)
            story += [m.connect(mapped, ("::ffff:" + to[4][0], to[4][1])), m.peer(mapped), m.read(mapped)]
            waiting = m.open(True, socket.AF_INET6)
            return story + [m.connect(waiting, to[6]), m.poll(waiting, 4), m.peer(waiting)]
        self.both(scenario)

    def test_getpeername_truncates(self):
        def scenario(m, to):
            fd, story = m.open(), []
            m.connect(fd, to[4])
            for room in (0, 1, 2, 4, 8, 15, 16, 17, 128):
                called = m.call("getpeername", fd, b"\xaa" * 128, struct.pack("=i", room))
                shown, size = called.buffers
                story.append((called.error, shown[:room].replace(address(to[4])[4:8], b"IPV4"), set(shown[room:]) - {0xAA},
                              struct.unpack("=i", size)))
            negative = m.call("getpeername", fd, bytes(16), struct.pack("=i", -1))
            return story + [negative.error, m.result("getpeername", fd, 8, struct.pack("=i", 16)),
                            m.result("getpeername", fd, bytes(16), 8), m.result("getpeername", 0x7000, bytes(16), bytes(4))]
        # Where only part of the address fits, what is cut off differs as the addresses do.
        self.start_proxy()
        stories = [scenario(Machine(self, bare=True, libc=self.libc), {4: (NEAR, self.port)}),
                   scenario(Machine(self, libc=self.libc), {4: self.far})]
        for bare, wrapped in zip(*stories):
            if isinstance(bare, tuple) and 4 < len(bare[1]) < 8:
                bare, wrapped = bare[:1] + bare[2:], wrapped[:1] + wrapped[2:]
            self.assertEqual(wrapped, bare)

    def test_errors_of_the_call_itself(self):
        def scenario(m, to):
            data = address(to[4])
            tcp, udp, unix = m.open(), m.open(kind=socket.SOCK_DGRAM), m.open(family=socket.AF_UNIX)
            ends = m.call("pipe", bytes(8)).buffers[0]
            pipe = struct.unpack("=ii", ends)[0]
            story = [m.result("connect", fd, *arguments) for fd in (tcp, pipe, 0x7000, -1) for arguments in (
                (0, 16), (8, 16), (data, 0), (data, 1), (data, 2), (data, 15), (data, -1), (data, 129),
                (address(to[6]), 28), (struct.pack("=H", socket.AF_UNIX) + b"/nowhere\0", 11),
                (struct.pack("=H", 99) + bytes(14), 16))]
            story += [m.result("connect", pipe, data, 16), m.result("connect", 0x7000, data, 16),
                      m.result("connect", -1, data, 16), m.result("connect", unix, data, 16)]
            v6 = m.open(family=socket.AF_INET6)
            story += [m.result("connect", v6, address(to[6]), size) for size in (16, 23)]
            story += [m.result("connect", v6, data, 16), m.result("connect", udp, data, 16), m.connect(tcp, to[4])]
            story += [m.result("connect", tcp, struct.pack("=H14x", 0), 16), m.peer(tcp), m.connect(tcp, to[4]), m.peer(tcp)]
            return story
        self.both(scenario)

    def test_a_listener_and_a_bound_socket(self):
        def scenario(m, to):
            fd = m.open()
            story = [m.result("bind", fd, address(("0.0.0.0", 0)), 16), m.connect(fd, to[4])]
            listener = m.open()
            return story + [m.result("bind", listener, address(("127.0.0.1", 0)), 16), m.result("listen", listener, 1),
                            m.connect(listener, to[4])]
        self.both(scenario)

    def test_fast_open(self):
        def scenario(m, to):
            data, story = address(to[4]), []

            def message(fd, text, *where):
                iov = m.put(struct.pack("=QQ", m.put(text), len(text)))
                name = m.put(where[0]) if where else 0
                return struct.pack("=QI4xQQQQi4x", name, len(where[0]) if where else 0, iov, 1, 0, 0, 0)

            for nonblocking in (False, True):
                for how in ("sendto", "sendmsg", "sendmmsg"):
                    fd = m.open(nonblocking)
                    if how == "sendto":
                        sent = m.result(how, fd, b"abc", 3, MSG_FASTOPEN, data, 16)
                    elif how == "sendmsg":
                        sent = m.result(how, fd, message(fd, b"abc", data), MSG_FASTOPEN)
                    else:
                        sent = m.result(how, fd, message(fd, b"abc", data) + struct.pack("=I4x", 0), 1, MSG_FASTOPEN)
                    story += [sent, m.poll(fd, 4), m.so_error(fd), m.peer(fd)]
                    if sent == "EINPROGRESS":
                        story.append(m.write(fd, b"abc"))
                    want, seen = BANNER + b"abc", b""
                    while len(seen) < len(want) and m.poll(fd, 1) == "IN":
                        seen += m.read(fd)
                    story += [seen, m.result("sendto", fd, b"d", 1, MSG_FASTOPEN, data, 16)]
            return story
        self.both(scenario)

    def test_by_number(self):
        """syscall(): what libuv and others use."""
        def scenario(m, to):
            numbers = {"connect": 42, "write": 1, "read": 0, "close": 3, "epoll_ctl": 233}
            fd = m.open()
            story = [m.result("syscall", numbers["connect"], fd, address(to[4]), 16), m.peer(fd),
                     m.result("syscall", numbers["write"], fd, b"abc", 3)]
            waiting, epoll = m.open(True), m.epoll()
            story += [m.result("syscall", numbers["connect"], waiting, address(to[4]), 16),
                      m.result("syscall", numbers["epoll_ctl"], epoll, 1, waiting, struct.pack("<IQ", 4, 9)),
                      m.wait(epoll), m.result("syscall", numbers["close"], waiting), m.close(waiting)]
            return story
        self.both(scenario)

    def test_other_families_are_untouched(self):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind("\0lab-" + self.directory)
        listener.listen()
        self.addCleanup(listener.close)
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        self.addCleanup(udp.close)

        def scenario(m, to):
            unix = m.open(family=socket.AF_UNIX)
            name = struct.pack("=H", socket.AF_UNIX) + b"\0lab-" + self.directory.encode()
            story = [m.result("connect", unix, name, len(name)), m.write(unix, b"u"), m.so_error(unix)]
            netlink = m.open(family=socket.AF_NETLINK, kind=socket.SOCK_RAW)
            story += [m.result("connect", netlink, struct.pack("=HHII", socket.AF_NETLINK, 0, 0, 0), 12)]
            datagram = m.open(kind=socket.SOCK_DGRAM)
            story += [m.connect(datagram, udp.getsockname()), m.write(datagram, b"d"), m.peer(datagram)]
            local = m.open()
            story += [m.connect(local, ("127.0.0.1", 1)), m.connect(m.open(True), ("127.0.0.1", 1))]
            return story + [m.connect(m.open(), to[4])]
        self.both(scenario)
        self.assertEqual(udp.recv(10), b"d")
        self.assertEqual(len(self.proxy.connections), 1)


class AsBareUnderMusl(AsBare):
    libc = "musl"


class WhilePending(ConnectCase):
    def test_what_a_pending_socket_says(self):
        m = self.held_machine()
        fd = self.pending(m)
        self.assertEqual(m.connect(fd, self.far), "EALREADY")
        self.assertEqual(m.peer(fd), "ENOTCONN")
        self.assertEqual(m.so_error(fd), 0)
        self.assertEqual(m.poll(fd, timeout=0), "timeout")
        self.assertEqual(m.select(fd, 0), "timeout")
        message = struct.pack("=QI4xQQQQi4x", 0, 0, m.put(struct.pack("=QQ", m.put(b"x" * 100), 100)), 1, 0, 0, 0)
        iov = struct.pack("=QQ", m.put(b"x" * 100), 100)
        for name, arguments in (
                ("read", (bytes(9), 9)), ("readv", (iov, 1)), ("recv", (bytes(9), 9, 0)), ("recv", (bytes(9), 9, 2)),
                ("recvfrom", (bytes(9), 9, 0, 0, 0)), ("recvmsg", (message, 0)),
                ("recvmmsg", (message + bytes(8), 1, 0, 0)), ("write", (b"x", 1)), ("writev", (iov, 1)),
                ("send", (b"x", 1, 0)), ("sendto", (b"x", 1, 0, 0, 0)), ("sendmsg", (message, 0)),
                ("sendmmsg", (message + bytes(8), 1, 0)), ("sendfile", (m.result("open", b"/etc/hosts\0", 0), 0, 9)),
                ("__read_chk", (bytes(9), 9, 9)), ("__recv_chk", (bytes(9), 9, 9, 0)),
                ("__recvfrom_chk", (bytes(9), 9, 9, 0, 0, 0))):
            if not m.has(name):
                continue
            with self.subTest(call=name):
                self.assertEqual(m.result(name, fd, *arguments), "EAGAIN")
        for number, arguments in ((0, (bytes(9), 9)), (1, (b"x", 1)), (44, (b"x", 1, 0, 0, 0)), (46, (message, 0)),
                                  (45, (bytes(9), 9, 0, 0, 0)), (47, (message, 0)), (19, (iov, 1)), (20, (iov, 1))):
            with self.subTest(syscall=number):
                self.assertEqual(m.result("syscall", number, fd, *arguments), "EAGAIN")
        self.gate.set()
        self.assertIn(m.poll(fd, 4), ("OUT",))
        self.assertEqual(m.connect(fd, self.far), 0)
        self.assertEqual(m.connect(fd, self.far), "EISCONN")
        self.assertEqual(m.peer(fd), self.far)
        self.assertEqual(m.poll(fd, 1), "IN")
        self.assertEqual(m.read(fd), BANNER)
        self.assertEqual(bytes(self.proxy.connections[0].received), b"")

    def test_waits_end_when_the_tunnel_stands(self):
        m = self.held_machine()
        fds = [self.pending(m) for _ in range(4)]
        pollfds = struct.pack("=ihh", fds[0], 4, 0)
        calls = [m.begin("poll", pollfds, 1, 10000),
                 m.begin("ppoll", struct.pack("=ihh", fds[1], 4, 0), 1, struct.pack("=qq", 10, 0), 0),
                 m.begin("select", fds[2] + 1, 0, (1 << fds[2]).to_bytes(128, "little"), 0, struct.pack("=qq", 10, 0)),
                 m.begin("pselect", fds[3] + 1, 0, (1 << fds[3]).to_bytes(128, "little"), 0, struct.pack("=qq", 10, 0), 0)]
        m.wait_asleep()
        self.assertEqual([m.ended(one) for one in calls], [False] * 4)
        self.gate.set()
        self.assertEqual([m.end(one).result for one in calls], [1] * 4)
        self.assertEqual([m.so_error(fd) for fd in fds], [0] * 4)

    def test_a_pending_socket_does_not_hide_others(self):
        m = self.held_machine()
        fd = self.pending(m)
        ends = struct.unpack("=ii", m.call("pipe", bytes(8)).buffers[0])
        m.write(ends[1], b"p")
        called = m.call("poll", struct.pack("=ihhihh", fd, 5, 0, ends[0], 1, 0), 2, 10000)
        self.assertEqual((called.result, struct.unpack("=ihhihh", called.buffers[0])[2::3]), (1, (0, 1)))
        room = ((1 << fd) | (1 << ends[0])).to_bytes(128, "little")
        called = m.call("select", 100, room, room, 0, struct.pack("=qq", 10, 0))
        self.assertEqual(called.result, 1)
        self.assertEqual(int.from_bytes(called.buffers[0], "little"), 1 << ends[0])
        self.assertEqual(int.from_bytes(called.buffers[1], "little"), 0)

    def test_unspec_cancels(self):
        m = self.held_machine(proxy.silence())
        fd = self.pending(m)
        self.assertEqual(m.result("connect", fd, struct.pack("=H14x", 0), 16), 0)
        self.gate.set()
        self.assertTrue(self.proxy.connections[0].ended.wait(scaled(5)))
        self.assertEqual(m.peer(fd), "ENOTCONN")
        self.proxy.answer = proxy.grant()
        self.assertEqual(m.connect(fd, self.far), "EINPROGRESS")
        self.assertEqual(m.poll(fd, 4), "OUT")
        self.assertEqual(m.so_error(fd), 0)

    def test_fast_open_while_pending(self):
        m = self.held_machine()
        fd = m.open(nonblocking=True)
        self.assertEqual(m.result("sendto", fd, b"abc", 3, MSG_FASTOPEN, address(self.far), 16), "EINPROGRESS")
        self.assertEqual(m.result("sendto", fd, b"abc", 3, MSG_FASTOPEN, address(self.far), 16), "EALREADY")
        waiting = m.open()
        self.assertEqual(m.result("sendto", waiting, b"abc", 3, MSG_FASTOPEN | MSG_DONTWAIT, address(self.far), 16),
                         "EINPROGRESS")
        self.gate.set()
        self.assertEqual(m.poll(fd, 4), "OUT")
        self.assertEqual(m.poll(waiting, 4), "OUT")
        self.assertEqual(m.write(fd, b"abc"), 3)

    def test_io_uring_is_not_there(self):
        m = self.machine()
        self.assertEqual(m.result("syscall", 425, 4, bytes(120)), "ENOSYS")

    def test_blocking_read_and_write_wait_for_the_tunnel(self):
        """One thread connects with SO_SNDTIMEO that runs out, the attempt goes on, others use the socket."""
        m = self.held_machine()
        fd = m.open()
        m.set_timeout(fd, 50)
        self.assertEqual(m.connect(fd, self.far), "EINPROGRESS")
        reading = m.begin("read", fd, bytes(100), 100)
        m.wait_asleep()
        self.assertFalse(m.ended(reading))
        self.gate.set()
        self.assertEqual(m.end(reading).result, len(BANNER))
        self.assertEqual(m.so_error(fd), 0)
        self.assertEqual(m.peer(fd), self.far)


class WhilePendingUnderMusl(WhilePending):
    libc = "musl"


class Families(ConnectCase):
    def test_ipv6_socket_to_an_ipv4_proxy(self):
        m = self.machine()
        for where in ((FAR6, self.port), ("::ffff:" + FAR, self.port)):
            fd = m.open(family=socket.AF_INET6)
            self.assertEqual(m.connect(fd, where), 0)
            self.assertEqual(m.peer(fd), where)
            self.assertEqual(m.read(fd), BANNER)
        self.assertEqual(self.proxy.targets(), [f"[{FAR6}]:{self.port}", f"{FAR}:{self.port}"])

    def test_ipv6_proxy(self):
        self.start_proxy(address="::1")
        m = Machine(self, libc=self.libc)
        fd = m.open(family=socket.AF_INET6)
        self.assertEqual((m.connect(fd, (FAR6, self.port)), m.read(fd)), (0, BANNER))

    def test_sockets_that_cannot_reach_the_proxy_are_relayed(self):
        """V6ONLY, bound to loopback, AF_INET with a proxy on ::1: the tunnel stands all the same."""
        m = self.machine()
        only = m.open(family=socket.AF_INET6)
        m.call("setsockopt", only, socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, struct.pack("=i", 1), 4)
        self.assertEqual(m.connect(only, (FAR6, self.port)), 0)
        self.assertEqual((m.peer(only), m.read(only)), ((FAR6, self.port), BANNER))
        self.start_proxy(address="::1")
        m = Machine(self, libc=self.libc)
        fd = m.open()
        self.assertEqual((m.connect(fd, self.far), m.read(fd), m.peer(fd)), (0, BANNER, self.far))
        fd = m.open(nonblocking=True)
        self.assertEqual((m.connect(fd, self.far), m.poll(fd, 4), m.so_error(fd)), ("EINPROGRESS", "OUT", 0))

    def test_without_fast_open(self):
        """net.ipv4.tcp_fastopen=0: the agent cannot start a connect on a blocking socket, the program does it."""
        path = "/proc/sys/net/ipv4/tcp_fastopen"
        with open(path) as file:
            before = file.read()
        with open(path, "w") as file:
            file.write("0")

        def restore():
            with open(path, "w") as file:
                file.write(before)
        self.addCleanup(restore)
        m = self.machine()
        fd = m.open()
        self.assertEqual((m.connect(fd, self.far), m.read(fd), m.peer(fd)), (0, BANNER, self.far))
        fd = m.open(nonblocking=True)
        self.assertEqual((m.connect(fd, self.far), m.poll(fd, 4), m.so_error(fd)), ("EINPROGRESS", "OUT", 0))
        for nonblocking in (False, True):
            fd = m.open(nonblocking)
            sent = m.result("sendto", fd, b"abc", 3, MSG_FASTOPEN, address(self.far), 16)
            self.assertEqual(sent, "EINPROGRESS" if nonblocking else 3)
        self.proxy.answer = proxy.refuse(403)
        fd = m.open()
        self.assertEqual((m.connect(fd, self.far), m.write(fd)), ("EACCES", "EPIPE"))
        self.proxy.answer = proxy.grant()
        self.assertEqual((m.connect(fd, self.far), m.read(fd)), (0, BANNER))
        lost = self.use(proxy.SynDrop())
        self.proxy_values(f"http://{lost.host}:{lost.port}", more="connectTimeout: 1s")
        m = Machine(self, libc=self.libc)
        self.assertEqual(m.connect(m.open(), self.far), "ETIMEDOUT")


if __name__ == "__main__":
    main()
