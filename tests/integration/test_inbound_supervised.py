"""PROXY mode where no library is loaded: static servers, and dynamic ones under `--mode seccomp`. Everything that the library's
servers see must be the same here (test_inbound_proxy.py), also where the agent makes the sockets (lab/docker.py)."""

import test_inbound_proxy

from lab import docker
from lab.case import main, program
from lab.inbound import CLIENT, PYTHON, InboundCase, ask, connect, fields, proxy_v1, proxy_v2, read_all, request


@docker.too
class Static(test_inbound_proxy.Proxy):
    """The probe is linked statically against glibc; Python is a dynamic program without the library."""

    options = ("--mode", "seccomp")
    libc = "static"
    test_by_preload_alone = test_under_musl = None  # the library's

    def acceptor_program(self):
        return program(f"{self.libc}/acceptor")


@docker.too
class StaticMusl(Static):
    libc = "musl"


@docker.too
class Servers(InboundCase):
    options = ("--mode", "seccomp")

    def test_http_servers(self):
        self.reverse("X-Forwarded-For", more="proxyProtocol: optional")
        for kind in ("python", "nginx", "go static", "go cgo", "caddy"):
            with self.subTest(kind):
                port = self.http_server(kind)
                for number in range(20):
                    data = request(fields=[("X-Forwarded-For", f"198.51.100.{number}")])
                    answer = ask(("127.0.0.1", port), data, "127.0.0.2", (None, [5])[number % 2]).decode()
                    self.assertEqual(fields(answer).get("client"), f"198.51.100.{number}", answer)
                    header = (proxy_v1, proxy_v2)[number % 2](f"198.51.100.{number}")
                    answer = ask(("127.0.0.1", port), header + request(), "127.0.0.2", (None, [7])[number % 2]).decode()
                    self.assertEqual(fields(answer).get("client"), f"198.51.100.{number}", answer)


if __name__ == "__main__":
    main()
