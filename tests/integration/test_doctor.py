# suite: quick
"""`towpath doctor`: real proxies that are right, wrong, closed or narrow, and machines that lack a mechanism."""

import json
import os
import re
import shutil
import socket
import subprocess

from lab import docker, netns, proc, proxy
from lab.case import PRELOAD, TOWPATH, LabCase, main, program
from lab.dante import Dante
from lab.origin import Origin
from lab.root import Root
from lab.squid import Squid
from lab.tls import Authority, Stunnel

NAME = "only-at-the-proxy.example"
PROXY = "the-proxy.example"
PASSWORD = "s3cret-pass"
YAMA = "/proc/sys/kernel/yama/ptrace_scope"


class Doctor(LabCase):
    around = ()

    def doctor(self, *options, code=0, around=None, env=None, command=(TOWPATH,)):
        """{name: [(result, detail, advice), ...]} of a run whose exit status is `code`."""
        line = [*(self.around if around is None else around), *command, "doctor", *options]
        if self.config and "-c" not in options:
            line += ["-c", self.config]
        result = proc.run("doctor", line, self.directory, self._env(env), self.directory, 60)
        self.assertNotIn(PASSWORD, result.out + result.err)
        self.assertEqual(result.code, code, result.out + result.err)
        self.assertEqual(result.err, "")
        self.summary, found = result.out.strip().splitlines()[-1], {}
        last = None
        for text in result.out.splitlines():
            if text.startswith("      -> "):
                last[2] += text[9:]
            elif seen := re.match(r"(ok|warn|FAIL|skip) +(\S.*?)  +(\S.*)$", text):
                last = [seen.group(1), seen.group(3), ""]
                found.setdefault(seen.group(2), []).append(last)
        return found

    def expect(self, found, name, result, detail="", advice=""):
        self.assertIn(name, found)
        seen = found[name][0]
        self.assertEqual(seen[0], result, f"{name}: {seen}")
        self.assertIn(detail, seen[1])
        self.assertIn(advice, seen[2])
        if result == "FAIL":
            self.assertTrue(seen[2], f"{name}: no advice")

    def squid(self, **options):
        self.need("squid")
        return self.use(Squid(self.directory, {NAME: "127.0.0.1"}, **options))


class ProxyCase(Doctor):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        netns.hosts(f"127.0.0.1 {PROXY}\n")
        cls.addClassCleanup(netns.hosts)
        # The destination of what is tunnelled or asked for, on the ports that the doctor tries.
        cls.origin = cls.start(Origin(address="127.0.0.1", port=80))
        cls.tls_origin = cls.start(Origin(address="127.0.0.1", port=443))


