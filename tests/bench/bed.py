"""What a row is made of: servers, configurations, and the commands that measure.

`Bed` starts servers and builds measurements: functions without arguments that run one program to its end and return
its key=value lines as {key: number}. Whatever does not work is counted in `errors`, never raised.
"""

import functools
import os
import re
import shutil
import subprocess

from lab import proc
from lab.case import BUILD, STANDARD_PATH, TOWPATH

HERE = os.path.dirname(os.path.abspath(__file__))
NAME = "origin.example"    # only proxies know it
ORIGIN = "192.0.2.1"       # an address of this machine that is exempt: the origin of direct connections
PYTHON = "/usr/bin/python3"
NODE = shutil.which("node", path=STANDARD_PATH)
PROXYCHAINS = shutil.which("proxychains4", path=STANDARD_PATH)


class Skip(Exception):
    """A row that cannot be measured here, with the reason."""


class Bed:
    def __init__(self, directory):
        self.directory = directory
        self.environment = {"PATH": STANDARD_PATH, "HOME": directory, "LC_ALL": "C", "TMPDIR": directory}
        self._servers, self._count = [], 0

    def close(self):
        for server in reversed(self._servers):
            server.stop()
        self._servers.clear()

    def use(self, server):
        """Something with stop(), until the row is measured."""
        self._servers.append(server)
        return server

    def file(self, name, text):
        self._count += 1
        path = os.path.join(self.directory, f"{self._count}-{name}")
        with open(path, "w") as file:
            file.write(text)
        return path

    def proxy(self, delay_ms=0):
        """{"http": port, "socks5": port, "origin": port} of a minimal_proxy."""
        server = self.use(proc.Process("minimal_proxy", [program("minimal_proxy"), delay_ms], self.directory))
        line = server.wait_line(r"http=(\d+) socks5=(\d+) origin=(\d+)")
        return dict(zip(("http", "socks5", "origin"), map(int, line.groups())))

    def run(self, *command, timeout=120):
        """One program, as it is."""
        return functools.partial(self._measure, command, timeout)

    def floor(self, scheme, port, *words, **how):
        return self.run(program("floor_client"), scheme, port, *words, **how)

    def towpath(self, url, *command, more="", options=(), **how):
        return self.run(*self.towpath_words(url, more, options), *command, **how)

    def towpath_words(self, url, more="", options=()):
        config = self.file("values.yaml", f'coderd:\n  proxy:\n    http: "{url}"\n    exempt: "{ORIGIN}"\n{more}')
        return [TOWPATH, "run", "-c", config, *options, "--"]

    def proxychains(self, scheme, port, *command, **how):
        """None where proxychains4 is not installed."""
        if PROXYCHAINS is None:
            return None
        config = self.file("proxychains.conf", "strict_chain\nquiet_mode\nproxy_dns\n"
                           f"localnet {ORIGIN}/255.255.255.255\n[ProxyList]\n{scheme} 127.0.0.1 {port}\n")
        return self.run(PROXYCHAINS, "-q", "-f", config, *command, **how)

    def _measure(self, command, timeout):
        try:
            result = proc.run("measured", command, self.directory, self.environment, self.directory, timeout)
        except AssertionError as late:
            return {"errors": 1, "why": str(late).splitlines()[0]}
        return figures(result)


def figures(result):
    """The numbers that a program printed; how it ended counts as well."""
    found = {key: float(value) for key, value in re.findall(r"^(\w+)=(-?[\d.]+)$", result.out, re.M)}
    found.setdefault("errors", 0)
    if result.code != 0:
        found["errors"] += 1
        last = (result.err.strip().splitlines() or ["without a word"])[-1]
        found["why"] = f"exit status {result.code}: {last}"
    elif found["errors"]:
        found["why"] = (result.err.strip().splitlines() or [""])[-1]
    return found


def program(name):
    path = os.path.join(BUILD, "bench", name)
    if not os.access(path, os.X_OK):
        raise Skip(f"{path} is not built")
    return path


def go(name="goclient"):
    path = os.path.join(BUILD, "programs", "go-static", name)
    if not os.access(path, os.X_OK):
        raise Skip("go is not installed")
    return path


def plain(*words):
    """The ordinary program: plain("connect", NAME, 7, 2000)."""
    return [program("plain_client"), *words]


def script(name):
    return os.path.join(HERE, "programs", name)


def need(path, name):
    if not path:
        raise Skip(f"{name} is not installed")
    return path


def children(pid):
    return list(map(int, subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True,
                                        text=True).stdout.split()))
