"""A real tinyproxy that tunnels only port 443, on a free loopback port. Names in `names` resolve at this proxy only.

It has no hosts file of its own: it sees another /etc/hosts than the rest of the machine. It takes one request per
connection, and closes.
"""

import os
import shutil

from lab import proc


class Tinyproxy:
    PROGRAM = shutil.which("tinyproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    kind = "http"

    def __init__(self, directory, names=None, users=None, address="127.0.0.1"):
        self.users, self.host, self.port = users or {}, address, proc.free_port(address)
        place = os.path.join(directory, f"tinyproxy-{self.port}")
        os.mkdir(place, 0o755)
        with open(os.path.join(place, "hosts"), "w") as file:
            file.write("".join(f"{target} {name}\n" for name, target in (names or {}).items()))
        with open(os.path.join(place, "tinyproxy.conf"), "w") as file:
            file.write(f"Listen {address}\nPort {self.port}\nTimeout 60\nMaxClients 100\nLogLevel Connect\nConnectPort 443\n" +
                       "".join(f"BasicAuth {user} {word}\n" for user, word in self.users.items()))
        line = f'mount --bind "{place}/hosts" /etc/hosts && exec "{self.PROGRAM}" -d -c "{place}/tinyproxy.conf"'
        self.process = proc.Process("tinyproxy", ["unshare", "--mount", "sh", "-c", line], place, cwd=place)
        self.process.wait_listening(self.port)

    @property
    def url(self):
        return f"http://{''.join(f'{u}:{p}@' for u, p in list(self.users.items())[:1])}{self.host}:{self.port}"

    def requests(self):
        """What was asked for: [method, target] of each request."""
        lines = (self.process.out + self.process.err).splitlines()
        return [line.split("): ", 1)[1].split()[:2] for line in lines if "Request (file descriptor" in line]

    def stop(self):
        self.process.stop(grace=0)
