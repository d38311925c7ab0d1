"""towpath at a terminal: the keys do to the program what they do without towpath, under a shell with job control and where
towpath leads the session itself."""

import errno
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios

from lab import netns, proc, tree
from lab.case import TOWPATH, main
from lab.proxy import Proxy, refuse
from lab.tree import RunCase

PYTHON = "/usr/bin/python3"
FAR = "far.example"
SHELL = "bash --norc --noprofile -i"


class Terminal:
    """An interactive bash in a tmux window."""

    def __init__(self, case):
        self._case = case
        self._socket = os.path.join(case.directory, "tmux.sock")
        case.terminal = self
        start = case.file("start", "PS1='READY> '\n")  # a shell in between would forget the variable
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", "250", "-y", "50",
                   f"exec bash --noprofile --rcfile {start} -i", env=case._env({"TERM": "screen", "HISTFILE": ""}))
        self.wait("READY> $")

    def _tmux(self, *arguments, env=None):
        done = subprocess.run(["tmux", "-S", self._socket, *arguments], env=env, capture_output=True, text=True,
                              cwd=self._case.directory, check=False)
        return done.stdout

    def screen(self):
        return self._tmux("capture-pane", "-p", "-J", "-S", "-200").rstrip("\n")

    def wait(self, pattern):
        """The match in what the terminal shows at last."""
        found = []

        def look():
            found[:] = [self.screen()]
            return re.search(pattern, found[0])
        try:
            return proc.wait_until(look, pattern)
        except AssertionError as error:
            raise AssertionError(f"{error}\n--- the terminal shows:\n{found[0]}") from None

    def type(self, text):
        self._tmux("send-keys", "-l", text)
        self._tmux("send-keys", "Enter")

    def key(self, name):
        self._tmux("send-keys", name)

    def status(self, mark):
        """The shell's $?."""
        self.type(f"echo {mark}=$?")
        return int(self.wait(rf"(?m)^{mark}=(\d+)$").group(1))

    def stop(self):
        self._tmux("kill-server")


def running(name):
    """The process of that name, once it runs."""
    return proc.wait_until(lambda: next((pid for pid in netns.processes() if tree.name(pid) == name), None), name)


