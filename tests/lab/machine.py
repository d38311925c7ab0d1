"""A program whose every call is a line of the test: the probe `calls`, under towpath or bare, glibc or musl, and linked
statically against either.

    m = Machine(self)                       # or Machine(self, bare=True), Machine(self, libc="musl"), "static", "static-musl"
    fd = m.open(nonblocking=True)
    m.connect(fd, ("192.0.2.7", 22))        # "EINPROGRESS"
    m.call("read", fd, bytearray(100))      # Called(result, error, buffers): any function by its name

Calls of one Machine happen in order, in one thread; begin() starts one in a thread of its own. fork() gives a second
Machine, the child. Everything ends with the test.
"""

import collections
import errno
import os
import select as _select
import socket
import struct

from lab import netns
from lab.case import PRELOAD, TOWPATH, probe, program
from lab.proc import Process, scaled, wait_until

Called = collections.namedtuple("Called", "result error buffers")
POLL_NAMES = (("IN", 1), ("PRI", 2), ("OUT", 4), ("ERR", 8), ("HUP", 16), ("NVAL", 32), ("RDHUP", 0x2000))
EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP, EPOLLRDHUP = 1, 4, 8, 16, 0x2000
EPOLLET, EPOLLONESHOT = 1 << 31, 1 << 30
ADD, DEL, MOD = 1, 2, 3
MSG_FASTOPEN = 0x20000000
MSG_DONTWAIT = 0x40


def _name(number):
    return "EOPNOTSUPP" if number == errno.EOPNOTSUPP else errno.errorcode.get(number, number)  # two names on Linux


def events_text(bits):
    return "|".join(name for name, bit in POLL_NAMES if bits & bit) or "-"


def address(where):
    """The bytes of a sockaddr for ("address", port)."""
    host, port = where
    if ":" in host:
        return struct.pack("=HHI16sI", socket.AF_INET6, socket.htons(port), 0, socket.inet_pton(socket.AF_INET6, host), 0)
    return struct.pack("=HH4s8x", socket.AF_INET, socket.htons(port), socket.inet_aton(host))


def address_text(data):
    family = struct.unpack_from("=H", data)[0]
    if family == socket.AF_INET6:
        _, port, _, host, _ = struct.unpack_from("=HHI16sI", data)
        return socket.inet_ntop(socket.AF_INET6, host), socket.ntohs(port)
    _, port, host = struct.unpack_from("=HH4s", data)
    return socket.inet_ntoa(host), socket.ntohs(port)


