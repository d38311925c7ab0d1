"""Processes of a test: started, awaited by event, ended by handle.

Output goes to files in the test's directory, never to pipes: a program that leaves a helper behind must not keep the
test waiting for an end of file. Each process leads a session of its own, which is what "all that it started" means.
Waiting asks the kernel again until the deadline; `TOWPATH_TEST_TIME_SCALE` scales every deadline.
"""

import collections
import os
import re
import select
import shlex
import signal
import socket
import subprocess

Result = collections.namedtuple("Result", "code out err")
_everything = []  # each Process and finished Run, for the output of a failure


def scaled(seconds):
    return seconds * float(os.environ.get("TOWPATH_TEST_TIME_SCALE", "1"))


def wait_until(condition, what, timeout=10.0, process=None):
    """Returns the first true value of `condition()`; an AssertionError when the time or the process has ended."""
    poll = select.poll()
    if process is not None:
        poll.register(process.pidfd, select.POLLIN)
    rounds = max(1, int(scaled(timeout) / 0.01))
    for _ in range(rounds):
        value = condition()
        if value:
            return value
        if poll.poll(10):
            value = condition()
            if value:
                return value
            raise AssertionError(f"{process.name} ended while waiting for {what}\n{process.output()}")
    raise AssertionError(f"no {what} within {scaled(timeout):.0f} s" +
                         (f"\n{process.output()}" if process is not None else ""))


def free_port(address="127.0.0.1", kind=socket.SOCK_STREAM):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, kind) as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


class Process:
    """A program that keeps running: a proxy, a server, a client that is watched."""

    def __init__(self, name, command, directory, env=None, cwd=None, stdin=subprocess.DEVNULL, pass_fds=()):
        self.name, self.command = name, [str(word) for word in command]
        self._paths = [_fresh(directory, name, "out"), _fresh(directory, name, "err")]
        self._shown = [0, 0]
        # For append: towpath's library writes into no other file.
        with open(self._paths[0], "ab") as out, open(self._paths[1], "ab") as err:
            self.popen = subprocess.Popen(self.command, stdin=stdin, stdout=out, stderr=err, env=env, cwd=cwd,
                                          start_new_session=True, pass_fds=pass_fds)
        self.pid = self.popen.pid
        self.pidfd = os.pidfd_open(self.pid)
        self.logs = []  # further files that belong to this process
        self.noise = None  # a pattern: such lines are left out of a failure's output
        _everything.append(self)

    @property
    def out(self):
        return _read(self._paths[0])

    @property
    def err(self):
        return _read(self._paths[1])

    def output(self):
        return "".join(_section(path, _read(path), self.noise) for path in self._paths + self.logs)

    def wait_line(self, pattern, timeout=10.0):
        """The match of the first line in either stream (or a file of `logs`) that `pattern` is found in."""
        def search():
            return next(filter(None, (re.search(pattern, _read(path), re.M) for path in self._paths + self.logs)), None)
        return wait_until(search, f"line /{pattern}/ from {self.name}", timeout, self)

    def wait_listening(self, port=None, timeout=10.0):
        """Waits until this process, or one of its session, listens (on `port`); returns (address, port)."""
        def search():
            inodes = _socket_inodes([self.pid, *session(self.pid)])
            return next((place for place, inode in listeners() if inode in inodes and port in (None, place[1])), None)
        return wait_until(search, f"listening socket of {self.name}", timeout, self)

    def wait(self, timeout=10.0):
        try:
            return self.popen.wait(scaled(timeout))
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {scaled(timeout):.0f} s\n{self.output()}") from None

    def running(self):
        return self.popen.poll() is None

    def signal(self, number):
        if self.running():
            signal.pidfd_send_signal(self.pidfd, number)

    def stop(self, grace=2.0):
        if self.pidfd == -1:
            return
        self.signal(signal.SIGTERM if grace else signal.SIGKILL)
        try:
            self.popen.wait(scaled(grace) or None)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self.popen.wait()
        kill(session(self.pid))
        os.close(self.pidfd)
        self.pidfd = -1


