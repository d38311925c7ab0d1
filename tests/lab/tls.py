"""TLS towards a proxy: an authority with certificates of every kind, real TLS front ends, and a scripted one.

`Haproxy` and `Stunnel` decrypt and pass on to a proxy that speaks in the clear. `Front` does the same out of Python, and
can end a connection in ways that no real server can be asked for.
"""

import os
import re
import shutil
import socket
import ssl
import subprocess
import threading

from lab import proc
from lab.listener import Listener

_EXTENSIONS = "basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\n{names}\n"


class Authority:
    """`file` is what a client trusts. certificate() makes files that hold the certificate and its key."""

    def __init__(self, directory, name="authority"):
        self._place = os.path.join(directory, name)
        os.mkdir(self._place, 0o755)
        self._key, self.file = os.path.join(self._place, "ca.key"), os.path.join(self._place, "ca.pem")
        _openssl("ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", self._key)
        _openssl("req", "-new", "-x509", "-key", self._key, "-subj", f"/CN=lab {name}", "-days", "2", "-out", self.file)

    def certificate(self, name, *subjects, cn=None, days=2):
        """`subjects` are subjectAltName entries ("DNS:proxy.example", "IP:192.0.2.1"); `days` below 0: expired."""
        path = os.path.join(self._place, f"{name}.pem")
        request, extensions, certificate = path + ".csr", path + ".ext", path + ".crt"
        with open(extensions, "w") as file:
            file.write(_EXTENSIONS.format(names=f"subjectAltName={','.join(subjects)}" if subjects else ""))
        _openssl("req", "-new", "-key", self._key, "-subj", f"/CN={cn or name}", "-out", request)
        _openssl("x509", "-req", "-in", request, "-CA", self.file, "-CAkey", self._key, "-CAcreateserial", "-days",
                 str(days), "-extfile", extensions, "-out", certificate)
        with open(path, "w") as file:
            file.write(open(certificate).read() + open(self._key).read())
        os.chmod(path, 0o644)  # stunnel and haproxy may give up root before they read it
        return path


class Haproxy:
    """Offers h2 as well as http/1.1. `clients`: an authority's file; then a client certificate is required."""

    PROGRAM = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin")

    def __init__(self, directory, behind, certificate, clients=None, address="127.0.0.1", minimum="TLSv1.2", maximum="TLSv1.3"):
        self.host, self.port = address, proc.free_port(address)
        place = os.path.join(directory, f"haproxy-{self.port}")
        os.mkdir(place, 0o755)
        verify = f"ca-file {clients} verify required" if clients else ""
        form = ('"sni=%[ssl_fc_sni] alpn=%[ssl_fc_alpn] resumed=%[ssl_fc_is_resumed] version=%[ssl_fc_protocol] '
                'client=%[ssl_c_s_dn(cn)]"')
        with open(os.path.join(place, "haproxy.cfg"), "w") as file:
            file.write(f"""
global
    log stdout format raw local0
    maxconn 2000
    tune.ssl.default-dh-param 2048
defaults
    mode tcp
    log global
    option logasap
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout client-fin 30s
frontend tls
    bind {address}:{self.port} ssl crt {certificate} alpn h2,http/1.1 ssl-min-ver {minimum} ssl-max-ver {maximum} {verify}
    log-format {form}
    default_backend proxy
backend proxy
    server proxy {behind.host}:{behind.port}
""")
        self.process = proc.Process("haproxy", [self.PROGRAM, "-db", "-f", f"{place}/haproxy.cfg"], place, cwd=place)
        self.process.wait_listening(self.port)

    def seen(self):
        """One dictionary per connection that got as far as the proxy behind."""
        return [dict(re.findall(r"(\w+)=(\S+)", line)) for line in self.process.out.splitlines() if "sni=" in line]

    def wait_seen(self, count):
        return proc.wait_until(lambda: len(self.seen()) >= count and self.seen(), f"{count} lines of haproxy",
                               process=self.process)

    def stop(self):
        self.process.stop(grace=0)


class Stunnel:
    PROGRAM = shutil.which("stunnel4", path="/usr/sbin:/usr/bin") or shutil.which("stunnel", path="/usr/sbin:/usr/bin")

    def __init__(self, directory, behind, certificate, address="127.0.0.1"):
        self.host, self.port = address, proc.free_port(address)
        place = os.path.join(directory, f"stunnel-{self.port}")
        os.mkdir(place, 0o755)
        with open(os.path.join(place, "stunnel.conf"), "w") as file:
            file.write(f"foreground = quiet\ndebug = warning\npid =\n[proxy]\naccept = {address}:{self.port}\n"
                       f"connect = {behind.host}:{behind.port}\ncert = {certificate}\nTIMEOUTclose = 0\n")
        self.process = proc.Process("stunnel", [self.PROGRAM, f"{place}/stunnel.conf"], place, cwd=place)
        self.process.wait_listening(self.port)

    def stop(self):
        self.process.stop(grace=0)


class Front(Listener):
    """A scripted TLS end. What it does when the proxy behind closes is `ending`:

    "notify" close_notify and FIN, "fin" FIN alone. With "half" the close_notify comes alone, and what the client still
    sends goes on to the proxy. With a number, a record that ends with "cut" is cut after so many bytes, and FIN follows.
    """

    def __init__(self, behind, certificate, ending="notify", address="127.0.0.1", port=0):
        self.behind, self.ending = behind, ending
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self.reading = threading.Event()  # cleared: takes nothing more from the client
        self.reading.set()
        self.client_notified = threading.Event()  # the client sent close_notify
        self.listen(address, port)

    def serve(self, client, peer):
        session = _Session(self._context, client)
        try:
            session.handshake()
            upstream = socket.create_connection((self.behind.host, self.behind.port))
            upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sockets.append(upstream)
            threading.Thread(target=self._down, args=(upstream, session, client), daemon=True).start()
            while self.reading.wait() and (data := session.read()):
                upstream.sendall(data)
            self.client_notified.set()
            upstream.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def _down(self, upstream, session, client):
        try:
            while data := upstream.recv(16384):
                record = session.encrypt(data)
                if isinstance(self.ending, int) and data.endswith(b"cut"):
                    client.sendall(record[:self.ending])
                    return client.shutdown(socket.SHUT_WR)
                client.sendall(record)
            if self.ending != "fin":
                client.sendall(session.close_notify())
            if self.ending != "half":
                client.shutdown(socket.SHUT_WR)
        except OSError:
            pass


class _Session:
    """TLS in memory, so that its records can be counted and cut."""

    def __init__(self, context, client):
        self._in, self._out, self._client = ssl.MemoryBIO(), ssl.MemoryBIO(), client
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        self._lock = threading.Lock()

    def handshake(self):
        while True:
            try:
                self._tls.do_handshake()
                return self._flush()
            except ssl.SSLWantReadError:
                self._flush()
                self._feed()

    def read(self):
        while True:
            try:
                with self._lock:
                    return self._tls.read(65536)
            except ssl.SSLWantReadError:
                self._feed()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    def encrypt(self, data):
        with self._lock:
            self._tls.write(data)
            return self._out.read()

    def close_notify(self):
        with self._lock:
            try:
                self._tls.unwrap()
            except ssl.SSLError:
                pass
            return self._out.read()

    def _feed(self):
        data = self._client.recv(65536)
        with self._lock:
            self._in.write(data) if data else self._in.write_eof()

    def _flush(self):
        if data := self._out.read():
            self._client.sendall(data)


def _openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
