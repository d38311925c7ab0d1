# suite: full
"""deploy/docker: the Dockerfile's images, carried out instruction by instruction, on bases of every kind."""

import os

import yaml

from lab import dockerfile, oci, root_fs
from lab.case import main, program
from lab.dockerfile import Image
from lab.recipes import NAME, RecipeCase

DOCKER = os.path.join(root_fs._REPOSITORY, "deploy", "docker")
BASES = {"scratch": root_fs.empty, "distroless": root_fs.distroless, "alpine": root_fs.musl, "debian": root_fs.debian}


class Docker(RecipeCase):
    def base(self, kind):
        """An image of that kind with coderd in it, as somebody made it who knew nothing of towpath."""
        root = self.trusting(self.image(BASES[kind], os.path.join(self.directory, kind)))
        root.add(program("go-static/goserver"), "/usr/bin/coderd")
        return Image(root, entrypoint=["/usr/bin/coderd"], cmd=["run"])

    def build(self, target, kind):
        return dockerfile.build(os.path.join(DOCKER, "Dockerfile"), target, self.release, {"program": self.base(kind)},
                                os.path.join(self.directory, f"{target}-{kind}"), {"PROGRAM": "program"})

    def serve(self, image, url, words=()):
        port = self.free_port()
        server = oci.start(self, image.root, image.words(*words), uid=image.user, env={
            **image.env, **self.proxy_environment(url), "CODERD_ADDRESS": f"0.0.0.0:{port}",
            "PROXY_TRUSTED_ORIGINS": "127.0.0.0/8", "PROXY_TRUSTED_HEADERS": "X-Forwarded-For"})
        server.wait_line("listening=")
        self.assert_server_fetches(port, url)
        self.assert_sees_clients(port, "", "  mode http\n  option forwardfor\n", "  mode http")
        return server

    def test_carried(self):
        for number, kind in enumerate(BASES):
            with self.subTest(kind):
                image = self.build("carried", kind)
                self.assertEqual(image.user, 65534)
                self.serve(image, list(self.kinds.values())[number % 3])

    def test_a_dynamic_client_is_carried(self):
        for kind in ("distroless", "alpine", "debian"):
            with self.subTest(kind):
                image = self.build("carried", kind)
                url = self.kinds["socks5"]
                self.assert_client(image.root, image.words("client"), url, env=self.proxy_environment(url))
                self.assert_lost(image.root, ["client"])

    def test_carried_by_script(self):
        for kind in ("alpine", "debian"):
            with self.subTest(kind):
                self.serve(self.build("carried-by-script", kind), self.kinds["http"])

    def test_preloaded(self):
        """The base's own entrypoint stays; here it is the client."""
        for number, kind in enumerate(("distroless", "alpine", "debian")):
            with self.subTest(kind):
                image = self.build("preloaded", kind)
                url = list(self.kinds.values())[number]
                env = {**image.env, **self.proxy_environment(url)}
                self.assert_client(image.root, ["client"], url, env=env, uid=image.user)
                self.assert_lost(image.root, ["client"], env=self.proxy_environment(url))

    def test_the_image_of_the_two_files(self):
        image = self.build("towpath", "scratch")
        self.assertEqual(sorted(os.listdir(image.root.path)), ["libtowpath.so", "towpath"])
        result = oci.run(self, image.root, ["/towpath", "check"], uid=image.user, env={"http_proxy": "http://127.0.0.1:3128"})
        self.assertEqual(result.code, 0, result)

    def test_compose(self):
        """Only what it says of the container is carried out: files, words, user."""
        with open(os.path.join(DOCKER, "compose.yaml")) as file:
            service = yaml.safe_load(file)["services"]["coderd"]
        self.assertTrue(service["read_only"])
        self.assertEqual((service["cap_drop"], service["security_opt"]), (["ALL"], ["no-new-privileges:true"]))
        context = os.path.join(self.directory, "context")
        os.mkdir(context)
        os.symlink(self.release + "/towpath", context + "/towpath")
        os.symlink(self.release + "/libtowpath.so", context + "/libtowpath.so")
        os.mkdir(context + "/values")
        with open(context + "/values/values.yaml", "w") as file:
            file.write("proxy: {ports: [80, 443]}\n")
        mounts = [(os.path.realpath(os.path.join(context, source)), place, options == "ro")
                  for source, place, options in (one.split(":") for one in service["volumes"])]
        port, url = self.free_port(), self.kinds["http"]
        server = oci.start(self, self.base("distroless").root, service["entrypoint"] + service["command"], mounts=mounts,
                           uid=int(service["user"].split(":")[0]), capabilities=(), env={
                               **service["environment"], "http_proxy": url, "CODERD_ADDRESS": f"0.0.0.0:{port}"})
        server.wait_line("listening=")
        self.assert_server_fetches(port, url)

    def test_a_proxy_that_is_down_is_an_error_there_too(self):
        image = self.build("carried", "distroless")
        env = self.proxy_environment(f"http://127.0.0.1:{self.free_port()}")
        result = oci.run(self, image.root, image.words("client"), env=env, stdin=f"tcp {NAME} {self.raw.port}\n")
        self.assertNotIn("welcome", result.out)
        self.assertIn("cause=proxy_unreachable", result.err)


if __name__ == "__main__":
    main()
