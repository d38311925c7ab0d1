"""What scripts/demo shows: unmodified programs reach a name that only a proxy can resolve.

Needs nothing but the programs: proxy, origin and name server are the lab's own. As root it runs in a network
namespace of its own and counts what tries to leave; otherwise it goes without, and says so.
"""

import os
import shutil
import sys
import tempfile

from lab import netns, proc
from lab.case import STANDARD_PATH, TOWPATH
from lab.dns import Dns
from lab.origin import Origin
from lab.proxy import Proxy

NAME = "only-at-the-proxy.example"
EXEMPT = "inside.example"
_PYTHON = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())"
_NODE = """require("http").get(process.argv[1], answer => answer.pipe(process.stdout))
           .on("error", error => { console.error(error.message); process.exit(1) })"""
CLIENTS = {
    "curl": lambda url: [_find("curl"), "-sS", "--max-time", "10", url],
    "python3": lambda url: [_find("python3"), "-c", _PYTHON, url],
    "busybox": lambda url: [_find("busybox"), "wget", "-q", "-O", "-", url],  # busybox-static: no library reaches it
    "node": lambda url: [_find("node"), "-e", _NODE, url],
}


class Demo:
    def __init__(self, directory):
        self.directory, self.wrong = directory, 0
        self.apart = os.geteuid() == 0
        if self.apart:
            netns.enter(tempfile.mkdtemp(prefix="etc-", dir=directory))
            Dns()
            netns.hosts(f"127.0.0.81 {EXEMPT}\n")
        self.inside = Origin("127.0.0.81", 80) if self.apart else Origin()
        # Where the machine's hosts file is not ours, an exempt name has to be one that it knows already.
        self.exempt = f"{EXEMPT}:80" if self.apart else f"localhost:{self.inside.port}"

    def check(self, holds, text, why=""):
        print(f"  {'ok  ' if holds else 'NOT '} {text}", flush=True)
        if not holds:
            self.wrong += 1
            print("".join(f"         {line}\n" for line in why.splitlines()[-12:]), end="", flush=True)

    def run(self, *command):
        environment = {"PATH": STANDARD_PATH, "HOME": self.directory, "LC_ALL": "C"}
        try:
            return proc.run("demo", command, self.directory, environment, self.directory)
        except AssertionError as error:
            return proc.Result(-1, "", str(error))

    def bare(self, clients):
        print(f"\nWithout towpath, http://{NAME}/ leads nowhere:")
        for client in clients:
            result = self.run(*CLIENTS[client](f"http://{NAME}/"))
            self.check(result.code != 0, f"{client}: {last_line(result.err)}", result.out)

    def through(self, kind, clients):
        origin = Origin()
        proxy = Proxy(kind, {NAME: origin.address}, credentials="boat:horse")
        config = os.path.join(self.directory, f"{kind}.yaml")
        with open(config, "w") as file:
            file.write(f'coderd:\n  proxy:\n    http: "{proxy.url}"\n    https: ""\n    exempt: "{EXEMPT},localhost"\n')
        print(f"\nThrough a proxy, {kind.upper()} with a password: towpath run -c {kind}.yaml -- PROGRAM:")
        for client in clients:
            result = self.run(TOWPATH, "run", "-c", config, "--", *CLIENTS[client](f"http://{NAME}/{client}"))
            seen = proxy.targets()[-1:] == [f"{NAME}:80"] and f"/{client}" in origin.paths()
            self.check(result.code == 0 and seen and f"path=/{client}" in result.out,
                       f"{client}: the proxy was asked for {NAME}:80, the origin answered", result.out + result.err)
        before = len(proxy.connections)
        result = self.run(TOWPATH, "run", "-c", config, "--", *CLIENTS[clients[0]](f"http://{self.exempt}/{kind}"))
        self.check(result.code == 0 and f"/{kind}" in self.inside.paths() and len(proxy.connections) == before,
                   f"{clients[0]}: {self.exempt} is exempt: reached directly, unseen by the proxy",
                   result.out + result.err)
        proxy.stop()
        origin.stop()


def main():
    clients = [client for client in CLIENTS if _find(client)]
    if not clients or not os.access(TOWPATH, os.X_OK):
        print("demo: needs curl, python3 or node" if not clients else f"demo: {TOWPATH} is not built")
        return 1
    with tempfile.TemporaryDirectory(prefix="towpath-demo-") as directory:
        demo = Demo(directory)
        print("Everything happens on this machine" + (
            ", in a network namespace whose only way out is counted." if demo.apart else
            ". (Not root: no network namespace, so what leaves the machine is not counted.)"))
        for client in CLIENTS.keys() - set(clients):
            print(f"(no {client} here: left out)")
        demo.bare(clients)
        for kind in ("http", "socks5"):
            demo.through(kind, clients)
        if demo.apart:
            print("\nAnd the way out:")
            demo.check(netns.veth_packets() == 0, f"{netns.veth_packets()} packets tried to leave the machine",
                       "\n".join(netns.leaks()))
            proc.kill(netns.processes())
        print("\nEverything holds." if not demo.wrong else f"\n{demo.wrong} of these do not hold.")
        return 1 if demo.wrong else 0


def last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "failed without a word"


def _find(program):
    return shutil.which(program, path=STANDARD_PATH + ":" + os.environ.get("PATH", ""))


if __name__ == "__main__":
    sys.exit(main())
