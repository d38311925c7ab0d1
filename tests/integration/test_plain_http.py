# suite: quick
"""Plain HTTP through proxies that tunnel only port 443: programs of every kind, through squid with the rules it is shipped
with and through tinyproxy. The bare twins of the first rows are test_programs.Bare."""

import os
import shutil
import subprocess
import tempfile
import unittest

import test_programs
from lab import netns, squid, tinyproxy
from lab.case import main, program
from lab.proc import wait_until
from lab.programs import PROGRAMS, path_of
from lab.tls import Authority, Haproxy
from test_programs import ORIGIN, USERS

PROXY = "tls-proxy.example"
PLACE = "127.0.0.21"

# HttpURLConnection is the old client; HttpClient offers HTTP/2 in the clear with every first request.
_JAVA = """
import java.net.*;
import java.net.http.*;
public class Plain {
  public static void main(String[] arguments) throws Exception {
    URI place = URI.create(arguments[1]);
    if (arguments[0].equals("old")) {
      ((HttpURLConnection) place.toURL().openConnection()).getInputStream().transferTo(System.out);
    } else {
      HttpRequest request = HttpRequest.newBuilder(place).build();
      System.out.print(HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body());
    }
    System.out.flush();
  }
}
"""


def _java(mode):
    def command(case, host, port, path):
        case.need("javac")
        place = os.path.join(type(case).class_directory, "plain-java")
        if not os.path.isdir(place):
            os.mkdir(place)
            with open(os.path.join(place, "Plain.java"), "w") as file:
                file.write(_JAVA)
            subprocess.run([shutil.which("javac"), "-d", place, os.path.join(place, "Plain.java")], check=True)
        return [case.need("java"), "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx64m", "-cp", place, "Plain", mode,
                f"http://{host}:{port}{path}"]
    return command


def _apt(case, host, port, path):
    """Updates from a flat repository, and prints the description of its only package."""
    apt, cache = case.need("apt-get"), case.need("apt-cache")
    place = tempfile.mkdtemp(prefix="apt-", dir=case.directory)
    for folder in ("lists/partial", "cache/archives/partial", "etc/preferences.d"):
        os.makedirs(os.path.join(place, folder))
    for name, text in (("sources.list", f"deb [trusted=yes] http://{host}:{port}/apt ./\n"), ("status", "")):
        with open(os.path.join(place, name), "w") as file:
            file.write(text)
    options = [f"Dir::State::lists={place}/lists", f"Dir::State::status={place}/status", f"Dir::Cache={place}/cache",
               f"Dir::Etc={place}/etc", f"Dir::Etc::sourcelist={place}/sources.list", "Dir::Etc::sourceparts=-",
               "APT::Sandbox::User=root", "Acquire::Retries=0", "Acquire::Languages=none", "Acquire::http::Timeout=15",
               "Dir::Log=/dev/null", "APT::Update::Error-Mode=any"]
    words = " ".join(f"-o {option}" for option in options)
    return ["sh", "-c", f"{apt} {words} update && {cache} {words} show lab | sed -n 's/^Description.*: //p'"]


MORE = {
    "java HttpURLConnection": _java("old"),
    "java HttpClient": _java("new"),
    "apt-get": _apt,
    "python http.client": lambda case, host, port, path: [
        "/usr/bin/python3", "-c",
        f"import http.client as h\nc = h.HTTPConnection('{host}', {port})\nc.request('GET', '{path}')\nprint(c.getresponse().read().decode())"],
}
# Programs that the library cannot reach come to the same rows by the supervisor.
OF_THE_OTHER_FRONT_END = {
    "go static": lambda case, host, port, path: [program("go-static/goclient"), "get", f"http://{host}:{port}{path}"],
    "go cgo": lambda case, host, port, path: [program("go-cgo/goclient"), "get", f"http://{host}:{port}{path}"],
    "busybox static": lambda case, host, port, path: [
        case.need("busybox"), "wget", "-q", "-O", "-", f"http://{host}:{port}{path}"],
}
ALL = {**PROGRAMS, **MORE, **OF_THE_OTHER_FRONT_END}


def name_of(program):
    return f"{path_of(program)[1:]}.only-at-the-proxy.example"


