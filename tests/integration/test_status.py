# suite: quick
"""What towpath tells of itself: `status`, the metrics door and the log, against what squid's own log counted."""

import base64
import json
import os
import re
import shutil
import signal
import socket
import urllib.parse
import urllib.request

from lab import netns, proc, tree
from lab.case import LabCase, PRELOAD, TOWPATH, main, program
from lab.origin import Origin, RawOrigin
from lab.proc import scaled, wait_until
from lab.squid import Squid

NAME = "tunnelled.example"
PASSWORD = "s3cr%t:w/rd"
SECRETS = (PASSWORD, urllib.parse.quote(PASSWORD, safe=""), base64.b64encode(f"me:{PASSWORD}".encode()).decode())
PYTHON = "/usr/bin/python3"
# argv: count, host, granted port, refused port. Connects that often to each, one after the other, keeps nothing open.
LOAD = """
import socket, sys
for _ in range(int(sys.argv[1])):
    for port in sys.argv[3:]:
        try:
            with socket.create_connection((sys.argv[2], int(port))) as peer:
                peer.shutdown(socket.SHUT_WR)
                peer.recv(1)
        except PermissionError:
            pass
"""
# Holds tunnels until its standard input ends.
HOLD = """
import socket, sys
held = [socket.create_connection((sys.argv[2], int(sys.argv[3]))) for _ in range(int(sys.argv[1]))]
print("held", flush=True)
open(sys.argv[4]).read()
"""


def parse_exposition(text):
    """Prometheus' text format 0.0.4, strictly: {name: {labels: value}}; an AssertionError for anything else."""
    types, helped, found, name = {}, set(), {}, None
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            name = line.split(" ")[2]
            assert name not in helped and len(line.split(" ", 3)) == 4, line
            helped.add(name)
        elif line.startswith("# TYPE "):
            word, kind = line.split(" ")[2:]
            assert word == name and word not in types and kind in ("counter", "gauge", "histogram"), line
            types[name] = kind
            assert kind != "counter" or name.endswith("_total"), line
        else:
            match = re.fullmatch(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (\d+(?:\.\d+)?)', line)
            assert match, line
            family = re.sub("_(bucket|sum|count)$", "", match[1]) if types[name] == "histogram" else match[1]
            assert family == name, line
            labels = tuple(re.findall(r'([a-z]+)="((?:[^"\\]|\\.)*)"', match[2] or ""))
            assert labels not in found.setdefault(match[1], {}), line
            found[match[1]][labels] = float(match[3])
    for name in (name for name, kind in types.items() if kind == "histogram"):
        per = {}
        for labels, value in found.get(name + "_bucket", {}).items():
            per.setdefault(labels[:-1], []).append((float(labels[-1][1].replace("+Inf", "inf")), value))
        for labels, buckets in per.items():
            assert buckets == sorted(buckets) and [v for _, v in buckets] == sorted(v for _, v in buckets), buckets
            assert buckets[-1] == (float("inf"), found[name + "_count"][labels]), buckets
    return found


class StatusCase(LabCase):
    def setUp(self):
        super().setUp()
        self.addCleanup(lambda: proc.kill(netns.guards_and_agents()))  # or the next test would see them
        self.origin = self.use(RawOrigin("127.0.0.80", 443, banner=b"x"))
        self.squid = self.use(Squid(self.directory, {NAME: "127.0.0.80"}, shipped_rules=True))
        self.proxy_values(self.squid.url)
        self.metrics_port = proc.free_port()
        self.log = os.path.join(self.directory, "towpath.log")

    def begin(self, *command, options=(), log="debug"):
        line = self.line(*command, options=("--metrics", self.metrics_port, "--log-level", log, "--log-file", self.log,
                                            "--log-format", "json", *options))
        process = self.use(proc.Process("run", line, self.directory, self._env(None), self.directory))
        self.agent = tree.agent_of(process.pid)
        return process

    def fifo(self):
        path = os.path.join(self.directory, "fifo")
        os.mkfifo(path)
        end = os.open(path, os.O_RDWR)
        self.addCleanup(lambda: os.close(end) if end is not None else None)
        return path, end

    def status(self, *options):
        found = json.loads(self.assert_ran(self.tool("status", "--json", *options)).out)
        self.assertEqual(len(found["agents"]), 1, found)
        return found["agents"][0]

    def metrics(self):
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=scaled(5)) as answer:
            self.assertEqual(answer.headers["Content-Type"], "text/plain; version=0.0.4; charset=utf-8")
            return parse_exposition(answer.read().decode())

    def squid_counts(self):
        rows = [line.split() for line in self.squid.access_log]
        return (sum(row[0] == "CONNECT" and row[2] == "200" for row in rows),
                sum(row[0] == "CONNECT" and row[2] == "403" for row in rows))

    def counts(self):
        """(granted, refused), which the status and the metrics agree on."""
        of, = self.status()["proxies"]
        metrics, label = self.metrics(), ("proxy", self.squid.url)
        failures = metrics.get("towpath_connect_failures_total", {})
        self.assertEqual(metrics["towpath_handshake_seconds_count"][(label,)],
                         metrics["towpath_tunnels_opened_total"][(label,)])
        self.from_metrics = (int(metrics["towpath_tunnels_opened_total"][(label,)]),
                             int(failures.get((label, ("cause", "denied")), 0)))
        return of["opened"], of["failures"].get("denied", 0)


