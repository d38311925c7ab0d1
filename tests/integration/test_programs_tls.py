# suite: full
"""The table of programs again, through https:// proxies and by LD_PRELOAD alone, and programs with protocols of their own
through every kind of proxy."""

import os
import shutil
import struct
import subprocess
import unittest

import test_programs
from lab import dante, netns, proc, squid
from lab.case import LabCase, main
from lab.listener import Listener
from lab.origin import Origin
from lab.programs import path_of
from lab.ssh import sshd
from lab.tls import Authority, Front, Haproxy, Stunnel
from test_programs import ORIGIN, USERS, name_of, rows

PROXY = "tls-proxy.example"
PLACE = "127.0.0.21"


class ThroughTls(test_programs.Programs):
    front = None

    @classmethod
    def setUpClass(cls):
        if not squid.Squid.PROGRAM or not cls.front.PROGRAM:
            raise unittest.SkipTest(f"squid and {cls.front.__name__} are not both installed")
        super().setUpClass()
        cls.authority = Authority(cls.class_directory)
        netns.hosts(f"{PLACE} {PROXY}\n")
        cls.addClassCleanup(netns.hosts)
        cls.proxy = cls.start(squid.Squid(cls.class_directory, {name_of(one): ORIGIN for one in cls.programs},
                                          test_programs.USERS))
        cls.before = cls.start(cls.front(cls.class_directory, cls.proxy,
                                         cls.authority.certificate("proxy", f"DNS:{PROXY}"), address=PLACE))

    def check(self, program):
        command = self.command(program)
        self.proxy_values(f"https://boat:horse@{PROXY}:{self.before.port}", more=f"tls:\n  caFile: {self.authority.file}")
        result = self.assert_ran(self.towpath(*command))
        self.assertIn(f"path={path_of(program)}", result.out)
        self.assertIn(name_of(program), self.origin.names())
        self.proxy.wait_target(f"{name_of(program)}:80")
        self.assertFalse(self.dns.asked(name_of(program)), "the name was looked up on this side of the proxy")


@rows
class ThroughHaproxy(ThroughTls):
    front = Haproxy


@rows
class ThroughStunnel(ThroughTls):
    front = Stunnel


@rows
class Alone(test_programs.ThroughProxy):
    server = squid.Squid

    def check(self, program):
        self.addCleanup(lambda: proc.kill(netns.guards_and_agents()))
        command = self.command(program)
        self.proxy_values(self.proxy.url)
        result = self.assert_ran(self.preload(*command))
        self.assertIn(f"path={path_of(program)}", result.out)
        self.proxy.wait_target(f"{name_of(program)}:80")
        self.assertFalse(self.dns.asked(name_of(program)))


@rows
class AloneWithCredentials(Alone):
    users = USERS


@rows
class AloneOverSocks(Alone):
    server, users = dante.Dante, USERS


NAME = "only-at-the-proxy.example"
_JAVA = """
import java.net.*;
public class Url {
  public static void main(String[] arguments) throws Exception {
    HttpURLConnection connection = (HttpURLConnection) URI.create(arguments[0]).toURL().openConnection();
    connection.getInputStream().transferTo(System.out);
    System.out.flush();
  }
}
"""


