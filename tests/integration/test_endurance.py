# suite: full
"""What stays true for long: limits, ten thousand tunnels, agents and proxies that die under load, memory that does not
grow. The soak is short; TOWPATH_SOAK_CONNECTIONS=72000 TOWPATH_SOAK_PER_SECOND=20 makes it an hour."""

import json
import os
import re
import resource
import shlex
import signal

from lab import proc, tree
from lab.case import BUILD, main, program
from lab.origin import RawOrigin
from lab.proc import wait_until
from lab.proxy import Proxy, grant, silence
from lab.squid import Squid
from lab.tree import RunCase

NAME = "only-at-the-proxy.example"
PLACE = "127.0.0.23"
PYTHON = "/usr/bin/python3"
STREAM = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lab", "stream.py")
TUNNELS = 10000
SOAK = int(os.environ.get("TOWPATH_SOAK_CONNECTIONS", "3000"))
RATE = os.environ.get("TOWPATH_SOAK_PER_SECOND", "")

# Opens tunnels until one fails or there are enough; then, for each line of input, uses every one.
_HOLDER = """
import resource, selectors, socket, sys
count, host, port = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
held = []
try:
    for number in range(count):
        held.append(socket.create_connection((host, port)))
except OSError as error:
    print("stopped", len(held), error.errno, flush=True)
print("held", len(held), flush=True)
for line in sys.stdin:
    answered = 0
    for number, one in enumerate(held):
        try:
            one.sendall(b"%05d" % number)
            answered += one.recv(5, socket.MSG_WAITALL) == b"%05d" % number
        except OSError:
            pass
    print("answered", answered, flush=True)
"""

# As many connects at once as it was told, without waiting for one of them; how many of them ended, and how.
_AT_ONCE = """
import errno, select, socket, sys
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
seen = {}
def end(error):
    seen[error] = seen.get(error, 0) + 1
poll = select.epoll()
sockets = {}
address = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0][4]
for _ in range(count):
    one = socket.socket()
    one.setblocking(False)
    sockets[one.fileno()] = one
    error = one.connect_ex(address)
    if error == errno.EINPROGRESS:
        try:
            poll.register(one, select.EPOLLOUT)
            continue
        except OSError as refused:
            error = refused.errno
    end(error)
while sum(seen.values()) < count:
    for fd, _ in poll.poll():
        poll.unregister(fd)
        end(sockets[fd].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
for error, number in seen.items():
    print(f"{errno.errorcode.get(error, 'ok')}={number}")
sys.exit(set(seen) != {0})
"""


def holds(pid):
    """Descriptors and kilobytes of a process."""
    with open(f"/proc/{pid}/status") as file:
        return len(os.listdir(f"/proc/{pid}/fd")), int(tree.status_fields(file.read())["VmRSS"].split()[0])


class EnduranceCase(RunCase):
    def setUp(self):
        super().setUp()
        self.origin = self.use(RawOrigin(PLACE, 7))

    def start_program(self, *command, options=(), around=()):
        """towpath run -- command: the process, which reads standard input from `self.keys`."""
        path = os.path.join(self.directory, "keys")
        if not os.path.exists(path):
            os.mkfifo(path)
        self.keys = os.open(path, os.O_RDWR)
        self.addCleanup(os.close, self.keys)
        with open(path) as stdin:
            started = proc.Process("program", [*around, *self.line(*command, options=options)], self.directory, self._env({}),
                                   self.directory, stdin=stdin)
        return self.use(started)

    def stream(self, workers=4, port=7, options=()):
        return self.start_program(PYTHON, STREAM, str(workers), NAME, str(port), options=options)

    @staticmethod
    def seen(stream):
        """(successes, errors by name) so far."""
        lines = re.findall(r"(?m)^ok=(\d+) errors=(\{.*\})$", stream.out[-4096:])
        return (int(lines[-1][0]), json.loads(lines[-1][1])) if lines else (0, {})

    def more(self, stream, count, timeout=60.0):
        """Waits for so many more successes."""
        goal = self.seen(stream)[0] + count
        wait_until(lambda: self.seen(stream)[0] >= goal, f"{count} more connections", timeout, stream)


class UnderLoad(EnduranceCase):
    def setUp(self):
        super().setUp()
        self.squid = self.use(Squid(self.directory, {NAME: PLACE}))
        self.proxy_values(self.squid.url)

    def test_agents_die(self):
        """What is in a handshake fails with ENETDOWN; tunnels go on, and so does everything after. By seccomp alone the tunnels of
        non-blocking connects are relays of the agent, and end with it."""
        holder = self.start_program(PYTHON, "-c", _HOLDER, "20", NAME, "7")
        holder.wait_line("held 20")
        for mode in ("preload", "seccomp"):
            with self.subTest(mode=mode):
                stream = self.stream(options=("--mode", mode))
                kills, agent = 8, None
                for _ in range(kills):
                    self.more(stream, 25)
                    agent = tree.agent_of(stream.pid, [agent])
                    os.kill(agent, signal.SIGKILL)
                self.more(stream, 100)
                errors = self.seen(stream)[1]
                cut = {error for error in errors if error.startswith("CUT:")} | {"ECONNRESET"} if mode == "seccomp" else set()
                self.assertLessEqual(set(errors), {"ENETDOWN", *cut})
                self.assertLessEqual(sum(errors.values()), 4 * kills)
                stream.stop()
        old = tree.agent_of(holder.pid)
        os.kill(old, signal.SIGKILL)
        tree.agent_of(holder.pid, [old])
        os.write(self.keys, b"\n")
        holder.wait_line("answered 20")

    def test_the_proxy_dies(self):
        """While it is away every connect is refused, none goes round it; when it is back they succeed again."""
        for mode in ("preload", "seccomp"):
            with self.subTest(mode=mode):
                stream = self.stream(options=("--mode", mode))
                for _ in range(3):
                    self.more(stream, 25)
                    port = self.squid.port
                    self.squid.stop()
                    before = sum(self.seen(stream)[1].values())
                    wait_until(lambda: sum(self.seen(stream)[1].values()) >= before + 20, "refused connects", 30, stream)
                    self.squid = self.use(Squid(self.directory, {NAME: PLACE}, port=port))
                self.more(stream, 100)
                errors = self.seen(stream)[1]
                self.assertIn("ECONNREFUSED", errors)
                # In the middle of a handshake or of an echo a dying proxy resets, or just ends.
                self.assertLessEqual(set(errors), {"ECONNREFUSED", "ECONNRESET", "EPIPE", "CUT:0"})
                stream.stop()


