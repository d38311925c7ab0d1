# suite: quick
"""Servers under the supervisor: nobody keeps their listeners, their sockets or their tunnels for them."""

import http.client
import json
import os
import subprocess

from lab import docker, netns, proc, tree
from lab.case import BUILD, LabCase, main, program
from lab.machine import Machine, address
from lab.origin import Origin
from lab.proc import wait_until
from lab.proxy import Proxy

NAME = "tunnelled.example"


class ServerCase(LabCase):
    def setUp(self):
        super().setUp()
        self.origin = self.use(Origin("127.0.0.80"))
        self.proxy = self.use(Proxy("http", {NAME: self.origin.address}))
        self.proxy_values(self.proxy.url)

    def start_server(self, *command, options=()):
        """Standard input is a pipe."""
        return self.use(proc.Process("server", self.line(*command, options=options), self.directory, self._env(None),
                                     self.directory, stdin=subprocess.PIPE))

    def fetch(self, port, path="/", host="127.0.0.1"):
        connection = http.client.HTTPConnection(host, port, timeout=proc.scaled(10))
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text


@docker.too
class GoServers(ServerCase):
    kind = "go-static"

    def test_listening_again_on_the_same_port(self):
        for how in ("again", "shared"):
            with self.subTest(how=how):
                result = self.assert_ran(self.towpath(program(f"{self.kind}/goserver"), how, 50))
                self.assertEqual(result.out, "listened=50\n")

    def test_a_server_that_is_a_client(self):
        server = self.start_server(program(f"{self.kind}/goserver"), "http", "127.0.0.1:0")
        port = int(server.wait_line(r"listening=127.0.0.1:(\d+)").group(1))
        for number in range(20):
            status, text = self.fetch(port, f"/fetch?http://{NAME}/{number}")
            self.assertEqual((status, text.splitlines()[:2]), (200, [f"path=/{number}", f"host={NAME}"]))
        self.assertRegex(self.fetch(port)[1], r"peer=127\.0\.0\.1:")
        self.assertEqual(self.proxy.targets(), [f"{NAME}:80"] * 20)
        del self.proxy.names[NAME]
        self.assertEqual(self.fetch(port, f"/fetch?http://{NAME}/refused")[0], 502)
        server.popen.stdin.close()
        self.assertEqual(server.wait(), 0)

    def test_a_relay(self):
        """Both directions through a Go program's own epoll set, and the end of each."""
        server = self.start_server(program(f"{self.kind}/goserver"), "relay", "127.0.0.1:0", f"{NAME}:80")
        port = int(server.wait_line(r"listening=127.0.0.1:(\d+)").group(1))
        for number in range(20):
            self.assertEqual(self.fetch(port, f"/{number}")[1].splitlines()[0], f"path=/{number}")
        for one in self.proxy.connections:
            self.assertTrue(one.ended.wait(proc.scaled(5)))

    def test_a_listener_that_ends_with_its_process(self):
        server = self.start_server(program(f"{self.kind}/goserver"), "http", "127.0.0.1:0")
        port = int(server.wait_line(r"listening=127.0.0.1:(\d+)").group(1))
        child = wait_until(lambda: next((pid for pid in netns.processes() if tree.name(pid) == "goserver"), None),
                           "the program")
        os.kill(child, 9)
        self.assertEqual(server.wait(), -9)
        with self.assertRaises(ConnectionRefusedError):
            self.fetch(port)


class CgoServers(GoServers):
    kind = "go-cgo"


@docker.too
class Caddy(ServerCase):
    def configuration(self, path, port, admin):
        answer = {"handler": "static_response", "body": path}
        onward = {"handler": "reverse_proxy", "upstreams": [{"dial": f"{NAME}:80"}]}
        routes = [{"match": [{"path": ["/version"]}], "handle": [answer]}, {"handle": [onward]}]
        server = {"listen": [f"127.0.0.1:{port}"], "routes": routes, "automatic_https": {"disable": True}}
        return json.dumps({"admin": {"listen": f"127.0.0.1:{admin}"}, "apps": {"http": {"servers": {"one": server}}}})

    def test_as_reverse_proxy_and_reloaded(self):
        port, admin = proc.free_port(), proc.free_port()
        command = [self.need("caddy"), "run", "--config", self.file("first.json", self.configuration("first", port, admin))]
        server = self.start_server(*command)
        server.wait_line("serving initial configuration")
        self.assertEqual(self.fetch(port, "/version")[1], "first")
        for number in range(10):
            self.assertEqual(self.fetch(port, f"/{number}")[1].splitlines()[0], f"path=/{number}")
        for turn in range(5):
            connection = http.client.HTTPConnection("127.0.0.1", admin, timeout=proc.scaled(10))
            connection.request("POST", "/load", self.configuration(f"turn {turn}", port, admin),
                               {"Content-Type": "application/json"})
            self.assertEqual(connection.getresponse().status, 200)
            connection.close()
            self.assertEqual(self.fetch(port, "/version")[1], f"turn {turn}")
            self.assertEqual(self.fetch(port, f"/{turn}")[1].splitlines()[0], f"path=/{turn}")
        self.assertEqual(set(self.proxy.targets()), {f"{NAME}:80"})
        self.assertFalse(self.dns.queries)


