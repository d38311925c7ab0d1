"""towpath as the first process of a PID namespace: a container's entrypoint."""

import os
import signal
import subprocess

from lab import proc, tree
from lab.case import main
from lab.origin import Origin
from lab.proxy import Proxy
from lab.root import Root
from lab.tree import RunCase

UNSHARE = ["unshare", "--pid", "--fork", "--kill-child"]
PYTHON = "/usr/bin/python3"


class Init(RunCase):
    def setUp(self):
        super().setUp()
        if self.bare(*UNSHARE, "--mount-proc", "true").code != 0:
            self.skipTest("no PID namespaces here")

    def init(self, *command, **streams):
        """unshare's Caller, and the number that a towpath that keeps running has outside."""
        caller = self.start_caller([*UNSHARE, "--mount-proc", *self.line(*command)], **streams)
        return caller, proc.wait_until(lambda: next((pid for pid in tree.children(caller.pid)
                                                     if tree.name(pid) == "towpath"), None), "PID 1")

    def code(self, *command, **more):
        return self.start_caller([*UNSHARE, "--mount-proc", *self.line(*command)], **more).wait_code()

    def test_the_exit_status(self):
        for code in (0, 3, 125, 255):
            self.assertEqual(self.code("sh", "-c", f"exit {code}"), code)

    def test_a_program_that_is_killed_gives_128_and_more(self):
        """PID 1 cannot die of a signal of its own namespace."""
        for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV):
            self.assertEqual(self.code("sh", "-c", f"kill -{int(number)} $$"), 128 + number)

    def test_it_is_pid_1_and_the_program_is_not(self):
        caller = self.start_caller([*UNSHARE, "--mount-proc", *self.line("sh", "-c", "echo $$; cat /proc/1/comm; exit 0")],
                                   stdout=subprocess.PIPE)
        program, name = caller.popen.stdout.read().split()
        self.assertEqual(caller.wait_code(), 0)
        self.assertNotEqual(program, b"1")
        self.assertEqual(name, b"towpath")

    def test_sigterm_has_its_default_action(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            with self.subTest(number=number):
                caller, first = self.init("sh", "-c", "echo ready; exec sleep 1000", stdout=subprocess.PIPE)
                caller.popen.stdout.readline()
                os.kill(first, number)
                self.assertEqual(caller.wait_code(), 128 + number)

    def test_sigterm_reaches_a_handler(self):
        caller, first = self.init(PYTHON, "-c", "import signal, sys; signal.signal(15, lambda *_: sys.exit(8));"
                                  "print('ready', flush=True); signal.pause()", stdout=subprocess.PIPE)
        caller.popen.stdout.readline()
        os.kill(first, signal.SIGTERM)
        self.assertEqual(caller.wait_code(), 8)

    def test_orphans_and_zombies_are_reaped(self):
        script = "for i in 1 2 3 4 5; do (sh -c 'exec true' & exec true) & done; wait; echo ready; read line; exit 2"
        caller, first = self.init("sh", "-c", script, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        caller.popen.stdout.readline()
        agent = tree.agent_of(first)

        def reaped():
            left = [pid for pid, _ in tree.zombies() if (tree.stat(pid) or (0, 0))[1] in (first, agent)]
            return not left and len(tree.children(agent)) == 1
        proc.wait_until(reaped, "reaped orphans, and the shell")
        caller.popen.stdin.write(b"\n")
        caller.popen.stdin.flush()
        self.assertEqual(caller.wait_code(), 2)

    def test_a_program_that_leaves_zombies_behind(self):
        script = ("import os\nfor i in range(20):\n"
                  "    if os.fork() == 0: os._exit(i)\n"
                  "os._exit(5)\n")
        self.assertEqual(self.code(PYTHON, "-c", script), 5)

    def test_everything_ends_with_it(self):
        self.assertEqual(self.code("sh", "-c", "setsid sleep 1000 & setsid sleep 1000 & exit 1"), 1)
        self.assert_nothing_runs()

    def test_orphans_of_a_tree_whose_agent_died(self):
        script = "echo ready; read line; (sh -c 'exec true' & exec true); echo again; read line; exit 4"
        caller, first = self.init("sh", "-c", script, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        caller.popen.stdout.readline()
        old = tree.agent_of(first)
        os.kill(old, signal.SIGKILL)
        tree.agent_of(first, [old])
        caller.popen.stdin.write(b"\n")
        caller.popen.stdin.flush()
        caller.popen.stdout.readline()
        proc.wait_until(lambda: not [pid for pid, _ in tree.zombies() if (tree.stat(pid) or (0, 0))[1] == first],
                        "reaped orphans")
        caller.popen.stdin.write(b"\n")
        caller.popen.stdin.flush()
        self.assertEqual(caller.wait_code(), 4)

    def assert_only_the_net_is_missing(self, err):
        """The agent looks into programs through /proc."""
        (line,) = err.splitlines()
        self.assertRegex(line, rb"event=net_missing .*/proc is not mounted")

    def test_an_empty_root_without_proc_and_dev(self):
        root = Root(self.directory, ["/bin/sh", "/bin/cat"])
        root.write("values.yaml", 'proxy: {http: "http://127.0.0.1:9"}\n')
        inside = root.command("/towpath", "run", "-c", "/values.yaml", "--", "/bin/sh", "-c",
                              "echo $$ $LD_PRELOAD; echo through | /bin/cat; exit 7")
        caller = self.start_caller([*UNSHARE, *inside], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = caller.popen.communicate(timeout=proc.scaled(15))
        caller.status = caller.popen.returncode
        self.assertEqual(caller.status, 7, err)
        self.assert_only_the_net_is_missing(err)
        number, library, word = out.split()
        self.assertNotEqual(number, b"1")
        self.assertEqual((library, word), (b"/libtowpath.so", b"through"))

    def test_a_tunnel_in_an_empty_root_without_proc_and_dev(self):
        self.use(Origin("127.0.0.80", 80))
        proxy = self.use(Proxy("http", {"far.example": ("127.0.0.80", 80)}))
        root = Root(self.directory, ["/bin/bash"])
        root.write("values.yaml", f'proxy: {{http: "{proxy.url}"}}\n')
        fetch = r"exec 3<>/dev/tcp/far.example/80; printf 'GET / HTTP/1.0\r\n\r\n' >&3; read -r line <&3; echo $line"
        inside = root.command("/towpath", "run", "-c", "/values.yaml", "--", "/bin/bash", "-c", fetch)
        caller = self.start_caller([*UNSHARE, *inside], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = caller.popen.communicate(timeout=proc.scaled(15))
        caller.status = caller.popen.returncode
        self.assertEqual(caller.status, 0, err)
        self.assert_only_the_net_is_missing(err)
        self.assertEqual((out.strip(), proxy.targets()), (b"HTTP/1.1 200 OK", ["far.example:80"]))


if __name__ == "__main__":
    main()