class Load(StatusCase):
    def test_status_metrics_and_squid_agree_during_load_and_after_it(self):
        """Real programs of three kinds through a real squid that tunnels port 443 only; 5432 is refused."""
        self.need("curl")
        pipe, end = self.fifo()
        go = program("go-static/goclient")
        script = self.file("load.sh", f"""
            for i in 1 2 3 4; do {PYTHON} -c '{LOAD}' 10 {NAME} 443 5432 & done
            for i in 1 2 3 4 5; do curl -s -m 5 telnet://{NAME}:443 </dev/null >/dev/null; done &
            for i in 1 2 3; do {go} dial {NAME}:443 >/dev/null 2>&1; done &
            wait
            echo loaded
            {PYTHON} -c '{HOLD}' 7 {NAME} 443 {pipe}
            echo over
            exec cat {pipe}
        """)
        run = self.begin("/bin/sh", script)
        seen = []
        while not re.search("^loaded", run.out, re.M):
            squid_before = self.squid_counts()
            seen.append(self.counts())
            # A tunnel's line in squid's log comes at its end; a refusal's after its answer. Both later than our count.
            self.assertGreaterEqual(seen[-1][0], squid_before[0])
            self.assertGreaterEqual(seen[-1][1], squid_before[1])
            self.assertTrue(run.running(), run.output())
        run.wait_line("^held")
        self.assertEqual(seen, sorted(seen))
        self.assertTrue(seen)
        held = self.counts()
        self.assertEqual(held, self.from_metrics)
        self.assertEqual(held[1], 40)
        self.assertGreaterEqual(held[0], 40 + 5 + 3 + 7)
        status = self.status()
        self.assertEqual(status["tunnels_open"], 7)
        self.assertEqual(self.status("--pid", str(run.pid))["pid"], self.agent)
        self.assertEqual((status["pid"], status["program"]["name"], status["mode"]), (self.agent, "sh", "preload"))
        text = self.assert_ran(self.tool("status")).out
        self.assertIn(f"{held[0]} tunnels opened, 0 in progress", text)
        self.assertIn("failed: 40 denied", text)
        self.assertIn("7 tunnels; carried by the agent: 0 streams", text)
        wait_until(lambda: self.squid_counts() == (held[0] - 7, 40), "all that ended in squid's log")
        os.write(end, b"\n")
        for child in netns.processes():
            if "held =" in open(f"/proc/{child}/cmdline").read():
                os.kill(child, signal.SIGTERM)
        run.wait_line("^over")
        wait_until(lambda: self.squid_counts() == (held[0], 40), "squid's log of what was held")
        self.assertEqual(self.counts(), self.squid_counts())
        self.assertEqual(self.from_metrics, self.squid_counts())
        self.assertEqual(self.status()["tunnels_open"], 0)
        # One line per connection, each of them JSON.
        lines = [json.loads(line) for line in open(self.log)]
        connects = [line for line in lines if line["event"] in ("connect", "connect_failed")]
        self.assertEqual(len(connects), held[0] + 40)
        for line in connects:
            self.assertLessEqual({"ts", "level", "program", "pid", "target", "rule", "ms", "dial_ms", "handshake_ms"},
                                 set(line))
        self.assertEqual({line["event"] for line in lines} & {"connected"}, set())

    def test_the_next_agent_counts_from_zero_behind_the_same_door(self):
        pipe, _ = self.fifo()
        run = self.begin("/bin/sh", "-c", f"{PYTHON} -c '{LOAD}' 3 {NAME} 443; echo loaded; exec cat {pipe}")
        run.wait_line("^loaded")
        self.assertEqual(self.counts(), (3, 0))
        old = self.agent
        os.kill(old, signal.SIGKILL)
        self.agent = tree.agent_of(run.pid, [old])
        self.assertEqual(self.counts(), (0, 0))
        self.assertEqual(self.from_metrics, (0, 0))
        self.assertEqual(self.status()["pid"], self.agent)

    def test_repeated_failures_are_counted_instead_of_written(self):
        pipe, _ = self.fifo()
        run = self.begin("/bin/sh", "-c", f"{PYTHON} -c '{LOAD}' 60 {NAME} 5432; echo loaded; exec cat {pipe}",
                         log="warning")
        run.wait_line("^loaded")
        self.assertEqual(self.counts(), (0, 60))
        wait_until(lambda: '"suppressed":' in open(self.log).read(), "the line about suppressed ones", 30)
        lines = [json.loads(line) for line in open(self.log)]
        told = [line for line in lines if line["event"] == "connect_failed"]
        self.assertEqual(sum("reason" in line for line in told) + sum(line.get("suppressed", 0) for line in told), 60)


    def test_a_refusal_that_led_to_plain_http_is_counted_as_one(self):
        """Squid's shipped rules refuse CONNECT to port 80: the connection goes on without a tunnel."""
        origin = self.use(Origin("127.0.0.80", 80))
        pipe, _ = self.fifo()
        run = self.begin("/bin/sh", "-c", f"curl -s http://{NAME}/a; curl -s http://{NAME}/b; echo; echo loaded; exec cat {pipe}")
        run.wait_line("^loaded")
        self.assertEqual(origin.paths(), ["/a", "/b"])
        self.assertEqual(self.counts(), (0, 0))
        of, = self.status()["proxies"]
        wait_until(lambda: self.squid_counts() == (0, of["fallbacks"]), "the refusals in squid's log")
        self.assertEqual((of["plain_http"], of["fallbacks"]), (2, 1))
        self.assertEqual(self.status()["tunnels_open"], 0)

    def test_an_agent_of_the_library_alone(self):
        pipe, _ = self.fifo()
        env = {"LD_PRELOAD": PRELOAD, "TOWPATH_CONFIG": self.config, "TOWPATH_METRICS": self.metrics_port,
               "TOWPATH_LOG_FORMAT": "json", "TOWPATH_LOG_FILE": self.log, "TOWPATH_LOG": "debug"}
        held = self.spawn("held", PYTHON, "-c", HOLD, "2", NAME, "443", pipe, env=env)
        held.wait_line("^held")
        self.assertEqual(self.counts(), (2, 0))
        status = self.status("--pid", str(held.pid))
        self.assertEqual((status["mode"], status["tunnels_open"]), ("standalone", 2))
        lines = [json.loads(line) for line in open(self.log)]
        self.assertEqual([line["result"] for line in lines if line["event"] == "connect"], ["ok", "ok"])
        self.assertEqual(self.tool("status", "--pid", str(os.getpid())).code, 1)


