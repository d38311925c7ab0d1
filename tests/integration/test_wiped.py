# suite: quick
"""Credentials that were given by option or environment stand in no process of towpath's that others may look at."""

import os

from lab import netns, proc
from lab.case import PRELOAD, LabCase, main
from lab.origin import Origin
from lab.proxy import Proxy

NAME, SECRET = "tunnelled.example", "hunter2"
GET = ("import signal, sys, urllib.request\nprint(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode(), flush=True)\n"
       "signal.pause()")


class Wiped(LabCase):
    def setUp(self):
        super().setUp()
        origin = self.use(Origin("127.0.0.80"))
        self.proxy = self.use(Proxy(names={NAME: origin.address}, credentials=f"user:{SECRET}"))
        self.program = ("/usr/bin/python3", "-c", GET, f"http://{NAME}:{origin.port}/")
        self.addCleanup(lambda: proc.kill(netns.guards_and_agents()))

    def shown(self):
        """(process, file) of all that show the password and are towpath's."""
        found, seen = [], 0
        for pid in netns.processes():
            if os.path.basename(os.readlink(f"/proc/{pid}/exe")) != "towpath":
                continue
            seen += 1
            for what in ("cmdline", "environ"):
                with open(f"/proc/{pid}/{what}", "rb") as file:
                    if SECRET.encode() in file.read():
                        found.append((pid, what))
        self.assertGreater(seen, 0)
        return found

    def check(self, *command, env=None):
        self.spawned = getattr(self, "spawned", 0) + 1
        program = self.spawn(f"program{self.spawned}", *command, env=env)
        program.wait_line("path=/")
        self.assertEqual(self.shown(), [])
        self.assertEqual(self.proxy.connections[-1].credentials, f"user:{SECRET}")

    def test_by_option(self):
        for words in (("--http", self.proxy.url), (f"--http={self.proxy.url}",), ("--https", self.proxy.url.split("//")[1])):
            with self.subTest(words=words):
                self.check(self.line()[0], "run", *words, "--", *self.program)

    def test_by_environment(self):
        for name in ("https_proxy", "ALL_PROXY"):
            with self.subTest(name=name):
                self.check(self.line()[0], "run", "--", *self.program, env={name: self.proxy.url})

    def test_the_agent_of_the_library_alone(self):
        self.check(*self.program, env={"LD_PRELOAD": PRELOAD, "https_proxy": self.proxy.url})


if __name__ == "__main__":
    main()
