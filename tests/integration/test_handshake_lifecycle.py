# suite: quick
"""What a program does in the middle of a handshake: closes, forks, execs, is signalled, is killed; and its agent dies."""

import os
import signal
import socket
import struct
import threading

from lab import proc, proxy
from lab.case import TOWPATH, LabCase, main
from lab.machine import ADD, EPOLLOUT, EPOLLRDHUP, Machine, address
from lab.origin import RawOrigin
from lab.proc import scaled, wait_until

FAR = ("192.0.2.7", 22)
BANNER = b"220 lab\r\n"
SA_RESTART = 0x10000000
DATA = 0x1234567890


class LifecycleCase(LabCase):
    libc = "glibc"

    def setUp(self):
        super().setUp()
        self.origin = self.use(RawOrigin(banner=BANNER))
        self.gate = threading.Event()
        self.addCleanup(self.gate.set)
        self.proxy = self.use(proxy.Proxy("http", {FAR[0]: self.origin.address}))
        self.proxy_values(self.proxy.url)

    def machine(self, answer, **rest):
        self.proxy.answer = answer
        return Machine(self, libc=self.libc, **rest)

    def held(self, answer=None):
        return proxy.held(answer or proxy.grant(), self.gate)

    def pending(self, m, fd=None):
        fd = m.open(nonblocking=True) if fd is None else fd
        before = len(self.proxy.targets())
        self.assertEqual(m.connect(fd, FAR), "EINPROGRESS")
        wait_until(lambda: len(self.proxy.targets()) > before, "request at the proxy")
        return fd

    def blocked(self, m, fd=None, name="connect", arguments=(address(FAR), 16)):
        """A thread of the program that sleeps in connect(), and its socket."""
        fd = m.open() if fd is None else fd
        before = len(self.proxy.targets())
        call = m.begin(name, fd, *arguments)
        wait_until(lambda: len(self.proxy.targets()) > before, "request at the proxy")
        return fd, call, m.wait_asleep()

    def assert_ended(self, connection):
        self.assertTrue(connection.ended.wait(scaled(5)), "the proxy's side is still open")
        self.assertEqual(bytes(connection.received + connection.after_refusal), b"")


