# suite: quick
"""Programs that keep a name, an address or a connection for long."""

import http.client
import os

from lab import proc
from lab.case import TOWPATH, LabCase, main
from lab.origin import Origin
from lab.proxy import Proxy
from lab.tree import agent_of

NAME = "only-at-the-proxy.example"

_NGINX = """
daemon off;
worker_processes 2;
error_log stderr warn;
pid {place}/nginx.pid;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi;
  uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
  upstream kept {{ server {name}:80; keepalive 4; }}
  server {{
    listen 127.0.0.1:{port};
    proxy_http_version 1.1;
    location /plain/ {{ proxy_set_header Host {name}; proxy_pass http://{name}:80; }}
    location /kept/ {{ proxy_set_header Host {name}; proxy_set_header Connection ""; proxy_pass http://kept; }}
  }}
}}
"""

_KEEP_ALIVE = f"""
import http.client
connection = http.client.HTTPConnection("{NAME}")
for number in range(50):
    connection.request("GET", f"/{{number}}")
    answer = connection.getresponse().read().decode()
    assert answer.startswith(f"path=/{{number}}\\n"), answer
print(connection.sock.getpeername()[0])
"""


class Nginx(LabCase):
    def setUp(self):
        super().setUp()
        self.origin = self.use(Origin())
        self.proxy = self.use(Proxy("http", {NAME: self.origin.address}))
        self.proxy_values(self.proxy.url)
        self.port = proc.free_port()
        configuration = self.file("nginx.conf", _NGINX.format(place=self.directory, name=NAME, port=self.port))
        self.command = [self.need("nginx"), "-p", self.directory, "-c", configuration,
                        *(["-g", "user root;"] if os.geteuid() == 0 else [])]

    def fetch(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=proc.scaled(10))
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    def assert_served(self, path):
        status, text = self.fetch(path)
        self.assertEqual((status, text.splitlines()[:2]), (200, [f"path={path}", f"host={NAME}"]))

    def test_without_towpath_it_does_not_even_start(self):
        result = self.bare(*self.command)
        self.assertIn("host not found in upstream", result.err)
        self.assertEqual(result.code, 1)

    def test_the_address_it_keeps_outlives_agents(self):
        server = self.spawn("nginx", TOWPATH, "run", "-c", self.config, "--", *self.command)
        server.wait_listening(self.port)
        for number in range(3):
            self.assert_served(f"/plain/{number}")
            proc.kill([agent_of(server.pid)])
        self.assert_served("/plain/last")
        self.assertEqual(self.proxy.targets(), [f"{NAME}:80"] * 4)
        self.assertEqual(self.dns.queries, [])

    def test_connections_that_it_keeps_outlive_agents(self):
        server = self.spawn("nginx", TOWPATH, "run", "-c", self.config, "--", *self.command)
        server.wait_listening(self.port)
        for number in range(20):
            self.assert_served(f"/kept/{number}")
        # At most one connection for each worker.
        tunnels = len(self.proxy.connections)
        self.assertLessEqual(tunnels, 2)
        proc.kill([agent_of(server.pid)])
        for number in range(20):
            self.assert_served(f"/kept/after-{number}")
        self.assertLessEqual(len(self.proxy.connections), 2)

    def test_a_tunnel_that_is_refused_is_a_bad_gateway(self):
        server = self.spawn("nginx", TOWPATH, "run", "-c", self.config, "--", *self.command)
        server.wait_listening(self.port)
        del self.proxy.names[NAME]
        self.assertEqual(self.fetch("/plain/refused")[0], 502)
        server.wait_line("connect\\(\\) failed")


class KeepAlive(LabCase):
    """Many requests, one tunnel."""

    def setUp(self):
        super().setUp()
        self.origin = self.use(Origin())
        self.proxy = self.use(Proxy("socks5", {NAME: self.origin.address}))
        self.proxy_values(self.proxy.url)

    def assert_one_tunnel(self, requests):
        self.assertEqual(self.proxy.targets(), [f"{NAME}:80"])
        self.assertEqual(len(self.origin.hits), requests)
        self.assertEqual(self.dns.queries, [])

    def test_curl(self):
        urls = [f"http://{NAME}/{number}" for number in range(20)]
        result = self.assert_ran(self.towpath(self.need("curl"), "-sS", "--fail", *urls))
        self.assertEqual(result.out.count("path=/"), 20)
        self.assert_one_tunnel(20)

    def test_wget(self):
        urls = [f"http://{NAME}/{number}" for number in range(20)]
        result = self.assert_ran(self.towpath(self.need("wget"), "-q", "-O", "-", "--tries=1", *urls))
        self.assertEqual(result.out.count("path=/"), 20)
        self.assert_one_tunnel(20)

    def test_python(self):
        result = self.assert_ran(self.towpath("/usr/bin/python3", "-c", _KEEP_ALIVE))
        self.assertRegex(result.out, r"^198\.1[89]\.")
        self.assert_one_tunnel(50)


if __name__ == "__main__":
    main()
