# suite: quick
"""The two files alone, in a root directory that holds nothing else but the program: as container, read-only, as nobody."""

import os
import shlex

from lab import oci, root_fs
from lab.case import main, program
from lab.recipes import AUTHORITY, NAME, RecipeCase
from lab.root_fs import BUSYBOX


class EmptyRoot(RecipeCase):
    def setUp(self):
        super().setUp()
        self.need(BUSYBOX)
        self.root = self.trusting(root_fs.empty(os.path.join(self.directory, "root")))
        for file in ("towpath", "libtowpath.so"):
            self.root.add(os.path.join(self.release, file), f"/{file}")
        self.root.add(program("go-static/goserver"), "/coderd")
        self.root.add(BUSYBOX, "/busybox")

    def test_what_the_container_is(self):
        """Else nothing below would mean anything."""
        status = oci.run(self, self.root, ["/busybox", "cat", "/proc/self/status"]).out.split("\n")
        lines = dict(line.split(":\t", 1) for line in status if ":\t" in line)
        self.assertEqual(lines["Uid"].split(), ["65534"] * 4)
        self.assertEqual((lines["NoNewPrivs"], lines["Seccomp"], int(lines["CapEff"], 16)), ("1", "2", 0))
        self.assertIn("Read-only", oci.run(self, self.root, ["/busybox", "touch", "/file"], uid=0).err)
        self.assertIn("not permitted", oci.run(self, self.root, ["/busybox", "unshare", "-U", "/busybox", "true"]).err)

    def test_a_busybox_client(self):
        words = ["/busybox", "wget", "-q", "-O", "-", f"http://{NAME}/page"]
        for kind, url in self.kinds.items():
            with self.subTest(kind), self.through(url, NAME):
                result = oci.run(self, self.root, ["/towpath", "run", "--", *words], env=self.proxy_environment(url))
                self.assertEqual(result.code, 0, result)
                self.assertIn("path=/page", result.out)
        # It would use http_proxy by itself: bare, it is not told.
        self.assertNotEqual(oci.run(self, self.root, words).code, 0)

    def test_a_go_server(self):
        for kind, url in self.kinds.items():
            with self.subTest(kind):
                port = self.free_port()
                server = oci.start(self, self.root, ["/towpath", "run", "--", "/coderd", "run"], env={
                    **self.proxy_environment(url), "CODERD_ADDRESS": f"0.0.0.0:{port}", "PROXY_TRUSTED_ORIGINS": "127.0.0.0/8",
                    "PROXY_TRUSTED_HEADERS": "X-Forwarded-For"})
                server.wait_line("listening=")
                self.assert_server_fetches(port, url)
                self.assert_sees_clients(port, "", "  mode http\n  option forwardfor\n", "  mode http")

    def test_a_go_server_behind_the_proxy_protocol(self):
        self.root.write("/values.yaml", f"proxy:\n  http: {self.kinds['https']}\n  tls: {{caFile: {AUTHORITY}}}\n"
                        "reverseProxy:\n  trustedOrigins: [127.0.0.0/8]\n  proxyProtocol: require\n")
        port = self.free_port()
        server = oci.start(self, self.root, ["/towpath", "run", "-c", "/values.yaml", "--", "/coderd", "run"],
                           env={"CODERD_ADDRESS": f"0.0.0.0:{port}"})
        server.wait_line("listening=")
        self.assert_sees_clients(port)
        self.assert_server_fetches(port, self.kinds["https"])

    def test_a_bare_go_server(self):
        """What the tests above could not tell from success without towpath."""
        port = self.free_port()
        server = oci.start(self, self.root, ["/coderd", "run"], env={"CODERD_ADDRESS": f"0.0.0.0:{port}"})
        server.wait_line("listening=")
        with self.assertRaises(AssertionError):
            self.assert_sees_clients(port, "", "  mode http\n  option forwardfor\n", "  mode http")


class Host(RecipeCase):
    def test_the_drop_in_of_systemd(self):
        """Its command and its variables, in a root that has the files where the package puts them."""
        with open(os.path.join(root_fs._REPOSITORY, "deploy", "systemd", "towpath.conf")) as file:
            lines = [line.strip().partition("=")[::2] for line in file if "=" in line and not line.startswith("#")]
        commands = [value for name, value in lines if name == "ExecStart"]
        self.assertEqual(commands[0], "", "the unit's own command would be started as well")
        variables = dict(value.partition("=")[::2] for name, value in lines if name == "Environment")
        root = self.trusting(root_fs.empty(os.path.join(self.directory, "root")))
        root.add(os.path.join(self.release, "towpath"), "/usr/bin/towpath")
        root.add(os.path.join(self.release, "libtowpath.so"), "/usr/lib/libtowpath.so")
        root.add(program("go-static/goserver"), "/usr/bin/coder")
        root.write(variables["TOWPATH_CONFIG"], f"proxy: {{http: '{self.kinds['http']}', ports: [80, 443]}}\n")
        port = self.free_port()
        server = oci.start(self, root, shlex.split(commands[1]), env={**variables, "CODERD_ADDRESS": f"0.0.0.0:{port}"})
        server.wait_line("listening=")
        self.assert_server_fetches(port, self.kinds["http"])


if __name__ == "__main__":
    main()