class Shell(RunCase):
    terminal = None

    def setUp(self):
        super().setUp()
        self.need("tmux")
        self.proxy = self.use(Proxy("http", answer=refuse(403)))
        self.proxy_values(self.proxy.url)
        script = self.file("t", f'#!/bin/sh\nexec {TOWPATH} run -c {self.config} -- "$@"\n')
        os.chmod(script, 0o755)
        self.use(Terminal(self))

    def on_failure(self):
        return super().on_failure() + f"--- the terminal shows:\n{self.terminal and self.terminal.screen()}\n"

    def resume(self, program):
        """What is typed before the shell has set the terminal up for the program would be lost, with or without us."""
        self.terminal.type("fg")
        proc.wait_until(lambda: tree.stat(program)[0] == "S", "the program to go on")

    def test_ctrl_c_ends_the_program(self):
        for number, program in enumerate(("sleep 1000", "cat", "sh -c 'sleep 1000; true'")):
            with self.subTest(program):
                self.terminal.type(f"./t {program}")
                running(program.split()[-1 if program == "cat" else 0].strip("'"))
                self.terminal.key("C-c")
                self.assertEqual(self.terminal.status(f"first{number}"), 130)
                proc.wait_until(lambda: not tree.agents(), "end of the agent")

    def test_ctrl_backslash(self):
        self.terminal.type("./t sleep 1000")
        running("sleep")
        self.terminal.key("C-\\")
        self.assertEqual(self.terminal.status("quit"), 131)

    def test_ctrl_z_stops_it_and_fg_resumes_it(self):
        self.terminal.type("./t cat")
        program = running("cat")
        for turn in range(3):
            self.terminal.key("C-z")
            self.terminal.wait(r"Stopped.*\./t cat\s+READY> $")
            self.assertEqual(tree.stat(program)[0], "T")
            self.terminal.type("clear; jobs")
            self.terminal.wait(r"\[1\]\+ +Stopped +\./t cat\s+READY> $")
            self.resume(program)
            self.terminal.type(f"hello {turn}")
            self.terminal.wait(rf"(?m)^hello {turn}\nhello {turn}$")
        self.terminal.key("C-d")
        self.assertEqual(self.terminal.status("end"), 0)

    def test_a_stopped_job_goes_on_in_the_background(self):
        self.terminal.type("./t sh -c 'while read line; do echo got $line; done'")
        program = running("sh")
        self.terminal.key("C-z")
        self.terminal.wait("Stopped")
        self.terminal.type("bg")
        self.terminal.wait(r"\[1\]\+ .*&")
        # It reads from the terminal, which stops it once more.
        proc.wait_until(lambda: tree.stat(program)[0] == "T", "stop of a reader in the background")
        self.terminal.type("clear; jobs")
        self.terminal.wait(r"\[1\]\+ +Stopped")
        self.resume(program)
        self.terminal.type("this")
        self.terminal.wait("(?m)^got this$")
        self.terminal.key("C-c")
        self.assertEqual(self.terminal.status("end"), 130)

    def test_kill_of_a_stopped_job(self):
        self.terminal.type("./t cat")
        running("cat")
        self.terminal.key("C-z")
        self.terminal.wait("Stopped")
        agent, = tree.agents()
        supervisor = tree.stat(agent)[1]
        self.terminal.type("kill %1")
        # The shell tells of it at its next prompt, of what it has reaped by then.
        proc.wait_until(lambda: tree.stat(supervisor) is None, "the shell to reap the job")
        self.terminal.type("true")
        self.terminal.wait(r"\[1\]\+ +Terminated")

    def test_a_pipeline(self):
        self.terminal.type("./t sh -c 'echo one; sleep 1000' | cat")
        self.terminal.wait("(?m)^one$")
        self.terminal.key("C-c")
        self.assertEqual(self.terminal.status("end"), 130)
        self.terminal.type("./t yes | head -n 2; echo ${PIPESTATUS[0]}")
        self.terminal.wait("(?m)^y\ny\n141$")

    def test_an_interactive_shell_keeps_job_control(self):
        self.terminal.type(f"clear; PS1='INNER> ' ./t {SHELL}")
        self.terminal.wait("INNER> $")
        self.assertNotIn("no job control", self.terminal.screen())
        agent, = tree.agents()
        self.terminal.type("sleep 1000")
        program = running("sleep")
        self.terminal.key("C-z")
        self.terminal.wait(r"Stopped +sleep 1000\s+INNER> $")
        self.terminal.type("clear; jobs; fg")
        proc.wait_until(lambda: tree.stat(program)[0] == "S", "sleep after fg")
        self.terminal.key("C-c")
        self.assertEqual(self.terminal.status("inner"), 130)
        self.assertEqual(tree.agents(), [agent])
        self.terminal.type("exit 3")
        self.terminal.wait("READY> $")
        self.assertEqual(self.terminal.status("outer"), 3)

    def test_a_shell_that_suspends_itself(self):
        self.terminal.type(f"PS1='INNER> ' ./t {SHELL}")
        self.terminal.wait("INNER> $")
        self.terminal.type("suspend")
        self.terminal.wait("Stopped.*\\s+READY> $")
        self.terminal.type("clear; fg")
        self.terminal.wait("INNER> $")
        self.terminal.type("echo back=$((6 * 7))")
        self.terminal.wait("(?m)^back=42$")
        self.terminal.type("exit 4")
        self.terminal.wait("READY> $")
        self.assertEqual(self.terminal.status("outer"), 4)

    def test_python_at_the_prompt(self):
        self.terminal.type(f"./t {PYTHON} -q")
        self.terminal.wait(">>> $")
        self.terminal.type("print(6 * 7)")
        self.terminal.wait("(?m)^42\n>>> $")
        self.terminal.key("C-c")
        self.terminal.wait("KeyboardInterrupt")
        self.terminal.type("raise SystemExit(6)")
        self.terminal.wait("READY> $")
        self.assertEqual(self.terminal.status("python"), 6)

    def test_the_agents_line_appears_on_the_terminal(self):
        self.terminal.type("stty tostop")  # the agent is in the background, and must neither stop nor be silent
        self.terminal.type(f"./t {self.need('curl')} -sS http://{FAR}:8080/; echo done")
        self.terminal.wait(f"level=error event=connect_failed .*target={FAR}:8080 .*403")
        self.terminal.wait("(?m)^done$")

    def test_a_terminal_that_is_closed(self):
        self.terminal.type("./t sleep 1000")
        running("sleep")
        self.terminal.stop()
        self.assert_nothing_runs()


