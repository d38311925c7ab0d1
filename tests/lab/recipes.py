"""What every recipe has to show: a program in its container reaches a name that only the proxy knows, whatever kind of proxy
it is, and a server there sees its clients' addresses behind haproxy."""

import contextlib
import os

from lab import netns, oci, proc, root_fs
from lab.dante import Dante
from lab.inbound import CLIENT, InboundCase, ask, connect, request
from lab.origin import Origin, RawOrigin
from lab.squid import Squid
from lab.tls import Authority, Stunnel

NAME = "only-at-the-proxy.example"
AUTHORITY = "/etc/ssl/authority.pem"  # in the containers
_TLS_PLACE = "127.0.0.21"
_FAR_PLACE = "127.0.0.80"


class RecipeCase(InboundCase):
    """`release` is the unpacked release; `kinds` the URL of a proxy of each kind; NAME leads to `web` and `raw` there."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.release = root_fs.release(os.path.join(cls.class_directory, "release"))
        netns.add_address(f"{CLIENT}/32")
        cls.web = cls.start(Origin(_FAR_PLACE, 80))
        cls.secure = cls.start(Origin(_FAR_PLACE, 443))  # port 443 decides which proxy, not what is spoken there
        cls.raw = cls.start(RawOrigin(_FAR_PLACE, banner=b"welcome\r\n"))
        names = {NAME: _FAR_PLACE}
        cls.squid = cls.start(Squid(cls.class_directory, names))
        cls.dante = cls.start(Dante(cls.class_directory, names))
        cls.authority = Authority(cls.class_directory)
        certificate = cls.authority.certificate("proxy", f"IP:{_TLS_PLACE}")
        cls.stunnel = cls.start(Stunnel(cls.class_directory, cls.squid, certificate, address=_TLS_PLACE))
        cls.kinds = {"http": cls.squid.url, "https": f"https://{_TLS_PLACE}:{cls.stunnel.port}", "socks5": cls.dante.url}

    def proxy_environment(self, url):
        return {"http_proxy": url, "https_proxy": "", "no_proxy": "", "SSL_CERT_FILE": AUTHORITY}

    def image(self, make, path):
        """A root as `make` (of lab/root_fs) makes it, at `path`: made once in a class, then copied."""
        first = os.path.join(self.class_directory, "pristine-" + make.__name__)
        return (root_fs.RootFs(first) if os.path.isdir(first) else make(first)).copy(path)

    def trusting(self, root):
        """The root with the authority of the https proxy's certificate in it, as the operator's image has it."""
        root.add(self.authority.file, AUTHORITY)
        return root

    def saw(self, url):
        """The log of the proxy behind `url`."""
        return self.dante.targets() if url.startswith("socks5") else [line.split()[1] for line in self.squid.access_log]

    @contextlib.contextmanager
    def through(self, url, target):
        """What runs inside makes the proxy see one more request for `target`."""
        before = sum(target in one for one in self.saw(url))
        yield
        proc.wait_until(lambda: sum(target in one for one in self.saw(url)) > before, f"{target} at {url}")

    def assert_client(self, root, words, url, **how):
        """`words` start the probe `names`, which is the container's program here, and reach NAME."""
        with self.through(url, f"{NAME}:{self.raw.port}"):
            result = oci.run(self, root, words, stdin=f"tcp {NAME} {self.raw.port}\n", **how)
            self.assertEqual(result.code, 0, result)
            self.assertIn("welcome", result.out, result.err)
        return result

    def assert_lost(self, root, words, **how):
        """The same without a recipe."""
        result = oci.run(self, root, words, stdin=f"tcp {NAME} {self.raw.port}\n", **how)
        self.assertNotIn("welcome", result.out)

    def assert_server_fetches(self, port, url, far_port=None):
        """The server at `port` asks for a page of NAME on behalf of its client."""
        far_port = far_port or self.web.port
        where = NAME if far_port == 80 else f"{NAME}:{far_port}"
        with self.through(url, NAME):
            answer = ask((CLIENT, port), request(f"/fetch?http://{where}/page"), CLIENT).decode()
            self.assertIn("path=/page", answer)

    def assert_sees_clients(self, port, how="send-proxy-v2", more="", frontend=""):
        """Through haproxy, which the kernel shows as 127.0.0.1."""
        front = self.haproxy(how, port, more=more, frontend=frontend)
        answer = ask((CLIENT, front), request("/who", [("X-Forwarded-For", "6.6.6.6")]), CLIENT).decode()
        self.assertIn(f"peer={CLIENT}:", answer)

    def wait_open(self, server, port):
        """A server behind PROXY headers says nothing to a probe: that it listens is enough."""
        proc.wait_until(lambda: any(at[1] == port for at, _ in proc.listeners()), f"port {port}", 20, server)


__all__ = ["AUTHORITY", "CLIENT", "NAME", "RecipeCase", "connect"]
