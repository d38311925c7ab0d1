"""The probe `names` (tests/probes/names.c), told command by command what to look up and where to connect."""

import os

from lab import proc, tree
from lab.case import TOWPATH, probe


def path_of(libc):
    return probe("names", libc)


class NamesProbe:
    """Runs until stop(): `probe.ask("gai localhost", "hbn localhost")` is one line of answer for each."""

    def __init__(self, case, libc="glibc", bare=False, env=None, log="error", prefix=(), shell=None):
        """`prefix` comes before the whole command; `shell`: a script that runs the probe as "$0"."""
        path = path_of(libc)
        program = ["sh", "-c", shell, path] if shell else [path]
        command = program if bare else [TOWPATH, "run", "-c", case.config, "--", *program]
        read_end, self._input = os.pipe()
        environment = {**case.environment, "TOWPATH_LOG": log, **(env or {})}
        try:
            self.process = proc.Process(f"names-{libc}", [*prefix, *command], case.directory, environment, case.directory,
                                        stdin=read_end)
        finally:
            os.close(read_end)
        self._watched = self.process
        self._answered = 0

    def tell(self, *commands):
        """Without waiting for the answers, which ask() brings."""
        os.write(self._input, "".join(command + "\n" for command in commands).encode())

    def ask(self, *commands, timeout=20.0):
        """A list of the answers, or the one answer; without a command, the one that tell() left."""
        self.tell(*commands)
        first, wanted = self._answered, self._answered + max(len(commands), 1)
        proc.wait_until(lambda: self.process.out.count("\n") >= wanted, f"{wanted - first} answers", timeout,
                        self._watched)
        self._answered = wanted
        answers = self.process.out.splitlines()[first:wanted]
        return answers if len(commands) > 1 else answers[0]

    @property
    def log(self):
        return self.process.err

    def agent(self):
        return tree.agent_of(self.process.pid)

    def kill_agent(self):
        proc.kill([self.agent()])

    def kill_towpath(self):
        """The launcher, which would start another agent, and the agent: the program goes on alone."""
        agent = self.agent()
        self._watched = None
        proc.kill([self.process.pid])
        proc.kill([agent])

    def stop(self):
        if self._input != -1:
            os.close(self._input)
            self._input = -1
        self.process.stop()


def resident_kb(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))