LISTENER = """
import os, signal, sys
wanted = set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGTTOU}
signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
with open(sys.argv[1], 'a', buffering=1) as out:
    print('ready', file=out)
    while True:
        got = signal.sigwaitinfo(wanted).si_signo
        print(int(got), file=out)
        if got == signal.SIGRTMAX:
            break
"""


def drain(far):
    """All that was written to a terminal that nobody has open any more: it arrives by and by, and ends with EIO."""
    out = b""
    try:
        while part := os.read(far, 4096):
            out += part
    except OSError as error:
        if error.errno != errno.EIO:
            raise
    return out


class Leader(RunCase):
    """towpath leads the session, as in a container with a terminal, `ssh -t`, or a window that is opened for it."""

    def open(self, command):
        """(pid, the terminal's far end)."""
        pid, far = pty.fork()
        if pid == 0:
            os.chdir(self.directory)
            os.execve(command[0], command, self._env(None))
        self.addCleanup(self.end, pid)
        return pid, far

    def end(self, pid):
        try:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass

    def wait(self, pid):
        def look():
            found, status = os.waitpid(pid, os.WNOHANG)
            return (os.waitstatus_to_exitcode(status),) if found else None
        return proc.wait_until(look, "the end")[0]

    def listener(self):
        log = os.path.join(self.directory, "signals")
        with open(log, "w"):
            pass
        pid, far = self.open(self.line(PYTHON, "-c", LISTENER, log))

        def lines():
            with open(log) as file:
                return file.read().split()
        proc.wait_until(lambda: "ready" in lines(), "the program")
        return pid, far, lines

    def test_each_key_is_one_signal(self):
        pid, far, lines = self.listener()
        for key, number in ((b"\x03", signal.SIGINT), (b"\x1c", signal.SIGQUIT), (b"\x1a", signal.SIGTSTP)):
            os.write(far, key)
            proc.wait_until(lambda: str(int(number)) in lines(), number.name)
        fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
        proc.wait_until(lambda: str(int(signal.SIGWINCH)) in lines(), "SIGWINCH")
        os.kill(pid, signal.SIGRTMAX)
        self.assertEqual(self.wait(pid), 0)
        self.assertEqual(lines()[1:], ["2", "3", "20", "28", "64"])
        os.close(far)

    def test_a_hangup_reaches_the_program(self):
        """Only the leader of the session is told, and that is P."""
        pid, far, lines = self.listener()
        os.close(far)
        proc.wait_until(lambda: str(int(signal.SIGHUP)) in lines(), "SIGHUP")
        os.kill(pid, signal.SIGRTMAX)
        self.assertEqual(self.wait(pid), 0)
        self.assertEqual(lines().count("1"), 1)

    def test_a_hangup_ends_the_program(self):
        pid, far = self.open(self.line("cat"))
        running("cat")
        os.close(far)
        self.assertIn(self.wait(pid), (-signal.SIGHUP, 0, 1))  # cat may see the end of its input first
        self.assert_nothing_runs()

    def test_ctrl_z_where_nobody_could_continue_it(self):
        """The kernel does not stop an orphaned process group; the agent must not make it look like one that is not."""
        for line in (["/bin/cat"], self.line("cat")):
            with self.subTest(line[0]):
                pid, far = self.open(line)
                running("cat")
                os.write(far, b"\x1a" + b"still here\n" + b"\x04")
                self.assertEqual(self.wait(pid), 0)
                self.assertIn(b"still here\r\nstill here", drain(far))
                os.close(far)


if __name__ == "__main__":
    main()
