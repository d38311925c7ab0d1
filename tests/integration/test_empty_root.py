"""The executable needs nothing from the image that it is copied into, whatever the environment says: no libc of the image,
no name service, no locale, no configuration of OpenSSL."""

import json
import os
import re
import subprocess

from lab import proc
from lab.case import main
from lab.proxy import Proxy
from lab.root import Root
from lab.tree import RunCase

PYTHON = "/usr/bin/python3"
ENTER = """
import json, os, sys
os.chroot(sys.argv[1])
os.chdir('/')
os.execve(sys.argv[3], sys.argv[3:], json.loads(sys.argv[2]))
"""
GARBAGE = "/garbage.so"
HOSTILE = {
    "LD_PRELOAD": GARBAGE, "LD_LIBRARY_PATH": "/lib:/usr/lib", "LD_AUDIT": GARBAGE, "LD_BIND_NOW": "1",
    "GLIBC_TUNABLES": "glibc.malloc.check=3", "OPENSSL_CONF": "/openssl.cnf", "OPENSSL_MODULES": "/modules",
    "OPENSSL_ENGINES": "/engines", "LOCPATH": "/locale", "LC_ALL": "de_DE.UTF-8", "LANG": "xx_XX", "LANGUAGE": "de",
    "GCONV_PATH": "/gconv", "NLSPATH": "/%N", "RES_OPTIONS": "ndots:15 debug", "LOCALDOMAIN": "evil.example",
    "HOSTALIASES": "/aliases", "RESOLV_HOST_CONF": "/host.conf", "TZ": ":/zone", "TZDIR": "/zones", "TMPDIR": "/nowhere",
    "MALLOC_TRACE": "/trace", "CARES_HOSTS": "/hosts", "UV_THREADPOOL_SIZE": "x", "HOME": "/nowhere",
    "SSLKEYLOGFILE": "/keys",
}
VALUES = """\
proxy:
  http: http://127.0.0.1:9
  https: https://proxy.example:3129
  exempt: "*.corp, b\\u00fccher.example"
"""


class EmptyRoot(RunCase):
    def setUp(self):
        super().setUp()
        self.root = Root(self.directory)
        self.root.write("values.yaml", VALUES)

    def inside(self, *words, env=HOSTILE, trace=False):
        """(code, out, err, files that were named in a call) of a command in the root."""
        log = os.path.join(self.directory, "strace.log")
        strace = ["strace", "-f", "-qq", "-s", "4096", "-o", log, "-e", "trace=%file,execve"] if trace else []
        enter = [PYTHON, "-c", ENTER, self.root.path, json.dumps(env), *words]
        caller = self.start_caller([*strace, *enter], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = caller.popen.communicate(timeout=proc.scaled(20))
        caller.status = caller.popen.returncode
        named = set()
        if trace:
            with open(log) as file:
                text = file.read()
            calls = text[text.index(f'execve("{words[0]}"'):].splitlines()  # what came before is python's
            # Of an exec only the file counts, not the arguments.
            named = set(re.findall(r'"((?:[^"\\]|\\.)*)"', "\n".join(
                re.sub(r'(execve\("[^"]*").*', r"\1", line) for line in calls)))
        return caller.status, out.decode(), err.decode(), named

    def test_check_and_explain(self):
        code, out, err, _ = self.inside("/towpath", "check", "-c", "/values.yaml")
        self.assertEqual((code, err), (0, ""))
        self.assertIn("https://proxy.example:3129", out)
        for name, route in (("a.corp", "direct"), ("xn--bcher-kva.example", "direct"), ("other.example", "tunnel")):
            code, out, err, _ = self.inside("/towpath", "explain", "-c", "/values.yaml", "--json", f"{name}:443")
            self.assertEqual((code, err), (0, ""))
            self.assertEqual(json.loads(out)["route"], route)

    def test_it_looks_at_nothing_but_its_configuration(self):
        self.need("strace")
        # "/" is where it was started: getcwd says so, and relative paths begin there.
        allowed = {"/towpath", "/values.yaml", "/libtowpath.so", "/proc/self/exe", "/dev/null", "/"}
        # Where authorities come from when nothing says where (docs/configuration.md), and who this machine is.
        bundles = re.compile(r"^/(etc/ssl|etc/pki|etc/openssl|usr/local/share/certs|usr/share/ca-certificates|"
                             r"usr/local/etc/openssl|var/ssl|system/etc/security|usr/local/share/ca-certificates|"
                             r"etc/resolv\.conf|etc/hosts|etc/hostname|etc/nsswitch\.conf)(/|$|\.)")
        for words in (("check", "-c", "/values.yaml"), ("explain", "-c", "/values.yaml", "a.corp:443"), ("--help",),
                      ("run", "-c", "/values.yaml", "--", "/nothing")):
            with self.subTest(words[0]):
                _, _, _, named = self.inside("/towpath", *words, trace=True)
                named = {name for name in named if name.startswith("/")} - allowed - {"/nothing"}
                self.assertEqual({name for name in named if not bundles.match(name)}, set())
                for name, value in HOSTILE.items():
                    self.assertFalse([one for one in named if value.startswith("/") and one.startswith(value)], name)

    def test_the_system_files_of_names_are_read_by_us_and_not_by_libc(self):
        """Name service would show as nsswitch.conf, host.conf, gai.conf or nscd's socket."""
        self.need("strace")
        _, _, _, named = self.inside("/towpath", "check", "-c", "/values.yaml", trace=True)
        self.assertFalse({name for name in named if re.search("nscd|nsswitch|host.conf|gai.conf|libnss|locale|gconv|"
                                                              r"ld\.so|libc[.-]|openssl.cnf", name)})

    def test_a_static_program_runs_there(self):
        code, out, err, _ = self.inside("/towpath", "run", "-c", "/values.yaml", "--", "/towpath", "--version")
        self.assertEqual((code, err), (0, ""))
        self.assertRegex(out, "^towpath [0-9.]+\n$")

    def test_a_tls_proxy_from_there_with_a_hostile_environment(self):
        """OpenSSL is initialised at the first tunnel: only then could it read what the environment names."""
        self.need("strace")
        self.root.add("/bin/bash")
        proxy = self.use(Proxy("http"))  # no TLS: the handshake fails, after OpenSSL has begun it
        self.root.write("values.yaml", f"proxy: {{http: 'https://127.0.0.1:{proxy.port}'}}\n")
        hostile = {name: value for name, value in HOSTILE.items() if name not in ("LD_PRELOAD", "LD_AUDIT")}
        code, _, err, named = self.inside("/towpath", "run", "-c", "/values.yaml", "--", "/bin/bash", "-c",
                                          "exec 3<>/dev/tcp/far.example/443", env=hostile, trace=True)
        self.assertNotEqual(code, 0)
        self.assertIn("event=connect_failed", err)
        self.assertRegex(err, "via=https://127.0.0.1")
        proxy.wait_connections(1)
        self.assertFalse([name for name in named if re.match("/(openssl.cnf|modules|engines|keys|gconv)", name)])


if __name__ == "__main__":
    main()
