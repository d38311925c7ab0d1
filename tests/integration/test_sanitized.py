# suite: quick
"""Programs that are built with a sanitizer: AddressSanitizer's runtime ends a program in which it is not the first library."""

import os
import subprocess

from lab.case import PRELOAD, LabCase, main
from lab.origin import Origin
from lab.proxy import Proxy

NAME = "tunnelled.example"
SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../programs/sanitized/get.c")


class Sanitized(LabCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.origin = cls.start(Origin("127.0.0.80"))
        cls.proxy = cls.start(Proxy(names={NAME: cls.origin.address}))

    def setUp(self):
        super().setUp()
        self.proxy_values(self.proxy.url)
        self.proxy.connections.clear()

    def built(self, sanitizer, compiler="gcc", *more):
        out = os.path.join(self.class_directory, f"get-{compiler}-{sanitizer}{len(more)}")
        if not os.path.exists(out):
            subprocess.run([self.need(compiler), "-g", f"-fsanitize={sanitizer}", *more, SOURCE, "-o", out], check=True)
        return out

    def runtime(self):
        """Where the compiler has AddressSanitizer's."""
        found = subprocess.run([self.need("gcc"), "-print-file-name=libasan.so"], check=True, capture_output=True, text=True)
        return os.path.realpath(found.stdout.strip())

    def got(self, result, times=1):
        self.assert_ran(result)
        self.assertEqual(result.out.count("got=HTTP/1."), times, result.out + result.err)
        self.assertEqual(self.proxy.targets(), [f"{NAME}:7"] * times)
        return result.out

    def test_every_sanitizer_of_gcc(self):
        for sanitizer in ("address", "thread", "undefined", "leak"):
            with self.subTest(sanitizer=sanitizer):
                self.proxy.connections.clear()
                self.got(self.towpath(self.built(sanitizer), NAME, 7))

    def test_clang(self):
        self.got(self.towpath(self.built("address", "clang"), NAME, 7))

    def test_the_library_alone(self):
        self.options = ("--mode", "preload")
        self.got(self.towpath(self.built("address"), NAME, 7))

    def test_children_by_the_exec_hooks(self):
        get = self.built("address")
        for shell in ("exec {}", "{}; true", "env -i {}"):
            for run in (self.towpath, self.preload):
                with self.subTest(shell=shell, run=run.__name__):
                    self.proxy.connections.clear()
                    self.got(run("/bin/sh", "-c", shell.format(f"{get} {NAME} 7")))

    def test_what_such_a_program_executes_is_spared_the_runtime(self):
        get = self.built("address")
        plain = self.built("undefined")
        out = self.got(self.towpath(get, NAME, 7, plain, NAME, 7, get, NAME, 7), 3)
        lists = [line.split("preload=")[1] for line in out.splitlines() if "preload=" in line]
        self.assertRegex(lists[0], r"^libasan\.so\.\d+::.*libtowpath\.so$")
        self.assertNotIn("libasan", lists[1])
        self.assertEqual(lists[2], lists[0])

    def test_a_runtime_that_the_user_preloads_stays_first(self):
        runtime = self.runtime()
        get = self.built("address")
        self.got(self.towpath(get, NAME, 7, env={"LD_PRELOAD": runtime}))
        self.proxy.connections.clear()
        out = self.got(self.towpath("/usr/bin/env", get, NAME, 7, env={"LD_PRELOAD": runtime, "ASAN_OPTIONS": "detect_leaks=0"}))
        self.assertIn(f"preload={runtime}:", out)
        # The first process under LD_PRELOAD alone is the user's to put in order.
        self.proxy.connections.clear()
        self.got(self.preload(get, NAME, 7, env={"LD_PRELOAD": f"{runtime}:{PRELOAD}"}))

    def test_programs_by_system_and_posix_spawn(self):
        get = self.built("address")
        script = f"import os, subprocess, sys; os.system('{get} {NAME} 7'); subprocess.run(['{get}', '{NAME}', '7'], close_fds=False)"
        self.got(self.towpath("/usr/bin/python3", "-c", script), 2)

    def test_without_towpath_in_order_such_a_program_ends(self):
        """What all this is for."""
        result = self.preload(self.built("address"), NAME, 7)
        self.assertNotEqual(result.code, 0)
        self.assertIn("does not come first", result.err)


if __name__ == "__main__":
    main()
