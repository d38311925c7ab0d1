# suite: quick
"""Another configuration for a running tree: by SIGHUP and by every way in which files are exchanged. The next connect of
every process follows, what cannot be used changes nothing, and open tunnels do not notice."""

import os
import signal
import subprocess

from lab import netns, proc, proxy
from lab.case import PRELOAD, TOWPATH, LabCase, main, program
from lab.inbound import (CLIENT, PYTHON, TRUSTED, Answers, InboundCase, ask, connect, fields, line_of, nginx_server,
                         proxy_v1, request)
from lab.origin import RawOrigin
from lab.squid import Squid
from lab.tls import Authority, Front

FAR = "far.example"
NEAR = "near.example"
# Reads names from standard input, one a line; says for each whom it reached: the origin's answer has the peer's address.
PROGRAM = r"""
import socket, sys
for line in sys.stdin:
    name = line.strip()
    try:
        with socket.create_connection((name, 7), 10) as peer:
            print(name, peer.makefile().readline().strip(), flush=True)
    except OSError as error:
        print(name, 'failed', error, flush=True)
"""


class ReloadCase(LabCase):
    records = {FAR: ["127.0.0.80"], NEAR: ["127.0.0.80"]}

    def setUp(self):
        super().setUp()
        self.addCleanup(lambda: proc.kill(netns.guards_and_agents()))
        self.origin = self.use(RawOrigin("127.0.0.80", 7, banner=b"hello\n"))
        self.proxy = self.use(proxy.Proxy("http", {FAR: ("127.0.0.80", 7), NEAR: ("127.0.0.80", 7)}))
        self.proxy_values(self.proxy.url)
        self.log = os.path.join(self.directory, "log")
        self.environment.update({"TOWPATH_LOG_FILE": self.log, "TOWPATH_LOG": "debug"})

    def begin(self, *command, options=()):
        """A program under `towpath run`, waiting for names."""
        command = command or (PYTHON, "-u", "-c", PROGRAM)
        return self.started(self.line(*command, options=options))

    def started(self, line, env=None):
        self.runner = self.use(proc.Process("runner", line, self.directory, self._env(env), self.directory,
                                            stdin=subprocess.PIPE))
        return self.runner

    def tell(self, word):
        self.runner.popen.stdin.write(word.encode() + b"\n")
        self.runner.popen.stdin.flush()

    def said(self):
        """Whole lines of the program; it writes them in pieces."""
        return self.runner.out.split("\n")[:-1]

    def reach(self, name=FAR):
        """The program connects to that name: "proxy" or "direct"."""
        lines, asked = len(self.said()), len(self.proxy.targets())
        self.tell(name)
        answer = proc.wait_until(lambda: self.said()[lines:], "the program's answer", process=self.runner)[0]
        self.assertEqual(answer, f"{name} hello")
        return "proxy" if len(self.proxy.targets()) > asked else "direct"

    def lines(self, event):
        if not os.path.exists(self.log):
            return []
        with open(self.log) as file:
            return [line for line in file.read().splitlines() if f"event={event} " in line + " "]

    def wait_event(self, event, count=1):
        return proc.wait_until(lambda: len(found := self.lines(event)) >= count and found, f"{count} {event}")

    def wait_agent(self, other_than=()):
        return proc.wait_until(lambda: next((pid for pid in netns.agents() if pid not in other_than), None), "agent")

    def hang_up(self):
        os.kill(self.wait_agent(), signal.SIGHUP)

    def text(self, exempt=""):
        with open(self.proxy_values(self.proxy.url, exempt)) as file:
            return file.read()

    def swap(self, text, path=None):
        """As editors save: a new file, renamed over the old one."""
        path = path or self.config
        with open(path + ".new", "w") as file:
            file.write(text)
        os.rename(path + ".new", path)