class GivingUp(LifecycleCase):
    def test_every_way_to_close_cancels(self):
        m = self.machine(proxy.silence())
        for close in (lambda fd: m.close(fd), lambda fd: m.result("syscall", 3, fd), lambda fd: m.result("dup2", 0, fd),
                      lambda fd: m.result("dup3", 0, fd, os.O_CLOEXEC), lambda fd: m.result("close_range", fd, fd, 0),
                      lambda fd: m.result("close_range", fd, 500, 0)):
            self.pending(m)
            fd = self.pending(m)
            self.assertFalse(self.proxy.connections[-1].ended.is_set())
            close(fd)
            self.assert_ended(self.proxy.connections[-1])
        self.assertFalse(any("connect_failed" in line for line in m.process.err.splitlines()))

    def test_closefrom_cancels_in_the_one_process_only(self):
        m = self.machine(proxy.silence())
        fd = self.pending(m)
        child = m.fork()
        if not m.has("closefrom"):
            self.skipTest("this libc has no closefrom")
        # The conversation with this test must survive: closefrom above it, after the socket was moved there.
        self.assertEqual(child.result("dup2", fd, 900), 900)
        child.close(fd)
        child.call("closefrom", 800)
        self.assertFalse(self.proxy.connections[0].ended.is_set())
        self.assertEqual(m.connect(fd, FAR), "EALREADY")
        m.result("dup2", fd, 900)
        m.close(fd)
        m.call("closefrom", 800)
        self.assert_ended(self.proxy.connections[0])

    def test_a_duplicate_keeps_it(self):
        m = self.machine(self.held())
        fd = self.pending(m)
        twin = m.result("dup", fd)
        m.close(fd)
        self.assertEqual(m.connect(twin, FAR), "EALREADY")
        self.gate.set()
        self.assertEqual((m.poll(twin, 4), m.so_error(twin), m.peer(twin)), ("OUT", 0, FAR))

    def test_a_forked_process_keeps_it(self):
        for closer in ("parent", "child"):
            with self.subTest(closer=closer):
                self.gate.clear()
                m = self.machine(self.held())
                fd = self.pending(m)
                child = m.fork()
                first, second = (m, child) if closer == "parent" else (child, m)
                first.close(fd)
                self.assertEqual(second.connect(fd, FAR), "EALREADY")
                self.gate.set()
                self.assertEqual((second.poll(fd, 4), second.so_error(fd), second.peer(fd)), ("OUT", 0, FAR))
                self.assertEqual(second.poll(fd, 1), "IN")
                self.assertEqual(second.read(fd), BANNER)

    def test_the_last_of_two_processes_cancels(self):
        m = self.machine(proxy.silence())
        fd = self.pending(m)
        child = m.fork()
        m.close(fd)
        self.assertFalse(self.proxy.connections[0].ended.is_set())
        child.close(fd)
        self.assert_ended(self.proxy.connections[0])

    def test_a_program_that_spawns_others_meanwhile(self):
        """subprocess closes every descriptor in the child: that is none of the parent's business."""
        self.proxy.answer = self.held()
        script = f"""
import asyncio, subprocess, sys
async def main():
    connecting = asyncio.ensure_future(asyncio.open_connection({FAR[0]!r}, {FAR[1]}))
    await asyncio.sleep(0)
    print("begun", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    for fork in (True, False):
        subprocess._USE_VFORK = fork
        print(subprocess.run(["echo", "spawned"], capture_output=True, text=True, close_fds=True).stdout, flush=True)
    reader, writer = await connecting
    print((await reader.readline()).decode(), flush=True)
asyncio.run(main())
"""
        ours, theirs = socket.socketpair()
        with theirs:
            command = [TOWPATH, "run", "-c", self.config, "--", "/usr/bin/python3", "-c", script]
            program = self.use(proc.Process("towpath", command, self.directory, self._env({}), self.directory, stdin=theirs))
        self.addCleanup(ours.close)
        wait_until(lambda: self.proxy.targets(), "request at the proxy", process=program)
        ours.sendall(b"\n")
        program.wait_line("spawned\n+spawned")
        self.gate.set()
        program.wait_line("220 lab")
        self.assertEqual(program.wait(), 0)

    def test_a_killed_program_leaves_nothing(self):
        m = self.machine(proxy.silence())
        self.blocked(m)
        os.kill(m.pid, signal.SIGKILL)
        self.assert_ended(self.proxy.connections[0])

    def test_another_thread_closes_under_a_blocking_connect(self):
        m = self.machine(self.held())
        fd, call, _ = self.blocked(m)
        m.close(fd)
        self.gate.set()
        self.assertIn(m.end(call).error, (0, "ECONNABORTED"))
        self.assertTrue(self.proxy.connections[0].ended.wait(scaled(5)))

    def test_exec(self):
        """The socket survives exec, its handshake too."""
        m = self.machine(self.held())
        fd = self.pending(m)
        script = (f"import os, select, socket\ns = socket.socket(fileno={fd})\np = select.poll()\np.register(s, select.POLLOUT)\n"
                  "print('up', flush=True)\nprint('polled', p.poll(10000), s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), s.getpeername(), flush=True)\n")
        words = [b"python3\0", b"-c\0", script.encode() + b"\0"]
        argv = struct.pack("=QQQQ", *(m.put(word) for word in words), 0)
        environ = struct.unpack("=Q", m.peek(m.end(m.begin(None, how="symbol environ"), wide=True).result, 8))[0]
        m.begin("execve", b"/usr/bin/python3\0", argv, environ, how="call")
        m.process.wait_line("up")
        self.gate.set()
        m.process.wait_line(rf"polled \[\({fd}, 4\)\] 0 \('{FAR[0]}', {FAR[1]}\)")

    def test_programs_that_close_everything(self):
        m = self.machine(proxy.grant())
        m.call("close_range", 3, 500, 0)
        for fd in (0, 1, 2):
            m.close(fd)
        first = m.open()
        self.assertEqual(first, 0)
        self.assertEqual((m.connect(first, FAR), m.read(first)), (0, BANNER))
        second = m.open(nonblocking=True)
        self.assertEqual((second, m.connect(second, FAR), m.poll(second, 4), m.peer(second)), (1, "EINPROGRESS", "OUT", FAR))
        self.assertEqual(sorted(map(int, os.listdir(f"/proc/{m.pid}/fd"))), [0, 1, 600])

    def test_forked_and_vforked_children_connect(self):
        m = self.machine(proxy.grant())
        child = m.fork()
        for each in (child, m):
            fd = each.open()
            self.assertEqual((each.connect(fd, FAR), each.read(fd)), (0, BANNER))
        fd = m.open()
        self.assertEqual(m.connect(fd, FAR, how="vfork"), 0)
        self.assertEqual((m.peer(fd), m.read(fd)), (FAR, BANNER))
        waiting = m.open(nonblocking=True)
        self.assertEqual(m.connect(waiting, FAR, how="vfork"), "EINPROGRESS")
        self.assertEqual((m.poll(waiting, 4), m.peer(waiting)), ("OUT", FAR))


class GivingUpUnderMusl(GivingUp):
    libc = "musl"
    test_a_program_that_spawns_others_meanwhile = test_exec = None


