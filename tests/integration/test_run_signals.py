"""Signals through P: each reaches the program exactly once; stopping and continuing; what the program leaves behind."""

import os
import signal
import subprocess

from lab import netns, proc, tree
from lab.case import main
from lab.origin import Origin
from lab.proxy import Proxy
from lab.tree import RunCase

PYTHON = "/usr/bin/python3"
FAR = "far.example"
# Says each signal that it gets; the last real-time signal is the question whether all before it have been said.
LISTENER = """
import os, signal
wanted = set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}
signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
print('pid', os.getpid(), flush=True)
while True:
    got = signal.sigwaitinfo(wanted)
    print('got', got.si_signo, flush=True)
    if got.si_signo == signal.SIGRTMAX:
        break
"""


class SignalCase(RunCase):
    def program(self, script, *arguments, **more):
        """A python program that said `pid N`: (caller, N); its output is in `self.lines()`."""
        self.out = os.path.join(self.directory, "program.out")
        with open(self.out, "wb") as out:
            caller = self.call(PYTHON, "-c", script, *arguments, stdout=out, **more)
        return caller, int(self.wait_for("pid ").split()[1])

    def lines(self):
        with open(self.out) as file:
            return file.read().splitlines()

    def wait_for(self, start):
        return proc.wait_until(lambda: next((line for line in self.lines() if line.startswith(start)), None),
                               f"line {start!r}")

    def got(self, caller):
        """All that the program got until now. It ends."""
        os.kill(caller.pid, signal.SIGRTMAX)
        self.assertEqual(caller.wait_code(), 0)
        return [int(line.split()[1]) for line in self.lines() if line.startswith("got")][:-1]


class Forwarding(SignalCase):
    def test_each_reaches_the_program_once(self):
        caller, _ = self.program(LISTENER)
        sent = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT,
                signal.SIGALRM, signal.SIGWINCH, signal.SIGPIPE, signal.SIGABRT, signal.SIGSEGV, signal.SIGXCPU,
                signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCONT, signal.SIGRTMIN, signal.SIGRTMIN + 7]
        for number in sent:
            os.kill(caller.pid, number)
            self.wait_for(f"got {int(number)}")
        self.assertEqual(self.got(caller), sent)

    def test_queued_signals_are_not_merged_and_keep_their_value(self):
        caller, _ = self.program(LISTENER.replace("'got', got.si_signo", "'got', got.si_signo, got.si_code == -1"))
        self.assert_ran(self.bare("sh", "-c", f"for i in 1 2 3; do kill -{signal.SIGRTMIN + 1} {caller.pid}; done"))
        self.assert_ran(self.bare("env", "kill", "-q", "5", f"-{signal.SIGRTMIN + 2}", str(caller.pid)))
        self.assertEqual(self.got(caller), [signal.SIGRTMIN + 1] * 3 + [signal.SIGRTMIN + 2])
        self.assertIn(f"got {signal.SIGRTMIN + 2} True", self.lines())

    def test_the_default_action_is_what_the_caller_sees(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT, signal.SIGABRT):
            with self.subTest(number=number):
                caller, _ = self.program("import os, signal, time; signal.signal(2, signal.SIG_DFL);"
                                         "print('pid', os.getpid(), flush=True); signal.pause()")
                os.kill(caller.pid, number)
                self.assertEqual(caller.wait_code(), -number)

    def test_a_program_may_ignore_what_it_likes(self):
        caller, program = self.program("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)" + LISTENER.replace(
            "valid_signals()", "valid_signals()) - {signal.SIGTERM} - set("))
        os.kill(caller.pid, signal.SIGTERM)
        self.assertEqual(self.got(caller), [])

    def test_an_exit_status_of_its_own_after_a_signal(self):
        caller, _ = self.program("import os, signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(5));"
                                 "print('pid', os.getpid(), flush=True); signal.pause()")
        os.kill(caller.pid, signal.SIGTERM)
        self.assertEqual(caller.wait_code(), 5)

    def test_an_alarm_that_was_set_before_exec(self):
        """alarm(2) stays with the process, which is P; `perl -e 'alarm 5; exec ...'` is how many limit a program."""
        line = ["perl", "-e", "use Time::HiRes; Time::HiRes::alarm(0.05); exec @ARGV", *self.line("sleep", "1000")]
        self.assertEqual(self.start_caller(line).wait_code(), -signal.SIGALRM)

    def test_a_signal_before_the_program_has_started(self):
        """strace holds the agent between the fork of the program and its release."""
        log = os.path.join(self.directory, "strace.log")
        hold = ["strace", "-f", "-qq", "-o", log, "-e", "trace=setsid", "-e", "inject=setsid:delay_enter=1000000"]
        probe = self.bare(*hold, "true")
        if probe.code != 0:
            self.skipTest(f"strace cannot hold a process here: {probe.err}")
        self.out = os.path.join(self.directory, "program.out")
        mask = signal.valid_signals() - {signal.SIGCHLD, signal.SIGCONT}  # what comes early waits for the program to look

        block = f"import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, {set(map(int, mask))});" \
                "os.execv(sys.argv[1], sys.argv[1:])"
        with open(self.out, "wb") as out:
            strace = self.start_caller([*hold, PYTHON, "-c", block, *self.line(PYTHON, "-c", LISTENER)], stdout=out)
        # strace -> P -> agent (still by P's name) -> program (likewise)
        supervisor = proc.wait_until(lambda: next((pid for pid in tree.children(strace.pid)
                                                   if tree.name(pid) == "towpath"), None), "P")
        program = proc.wait_until(lambda: next((grandchild for child in tree.children(supervisor)
                                                for grandchild in tree.children(child)), None), "the forked program")
        sent = [signal.SIGUSR1, signal.SIGTERM] + [signal.SIGRTMIN + 3] * 3
        for number in sent:
            os.kill(supervisor, number)
        self.assertEqual((self.lines(), tree.name(program)), ([], "towpath"), "the program was not held long enough")
        self.wait_for("pid ")
        os.kill(supervisor, signal.SIGRTMAX)
        self.assertEqual(strace.wait_code(), 0)
        got = [int(line.split()[1]) for line in self.lines() if line.startswith("got")]
        self.assertEqual(sorted(got), sorted(sent) + [signal.SIGRTMAX])