class Limits(EnduranceCase):
    def test_few_descriptors(self):
        """A connect that the agent has no room for fails with a reason; room that comes back is used."""
        # The agent holds at least one descriptor of a connect that waits.
        kinds = {
            "preload": lambda count: (PYTHON, "-c", _AT_ONCE, NAME, "7", count),
            "seccomp": lambda count: (program("go-static/goclient"), "dials", count, f"{NAME}:7"),
        }
        for mode, command in kinds.items():
            with self.subTest(mode=mode):
                proxy = self.use(Proxy("http", {NAME: (PLACE, 7)}, answer=silence()))
                self.proxy_values(proxy.url)
                script = "for each in 1 2 3; do {} & done; wait; echo ended; read again; {}; echo again $?".format(
                    shlex.join(command("30")), shlex.join(command("1")))
                full = self.start_program("sh", "-c", script, options=("--mode", mode),
                                          around=("prlimit", "--nofile=48:48"))
                full.wait_line("event=agent_full")
                agent = tree.agent_of(full.pid)
                self.assertLessEqual(holds(agent)[0], 48)
                proxy.answer = grant()
                # More than once: a connection may have met the silent proxy and be known to it a moment later.
                wait_until(lambda: proxy.end_connections() or re.search("(?m)^ended$", full.out), "end of the crowd", 30,
                           full)
                self.assertEqual(agent, tree.agent_of(full.pid), "the agent lives")
                os.write(self.keys, b"\n")
                full.wait_line("^again 0$", 30)
                full.stop()


class TenThousand(EnduranceCase):
    def setUp(self):
        super().setUp()
        self.minimal = self.use(proc.Process("minimal_proxy", [os.path.join(BUILD, "bench", "minimal_proxy")],
                                             self.directory))
        self.proxy_values("http://127.0.0.1:%s" % self.minimal.wait_line(r"http=(\d+)").group(1))
        if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < TUNNELS + 100:
            self.skipTest(f"the hard limit of descriptors is below {TUNNELS + 100}")

    def hold(self, mode):
        holder = self.start_program(PYTHON, "-c", "import resource as r\nr.setrlimit(r.RLIMIT_NOFILE, "
                                    f"(r.getrlimit(r.RLIMIT_NOFILE)[1],) * 2)\n{_HOLDER}", str(TUNNELS), NAME, "8",
                                    options=("--mode", mode))
        agent = tree.agent_of(holder.pid)
        before = holds(agent)
        holder.wait_line(f"held {TUNNELS}", 120)
        during = holds(agent)
        self.assertLess(during[0], before[0] + 50, "descriptors of the agent while the tunnels stand")
        self.assertLess(during[1], 40 * 1024, "kilobytes of the agent while the tunnels stand")
        os.kill(agent, signal.SIGKILL)  # none of them is its business any more
        os.write(self.keys, b"\n")
        holder.wait_line(f"answered {TUNNELS}", 60)

    def test_hooked(self):
        self.hold("preload")

    def test_supervised(self):
        self.hold("seccomp")


class Soak(EnduranceCase):
    """Memory and descriptors of the agent and of P after a third of the time and at the end."""

    def setUp(self):
        super().setUp()
        self.squid = self.use(Squid(self.directory, {NAME: PLACE}, users={"u": "p"}))
        self.proxy_values(self.squid.url, exempt="127.0.0.0/8,exempt.example")

    def soak(self, mode):
        script = f"""
            trap 'kill 0' EXIT
            {PYTHON} {STREAM} 3 {NAME} 7 {RATE} &
            {PYTHON} {STREAM} 1 unknown-at-the-proxy.example 7 {RATE} > /dev/null &
            {PYTHON} {STREAM} 1 {PLACE} 7 {RATE} > /dev/null &
            while :; do {program("go-static/goclient")} dial {NAME}:7 < /dev/null > /dev/null || :; sleep 0.2; done &
            while :; do /bin/true; sleep 0.05; done &
            wait
        """
        tree_ = self.start_program("bash", "-c", script, options=("--mode", mode))
        agent = tree.agent_of(tree_.pid)
        self.more(tree_, SOAK // 3, timeout=SOAK)
        first = holds(agent), holds(tree_.pid)
        self.more(tree_, SOAK - SOAK // 3, timeout=SOAK)
        last = holds(agent), holds(tree_.pid)
        ok, errors = self.seen(tree_)
        print(f"soak {mode}: {ok} connections, agent {first[0]} -> {last[0]}, launcher {first[1]} -> {last[1]}")
        self.assertEqual(errors, {})
        for before, after in zip(first, last):
            self.assertLessEqual(after[0], before[0] + 16, "descriptors")
            self.assertLessEqual(after[1], before[1] + 1024, "kilobytes")
        tree_.stop()

    def test_hooked(self):
        self.soak("auto")

    def test_supervised(self):
        self.soak("seccomp")


if __name__ == "__main__":
    main()
