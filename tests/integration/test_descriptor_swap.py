# suite: quick
"""The agent registers a program's socket under the program's own descriptor number. What the agent has at that number
itself, a signal's pipe among it, must never get into the program's connection."""

import os
import signal
import subprocess

from lab import netns, proc, proxy
from lab.case import LabCase, main
from lab.machine import ADD, EPOLLOUT, Machine
from lab.origin import RawOrigin
from lab.proc import wait_until
from lab.tree import status_fields

FAR = ("192.0.2.7", 22)
NUMBERS = range(3, 41)
# Connects on one descriptor number after the other, waits through epoll, sends a word and reads its echo.
PROGRAM = r"""
import errno, os, select, socket, sys, time
wanted, seconds = int(sys.argv[1]), float(sys.argv[2])
made = select.epoll()
epoll = select.epoll.fromfd(os.dup2(made.fileno(), 100))
made.close()
end, done = time.monotonic() + seconds, 0
os.closerange(3, 60)
while done < wanted and time.monotonic() < end:
    number = 3 + done % 38
    with socket.socket() as made:
        made.setblocking(False)
        if made.fileno() != number:
            os.dup2(made.fileno(), number)
            os.close(made.detach())
        else:
            made.detach()
    peer = socket.socket(fileno=number)
    if (result := peer.connect_ex(('192.0.2.7', 22))) != errno.EINPROGRESS:
        sys.exit(f'connect {done}: {result}')
    epoll.register(number, select.EPOLLOUT)
    if not (got := epoll.poll(10)) or got[0] != (number, select.EPOLLOUT):
        sys.exit(f'connect {done} on {number}: epoll says {got}, error {peer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)}')
    peer.setblocking(True)
    word = b'%08d' % done
    peer.sendall(word)
    if (back := peer.recv(100)) != word:
        sys.exit(f'connect {done} on {number}: {back}')
    peer.close()
    done += 1
print('done', done, flush=True)
"""
# Background jobs without end around it, whose ends the agent is told of.
SHELL = r"""
while :; do (/bin/true & /bin/true & /bin/true &); done & jobs=$!
"$@"; code=$?
kill $jobs
exit $code
"""


class DescriptorSwap(LabCase):
    def setUp(self):
        super().setUp()
        self.origin = self.use(RawOrigin())
        self.proxy = self.use(proxy.Proxy("http", {FAR[0]: self.origin.address}))
        self.proxy_values(self.proxy.url)
        self.environment["TOWPATH_LOG_FILE"] = os.path.join(self.directory, "log")

    def log(self):
        path = self.environment["TOWPATH_LOG_FILE"]
        return open(path).read() if os.path.exists(path) else ""

    def test_a_signal_while_the_numbers_are_swapped(self):
        """strace sends one with every dup3 of the agent, so that a handler would run before the next call."""
        self.need("strace")
        m = Machine(self)
        agent = wait_until(m.agent, "the agent")
        for name in ("CHLD", "HUP"):
            strace = self.spawn("strace", "strace", "-qq", "-o", os.devnull, "-p", agent, "-e", "trace=dup3",
                                "-e", f"inject=dup3:signal={name}")
            wait_until(lambda: status_fields(open(f"/proc/{agent}/status").read())["TracerPid"] != "0", "strace", process=strace)
            epoll = m.result("dup2", m.epoll(), 100)
            for number in NUMBERS:
                fd = m.open(nonblocking=True)
                if fd != number:
                    self.assertEqual(m.result("dup2", fd, number), number)
                    m.close(fd)
                word = b"number %d" % number
                self.assertEqual(m.connect(number, FAR), "EINPROGRESS")
                self.assertEqual(m.ctl(epoll, ADD, number, EPOLLOUT), 0)
                self.assertEqual(m.wait(epoll), {number: "OUT"}, f"on {number} with SIG{name}")
                self.assertEqual(m.write(number, word), len(word))
                self.assertEqual(m.poll(number, 1), "IN")
                self.assertEqual(m.read(number), word)
                m.close(number)
                self.assertEqual(self.origin.received[-1], word)
            strace.stop()
            m.close(100)
        self.assertEqual(m.agent(), agent, "another agent than before")

    def test_connects_on_all_numbers_while_jobs_end_and_the_configuration_is_reloaded(self):
        run = self.spawn("towpath", *self.line("/bin/sh", "-c", SHELL, "sh", "/usr/bin/python3", "-c", PROGRAM, 20_000, 25))
        agent = wait_until(lambda: next(iter(netns.agents()), None), "the agent", process=run)
        threads = 0
        while run.running():
            try:
                threads = max(threads, len(os.listdir(f"/proc/{agent}/task")))
                os.kill(agent, signal.SIGHUP)
                run.popen.wait(0.5)
            except (subprocess.TimeoutExpired, ProcessLookupError, FileNotFoundError):
                pass
        self.assertEqual(run.wait(), 0, run.output())
        self.assertRegex(run.out, r"done \d{3,}")
        self.assertNotIn("agent_died", self.log())
        # A second one could write to a number while another file stands there.
        self.assertEqual(threads, 1)
        self.assertEqual({bytes(one) for one in self.origin.received if len(one) != 8}, set())


if __name__ == "__main__":
    main()
