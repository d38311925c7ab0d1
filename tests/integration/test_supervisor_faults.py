# suite: quick
"""The supervisor, its agent or the launcher dies at the wrong moment, or the program leaves the network: errors, never a
hang, never a direct connection."""

import os
import signal

from lab import docker, netns, proc, proxy, tree
from lab.case import main, program
from lab.machine import Machine, address
from lab.origin import RawOrigin
from lab.proc import scaled, wait_until
from test_static import BANNER, FAR, NEAR, StaticCase

CLONE_NEWNET = 0x40000000


class FaultCase(StaticCase):
    def setUp(self):
        super().setUp()
        # Who connects directly meets this one, which no proxy leads to.
        netns.add_address(FAR + "/32")
        self.addCleanup(netns.drop_address, FAR + "/32")
        self.decoy = self.use(RawOrigin(FAR, self.origin.port))
        self.addCleanup(lambda: self.assertEqual(self.decoy.received, [], "a direct connection"))

    def wait_other_agent(self, m, old):
        return wait_until(lambda: (now := m.agent()) not in (None, old) and now, "another agent")


@docker.too
class Dying(FaultCase):
    def test_the_agent_dies_while_connects_are_held(self):
        m = self.machine(held=proxy.grant())
        calls = [self.begin(m) for _ in range(5)]
        old = m.agent()
        os.kill(old, signal.SIGKILL)
        self.wait_other_agent(m, old)
        self.gate.set()
        for fd, call in calls:
            outcome = self.outcome(m.end(call))
            self.assertIn(outcome, (0, "ENETDOWN", "ECONNRESET", "ECONNABORTED", "ECONNREFUSED", "ETIMEDOUT"))
            if outcome == 0:
                self.assertEqual((m.peer(fd), m.read(fd)), (self.far, BANNER))
        fd = m.open()
        self.assertEqual((m.connect(fd, self.far), m.read(fd)), (0, BANNER))

    def test_tunnels_outlive_agents(self):
        m = self.machine()
        fd = m.open()
        self.assertEqual(m.connect(fd, self.far), 0)
        for _ in range(3):
            old = m.agent()
            os.kill(old, signal.SIGKILL)
            self.wait_other_agent(m, old)
            self.assertEqual((m.peer(fd), m.so_error(fd)), (self.far, 0))
            other = m.open()
            self.assertEqual((m.connect(other, self.far), m.read(other)), (0, BANNER))
        self.assertEqual((m.read(fd), m.write(fd, b"abc"), m.read(fd, 3)), (BANNER, 3, b"abc"))

    def test_sockets_made_before_the_agent_died(self):
        """Without pidfd_getfd the dead agent had made them, and nobody has them now but the program."""
        m = self.machine()
        fds, epoll = [m.open(), m.open(nonblocking=True)], m.epoll()
        old = m.agent()
        os.kill(old, signal.SIGKILL)
        self.wait_other_agent(m, old)
        for fd in fds:
            outcome = self.settle(m, fd)
            self.assertIn(outcome, (0, "ENETDOWN", "EACCES", "ECONNREFUSED", "EADDRNOTAVAIL"))
            if outcome == 0:
                self.assertEqual(m.peer(fd), self.far)
            m.close(fd)
        fd = m.open()
        self.assertEqual(m.ctl(epoll, 1, fd), 0)
        self.assertEqual((m.connect(fd, self.far), m.read(fd)), (0, BANNER))

    def test_a_call_that_comes_while_there_is_no_agent(self):
        m = self.machine()
        fd, old = m.open(), m.agent()
        # The program's wait for our next word is shown, too, and must have been answered.
        wait_until(lambda: proc.call_of(m.pid) == "recvmsg" and proc.call_of(old) == "epoll_pwait", "rest")
        os.kill(m.process.pid, signal.SIGSTOP)  # P cannot start one
        wait_until(lambda: tree.stat(m.process.pid)[0] == "T", "stop of P")
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: (tree.stat(old) or "Z")[0] == "Z", "end of the agent")
        call = m.begin("connect", fd, address(self.far), 16)
        m.wait_asleep()
        os.kill(m.process.pid, signal.SIGCONT)
        self.assertIn(self.outcome(m.end(call)), (0, "ENETDOWN", "EACCES", "ECONNREFUSED"))
        other = m.open()
        self.assertEqual((m.connect(other, self.far), m.read(other)), (0, BANNER))

    def test_agents_that_die_all_the_time(self):
        m = self.machine()
        old = m.agent()
        for _ in range(30):
            os.kill(old, signal.SIGKILL)
            try:
                old = proc.wait_until(lambda: (now := m.agent()) not in (None, old) and now, "another agent", 2)
            except AssertionError:
                break  # P has given up
        for nonblocking in (False, True):
            fd = m.open(nonblocking)
            outcome = m.connect(fd, self.far) if isinstance(fd, int) and fd >= 0 else "no socket"
            self.assertIsInstance(outcome, str, "it went somewhere")
        self.assertEqual(self.proxy.connections, [])

    def test_p_dies(self):
        m = self.machine()
        os.kill(m.process.pid, signal.SIGKILL)
        m.process.wait()
        self.assertEqual(m.connect(m.open(), self.far), 0)

    def test_everybody_dies(self):
        """The listener is gone with them: every trapped call fails."""
        m = self.machine(held=proxy.grant())
        fd, call = self.begin(m)
        agent = m.agent()
        os.kill(m.process.pid, signal.SIGKILL)
        os.kill(agent, signal.SIGKILL)
        m.process.wait()
        self.gate.set()
        self.assertIn(self.outcome(m.end(call)), ("ENOSYS", "ENETDOWN", "ECONNRESET"))
        for nonblocking in (False, True):
            other = m.open(nonblocking)
            if other >= 0:
                self.assertEqual(m.connect(other, self.far), "ENOSYS")
        self.assertIn(m.connect(fd, self.far), ("ENOSYS", "EBADF"))


