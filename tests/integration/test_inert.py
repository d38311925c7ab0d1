"""Without any configuration the library is as good as not there: programs behave and print what they do without it."""

import os
import re

from lab import netns
from lab.case import PRELOAD, LabCase, main
from lab.origin import Origin

NAME = "inside.example"
PYTHON = "/usr/bin/python3"
# Everything that the hooks are about, once, with addresses and numbers that differ from run to run left out.
SOCKETS = """
import errno, os, select, socket, sys
host, port = sys.argv[1], int(sys.argv[2])
def show(*words): print(*words, flush=True)
show('names', sorted(set(info[4][0] for info in socket.getaddrinfo(host, port))), socket.gethostbyname(host))
try:
    socket.getaddrinfo('nowhere.example', 1)
except socket.gaierror as error:
    show('gaierror', error.errno)
peer = socket.create_connection((host, port))
show('peer', peer.getpeername()[0], peer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
peer.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n'); show('line', peer.makefile().readline().strip())
quick = socket.socket(); quick.setblocking(False)
show('quick', errno.errorcode.get(quick.connect_ex((peer.getpeername()[0], port)), 0))
poll = select.epoll(); poll.register(quick, select.EPOLLOUT)
show('epoll', poll.poll(5)[0][1], quick.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
refused = socket.socket(); show('refused', refused.connect_ex(('127.0.0.99', 1)))
copy = os.dup(quick.fileno()); os.close(copy); os.closerange(copy, copy + 3)
left, right = socket.socketpair(); left.send(b'x'); show('pair', right.recv(9), select.select([right], [left], [], 0)[1] == [left])
datagram = socket.socket(type=socket.SOCK_DGRAM); datagram.connect(('127.0.0.1', 9)); show('udp', datagram.getpeername())
"""


class Inert(LabCase):
    records = {NAME: ["127.0.0.80"]}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.origin = cls.start(Origin("127.0.0.80", 80))

    def twins(self, *command, stdin=b"", env=None):
        """The bare run's result, after the preloaded one was found to be the same."""
        bare = self.bare(*command, stdin=stdin, env=env)
        ours = self.preload(*command, stdin=stdin, env=env)
        self.assertEqual(bare, ours)
        self.assertEqual(netns.processes(), [], "an agent was started")
        return bare

    def test_programs_that_never_connect(self):
        for command in (("ls", "-la", "/etc"), ("sh", "-c", "echo $0; cat; exit 3"), ("env", "-i", "pwd"),
                        ("sh", "-c", "kill -TERM $$"), ("grep", "nothing", "/etc/hosts"), ("sleep", "0"),
                        (PYTHON, "-c", "import os, threading;"
                         "print(threading.active_count(), sorted(os.listdir('/proc/self/fd')))"),
                        ("git", "--version"), ("perl", "-e", "print 'x' x 3; exit 4")):
            with self.subTest(command):
                self.need(command[0])
                self.twins(*command, stdin=b"input\n")

    def test_programs_that_connect(self):
        curl = self.need("curl")
        result = self.twins(curl, "-sS", f"http://{NAME}/x", "-w", "%{http_code} %{remote_ip} %{num_connects}\n", "-o",
                            "/dev/null")
        self.assertEqual(result.out, "200 127.0.0.80 1\n")
        self.twins(curl, "-sS", "http://nowhere.example/")
        self.assertEqual(self.twins(curl, "-sS", "http://127.0.0.99:1/", "-w", "%{exitcode}", "-o", "/dev/null",
                                    "--no-progress-meter", "-s").code, 7)

    def test_every_kind_of_call(self):
        result = self.assert_ran(self.twins(PYTHON, "-c", SOCKETS, NAME, "80"))
        self.assertIn("line HTTP/1.1 200 OK", result.out)
        self.assertIn("quick EINPROGRESS", result.out)

    def test_signals_and_descriptors_of_a_process_are_untouched(self):
        wanted = "^(Sig(Pnd|Blk|Ign|Cgt)|Shd|Threads|FDSize|NoNewPrivs|Seccomp)"
        result = self.twins("grep", "-E", wanted, "/proc/self/status")
        self.assertRegex(result.out, r"Threads:\s+1")

    def test_the_system_calls_are_the_same(self):
        """But for loading the library itself."""
        self.need("strace")
        calls = []
        for env in ({}, {"LD_PRELOAD": PRELOAD}):
            log = os.path.join(self.directory, f"strace{len(calls)}.log")
            settings = [word for item in env.items() for word in ("-E", "=".join(item))]
            curl = [self.need("curl"), "-sS", "-4", f"http://{NAME}/same"]
            self.assert_ran(self.bare("strace", "-f", "-qq", "-o", log, "-e",
                                      "trace=%network,epoll_ctl,poll,ppoll,sendfile,dup2,dup3,clone,fork,vfork,execve",
                                      *settings, *curl))
            with open(log) as file:
                calls.append(sorted(re.findall(r"(?m)^\d+ +(\w+)\(", file.read())))
        # How often a loop looks is a matter of timing.
        looks = ("poll", "ppoll", "recvfrom", "recvmsg")
        bare, ours = [[call for call in names if call not in looks] for names in calls]
        self.assertEqual(bare, ours)

    def test_an_agent_that_is_not_there(self):
        """The counterpart: where a program was told of an agent, its absence never means a direct connection."""
        result = self.preload(PYTHON, "-c", "import socket; socket.create_connection(('198.51.100.7', 80), 5)",
                           env={"TOWPATH_CONTROL": f"towpath-{'0' * 16}:{'0' * 32}"})
        self.assertNotEqual(result.code, 0)
        self.assert_absent()


if __name__ == "__main__":
    main()
