# suite: quick
"""https:// proxies: who is believed, what the program is told, and how bytes and ends come through the relay."""

import fcntl
import os
import shutil
import socket
import struct
import subprocess
import termios
import threading

from lab import netns, proc, proxy
from lab.case import TOWPATH, LabCase, main
from lab.client import MODES, client
from lab.listener import Listener
from lab.origin import RawOrigin
from lab.tls import Authority, Front, Haproxy, Stunnel

NAME = "only-at-the-proxy.example"
PROXY = "tls-proxy.example"
PLACE = "127.0.0.21"  # where PROXY is


class TlsCase(LabCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.authority = Authority(cls.class_directory)
        cls.certificate = cls.authority.certificate("proxy", f"DNS:{PROXY}", f"IP:{PLACE}")
        netns.hosts(f"{PLACE} {PROXY}\n")
        cls.addClassCleanup(netns.hosts)
        cls.origin = cls.start(RawOrigin(banner=b"welcome\r\n"))

    def setUp(self):
        super().setUp()
        self.proxy = self.use(proxy.Proxy("http", {NAME: self.origin.address}))

    def trust(self, server, host=PROXY, authority=None, more="", scheme="https", login=""):
        """The values file for a proxy at `server`."""
        file = (authority or self.authority).file
        self.proxy_values(f"{scheme}://{login}{host}:{server.port}", more=f"tls:\n  caFile: {file}\n{more}")

    def haproxy(self, certificate=None, **options):
        if not Haproxy.PROGRAM:
            self.skipTest("haproxy is not installed")
        return self.use(Haproxy(self.directory, self.proxy, certificate or self.certificate, address=PLACE, **options))

    def front(self, ending="notify", certificate=None):
        return self.use(Front(self.proxy, certificate or self.certificate, ending, PLACE))

    def reach(self, *more, mode="blocking", run=None, **options):
        """A connect to NAME whose tunnel stands."""
        result = self.assert_ran((run or self.towpath)(*client(mode, NAME, 7, *more), **options))
        self.assertIn("errno=0\n", result.out, result.err)
        return result

    def refused(self, errno, cause, *more, mode="blocking", **options):
        """A connect to NAME that fails, with the line that it leaves."""
        result = self.assert_ran(self.towpath(*client(mode, NAME, 7, *more), **options))
        self.assertEqual(result.out, f"errno={errno}\n", result.err)
        lines = [line for line in result.err.splitlines() if "connect_failed" in line]
        self.assertEqual(len(lines), 1, result.err)
        self.assertIn(f"cause={cause} ", lines[0])
        self.assertFalse(self.dns.asked(NAME))
        return lines[0]


class WhoIsBelieved(TlsCase):
    def not_believed(self, server, reason, **options):
        line = self.refused("ECONNABORTED", "tls_verification", **options)
        self.assertIn(reason, line)
        self.assertEqual(self.proxy.connections, [], "something was said to a proxy that is not believed")

    def test_an_unknown_authority(self):
        server = self.haproxy()
        self.trust(server, authority=Authority(self.directory, "other"))
        self.not_believed(server, "unable to get local issuer certificate")

    def test_the_machines_authorities_do_not_know_it(self):
        server = self.haproxy()
        self.proxy_values(f"https://{PROXY}:{server.port}")
        if not os.path.exists("/etc/ssl/certs/ca-certificates.crt"):
            self.skipTest("this machine has no authorities")
        self.not_believed(server, "unable to get local issuer certificate")

    def test_another_name(self):
        server = self.haproxy(self.authority.certificate("another", "DNS:another.example"))
        self.trust(server)
        self.not_believed(server, "ostname mismatch")

    def test_a_common_name_is_no_name(self):
        server = self.haproxy(self.authority.certificate("common", cn=PROXY))
        self.trust(server)
        self.not_believed(server, "ostname mismatch")

    def test_expired(self):
        server = self.haproxy(self.authority.certificate("expired", f"DNS:{PROXY}", days=-1))
        self.trust(server)
        self.not_believed(server, "certificate has expired")

    def test_an_address_that_the_certificate_holds_as_a_name(self):
        server = self.haproxy(self.authority.certificate("address-as-name", f"DNS:{PLACE}"))
        self.trust(server, host=PLACE)
        self.not_believed(server, "IP address mismatch")

    def test_a_program_that_does_not_wait_is_told_the_same(self):
        server = self.haproxy()
        self.trust(server, authority=Authority(self.directory, "other"))
        for mode in MODES[1:]:
            with self.subTest(mode):
                self.not_believed(server, "unable to get local issuer certificate", mode=mode)

    def test_a_name(self):
        server = self.haproxy()
        self.trust(server)
        self.assertIn("peer=198.1", self.reach("want=9").out)
        seen, = server.wait_seen(1)
        self.assertEqual((seen["sni"], seen["alpn"], seen["version"]), (PROXY, "http/1.1", "TLSv1.3"))
        self.assertEqual(self.proxy.targets(), [f"{NAME}:7"])

    def test_tls_1_2(self):
        server = self.haproxy(maximum="TLSv1.2")
        self.trust(server)
        self.assertIn(r"read=b'welcome\r\nbanana'", self.reach("send=banana", "want=15").out)
        seen, = server.wait_seen(1)
        self.assertEqual((seen["version"], seen["alpn"]), ("TLSv1.2", "http/1.1"))

    def test_a_trailing_dot(self):
        server = self.haproxy()
        self.trust(server, host=PROXY + ".")
        self.reach("want=9")
        self.assertEqual(server.wait_seen(1)[0]["sni"], PROXY)

    def test_an_address_without_a_server_name(self):
        server = self.haproxy()
        self.trust(server, host=PLACE)
        self.reach("want=9")
        self.assertEqual(server.wait_seen(1)[0]["sni"], "-")

    def test_another_server_name(self):
        server = self.haproxy()
        self.trust(server, host="127.0.0.21", more=f"  serverName: {PROXY}\n")
        self.reach("want=9")
        self.assertEqual(server.wait_seen(1)[0]["sni"], PROXY)

    def test_whoever_it_is_when_the_operator_says_so(self):
        server = self.haproxy()
        self.trust(server, authority=Authority(self.directory, "other"), more="  insecureSkipVerify: true\n")
        self.reach("want=9")

    def test_authorities_of_the_environment(self):
        server = self.haproxy()
        values = self.proxy_values(f"https://{PROXY}:{server.port}")
        self.reach("want=9", config=values, env={"SSL_CERT_FILE": self.authority.file})
        first, second = (os.path.join(self.directory, name) for name in "ab")
        os.mkdir(first)
        os.mkdir(second)
        shutil.copy(self.authority.file, os.path.join(second, "no-hash"))
        # Only Go reads files that are not named by a hash; so do we.
        self.reach("want=9", config=values, env={"SSL_CERT_DIR": f"{first}:{second}"})
        self.refused("ECONNABORTED", "tls_verification", config=values, env={"SSL_CERT_DIR": first})

    def test_authorities_that_cannot_be_read(self):
        server = self.haproxy()
        self.proxy_values(f"https://{PROXY}:{server.port}", more="tls:\n  caFile: /nowhere.pem")
        result = self.towpath(*client("blocking", NAME, 7))
        self.assertNotIn("errno=0", result.out)
        self.assertIn("/nowhere.pem", result.err)
        self.assertEqual(self.proxy.connections, [])

    def test_client_certificates(self):
        mine = self.authority.certificate("boatman")
        server = self.haproxy(clients=self.authority.file)
        self.trust(server, more=f"  certFile: {mine}\n  keyFile: {mine}\n")
        self.reach("want=9")
        self.trust(server)
        self.reach("want=9", env={"SSL_CLIENT_CERT_FILE": mine, "SSL_CLIENT_KEY_FILE": mine})
        self.assertEqual([one["client"] for one in server.wait_seen(2)], ["boatman", "boatman"])
        # In TLS 1.3 the proxy's refusal comes after the handshake: it is seen instead of an answer.
        self.assertRegex(self.refused("ECONNABORTED", "tls_failed"), "reason=.*certificate required.*hint=.*certFile")
        self.assertEqual(len(self.proxy.connections), 2)

    def test_sessions_are_resumed(self):
        for version in ("TLSv1.2", "TLSv1.3"):
            with self.subTest(version):
                server = self.haproxy(maximum=version)
                self.trust(server)
                self.reach("want=9", "times=3")
                self.assertEqual([one["resumed"] for one in server.wait_seen(3)], ["0", "1", "1"])

    def test_the_environment_configures_no_openssl(self):
        server = self.haproxy()
        self.trust(server)
        strace = self.need("strace")
        config = self.file("openssl.cnf", "openssl_conf = x\n[x]\nssl_conf = y\nproviders = z\n[z]\nhostile = h\n[h]\n"
                           "module = hostile.so\nactivate = 1\n[y]\nsystem_default = s\n[s]\nMinProtocol = TLSv1.7\n")
        trace = os.path.join(self.directory, "trace")
        result = self.assert_ran(proc.run("strace", [
            strace, "-f", "-e", "trace=openat,open", "-o", trace, TOWPATH,
            "run", "-c", self.config, "--", *client("blocking", NAME, 7, "want=9")], self.directory,
            {**self.environment, "OPENSSL_CONF": config, "OPENSSL_MODULES": self.directory, "OPENSSL_ENGINES": self.directory},
            self.directory, 60))
        self.assertIn("errno=0\n", result.out)
        opened = open(trace).read()
        self.assertIn(self.authority.file, opened)
        # The program is python, whose ssl module is not loaded here.
        for name in ("openssl.cnf", "ossl-modules", "hostile"):
            self.assertNotIn(name, opened)


class WhatTheProgramIsTold(TlsCase):
    def test_every_way_of_waiting(self):
        server = self.haproxy()
        self.trust(server)
        for mode in MODES:
            with self.subTest(mode):
                result = self.reach("send=banana", "shut", mode=mode)
                self.assertRegex(result.out, r"peer=198\.1[89]\.\d+\.\d+:7\nread=b'welcome\\r\\nbanana'\nend=eof\n")

    def test_refusals_of_the_proxy(self):
        server = self.haproxy()
        self.trust(server)
        for status, errno, cause in ((403, "EACCES", "denied"), (502, "ECONNREFUSED", "refused"),
                                     (504, "ETIMEDOUT", "target_timeout"), (407, "EACCES", "wants_credentials")):
            self.proxy.answer = proxy.refuse(status, [("Proxy-Authenticate", "Basic")] if status == 407 else [])
            for mode in ("blocking", "poll"):
                with self.subTest(status=status, mode=mode):
                    self.refused(errno, cause, mode=mode)
        for one in self.proxy.connections:
            self.assertTrue(one.ended.wait(proc.scaled(5)))
            self.assertEqual(bytes(one.after_refusal), b"")

    def test_broken_replies(self):
        server = self.haproxy()
        self.trust(server)
        for answer, errno, cause in ((proxy.raw(b"SSH-2.0-x\r\n\r\n"), "EPROTO", "reply_malformed"),
                                     (proxy.close(), "ECONNRESET", "closed_early")):
            with self.subTest(cause):
                self.proxy.answer = answer
                self.refused(errno, cause)

    def test_credentials(self):
        server = self.haproxy()
        self.proxy.credentials = "boat:horse"
        self.trust(server, login="boat:horse@")
        self.reach("want=9")
        self.assertEqual(self.proxy.connections[-1].credentials, "boat:horse")
        self.trust(server, login="boat:cow@")
        self.assertNotIn("cow", self.refused("EACCES", "bad_credentials"))

    def test_a_proxy_that_speaks_no_tls(self):
        self.proxy = self.use(proxy.Proxy("http", answer=proxy.raw(b"HTTP/1.1 400 Bad\r\n\r\n")))
        # It answers as soon as a line is complete; a ClientHello seldom holds one. A server that is not so patient:
        plain = self.use(RawOrigin(PLACE, banner=b"HTTP/1.1 400 Bad Request\r\n\r\n", echo=False))
        self.trust(plain)
        line = self.refused("EPROTO", "looks_like_plain")
        self.assertIn("write http:// in the proxy's URL", line)

    def test_a_tls_proxy_behind_a_plain_url(self):
        # What has OpenSSL behind it closes without a word, others send an alert.
        alert = self.use(RawOrigin(PLACE, banner=b"\x15\x03\x01\x00\x02\x02\x46", echo=False))
        for name, kind in (("haproxy", Haproxy), ("stunnel", Stunnel), ("alert", None)):
            with self.subTest(name):
                if kind and not kind.PROGRAM:
                    self.skipTest(f"{name} is not installed")
                server = self.use(kind(self.directory, self.proxy, self.certificate, address=PLACE)) if kind else alert
                self.proxy_values(f"http://{PROXY}:{server.port}")
                line = self.refused(*(("ECONNRESET", "closed_early") if kind else ("EPROTO", "looks_like_tls")))
                self.assertRegex(line, "hint=.*write https:// in ")
                self.assertEqual(self.proxy.connections, [])

    def test_silence_in_the_handshake(self):
        with socket.create_server((PLACE, 0)) as silent:
            server = type("Silent", (), {"port": silent.getsockname()[1]})
            self.proxy_values(f"https://{PROXY}:{server.port}",
                              more=f"connectTimeout: 300ms\ntls:\n  caFile: {self.authority.file}")
            for mode in ("blocking", "epoll"):
                with self.subTest(mode):
                    self.refused("ETIMEDOUT", "deadline", mode=mode)

    def test_nobody_there(self):
        server = type("Nobody", (), {"port": proc.free_port(PLACE)})
        self.trust(server)
        self.refused("ECONNREFUSED", "proxy_unreachable")
        self.refused("ECONNREFUSED", "proxy_unreachable", mode="select")


class BytesAndEnds(TlsCase):
    def test_a_banner_in_the_record_of_the_reply_is_not_lost(self):
        self.proxy.answer = proxy.grant(early=b"EARLY")
        self.trust(self.front())
        for mode in MODES:
            with self.subTest(mode):
                self.assertIn("read=b'EARLYwelcome", self.reach("want=14", mode=mode).out)

    def test_a_reply_in_many_records(self):
        self.proxy.answer = proxy.grant(split=True)
        self.trust(self.front())
        self.assertIn(r"read=b'welcome\r\n'", self.reach("want=9").out)

    def test_the_program_ends_its_side_first(self):
        server = self.front()
        self.trust(server)
        # The echo comes only after the whole was sent and ended: the answer's way stays open.
        self.assertIn(r"read=b'welcome\r\nbanana'" + "\nend=eof", self.reach("send=banana", "shut").out)
        self.assertTrue(server.client_notified.is_set())

    def test_the_proxy_ends_its_side_first(self):
        origin = self.use(Ending(b"last words"))
        self.proxy.names[NAME] = origin.address
        self.trust(self.front("half"))
        self.assertIn("read=b'last words'\nend=eof", self.reach("late=and mine").out)
        self.assertTrue(origin.ended.wait(proc.scaled(5)))
        self.assertEqual(bytes(origin.received), b"and mine")

    def test_ends_without_close_notify(self):
        for ending in ("notify", "fin"):
            with self.subTest(ending):
                origin = self.use(Ending(b"last words"))
                self.proxy.names[NAME] = origin.address
                self.trust(self.front(ending))
                self.assertIn("read=b'last words'\nend=eof", self.reach("late=and mine").out)
                self.assertTrue(origin.ended.wait(proc.scaled(5)))
                self.assertEqual(bytes(origin.received), b"and mine")

    def test_an_end_inside_a_record_is_no_end(self):
        self.proxy.names[NAME] = self.use(RawOrigin()).address
        for size in (1, 4, 5, 6, 20):
            with self.subTest(f"{size} bytes of the record"):
                self.trust(self.front(size))
                self.assertIn("read=b''\nend=ECONNRESET", self.reach("send=cut").out)

    def test_a_new_key_in_mid_tunnel(self):
        openssl = self.need("openssl")
        port = proc.free_port(PLACE)
        server = self.use(proc.Process("s_server", [
            openssl, "s_server", "-accept", f"{PLACE}:{port}", "-cert", self.certificate, "-tls1_3", "-alpn", "http/1.1",
            "-msg"],
            self.directory, stdin=subprocess.PIPE))
        server.wait_listening(port)
        self.trust(type("Server", (), {"port": port}))
        config = ["-c", self.config] if self.config else []
        program = self.spawn("program", TOWPATH, "run", *config, "--",
                             *client("blocking", NAME, 7, "send=from the program", "want=14", "late=once more"))
        server.wait_line("^CONNECT ")

        def say(text):
            server.popen.stdin.write(text)
            server.popen.stdin.flush()
        say(b"HTTP/1.1 200 Fine\r\n\r\n")
        server.wait_line("from the program")
        say(b"K\n")  # a key update of its own that asks for ours
        server.wait_line(">>> TLS 1.3, Handshake .*KeyUpdate")
        say(b"after the keys")
        program.wait_line("read=b'after the keys'")
        server.wait_line("<<< TLS 1.3, Handshake .*KeyUpdate")
        server.wait_line("once more")
        self.assertEqual(program.wait(), 0)


class Ending(Listener):
    """Sends its parts, each by itself, ends its side, and keeps what comes."""

    def __init__(self, *parts):
        self.received, self.ended = bytearray(), threading.Event()
        self._parts = parts
        self.listen()
        self.address = self.host, self.port

    def serve(self, connection, peer):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            for part in self._parts:
                connection.sendall(part)
                # The next part goes after the proxy has taken this one.
                proc.wait_until(lambda: drained(connection), "an acknowledgement")
            connection.shutdown(socket.SHUT_WR)
            try:
                while data := connection.recv(65536):
                    self.received += data
            except OSError:
                pass
            self.ended.set()


def drained(connection):
    return struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, b"\0" * 4))[0] == 0


if __name__ == "__main__":
    main()