class Leaving(FaultCase):
    """A socket from outside would be a way out of the other namespace."""

    def test_another_network_namespace(self):
        m = self.machine()
        before = m.open()
        self.assertEqual(m.result("unshare", CLONE_NEWNET), 0)
        for nonblocking in (False, True):
            fd = m.open(nonblocking)
            self.assertIsInstance(m.connect(fd, self.far), str)
            self.assertEqual(m.peer(fd), "ENOTCONN")
        self.assertIn(m.connect(m.open(), (NEAR, 7)), ("ENETUNREACH", "EACCES"))  # as bare, or refused
        self.assertEqual(self.proxy.connections, [])
        # One from before is still out here, wherever the program is.
        if m.connect(before, self.far) == 0:
            self.assertEqual((m.peer(before), m.read(before)), (self.far, BANNER))

    def test_a_child_that_goes_there_leaves_its_parent_here(self):
        m = self.machine()
        child = m.fork()
        self.assertEqual(child.result("unshare", CLONE_NEWNET), 0)
        self.assertIsInstance(child.connect(child.open(), self.far), str)
        fd = m.open()
        self.assertEqual((m.connect(fd, self.far), m.read(fd)), (0, BANNER))
        self.assertEqual(len(self.proxy.connections), 1)

    def test_its_own_loopback_works(self):
        """What is direct stays what it is over there: a server and its client in the sandbox."""
        sockets = program("static/sockets")
        script = ('ip link set lo up; /usr/bin/python3 -c "import socket; s = socket.create_server((\'127.0.0.1\', 7)); '
                  'print(\'ready\', flush=True); c, _ = s.accept(); c.sendall(b\'sandbox\'); c.recv(9)" & '
                  'read line; exec "$0" get blocking 127.0.0.1 7 /')
        read_end, write_end = os.pipe()
        self.addCleanup(os.close, write_end)
        server = proc.Process("sandbox", self.line("unshare", "--net", "sh", "-c", script, sockets,
                                                   options=("--mode", "seccomp")),
                              self.directory, self._env(None), self.directory, stdin=read_end)
        os.close(read_end)
        self.use(server)
        server.wait_line("ready")
        os.write(write_end, b"\n")
        server.wait_line("sandbox")
        self.assertEqual(self.proxy.connections, [])


class Deadlines(FaultCase):
    def test_a_proxy_that_never_answers(self):
        self.proxy_values(self.proxy.url, more="connectTimeout: 1s")
        self.proxy.answer = proxy.silence()
        m = Machine(self, libc=self.libc)
        for nonblocking in (False, True):
            self.assertEqual(self.settle(m, m.open(nonblocking)), "ETIMEDOUT")
        for one in self.proxy.connections:
            self.assertTrue(one.ended.wait(scaled(5)))


if __name__ == "__main__":
    main()
