"""What is wrong is said in one line each, all at once, and nothing starts: configurations, settings, programs."""

import json
import os
import re
import shutil
import subprocess
import struct

from lab.case import TOWPATH, main
from lab.tree import RunCase

WRONG = """\
coderd:
  proxy:
    http: "socks4://127.0.0.1:1080"
    https: "http://proxy:99999"
    exemt: "a"
    exempt: "10.0.0.0/33,ok.example,'quoted.example'"
    ports: [80, htpp]
    dns: never
  reverseProxy:
    trustedOrigins: [10.0.0.0/99, nonsense]
    headerz: [x]
  other: {proxy: 5}
"""
COMPLAINTS = (
    (r"3:11: coderd\.proxy\.http:", "socks4.*socks5"),
    (r"4:12: coderd\.proxy\.https:", "port.*1 to 65535"),
    (r"5:5: coderd\.proxy\.exemt:", "unknown key.*exempt"),
    (r"6:13: coderd\.proxy\.exempt:", "10.0.0.0/33"),
    (r"6:13: coderd\.proxy\.exempt:", "quoted.example.*quote"),
    (r"7:17: coderd\.proxy\.ports\[1\]:", "htpp"),
    (r"8:10: coderd\.proxy\.dns:", "proxy, local.*never"),
    (r"10:22: coderd\.reverseProxy\.trustedOrigins\[0\]:", "10.0.0.0/99"),
    (r"10:35: coderd\.reverseProxy\.trustedOrigins\[1\]:", "nonsense"),
    (r"11:5: coderd\.reverseProxy\.headerz:", "unknown key.*headers"),
)
STARTED = ("sh", "-c", "echo started")


