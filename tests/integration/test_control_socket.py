# suite: quick
"""Strangers at the agent's control socket: whatever they send, the agent serves on; and many askers at once."""

import array
import os
import random
import re
import select
import signal
import socket

from lab import netns, proxy
from lab.case import LabCase, main
from lab.machine import Machine, address, probe
from lab.origin import RawOrigin
from lab.proc import scaled, wait_until
from lab.tree import status_fields

FAR = ("192.0.2.7", 22)
BANNER = b"220 lab\r\n"


def links_of(pid):
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except OSError:
            continue
    return found


class ControlSocket(LabCase):
    def setUp(self):
        super().setUp()
        self.origin = self.use(RawOrigin(banner=BANNER))
        self.proxy = self.use(proxy.Proxy("http", {FAR[0]: self.origin.address}))
        self.proxy_values(self.proxy.url)

    def start_machine(self):
        self.m = Machine(self)
        with open(f"/proc/{self.m.pid}/environ") as file:
            value = re.search(r"TOWPATH_CONTROL=([^\0]*)", file.read()).group(1)
        self.name, token = value.split(":")
        self.token = bytes.fromhex(token)
        self.agent = wait_until(self.m.agent, "the agent")

    def reach(self):
        one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        one.settimeout(scaled(5))
        one.connect("\0" + self.name)
        self.addCleanup(one.close)
        return one

    def say(self, packet, descriptors=()):
        """The answer; b"" when the agent hangs up."""
        one = self.reach()
        try:
            one.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else [])
            return one.recv(8192)
        except (ConnectionResetError, BrokenPipeError):
            return b""
        finally:
            one.close()

    def record(self, act):
        """The packets of a real conversation: what the library says when the program does `act`."""
        log = os.path.join(self.directory, "strace")
        m = Machine(self, before=("strace", "-f", "-xx", "-s", "9999", "-e", "trace=sendmsg", "-o", log))
        with open(f"/proc/{m.pid}/environ") as file:
            theirs = bytes.fromhex(re.search(r"TOWPATH_CONTROL=[^\0:]*:([^\0]*)", file.read()).group(1))
        act(m)
        m.leave()
        m.process.wait()
        packets = []
        for line in open(log):
            found = re.search(r'iov_base="([^"]*)"', line)
            data = bytes.fromhex(found.group(1).replace("\\x", "")) if found else b""
            if theirs in data:
                packets.append(data.replace(theirs, self.token))
        self.assertTrue(packets, "no packet of the library was seen")
        return packets

    def serves(self):
        self.assertEqual(self.m.agent(), self.agent, "another agent than before")
        fd = self.m.open()
        self.assertEqual((self.m.connect(fd, FAR), self.m.read(fd)), (0, BANNER))
        self.m.close(fd)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.agent}/fd"))

    def test_bytes_from_strangers(self):
        self.start_machine()
        self.serves()
        before, generator = self.descriptors(), random.Random(7)
        for size in (0, 1, 4, 24, 25, 100, 4095, 4096, 4097, 60000):
            self.assertEqual(self.say(generator.randbytes(size)), b"")
        for _ in range(300):
            self.assertEqual(self.say(generator.randbytes(generator.randrange(1, 200)), [0] if generator.random() < .3 else ()), b"")
        self.serves()
        wait_until(lambda: self.descriptors() <= before, "the agent closing what strangers sent")

    def test_damaged_asks_and_wrong_descriptors(self):
        self.need("strace")
        self.start_machine()

        def act(m):
            fd, epoll = m.open(nonblocking=True), m.epoll()
            m.ctl(epoll, 1, fd)
            m.connect(fd, FAR)
            m.ctl(epoll, 3, fd)
            m.poll(fd)
            m.close(fd)
        packets = self.record(act)
        before, generator = self.descriptors(), random.Random(8)
        pipe = os.pipe()
        tcp = [socket.socket() for _ in range(2)]
        unix = socket.socket(socket.AF_UNIX)
        self.addCleanup(lambda: [os.close(one) for one in pipe] + [one.close() for one in (*tcp, unix)])
        many = [tcp[0].fileno()] * 30
        for packet in packets:
            # A right token, and everything else wrong: no descriptor, of another kind, another socket, too many.
            for passed in ((), (pipe[0],), (tcp[0].fileno(),), (unix.fileno(),), (tcp[0].fileno(), pipe[0]), tuple(many)):
                self.say(packet, passed)
            wrong = bytearray(packet)
            at = packet.index(self.token)
            wrong[at] ^= 1
            self.assertEqual(self.say(bytes(wrong), (tcp[0].fileno(),)), b"", "served without the right token")
            for cut in range(0, len(packet), 3):
                self.assertEqual(self.say(packet[:cut], (tcp[0].fileno(),)), b"")
            for _ in range(150):
                damaged = bytearray(packet)
                for _ in range(generator.randrange(1, 4)):
                    where = generator.randrange(at + 16, len(packet)) if len(packet) > at + 16 else 0
                    damaged[where] = generator.randrange(256)
                one = self.reach()
                try:
                    one.sendmsg([bytes(damaged)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [tcp[1].fileno()]))])
                except OSError:
                    pass
                one.close()
        self.serves()
        wait_until(lambda: self.descriptors() <= before + 2, "the agent closing what strangers sent")
        # Too many descriptors are the stranger's fault.
        self.assertNotIn("agent_full", self.m.process.err)
        # Sockets that were passed under a wrong identity are as they were.
        self.assertRaises(OSError, tcp[0].getpeername)

    def test_a_thousand_silent_connections(self):
        self.start_machine()
        before = self.descriptors()
        silent = [self.reach() for _ in range(1000)]
        self.serves()
        for one in silent:
            one.close()
        wait_until(lambda: self.descriptors() <= before + 2, "the agent closing what has gone")
        self.serves()

    def test_the_oldest_of_a_crowd_of_silent_connections_goes(self):
        """A quarter of what the agent may have open: 256 of 1024."""
        self.around = (self.need("prlimit"), "--nofile=1024")
        self.start_machine()
        silent = [self.reach() for _ in range(300)]
        self.assertEqual(silent[0].recv(1), b"")
        self.serves()
        self.assertEqual([one.recv(1) for one in silent[1:44]], [b""] * 43)
        silent[-1].setblocking(False)
        self.assertRaises(BlockingIOError, silent[-1].recv, 1)

    def test_a_program_that_is_stopped_in_mid_connect(self):
        """At every system call of a connect in turn, by strace; longer than anybody is waited for who is thought gone."""
        self.need("strace")
        self.start_machine()
        self.serves()
        stopped = []
        for call, when in (("socket", 1), ("socket", 2), ("setsockopt", 1), ("connect", 1), ("getsockopt", 1), ("getsockopt", 3),
                           ("sendmsg", 1), ("recvfrom", 1), ("recvfrom", 2), ("close", 1), ("close", 2)):
            with self.subTest(after=call, when=when):
                strace = self.spawn("strace", "strace", "-qq", "-o", os.devnull, "-p", self.m.pid, "-e", f"trace={call}",
                                    "-e", f"inject={call}:signal=STOP:when={when}")
                wait_until(lambda: status_fields(open(f"/proc/{self.m.pid}/status").read())["TracerPid"] != "0", "strace",
                           process=strace)
                fd = self.m.begin("socket", socket.AF_INET, socket.SOCK_STREAM, 0, how="call")
                self.go_on_when_stopped(fd, call, stopped)
                fd = self.m.end(fd).result
                connecting = self.m.begin("connect", fd, address(FAR), len(address(FAR)), how="call")
                self.go_on_when_stopped(connecting, call, stopped)
                self.assertEqual(self.m.end(connecting).error, 0)
                strace.stop()
                self.assertEqual(self.m.read(fd), BANNER)
                self.m.close(fd)
        self.assertLessEqual({"socket", "connect", "sendmsg", "getsockopt"}, set(stopped))
        self.assertEqual(self.m.agent(), self.agent)

    def go_on_when_stopped(self, call, name, stopped):
        def look():
            with open(f"/proc/{self.m.pid}/stat") as file:
                return file.read().rpartition(")")[2].split()[0] == "t" or self.m.ended(call)
        wait_until(look, "the program stopping")
        if self.m.ended(call):
            return
        stopped.append(name)
        select.select([], [], [], 2)  # the time is what this is about
        os.kill(self.m.pid, signal.SIGCONT)

    def test_many_threads(self):
        for libc in ("glibc", "musl"):
            program = probe("many", libc)
            if not os.access(program, os.X_OK):
                continue
            result = self.assert_ran(self.towpath(program, 64, 20, *FAR, timeout=60))
            self.assertEqual(result.out, "ok=1280\n", result.err[-1000:])
        self.assertEqual(set(self.proxy.targets()), {"%s:%d" % FAR})

    def test_an_open_tunnel_costs_no_call(self):
        """strace: after connect() has returned the program's own calls are all there is."""
        self.need("strace")
        log = os.path.join(self.directory, "strace")
        m = Machine(self, before=("strace", "-f", "-o", log))
        blocking, waiting = m.open(), m.open(nonblocking=True)
        self.assertEqual((m.connect(blocking, FAR), m.connect(waiting, FAR), m.poll(waiting, 4), m.so_error(waiting)),
                         (0, "EINPROGRESS", "OUT", 0))
        # The verdict is told a moment before the agent's copies are closed; until then hooks still look.
        links = {os.readlink(f"/proc/{m.pid}/fd/{fd}") for fd in (blocking, waiting)}
        wait_until(lambda: not any(links & links_of(agent) for agent in netns.agents()), "the agent letting go")
        m.so_error(waiting)
        m.call("getppid")
        for fd in (blocking, waiting):
            m.poll(fd, 1)
            m.read(fd)
            m.write(fd, b"x")
            m.call("send", fd, b"y", 1, 0)
            m.call("recv", fd, bytes(1), 1, 0)
        epoll = m.epoll()
        m.ctl(epoll, 1, waiting, 4)
        m.wait(epoll)
        m.close(epoll)
        m.close(waiting)
        m.close(blocking)
        m.call("getppid")
        m.leave()
        m.process.wait()
        between = open(log).read().split("getppid(")[1]
        calls = [re.match(r"\d+ +(\w+)\(", line) for line in between.splitlines()[1:] if "(600," not in line]
        calls = [call.group(1) for call in calls if call]
        calls = [call for call in calls if call not in ("brk", "mmap", "munmap", "mprotect")]
        wanted = ["poll", "read", "write", "sendto", "recvfrom"] * 2 + ["epoll_create1", "epoll_ctl", "epoll_wait"] + ["close"] * 3
        self.assertEqual(calls, wanted)


if __name__ == "__main__":
    main()
