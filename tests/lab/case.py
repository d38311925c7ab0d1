"""What an integration test derives from: `LabCase`, and `main()`, which enters the namespaces first.

Each test gets a directory, a minimal environment without any proxy variable, `towpath()` to run a program under
towpath and `bare()` to run its twin without. After each test nothing may have tried to leave the machine, except what
bare() sent. A failure prints what every process of the test wrote, and keeps the directory.
"""

import collections
import os
import re
import shutil
import sys
import tempfile
import unittest

from lab import netns, proc
from lab.dns import Dns

_REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("TOWPATH_BUILD", os.path.join(_REPOSITORY, "build"))
TOWPATH = os.path.join(BUILD, "bin", "towpath")
PRELOAD = os.path.join(BUILD, "lib", "libtowpath.so")
PROBES = os.path.join(BUILD, "probes")
PROGRAMS = os.path.join(BUILD, "programs")
REQUIRE_ALL = bool(os.environ.get("TOWPATH_REQUIRE_ALL"))  # scripts/test: nothing may be missing
STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_COMPILERS = {"musl": "musl-gcc", "go-static": "go", "go-cgo": "go"}
_scratch = None
_failed = False


def probe(name, libc="glibc"):
    """Where a probe lies. One that is missing is a failure, unless this machine cannot build it."""
    path = os.path.join(PROBES, *([libc] if libc != "glibc" else []), name)
    if not os.access(path, os.X_OK):
        if libc == "musl" and not REQUIRE_ALL and not shutil.which("musl-gcc"):
            raise unittest.SkipTest("musl-gcc is not installed")
        raise AssertionError(f"{path} is not built")
    return path


def program(name):
    """Where one of tests/programs lies: program("go-static/goclient"). Missing is as for a probe."""
    path = os.path.join(PROGRAMS, name)
    kind = name.partition("/")[0]
    if not os.access(path, os.X_OK):
        if kind == "rust":
            raise unittest.SkipTest("there is no Rust compiler here")  # scripts/setup does not install one
        compiler = _COMPILERS.get(kind, "fpc" if "pascal" in name else None)
        if compiler and not REQUIRE_ALL and not shutil.which(compiler):
            raise unittest.SkipTest(f"{compiler} is not installed")
        if name == "dynamic/past" and not REQUIRE_ALL:
            raise unittest.SkipTest("liburing-dev was not installed when this was built")
        raise AssertionError(f"{path} is not built")
    return path