class Signals(LifecycleCase):
    def test_interrupted_without_restart(self):
        m = self.machine(self.held())
        m.handle(signal.SIGUSR1)
        fd, call, _ = self.blocked(m)
        os.kill(m.pid, signal.SIGUSR1)
        self.assertEqual(m.end(call).error, "EINTR")
        self.assertEqual(m.handled(), 1)
        # As in the kernel: it goes on.
        self.assertEqual(m.poll(fd, timeout=0), "timeout")
        again = m.begin("connect", fd, address(FAR), 16)
        m.wait_asleep()
        self.gate.set()
        self.assertEqual(m.end(again).error, 0)
        self.assertEqual((m.poll(fd, 4), m.so_error(fd), m.peer(fd)), ("OUT", 0, FAR))
        self.assertEqual(len(self.proxy.connections), 1)

    def test_interrupted_and_then_refused(self):
        m = self.machine(self.held(proxy.refuse(403)))
        m.handle(signal.SIGUSR1)
        fd, call, _ = self.blocked(m)
        os.kill(m.pid, signal.SIGUSR1)
        self.assertEqual(m.end(call).error, "EINTR")
        self.gate.set()
        self.assertEqual(m.poll(fd), "IN|OUT|ERR|HUP")
        self.assertEqual([m.so_error(fd), m.so_error(fd)], ["EACCES", 0])

    def test_restarted(self):
        m = self.machine(self.held())
        m.handle(signal.SIGUSR1, SA_RESTART)
        fd, call, task = self.blocked(m)
        os.kill(m.pid, signal.SIGUSR1)
        wait_until(lambda: m.handled() == 1, "the handler")
        m.wait_asleep()
        self.assertFalse(m.ended(call))
        self.gate.set()
        self.assertEqual(m.end(call).error, 0)
        self.assertEqual(len(self.proxy.connections), 1)

    def test_a_timeout_makes_restart_an_interruption(self):
        """signal(7): with SO_SNDTIMEO connect() is never restarted."""
        m = self.machine(self.held())
        m.handle(signal.SIGUSR1, SA_RESTART)
        fd = m.open()
        m.set_timeout(fd, 10000)
        fd, call, _ = self.blocked(m, fd)
        os.kill(m.pid, signal.SIGUSR1)
        self.assertEqual(m.end(call).error, "EINTR")
        self.gate.set()
        self.assertEqual((m.poll(fd, 4), m.so_error(fd)), ("OUT", 0))

    def test_timeout(self):
        m = self.machine(self.held())
        fd = m.open()
        m.set_timeout(fd, 50)
        self.assertEqual(m.connect(fd, FAR), "EINPROGRESS")
        self.assertEqual(m.poll(fd, timeout=0), "timeout")
        self.gate.set()
        self.assertEqual((m.poll(fd, 4), m.so_error(fd), m.connect(fd, FAR), m.connect(fd, FAR)), ("OUT", 0, 0, "EISCONN"))

    def test_poll_and_epoll_are_interrupted(self):
        m = self.machine(self.held())
        m.handle(signal.SIGUSR1, SA_RESTART)
        fd, epoll = self.pending(m), m.epoll()
        m.ctl(epoll, ADD, fd)
        for name, arguments in (("poll", (struct.pack("=ihh", fd, 4, 0), 1, 10000)),
                                ("select", (fd + 1, 0, (1 << fd).to_bytes(128, "little"), 0, struct.pack("=qq", 10, 0))),
                                ("epoll_wait", (epoll, bytes(120), 10, 10000))):
            call = m.begin(name, *arguments)
            m.wait_asleep()
            os.kill(m.pid, signal.SIGUSR1)
            self.assertEqual(m.end(call).error, "EINTR", name)
        self.gate.set()
        self.assertEqual(m.poll(fd, 4), "OUT")


class SignalsUnderMusl(Signals):
    libc = "musl"