@docker.too
class StaticServers(ServerCase):
    libc = "static"

    def machine(self):
        return Machine(self, libc=self.libc)

    def test_a_closed_listener_is_closed(self):
        m = self.machine()
        for kind in ("close", "child", "shutdown"):
            with self.subTest(kind=kind):
                port = proc.free_port()
                fd = m.open()
                self.assertEqual(m.result("setsockopt", fd, 1, 2, b"\1\0\0\0", 4), 0)
                self.assertEqual(m.result("bind", fd, address(("127.0.0.1", port)), 16), 0)
                self.assertEqual(m.result("listen", fd, 5), 0)
                m.connect(m.open(), ("127.0.0.1", port))
                if kind == "child":
                    m.fork().leave()
                if kind == "shutdown":
                    m.result("shutdown", fd, 2)
                m.close(fd)
                wait_until(lambda: m.connect(m.open(), ("127.0.0.1", port)) == "ECONNREFUSED", "refusal")
                again = m.open()
                m.result("setsockopt", again, 1, 2, b"\1\0\0\0", 4)
                self.assertEqual(m.result("bind", again, address(("127.0.0.1", port)), 16), 0)
                self.assertEqual(m.result("listen", again, 5), 0)
                m.close(again)

    def test_ends_are_seen_at_once(self):
        """The other side of a loopback connection and of a tunnel learns of close and shutdown."""
        m = self.machine()
        listener = m.open()
        port = proc.free_port()
        m.result("bind", listener, address(("127.0.0.1", port)), 16)
        m.result("listen", listener, 5)
        fd = m.open()
        self.assertEqual(m.connect(fd, ("127.0.0.1", port)), 0)
        peer = m.result("accept", listener, 0, 0)
        m.close(fd)
        self.assertEqual((m.poll(peer, 1), m.read(peer)), ("IN", b""))
        tunnel = m.open()
        self.proxy.names["192.0.2.7"] = self.origin.address
        self.assertEqual(m.connect(tunnel, ("192.0.2.7", 80)), 0)
        m.close(tunnel)
        self.assertTrue(self.proxy.connections[-1].ended.wait(proc.scaled(5)))


@docker.too
class NothingIsLeft(ServerCase):
    """A shell is the program, so that the agent can be looked at when its child has done it."""

    def setUp(self):
        super().setUp()
        self.minimal = self.use(proc.Process("minimal_proxy", [os.path.join(BUILD, "bench", "minimal_proxy")], self.directory))
        self.proxy_values("http://127.0.0.1:%s" % self.minimal.wait_line(r"http=(\d+)").group(1))

    def agent_holds(self, agent):
        with open(f"/proc/{agent}/status") as file:
            memory = int(tree.status_fields(file.read())["VmRSS"].split()[0])
        return len(os.listdir(f"/proc/{agent}/fd")), memory

    def around_a_child(self, *command, ready=None):
        """Descriptors and kilobytes of the agent before the child, while it is ready, and after it; and all that was written."""
        pipe = os.path.join(self.directory, "input")
        if not os.path.exists(pipe):
            os.mkfifo(pipe)
        script = 'echo begun; read line; "$@" <' + pipe + "; echo ended; read line"
        server = self.start_server("sh", "-c", script, "sh", *command, options=("--mode", "seccomp"))
        server.wait_line("begun")
        agent = tree.agent_of(server.pid)
        seen = [self.agent_holds(agent)]
        server.popen.stdin.write(b"\n")
        server.popen.stdin.flush()
        with open(pipe, "w"):
            if ready:
                server.wait_line(ready, timeout=120)
                wait_until(lambda: self.agent_holds(agent)[0] <= seen[0][0] + 16, "close of the agent's copies")
                seen.append(self.agent_holds(agent))
        server.wait_line("ended", timeout=120)
        try:
            wait_until(lambda: self.agent_holds(agent)[0] <= seen[0][0] + 16, "close of the agent's copies")
        except AssertionError:
            self.fail(f"descriptors and kilobytes of the agent: {seen}, at last {self.agent_holds(agent)}")
        seen.append(self.agent_holds(agent))
        return seen, server

    def test_a_hundred_thousand_sockets(self):
        for command in ((program("go-static/goclient"), "sockets", "100000"), (program("musl/sockets"), "count", "100000")):
            with self.subTest(command=os.path.basename(command[0])):
                seen, server = self.around_a_child(*command)
                self.assertRegex(server.out, "(?m)^(ok=100000|failures=0)$")
                self.assertLess(seen[-1][1], seen[0][1] + 8192, "kilobytes of the agent")

    def test_ten_thousand_tunnels(self):
        """9500, with what else a process has open, are below the usual limits."""
        (before, during, after), server = self.around_a_child(
            program("go-static/goclient"), "hold", "9500", f"{NAME}:8", ready="held=9500")
        self.assertRegex(server.out, "(?m)^ok=9500$")
        self.assertLess(during[0], before[0] + 200, "descriptors of the agent while the tunnels stand")
        self.assertLess(during[1], 40 * 1024, "kilobytes of the agent while the tunnels stand")
        self.assertLess(after[1], 40 * 1024)


if __name__ == "__main__":
    main()