class Ways(ReloadCase):
    """How the change comes."""

    def test_by_sighup_alone_when_nothing_is_watched(self):
        # A network file system would do it in life; here a limit of a user namespace of the tree's own.
        limit = "/proc/sys/user/max_inotify_instances"
        self.started(["/usr/bin/unshare", "--user", "--map-root-user", "/bin/sh", "-c", f'echo 0 > {limit} && exec "$@"', "sh",
                      *self.line(PYTHON, "-u", "-c", PROGRAM)])
        self.assertEqual(self.reach(), "proxy")
        self.wait_event("config_not_watched")
        self.swap(self.text_of(FAR))
        self.hang_up()
        self.wait_event("reloaded")
        self.assertEqual(self.reach(), "direct")
        self.assertEqual(len(self.lines("config_not_watched")), 1)

    def text_of(self, exempt):
        return f'coderd:\n  proxy:\n    http: "{self.proxy.url}"\n    exempt: "{exempt}"\n'

    def test_renamed_over_and_back(self):
        """The program has the verdict of before, and the address: a synthetic one first, a real one later."""
        self.begin()
        self.assertEqual(self.reach(), "proxy")
        self.swap(self.text_of(FAR))
        line, = self.wait_event("reloaded")
        self.assertIn(f'changed="proxy.exempt: added {FAR}"', line)
        self.assertIn("level=warning", line)
        self.assertEqual([self.reach(), self.reach(NEAR)], ["direct", "proxy"])
        self.swap(self.text_of(NEAR))
        self.wait_event("reloaded", 2)
        self.assertEqual([self.reach(), self.reach(NEAR)], ["proxy", "direct"])

    def test_written_in_place(self):
        self.begin()
        self.assertEqual(self.reach(), "proxy")
        with open(self.config, "w") as file:
            file.write(self.text_of(FAR))
        self.wait_event("reloaded")
        self.assertEqual(self.reach(), "direct")

    def test_a_relative_path(self):
        self.config = os.path.basename(self.config)
        self.begin()
        self.assertEqual(self.reach(), "proxy")
        self.swap(self.text_of(FAR), os.path.join(self.directory, self.config))
        self.wait_event("reloaded")
        self.assertEqual(self.reach(), "direct")

    def test_the_swap_of_a_kubernetes_volume(self):
        """As kubelet's AtomicWriter does it: a new directory, a link to it renamed over ..data, the old one removed."""
        volume = os.path.join(self.directory, "volume")
        os.mkdir(volume)

        def publish(name, text, old=None):
            os.mkdir(os.path.join(volume, name))
            with open(os.path.join(volume, name, "values.yaml"), "w") as file:
                file.write(text)
            os.symlink(name, os.path.join(volume, "..data_tmp"))
            os.rename(os.path.join(volume, "..data_tmp"), os.path.join(volume, "..data"))
            if old:
                os.unlink(os.path.join(volume, old, "values.yaml"))
                os.rmdir(os.path.join(volume, old))

        publish("..2026_01", self.text_of(""))
        os.symlink("..data/values.yaml", os.path.join(volume, "values.yaml"))
        self.config = os.path.join(volume, "values.yaml")
        self.begin()
        self.assertEqual(self.reach(), "proxy")
        publish("..2026_02", self.text_of(FAR), "..2026_01")
        self.wait_event("reloaded")
        self.assertEqual(self.reach(), "direct")
        publish("..2026_03", self.text_of(""), "..2026_02")
        self.wait_event("reloaded", 2)
        self.assertEqual(self.reach(), "proxy")
        self.assertEqual(self.lines("reload_failed"), [])

    def test_a_rotated_credentials_file(self):
        self.proxy.credentials = "user:first"
        secret = self.file("secret", "user:first\n")
        self.values(f'proxy: {{http: "http://{self.proxy.host}:{self.proxy.port}", credentialsFile: secret}}\n')
        self.begin()
        self.assertEqual(self.reach(), "proxy")
        self.proxy.credentials = "user:second"
        self.swap("user:second\n", secret)
        line, = self.wait_event("reloaded")
        self.assertIn("other credentials", line)
        self.assertEqual(self.reach(), "proxy")
        self.assertEqual(self.proxy.connections[-1].credentials, "user:second")
        for word in ("first", "second"):
            self.assertNotIn(word, "\n".join(self.lines("reloaded")))


