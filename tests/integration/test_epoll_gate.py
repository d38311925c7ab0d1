# suite: quick
"""epoll and a handshake: a program's epoll set shows its socket when the tunnel stands, as if nothing stood in between."""

import os
import socket
import struct
import threading

from lab import proxy
from lab.case import LabCase, main
from lab.machine import ADD, DEL, EPOLLET, EPOLLIN, EPOLLONESHOT, EPOLLOUT, EPOLLRDHUP, MOD, Machine
from lab.origin import RawOrigin
from lab.proc import scaled, wait_until

FAR = ("192.0.2.7", 22)
BANNER = b"220 lab\r\n"
LEVEL = EPOLLIN | EPOLLOUT
DATA = 0xFEDCBA9876543210


class EpollGate(LabCase):
    libc = "glibc"

    def setUp(self):
        super().setUp()
        self.origin = self.use(RawOrigin())
        self.gate = threading.Event()
        self.addCleanup(self.gate.set)
        self.proxy = self.use(proxy.Proxy("http", {FAR[0]: self.origin.address}, answer=proxy.held(proxy.grant(), self.gate)))
        self.proxy_values(self.proxy.url)
        self.m = Machine(self, libc=self.libc)
        self.epoll = self.m.epoll()

    def pending(self, fd=None):
        fd = self.m.open(nonblocking=True) if fd is None else fd
        before = len(self.proxy.targets())
        self.assertEqual(self.m.connect(fd, FAR), "EINPROGRESS")
        wait_until(lambda: len(self.proxy.targets()) > before, "request at the proxy")
        return fd

    def move(self, fd, number):
        self.assertEqual(self.m.result("dup2", fd, number), number)
        self.m.close(fd)
        return number

    def refuse(self):
        self.proxy.answer = proxy.held(proxy.refuse(403), self.gate)

    def test_added_while_pending(self):
        for events, shown in ((EPOLLOUT, "OUT"), (LEVEL, "OUT"), (EPOLLOUT | EPOLLET, "OUT"), (EPOLLIN | EPOLLRDHUP, None),
                              (EPOLLOUT | EPOLLONESHOT, "OUT"), (LEVEL | EPOLLET | EPOLLRDHUP, "OUT")):
            with self.subTest(events=hex(events)):
                self.gate.clear()
                fd = self.pending()
                self.assertEqual(self.m.ctl(self.epoll, ADD, fd, events, DATA), 0)
                self.assertEqual(self.m.wait(self.epoll, 0), {})
                waiting = self.m.begin("epoll_wait", self.epoll, bytes(12 * 64), 64, 10000 if shown else 100)
                self.gate.set()
                got = self.m.wait_text(self.m.end(waiting))
                self.assertEqual(got, {DATA: shown} if shown else {})
                again = {} if not shown or events & (EPOLLET | EPOLLONESHOT) else got
                self.assertEqual(self.m.wait(self.epoll, 0), again)
                self.assertEqual(self.m.so_error(fd), 0)
                # From here on it is the program's own.
                self.assertEqual(self.m.ctl(self.epoll, ADD, fd), "EEXIST")
                self.assertEqual(self.m.ctl(self.epoll, MOD, fd, EPOLLIN, 5), 0)
                self.m.write(fd, b"x")
                self.assertEqual(self.m.wait(self.epoll), {5: "IN"})
                self.assertEqual(self.m.ctl(self.epoll, DEL, fd), 0)
                self.assertEqual(self.m.ctl(self.epoll, DEL, fd), "ENOENT")
                self.m.close(fd)

    def test_added_before_connect(self):
        for events in (LEVEL, LEVEL | EPOLLET, EPOLLOUT | EPOLLONESHOT):
            for verdict in ("OUT", "IN|OUT|ERR|HUP"):
                with self.subTest(events=hex(events), verdict=verdict):
                    self.gate.clear()
                    self.proxy.answer = proxy.held(proxy.grant() if verdict == "OUT" else proxy.refuse(403), self.gate)
                    fd = self.m.open(nonblocking=True)
                    self.assertEqual(self.m.ctl(self.epoll, ADD, fd, events, DATA), 0)
                    self.m.wait(self.epoll, 0)  # OUT|HUP, as every unconnected socket shows
                    if events & EPOLLONESHOT:
                        self.assertEqual(self.m.ctl(self.epoll, MOD, fd, events, DATA), 0)
                    self.pending(fd)
                    self.assertEqual(self.m.wait(self.epoll, 0), {})
                    self.assertEqual(self.m.ctl(self.epoll, ADD, fd), "EEXIST")
                    self.gate.set()
                    shown = verdict if events & EPOLLIN else verdict.replace("IN|", "")
                    self.assertEqual(self.m.wait(self.epoll), {DATA: shown})
                    self.assertEqual(self.m.so_error(fd), 0 if verdict == "OUT" else "EACCES")
                    self.assertEqual(self.m.ctl(self.epoll, MOD, fd, EPOLLOUT, 4), 0)
                    self.assertEqual(self.m.ctl(self.epoll, DEL, fd), 0)
                    self.m.close(fd)

    def test_failure_is_shown(self):
        self.refuse()
        fd = self.pending()
        self.m.ctl(self.epoll, ADD, fd, EPOLLOUT | EPOLLRDHUP, DATA)
        self.gate.set()
        self.assertEqual(self.m.wait(self.epoll), {DATA: "OUT|ERR|HUP|RDHUP"})
        self.assertEqual([self.m.so_error(fd), self.m.so_error(fd)], ["EACCES", 0])
        self.assertEqual(self.m.ctl(self.epoll, DEL, fd), 0)

    def test_changed_and_removed_while_pending(self):
        m, epoll = self.m, self.epoll
        fd, gone = self.pending(), self.pending()
        self.assertEqual(m.ctl(epoll, MOD, fd), "ENOENT")
        self.assertEqual(m.ctl(epoll, DEL, fd), "ENOENT")
        for one in (fd, gone):
            self.assertEqual(m.ctl(epoll, ADD, one, LEVEL, one), 0)
            self.assertEqual(m.ctl(epoll, ADD, one, LEVEL, 1), "EEXIST")
        self.assertEqual(m.ctl(epoll, MOD, fd, EPOLLOUT, DATA), 0)
        self.assertEqual(m.ctl(epoll, DEL, gone), 0)
        self.assertEqual(m.ctl(epoll, DEL, gone), "ENOENT")
        self.assertEqual(m.result("epoll_ctl", epoll, ADD, gone, 8), "EFAULT")
        self.assertEqual(m.ctl(0x7000, ADD, gone), "EBADF")
        self.assertEqual(m.ctl(epoll, ADD, 0x7000), "EBADF")
        self.assertEqual(m.ctl(fd, ADD, gone), "EINVAL")
        self.gate.set()
        self.assertEqual(m.wait(epoll), {DATA: "OUT"})
        self.assertEqual(m.poll(gone, 4), "OUT")
        self.assertEqual(m.wait(epoll, 0), {DATA: "OUT"})
        self.assertEqual(m.ctl(epoll, MOD, gone), "ENOENT")

    def test_removed_and_added_again(self):
        m, epoll = self.m, self.epoll
        before = m.open(nonblocking=True)
        m.ctl(epoll, ADD, before, LEVEL, 1)
        fd = self.pending(before)
        self.assertEqual(m.ctl(epoll, DEL, fd), 0)
        self.assertEqual(m.ctl(epoll, ADD, fd, EPOLLOUT, 2), 0)
        self.gate.set()
        self.assertEqual(m.wait(epoll), {2: "OUT"})

    def test_two_sets_and_a_duplicate(self):
        m, other = self.m, self.m.epoll()
        fd = self.pending()
        twin = m.result("dup", fd)
        self.assertEqual(m.ctl(self.epoll, ADD, fd, EPOLLOUT, 1), 0)
        self.assertEqual(m.ctl(self.epoll, ADD, twin, EPOLLOUT, 2), 0)
        self.assertEqual(m.ctl(other, ADD, twin, EPOLLOUT, 3), 0)
        self.gate.set()
        self.assertEqual(m.poll(fd, 4), "OUT")
        seen = {}
        while len(seen) < 2:  # the registrations take effect one after the other
            seen.update(m.wait(self.epoll))
        self.assertEqual(seen, {1: "OUT", 2: "OUT"})
        self.assertEqual(m.wait(other), {3: "OUT"})
        self.assertEqual(m.ctl(self.epoll, DEL, fd), 0)
        self.assertEqual(m.wait(self.epoll), {2: "OUT"})
        self.assertEqual(m.ctl(other, DEL, twin), 0)

    def test_a_set_in_a_set(self):
        m, outer = self.m, self.m.epoll()
        self.assertEqual(m.ctl(outer, ADD, self.epoll, EPOLLIN, 9), 0)
        fd = self.pending()
        m.ctl(self.epoll, ADD, fd, EPOLLOUT, 1)
        waiting = m.begin("epoll_wait", outer, bytes(12 * 64), 64, 10000)
        self.gate.set()
        self.assertEqual(m.wait_text(m.end(waiting)), {9: "IN"})
        self.assertEqual(m.wait(self.epoll), {1: "OUT"})

    def test_high_and_low_numbers(self):
        m = self.m
        # The agent has something of its own at low numbers, and nothing at high ones.
        for number in (*range(20, 41), 1010):
            with self.subTest(number=number):
                self.gate.clear()
                fd = self.pending(self.move(m.open(nonblocking=True), number))
                self.assertEqual(m.ctl(self.epoll, ADD, fd, EPOLLOUT, DATA), 0)
                self.gate.set()
                self.assertEqual(m.wait(self.epoll), {DATA: "OUT"})
                self.assertEqual(m.ctl(self.epoll, DEL, fd), 0)
                m.close(fd)
        self.assertEqual(m.connect(m.open(), FAR), 0, "the agent still works")

    def test_closed_and_reused_while_pending(self):
        """No event for the old socket: its data may be freed memory by then."""
        m = self.m
        for close in ("close", "dup2", "close_range", "closefrom", "syscall"):
            with self.subTest(close=close):
                if close != "syscall" and not m.has(close):
                    continue
                self.gate.clear()
                fd = self.pending(self.move(m.open(nonblocking=True), 400))
                self.assertEqual(m.ctl(self.epoll, ADD, fd, LEVEL, 1), 0)
                connection = self.proxy.connections[-1]
                if close == "close":
                    m.close(fd)
                elif close == "dup2":
                    m.result("dup2", 0, fd)
                elif close == "close_range":
                    self.assertEqual(m.result(close, 400, 450, 0), 0)
                elif close == "closefrom":
                    # The conversation with this test lives at 600.
                    child = m.fork()
                    m.close(fd)
                    child.call("fcntl", 600, 0, 300)
                    child.call("close", fd)
                else:
                    m.result("syscall", 3, fd)
                fresh = self.pending(self.move(m.open(nonblocking=True), 400))
                self.assertEqual(m.ctl(self.epoll, ADD, fresh, LEVEL, 2), 0)
                self.gate.set()
                self.assertEqual(m.wait(self.epoll), {2: "OUT"})
                self.assertTrue(connection.ended.wait(scaled(5)))
                self.assertEqual(m.wait(self.epoll, 0), {2: "OUT"})
                m.close(fresh)

    def test_many_at_once(self):
        m = self.m
        fds = [m.open(nonblocking=True) for _ in range(200)]
        for fd in fds[::2]:
            m.ctl(self.epoll, ADD, fd, EPOLLOUT | EPOLLET, fd)
        m.wait(self.epoll, 0)
        for fd in fds:
            self.assertEqual(m.connect(fd, FAR), "EINPROGRESS")
        for fd in fds[1::2]:
            self.assertEqual(m.ctl(self.epoll, ADD, fd, EPOLLOUT | EPOLLET, fd), 0)
        self.assertEqual(m.wait(self.epoll, 0), {})
        self.gate.set()
        seen = set()
        while len(seen) < len(fds):
            got = m.wait(self.epoll)
            self.assertTrue(got and set(got.values()) == {"OUT"}, got)
            self.assertFalse(seen & set(got), "an event twice")
            seen |= set(got)
        self.assertEqual({m.so_error(fd) for fd in fds}, {0})


class EpollGateUnderMusl(EpollGate):
    libc = "musl"


if __name__ == "__main__":
    main()
