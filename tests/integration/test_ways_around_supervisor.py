"""Ways around that a review found, of programs that the library does not reach, and of starting other programs: whatever
cannot be looked at is refused, and never let pass. The proxy refuses everything, so that only a direct connection could reach
the decoy."""

import os
import shutil

from lab import docker, netns, proc
from lab.case import LabCase, main, program
from lab.origin import Origin
from lab.proxy import Proxy, refuse

FAR = "192.0.2.7"


class AroundCase(LabCase):
    def setUp(self):
        super().setUp()
        netns.add_address(FAR + "/32")
        self.addCleanup(netns.drop_address, FAR + "/32")
        self.decoy = self.use(Origin(FAR, 8080))
        self.addCleanup(lambda: self.assertEqual(self.decoy.hits, [], "a direct connection"))
        self.proxy = self.use(Proxy("http", {FAR: ("127.0.0.1", 9)}))
        self.proxy.answer = refuse(403)
        self.proxy_values(self.proxy.url)
        # Static: prints what its connect to the decoy says.
        self.static = [program("static/around"), "table", FAR, "8080"]

    def assert_asked(self, count=1):
        self.assertEqual(self.proxy.targets(), [f"{FAR}:8080"] * count)


@docker.too
class Calls(AroundCase):
    def connect(self, way, **more):
        return self.assert_ran(self.towpath(program("static/around"), way, FAR, "8080", **more)).out

    def test_bare_they_are_direct(self):
        self.assertEqual(self.bare(program("static/around"), "leader", FAR, "8080").out, "0\n")
        self.decoy.hits.clear()

    def test_the_first_thread_has_ended(self):
        self.assertIn(self.connect("leader"), ("13\n", "111\n"))

    def test_signals_between_verdicts_leave_nobody_waiting(self):
        self.proxy.answer = refuse(403, delay=0.025)
        self.assertEqual(self.connect("storm", timeout=60.0), "8\n")


class CallsWhereDescriptorsAreTaken(AroundCase):
    connect = Calls.connect

    def test_a_table_of_its_own(self):
        self.assertEqual(self.connect("table"), "13\n")
        self.assert_asked()

    def test_the_agent_has_no_descriptors_left(self):
        line = ["sh", "-c", 'ulimit -n 48; exec "$@"', "sh", *self.line(program("static/around"), "many", FAR, "8080")]
        self.assertEqual(self.assert_ran(proc.run("towpath", line, self.directory, self._env(None), self.directory)).out, "0\n")


class Executing(AroundCase):
    """A static program, started in a way that hides it."""

    def refused(self, *command, cwd=None, out="13\n"):
        result = self.towpath(*command, cwd=cwd)
        self.assertEqual(result.out, out, result.err)
        self.assert_asked()

    def tool(self, folder):
        place = os.path.join(self.directory, folder)
        os.makedirs(place, exist_ok=True)
        shutil.copy(self.static[0], os.path.join(place, "tool"))
        return place

    def test_an_empty_path_is_the_current_directory(self):
        self.refused("/usr/bin/env", "PATH=", "tool", *self.static[1:], cwd=self.tool("here"))

    def test_a_script_of_a_script_of_a_script(self):
        before = self.static[0]
        for level in range(5):
            path = self.file(f"s{level}", f"#!{before}\n")
            os.chmod(path, 0o755)
            before = path
        self.refused("sh", "-c", f"exec {before} {FAR} 8080")

    def test_a_second_preload_list(self):
        script = ("import os; env = {**os.environ}; "
                  "import ctypes; words = [f'{k}={v}'.encode() for k, v in env.items()] + [b'LD_PRELOAD=']; "
                  "libc = ctypes.CDLL(None); a = (ctypes.c_char_p * 3)(b'curl', %r.encode(), None); "
                  "e = (ctypes.c_char_p * (len(words) + 1))(*words, None); libc.execve(%r.encode(), a, e)")
        result = self.towpath("/usr/bin/python3", "-c", script % (f"http://{FAR}:8080/", self.need("curl")))
        self.assertNotEqual(result.code, 0)
        self.assert_asked()

    def test_a_control_variable_that_says_nothing(self):
        result = self.towpath("env", "TOWPATH_CONTROL=", self.need("curl"), "-sS", f"http://{FAR}:8080/")
        self.assertNotEqual(result.code, 0)
        self.assert_asked()

    def test_effective_ids_that_differ(self):
        script = (f"import os; os.setegid(65534); os.seteuid(65534); "
                  f"os.execv({self.need('curl')!r}, ['curl', '-sS', 'http://{FAR}:8080/'])")
        result = self.towpath("/usr/bin/python3", "-c", script)
        self.assertNotEqual(result.code, 0)
        self.assertEqual(self.decoy.hits, [])

    def test_no_descriptors_left_to_look_with(self):
        script = ("import os, resource; resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))\n"
                  "try:\n  while True: os.dup(0)\nexcept OSError: pass\n"
                  f"os.execv({self.static[0]!r}, {self.static!r})")
        result = self.towpath("/usr/bin/python3", "-c", script, options=("--net", "off"))
        self.assertNotEqual(result.code, 0)
        # Under the net there is nothing to look at.
        self.assert_ran(self.towpath("/usr/bin/python3", "-c", script))
        self.assertEqual(self.decoy.hits, [])

    def test_a_shell_that_the_library_does_not_reach(self):
        """system() in a root whose /bin/sh is static."""
        root = os.path.join(self.directory, "root")
        os.makedirs(os.path.join(root, "bin"))
        shutil.copy(self.need("busybox"), os.path.join(root, "bin", "sh"))
        shutil.copy(self.static[0], os.path.join(root, "around"))
        script = f"import os; os.chroot({root!r}); os.chdir('/'); print(os.system('/around table {FAR} 8080'))"
        result = self.assert_ran(self.towpath("/usr/bin/python3", "-c", script, options=("--net", "off")))
        self.assertRegex(result.err, "towpath: /around .*does not reach /bin/sh")
        self.assertIn("program=around", self.assert_ran(self.towpath("/usr/bin/python3", "-c", script)).err)  # the proxy denies it
        self.assertEqual(self.decoy.hits, [])


if __name__ == "__main__":
    main()