class Refused(ReloadCase):
    def stays(self, text, reason):
        count = len(self.lines("reload_failed"))
        self.swap(text)
        line = self.wait_event("reload_failed", count + 1)[-1]
        self.assertIn("level=error", line)
        self.assertIn(reason, line)
        self.assertEqual(self.reach(), "proxy")

    def test_what_cannot_be_used_changes_nothing_and_says_so(self):
        self.begin()
        self.assertEqual(self.reach(), "proxy")
        self.stays("", "configures nothing")
        self.stays("proxy: {http: 'http://h:bad', udp: sometimes}\n", "udp")
        self.stays("proxy: [\n", "values.yaml")
        self.stays("proxy: {exempt: a.example}\n", "names no proxy")
        os.unlink(self.config)
        self.wait_event("reload_failed", 5)
        self.assertEqual(self.reach(), "proxy")
        self.swap(self.text(FAR))
        self.wait_event("reloaded")
        self.assertEqual(self.reach(), "direct")
        self.assertEqual(len(self.lines("reloaded")), 1)

    def test_the_same_again_is_nothing(self):
        self.begin()
        self.assertEqual(self.reach(), "proxy")
        before = len(self.lines("reload_unchanged"))
        self.swap(self.text())
        self.wait_event("reload_unchanged", before + 1)
        self.hang_up()
        self.wait_event("reload_unchanged", before + 2)
        self.assertEqual(self.lines("reloaded") + self.lines("reload_failed"), [])

    def test_what_cannot_change_is_named_and_the_rest_is_applied(self):
        self.begin()
        self.assertEqual(self.reach(), "proxy")
        self.swap(f'proxy: {{http: "{self.proxy.url}", exempt: {FAR}, syntheticRange: 10.99.0.0/16}}\n'
                  "reverseProxy: {trustedOrigins: 127.0.0.0/8, proxyProtocol: require}\n")
        line, = self.wait_event("reloaded")
        self.assertIn('at_the_next_start="proxy.syntheticRange; reverseProxy"', line)
        self.assertEqual([self.reach(), self.reach(NEAR)], ["direct", "proxy"])
        before = len(self.lines("reload_unchanged"))
        self.hang_up()
        self.wait_event("reload_unchanged", before + 1)  # told once
        self.assertEqual(len(self.lines("reloaded")), 1)


class Trees(ReloadCase):
    """Whose agent it is, and what else goes on."""

    def change(self):
        self.swap(self.text(FAR))
        self.wait_event("reloaded")

    def test_an_agent_that_replaces_a_killed_one_has_the_new_policy_also_when_the_file_broke_since(self):
        self.begin()
        self.assertEqual(self.reach(), "proxy")
        self.change()
        self.swap("proxy: [\n")
        self.wait_event("reload_failed")
        old = self.wait_agent()
        os.kill(old, signal.SIGKILL)
        self.wait_agent([old])
        self.assertEqual([self.reach(), self.reach(NEAR)], ["direct", "proxy"])

    def test_an_agent_that_replaces_a_killed_one_reads_what_came_meanwhile(self):
        self.begin()
        self.assertEqual(self.reach(), "proxy")
        old = self.wait_agent()
        os.kill(self.runner.pid, signal.SIGSTOP)
        os.kill(old, signal.SIGKILL)
        self.swap(self.text(FAR))
        os.kill(self.runner.pid, signal.SIGCONT)
        self.wait_agent([old])
        self.wait_event("reloaded")
        self.assertEqual([self.reach(), self.reach(NEAR)], ["direct", "proxy"])

    def test_with_ld_preload_alone(self):
        self.started([PYTHON, "-u", "-c", PROGRAM], self.alone())
        self.assertEqual(self.reach(), "proxy")
        self.change()
        self.assertEqual(self.reach(), "direct")

    def alone(self):
        return {"LD_PRELOAD": PRELOAD, "TOWPATH_CONFIG": self.config, "TOWPATH_AGENT": TOWPATH}

    def test_with_ld_preload_alone_and_no_log_file_the_program_shows_the_line(self):
        self.environment.pop("TOWPATH_LOG_FILE")
        self.started([PYTHON, "-u", "-c", PROGRAM], {**self.alone(), "TOWPATH_LOG": "warning"})
        self.assertEqual(self.reach(), "proxy")
        self.swap("proxy: [\n")
        self.runner.wait_line("event=reload_failed")
        self.assertEqual(self.reach(), "proxy")

    def test_with_towpath_agent(self):
        agent = self.use(proc.Process("agent", [TOWPATH, "agent", "-c", self.config], self.directory, self._env(None)))
        agent.wait_line("^TOWPATH_")
        self.started([PYTHON, "-u", "-c", PROGRAM], dict(line.split("=", 1) for line in agent.out.splitlines()))
        self.assertEqual(self.reach(), "proxy")
        self.swap(self.text(FAR))
        os.kill(agent.pid, signal.SIGHUP)
        self.wait_event("reloaded")
        self.assertEqual(self.reach(), "direct")

    def test_under_the_supervisor(self):
        self.begin(PYTHON, "-u", "-c", PROGRAM, options=("--mode", "seccomp"))
        self.assertEqual(self.reach(), "proxy")
        self.change()
        self.assertEqual(self.reach(), "direct")

    def test_static_go_programs_that_the_tree_starts(self):
        go = program("go-static/goclient")
        self.begin("/bin/sh", "-c",
                   f'while read name; do {go} dial $name:7 >/dev/null && echo "$name hello" || echo "$name failed"; done')
        self.assertEqual(self.reach(), "proxy")
        self.change()
        self.assertEqual([self.reach(), self.reach(NEAR)], ["direct", "proxy"])

    def test_sighup_to_towpath_run_is_still_the_programs(self):
        self.begin(PYTHON, "-u", "-c", "import signal\nsignal.signal(signal.SIGHUP, lambda *_: print('hup', flush=True))\n"
                   "print('ready', flush=True)\nwhile True: signal.pause()")
        self.runner.wait_line("^ready")
        os.kill(self.runner.pid, signal.SIGHUP)
        self.runner.wait_line("^hup")
        self.assertEqual(self.lines("reloaded"), [])

    def test_an_open_tunnel_has_every_byte(self):
        self.begin(PYTHON, "-u", "-c", f"""
import socket, sys
peer = socket.create_connection(('{FAR}', 7))
file = peer.makefile('rb')
print(file.readline().decode().strip(), flush=True)
for line in sys.stdin:
    peer.sendall(line.encode() * 1000)
    got = b''.join(file.readline() for _ in range(1000))
    print('echo', len(got), got == line.encode() * 1000, flush=True)
""")
        self.runner.wait_line("^hello")
        for turn in range(4):
            self.tell(f"turn {turn}")
            proc.wait_until(lambda: self.runner.out.count("echo 7000 True") == turn + 1, "the echo", process=self.runner)
            self.swap(self.text(FAR if turn % 2 == 0 else ""))
            self.wait_event("reloaded", turn + 1)
        self.assertEqual(len(self.proxy.connections), 1)