STOPPER = """
import os, signal, sys
signal.signal(signal.SIGCONT, lambda *_: None)
print('pid', os.getpid(), flush=True)
for turn in range(int(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGSTOP)
    print('continued', turn, flush=True)
sys.exit(6)
"""


class Stopping(SignalCase):
    def assert_stopped(self, caller):
        self.assertTrue(os.WIFSTOPPED(caller.wait_status(os.WUNTRACED)))

    def assert_continued(self, caller):
        self.assertTrue(os.WIFCONTINUED(caller.wait_status(os.WCONTINUED)))

    def test_the_caller_sees_the_stop_and_continues_the_program_through_p(self):
        caller, program = self.program(STOPPER, "50")
        for turn in range(50):
            self.assert_stopped(caller)
            self.assertEqual(tree.stat(program)[0], "T")
            os.kill(caller.pid, signal.SIGCONT)
            self.wait_for(f"continued {turn}")
        self.assertEqual(caller.wait_code(), 6)

    def test_who_continues_the_program_continues_p(self):
        caller, program = self.program(STOPPER, "20")
        for turn in range(20):
            self.assert_stopped(caller)  # P must have been awake in between, or there is nothing to see
            os.kill(program, signal.SIGCONT)
            self.wait_for(f"continued {turn}")
        self.assertEqual(caller.wait_code(), 6)

    def test_the_caller_sees_that_it_goes_on(self):
        caller, program = self.program(STOPPER.replace("continued', turn", "continued', turn, signal.sigwait({10})"), "1",
                                       setup=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1}))
        for number in (signal.SIGCONT, signal.SIGUSR1):
            if number == signal.SIGCONT:
                self.assert_stopped(caller)
            os.kill(caller.pid, number)
            if number == signal.SIGCONT:
                self.assert_continued(caller)
        self.assertEqual(caller.wait_code(), 6)

    def test_a_stopped_program_that_is_killed(self):
        caller, program = self.program(STOPPER, "1")
        self.assert_stopped(caller)
        os.kill(program, signal.SIGKILL)
        self.assertEqual(caller.wait_code(), -signal.SIGKILL)

    def test_p_never_stays_stopped_while_the_program_goes_on(self):
        caller, program = self.program(LISTENER)
        for _ in range(300):
            os.kill(program, signal.SIGSTOP)
            os.kill(program, signal.SIGCONT)
        proc.wait_until(lambda: tree.stat(program)[0] == "S" and tree.stat(caller.pid)[0] == "S", "both to be awake")
        self.assertLessEqual(set(self.got(caller)), {signal.SIGCONT})

    def test_a_stop_of_the_group_and_its_end(self):
        caller, program = self.program(STOPPER.replace("os.kill(os.getpid(), signal.SIGSTOP)", "signal.pause()"), "1")
        os.killpg(caller.pid, signal.SIGSTOP)
        self.assert_stopped(caller)
        os.killpg(caller.pid, signal.SIGCONT)
        self.assertEqual(caller.wait_code(), 6)

    def test_a_program_whose_agent_died_can_be_stopped_too(self):
        caller, program = self.program(STOPPER.replace("range(", "signal.pause() or range("), "3")
        old = tree.agent_of(caller.pid)
        os.kill(old, signal.SIGKILL)
        tree.agent_of(caller.pid, [old])
        os.kill(program, signal.SIGCONT)
        for turn in range(3):
            self.assert_stopped(caller)
            os.kill(caller.pid, signal.SIGCONT)
            self.wait_for(f"continued {turn}")
        self.assertEqual(caller.wait_code(), 6)


