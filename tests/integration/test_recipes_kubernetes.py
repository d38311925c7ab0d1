# suite: quick
"""deploy/kubernetes: what the manifests say is done as it is written there, configured by the variables that the Helm chart
exports."""

import os

import yaml

from lab import dockerfile, kubernetes, netns, root_fs
from lab.case import main, program
from lab.dockerfile import Image
from lab.origin import RawOrigin
from lab.recipes import AUTHORITY, NAME, RecipeCase

DEPLOY = os.path.join(root_fs._REPOSITORY, "deploy")
DATABASE = "198.51.100.54"

# A Deployment as the chart makes it, as far as towpath has to do with it: the names of the container, its command, the
# proxy variables (all of them, whether they are set or not) and an init container that is there already.
CHART = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: coderd}}
spec:
  template:
    spec:
      initContainers:
        - name: migrations
          image: coderd
          command: [coderd, migrate, up]
      containers:
        - name: coderd
          image: coderd
          command: [coderd, run]
          securityContext: {{runAsUser: 65534, runAsGroup: 65534, runAsNonRoot: true, allowPrivilegeEscalation: false}}
          env:
            - {{name: CODERD_ADDRESS, value: "0.0.0.0:{port}"}}
            - {{name: http_proxy, value: "{http}"}}
            - {{name: https_proxy, value: "{https}"}}
            - {{name: no_proxy, value: "{exempt}"}}
            - {{name: PROXY_TRUSTED_ORIGINS, value: "127.0.0.0/8"}}
            - {{name: PROXY_TRUSTED_HEADERS, value: "X-Forwarded-For"}}
            - {{name: SSL_CERT_FILE, value: "{authority}"}}
          readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}}}
          volumeMounts:
            - {{name: tmp, mountPath: /tmp}}
      volumes:
        - {{name: tmp, emptyDir: {{}}}}
"""


class Kubernetes(RecipeCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        netns.add_address(f"{DATABASE}/32")

    def pod(self, http, https="", exempt=""):
        self.port = self.free_port()
        chart = yaml.safe_load(CHART.format(port=self.port, http=http, https=https, exempt=exempt, authority=AUTHORITY))
        towpath = dockerfile.build(os.path.join(DEPLOY, "docker", "Dockerfile"), "towpath", self.release, {},
                                   os.path.join(self.directory, "image"))
        root = self.trusting(root_fs.empty(os.path.join(self.directory, "coderd")))
        root.add(program("go-static/goserver"), "/usr/bin/coderd")
        root.add(program("go-static/goclient"), "/usr/bin/goclient")
        self.chart = chart
        return kubernetes.Pod(self, kubernetes.kustomize(os.path.join(DEPLOY, "kubernetes"), chart),
                              {"towpath": towpath, "coderd": Image(root)})

    def started(self, *settings):
        pod = self.pod(*settings)
        installed = pod.run_init("towpath-install")
        self.assertEqual((installed.code, installed.out, installed.err), (0, "", ""))
        server = pod.start("coderd")
        server.wait_line("listening=")
        return pod

    def test_each_kind_of_proxy(self):
        for kind, url in self.kinds.items():
            with self.subTest(kind):
                self.directory = os.path.join(self.directory, kind)  # each pod has its volumes
                os.mkdir(self.directory)
                self.started(url)
                self.assert_server_fetches(self.port, url)
                self.assert_server_fetches(self.port, url, 443)
                self.assert_sees_clients(self.port, "", "  mode http\n  option forwardfor\n", "  mode http")

    def test_a_proxy_for_each_port(self):
        self.started(self.kinds["http"], self.kinds["socks5"])
        self.assert_server_fetches(self.port, self.kinds["http"])
        self.assert_server_fetches(self.port, self.kinds["socks5"], 443)

    def test_the_database_is_reached_directly(self):
        database = self.use(RawOrigin(DATABASE, banner=b"ready\n"))
        pod = self.started(self.kinds["http"])
        before = self.squid.access_log
        result = pod.run("coderd", ["/opt/towpath/towpath", "run", "--", "goclient", "dial", f"{DATABASE}:{database.port}"])
        self.assertEqual(result.code, 0, result)
        self.assertIn('read="ready\\n"', result.out)
        self.assertEqual(self.squid.access_log, before)

    def test_exempt_names_come_from_the_chart(self):
        pod = self.started(self.kinds["http"], "", f"cluster.local,{NAME}")
        for target, route in ((f"{NAME}:443", "direct"), ("api.cluster.local:80", "direct"), ("other.example:443", "tunnel"),
                              ("other.example:5432", "direct")):
            result = pod.run("coderd", ["/opt/towpath/towpath", "explain", "--json", target])
            self.assertIn(f'"route":"{route}"', result.out.replace(": ", ":"), target)

    def test_the_init_container_may_run_again(self):
        pod = self.started(self.kinds["http"])
        self.assertEqual(pod.run_init("towpath-install").code, 0)
        self.assertEqual(sorted(os.listdir(os.path.join(self.directory, "volume-towpath"))), ["libtowpath.so", "towpath"])

    def test_what_the_chart_says_stays(self):
        pod = self.pod(self.kinds["http"])
        before, after = self.chart["spec"]["template"]["spec"], pod.spec
        own, patched = before["containers"][0], pod.container("coderd")
        self.assertEqual([one["name"] for one in after["containers"]], ["coderd"])
        self.assertEqual(patched["command"][-len(own["command"]):], own["command"])
        for key in ("image", "readinessProbe"):
            self.assertEqual(patched[key], own[key])
        for key in ("env", "volumeMounts"):
            self.assertEqual(patched[key][:len(own[key])], own[key])
        self.assertEqual(patched["securityContext"]["runAsUser"], 65534)
        self.assertEqual(after["initContainers"][0], before["initContainers"][0])

    def test_the_restricted_level(self):
        """What the pod security standard asks of every container that is ours or changed by us."""
        pod = self.pod(self.kinds["http"])
        for name in ("towpath-install", "coderd"):
            security = pod.container(name)["securityContext"]
            self.assertTrue(security["runAsNonRoot"] and security["readOnlyRootFilesystem"])
            self.assertIs(security["allowPrivilegeEscalation"], False)
            self.assertEqual(security["capabilities"], {"drop": ["ALL"]})
            self.assertEqual(security["seccompProfile"], {"type": "RuntimeDefault"})
        self.assertFalse([one for one in pod.spec["volumes"] if set(one) - {"name", "emptyDir", "configMap"}])


if __name__ == "__main__":
    main()
