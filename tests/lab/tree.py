"""The processes of `towpath run`, seen from outside: P (what the test started), its agent, the program.

`RunCase` is for tests about them: towpath runs with a proxy that nobody needs to reach, and when a test is over, nothing
of it may still run.
"""

import os
import signal
import subprocess

from lab import netns, proc
from lab.case import LabCase

AGENT = "towpath-agent"


def stat(pid):
    """(state, parent, group, session) of a process, None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[1]), int(fields[2]), int(fields[3])


def name(pid):
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except OSError:
        return ""


def children(parent):
    """Zombies are none."""
    found = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    return [pid for pid in found if (seen := stat(pid)) is not None and seen[1] == parent and seen[0] not in "ZX"]


def zombies():
    """Of the whole machine: (pid, name)."""
    found = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    return [(pid, name(pid)) for pid in found if (seen := stat(pid)) is not None and seen[0] == "Z"]


def agents():
    return [pid for pid in netns.processes() if name(pid) == AGENT]


def agent_of(supervisor, other_than=(), timeout=10.0):
    """The agent that P started, once it is there."""
    def search():
        return next((pid for pid in children(supervisor) if name(pid) == AGENT and pid not in other_than), None)
    return proc.wait_until(search, f"agent of {supervisor}", timeout)


def status_fields(text):
    """/proc/PID/status as a dictionary."""
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


class Caller:
    """Whoever started P: sees wait statuses as the kernel gives them, and owns the far ends of P's descriptors."""

    def __init__(self, command, environment, directory, setup=None, pass_fds=(), **streams):
        self.popen = subprocess.Popen([str(word) for word in command], env=environment, cwd=directory,
                                      start_new_session=True, preexec_fn=setup, pass_fds=pass_fds, **streams)
        self.pid = self.popen.pid
        self.status = None

    def wait_status(self, options=0, timeout=15.0):
        """The next wait status: ended, or with WUNTRACED and WCONTINUED what these add."""
        def look():
            pid, status = os.waitpid(self.pid, options | os.WNOHANG)
            return (status,) if pid else None
        status, = proc.wait_until(look, f"news of process {self.pid}", timeout)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            self.status, self.popen.returncode = status, os.waitstatus_to_exitcode(status)
        return status

    def wait_code(self, timeout=15.0):
        """As subprocess has it: the exit code, or the signal's number with a minus."""
        return os.waitstatus_to_exitcode(self.wait_status(timeout=timeout))

    def stop(self):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.popen.wait()
        for stream in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            if stream:
                stream.close()


class RunCase(LabCase):
    def setUp(self):
        super().setUp()
        self.proxy_values("http://127.0.0.1:9")
        self.addCleanup(self.assert_nothing_runs)

    def assert_nothing_runs(self):
        try:
            proc.wait_until(lambda: not netns.processes(), "end of the last process")
        except AssertionError:
            left = [f"{pid} {name(pid)} {stat(pid)}" for pid in netns.processes()]
            proc.kill(netns.processes())
            self.fail("still running: " + ", ".join(left))

    def call(self, *command, options=(), env=None, setup=None, pass_fds=(), **streams):
        """Starts `towpath run -- command`: a Caller. stdin is /dev/null unless said otherwise."""
        return self.start_caller(self.line(*command, options=options), env, setup, pass_fds, **streams)

    def start_caller(self, command, env=None, setup=None, pass_fds=(), **streams):
        streams.setdefault("stdin", subprocess.DEVNULL)
        with open(self._errors(), "ab") as errors:
            streams.setdefault("stderr", errors)
            return self.use(Caller(command, self._env(env), self.directory, setup, pass_fds, **streams))

    def errors(self):
        """What all that call() started wrote to standard error."""
        with open(self._errors(), errors="replace") as file:
            return file.read()

    def on_failure(self):
        written = self.errors() if os.path.exists(self._errors()) else ""
        return super().on_failure() + "".join(f"--- stderr: {line}\n" for line in written.splitlines())

    def _errors(self):
        return os.path.join(self.directory, "callers.err")

    def twins(self, *command, setup=None, env=None):
        """Output of the program without and with towpath, started by a caller that did `setup` first."""
        outputs = []
        for line in (list(command), self.line(*command)):
            caller = self.start_caller(line, env, setup, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            out, err = caller.popen.communicate(timeout=proc.scaled(15))
            caller.status = caller.popen.returncode
            self.assertEqual((caller.status, err), (0, b""))
            outputs.append(out.decode())
        return outputs
