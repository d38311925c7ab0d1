"""A real squid: HTTP CONNECT, without cache, on a free loopback port, in the foreground, out of the test's directory.

Names in `names` resolve at this proxy only (its hosts file). `users` ({"user": "password"}) turns credentials on.
Tunnels to every port are allowed, unless `shipped_rules`, which are Debian's: CONNECT only to 443.
"""

import os
import shutil
import subprocess
import tempfile

from lab import dns, proc

_NCSA = "/usr/lib/squid/basic_ncsa_auth"


class Squid:
    PROGRAM = shutil.which("squid", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    kind = "http"

    def __init__(self, directory, names=None, users=None, shipped_rules=False, address="127.0.0.1", port=0):
        self.users, self.host, self.port = users or {}, address, port or proc.free_port(address)
        place = tempfile.mkdtemp(prefix=f"squid-{self.port}-", dir=directory)  # one that is started again has its own
        os.chmod(place, 0o755)
        self._access_log = os.path.join(place, "access.log")
        _write(place, "hosts", "".join(f"{target} {name}\n" for name, target in (names or {}).items()))
        _write(place, "users", "".join(f"{user}:{_hash(word)}\n" for user, word in self.users.items()))
        _write(place, "squid.conf", self._configuration(place, shipped_rules))
        if os.geteuid() == 0:
            shutil.chown(place, "proxy", "proxy")  # what squid becomes
        self.process = proc.Process("squid", [self.PROGRAM, "-N", "-n", f"lab{self.port}", "-f", f"{place}/squid.conf"],
                                    place, cwd=place)
        self.process.logs += [os.path.join(place, "cache.log"), self._access_log]
        self.process.wait_listening(self.port)

    @property
    def url(self):
        return f"http://{''.join(f'{u}:{p}@' for u, p in list(self.users.items())[:1])}{self.host}:{self.port}"

    @property
    def access_log(self):
        """Lines `METHOD target status user`; a tunnel's line is written when the tunnel ends."""
        try:
            with open(self._access_log) as file:
                return file.read().splitlines()
        except FileNotFoundError:
            return []

    def targets(self):
        """What was asked for and let through with CONNECT, as the client wrote it."""
        rows = [line.split() for line in self.access_log]
        return [row[1] for row in rows if row[0] == "CONNECT" and row[2] == "200"]

    def wait_target(self, target):
        proc.wait_until(lambda: target in self.targets(), f"CONNECT {target} in squid's log", process=self.process)

    def stop(self):
        self.process.stop(grace=0)  # its orderly end takes two seconds, whatever shutdown_lifetime says

    def _configuration(self, place, shipped_rules):
        rules = []
        if shipped_rules:
            rules += ["acl SSL_ports port 443", "acl Safe_ports port 80 443 1025-65535", "http_access deny !Safe_ports",
                      "http_access deny CONNECT !SSL_ports"]
        if self.users:
            rules += [f"auth_param basic program {_NCSA} {place}/users", "auth_param basic children 1 startup=1 idle=1",
                      "auth_param basic realm lab", "acl known proxy_auth REQUIRED", "http_access allow known"]
        rules.append("http_access deny all" if self.users else "http_access allow all")
        # The directives are explained in squid's own documentation; each takes away a file or a wait.
        return "\n".join([
            f"http_port {self.host}:{self.port}", "visible_hostname lab-squid", f"hosts_file {place}/hosts",
            f"dns_nameservers {dns.proxy_side().address[0]}", *rules,
            "cache deny all", "cache_mem 1 MB", "memory_cache_shared off", "pinger_enable off", "shutdown_lifetime 0",
            "logfile_rotate 0", "max_filedescriptors 1024", "dns_timeout 2 seconds", "negative_dns_ttl 1 second",
            "forward_timeout 5 seconds", "connect_timeout 5 seconds", "connect_retries 0",
            # Squid 5.7 takes a full buffer for the client's end: an upload that is faster than its server is reset.
            "client_request_buffer_max_size 512 MB",
            f"pid_filename {place}/squid.pid", f"coredump_dir {place}", f"cache_log {place}/cache.log",
            "mime_table /usr/share/squid/mime.conf",
            "logformat lab %rm %ru %>Hs %un", f"access_log stdio:{self._access_log} logformat=lab", ""])


def _hash(password):
    return subprocess.run(["openssl", "passwd", "-apr1", "-stdin"], input=password, text=True, check=True,
                          capture_output=True).stdout.strip()


def _write(place, name, text):
    with open(os.path.join(place, name), "w") as file:
        file.write(text)
