"""Real senders in front of real, unmodified servers: haproxy, nginx and curl say who the client is; nginx, python, node, java
and sshd see him."""

import os
import re
import socket
import subprocess
import threading

from lab import netns, proc
from lab.case import TOWPATH, main
from lab.inbound import CLIENT, PYTHON, STRANGER, InboundCase, Answers, ask, connect, fields, nginx_server, read_all, request

SERVERS = ("python", "asyncio", "node", "java", "nginx", "go static", "go cgo", "caddy")
SENDERS = ("send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id,ssl,authority")


class Peers(InboundCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for address in (STRANGER, CLIENT, "198.51.100.8"):
            netns.add_address(f"{address}/32")

    def test_haproxy_sends_the_proxy_header(self):
        self.reverse(more="proxyProtocol: require")
        for kind in SERVERS:
            port = self.http_server(kind)
            for sender in SENDERS:
                with self.subTest(server=kind, sender=sender):
                    front = self.haproxy(sender, port, frontend="  unique-id-format %[uuid()]" if "unique" in sender else "")
                    for client in (CLIENT, "198.51.100.8"):
                        answer = ask((client, front), request(), client).decode()
                        self.assertEqual(fields(answer)["client"], client)

    def test_a_server_with_workers_under_another_user(self):
        """nginx as it usually runs: the workers gave up root, and share a listener or have one each."""
        for mode, headers in (("proxyProtocol: require", ""), ("", "X-Forwarded-For")):
            for kind in ("", " reuseport"):
                with self.subTest(mode=mode, kind=kind):
                    self.reverse(headers, more=mode)
                    more = nginx_server(self.free_port()).replace("; location", f"{kind}; location", 1)
                    port = self.nginx(more, master="on", name=f"workers{len(mode)}{len(kind)}")
                    front = self.haproxy("send-proxy-v2", port) if mode else port
                    for number in range(20):
                        client = (CLIENT, "198.51.100.8")[number % 2]
                        answer = (ask((client, front), request(), client) if mode else
                                  ask(("127.0.0.1", port), request(fields=[("X-Forwarded-For", client)]), "127.0.0.2"))
                        self.assertEqual(fields(answer.decode())["client"], client)

    def test_haproxy_forwards_http(self):
        """`option forwardfor` adds a line of its own behind the client's; connections are shared by clients."""
        self.reverse("X-Forwarded-For")
        for kind in SERVERS:
            with self.subTest(kind):
                port = self.http_server(kind)
                front = self.haproxy("", port, more="  mode http\n  option forwardfor\n  http-reuse always",
                                     frontend="  mode http")
                for number in range(6):
                    client = (CLIENT, "198.51.100.8")[number % 2]
                    answer = ask((client, front), request(fields=[("X-Forwarded-For", "6.6.6.6")]), client).decode()
                    self.assertEqual(fields(answer)["client"], client)
                    self.assertNotIn("6.6.6.6", answer)

    def test_nginx_forwards_http_with_a_pool_of_connections(self):
        """Two clients at the same time, over few connections that nginx keeps: each request has its own client."""
        self.reverse("X-Forwarded-For")
        for kind in SERVERS:
            with self.subTest(kind):
                port = self.http_server(kind)
                front = self.nginx("http { access_log off; upstream one { server 127.0.0.1:%d; keepalive 4; } server { listen "
                                   "0.0.0.0:%d; location / { proxy_pass http://one; proxy_http_version 1.1; "
                                   'proxy_set_header Connection ""; proxy_set_header X-Forwarded-For '
                                   "$proxy_add_x_forwarded_for; } } }" % (port, self.free_port()), bare=True,
                                   name=f"front-{kind.replace(' ', '-')}")
                wrong = []

                def ask_often(client):
                    with connect((client, front), client) as peer:
                        answers = Answers(peer)
                        for number in range(50):
                            peer.sendall(request(f"/{number}", [("X-Forwarded-For", "6.6.6.6")], close=False))
                            answer = answers.next()[1]
                            if fields(answer)["client"] != client or "6.6.6.6" in answer:
                                wrong.append((client, answer))
                crowd = [threading.Thread(target=ask_often, args=(client,)) for client in (CLIENT, "198.51.100.8")]
                for each in crowd:
                    each.start()
                for each in crowd:
                    each.join()
                self.assertEqual(wrong, [])

    def test_caddy_forwards_http(self):
        self.reverse("X-Forwarded-For")
        port, own = self.http_server("node"), self.free_port()
        path = self.file("Caddyfile", "{\n admin off\n auto_https off\n}\nhttp://:%d {\n reverse_proxy 127.0.0.1:%d\n}\n" % (own, port))
        self.spawn("caddy", self.need("caddy"), "run", "--adapter", "caddyfile", "--config", path)
        proc.wait_until(lambda: any(at[1] == own for at, _ in proc.listeners()), "caddy listens", 20)
        for number in range(6):
            client = (CLIENT, "198.51.100.8")[number % 2]
            answer = ask((client, own), request(fields=[("X-Forwarded-For", "6.6.6.6")]), client).decode()
            self.assertEqual(fields(answer)["client"], client)
            self.assertNotIn("6.6.6.6", answer)

    def test_nginx_streams_with_the_proxy_header(self):
        module = "/usr/lib/nginx/modules/ngx_stream_module.so"
        if not os.path.exists(module):
            self.skipTest("nginx's stream module is not installed")
        self.reverse(more="proxyProtocol: require")
        port = self.http_server("node")
        own = self.free_port()
        config = ("stream { server { listen 0.0.0.0:%d; proxy_pass 127.0.0.1:%d; proxy_protocol on; } }" % (own, port))
        place = os.path.join(self.directory, "stream")
        os.makedirs(place)
        path = self.file("stream.conf", f"load_module {module};\n" + "daemon off; master_process off; pid %s/pid; events {}\n%s\n"
                         % (place, config))
        self.spawn("stream", self.need("nginx"), "-p", place, "-c", path, "-e", f"{place}/error.log")
        proc.wait_until(lambda: any(at[1] == own for at, _ in proc.listeners()), "nginx listens")
        self.assertEqual(fields(ask((CLIENT, own), request(), CLIENT).decode())["client"], CLIENT)

    def test_a_websocket_through_nginx(self):
        self.reverse("X-Forwarded-For")
        for kind in ("node", "go static", "go cgo"):
            with self.subTest(kind):
                self.websocket(kind)

    def websocket(self, kind):
        port = self.http_server(kind)
        front = self.nginx("http { access_log off; server { listen 0.0.0.0:%d; location / { proxy_pass http://127.0.0.1:%d; "
                           "proxy_http_version 1.1; proxy_set_header Connection upgrade; proxy_set_header Upgrade echo; "
                           "proxy_set_header X-Forwarded-For $remote_addr; } } }" % (self.free_port(), port), bare=True,
                           name="front-" + kind.replace(" ", "-"))
        payload = os.urandom(4 << 20)
        with connect((CLIENT, front), CLIENT, timeout=30) as peer:
            peer.sendall(request(fields=[("Connection", "Upgrade"), ("Upgrade", "echo")], close=False))
            sender = threading.Thread(target=peer.sendall, args=(payload,))  # nginx knows no half-closed streams
            sender.start()
            data = b""
            while len(data) < len(payload) or not data.endswith(payload[-64:]):
                part = peer.recv(1 << 16)
                self.assertNotEqual(part, b"")
                data += part
            sender.join()
        self.assertIn(f"client={CLIENT}\n".encode(), data[:300])
        self.assertTrue(data.endswith(payload))

    def test_curl_says_who_it_is(self):
        self.reverse(more="proxyProtocol: require", origins=f"{CLIENT}/32")
        port = self.http_server("python")
        done = self.bare(self.need("curl"), "-sS", "--haproxy-protocol", "--interface", CLIENT, f"http://{CLIENT}:{port}/")
        self.assertEqual(fields(self.assert_ran(done).out)["client"], CLIENT)
        done = self.bare(self.need("curl"), "-sS", "--max-time", "10", f"http://{CLIENT}:{port}/", "--interface", CLIENT)
        self.assertNotEqual(done.code, 0)  # trusted, and no header

    def test_a_server_that_speaks_first(self):
        """sshd: says its version before the client says anything, and logs under the client's address."""
        self.reverse(more="proxyProtocol: require")
        key = os.path.join(self.directory, "key")
        subprocess.run([self.need("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        os.makedirs("/run/sshd", exist_ok=True)
        port = self.free_port()
        log = os.path.join(self.directory, "sshd.log")
        server = self.spawn("sshd", TOWPATH, "run", "-c", self.config, "--", self.need("sshd"), "-D", "-f", "/dev/null",
                            "-h", key, "-p", port, "-E", log, "-o", "ListenAddress=127.0.0.1", "-o", "UsePAM=no",
                            "-o", "LogLevel=VERBOSE")
        proc.wait_until(lambda: any(at[1] == port for at, _ in proc.listeners()), "sshd listens")
        front = self.haproxy("send-proxy-v2", port)
        with connect((CLIENT, front), CLIENT) as peer:
            self.assertTrue(peer.recv(100).startswith(b"SSH-2.0-"))
            peer.sendall(b"SSH-2.0-test\r\n")
            peer.shutdown(socket.SHUT_WR)
            read_all(peer)
        proc.wait_until(lambda: CLIENT in open(log).read(), "the client in sshd's log", process=server)
        self.assertRegex(open(log).read(), rf"(Connection from|closed by|reset by) {CLIENT}")
        # A direct connection from a trusted address without a header never gets a greeting.
        with connect(("127.0.0.1", port), "127.0.0.2", timeout=1) as peer:
            peer.sendall(b"SSH-2.0-test\r\n")
            self.assertEqual(read_all(peer)[0], b"")


class Untouched(InboundCase):
    """No reverseProxy configured: accept costs nothing, neither a call nor a question."""

    CODE = ("import socket, threading\ns = socket.create_server(('127.0.0.1', 0)); port = s.getsockname()[1]\n"
            "for _ in range(5):\n"
            "    c = socket.create_connection(('127.0.0.1', port)); p, a = s.accept(); p.getpeername(); p.close(); c.close()\n"
            "print('done')\n")

    def calls(self, under_towpath):
        log = os.path.join(self.directory, f"strace-{under_towpath}.log")
        trace = ["strace", "-qq", "-o", log, "-e", "trace=%network", PYTHON, "-c", self.CODE]
        self.need("strace")
        result = self.towpath(*trace) if under_towpath else self.bare(*trace)
        self.assert_ran(result)
        with open(log) as file:
            return re.findall(r"(?m)^(\w+)\(", file.read())

    def test_accept_costs_nothing(self):
        for section in ("", "  reverseProxy:\n    trustedOrigins: []\n    headers: []\n",
                        "  reverseProxy:\n    trustedOrigins: [10.0.0.0/8]\n"):
            with self.subTest(section):
                self.values("coderd:\n  proxy: {http: 'http://127.0.0.1:9'}\n" + section)
                wanted = [call for call in self.calls(False) if "accept" in call or "sock" in call]
                ours = [call for call in self.calls(True) if "accept" in call or "sock" in call]
                # connect() to this host asks nothing; getpeername may look who it is. Accept adds no call at all.
                self.assertEqual(ours.count("accept4"), wanted.count("accept4"))
                self.assertEqual(ours.count("getsockname"), wanted.count("getsockname"))
                self.assertNotIn("recvfrom", ours)

    def test_a_reverse_proxy_alone_starts_the_agent(self):
        self.reverse(more="proxyProtocol: require")
        self.assertEqual(self.assert_ran(self.towpath("/bin/echo", "on")).out, "on\n")
        _, port = self.acceptor("block")
        self.assertEqual(len(netns.agents()), 1)
        self.assertEqual(self.assert_ran(self.towpath(PYTHON, "-c", "import socket; s = socket.create_connection(('127.0.0.1', "
                                                      f"{port})); print(s.getpeername()[1] == {port})")).out, "True\n")


if __name__ == "__main__":
    main()