class EmptyRoot(StatusCase):
    def test_status_needs_proc_only(self):
        pipe, _ = self.fifo()
        self.begin("/bin/cat", pipe)
        root = os.path.join(self.directory, "root")
        os.makedirs(os.path.join(root, "proc"))
        shutil.copy(TOWPATH, root)
        without = self.bare("chroot", root, "/towpath", "status")
        self.assertEqual((without.code, without.out), (125, ""))
        self.assertIn("/proc/net/unix, which is not here", without.err)
        inside = f"mount -t proc proc {root}/proc && exec chroot {root} /towpath status"
        found = self.assert_ran(self.bare("unshare", "-m", "sh", "-c", inside))
        self.assertIn(f"agent {self.agent}  towpath ", found.out)


class Permission(StatusCase):
    def test_another_user_may_not_ask_and_is_told_so(self):
        pipe, _ = self.fifo()
        self.begin("/bin/cat", pipe)
        self.status()
        other = self.bare("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", TOWPATH, "status")
        self.assertEqual(other.code, 1)
        self.assertEqual(other.out, "")
        self.assertRegex(other.err, r"^towpath: 1 agent not shown: towpath-[0-9a-f]{16} \(pid \d+\) belongs to user 0")
        # The agent itself refuses: a packet of the right form, without the token.
        ask = b"\x54\x57\x50\x41" + (5).to_bytes(2, "little") + bytes([18]) + bytes(16) + bytes([1]) + bytes(4)
        with open("/proc/net/unix") as table:
            name = next(line.split("@")[1].strip() for line in table if "@towpath-" in line)
        answers = {}
        for uid in (0, 65534):
            said = self.bare(PYTHON, "-c", f"""
import os, socket
os.setuid({uid})
one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
one.connect("\\0{name}")
one.send({ask!r})
try:
    data, fds, *_ = socket.recv_fds(one, 4096, 1)
    print(len(fds))
except ConnectionResetError:
    print(0)
""")
            answers[uid] = said.out
        self.assertEqual(answers, {0: "1\n", 65534: "0\n"})

    def test_without_an_agent(self):
        none = self.tool("status")
        self.assertEqual((none.code, none.out), (1, ""))
        self.assertIn("no agent runs in this network namespace", none.err)