class LabCase(unittest.TestCase):
    """`class_directory` lives as long as the class, `directory` as long as the test; `dns` is /etc/resolv.conf's."""

    records = {}       # what the name server of this machine knows: {"name": ["address"]}
    leaks_allowed = False
    around = ()        # the command that starts every `towpath run` (lab/docker.py)
    options = ()       # of every `towpath run`

    @classmethod
    def setUpClass(cls):
        cls.class_directory = tempfile.mkdtemp(prefix=cls.__name__ + "-", dir=_scratch)
        os.chmod(cls.class_directory, 0o755)
        cls.dns = Dns(cls.records)
        cls.addClassCleanup(cls.dns.stop)
        cls.addClassCleanup(proc.stop_all)

    @classmethod
    def start(cls, server):
        """Something with stop(), for the rest of the class: `cls.squid = cls.start(Squid(cls.class_directory))`."""
        cls.addClassCleanup(server.stop)
        return server

    def setUp(self):
        proc.mark()
        self.directory = tempfile.mkdtemp(prefix=self._testMethodName + "-", dir=self.class_directory)
        os.chmod(self.directory, 0o755)  # proxies and programs may run as another user
        self.config = None
        self.environment = {"PATH": STANDARD_PATH, "HOME": self.directory, "LC_ALL": "C", "TERM": "dumb",
                            "TMPDIR": self.directory}
        self.dns.queries.clear()
        self._packets = netns.veth_packets()
        netns.leaks()
        if not self.leaks_allowed:
            self.addCleanup(self.assert_absent)

    def use(self, server):
        """Something with stop(), for the rest of the test."""
        self.addCleanup(server.stop)
        return server

    def values(self, text, name="values.yaml"):
        """Writes the operator's values file; the following towpath() calls use it."""
        self.config = self.file(name, text)
        return self.config

    def proxy_values(self, http, exempt="", more=""):
        """The usual file: one proxy for everything."""
        extra = "".join(f"    {line}\n" for line in more.splitlines())
        return self.values(f'coderd:\n  proxy:\n    http: "{http}"\n    https: ""\n    exempt: "{exempt}"\n{extra}')

    def file(self, name, text):
        path = os.path.join(self.directory, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def towpath(self, *command, config=None, env=None, cwd=None, timeout=20.0, options=(), stdin=b""):
        """`towpath run -c values.yaml [options] -- command`: (code, out, err)."""
        if not os.access(TOWPATH, os.X_OK):
            self.fail(f"{TOWPATH} is not built")
        line = self.line(*command, config=config, options=options)
        return proc.run("towpath", line, self.directory, self._env(env), cwd or self.directory, timeout, stdin)

    def line(self, *command, config=None, options=()):
        """The command line of `towpath run`."""
        config = config or self.config
        return [*self.around, TOWPATH, "run", *(["-c", config] if config else []), *self.options, *options, "--", *command]

    def tool(self, *arguments, env=None, timeout=20.0, stdin=b""):
        """Another command of towpath: `self.tool("explain", "--json", "name:443")`."""
        return proc.run("tool", [TOWPATH, *arguments], self.directory, self._env(env), self.directory, timeout, stdin)

    def preload(self, *command, env=None, cwd=None, timeout=20.0, stdin=b""):
        """LD_PRELOAD alone, configured by TOWPATH_CONFIG."""
        extra = {"LD_PRELOAD": PRELOAD, **({"TOWPATH_CONFIG": self.config} if self.config else {}), **(env or {})}
        return proc.run("preload", command, self.directory, self._env(extra), cwd or self.directory, timeout, stdin)

    def bare(self, *command, env=None, cwd=None, timeout=20.0, stdin=b""):
        """The bare twin. What it sends towards the default route is not held against towpath."""
        before = netns.veth_packets()
        try:
            return proc.run("bare", command, self.directory, self._env(env), cwd or self.directory, timeout, stdin)
        finally:
            self._packets += netns.veth_packets() - before
            netns.leaks()

    def spawn(self, name, *command, env=None, cwd=None):
        """A program that keeps running until the test ends: a proc.Process."""
        return self.use(proc.Process(name, command, self.directory, self._env(env), cwd or self.directory))

    def assert_absent(self):
        """Nothing tried to leave the machine since the test began."""
        sent = netns.veth_packets() - self._packets
        if sent:
            self.fail(f"{sent} packets tried to leave the machine: {'; '.join(netns.leaks())}")

    def assert_ran(self, result, code=0):
        self.assertEqual(result.code, code, f"\n{result.out[-2000:]}\n{result.err[-2000:]}")
        return result

    def need(self, program):
        """The program's path, or the test is skipped with a reason (a failure under scripts/test)."""
        found = shutil.which(program, path=STANDARD_PATH + ":" + os.environ.get("PATH", ""))
        ours = program.startswith(BUILD + os.sep) and ("/musl/" not in program or shutil.which("musl-gcc"))
        if not found and (ours or REQUIRE_ALL):
            self.fail(f"{program} is not installed")
        if not found:
            self.skipTest(f"{program} is not installed")
        return found

    def on_failure(self):
        """More for the output of a failure: a test class may add its own."""
        queries = ", ".join(f"{name} {kind}" for name, kind in self.dns.queries)
        config = open(self.config).read() if self.config else "none\n"
        return f"--- name server was asked: {queries or 'nothing'}\n--- configuration:\n{config}"

    def _env(self, more):
        return {**self.environment, **{key: str(value) for key, value in (more or {}).items()}}


class _Result(unittest.TextTestResult):
    def addError(self, test, err):
        super().addError(test, err)
        self._tell(test)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._tell(test)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._tell(test)

    def _tell(self, test):
        global _failed
        _failed = True
        self.stream.writeln(f"\n=== {test}: what was written")
        if isinstance(test, LabCase) and hasattr(test, "config"):
            self.stream.write(test.on_failure())
            self.stream.writeln(f"--- kept: {test.directory}")
        self.stream.writeln(proc.transcript())


def main():
    """unittest.main in the lab; exit status 77 when every test was skipped."""
    global _scratch
    _scratch = tempfile.mkdtemp(prefix="towpath-lab-")
    os.chmod(_scratch, 0o755)
    try:
        etc = os.path.join(_scratch, "etc")
        os.mkdir(etc)
        netns.enter(etc)
        runner = unittest.TextTestRunner(resultclass=_Result, verbosity=2 if "-v" in sys.argv else 1)
        missing = [path for path in (TOWPATH, PRELOAD) if not os.path.exists(path)]
        if missing:
            sys.exit(f"{', '.join(missing)}: not built")
        result = unittest.main(module="__main__", testRunner=runner, exit=False).result
        absent = _report_skips(result)
    finally:
        proc.stop_all()
        if netns.inside():
            proc.kill(netns.processes())  # what a program left behind lives in our namespace only
        if not _failed:
            shutil.rmtree(_scratch, ignore_errors=True)
    sys.stdout.flush()
    if not result.wasSuccessful() or absent:
        sys.exit(1)
    sys.exit(77 if result.testsRun and len(result.skipped) >= result.testsRun else 0)


def _report_skips(result):
    """True when something was missing that scripts/test has installed."""
    reasons = collections.Counter(re.sub(r"\s+", " ", reason) for _, reason in result.skipped)
    for reason, count in reasons.items():
        print(f"skipped {count}: {reason}", flush=True)
    absent = REQUIRE_ALL and any(reason.endswith(" is not installed") for reason in reasons)
    if absent:
        print("failed: TOWPATH_REQUIRE_ALL is set, and something is not installed", flush=True)
    return absent
