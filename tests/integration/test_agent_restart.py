"""The agent or P dies at the wrong moment: the program keeps its status, its tunnels' ends and its way to the proxy."""

import errno
import os
import signal
import threading

from lab import netns, proc, tree
from lab.case import main
from lab.origin import Origin
from lab.proxy import Proxy, grant, held
from lab.tree import RunCase

PYTHON = "/usr/bin/python3"
FAR = "far.example"
# Reads commands from a pipe: fetch, exit N, kill N. Each is answered by a line.
PROGRAM = """
import os, socket, sys
print('pid', os.getpid(), flush=True)
for line in open(sys.argv[1]):
    word, _, number = line.partition(' ')
    if word == 'exit':
        os._exit(int(number))
    if word == 'kill':
        os.kill(os.getpid(), int(number))
    try:
        with socket.create_connection((sys.argv[2], 80)) as peer:
            peer.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')
            print('fetched', peer.makefile().readline().strip(), flush=True)
    except OSError as error:
        print('failed', error, flush=True)
"""


class Restart(RunCase):
    def setUp(self):
        super().setUp()
        self.use(Origin("127.0.0.80", 80))
        self.proxy = self.use(Proxy("http", {FAR: ("127.0.0.80", 80)}))
        self.proxy_values(self.proxy.url)
        self.begin()

    def begin(self):
        self.out = os.path.join(self.directory, "program.out")
        pipe = os.path.join(self.directory, "commands")
        if not os.path.exists(pipe):
            os.mkfifo(pipe)
        with open(self.out, "wb") as out:
            self.caller = self.call(PYTHON, "-c", PROGRAM, pipe, FAR, stdout=out)
        self.commands = os.open(pipe, os.O_RDWR)
        self.addCleanup(self.end_commands)
        self.program = int(self.wait_lines(1)[0].split()[1])
        self.agent = tree.agent_of(self.caller.pid)

    def end_commands(self):
        if self.commands != -1:
            os.close(self.commands)
            self.commands = -1

    def wait_lines(self, count):
        def look():
            with open(self.out) as file:
                lines = file.read().splitlines()
            return lines if len(lines) >= count else None
        return proc.wait_until(look, f"line {count} of the program")

    def tell(self, command):
        os.write(self.commands, f"{command}\n".encode())

    def fetch(self):
        with open(self.out) as file:
            count = len(file.read().splitlines())
        self.tell("fetch")
        return self.wait_lines(count + 1)[-1]

    def kill_agent(self):
        old = self.agent
        os.kill(old, signal.SIGKILL)
        self.agent = tree.agent_of(self.caller.pid, [old])

    def test_a_killed_agent_is_replaced_and_serves(self):
        self.assertEqual(self.fetch(), "fetched HTTP/1.1 200 OK")
        self.kill_agent()
        self.assertEqual(self.fetch(), "fetched HTTP/1.1 200 OK")
        self.assertEqual(self.proxy.targets(), [f"{FAR}:80"] * 2)
        self.assertIn("event=agent_died", self.errors())
        self.tell("exit 7")
        self.assertEqual(self.caller.wait_code(), 7)

    def test_an_agent_that_hangs_is_replaced(self):
        """A connect that it had begun ends, one that it had not heard of goes on with the next agent."""
        gate = threading.Event()
        self.addCleanup(gate.set)
        answer, self.proxy.answer = self.proxy.answer, held(grant(), gate)
        self.tell("fetch")
        proc.wait_until(self.proxy.targets, "the request at the proxy")
        os.kill(self.agent, signal.SIGSTOP)
        hanging, self.agent = self.agent, tree.agent_of(self.caller.pid, [self.agent], timeout=30)
        self.assertEqual(self.wait_lines(2)[1], f"failed [Errno {errno.ENETDOWN}] Network is down")
        self.assertIn(f"event=agent_hangs pid={self.program} agent={hanging} ", self.errors())
        gate.set()
        self.proxy.answer = answer
        os.kill(self.agent, signal.SIGSTOP)
        self.tell("fetch")
        self.agent = tree.agent_of(self.caller.pid, [self.agent], timeout=30)
        self.assertEqual(self.wait_lines(3)[2], "fetched HTTP/1.1 200 OK")
        self.tell("exit 7")
        self.assertEqual(self.caller.wait_code(), 7)

    def test_an_agent_in_a_debugger_is_let_be(self):
        """For longer than P takes to find that it hangs."""
        self.need("gdb")
        gdb = self.spawn("gdb", "gdb", "-q", "-batch-silent", "-p", self.agent, "-ex", "shell echo held; sleep 10", "-ex", "detach")
        gdb.wait_line("held", timeout=20)
        gdb.wait(timeout=30)
        self.assertEqual(tree.agent_of(self.caller.pid), self.agent)
        self.assertEqual(self.fetch(), "fetched HTTP/1.1 200 OK")
        self.assertNotIn("agent_hangs", self.errors())
        self.tell("exit 0")
        self.assertEqual(self.caller.wait_code(), 0)

    def test_an_ask_that_comes_while_there_is_no_agent_waits_for_the_next(self):
        os.kill(self.caller.pid, signal.SIGSTOP)  # P cannot start one
        os.waitpid(self.caller.pid, os.WUNTRACED)
        os.kill(self.agent, signal.SIGKILL)
        self.tell("fetch")
        os.kill(self.caller.pid, signal.SIGCONT)
        self.assertEqual(self.wait_lines(2)[1], "fetched HTTP/1.1 200 OK")
        self.tell("exit 0")
        self.assertEqual(self.caller.wait_code(), 0)

    def test_each_of_many_agents_serves(self):
        for _ in range(15):
            self.kill_agent()
            self.assertEqual(self.fetch(), "fetched HTTP/1.1 200 OK")
        self.tell(f"kill {int(signal.SIGTERM)}")
        self.assertEqual(self.caller.wait_code(), -signal.SIGTERM)

    def test_agents_that_die_all_the_time_are_given_up_and_nothing_goes_direct(self):
        for _ in range(20):
            self.kill_agent()
        os.kill(self.agent, signal.SIGKILL)
        proc.wait_until(lambda: "event=agent_given_up" in self.errors(), "the last word of P")
        self.assertRegex(self.fetch(), "^failed")
        self.assertEqual(self.proxy.connections, [])
        self.assertEqual(tree.stat(self.caller.pid)[0], "S", "P is busy with nothing")
        self.tell("exit 5")
        self.assertEqual(self.caller.wait_code(), 5)

    def test_a_program_that_ends_together_with_its_agent(self):
        for turn in range(40):
            with self.subTest(turn=turn):
                os.kill(self.caller.pid, signal.SIGSTOP)
                os.waitpid(self.caller.pid, os.WUNTRACED)
                if turn % 2:
                    self.tell("exit 9")
                    os.kill(self.agent, signal.SIGKILL)
                else:
                    os.kill(self.agent, signal.SIGKILL)
                    self.tell("exit 9")
                os.kill(self.caller.pid, signal.SIGCONT)
                self.assertEqual(self.caller.wait_code(), 9)
                self.end_commands()
                os.unlink(os.path.join(self.directory, "commands"))
                self.begin()
        self.tell("exit 0")

    def test_the_agent_survives_what_ends_programs(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGUSR1):
            os.kill(self.agent, number)
        self.assertEqual(self.fetch(), "fetched HTTP/1.1 200 OK")
        self.assertEqual(tree.agent_of(self.caller.pid), self.agent)
        self.tell("exit 0")
        self.assertEqual(self.caller.wait_code(), 0)

    def test_without_p_the_program_goes_on_and_the_agent_ends_with_it(self):
        os.kill(self.caller.pid, signal.SIGKILL)
        self.caller.wait_code()
        self.assertEqual(self.fetch(), "fetched HTTP/1.1 200 OK")
        self.assertEqual(sorted(netns.processes()), sorted([self.agent, self.program]))
        self.tell("exit 0")
        self.assert_nothing_runs()

    def test_without_p_and_with_a_later_agent(self):
        """A later agent is nobody's parent, and the program has not asked it for anything yet."""
        self.kill_agent()
        os.kill(self.caller.pid, signal.SIGKILL)
        self.caller.wait_code()
        self.assertEqual(self.fetch(), "fetched HTTP/1.1 200 OK")
        self.assertEqual(sorted(netns.processes()), sorted([self.agent, self.program]))
        self.tell("exit 0")
        self.assert_nothing_runs()

    def test_p_is_killed_before_the_program_has_started(self):
        """Held by strace as in test_run_signals.py: the program must not start without anybody to watch it."""
        self.tell("exit 0")
        self.assertEqual(self.caller.wait_code(), 0)
        hold = ["strace", "-f", "-qq", "-o", os.devnull, "-e", "trace=setsid",
                "-e", "inject=setsid:delay_enter=1000000"]
        if self.bare(*hold, "true").code != 0:
            self.skipTest("strace cannot hold a process here")
        marker = os.path.join(self.directory, "started")
        strace = self.start_caller([*hold, *self.line("touch", marker)])
        supervisor = proc.wait_until(lambda: next((pid for pid in tree.children(strace.pid)
                                                   if tree.name(pid) == "towpath"), None), "P")
        proc.wait_until(lambda: [grandchild for child in tree.children(supervisor)
                                 for grandchild in tree.children(child)], "the forked program")
        os.kill(supervisor, signal.SIGKILL)
        self.assertEqual(strace.wait_code(), -signal.SIGKILL)
        self.assert_nothing_runs()
        self.assertFalse(os.path.exists(marker))


if __name__ == "__main__":
    main()
