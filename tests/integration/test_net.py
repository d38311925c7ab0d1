# suite: quick
"""Programs that reach the kernel past the library's symbols: under the net they are led through the proxy like any other,
however towpath was started; without it they are what the threat model says they are."""

import os

import test_programs
from lab import docker, netns, proc, squid
from lab.case import PROGRAMS, LabCase, main, program
from lab.origin import Origin
from lab.programs import path_of
from lab.proxy import Proxy
from test_programs import ORIGIN, name_of, rows

_PHP = {
    "php streams": '$text = file_get_contents("http://{host}:{port}{path}"); if ($text === false) exit(1); echo $text;',
    "php curl": '$c = curl_init("http://{host}:{port}{path}"); if (!curl_exec($c)) {{ fwrite(STDERR, curl_error($c)); exit(1); }}',
    "php curl multi": """
$all = curl_multi_init();
for ($i = 0; $i < 20; ++$i) {{
  $each[$i] = curl_init("http://{host}:{port}{path}");
  curl_setopt($each[$i], CURLOPT_RETURNTRANSFER, true);
  curl_multi_add_handle($all, $each[$i]);
}}
do {{ curl_multi_exec($all, $running); if ($running) curl_multi_select($all); }} while ($running);
foreach ($each as $one) {{ $text = curl_multi_getcontent($one); if ($text == "") exit(1); }}
echo $text;
""",
    "php sockets": """
$s = socket_create(AF_INET, SOCK_STREAM, 0);
if (!@socket_connect($s, "{host}", {port})) {{ fwrite(STDERR, socket_strerror(socket_last_error($s))); exit(1); }}
socket_write($s, "GET {path} HTTP/1.0\\r\\nHost: {host}\\r\\n\\r\\n");
while (($text = socket_read($s, 1024)) != "") echo $text;
""",
}

# The name is looked up, and the connection made, by what a handle of libc itself gives.
_CTYPES = """
import ctypes, socket, struct, sys
libc = ctypes.CDLL("libc.so.6", use_errno=True)
class Info(ctypes.Structure):
    pass
Info._fields_ = [(name, ctypes.c_int) for name in ("flags", "family", "type", "protocol")] + [
    ("size", ctypes.c_uint), ("address", ctypes.c_void_p), ("name", ctypes.c_char_p), ("next", ctypes.POINTER(Info))]
hints, found = Info(family=socket.AF_INET, type=socket.SOCK_STREAM), ctypes.POINTER(Info)()
if libc.getaddrinfo(b"{host}", b"{port}", ctypes.byref(hints), ctypes.byref(found)): sys.exit("no address")
s = socket.socket()
if libc.connect(s.fileno(), ctypes.c_void_p(found[0].address), found[0].size): sys.exit("errno %d" % ctypes.get_errno())
s.sendall(b"GET {path} HTTP/1.0\\r\\nHost: {host}\\r\\n\\r\\n")
print(s.makefile().read())
"""

_PLUGIN = """
import ctypes, sys
sys.exit(ctypes.CDLL({plugin!r}).fetch(b"http://{{host}}:{{port}}{{path}}"))
"""


def _php(text):
    return lambda case, host, port, path: [case.need("php"), "-r", text.format(host=host, port=port, path=path)]


def _past(way, how):
    return lambda case, host, port, path: [program("dynamic/past"), way, how, host, str(port), path]


def _pascal(kind):
    return lambda case, host, port, path: [program("dynamic/" + kind), host, str(port), path]


def _python(text):
    return lambda case, host, port, path: ["/usr/bin/python3", "-c", text.format(host=host, port=port, path=path)]


def _go_plugin(case, host, port, path):
    return _python(_PLUGIN.format(plugin=os.path.join(PROGRAMS, "go-cgo/goplugin.so")))(case, host, port, path)


HOWS = ("blocking", "poll", "select", "epoll")
PAST = {
    **{name: _php(text) for name, text in _PHP.items()},
    **{f"deep {how}": _past("deep", how) for how in (*HOWS, "ask")},
    **{f"private {how}": _past("private", how) for how in HOWS},
    "underscore": _past("underscore", "blocking"),
    "bare blocking": _past("bare", "blocking"),
    "bare poll": _past("bare", "poll"),
    "ring": _past("ring", "blocking"),
    "ctypes": _python(_CTYPES),
    "pascal": _pascal("pascal"),
    "pascal threads": _pascal("pascal-threads"),
    "go plugin": _go_plugin,
}


