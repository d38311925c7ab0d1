# suite: full
"""Much, at once, and slowly through an https:// proxy: nothing is lost, and the agent stays small."""

import hashlib
import os
import random
import select
import socket
import threading

from lab import netns, proc, proxy
from lab.case import TOWPATH, LabCase, main
from lab.origin import RawOrigin
from lab.squid import Squid
from lab.tls import Authority, Front, Haproxy, Stunnel

NAME = "only-at-the-proxy.example"
PROXY = "tls-proxy.example"
PLACE = "127.0.0.21"
PYTHON = "/usr/bin/python3"
MUCH = 100 << 20

# Sends and reads at the same time, and prints what it has read. The last byte says that the other end has everything:
# squid ends a tunnel as soon as one of its directions has ended.
_BOTH_WAYS = r"""
import hashlib, random, socket, sys, threading
size = int(sys.argv[2])
connection = socket.create_connection((sys.argv[1], 7))
block = random.Random(1).randbytes(1 << 20)
def send():
    for _ in range(size >> 20):
        connection.sendall(block)
threading.Thread(target=send).start()
digest, got = hashlib.sha256(), 0
while got < size and (data := connection.recv(min(1 << 18, size - got))):
    digest.update(data)
    got += len(data)
assert connection.recv(1) == b"."
print(digest.hexdigest())
"""

_PARALLEL = r"""
import asyncio, sys
async def one(number, everyone):
    reader, writer = await asyncio.open_connection(sys.argv[1], 7)
    await everyone.wait()  # all tunnels stand at the same time
    word = b"%d;" % number * 1000
    writer.write(word)
    writer.write_eof()
    assert await reader.read() == word, number
async def main():
    everyone = asyncio.Barrier(200)
    await asyncio.gather(*(one(number, everyone) for number in range(200)))
    print("all")
asyncio.run(main())
"""

_SLOW_READER = r"""
import hashlib, socket, sys
connection = socket.create_connection((sys.argv[1], 7))
print("connected", flush=True)
open(sys.argv[2]).read()
digest = hashlib.sha256()
while data := connection.recv(1 << 18):
    digest.update(data)
print("hash=" + digest.hexdigest(), flush=True)
"""

_SLOW_PROXY = r"""
import random, socket, sys
connection = socket.create_connection((sys.argv[1], 7))
block = random.Random(1).randbytes(1 << 20)
connection.settimeout(1)
sent = 0
try:
    while sent < 64 << 20:
        sent += connection.send(block)
except TimeoutError:
    print("stuck", flush=True)
connection.settimeout(None)
connection.shutdown(socket.SHUT_WR)
print("answer=%r" % connection.recv(100), sent, flush=True)
"""


def block():
    return random.Random(1).randbytes(1 << 20)


def digest(size):
    out = hashlib.sha256()
    for _ in range(size >> 20):
        out.update(block())
    return out.hexdigest()


class Source:
    """Sends `size` bytes and takes `wanted` (None: until the end); then its last words, and the end."""

    def __init__(self, size, wanted=0):
        self.size, self.wanted, self.sent, self.taken = size, wanted, 0, 0
        self.stuck, self.received = threading.Event(), hashlib.sha256()
        self._listener = socket.create_server(("127.0.0.80", 0))
        self.address = self._listener.getsockname()
        threading.Thread(target=self._serve, daemon=True).start()

    def stop(self):
        self._listener.close()

    def _serve(self):
        connection, _ = self._listener.accept()
        with connection:
            sender = threading.Thread(target=self._send, args=(connection,))
            sender.start()
            while (self.wanted is None or self.taken < self.wanted) and (data := connection.recv(1 << 18)):
                self.taken += len(data)
                self.received.update(data)
            sender.join()
            connection.sendall(b"%d" % self.taken if self.wanted is None else b"." * bool(self.wanted))
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)

    def _send(self, connection):
        data = memoryview(block())
        for _ in range(self.size >> 20):
            at = 0
            while at < len(data):
                try:
                    at += connection.send(data[at:], socket.MSG_DONTWAIT)
                except BlockingIOError:
                    # Nothing moves for a second: every buffer on the way is full.
                    if not select.select([], [connection], [], proc.scaled(1))[1]:
                        self.stuck.set()
                        select.select([], [connection], [])
            self.sent += len(data)