class Configuration(RunCase):
    def assert_complaints(self, err, *patterns):
        """Exactly these lines, in any order; each is towpath's."""
        lines = err.splitlines()
        for pattern in patterns:
            found = next((line for line in lines if re.search(pattern, line)), None)
            self.assertIsNotNone(found, f"no line like {pattern}\n{err}")
            lines.remove(found)
            self.assertTrue(found.startswith("towpath: "), found)
        self.assertEqual(lines, [], "more than expected")

    def refused(self, *patterns, **environment):
        """By check and by run, which starts nothing."""
        options = ["-c", self.config] if self.config else []
        result = self.tool("check", *options, env=environment)
        self.assertEqual((result.code, result.out), (1, ""), result.err)
        self.assert_complaints(result.err, *patterns)
        result = self.tool("run", *options, "--", *STARTED, env=environment)
        self.assertEqual((result.code, result.out), (125, ""), result.err)
        self.assert_complaints(result.err, *patterns)
        result = self.tool("explain", *options, "x.example:443", env=environment)
        self.assertEqual(result.out, "")
        self.assertNotEqual(result.code, 0)

    def test_everything_that_is_wrong_is_said_at_once(self):
        self.values(WRONG)
        self.refused(*(rf"values\.yaml:{place} .*{text}" for place, text in COMPLAINTS))

    def test_what_is_not_yaml_has_a_place(self):
        for text, place in (('coderd:\n  proxy:\n    http: http://h:1\n   https: 3\n', r"4:4"),
                            ("coderd: [1, 2\n", r"\d+:\d+"), ("\tcoderd: 1\n", r"1:\d+"), ("a: *nobody\n", r"1:\d+"),
                            ("- 1\n- 2\n", r"\d+:\d+")):
            with self.subTest(text):
                self.values(text)
                self.refused(rf"values\.yaml:{place}: ")

    def test_a_file_that_cannot_be_read(self):
        self.config = os.path.join(self.directory, "missing.yaml")
        self.refused(r"missing\.yaml: .*No such file")
        self.config = self.directory
        self.refused("Is a directory")
        self.config = None
        self.refused("TOWPATH_CONFIG: .*No such file", TOWPATH_CONFIG="/nowhere.yaml")

    def test_a_file_that_configures_nothing(self):
        for text, pattern in (("", r"values\.yaml: configures nothing: "),
                              ("coderd:\n  image: x\n", r"values\.yaml: configures nothing: "),
                              ("prox:\n  http: 127.0.0.1:1\n", r"values\.yaml:1:1: prox: .*did you mean proxy\?"),
                              ("codrd:\n  proxy: {http: a}\n", r"values\.yaml:1:1: codrd: .*did you mean coderd\?"),
                              ("coderd:\n  reverseproxy: {}\n", r"values\.yaml:2:3: coderd\.reverseproxy: .*reverseProxy\?")):
            with self.subTest(text):
                named = self.values(text)
                self.refused(pattern)
                self.refused(pattern, http_proxy="http://127.0.0.1:1")
                self.config = None
                self.refused(pattern, TOWPATH_CONFIG=named)

    def test_an_unknown_command(self):
        result = self.tool("rum", "--", *STARTED)
        self.assertEqual((result.code, result.out), (125, ""))
        self.assertRegex(result.err, '^towpath: unknown command "rum", did you mean run.\n$')

    def test_a_wrong_variable(self):
        self.config = None
        self.refused(r"\$http_proxy: .*ftp", http_proxy="ftp://127.0.0.1:1")
        self.refused(r"\$https_proxy: ", http_proxy="http://127.0.0.1:1", https_proxy="http://127.0.0.1:0")

    def test_a_password_is_never_shown(self):
        for url in ("http://user:hunter2@proxy:99999", "socks4://user:hunter2@proxy", "http://user:hunter2@"):
            self.proxy_values(url)
            for result in (self.tool("check", "-c", self.config), self.towpath(*STARTED)):
                self.assertNotEqual(result.code, 0)
                self.assertNotIn("hunter2", result.err)
        self.proxy_values("http://user:hunter2@proxy:3128")
        result = self.assert_ran(self.tool("check", "-c", self.config))
        self.assertIn("user:***@proxy:3128", result.out)

    def test_wrong_settings_of_the_log(self):
        result = self.towpath(*STARTED, env={"TOWPATH_LOG": "loud"})
        self.assertEqual((result.code, result.out), (125, ""))
        self.assertRegex(result.err, '^towpath: TOWPATH_LOG: "loud" .*error, warning, info, debug\n$')
        result = self.towpath(*STARTED, env={"TOWPATH_LOG_FILE": "/nowhere/log"})
        self.assertEqual((result.code, result.out), (125, ""))
        self.assertRegex(result.err, "^towpath: cannot write TOWPATH_LOG_FILE /nowhere/log: No such file.*\n$")

    def test_a_library_that_no_loader_would_take(self):
        """The loader only warns and starts the program without it, which would then connect directly."""
        blank = os.path.join(self.directory, "with blank")
        os.mkdir(blank)
        library = shutil.copy(os.path.join(os.path.dirname(TOWPATH), "..", "lib", "libtowpath.so"), blank)
        for value, text in (("/nowhere.so", "No such file"), ("/etc/hosts", "no shared object"),
                            (library, "blanks"), (self.directory, "")):
            with self.subTest(value):
                result = self.towpath(*STARTED, env={"TOWPATH_LIBRARY": value})
                self.assertEqual((result.code, result.out), (125, ""))
                self.assertRegex(result.err, f"^towpath: .*{value}.*{text}.*\n$")
        alone = shutil.copy(TOWPATH, self.directory)
        result = self.tool_at(alone, "run", "-c", self.config, "--", *STARTED)
        self.assertEqual((result.code, result.out), (125, ""))
        self.assertIn("TOWPATH_LIBRARY", result.err)

    def tool_at(self, program, *arguments):
        caller = self.start_caller([program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = caller.popen.communicate(timeout=15)
        caller.status = caller.popen.returncode
        return type("Result", (), {"code": caller.status, "out": out.decode(), "err": err.decode()})

    def test_a_library_on_a_file_system_that_forbids_code(self):
        place = os.path.join(self.directory, "noexec")
        os.mkdir(place)
        if self.bare("mount", "-t", "tmpfs", "-o", "noexec", "none", place).code != 0:
            self.skipTest("cannot mount")
        self.addCleanup(subprocess.run, ["umount", place], check=True)
        library = shutil.copy(os.path.join(os.path.dirname(TOWPATH), "..", "lib", "libtowpath.so"), place)
        result = self.towpath(*STARTED, env={"TOWPATH_LIBRARY": library})
        self.assertEqual((result.code, result.out), (125, ""))
        self.assertIn("noexec", result.err)

    def test_without_any_proxy_the_program_runs_alone_and_is_said_to(self):
        self.config = None
        result = self.tool("run", "--", "sh", "-c", "echo started ${LD_PRELOAD-alone}; exit 3")
        self.assertEqual((result.code, result.out), (3, "started alone\n"))
        self.assertRegex(result.err, "^towpath: warning: neither a proxy nor a reverse proxy is configured: .*\n$")


class Explain(RunCase):
    def explain(self, *arguments, **environment):
        options = ["-c", self.config] if self.config else []
        return self.assert_ran(self.tool("explain", *options, *arguments, env=environment)).out

    def test_text_and_json(self):
        self.proxy_values("http://user:secret@proxy.example:3128", exempt="*.corp,10.0.0.0/8")
        self.assertEqual(json.loads(self.explain("--json", "a.corp:443")),
                         {"destination": "a.corp:443", "route": "direct", "rule": "exempt *.corp",
                          "source": f"{self.config}:5:13: coderd.proxy.exempt"})
        tunnel = json.loads(self.explain("--json", "b.example:443"))
        self.assertEqual((tunnel["destination"], tunnel["route"], tunnel["via"]),
                         ("b.example:443", "tunnel", "http://proxy.example:3128"))
        self.assertNotIn("secret", str(tunnel))
        self.assertRegex(self.explain("b.example:443"), "^b.example:443: tunnel through http://proxy.example:3128 .*\n$")
        self.assertRegex(self.explain("a.corp:443"), r"^a.corp:443: direct \(exempt \*.corp, from \S+: coderd.proxy.exempt\)\n$")
        self.assertEqual(json.loads(self.explain("--json", "--address", "10.1.2.3", "x.example:22"))["route"], "direct")
        self.assertEqual(json.loads(self.explain("--json", "[::1]:22"))["route"], "direct")
        self.assertEqual(json.loads(self.explain("--json", "[2001:db8::1]:22"))["route"], "tunnel")

    def test_any_text_is_one_json_object(self):
        self.assertEqual(json.loads(self.explain("--json", 'a"b\\c\n:443'))["destination"], 'a"b\\c\n:443')

    def test_the_environment_alone(self):
        self.config = None
        given = {"http_proxy": "http://127.0.0.1:1", "HTTPS_PROXY": "socks5://127.0.0.1:2", "no_proxy": "x.example"}
        route = {place: json.loads(self.explain("--json", place, **given))
                 for place in ("y.example:80", "y.example:443", "x.example:80")}
        self.assertEqual({place: found.get("via") for place, found in route.items()},
                         {"y.example:80": "http://127.0.0.1:1", "y.example:443": "socks5://127.0.0.1:2",
                          "x.example:80": None})

    def test_the_command_line_wins(self):
        found = json.loads(self.explain("--json", "--http", "http://other.example:8080", "y.example:80"))
        self.assertEqual(found["via"], "http://other.example:8080")

    def test_a_destination_that_is_none(self):
        for text, words in (("name", "no port: try name:443"), ("name:", "no port: try name:443"),
                            ("[::1]", r"no port: try \[::1\]:443"), ("name:0", "port out of range 1 to 65535"),
                            ("name:65536", "port out of range 1 to 65535"), (":80", "HOST:PORT"), ("[]:80", "HOST:PORT"),
                            ("2001:db8::1:443", "HOST:PORT.*brackets"), ("[::1:443", "HOST:PORT"),
                            ("[::1]x:443", "HOST:PORT"), ("name:80x", "HOST:PORT"), ("", "HOST:PORT")):
            result = self.tool("explain", "-c", self.config, "--", text)
            self.assertEqual((result.code, result.out), (125, ""), text)
            self.assertRegex(result.err, words)


class Programs(RunCase):
    """What towpath cannot follow must not run at all."""

    def refused(self, path, code, text, setup=None, mode="auto"):
        line = self.line(path)
        line[2:2] = ["--mode", mode]
        result = self.start_caller(line, setup=setup, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = result.popen.communicate(timeout=15)
        result.status = result.popen.returncode
        self.assertEqual((result.status, out.decode()), (code, ""), err)
        self.assertRegex(err.decode(), f"^towpath: .*{text}.*\n$")

    def program(self, name, text, mode=0o755):
        path = self.file(name, text)
        os.chmod(path, mode)
        return path

    def copy(self, source, name, mode=0o755):
        path = shutil.copy(source, os.path.join(self.directory, name))
        os.chmod(path, mode)
        return path

    def test_a_static_program(self):
        self.refused(self.copy(TOWPATH, "static"), 125, "static.*statically linked.*--mode auto", mode="preload")

    def test_a_script_whose_interpreter_is_static(self):
        static = self.copy(TOWPATH, "static")
        script = self.program("script", f"#!{static} --version\n")
        self.refused(script, 125, "statically linked", mode="preload")
        self.assertIn("towpath", self.assert_ran(self.towpath(script)).out)
        inner = self.program("inner", f"#! \t{static}\n")
        self.refused(self.program("outer", f"#!{inner} x\n"), 125, "statically linked", mode="preload")

    def test_a_go_program(self):
        self.need("objcopy")
        path = os.path.join(self.directory, "go")
        self.assert_ran(self.bare("objcopy", "--add-section", ".go.buildinfo=/etc/hosts", "/bin/echo", path))
        self.refused(path, 125, "Go program", mode="preload")

    def test_a_setuid_program(self):
        path = self.copy("/bin/echo", "setuid")
        os.chmod(self.config, 0o644)

        def nobody():
            os.setgid(65534)
            os.setuid(65534)
        os.chmod(path, 0o4755)
        self.refused(path, 125, "setuid", setup=nobody)
        os.chmod(path, 0o2755)
        self.refused(path, 125, "setgid", setup=nobody)
        os.chmod(path, 0o6755)  # of our own user: nothing changes, and the loader honours the library
        self.assert_ran(self.towpath(path, "x"))

    def test_a_program_with_capabilities(self):
        path = self.copy("/bin/cat", "capable")
        try:
            os.setxattr(path, "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0))
        except OSError as error:
            self.skipTest(f"no file capabilities here: {error}")

        def nobody():
            os.setgid(65534)
            os.setuid(65534)
        os.chmod(self.config, 0o644)
        self.refused(path, 125, "capabilities", setup=nobody)
        self.assertIn("libtowpath.so", self.assert_ran(self.towpath(path, "/proc/self/maps")).out)

    def test_a_program_that_may_be_run_but_not_read(self):
        path = self.copy("/bin/echo", "hidden", mode=0o711)

        def nobody():
            os.setgid(65534)
            os.setuid(65534)
        os.chmod(self.config, 0o644)
        self.refused(path, 125, "cannot look into .*hidden.*Permission denied", setup=nobody)

    def test_scripts(self):
        path = self.program("script", "#!/bin/sh\necho script $1\n")
        self.assertEqual(self.towpath(path, "x")[:2], (0, "script x\n"))
        self.refused(self.program("text", "echo text\n"), 126, "text.*neither an ELF program nor a script")
        self.refused(self.program("empty", ""), 126, "neither an ELF program nor a script")
        self.refused(self.program("bare", "#!\n"), 126, "")
        self.refused(self.program("lost", "#!/nowhere/sh\n"), 127, "/nowhere/sh.*No such file")
        self.refused(self.program("loop", f"#!{self.directory}/loop\n"), 126, "")

    def test_what_is_no_program(self):
        self.refused(self.directory, 126, "Permission denied")
        self.refused(self.program("closed", "#!/bin/sh\n", mode=0o644), 126, "Permission denied")
        self.refused("no-such-program", 127, "No such file")

    def test_a_broken_program(self):
        with open("/bin/echo", "rb") as file:
            image = file.read()
        for size in (4, 16, 63, 64, 100, 120):
            path = os.path.join(self.directory, f"cut{size}")
            with open(path, "wb") as file:
                file.write(image[:size])
            os.chmod(path, 0o755)
            self.refused(path, 126, f"cut{size}")
        path = os.path.join(self.directory, "other")
        with open(path, "wb") as file:
            file.write(image[:4] + b"\x01" + image[5:])  # 32 bits
        os.chmod(path, 0o755)
        self.refused(path, 125, "another machine")

    def test_a_program_that_is_its_own_loader(self):
        """`ld.so PROGRAM` is a static program to us."""
        loader = next((path for path in ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")
                       if os.path.exists(path)), None)
        if loader is None:
            self.skipTest("no loader by a known name")
        self.refused(loader, 125, "statically linked", mode="preload")
        result = self.towpath(loader, "/bin/echo", "started")
        self.assertEqual((result.code, result.out), (0, "started\n"))


if __name__ == "__main__":
    main()