class Past(test_programs.Programs):
    programs = PAST

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.proxy = cls.start(squid.Squid(cls.class_directory, {name_of(one): ORIGIN for one in PAST}, test_programs.USERS))

    def run_command(self, command):
        return self.towpath(*command)

    def check(self, one):
        self.proxy_values(self.proxy.url)
        result = self.assert_ran(self.run_command(self.command(one)))
        self.assertIn(f"path={path_of(one)}", result.out)
        self.assertIn(name_of(one), self.origin.names())
        self.assertFalse(self.dns.asked(name_of(one)), "the machine's name server was asked")
        self.assertNotIn("level=error", result.err)


@rows
class Bare(test_programs.BareTwin):
    programs = {name: command for name, command in PAST.items() if "pascal" not in name}  # its resolver reads no hosts file


@rows
class UnderRun(Past):
    pass


@rows
class UnderSeccomp(Past):
    options = ("--mode", "seccomp")


@rows
class WithTheLibraryAlone(Past):
    def run_command(self, command):
        self.addCleanup(lambda: proc.kill(netns.guards_and_agents()))
        return self.preload("sh", "-c", '"$@"', "sh", *command)  # one of them is static: something must put it on the net


@rows
class WithoutTheNet(Past):
    """What is then not led through the proxy, exactly; docs/threat-model.md has the same list."""
    options = ("--net", "off")
    leaks_allowed = True
    remainder = {*(f"private {how}" for how in HOWS), "ctypes", "underscore", "bare blocking", "bare poll", "ring", "deep ask",
                 "pascal threads", "go plugin"}

    def check(self, one):
        if one not in self.remainder:
            return super().check(one)
        self.proxy_values(self.proxy.url)
        result = self.towpath("timeout", "3", *self.command(one))  # nobody answers where it goes
        self.assertNotEqual(result.code, 0)
        self.assertNotIn(name_of(one), self.origin.names())
        self.assertTrue(self.dns.asked(name_of(one)) or netns.leaks(), "neither led through the proxy nor direct")


docker.too(UnderRun)


class WhereThereCanBeNone(test_programs.Programs):
    """The kernel or a profile refuses what the net is made of: one line, and the library alone; with `require`, nothing."""
    REASONS = {
        ("refuse", "listener"): "refuses a seccomp filter with a listener .EINVAL",
        ("refuse", "seccomp"): "refuses a seccomp filter with a listener .EPERM",
        ("refuse", "memory"): "may not look into the program",
        ("refuse", "receive"): "may not look into the program",
        ("docker_like", "-l"): "another supervisor",
    }

    def setUp(self):
        super().setUp()
        self.proxy = self.use(Proxy("http", {"one.only-at-the-proxy.example:80": (ORIGIN, 80)}))
        self.proxy_values(self.proxy.url)
        self.command = ("curl", "-sS", "--fail", "http://one.only-at-the-proxy.example/one")

    def test_auto_goes_on_and_says_so_once(self):
        for (starter, what), reason in self.REASONS.items():
            with self.subTest(what):
                self.around = (program("static/" + starter), what)
                twice = ("sh", "-c", '"$@" && "$@"', "sh", *self.command)
                result = self.assert_ran(self.towpath(*twice))
                self.assertEqual(result.out.count("path=/one"), 2)
                lines = [line for line in result.err.splitlines() if "event=net_missing" in line]
                self.assertEqual(len(lines), 1, result.err)
                self.assertRegex(lines[0], reason)
                self.assertRegex(lines[0], "effect=.*RTLD_DEEPBIND")

    def test_require_starts_nothing(self):
        for (starter, what), reason in self.REASONS.items():
            with self.subTest(what):
                self.around = (program("static/" + starter), what)
                result = self.towpath("sh", "-c", "echo started", options=("--net", "require"))
                self.assertEqual((result.code, result.out), (125, ""))
                self.assertRegex(result.err, "towpath: cannot start .*/sh: .*" + reason.split(" .E")[0])

    def test_require_by_the_file_and_against_the_library_alone(self):
        self.proxy_values(self.proxy.url, more="net: require")
        self.around = (program("static/refuse"), "listener")
        self.assertEqual(self.towpath("true").code, 125)
        self.around = ()
        self.assert_ran(self.towpath("true"))
        result = self.towpath("true", options=("--mode", "preload", "--net", "require"))
        self.assertEqual(result.code, 125)
        self.assertIn("--net require contradicts --mode preload", result.err)

    def test_require_with_the_library_alone_takes_the_network_away(self):
        self.addCleanup(lambda: proc.kill(netns.guards_and_agents()))
        self.proxy_values(self.proxy.url, more="net: require")
        result = self.preload(program("static/refuse"), "listener", *self.command)
        self.assertNotEqual(result.code, 0)
        self.assertEqual(self.proxy.targets(), [])
        self.assert_ran(self.preload(*self.command))

    def test_status_tells(self):
        for options, shown in (((), "on"), (("--net", "off"), "off")):
            with self.subTest(shown):
                program = self.use(proc.Process("program", self.line("sh", "-c", "echo up; exec sleep 600", options=options),
                                                self.directory, self._env({}), self.directory))
                program.wait_line("up")
                self.assertRegex(self.assert_ran(self.tool("status")).out, rf"net +{shown}\n")
                program.stop(0)

    def test_setuid_programs_that_are_to_run_without_privileges_to_spare(self):
        self.proxy_values(self.proxy.url, more="setuid: direct")
        self.around = (program("static/docker_like"), "-u", "65534")
        os.chown(self.directory, 65534, 65534)
        self.assertIn("setuid: direct is configured", self.assert_ran(self.towpath(*self.command)).err)