class Load(LabCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.authority = Authority(cls.class_directory)
        cls.certificate = cls.authority.certificate("proxy", f"DNS:{PROXY}")
        netns.hosts(f"{PLACE} {PROXY}\n")
        cls.addClassCleanup(netns.hosts)

    def trust(self, server):
        self.proxy_values(f"https://{PROXY}:{server.port}", more=f"tls:\n  caFile: {self.authority.file}")

    def memory(self):
        with open(f"/proc/{netns.agents()[0]}/statm") as file:
            words = file.read().split()
            return (int(words[1]) - int(words[2])) * 4096  # without what is shared

    def front(self, kind, behind):
        if not kind.PROGRAM:
            self.skipTest(f"{kind.__name__} is not installed")
        return self.use(kind(self.directory, behind, self.certificate, address=PLACE))

    def test_much_both_ways(self):
        for kind in (Haproxy, Stunnel):
            with self.subTest(kind.__name__):
                origin = self.use(Source(MUCH, MUCH))
                behind = self.use(Squid(self.directory, {NAME: "127.0.0.80"})) if Squid.PROGRAM else None
                if behind is None:
                    self.skipTest("squid is not installed")
                self.trust(self.front(kind, behind))
                script = _BOTH_WAYS.replace(", 7))", f", {origin.address[1]}))")
                result = self.assert_ran(self.towpath(PYTHON, "-c", script, NAME, MUCH, timeout=120))
                self.assertEqual(result.out.strip(), digest(MUCH))
                self.assertEqual(origin.received.hexdigest(), digest(MUCH))

    def test_two_hundred_at_once(self):
        origin = self.use(RawOrigin())
        self.trust(self.front(Haproxy, self.use(proxy.Proxy("http", {NAME: origin.address}))))
        self.assertEqual(self.assert_ran(self.towpath(PYTHON, "-c", _PARALLEL, NAME, timeout=60)).out, "all\n")
        self.assertEqual(len(origin.received), 200)

    def test_a_slow_reader(self):
        origin = self.use(Source(64 << 20))
        self.trust(self.front(Haproxy, self.use(Squid(self.directory, {NAME: "127.0.0.80"}))))
        go = os.path.join(self.directory, "go")
        os.mkfifo(go)
        script = _SLOW_READER.replace(", 7))", f", {origin.address[1]}))")
        program = self.spawn("program", TOWPATH, "run", "-c", self.config, "--", PYTHON, "-c", script, NAME, go)
        program.wait_line("connected")
        before = self.memory()
        self.assertTrue(origin.stuck.wait(proc.scaled(20)))
        self.assertLess(origin.sent, 48 << 20, "the way to the program holds too much")
        self.assertLess(self.memory() - before, 4 << 20)
        with open(go, "w"):
            pass
        program.wait_line(f"hash={digest(64 << 20)}", timeout=30)

    def test_a_slow_proxy(self):
        origin = self.use(Source(0, None))
        server = self.use(Front(self.use(proxy.Proxy("http", {NAME: origin.address})), self.certificate, address=PLACE))
        self.trust(server)
        # The proxy takes the request and no more.
        original = server.behind
        program = self.spawn("program", TOWPATH, "run", "-c", self.config, "--", PYTHON, "-c", _SLOW_PROXY, NAME)
        proc.wait_until(lambda: original.connections and original.connections[0].target, "the request")
        server.reading.clear()
        program.wait_line("stuck")
        self.assertLess(self.memory(), 24 << 20)
        server.reading.set()
        # All of it, and the end after it: a close_notify that finds the way full is not forgotten.
        answer = program.wait_line(r"answer=b'(\d+)' (\d+)", timeout=30)
        self.assertEqual(answer.group(1), answer.group(2))


if __name__ == "__main__":
    main()