class Proxies(ProxyCase):
    def test_a_right_one_with_credentials(self):
        squid = self.squid(users={"me": PASSWORD})
        self.proxy_values(squid.url)
        found = self.doctor("--target", NAME)
        self.expect(found, "proxy.http reach", "ok", f"http://127.0.0.1:{squid.port} at 127.0.0.1:{squid.port} in ")
        self.expect(found, "proxy.http CONNECT 443", "ok", f"{NAME}:443: the tunnel stood")
        self.expect(found, "proxy.http CONNECT 80", "ok", f"{NAME}:80: the tunnel stood")
        self.expect(found, "proxy.http credentials", "ok", "accepted; without them the proxy refuses")
        self.assertFalse(self.dns.asked(NAME))
        squid.wait_target(f"{NAME}:443")
        squid.wait_target(f"{NAME}:80")

    def test_credentials_that_nobody_asks_for(self):
        squid = self.squid()
        self.proxy_values(f"http://me:{PASSWORD}@127.0.0.1:{squid.port}")
        found = self.doctor("--target", NAME)
        self.expect(found, "proxy.http credentials", "ok", "nobody asks for them")

    def test_a_wrong_password(self):
        squid = self.squid(users={"me": PASSWORD})
        self.proxy_values(f"http://me:{PASSWORD}x@127.0.0.1:{squid.port}")
        found = self.doctor("--target", NAME, code=1)
        self.expect(found, "proxy.http reach", "ok")
        self.expect(found, "proxy.http credentials", "FAIL", "rejected the credentials (status 407)",
                    "check user and password of the proxy")
        self.assertNotIn("proxy.http CONNECT 80", found)

    def test_no_credentials(self):
        squid = self.squid(users={"me": PASSWORD})
        self.proxy_values(f"http://127.0.0.1:{squid.port}")
        found = self.doctor("--target", NAME, code=1)
        self.expect(found, "proxy.http credentials", "FAIL", "wants credentials (status 407)",
                    "put user:password@ into the proxy's URL")

    def test_a_proxy_that_tunnels_only_443(self):
        squid = self.squid(shipped_rules=True)
        self.proxy_values(squid.url)
        found = self.doctor("--target", NAME)
        self.expect(found, "proxy.http CONNECT 443", "ok")
        self.expect(found, "proxy.http CONNECT 80", "ok", "refuses to tunnel port 80, so requests go to it in absolute form")
        self.assertIn(f"GET http://{NAME}/: HTTP/1.1 200", found["proxy.http CONNECT 80"][0][1])
        self.assertTrue(any(f"GET http://{NAME}/" in line for line in squid.access_log), squid.access_log)

    def test_the_same_without_the_other_way(self):
        squid = self.squid(shipped_rules=True)
        self.proxy_values(squid.url, more="plainHttp: connect")
        found = self.doctor("--target", NAME, code=1)
        self.expect(found, "proxy.http CONNECT 80", "FAIL", "denies this destination (status 403)", "plainHttp: auto")

    def test_a_proxy_that_refuses_everything(self):
        dante = self.dante(refuse=True)
        self.proxy_values(dante.url)
        found = self.doctor("--target", NAME, code=1)
        self.expect(found, "proxy.http reach", "ok")
        self.expect(found, "proxy.http CONNECT 443", "FAIL", "denies this destination (SOCKS5 reply 2)", "--target HOST")

    def test_a_destination_that_the_proxy_cannot_find(self):
        squid = self.squid()
        self.proxy_values(squid.url)
        found = self.doctor("--target", "nowhere.example")
        self.expect(found, "proxy.http CONNECT 443", "warn", "accepts us, but not the destination", "--target HOST")

    def dante(self, **options):
        self.need("danted")
        return self.use(Dante(self.directory, {NAME: "127.0.0.1"}, **options))

    def test_socks5(self):
        dante = self.dante(users={"towpath-lab": PASSWORD})
        self.proxy_values(dante.url)
        found = self.doctor("--target", NAME)
        self.expect(found, "proxy.http CONNECT 443", "ok", "the tunnel stood")
        self.expect(found, "proxy.http credentials", "ok", "accepted; without them the proxy refuses")
        self.proxy_values(dante.url.replace(PASSWORD, PASSWORD + "x"))
        found = self.doctor("--target", NAME, code=1)
        self.expect(found, "proxy.http credentials", "FAIL", "rejected the credentials", "check user and password")

    def test_nobody_listens(self):
        port = proc.free_port()
        self.proxy_values(f"http://127.0.0.1:{port}")
        found = self.doctor(code=1)
        self.expect(found, "proxy.http reach", "FAIL", "cannot connect to the proxy: Connection refused", "is the proxy running")
        self.assertNotIn("proxy.http CONNECT 443", found)

    def test_every_proxy_of_a_list_is_tried(self):
        squid, port = self.squid(), proc.free_port()
        self.values(f"proxy: {{http: ['{squid.url}', 'http://127.0.0.1:{port}']}}\n")
        found = self.doctor("--target", NAME)
        self.expect(found, "proxy.http[0] CONNECT 443", "ok", "the tunnel stood")
        self.expect(found, "proxy.http[1] reach", "warn", "Connection refused", "is the proxy running")
        self.expect(found, "proxy.http[1] reach", "warn", "", "use the others of proxy.http")
        self.assertNotIn("proxy.http", found)

    def test_a_list_of_which_none_works(self):
        dead = proc.free_port()
        with socket.create_server(("127.0.0.1", 0)) as silent:
            self.values(f"proxy: {{http: ['127.0.0.1:{dead}', '127.0.0.1:{silent.getsockname()[1]}'], connectTimeout: 1s}}\n")
            found = self.doctor(code=1)
        self.expect(found, "proxy.http[0] reach", "warn", "Connection refused")
        self.expect(found, "proxy.http[1] CONNECT 443", "warn", "no answer in time")
        self.expect(found, "proxy.http", "FAIL", "none of its 2 proxies can be used")

    def test_a_list_with_a_wrong_password(self):
        """A proxy that takes us and then refuses is not passed over: connects would fail."""
        dante, squid = self.dante(users={"towpath-lab": PASSWORD}), self.squid()
        self.values(f"proxy: {{http: ['{dante.url.replace(PASSWORD, PASSWORD + 'x')}', '{squid.url}']}}\n")
        found = self.doctor("--target", NAME, code=1)
        self.expect(found, "proxy.http[0] credentials", "FAIL", "rejected the credentials")
        self.expect(found, "proxy.http[1] CONNECT 443", "ok")

    def test_a_destination_that_says_nothing(self):
        """A proxy that waits for the destination is no dead one."""
        self.use(proxy.SynDrop("127.0.0.2", 443))
        self.need("squid")
        squid = self.use(Squid(self.directory, {NAME: "127.0.0.2"}))
        self.values(f"proxy: {{https: '{squid.url}', connectTimeout: 2s}}\n")
        found = self.doctor("--target", NAME)
        self.expect(found, "proxy.https CONNECT 443", "warn", "it waits for the destination", "--target HOST")

    def test_a_port_that_is_not_tunnelled(self):
        squid = self.squid(shipped_rules=True)
        self.proxy_values(squid.url, more="ports: [443]\nplainHttp: connect")
        found = self.doctor("--target", NAME)
        self.expect(found, "proxy.http CONNECT 443", "ok")
        self.expect(found, "proxy.http CONNECT 80", "skip", "not among `ports`")

    def test_one_that_says_nothing(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            self.proxy_values(f"http://127.0.0.1:{silent.getsockname()[1]}", more="connectTimeout: 1s")
            found = self.doctor(code=1)
        self.expect(found, "proxy.http reach", "ok")
        self.expect(found, "proxy.http CONNECT 443", "FAIL", "no answer in time", "connectTimeout is how long")
        self.assertNotIn("proxy.http CONNECT 80", found)  # one wait is enough

    def test_a_deadline_for_the_doctor_itself(self):
        """connectTimeout may be a minute: nobody waits that long for a diagnosis (the case would be cut after 60 s)."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            self.values(f"proxy: {{http: '127.0.0.1:{silent.getsockname()[1]}', connectTimeout: 10m}}\n")
            self.doctor(code=1)

    def test_an_unknown_name(self):
        self.proxy_values("http://no-such-proxy.example:3128")
        found = self.doctor(code=1)
        self.expect(found, "proxy.http reach", "FAIL", "name does not resolve", "check the proxy's name")

    def test_the_wrong_scheme(self):
        squid = self.squid()
        self.proxy_values(f"https://127.0.0.1:{squid.port}")
        found = self.doctor(code=1)
        self.expect(found, "proxy.http TLS", "FAIL", "does not speak TLS", "write http:// in the proxy's URL")

    def test_each_port_has_its_proxy(self):
        first, second = self.squid(), self.squid()
        self.values(f"proxy: {{http: '{first.url}', https: '{second.url}'}}\n")
        found = self.doctor("--target", NAME)
        self.expect(found, "proxy.http CONNECT 80", "ok")
        self.expect(found, "proxy.https CONNECT 443", "ok")
        self.assertNotIn("proxy.http CONNECT 443", found)
        self.assertNotIn("proxy.https CONNECT 80", found)


class Tls(ProxyCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.authority = Authority(cls.class_directory)

    def front(self, *certificate, **options):
        self.need("stunnel")
        squid = self.squid(users={"me": PASSWORD})
        return self.use(Stunnel(self.directory, squid, self.authority.certificate(*certificate, **options)))

    def trust(self, front, authority=None, more=""):
        file = (authority or self.authority).file
        self.proxy_values(f"https://me:{PASSWORD}@{PROXY}:{front.port}", more=f"tls:\n  caFile: {file}\n{more}")

    def test_a_right_one(self):
        self.trust(self.front("right", f"DNS:{PROXY}", days=300))
        found = self.doctor("--target", NAME)
        self.expect(found, "proxy.http TLS", "ok", f"TLSv1.3, certificate valid for {PROXY}, it expires in ")
        self.assertRegex(found["proxy.http TLS"][0][1], "(299|300) days$")
        self.expect(found, "proxy.http CONNECT 443", "ok", "the tunnel stood")
        self.expect(found, "proxy.http CONNECT 80", "ok", "the tunnel stood")
        self.expect(found, "proxy.http credentials", "ok", "accepted; without them the proxy refuses")

    def test_one_that_expires_soon(self):
        self.trust(self.front("soon", f"DNS:{PROXY}", days=2))
        found = self.doctor("--target", NAME)
        self.expect(found, "proxy.http TLS", "warn", " days", "renew the proxy's certificate")

    def test_one_that_has_expired(self):
        self.trust(self.front("expired", f"DNS:{PROXY}", days=-1))
        found = self.doctor("--target", NAME, code=1)
        self.expect(found, "proxy.http TLS", "FAIL", "certificate has expired")
        self.assertNotIn("proxy.http CONNECT 443", found)

    def test_an_unknown_authority(self):
        self.trust(self.front("right", f"DNS:{PROXY}", days=300), Authority(self.directory, "other"))
        found = self.doctor("--target", NAME, code=1)
        self.expect(found, "proxy.http TLS", "FAIL", "unable to get local issuer certificate", "tls.caFile")

    def test_not_verified(self):
        self.trust(self.front("another", "DNS:another.example", days=300), more="  insecureSkipVerify: true\n")
        found = self.doctor("--target", NAME)
        self.expect(found, "proxy.http TLS", "warn", "the certificate is not verified", "set caFile instead")


class Names(Doctor):
    records = {"known.corp.example": ["192.0.2.1"]}

    def test_exempt_names(self):
        self.proxy_values("http://127.0.0.1:9", exempt="known.corp.example, corp.example, *.x.example, 10.0.0.0/8")
        found = self.doctor(code=1)  # the proxy
        self.expect(found, "exempt known.corp.example", "ok", "192.0.2.1")
        self.expect(found, "exempt corp.example", "ok", "no address of its own")
        self.assertEqual(len([name for name in found if name.startswith("exempt")]), 2)
        self.expect(found, "name servers", "ok", "127.0.0.1: answer")
        self.expect(found, "synthetic addresses", "ok")

    def test_a_silent_name_server(self):
        netns.resolv_conf("nameserver 127.0.0.77\n")
        self.addCleanup(netns.resolv_conf)
        self.proxy_values("http://127.0.0.1:9")
        found = self.doctor(code=1)
        self.expect(found, "name servers", "warn", "no answer from 127.0.0.77", "/etc/resolv.conf")
        self.proxy_values("http://127.0.0.1:9", more="dns: local")
        found = self.doctor(code=1)
        self.expect(found, "name servers", "FAIL", "no answer from 127.0.0.77", "/etc/resolv.conf")

    def test_the_synthetic_range_is_in_use(self):
        netns.own_address("198.18.7.7/32", "lo")
        self.addCleanup(netns.disown_address, "198.18.7.7/32", "lo")
        self.proxy_values("http://127.0.0.1:9")
        found = self.doctor(code=1)
        self.expect(found, "synthetic addresses", "warn", "interface lo", "set proxy.syntheticRange")

    def test_services_that_would_be_tunnelled(self):
        self.proxy_values("http://127.0.0.1:9")
        environment = {"CODER_PG_CONNECTION_URL": f"postgres://coder:{PASSWORD}@db.internal/coder"}
        found = self.doctor(code=1, env=environment)
        self.assertIn("add db.internal to exempt, or set ports: [80, 443]", str(found["configuration"]))
        result = self.tool("check", "-c", self.config, env=environment)
        self.assertEqual(result.code, 0)
        self.assertIn("$CODER_PG_CONNECTION_URL: db.internal:5432 would be tunnelled", result.err)
        self.assertNotIn(PASSWORD, result.err + result.out)


class Mechanisms(Doctor):
    def setUp(self):
        super().setUp()
        self.values("proxy: {exempt: x.example}\n")

    def works(self, found, user):
        for name in ("library", "preload", "filter", "notification", "inject", "memory", "pidfd_getfd"):
            self.expect(found, name, "ok")
        self.assertIn(f"seccomp (static and Go programs): yes as uid {user}", self.summary)
        self.assertIn("preload (dynamic programs): yes", self.summary)

    def test_this_machine(self):
        found = self.doctor()
        self.works(found, 0)
        self.expect(found, "pidfd_getfd", "ok", "was taken")
        self.expect(found, "other user", "ok")
        self.expect(found, "unprivileged", "ok")

    def test_an_ordinary_user(self):
        found = self.doctor(around=("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"))
        self.works(found, 65534)
        self.assertNotIn("other user", found)

    def test_docker_as_root(self):
        found = self.doctor(around=(program("static/docker_like"),))
        self.works(found, 0)
        self.expect(found, "privileges", "ok", "no CAP_SYS_ADMIN, no CAP_SYS_PTRACE")
        self.expect(found, "pidfd_getfd", "ok", "refused here (as by Docker's default profile), and done without")
        self.expect(found, "memory, other user", "warn", "cannot be read", "CAP_SYS_PTRACE")

    def test_docker_as_a_user(self):
        self.works(self.doctor(around=(program("static/docker_like"), "-u", str(docker.USER))), docker.USER)

    def lacking(self, what, name, detail, advice):
        found = self.doctor(around=(program("static/refuse"), what), code=1)
        self.expect(found, name, "FAIL", detail, advice)
        self.assertIn("seccomp (static and Go programs): NO", self.summary)
        self.assertIn("preload (dynamic programs): yes", self.summary)
        return found

    def test_a_profile_without_seccomp(self):
        self.lacking("seccomp", "filter", "Operation not permitted", "a profile refuses seccomp(2): allow it")

    def test_a_profile_that_kills_for_seccomp(self):
        self.lacking("killed", "filter", "", "a profile kills whoever calls seccomp(2)")

    def test_a_kernel_without_listeners(self):
        self.lacking("listener", "filter", "Invalid argument", "or is none of Linux's own")

    def test_a_profile_without_the_listeners_ioctl(self):
        self.lacking("receive", "notification", "was not shown", "SECCOMP_IOCTL_NOTIF_*")

    def test_a_profile_without_injection(self):
        self.lacking("inject", "inject", "Operation not permitted", "refuses it")

    def test_a_profile_without_memory(self):
        self.lacking("memory", "memory", "Operation not permitted", "process_vm_readv")

    def test_neither_injection_nor_descriptors(self):
        """Where pidfd_getfd is refused, the program's socket itself has to be injected."""
        found = self.doctor(around=(program("static/refuse"), "inject", program("static/docker_like")), code=1)
        self.expect(found, "inject", "FAIL", "Operation not permitted", "refuses it")
        self.assertNotIn("notification", found)
        self.assertIn("seccomp (static and Go programs): NO", self.summary)

    def test_somebody_else_supervises(self):
        found = self.doctor(around=(program("static/docker_like"), "-l"), code=1)
        self.expect(found, "filter", "FAIL", "another supervisor's seccomp listener", "outside of the other supervisor")

    def test_under_towpath_itself(self):
        self.proxy_values("http://127.0.0.1:9")
        found = self.doctor(around=(TOWPATH, "run", "-c", self.config, "--"), code=1)
        self.expect(found, "supervise", "ok", "runs under towpath's supervisor")

    def test_what_the_program_does_not_need_is_not_required(self):
        around = (program("static/refuse"), "seccomp")
        found = self.doctor("--program", "python3", around=around)
        self.expect(found, "program", "ok", "served by the library")
        self.expect(found, "filter", "warn")
        found = self.doctor("--program", program("static/refuse"), around=around, code=1)
        self.expect(found, "program", "ok", "served by the seccomp supervisor")
        self.expect(found, "filter", "FAIL", advice="allow it")

    def test_without_its_library(self):
        alone = os.path.join(self.directory, "towpath")
        shutil.copy(TOWPATH, alone)
        found = self.doctor(command=(alone,), code=1)
        self.expect(found, "library", "FAIL", "neither beside this executable nor in ../lib", "keep the two files together")

    def test_a_library_that_is_none(self):
        for name in ("towpath", "libtowpath.so"):
            shutil.copy(TOWPATH if name == "towpath" else PRELOAD, os.path.join(self.directory, name))
        self.need("gcc")
        # Loads, and has not one hook: what the loader says of it does not help.
        subprocess.run(["gcc", "-shared", "-xc", "/dev/null", "-o", os.path.join(self.directory, "libtowpath.so")], check=True)
        found = self.doctor(command=(os.path.join(self.directory, "towpath"),), code=1)
        self.expect(found, "preload", "FAIL", "no hook answered", "--mode seccomp")

    def test_yama(self):
        if not os.path.exists(YAMA):
            self.skipTest("this kernel has no Yama")
        with open(YAMA) as file:
            before = file.read()
        self.addCleanup(lambda: open(YAMA, "w").write(before))
        with open(YAMA, "w") as file:
            file.write("2")
        found = self.doctor(around=(program("static/docker_like"), "-u", str(docker.USER)), code=1)
        self.expect(found, "memory", "FAIL", advice="ptrace_scope to 1")

    def test_an_empty_root_as_a_user(self):
        """The two files alone: no /proc, no shell, no /etc."""
        root = Root(self.directory)
        server = self.use(proxy.Proxy("http", {NAME: self.use(Origin()).address}))
        self.config = None
        found = self.doctor("--http", f"http://127.0.0.1:{server.port}", "--target", NAME, command=("/towpath",),
                            around=("chroot", "--userspec=65534:65534", root.path))
        self.expect(found, "/proc", "warn", "not mounted")
        self.expect(found, "library", "ok", "/libtowpath.so")
        self.expect(found, "preload", "skip", "this image has no shell")
        self.expect(found, "filter", "ok")
        self.expect(found, "pidfd_getfd", "ok")
        self.expect(found, "proxy.http reach", "ok")
        self.expect(found, "resolv.conf", "ok", "not needed, the proxies look names up")
        self.assertIn("preload (dynamic programs): probably (not tried)", self.summary)
        self.assertIn("seccomp (static and Go programs): yes as uid 65534", self.summary)


class Output(Doctor):
    def json(self, *options):
        result = self.tool("doctor", "--json", *options, timeout=60)
        self.assertNotIn(PASSWORD, result.out + result.err)
        self.assertEqual(result.err, "")
        return result.code, json.loads(result.out)

    def test_json(self):
        with socket.socket() as closed:  # bound, and nobody listens
            closed.bind(("127.0.0.1", 0))
            self.proxy_values(f"http://me:{PASSWORD}@127.0.0.1:{closed.getsockname()[1]}")
            code, out = self.json("-c", self.config)
        self.assertEqual((code, out["ok"]), (1, False))
        reach = next(check for check in out["checks"] if check["name"] == "proxy.http reach")
        self.assertEqual(reach["result"], "FAIL")
        self.assertIn("Connection refused", reach["detail"])
        self.assertIn("is the proxy running", reach["advice"])
        self.assertEqual({tuple(sorted(check)) for check in out["checks"]}, {("advice", "detail", "name", "result")})
        self.assertIn("front ends here", out["summary"])

    def test_a_broken_configuration_comes_first(self):
        self.values(f"proxy: {{http: 'ftp://me:{PASSWORD}@proxy.example'}}\n")
        result = self.tool("doctor", "-c", self.config, timeout=60)
        self.assertEqual(result.code, 1)
        self.assertNotIn(PASSWORD, result.out + result.err)
        self.assertRegex(result.out.splitlines()[0], r"^FAIL  configuration .*values.yaml:1:")
        self.assertRegex(result.out, "(?m)^skip  proxies .*the configuration has errors")

    def test_nothing_configured(self):
        code, out = self.json()
        self.assertEqual((code, out["ok"]), (0, True))
        self.assertIn({"name": "proxies", "result": "warn"},
                      [{key: check[key] for key in ("name", "result")} for check in out["checks"]])


if __name__ == "__main__":
    main()
