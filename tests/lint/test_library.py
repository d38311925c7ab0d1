"""The two files that ship, as a loader sees them: what libtowpath.so exports and needs, and that towpath needs nothing."""

import os
import re
import shutil
import subprocess
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("TOWPATH_BUILD", os.path.join(ROOT, "build"))
LIBRARY = os.path.join(BUILD, "lib", "libtowpath.so")
TOWPATH = os.path.join(BUILD, "bin", "towpath")
OLDEST_GLIBC = (2, 28)
# What the compiler's start files bring into every shared object, besides the entries of the source's own constructors.
START_FILES = {"frame_dummy", "__do_global_dtors_aux"}


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def symbols(*options):
    """[(address, type, name with version)] of nm."""
    found = []
    for line in output("nm", *options, LIBRARY).splitlines():
        words = line.split()
        found.append((words[-3] if len(words) > 2 else "", words[-2], words[-1]))
    return found


class Library(unittest.TestCase):
    def test_it_exports_the_hooks_and_nothing_else(self):
        with open(os.path.join(ROOT, "preload", "hooks.def"), encoding="utf-8") as file:
            hooks = set(re.findall(r"(?m)^HOOK\w*\(\s*(\w+)", file.read()))
        self.assertGreater(len(hooks), 20)
        self.assertEqual({name for _, _, name in symbols("-D", "--defined-only")}, hooks)

    def test_it_needs_the_c_library_only(self):
        needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", output("readelf", "-dW", LIBRARY)))
        self.assertEqual(needed, {"libc.so.6", "libdl.so.2"})

    def test_an_old_glibc_is_enough(self):
        versions = {tuple(map(int, number.split("."))) for number in
                    re.findall(r"GLIBC_([\d.]+)", output("readelf", "-VW", LIBRARY))}
        self.assertTrue(versions)
        self.assertLessEqual(max(versions), OLDEST_GLIBC)
        self.assertNotIn("GLIBC_PRIVATE", output("readelf", "-VW", LIBRARY))

    def test_what_it_takes_from_libc_exists_everywhere(self):
        """No fortified call, no C++ runtime, no unwinder: musl and old glibc lack them."""
        wanted = {name.partition("@")[0] for _, kind, name in symbols("-D", "--undefined-only") if kind in "Uw"}
        self.assertEqual({name for name in wanted if re.search("_chk$|^_Z|^__cxa_(?!finalize)|^_Unwind|^__gxx", name)}, set())

    def test_no_constructor_is_hidden_in_it(self):
        """A global object with a constructor would run before the program is ready, in an order that nobody chose."""
        sections = {name: (int(address, 16), int(size, 16)) for name, address, size in re.findall(
            r"\] (\S+) +\S+ +([0-9a-f]+) [0-9a-f]+ ([0-9a-f]+)", output("readelf", "-SW", LIBRARY))}
        entries = sections[".init_array"][1] // 8
        ours = {name for _, kind, name in symbols() if kind in "tT" and name.startswith("_GLOBAL__sub_I")}
        self.assertEqual(ours, set())
        self.assertLessEqual(entries, 2, "more than frame_dummy and one of our own")
        self.assertEqual(".fini_array" in sections and sections[".fini_array"][1], 8)

    def test_thread_locals_need_no_allocation(self):
        """Another model calls __tls_get_addr, which may allocate, in the middle of a signal handler."""
        self.assertNotIn("__tls_get_addr", {name.partition("@")[0] for _, _, name in symbols("-D")})
        self.assertIn("STATIC_TLS", output("readelf", "-dW", LIBRARY))

    def test_nothing_in_it_is_writable_code(self):
        headers = output("readelf", "-lW", LIBRARY)
        self.assertRegex(headers, r"GNU_STACK .* RW ")
        self.assertNotRegex(headers, r"LOAD .* RWE ")
        self.assertNotIn("TEXTREL", output("readelf", "-dW", LIBRARY))


class Executable(unittest.TestCase):
    def test_it_has_no_interpreter_and_needs_no_library(self):
        self.assertNotIn("INTERP", output("readelf", "-lW", TOWPATH))
        self.assertNotIn("(NEEDED)", output("readelf", "-dW", TOWPATH))

    def test_no_password_of_a_build_machine(self):
        self.assertNotIn("RUNPATH", output("readelf", "-dW", TOWPATH) + output("readelf", "-dW", LIBRARY))
        self.assertNotIn("RPATH", output("readelf", "-dW", TOWPATH) + output("readelf", "-dW", LIBRARY))


class Loads(unittest.TestCase):
    """Nothing connects here: no lab is needed."""

    def run_probe(self, path):
        if "musl" in path and not (os.path.exists(path) or os.environ.get("TOWPATH_REQUIRE_ALL") or
                                   shutil.which("musl-gcc")):
            self.skipTest("musl-gcc is not installed")
        self.assertTrue(os.access(path, os.X_OK), f"{path} is not built")
        done = subprocess.run([TOWPATH, "run", "--http", "http://127.0.0.1:9", "--", path], capture_output=True,
                              text=True, env={"PATH": "/usr/bin:/bin"}, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def test_under_glibc(self):
        self.assertEqual(self.run_probe(os.path.join(BUILD, "probes", "loaded")), "preloaded=yes libc=glibc\n")

    def test_under_musl(self):
        self.assertEqual(self.run_probe(os.path.join(BUILD, "probes", "musl", "loaded")), "preloaded=yes libc=other\n")


if __name__ == "__main__":
    for needed in (LIBRARY, TOWPATH):
        if not os.path.exists(needed):
            sys.exit(f"{needed} is not built")
    unittest.main()