def make_apt_repository(case):
    place = os.path.join(case.class_directory, "content", "apt")
    os.mkdir(place)
    with open(os.path.join(place, "Packages"), "w") as file:
        file.write(f"Package: lab\nVersion: 1\nArchitecture: all\nMaintainer: lab <lab@example.com>\nFilename: ./lab.deb\n"
                   f"Size: 1\nSHA256: {'0' * 64}\nDescription: path={path_of('apt-get')}\n")


def rows(case, programs=ALL):
    """One test per program."""
    for program in programs:
        def row(self, program=program):
            self.check(program)
        setattr(case, "test_" + path_of(program)[1:].replace("-", "_").replace(".", "_"), row)
    return case


class PlainHttp(test_programs.Programs):
    users = None

    @classmethod
    def setUpClass(cls):
        if cls is PlainHttp:
            raise unittest.SkipTest("the rows are those of the classes below")
        super().setUpClass()
        make_apt_repository(cls)
        cls.names = {name_of(one): ORIGIN for one in ALL}
        cls.prepare()

    def values_of(self, more=""):
        self.proxy_values(self.proxy.url, more=more)

    def check(self, program):
        command = ALL[program](self, name_of(program), 80, path_of(program))
        self.values_of()
        result = self.assert_ran(self.towpath(*command))
        self.assertIn(f"path={path_of(program)}", result.out)
        self.assertIn(name_of(program), self.origin.names())
        # A proxy writes its log when the answer has left already.
        asked = wait_until(lambda: (found := [(method, target) for method, target in self.requests()
                                              if name_of(program) in target]) and len(found) > 1 and found,
                           "second request in the proxy's log")
        self.assertEqual(asked[0], ("CONNECT", f"{name_of(program)}:80"))
        for method, target in asked[1:]:
            self.assertEqual((method, target.split("/")[0:3]), ("GET", ["http:", "", name_of(program)]))
        self.assertFalse(self.dns.asked(name_of(program)), "the name was looked up on this side of the proxy")
        self.assertNotIn("level=", result.err)


class Bare(test_programs.Bare):
    """The other half of the rows that test_programs does not have."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        make_apt_repository(cls)

    def command(self, program):
        return ALL[program](self, name_of(program), 80, path_of(program))


for each in [name for name in dir(Bare) if name.startswith("test_")]:
    setattr(Bare, each, None)  # those it has
rows(Bare, {**MORE, **OF_THE_OTHER_FRONT_END})


class Squid(PlainHttp):
    @classmethod
    def prepare(cls):
        if not squid.Squid.PROGRAM:
            raise unittest.SkipTest("squid is not installed")
        cls.proxy = cls.start(squid.Squid(cls.class_directory, cls.names, cls.users, shipped_rules=True))

    def requests(self):
        return [tuple(line.split()[:2]) for line in self.proxy.access_log]


@rows
class ThroughSquid(Squid):
    pass


@rows
class ThroughSquidWithCredentials(Squid):
    users = USERS

    def check(self, program):
        super().check(program)
        users = {line.split()[3] for line in self.proxy.access_log if name_of(program) in line and "GET" in line}
        self.assertEqual(users, {"boat"})
        for _, _, headers in self.origin.hits:
            self.assertNotIn("proxy-authorization", {key.lower() for key in headers})


@rows
class ThroughTlsWithCredentials(ThroughSquidWithCredentials):
    @classmethod
    def prepare(cls):
        if not Haproxy.PROGRAM:
            raise unittest.SkipTest("haproxy is not installed")
        super().prepare()
        cls.authority = Authority(cls.class_directory)
        netns.hosts(f"{PLACE} {PROXY}\n")
        cls.addClassCleanup(netns.hosts)
        cls.before = cls.start(Haproxy(cls.class_directory, cls.proxy, cls.authority.certificate("proxy", f"DNS:{PROXY}"),
                                       address=PLACE))

    def values_of(self, more=""):
        self.proxy_values(f"https://boat:horse@{PROXY}:{self.before.port}",
                          more=f"tls:\n  caFile: {self.authority.file}\n{more}")


@rows
class ThroughTinyproxy(PlainHttp):
    @classmethod
    def prepare(cls):
        if not tinyproxy.Tinyproxy.PROGRAM:
            raise unittest.SkipTest("tinyproxy is not installed")
        cls.proxy = cls.start(tinyproxy.Tinyproxy(cls.class_directory, cls.names, cls.users))

    def requests(self):
        return [tuple(line) for line in self.proxy.requests()]


if __name__ == "__main__":
    main()
