# suite: quick
"""What towpath has to say never enters a program's file, although that file has descriptor 2."""

import os

from lab import netns, proc
from lab.case import PRELOAD, LabCase, main
from lab.proxy import Proxy

PYTHON = "/usr/bin/python3"
FAIL = "import socket; print(socket.socket().connect_ex(('192.0.2.7', 7)))"
# Two kinds of line: the agent's about a refused connect, the library's about what it cannot execute.
STARTER = """
import os, sys
how, place, script = sys.argv[1:]
flags = {"data": os.O_RDWR | os.O_CREAT, "append": os.O_WRONLY | os.O_CREAT | os.O_APPEND}[how.split()[0]]
os.close(2)
if "later" not in how: assert os.open(place, flags, 0o644) == 2
if "later" not in how: os.set_inheritable(2, True)
os.environ.update(LATER=str("later" in how), PLACE=place)
os.execv(sys.executable, [sys.executable, "-c", "import os\\nif os.environ['LATER'] == 'True': assert os.open(os.environ['PLACE'], os.O_RDWR | os.O_CREAT) == 2\\n" + script])
"""


class StandardError(LabCase):
    def setUp(self):
        super().setUp()
        self.proxy = self.use(Proxy("http", {}))
        self.proxy_values(self.proxy.url)
        self.place = self.file("data", "precious")
        self.addCleanup(lambda: proc.kill(netns.guards_and_agents()))

    def content(self):
        with open(self.place) as file:
            return file.read()

    def alone(self, how, script=FAIL, **more):
        env = {"TOWPATH_CONFIG": self.config, "LD_PRELOAD": PRELOAD, **more}
        return self.assert_ran(self.bare("env", *(f"{key}={value}" for key, value in env.items()),
                                         PYTHON, "-c", STARTER, how, self.place, script))

    def test_a_file_that_had_the_number_at_the_start(self):
        self.alone("data")
        self.alone("data", TOWPATH_CONTROL="nonsense")
        self.assertEqual(self.content(), "precious")

    def test_a_file_that_got_the_number_later(self):
        self.alone("data later", TOWPATH_CONTROL="nonsense")
        self.alone("data later")
        self.assertEqual(self.content(), "precious")
        script = "import os; os.close(2); assert os.open(%r, os.O_WRONLY | os.O_APPEND) == 2; %s" % (self.place, FAIL)
        self.assert_ran(self.preload(PYTHON, "-c", script, env={"TOWPATH_CONTROL": "nonsense"}))
        self.assertEqual(self.content(), "precious")

    def test_a_file_that_is_appended_to(self):
        self.alone("append", TOWPATH_CONTROL="nonsense")
        self.assertRegex(self.content(), "^precioustowpath: no agent answers")
        self.alone("append")
        self.assertIn("event=connect_failed", self.content())

    def test_a_program_of_the_launcher(self):
        script = "import os; os.close(2); assert os.open(%r, os.O_RDWR) == 2; %s" % (self.place, FAIL)
        result = self.assert_ran(self.towpath(PYTHON, "-c", script))
        self.assertIn("event=connect_failed", result.err)
        self.assertEqual(self.content(), "precious")


if __name__ == "__main__":
    main()