class Inbound(InboundCase):
    def again(self, origins, more, headers=""):
        self.reverse(headers, origins=origins, more=more)
        os.kill(proc.wait_until(netns.agents, "agent")[0], signal.SIGHUP)

    def test_other_trusted_origins_for_the_next_connection(self):
        require = "proxyProtocol: require"
        self.reverse(origins="127.0.0.2/32", more=require)
        _, port = self.acceptor("lt")

        def shown(source):
            said = line_of(ask(("127.0.0.1", port), proxy_v1() + b"line\n", source).decode())
            return said.get("accept", "closed").rpartition(":")[0], said.get("data", "").split(" ")[0]
        believed, not_believed = (CLIENT, "line"), ("127.0.1.2", "PROXY")
        self.assertEqual([shown("127.0.0.2"), shown("127.0.1.2")], [believed, not_believed])
        for turn in range(3):  # more often than there are places in the page
            trusted, other = ("127.0.1.2", "127.0.0.2") if turn % 2 == 0 else ("127.0.0.2", "127.0.1.2")
            self.again(trusted + "/32", require)
            proc.wait_until(lambda: shown(trusted) == believed, "the new origin's header is believed")
            self.assertEqual(shown(other), (other, "PROXY"))

    def test_nginx_and_another_header_for_the_next_request_of_an_open_connection(self):
        self.reverse("X-Forwarded-For")
        port = self.nginx(nginx_server(self.free_port()))
        with connect(("127.0.0.1", port), "127.0.0.2") as peer:
            answers = Answers(peer)

            def client():
                peer.sendall(request(fields=[("X-Forwarded-For", CLIENT), ("X-Real-IP", "198.51.100.8")], close=False))
                status, body = answers.next()
                self.assertEqual(status, 200)
                return fields(body)["client"]
            self.assertEqual(client(), CLIENT)
            self.again(TRUSTED, "", "X-Real-IP")
            proc.wait_until(lambda: client() == "198.51.100.8", "the new header is used")

    def test_switching_it_off_is_refused(self):
        self.reverse(origins="127.0.0.2/32", more="proxyProtocol: require")
        server, port = self.acceptor("lt")
        self.again("", "")
        server.wait_line("event=reload_failed .*switches the reverse proxy off")
        said = line_of(ask(("127.0.0.1", port), proxy_v1() + b"line\n", "127.0.0.2").decode())
        self.assertEqual(said["accept"], f"{CLIENT}:40000")