# Forks twice; the orphan waits until the pipe that it reads is closed, then fetches.
DAEMON = """
import os, sys, socket
gate = os.open(sys.argv[1], os.O_RDONLY | os.O_NONBLOCK)
os.set_blocking(gate, True)
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
        print('pid', os.getpid(), flush=True)
        os.read(gate, 1)
        peer = socket.create_connection((sys.argv[2], 80))
        peer.sendall(b'GET /orphan HTTP/1.0\\r\\n\\r\\n')
        print('answer', peer.makefile().readline().strip(), flush=True)
        os.read(gate, 1)
    os._exit(0)
os.wait()
"""


class Orphans(SignalCase):
    def setUp(self):
        super().setUp()
        self.origin = self.use(Origin("127.0.0.80", 80))
        self.proxy = self.use(Proxy("http", {FAR: ("127.0.0.80", 80)}))
        self.proxy_values(self.proxy.url)
        self.gate = os.path.join(self.directory, "gate")
        os.mkfifo(self.gate)

    def daemon(self):
        """(the gate's writing end, the orphan); P has ended."""
        keeper = os.open(self.gate, os.O_RDWR)
        caller, orphan = self.program(DAEMON, self.gate, FAR)
        gate = os.open(self.gate, os.O_WRONLY)
        os.close(keeper)
        self.assertEqual(caller.wait_code(), 0)
        return gate, orphan

    def test_an_orphan_is_served_after_p_has_ended_and_the_agent_ends_with_it(self):
        gate, orphan = self.daemon()
        agent, = tree.agents()
        self.assertEqual(tree.stat(orphan)[1], agent)
        os.write(gate, b".")
        self.wait_for("answer HTTP/1.1 200")
        self.assertEqual(self.proxy.targets(), [f"{FAR}:80"])
        self.assertEqual(tree.agents(), [agent])
        os.close(gate)
        self.assert_nothing_runs()

    def test_an_orphan_that_never_asked_keeps_the_agent_until_it_ends(self):
        gate, orphan = self.daemon()
        agent, = tree.agents()
        os.kill(orphan, signal.SIGKILL)
        self.assert_nothing_runs()
        os.close(gate)

    def test_orphans_are_reaped_at_once(self):
        script = "for i in 1 2 3 4 5; do (sh -c 'exit 0' & exec true) & done; wait; echo pid $$; read line"
        caller = self.call("sh", "-c", script, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        caller.popen.stdout.readline()
        agent = tree.agent_of(caller.pid)
        proc.wait_until(lambda: len(tree.children(agent)) == 1 and not [
            pid for pid, _ in tree.zombies() if tree.stat(pid) and tree.stat(pid)[1] in (agent, caller.pid)],
            "reaped orphans")
        caller.popen.stdin.write(b"\n")
        caller.popen.stdin.flush()
        self.assertEqual(caller.wait_code(), 0)

    def test_the_log_line_of_an_orphan_goes_to_the_orphans_standard_error(self):
        self.proxy.names.clear()
        errors = os.path.join(self.directory, "orphan.err")
        keeper = os.open(self.gate, os.O_RDWR)
        with open(errors, "ab") as file:  # two write to it
            caller, orphan = self.program(DAEMON, self.gate, FAR, stderr=file)
        gate = os.open(self.gate, os.O_WRONLY)
        os.close(keeper)
        self.assertEqual(caller.wait_code(), 0)
        os.write(gate, b".")

        def said():
            with open(errors) as file:
                return "event=connect_failed" in file.read()
        proc.wait_until(said, "the line")
        os.close(gate)


class Leaving(RunCase):
    def test_the_last_words_of_a_program_are_not_lost(self):
        for _ in range(30):
            result = self.towpath("sh", "-c", "echo last; echo words >&2; kill -9 $$")
            self.assertEqual(result, (-9, "last\n", "words\n"))

    def test_nothing_is_left(self):
        self.assert_ran(self.towpath("true"))
        self.assert_nothing_runs()
        self.assertEqual(netns.processes(), [])


if __name__ == "__main__":
    main()