class Loader(LabCase):
    """The loader looks for a library where the caller of dlopen says (RUNPATH): the hook must not be taken for the caller."""

    def test_it(self):
        part, whole = os.path.join(self.directory, "part"), os.path.join(self.directory, "whole")
        os.mkdir(part)
        source = self.file("part.c", "int answer(void) { return 42; }\n")
        main_source = self.file("whole.c", '#include <dlfcn.h>\n#include <stdio.h>\nint main(void) {\n'
                                '  void* part = dlopen("libpart.so", RTLD_NOW | RTLD_DEEPBIND);\n'
                                '  if (!part) return puts(dlerror()), 1;\n'
                                '  return printf("%d\\n", ((int (*)(void))dlsym(part, "answer"))()), 0;\n}\n')
        gcc = self.need("gcc")
        for line in ([gcc, "-shared", "-fPIC", "-o", f"{part}/libpart.so", source],
                     [gcc, "-D_GNU_SOURCE", "-o", whole, main_source, "-Wl,--enable-new-dtags,-rpath,$ORIGIN/part"]):
            self.assert_ran(self.bare(*line))
        self.proxy_values("http://127.0.0.1:9")
        self.assertEqual(self.bare(whole).out, "42\n")
        for options in ((), ("--net", "off")):
            self.assertEqual(self.towpath(whole, options=options).out, "42\n")


class BrokenVariable(LabCase):
    """TOWPATH_CONTROL is there and no good: nothing goes direct."""
    leaks_allowed = False

    def test_it(self):
        self.use(Origin("127.0.0.80", 80, self.directory))
        netns.add_address("198.51.100.9/32")
        self.addCleanup(netns.drop_address, "198.51.100.9/32")
        for control in ("", "nonsense", "towpath-0123456789abcdef:" + "0" * 31, "towpath-0123456789abcdef:" + "0" * 32):
            for configured in ({}, {"https_proxy": "http://127.0.0.1:9"}):
                with self.subTest(control, configured=bool(configured)):
                    result = self.preload("/usr/bin/python3", "-c",
                                          "import socket\nfor i in 1, 2: print(socket.socket().connect_ex(('198.51.100.9', 1)))",
                                          env={"TOWPATH_CONTROL": control, **configured})
                    self.assertEqual(self.assert_ran(result).out, "100\n100\n")
                    self.assertEqual(result.err.count("no agent answers at the address in TOWPATH_CONTROL"), 1, result.err)
                    self.assertEqual(self.assert_ran(self.preload("true", env={"TOWPATH_CONTROL": control})).err, "")


if __name__ == "__main__":
    main()