class Door(StatusCase):
    def setUp(self):
        super().setUp()
        pipe, _ = self.fifo()
        self.begin("/bin/cat", pipe)

    def say(self, data, shut=False):
        with socket.create_connection(("127.0.0.1", self.metrics_port), timeout=scaled(20)) as one:
            try:
                one.sendall(data)
                if shut:
                    one.shutdown(socket.SHUT_WR)
                return b"".join(iter(lambda: one.recv(65536), b""))
            except (ConnectionResetError, BrokenPipeError):
                return b"reset"

    def test_what_it_answers(self):
        get = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
        whole = self.say(get)
        self.assertTrue(whole.startswith(b"HTTP/1.1 200 OK\r\n"))
        head, _, body = whole.partition(b"\r\n\r\n")
        self.assertIn(b"Content-Length: %d\r\n" % len(body), head)
        parse_exposition(body.decode())
        self.assertTrue(self.say(get, shut=True).startswith(b"HTTP/1.1 200"))
        self.assertTrue(self.say(get.replace(b"metrics", b"metrics?a=b")).startswith(b"HTTP/1.1 200"))
        only = self.say(get.replace(b"GET", b"HEAD"))
        self.assertTrue(only.startswith(b"HTTP/1.1 200") and only.endswith(b"\r\n\r\n"), only)
        for data, status in ((get.replace(b"metrics", b""), 404), (get.replace(b"GET", b"POST"), 405),
                             (get.replace(b"Host: x\r\n", b""), 400), (get.replace(b"1.1", b"2.0"), 505),
                             (b"\x16\x03\x01\x02\x00\x01\x00", 400), (b"GET / HTTP/1.1\r\nA" + b"a" * 20000, 431)):
            with self.subTest(data=data[:30]):
                self.assertTrue(self.say(data).startswith(b"HTTP/1.1 %d " % status), self.say(data)[:200])
        # Silence and half a head end with the deadline, without an answer.
        self.assertEqual(self.say(b"GET /metr"), b"")

    def test_many_silent_connections_do_not_keep_a_scraper_out(self):
        silent = [socket.create_connection(("127.0.0.1", self.metrics_port)) for _ in range(100)]
        self.addCleanup(lambda: [one.close() for one in silent])
        self.assertIn("towpath_build_info", self.metrics())
        self.assertEqual(self.status()["pid"], self.agent)

    def test_a_taken_address_is_an_error_at_the_start(self):
        result = self.towpath("true", options=("--metrics", str(self.metrics_port)))
        self.assertEqual(result.code, 125)
        self.assertRegex(result.err, f"^towpath: --metrics: cannot serve metrics on 127.0.0.1:{self.metrics_port}: Address already in use")
        for bad in ("x", "::1:80", "localhost:80", "0", "1.2.3.4"):
            self.assertEqual(self.towpath("true", options=("--metrics", bad)).code, 125, bad)
        self.assertIn("can be asked by other hosts", self.towpath("true", options=("--metrics", f"0.0.0.0:{proc.free_port()}")).err)


class Secrets(LabCase):
    def test_no_output_has_the_password(self):
        word = PASSWORD
        origin = self.use(Origin("127.0.0.80", 80))
        squid = self.use(Squid(self.directory, {NAME: "127.0.0.80"}, {"me": word}))
        right = f"http://me:{urllib.parse.quote(word, safe='')}@127.0.0.1:{squid.port}"
        outputs = []
        for url, code in ((right, 0), (right.replace("me:", "you:"), None)):
            self.proxy_values(url)
            for form in ("text", "json"):
                port = proc.free_port()
                log = os.path.join(self.directory, f"log.{form}")
                result = self.towpath("/bin/sh", "-c", f"""
                    curl -sv -m 10 http://{NAME}/
                    {TOWPATH} status; {TOWPATH} status --json
                    curl -s http://127.0.0.1:{port}/metrics""",
                    options=("--log-level", "debug", "--log-format", form, "--log-file", log, "--metrics", str(port)))
                self.assertIn("towpath_build_info", result.out)
                self.assertIn('"agents":[{', result.out)
                self.assertIn("http://127.0.0.1:%d" % squid.port, open(log).read())
                outputs += [result.out, result.err, open(log).read()]
            outputs += [each for one in (self.tool("check", "-c", self.config), self.tool("explain", "-c", self.config,
                        "--json", f"{NAME}:443"), self.tool("explain", "-c", self.config, f"{NAME}:443"))
                        for each in (one.out, one.err)]
        self.assertEqual(set(origin.paths()), {"/"})
        for text in outputs:
            for secret in SECRETS + (base64.b64encode(f"you:{word}".encode()).decode(),):
                self.assertNotIn(secret, text)


if __name__ == "__main__":
    main()