class Tls(ReloadCase):
    """Towards an https:// proxy: what stands goes on with the session that it has."""

    def test_a_renewed_file_of_authorities_and_an_open_tunnel(self):
        directory = type(self).class_directory
        authority, stranger = Authority(directory), Authority(directory, "stranger")
        front = self.use(Front(self.proxy, authority.certificate("proxy", "IP:127.0.0.21"), address="127.0.0.21"))
        with open(authority.file) as file, open(stranger.file) as other:
            good, wrong = file.read(), other.read()
        bundle = self.file("ca.pem", good)
        self.proxy_values(f"https://127.0.0.21:{front.port}", more=f"tls:\n  caFile: {bundle}\n")
        self.begin(PYTHON, "-u", "-c", f"""
import socket, sys
held = socket.create_connection(('{FAR}', 7))
assert held.recv(6) == b'hello\\n'
""" + PROGRAM + """
    held.sendall(b'still')
    assert held.recv(5) == b'still'
""")
        self.assertEqual(self.reach(), "proxy")
        self.swap("nothing of use\n", bundle)
        line = self.wait_event("reload_failed")[0]
        self.assertIn("no certificate can be read", line)
        self.assertEqual(self.reach(), "proxy")
        self.swap(wrong, bundle)
        self.wait_event("reloaded")
        self.tell(FAR)
        self.wait_event("connect_failed")
        self.assertIn("cause=tls_verification", self.lines("connect_failed")[0])
        self.swap(wrong + good, bundle)
        self.wait_event("reloaded", 2)
        proc.wait_until(lambda: len(self.said()) == 3, "the failure", process=self.runner)
        self.assertEqual(self.reach(), "proxy")


class Load(ReloadCase):
    def test_a_hundred_connections_a_second_while_the_file_is_edited(self):
        squid = self.use(Squid(self.directory, {FAR: "127.0.0.80", NEAR: "127.0.0.80"}))
        self.proxy = squid
        self.proxy_values(squid.url)
        self.begin(PYTHON, "-u", "-c", f"""
import socket, sys, threading, time
held = [socket.create_connection(('{FAR}', 7)) for _ in range(5)]
for each in held:
    assert each.recv(6) == b'hello\\n'
failed, made, stop = [], [0], threading.Event()
def work(name):
    while not stop.wait(0.04):
        try:
            with socket.create_connection((name, 7), 10) as peer:
                assert peer.recv(6) == b'hello\\n'
            made[0] += 1
        except Exception as error:
            failed.append((name, repr(error)))
crowd = [threading.Thread(target=work, args=(name,)) for name in ('{FAR}', '{NEAR}') * 2]
for each in crowd: each.start()
for line in sys.stdin:
    print('made', made[0], flush=True)
    if line == 'end\\n': break
stop.set()
for each in crowd: each.join()
for each in held:
    each.sendall(b'still')
    assert each.recv(5) == b'still'
print('failed', failed, flush=True)
""")

        def made():
            count = len(self.said())
            self.tell("how many")
            return int(proc.wait_until(lambda: self.said()[count:], "a number", process=self.runner)[0].split()[1])
        start = proc.wait_until(made, "the first connections")
        for turn in range(8):
            self.swap(self.text(NEAR if turn % 2 == 0 else ""))
            self.wait_event("reloaded", turn + 1)
            here = made()
            proc.wait_until(lambda: made() >= here + 30, "more connections", 30)
        self.swap(self.text(NEAR))
        self.wait_event("reloaded", 9)
        # What is under way ends as it began; from then on squid hears of that name no more.
        here = made()
        proc.wait_until(lambda: made() >= here + 20, "more connections", 30)
        before = squid.targets().count(f"{NEAR}:7")
        here = made()
        proc.wait_until(lambda: made() >= here + 40, "more connections", 30)
        self.assertEqual(squid.targets().count(f"{NEAR}:7"), before)
        self.tell("end")
        proc.wait_until(lambda: self.said()[-1].startswith("failed"), "the end", process=self.runner)
        self.assertEqual(self.said()[-1], "failed []")
        self.assertGreater(here, start + 240)
        self.assertEqual(self.lines("connect_failed"), [])


if __name__ == "__main__":
    main()