class Sessions(LabCase):
    """Each class below is another way to the proxy."""

    server, users = squid.Squid, None

    @classmethod
    def setUpClass(cls):
        if cls is Sessions:
            raise unittest.SkipTest("the rows are those of the classes below")
        if not cls.server.PROGRAM:
            raise unittest.SkipTest(f"{cls.server.kind} proxy is not installed")
        super().setUpClass()
        cls.web = cls.start(Origin(ORIGIN, 80))
        cls.proxy = cls.start(cls.server(cls.class_directory, {NAME: ORIGIN}, cls.users))
        cls.authority = Authority(cls.class_directory)
        netns.hosts(f"{PLACE} {PROXY}\n")
        cls.addClassCleanup(netns.hosts)

    def through(self, *command, **options):
        self.proxy_values(self.proxy.url)
        return self.towpath(*command, **options)

    def reached(self, port):
        self.proxy.wait_target(f"{NAME}:{port}")
        self.assertFalse(self.dns.asked(NAME))

    def both(self, *command, **options):
        """Bare it must fail, and through the proxy it must not."""
        self.assertNotEqual(self.bare(*command, **options).code, 0)
        self.dns.queries.clear()
        return self.assert_ran(self.through(*command, **options))

    def test_java_url_connection(self):
        self.need("javac")
        with open(os.path.join(self.directory, "Url.java"), "w") as file:
            file.write(_JAVA)
        subprocess.run([shutil.which("javac"), "-d", self.directory, os.path.join(self.directory, "Url.java")], check=True)
        result = self.both(self.need("java"), "-XX:TieredStopAtLevel=1", "-Xmx64m", "-cp", self.directory, "Url", f"http://{NAME}/java")
        self.assertIn("path=/java\n", result.out)
        self.reached(80)

    def test_ruby(self):
        script = "require 'net/http'; puts Net::HTTP.new(ARGV[0], 80, nil).get('/ruby').body"
        self.assertIn("path=/ruby\n", self.both(self.need("ruby"), "-e", script, NAME).out)
        self.reached(80)

    def test_openssl_s_client(self):
        certificate = self.authority.certificate("origin", f"DNS:{NAME}")
        self.use(Front(self.web, certificate, address=ORIGIN, port=443))
        command = ["sh", "-c", 'printf "GET /s_client HTTP/1.0\\r\\n\\r\\n" | "$@"', "sh", self.need("openssl"), "s_client", "-quiet",
                   "-ign_eof", "-verify_return_error", "-verify_hostname", NAME, "-servername", NAME, "-CAfile", self.authority.file, "-connect", f"{NAME}:443"]
        self.assertIn("path=/s_client\n", self.both(*command).out)
        self.reached(443)

    def test_ssh(self):
        ssh, common = sshd(self, ORIGIN)
        result = self.both(ssh, *common, f"root@{NAME}", "echo over; cat", stdin="the tunnel")
        self.assertEqual(result.out, "over\nthe tunnel")
        self.reached(22)

    def test_scp(self):
        _, common = sshd(self, ORIGIN)
        os.mkdir(os.path.join(self.directory, "there"))
        source = self.file("here", "0123456789" * 100000)
        self.both(self.need("scp"), "-q", *common, source, f"root@{NAME}:{self.directory}/there/")
        with open(os.path.join(self.directory, "there", "here")) as file:
            self.assertEqual(file.read(), "0123456789" * 100000)

    def test_psql(self):
        server = self.use(Postgres((ORIGIN, 5432)))
        command = [self.need("psql"), f"host={NAME} user=boat dbname=canal connect_timeout=10"]
        self.assertNotEqual(self.bare(*command).code, 0)
        self.assertEqual(server.users, [])
        self.dns.queries.clear()
        result = self.through(*command)
        self.assertIn("FATAL:  the lock is closed", result.err)
        self.assertEqual(server.users, ["boat"])
        self.reached(5432)

    def test_redis(self):
        server = self.spawn("redis", self.need("redis-server"), "--bind", ORIGIN, "--port", "6379", "--save", "", "--dir", self.directory)
        server.wait_listening(6379)
        client = self.need("redis-cli")
        self.both(client, "-h", NAME, "-e", "SET", "boat", "horse")
        self.assertEqual(self.assert_ran(self.through(client, "-h", NAME, "GET", "boat")).out, "horse\n")
        result = self.assert_ran(self.through(client, "-h", NAME, "--pipe", stdin="PING\r\n" * 2000))
        self.assertIn("replies: 2000", result.out)
        self.reached(6379)


class OverHttp(Sessions):
    pass


class OverHttpWithCredentials(Sessions):
    users = USERS


class OverSocks(Sessions):
    server = dante.Dante


class OverSocksWithCredentials(Sessions):
    server, users = dante.Dante, USERS


class OverHttps(Sessions):
    def through(self, *command, **options):
        if not Haproxy.PROGRAM:
            self.skipTest("haproxy is not installed")
        if not hasattr(self, "before"):
            self.before = self.use(Haproxy(self.directory, self.proxy, self.authority.certificate("proxy", f"DNS:{PROXY}"), address=PLACE))
        self.proxy_values(f"https://{PROXY}:{self.before.port}", more=f"tls:\n  caFile: {self.authority.file}")
        return self.towpath(*command, **options)


class OverPreloadAlone(Sessions):
    def through(self, *command, **options):
        self.addCleanup(lambda: proc.kill(netns.guards_and_agents()))
        self.proxy_values(self.proxy.url)
        return self.preload(*command, **options)


class OverPreloadAloneAndSocks(OverPreloadAlone):
    server, users = dante.Dante, USERS


class Postgres(Listener):
    """As much of a server as it takes to refuse politely: no encryption, then the user, then an error."""

    def __init__(self, address):
        self.users = []
        self.listen(*address)

    def serve(self, connection, peer):
        with connection, connection.makefile("rb") as stream:
            while True:
                size, code = struct.unpack("!II", stream.read(8))
                rest = stream.read(size - 8)
                if code == 196608:
                    break
                connection.sendall(b"N")  # neither TLS nor GSSAPI
            words = rest.split(b"\0")
            self.users.append(words[words.index(b"user") + 1].decode())
            fields = b"SFATAL\0VFATAL\0C28000\0Mthe lock is closed\0\0"
            connection.sendall(b"E" + struct.pack("!I", len(fields) + 4) + fields)


if __name__ == "__main__":
    main()