class Run:
    """A finished command, remembered for the output of a failure."""

    def __init__(self, process, result):
        self.name, self.command, self.result = process.name, process.command, result


def run(name, command, directory, env=None, cwd=None, timeout=20.0, stdin=b""):
    """Runs a command to its end. A command that does not end is killed with all it started, and an AssertionError."""
    path = _fresh(directory, name, "in")
    with open(path, "wb") as file:
        file.write(stdin if isinstance(stdin, bytes) else stdin.encode())
    with open(path, "rb") as file:
        process = Process(name, command, directory, env, cwd, stdin=file)
    try:
        code = process.wait(timeout)
        os.close(process.pidfd)
        process.pidfd = -1
    except AssertionError:
        process.stop(0)
        raise
    result = Result(code, process.out, process.err)
    _everything[_everything.index(process)] = Run(process, result)
    return result


def mark():
    """Failures from here on show the runs from here on."""
    _everything[:] = [one for one in _everything if isinstance(one, Process) and one.pidfd != -1 and one.running()]
    for process in _everything:
        process._shown = [len(_read(path)) for path in process._paths + process.logs]


def transcript():
    """All that was written since mark(), by every process."""
    parts = []
    for one in _everything:
        state = f"exit {one.result.code}" if isinstance(one, Run) else f"pid {one.pid}"
        parts.append(f"--- {one.name} ({state}): {shlex.join(one.command)}\n")
        if isinstance(one, Run):
            parts += [_section("out", one.result.out), _section("err", one.result.err)]
        else:
            shown = one._shown + [0] * len(one.logs)
            parts += [_section(path, _read(path)[start:], one.noise)
                      for path, start in zip(one._paths + one.logs, shown)]
    return "".join(parts)


def stop_all():
    for one in list(_everything):
        if isinstance(one, Process):
            one.stop()


def listeners():
    """[((address, port), inode)] of every listening TCP socket in this network namespace."""
    found = []
    for table, family in (("/proc/net/tcp", socket.AF_INET), ("/proc/net/tcp6", socket.AF_INET6)):
        with open(table) as lines:
            for line in list(lines)[1:]:
                words = line.split()
                if words[3] == "0A":
                    raw, port = words[1].split(":")
                    address = b"".join(bytes.fromhex(raw[i:i + 8])[::-1] for i in range(0, len(raw), 8))
                    found.append(((socket.inet_ntop(family, address), int(port, 16)), int(words[9])))
    return found


def session(leader):
    """Living processes of the session that `leader` began."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[3] == str(leader) and fields[0] not in "ZX":
            found.append(int(entry))
    return found


def call_of(pid):
    """The system call that the first thread of a process sleeps in, "" when it runs; a few names only."""
    names = {"47": "recvmsg", "232": "epoll_pwait", "281": "epoll_pwait", "441": "epoll_pwait"}
    try:
        with open(f"/proc/{pid}/syscall") as file:
            return names.get(file.read().split(" ")[0], "")
    except OSError:
        return ""


def kill(pids):
    """SIGKILL by handle, and waits until each is gone."""
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            select.select([handle], [], [], scaled(5))
        except ProcessLookupError:
            pass
        finally:
            os.close(handle)


def _socket_inodes(pids):
    inodes = set()
    for pid in pids:
        try:
            for entry in os.scandir(f"/proc/{pid}/fd"):
                target = os.readlink(entry.path)
                if target.startswith("socket:["):
                    inodes.add(int(target[8:-1]))
        except OSError:
            continue
    return inodes


def _fresh(directory, name, suffix):
    stem, number = os.path.join(directory, re.sub(r"[^\w.-]", "_", name)), 0
    while os.path.exists(f"{stem}.{number}.{suffix}"):
        number += 1
    return f"{stem}.{number}.{suffix}"


def _read(path):
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _section(title, text, noise=None):
    lines = [line for line in text.splitlines() if not (noise and re.search(noise, line))]
    if not lines:
        return ""
    cut = [f"    ... {len(lines) - 80} lines"] if len(lines) > 80 else []
    return "\n".join([f"  {os.path.basename(title)}:", *cut, *(f"    {line}" for line in lines[-80:])]) + "\n"
