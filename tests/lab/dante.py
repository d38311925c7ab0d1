"""A real danted: SOCKS5 on a free loopback port, in a mount namespace of its own.

That namespace covers /etc/hosts (so that `names` resolve at this proxy only), /etc/resolv.conf, and with `users`
/etc/passwd and /etc/shadow: `socksmethod: username` asks for system users, and the machine's are never touched.
"""

import os
import re
import shutil
import subprocess

from lab import dns, proc
from lab.netns import DEFAULT_HOSTS

_CONFIGURATION = """
logoutput: stderr
debug: 2
internal: {host} port = {port}
external: lo
user.privileged: root
user.unprivileged: nobody
clientmethod: none
socksmethod: {method}
client pass {{
  from: 0.0.0.0/0 to: 0.0.0.0/0
  log: error
}}
socks {verdict} {{
  from: 0.0.0.0/0 to: 0.0.0.0/0
  command: connect
  log: connect error
}}
"""


class Dante:
    PROGRAM = shutil.which("danted", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    kind = "socks5"

    def __init__(self, directory, names=None, users=None, refuse=False, address="127.0.0.1"):
        self.users, self.host, self.port = users or {}, address, proc.free_port(address)
        place = os.path.join(directory, f"dante-{self.port}")
        os.mkdir(place, 0o755)
        covers = {
            "hosts": DEFAULT_HOSTS + "".join(f"{target} {name}\n" for name, target in (names or {}).items()),
            "resolv.conf": f"nameserver {dns.proxy_side().address[0]}\n",
        }
        if self.users:
            with open("/etc/passwd") as file:
                covers["passwd"] = file.read() + "".join(
                    f"{user}:x:{61000 + number}:65534::/nonexistent:/usr/sbin/nologin\n"
                    for number, user in enumerate(self.users))
            covers["shadow"] = "root:*:19000::::::\n" + "".join(
                f"{user}:{_hash(word)}:19000:0:99999:7:::\n" for user, word in self.users.items())
        for name, text in covers.items():
            with open(os.path.join(place, name), "w") as file:
                file.write(text)
        configuration = os.path.join(place, "danted.conf")
        with open(configuration, "w") as file:
            file.write(_CONFIGURATION.format(host=self.host, port=self.port, verdict="block" if refuse else "pass",
                                             method="username" if self.users else "none"))
        mounts = "".join(f"mount --bind {place}/{name} /etc/{name} && " for name in covers)
        inner = f"{mounts}exec {self.PROGRAM} -N 1 -f {configuration} -p {place}/danted.pid"
        self.process = proc.Process("dante", ["unshare", "--mount", "--propagation", "private", "sh", "-c", inner],
                                    place, cwd=place)
        self.process.noise = r"debug: (?!dorequest)"
        self.process.wait_listening(self.port)

    @property
    def url(self):
        return f"socks5://{''.join(f'{u}:{p}@' for u, p in list(self.users.items())[:1])}{self.host}:{self.port}"

    @property
    def log(self):
        return self.process.out + self.process.err

    def targets(self):
        """What was asked for, as the client wrote it: "name:port", or "address:port"."""
        # The ordinary log has the address that dante found; only its debug lines have the request.
        found = re.findall(r"dorequest.*CMD: 1 .* address: (\S+)", self.log)
        return [":".join(target.rpartition(".")[::2]) for target in found]

    def wait_target(self, target):
        proc.wait_until(lambda: target in self.targets(), f"{target} in dante's log", process=self.process)

    def stop(self):
        self.process.stop()


def _hash(password):
    return subprocess.run(["openssl", "passwd", "-6", "-stdin"], input=password, text=True, check=True,
                          capture_output=True).stdout.strip()
