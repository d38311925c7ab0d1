# suite: quick
"""LD_PRELOAD alone: the first ask starts an agent, the program does not notice, and nothing goes past the proxy."""

import os
import re
import shutil

from lab import netns, proc, proxy
from lab.case import PRELOAD, PROBES, STANDARD_PATH, LabCase, main
from lab.client import client
from lab.origin import Origin, RawOrigin

NAME = "only-at-the-proxy.example"
PYTHON = "/usr/bin/python3"
NOBODY = 65534
_CONNECT = f"import socket; s = socket.create_connection(('{NAME}', 7)); print('got', s.recv(9))"


class AloneCase(LabCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.origin = cls.start(RawOrigin(banner=b"welcome\r\n"))
        cls.web = cls.start(Origin())

    def setUp(self):
        super().setUp()
        self.addCleanup(lambda: proc.kill(netns.guards_and_agents()))
        self.proxy = self.use(proxy.Proxy("http", {f"{NAME}:7": self.origin.address, f"{NAME}:80": self.web.address,
                                                   f"{NAME}:443": self.web.address}))
        self.proxy_values(self.proxy.url)

    def python(self, script, *arguments, code=0, run=None, **options):
        text = script.replace("NAME", repr(NAME))
        return self.assert_ran((run or self.preload)(PYTHON, "-c", text, *map(str, arguments), **options), code)

    def fails_closed(self, result, errno="ENETDOWN", line="towpath: "):
        self.assertIn(f"errno={errno}\n", result.out)
        self.assertIn(line, result.err)
        self.assertEqual(self.proxy.connections, [])


class Programs(AloneCase):
    """Each is kept from using the proxy by itself; what configures towpath is what the row says."""

    def commands(self):
        url = f"http://{NAME}/path"
        perl = ("use IO::Socket::INET; my $s = IO::Socket::INET->new(PeerHost => $ARGV[0], PeerPort => 80) or die $@;"
                'print $s "GET /path HTTP/1.0\r\n\r\n"; print while <$s>;')
        node = 'require("http").get(process.argv[1], a => a.pipe(process.stdout)).on("error", e => { throw e })'
        rows = {
            "curl": ["curl", "-sS", "--noproxy", "*", "--max-time", "10", url],
            "wget": ["wget", "-q", "-O", "-", "--no-proxy", "--tries=1", "--timeout=10", url],
            "python3": ["python3", "-c", "import sys, urllib.request as u;"
                        "print(u.build_opener(u.ProxyHandler({})).open(sys.argv[1]).read().decode())", url],
            "node": ["node", "-e", node, url],
            "perl": ["perl", "-e", perl, NAME],
        }
        return {name: command for name, command in rows.items() if shutil.which(name, path=STANDARD_PATH + ":" + os.environ["PATH"])}

    def check(self, env=None, config=True):
        path = STANDARD_PATH + ":" + os.path.dirname(shutil.which("node") or "/usr/bin/node")
        if not config:
            self.config = None
        for name, command in self.commands().items():
            with self.subTest(name):
                before = len(self.proxy.connections)
                result = self.assert_ran(self.preload(*command, env={**(env or {}), "PATH": path}))
                self.assertIn("path=/path", result.out)
                one = self.proxy.connections[before]
                self.assertEqual((one.target, one.requests, len(self.proxy.connections)), (f"{NAME}:80", [], before + 1))
        self.assertFalse(self.dns.asked(NAME))

    def test_by_a_file(self):
        self.check()

    def test_by_http_proxy(self):
        self.check({"http_proxy": self.proxy.url}, config=False)

    def test_by_all_proxy(self):
        self.check({"all_proxy": self.proxy.url}, config=False)

    def test_by_https_proxy_for_other_ports(self):
        self.config = None
        self.assertIn("errno=0", self.assert_ran(self.preload(
            *client("poll", NAME, 7, "want=9"), env={"https_proxy": self.proxy.url})).out)

    def test_bare_they_do_not_get_there(self):
        for name, command in self.commands().items():
            with self.subTest(name):
                self.assertNotEqual(self.bare(*command, env={"PATH": os.environ["PATH"]}).code, 0)

    def test_nothing_configured_nothing_done(self):
        self.config = None
        self.python("import socket\ntry: socket.getaddrinfo(NAME, 7)\nexcept socket.gaierror: print('unknown')")
        self.assertTrue(self.dns.asked(NAME))
        self.assertEqual(netns.agents(), [])

    def test_an_emptied_environment_does_not_lose_it(self):
        self.assert_ran(self.preload("env", "-i", PYTHON, "-c", _CONNECT))
        self.assertFalse(self.dns.asked(NAME))


class NothingIsNoticed(AloneCase):
    SURROUNDINGS = r"""
import os, signal, socket, sys
raised = []
signal.signal(signal.SIGCHLD, lambda *_: raised.append("SIGCHLD"))
def look():
    return sorted((fd, os.readlink("/proc/self/fd/" + fd)) for fd in os.listdir("/proc/self/fd")
                  if os.path.islink("/proc/self/fd/" + fd) and "/proc/" not in os.readlink("/proc/self/fd/" + fd))
before, variables, mask = look(), dict(os.environ), signal.pthread_sigmask(signal.SIG_BLOCK, [])
s = socket.create_connection((NAME, 7))
print("got", s.recv(9))
s.close()
assert look() == before, (before, look())
assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
assert open("/proc/self/environ").read().split("\0")[:-1] == [f"{k}={v}" for k, v in variables.items()]
WALL = 0x40000000
for flags in ((WALL, 0) if len(sys.argv) < 2 else (0,)):
    try:
        print("a child", os.waitpid(-1, flags))
    except ChildProcessError:
        print("no child")
print(raised)
"""

    def test_no_signal_no_child_no_descriptor_no_variable(self):
        self.assertEqual(self.python(self.SURROUNDINGS).out, "got b'welcome\\r\\n'\nno child\nno child\n[]\n")
        self.assertEqual(len(netns.agents()), 1)

    def test_standard_descriptors_that_are_closed(self):
        for closed in ("<&-", "<&- >&-", "<&- 2>&-"):
            with self.subTest(closed):
                proc.kill(netns.guards_and_agents())
                place = os.path.join(self.directory, "said")
                script = f"import socket, os; s = socket.create_connection(('{NAME}', 7)); open('{place}', 'w').write(repr(s.recv(9)))"
                self.assert_ran(self.preload("sh", "-c", f'exec "$0" -c "$1" {closed}', PYTHON, script))
                self.assertEqual(open(place).read(), r"b'welcome\r\n'")

    def test_one_that_adopts_orphans(self):
        script = "import ctypes\nassert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0\n" + self.SURROUNDINGS
        self.assertEqual(self.python(script, "only plain waits").out, "got b'welcome\\r\\n'\nno child\n[]\n")

    def test_process_1(self):
        result = self.preload("unshare", "--pid", "--fork", "--mount-proc", PYTHON, "-c",
                              self.SURROUNDINGS.replace("NAME", repr(NAME)), "only plain waits", env={"TOWPATH_IDLE_SECONDS": "0"})
        self.assertEqual(self.assert_ran(result).out, "got b'welcome\\r\\n'\nno child\n[]\n")
        proc.wait_until(lambda: not netns.agents("towpath-agent", "towpath-guard"), "end of every agent")

    def test_a_reaper_that_holds_much_memory_shares_none_of_it(self):
        # A subreaper before the library is there, whose constructor starts the agent.
        before = f"import ctypes, os, sys\nctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\nos.environ['LD_PRELOAD'] = {PRELOAD!r}\nos.execv(sys.argv[1], sys.argv[1:])"
        script = ("import os, socket\nmuch = bytearray(os.urandom(1 << 20) * 64)\n"
                  "s = socket.create_connection((NAME, 7))\n"
                  "mine = [p for p in open(f'/proc/self/task/{os.getpid()}/children').read().split() if open(f'/proc/{p}/comm').read() == 'towpath-foster\\n']\n"
                  "def small(): return int(open(f'/proc/{mine[0]}/statm').read().split()[1]) * 4096 < 16 << 20\n"
                  "import time\nend = time.monotonic() + 10\n"  # it lets go after the agent has started, not before
                  "while not small() and time.monotonic() < end: os.sched_yield()\n"
                  "print(len(mine), small())")
        result = self.bare(PYTHON, "-c", before, PYTHON, "-c", script.replace("NAME", repr(NAME)), env={"TOWPATH_CONFIG": self.config})
        self.assertEqual(self.assert_ran(result).out, "1 True\n")

    def test_programs_that_close_everything(self):
        self.assertIn("got", self.python("import os\nos.closerange(3, 4096)\n" + _CONNECT).out)

    def test_a_log_line_is_not_overwritten_by_the_program(self):
        self.proxy.answer = proxy.refuse(403)
        result = self.python("import socket, sys\ns = socket.socket()\nprint(s.connect_ex((NAME, 7)))\n"
                             "sys.stderr.write('and the program goes on\\n')")
        self.assertRegex(result.err, "^towpath: level=error event=connect_failed .*cause=denied .*\nand the program goes on\n$")

    def test_a_log_file(self):
        self.proxy.answer = proxy.refuse(403)
        log = os.path.join(self.directory, "log")
        result = self.python("import socket\nprint(socket.socket().connect_ex((NAME, 7)))", env={"TOWPATH_LOG_FILE": log})
        self.assertEqual(result.err, "")
        self.assertIn("cause=denied", open(log).read())


class WhoeverAsks(AloneCase):
    def test_many_at_once_have_one_agent(self):
        # Starting 20 interpreters takes longer than an agent: they are held back until all are there.
        script = ("import os, socket\npipe, go = os.pipe()\nchildren = []\nfor _ in range(20):\n    pid = os.fork()\n"
                  "    if pid == 0:\n        os.close(go)\n        os.read(pipe, 1)\n"
                  "        s = socket.create_connection((NAME, 7))\n        os._exit(0 if s.recv(9) == b'welcome\\r\\n' else 1)\n"
                  "    children.append(pid)\nos.close(go)\nprint([os.waitpid(c, 0)[1] for c in children])")
        self.assertEqual(self.python(script).out, f"{[0] * 20}\n")
        self.assertEqual(len(netns.agents()), 1)

    def test_parent_and_child(self):
        script = "import os, sys\nchild = os.fork()\n" + _CONNECT + "\nsys.stdout.flush()\nif child: os.waitpid(child, 0)"
        self.assertEqual(self.python(script).out, "got b'welcome\\r\\n'\n" * 2)
        self.assertEqual(len(netns.agents()), 1)

    def test_other_settings_have_another_agent(self):
        self.python(_CONNECT)
        self.python(_CONNECT, env={"SSL_CERT_FILE": "/nowhere"})
        self.assertEqual(len(netns.agents()), 2)

    def test_what_no_agent_reads_makes_no_other_agent(self):
        self.python(_CONNECT)
        self.python(_CONNECT, env={"RES_OPTIONS": "ndots:3", "LOCALDOMAIN": "other.example"})
        self.assertEqual(len(netns.agents()), 1)

    def test_the_same_relative_file_in_another_folder(self):
        other = self.use(proxy.Proxy("http", {NAME: self.origin.address}))
        for place, url in (("a", self.proxy.url), ("b", other.url)):
            os.mkdir(os.path.join(self.directory, place))
            self.file(f"{place}/values.yaml", f"proxy:\n  http: {url}\n")
            # Also when the program has gone elsewhere by then.
            self.python("import os\nos.chdir('/')\n" + _CONNECT, cwd=os.path.join(self.directory, place),
                        env={"TOWPATH_CONFIG": "values.yaml"})
        self.assertEqual((len(self.proxy.connections), len(other.connections)), (1, 1))

    def test_what_the_program_does_to_its_environment(self):
        self.config = None
        for change in ("os.environ.clear()", "os.environ['all_proxy'] = 'http://127.0.0.1:1'",
                       "os.environ['no_proxy'] = '*'"):
            with self.subTest(change):
                proc.kill(netns.guards_and_agents())
                self.assertIn("got", self.python("import os\n" + change + "\n" + _CONNECT,
                                                 env={"all_proxy": self.proxy.url}).out)

    def test_it_ends_after_the_last(self):
        self.python(_CONNECT, env={"TOWPATH_IDLE_SECONDS": "0"})
        proc.wait_until(lambda: not netns.agents(), "end of the agent")
        program = self.spawn("program", PYTHON, "-c", _CONNECT.replace("NAME", repr(NAME)) + "\nimport sys; sys.stdout.flush(); sys.stdin.read()\n"
                             "import time; time.sleep(600)", env={
            "LD_PRELOAD": PRELOAD, "TOWPATH_CONFIG": self.config, "TOWPATH_IDLE_SECONDS": "0"})
        program.wait_line("got")
        agent, = netns.agents()
        # It looks every 50 ms: once it has counted the program a few times, it stays.
        with open(f"/proc/{agent}/stat") as file:
            self.assertTrue(file.read())
        program.stop(0)
        proc.wait_until(lambda: not netns.agents(), "end of the agent")

    def test_a_new_agent_for_a_dead_one(self):
        self.python(_CONNECT)
        old, = netns.agents()
        self.python(_CONNECT + f"\nimport os, select\nh = os.pidfd_open({old})\nos.kill({old}, 9)\nselect.select([h], [], [])\n" + _CONNECT)
        new, = netns.agents()
        self.assertNotEqual(new, old)

    def test_killed_in_mid_handshake(self):
        self.proxy.answer = proxy.silence()
        # One that sleeps in epoll_wait has nothing in its set that could wake it before its own timeout.
        for mode in ("blocking", "poll", "select"):
            with self.subTest(mode):
                count = len(self.proxy.connections)
                program = self.spawn("program", *client(mode, NAME, 7, "send=secret"), env={
                    "LD_PRELOAD": PRELOAD, "TOWPATH_CONFIG": self.config})
                self.proxy.wait_connections(count + 1)
                proc.wait_until(lambda: b"\r\n\r\n" in self.proxy.connections[count].handshake, "the request")
                proc.kill(netns.agents())
                program.wait_line("errno=ENETDOWN")
                program.wait()
                self.assertNotIn(b"secret", self.proxy.connections[count].handshake + self.proxy.connections[count].after_refusal)


class Libc(AloneCase):
    """Programs in C with one libc and the other."""

    def check(self, probe, loader=None):
        if not os.access(probe, os.X_OK) or (loader and not os.path.exists(loader)):
            self.skipTest(f"{probe} cannot run here")
        words = f"tcp {NAME} 7\ntcp {NAME} 7 how=nonblocking\n"
        result = self.assert_ran(self.preload(probe, stdin=words))
        self.assertEqual(result.out.count("welcome"), 2, result.out + result.err)
        self.assertEqual(self.proxy.targets(), [f"{NAME}:7"] * 2)
        self.assertFalse(self.dns.asked(NAME))
        self.assertEqual(len(netns.agents()), 1)

    def test_glibc(self):
        self.check(os.path.join(PROBES, "names"))

    def test_musl(self):
        self.check(os.path.join(PROBES, "musl", "names"), f"/lib/ld-musl-{os.uname().machine}.so.1")


class WhereTheProgramIs(AloneCase):
    def test_a_read_only_root(self):
        result = self.preload("unshare", "--mount", "sh", "-c", 'mount -o remount,bind,ro / && exec "$0" "$@"', PYTHON, "-c", _CONNECT)
        if "mount" in result.err and "denied" in result.err:
            self.skipTest("this machine does not let / be mounted again")
        self.assertIn("got", self.assert_ran(result).out)

    def test_another_root_after_the_first_connect(self):
        empty = os.path.join(self.directory, "empty")
        os.mkdir(empty)
        script = f"import os, encodings.idna\n{_CONNECT}\nos.chroot({empty!r})\nos.chdir('/')\n"
        self.assertEqual(self.python(script + _CONNECT).out, "got b'welcome\\r\\n'\n" * 2)
        self.assertEqual(self.python(script + "os.setgid(65534)\nos.setuid(65534)\n" + _CONNECT).out, "got b'welcome\\r\\n'\n" * 2)

    def test_another_user_after_the_first_connect(self):
        os.chmod(self.config, 0o600)
        script = f"import os\n{_CONNECT}\nos.setgid(65534)\nos.setuid(65534)\n{_CONNECT}"
        self.assertEqual(self.python(script).out, "got b'welcome\\r\\n'\n" * 2)
        self.assertEqual(len(netns.agents()), 1)

    def test_another_user_before_the_first_connect(self):
        script = f"import os\nos.setgid(65534)\nos.setuid(65534)\n{_CONNECT}"
        self.assertEqual(self.python(script).out, "got b'welcome\\r\\n'\n")
        self.assertEqual([os.stat(f"/proc/{pid}").st_uid for pid in netns.agents()], [0])  # the constructor's, from before

    def test_a_file_that_the_other_user_may_not_read(self):
        os.chmod(self.config, 0o600)
        result = self.preload(*self.as_nobody(client("blocking", "192.0.2.1", 7)))
        self.fails_closed(result, line="values.yaml")

    def as_nobody(self, command):
        return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]