class Machine:
    """`preload`: by LD_PRELOAD alone, without `towpath run`. `before`: a command that runs the program (strace)."""

    def __init__(self, case, bare=False, libc="glibc", env=None, options=(), before=(), preload=False):
        path = program("musl/calls" if libc == "static-musl" else "static/calls") if "static" in libc else probe("calls", libc)
        self._alone = preload
        if preload:
            env = {"LD_PRELOAD": PRELOAD, "TOWPATH_CONFIG": case.config, "TOWPATH_AGENT": TOWPATH, **(env or {})}
        line = [*before, path] if bare or preload else case.line(*before, path, options=options)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = case.use(Process("bare" if bare else "towpath", line, case.directory,
                                            case._env(env), case.directory, stdin=theirs))
        self._adopt(case, ours)

    def _adopt(self, case, control):
        self.case, self._control, self._next, self._answers = case, control, 0, {}
        case.addCleanup(control.close)
        control.settimeout(scaled(15))
        self.pid = self.call("getpid").result

    # ---- the conversation

    def begin(self, name, *arguments, how="thread", passing=()):
        self._next += 1
        words = [str(self._next), how, *([name] if name else [])]
        for one in arguments:
            words.append("h" + bytes(one).hex() if isinstance(one, (bytes, bytearray)) else str(int(one)))
        data = " ".join(words).encode()
        if passing:
            socket.send_fds(self._control, [data], passing)
        else:
            self._control.send(data)
        return self._next

    def end(self, number, wide=False):
        while number not in self._answers:
            try:
                data = self._control.recv(1 << 18)
            except TimeoutError:
                raise AssertionError(f"no answer\n{self.process.output()}") from None
            if not data:
                raise AssertionError(f"the program has ended\n{self.process.output()}")
            words = data.decode().split(" ")
            self._answers[int(words[0])] = words[1:]
        result, error, *buffers = self._answers.pop(number)
        result = int(result)
        if not wide:
            result = (result & 0xFFFFFFFF) - (1 << 32 if result & 0x80000000 else 0)
        return Called(result, _name(int(error)) if result == -1 else 0,
                      [bytes.fromhex(one[1:]) for one in buffers])

    def ended(self, number):
        """Has the call ended already? Does not wait."""
        while number not in self._answers and _select.select([self._control], [], [], 0)[0]:
            words = self._control.recv(1 << 18).decode().split(" ")
            self._answers[int(words[0])] = words[1:]
        return number in self._answers

    def call(self, name, *arguments, how="call", wide=False):
        return self.end(self.begin(name, *arguments, how=how), wide)

    def result(self, name, *arguments, how="call"):
        """The errno's name, or the result."""
        called = self.call(name, *arguments, how=how)
        return called.error or called.result

    def put(self, data):
        """Bytes at an address of the program, for structures that hold pointers."""
        at = self.call("malloc", max(len(data), 1), wide=True).result
        self.end(self.begin(None, at, how="poke " + str(at) + " " + bytes(data).hex() if data else "handled"))
        return at

    def peek(self, at, size):
        return self.end(self.begin(None, how=f"peek {at} {size}")).buffers[0]

    def handle(self, signal, flags=0):
        self.end(self.begin(None, signal, flags, how="handle"))

    def handled(self):
        return self.end(self.begin(None, how="handled")).result

    def has(self, symbol):
        return self.end(self.begin(None, how=f"symbol {symbol}"), wide=True).result != 0

    def fork(self):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.end(self.begin(None, how="fork", passing=[theirs.fileno()]))
        child = object.__new__(Machine)
        child.process, child._alone = self.process, self._alone
        child._adopt(self.case, ours)
        return child

    def leave(self):
        """Ends the program, without a word of its own."""
        self._control.close()

    def wait_asleep(self, in_calls=("recvfrom", "connect", "ppoll", "poll", "epoll_wait", "epoll_pwait", "select",
                                      "pselect6")):
        """Until another thread than the first sleeps in a system call of that kind."""
        numbers = {"recvfrom": 45, "connect": 42, "ppoll": 271, "poll": 7, "epoll_wait": 232, "select": 23,
                   "epoll_pwait": 281, "pselect6": 270, "recvmsg": 47, "sendto": 44, "sendmsg": 46}
        wanted = {str(numbers[one]) for one in in_calls}

        def look():
            for task in os.listdir(f"/proc/{self.pid}/task"):
                if int(task) == self.pid:
                    continue
                try:
                    with open(f"/proc/{self.pid}/task/{task}/syscall") as file:
                        if file.read().split(" ")[0] in wanted:
                            return int(task)
                except OSError:
                    continue
            return None
        return wait_until(look, "thread that sleeps")

    # ---- sockets

    def open(self, nonblocking=False, family=socket.AF_INET, kind=socket.SOCK_STREAM):
        return self.call("socket", family, kind | (os.O_NONBLOCK if nonblocking else 0), 0).result

    def connect(self, fd, where, how="call"):
        where = address(where)
        return self.result("connect", fd, where, len(where), how=how)

    def so_error(self, fd):
        called = self.call("getsockopt", fd, socket.SOL_SOCKET, socket.SO_ERROR, bytes(4), struct.pack("=i", 4))
        if called.error:
            return called.error
        number = struct.unpack("=i", called.buffers[0])[0]
        return _name(number)

    def set_timeout(self, fd, milliseconds, name=socket.SO_SNDTIMEO):
        self.call("setsockopt", fd, socket.SOL_SOCKET, name,
                  struct.pack("=qq", milliseconds // 1000, milliseconds % 1000 * 1000), 16)

    def peer(self, fd, room=128):
        called = self.call("getpeername", fd, bytes(max(room, 1)), struct.pack("=i", room))
        return called.error or address_text(called.buffers[0])

    def poll(self, fd, events=5, timeout=10000, how="call"):
        """What it shows, "timeout" when nothing."""
        return self.poll_text(self.call("poll", struct.pack("=ihh", fd, events, 0), 1, timeout, how=how))

    @staticmethod
    def poll_text(called):
        if called.error or not called.result:
            return called.error or "timeout"
        return events_text(struct.unpack("=ihH", called.buffers[0])[2])

    def select(self, fd, timeout=10.0, sets="rw"):
        """Letters of the sets in which it is ready, "timeout" when in none."""
        room = bytearray(128)
        room[fd // 8] |= 1 << fd % 8
        given = [bytes(room) if letter in sets else 0 for letter in "rwx"]
        called = self.call("select", fd + 1, *given, struct.pack("=qq", int(timeout), int(timeout * 1e6) % 1000000))
        if called.error or not called.result:
            return called.error or "timeout"
        return "".join(letter for letter, out in zip([one for one in "rwx" if one in sets], called.buffers)
                       if out[fd // 8] >> fd % 8 & 1)

    def epoll(self):
        return self.call("epoll_create1", 0).result

    def ctl(self, epoll, operation, fd, events=EPOLLIN | EPOLLOUT, data=None):
        event = struct.pack("<IQ", events & 0xFFFFFFFF, fd if data is None else data)
        return self.result("epoll_ctl", epoll, operation, fd, event)

    def wait(self, epoll, timeout=10000, how="call"):
        """{data: events} of one epoll_wait."""
        return self.wait_text(self.call("epoll_wait", epoll, bytes(12 * 64), 64, timeout, how=how))

    @staticmethod
    def wait_text(called):
        if called.error:
            return called.error
        pairs = [struct.unpack_from("<IQ", called.buffers[0], 12 * i) for i in range(called.result)]
        return {data: events_text(events) for events, data in pairs}

    def read(self, fd, size=100, name="read"):
        called = self.call(name, fd, bytes(size), size, *([0, 0, 0] if name.startswith("recv") else []))
        return called.error or called.buffers[0][:called.result]

    def write(self, fd, data=b"x"):
        return self.result("write", fd, data, len(data))

    def close(self, fd):
        return self.result("close", fd)

    # ---- the agent

    def agent(self):
        """The process that serves this run: the child of P named towpath-agent (or, by preload, any of that name)."""
        for pid in netns.processes():
            try:
                with open(f"/proc/{pid}/comm") as file:
                    if file.read().strip() != "towpath-agent":
                        continue
                with open(f"/proc/{pid}/stat") as file:
                    parent = int(file.read().rpartition(")")[2].split()[1])
                if self._alone or parent == self.process.pid:
                    return pid
            except OSError:
                continue
        return None