class AgentDies(LifecycleCase):
    def kill_agent(self, m):
        agent = wait_until(m.agent, "the agent")
        proc.kill([agent])
        return wait_until(lambda: m.agent() not in (None, agent) and m.agent(), "a new agent", process=m.process)

    def test_tunnels_and_names_survive(self):
        m = self.machine(proxy.grant())
        fd = m.open()
        self.assertEqual((m.connect(fd, FAR), m.read(fd)), (0, BANNER))
        self.kill_agent(m)
        self.assertEqual(m.write(fd, b"still"), 5)
        self.assertEqual((m.poll(fd, 1), m.read(fd), m.peer(fd)), ("IN", b"still", FAR))
        fd = m.open()
        self.assertEqual((m.connect(fd, FAR), m.read(fd)), (0, BANNER))
        fd = m.open(nonblocking=True)
        self.assertEqual((m.connect(fd, FAR), m.poll(fd, 4), m.so_error(fd)), ("EINPROGRESS", "OUT", 0))
        self.assertIn("event=agent_died", m.process.err)

    def test_in_mid_handshake(self):
        """Every kind of waiting ends with an error, and nothing goes anywhere by itself."""
        m = self.machine(self.held())
        _, blocking, _ = self.blocked(m)
        fds = [self.pending(m) for _ in range(6)]
        epoll = m.epoll()
        self.assertEqual(m.ctl(epoll, ADD, fds[0], EPOLLOUT | EPOLLRDHUP, DATA), 0)
        waits = [m.begin("epoll_wait", epoll, bytes(120), 10, 8000),
                 m.begin("poll", struct.pack("=ihh", fds[1], 4, 0), 1, 8000),
                 m.begin("select", fds[2] + 1, 0, (1 << fds[2]).to_bytes(128, "little"), 0, struct.pack("=qq", 8, 0))]
        self.kill_agent(m)
        self.assertEqual(m.end(blocking).error, "ENETDOWN")
        shown = m.wait_text(m.end(waits[0]))
        self.assertEqual([*shown], [DATA], "the epoll set shows nothing")
        self.assertIn("ERR", m.poll_text(m.end(waits[1])))
        self.assertEqual(m.end(waits[2]).result, 1)
        self.gate.set()
        for fd in fds:
            self.assertEqual(m.so_error(fd), "ENETDOWN")
            self.assertEqual(m.connect(fd, FAR), "ENETDOWN")
            self.assertEqual(m.read(fd), "ENETDOWN")
            self.assertEqual(m.write(fd), "ENETDOWN")
        # The event came once, the set is the program's to use.
        self.assertEqual(m.close(fds[0]), 0)
        self.assertEqual(m.wait(epoll, 0), {})
        fresh = m.open(nonblocking=True)
        self.assertEqual(m.connect(fresh, FAR), "EINPROGRESS")
        self.assertEqual(m.ctl(epoll, ADD, fresh, EPOLLOUT, 5), 0)
        self.assertEqual(m.wait(epoll), {5: "OUT"})
        self.assertEqual([bytes(one.received) for one in self.proxy.connections[:7]], [b""] * 7)

    def address_of(self, m, name):
        entry = m.call("gethostbyname", name.encode() + b"\0", wide=True).result
        at = struct.unpack("=24xQ", m.peek(entry, 32))[0]
        return socket.inet_ntoa(m.peek(struct.unpack("=Q", m.peek(at, 8))[0], 4))

    def test_names_keep_their_addresses(self):
        m = self.machine(proxy.grant())
        self.proxy.names["far.example"] = self.origin.address
        before = self.address_of(m, "far.example")
        self.address_of(m, "other.example")
        self.kill_agent(m)
        self.assertEqual(self.address_of(m, "far.example"), before)
        fd = m.open()
        self.assertEqual((m.connect(fd, (before, 22)), m.read(fd)), (0, BANNER))
        self.assertEqual(self.proxy.targets(), ["far.example:22"])

    def test_an_agent_of_its_own_dies(self):
        """LD_PRELOAD alone: the next ask starts another agent, which knows nothing of the one before."""
        m = self.machine(self.held(), preload=True)
        m.call("getppid")
        _, blocking, _ = self.blocked(m)
        first, second, third = (self.pending(m) for _ in range(3))
        waiting = m.begin("poll", struct.pack("=ihh", second, 4, 0), 1, 8000)
        proc.kill([m.agent()])
        self.assertEqual(m.so_error(first), "ENETDOWN")
        self.assertEqual(m.end(blocking).error, "ENETDOWN")
        self.assertIn("ERR", m.poll_text(m.end(waiting)))
        self.gate.set()
        for fd in (first, second, third):
            self.assertEqual([m.so_error(fd), m.connect(fd, FAR), m.read(fd), m.write(fd)], ["ENETDOWN"] * 4)
        fd = m.open()
        self.assertEqual((m.connect(fd, FAR), m.read(fd), m.peer(fd)), (0, BANNER, FAR))
        waiting = m.open(nonblocking=True)
        self.assertEqual((m.connect(waiting, FAR), m.poll(waiting, 4), m.so_error(waiting)), ("EINPROGRESS", "OUT", 0))

    def test_asked_before_the_new_agent_is_there(self):
        m = self.machine(self.held())
        fd = self.pending(m)
        proc.kill([m.agent()])
        self.assertEqual(m.so_error(fd), "ENETDOWN")


if __name__ == "__main__":
    main()