class FailsClosed(AloneCase):
    def test_a_broken_file(self):
        self.values("coderd:\n  proxy:\n    htpp: x\n")
        result = self.preload(*client("blocking", "192.0.2.1", 7))
        self.fails_closed(result, line="values.yaml:3:5: ")
        self.assertIn("towpath: no agent can be started, so no connection is made: it ended at once", result.err)
        for mode in ("epoll", "poll"):
            self.fails_closed(self.preload(*client(mode, "192.0.2.1", 7)))
        lookup = self.python("import socket\ntry: socket.getaddrinfo(NAME, 7)\nexcept socket.gaierror as e: print(e.errno)")
        self.assertEqual(lookup.out, "-3\n")
        self.assertFalse(self.dns.asked(NAME))
        server = self.use(RawOrigin())
        self.python(f"import socket\nsocket.create_connection(('127.0.0.1', {server.port}))\nsocket.create_connection(('localhost', {server.port}))")

    def test_the_line_comes_once(self):
        self.values("coderd:\n  proxy:\n    htpp: x\n")
        result = self.python("import socket\nfor _ in range(5): print(socket.socket().connect_ex(('192.0.2.1', 7)))")
        self.assertEqual(result.out, "100\n" * 5)
        self.assertEqual(result.err.count("no agent can be started"), 1)

    def test_no_executable(self):
        result = self.preload(*client("blocking", "192.0.2.1", 7), env={"TOWPATH_AGENT": "/nowhere/towpath"})
        self.fails_closed(result, line="set TOWPATH_AGENT")
        result = self.preload(*client("blocking", "192.0.2.1", 7), env={"TOWPATH_AGENT": self.file("plain", "text")})
        self.fails_closed(result, line="may not execute")

    def test_standard_error_that_nobody_reads(self):
        script = ("import os, signal, socket\nsignal.signal(signal.SIGPIPE, signal.SIG_DFL)\nr, w = os.pipe()\nos.close(r)\nos.dup2(w, 2)\n"
                  "print('errno=%d' % socket.socket().connect_ex(('192.0.2.1', 7)))")
        self.assertEqual(self.python(script, env={"TOWPATH_AGENT": "/nowhere"}).out, "errno=100\n")

    def test_an_unreachable_proxy(self):
        self.proxy_values(f"http://127.0.0.1:{proc.free_port()}")
        self.fails_closed(self.preload(*client("blocking", NAME, 7)), "ECONNREFUSED", "cause=proxy_unreachable")

    def test_another_user_took_the_name(self):
        # The name is learnt from an agent of the same settings, which then ends.
        self.python(_CONNECT)
        with open("/proc/net/unix") as table:
            name = re.search(r"@(towpath-u0-\w+)", table.read()).group(1)
        proc.kill(netns.guards_and_agents())
        squatter = self.spawn("squatter", PYTHON, "-c", (
            "import os, socket, sys\nos.setgid(65534); os.setuid(65534)\ns = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
            f"s.bind('\\0{name}')\ns.listen(10)\nprint('there', flush=True)\n"
            "while True:\n    c, _ = s.accept()\n    m, f, _, _ = socket.recv_fds(c, 4096, 10)\n    print('said', len(m), f, flush=True)"))
        squatter.wait_line("there")
        count = len(self.proxy.connections)
        result = self.preload(*client("blocking", "192.0.2.1", 7))
        self.assertIn("errno=ENETDOWN\n", result.out)
        self.assertIn("towpath: another user's process has taken the agent's place", result.err)
        self.assertEqual(len(self.proxy.connections), count)
        squatter.wait_line("said 0 \\[\\]")

    def test_another_user_may_not_ask(self):
        self.python(_CONNECT)
        with open("/proc/net/unix") as table:
            name = re.search(r"@(towpath-u0-\w+)", table.read()).group(1)
        # The library itself, with the agent's name and a token of its own making, run by somebody else.
        result = self.bare("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *client("blocking", "192.0.2.1", 7),
                           env={"LD_PRELOAD": PRELOAD, "TOWPATH_CONTROL": f"{name}:{'00' * 16}"})
        self.assertIn("errno=ENETDOWN\n", result.out)
        self.assertEqual(len(self.proxy.connections), 1)


if __name__ == "__main__":
    main()
