# suite: quick
"""The agent's name service itself: whom it answers, what it survives, and that it outlives its agent."""

import os
import signal

from lab import tree
from lab.asking import ASK, NAME, PUBLIC, SYNTHETIC, DnsCase
from lab.case import TOWPATH, main


class Strangers(DnsCase):
    """The name service of a tree answers its own tree, and survives everybody."""

    SLEEPER = ASK + "\nimport time\nprint('ready', flush=True)\ntime.sleep(60)\n"

    def doors(self):
        """The name service's ports: every UDP and TCP port on 127.0.0.1 but those of the lab."""
        found = {}
        for kind in ("udp", "tcp"):
            with open(f"/proc/self/net/{kind}") as table:
                rows = [line.split() for line in table.readlines()[1:]]
            found[kind] = {int(row[1].split(":")[1], 16) for row in rows
                           if row[1].startswith("0100007F:") and (kind == "udp" or row[3] == "0A")}
        return found["udp"], found["tcp"]

    def sleeper(self):
        before = self.doors()
        tcp = ASK.replace("reply, source = s", "t = socket.create_connection((server, 53)); t.close()\nreply, source = s")
        self.spawn("sleeper", TOWPATH, "run", "-c", self.config, "--", "/usr/bin/python3", "-c",
                   self.SLEEPER.replace(ASK, tcp), PUBLIC, "53", NAME, "1").wait_line("^ready")
        after = self.doors()
        return [new - old for new, old in zip(after, before)]

    def test_another_user_gets_no_answer(self):
        udp, tcp = self.sleeper()
        self.assertEqual(len(udp), 1)
        self.assertEqual(len(tcp), 1)
        program = """
import socket, struct, sys
query = struct.pack("!HHHHHH", 1, 0x100, 1, 0, 0, 0) + b"\\x06inside\\x06exempt\\x07example\\0\\0\\x01\\0\\x01"
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(0.5)
s.connect(("127.0.0.1", int(sys.argv[1])))
s.send(query)
try:
    print("answered", s.recv(512))
except TimeoutError:
    print("silence")
t = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
try:
    t.send(struct.pack("!H", len(query)) + query)
    print("tcp", t.recv(512))
except ConnectionError:
    print("tcp", b"")
"""
        for user in ("65534", "0"):
            out = self.assert_ran(self.bare("setpriv", "--reuid", user, "--clear-groups", "/usr/bin/python3", "-c", program,
                                            *map(str, (*udp, *tcp)))).out
            self.assertIn("silence", out)
            self.assertIn("tcp b''", out)
        self.assertFalse(self.dns.queries)

    def test_hostile_packets(self):
        program = ASK.replace("if connected:", """
import random
random.seed(7)
def send(packet):
    s.sendto(packet, (server, port))
good = struct.pack("!HHHHHH", 1, 0x0100, 1, 0, 0, 0) + b"\\x01a\\x07example\\0\\0\\x01\\0\\x01"
for cut in range(len(good)):
    send(good[:cut])
send(b"")
send(good[:12] + b"\\xc0\\x0c" + good[-4:])
send(good[:12] + b"\\xc0\\xff" + good[-4:])
send(good[:12] + b"\\x3f" * 300)
send(good[:2] + b"\\x81\\x80" + good[4:])
send(good + b"x" * 60000)
for _ in range(500):
    packet = bytearray(good)
    for _ in range(random.randrange(1, 6)):
        packet[random.randrange(len(packet))] = random.randrange(256)
    send(bytes(packet))
    send(random.randbytes(random.randrange(600)))
s.close()
s = socket.socket(family, socket.SOCK_DGRAM)
s.settimeout(5)
if connected:""", 1)
        out = self.assert_ran(self.towpath("/usr/bin/python3", "-c", program, PUBLIC, "53", NAME, "1")).out
        self.assertRegex(out, f"record 1 {SYNTHETIC}")

    def test_hostile_streams(self):
        program = """
import socket, struct
good = struct.pack("!HHHHHH", 1, 0x0100, 1, 0, 0, 0) + b"\\x01a\\x07example\\0\\0\\x01\\0\\x01"
framed = struct.pack("!H", len(good)) + good
def answers(*parts, count):
    s = socket.create_connection(("192.0.2.53", 53))
    s.settimeout(5)
    for part in parts:
        s.sendall(part)
    s.shutdown(socket.SHUT_WR)
    data = b""
    while part := s.recv(65536):
        data += part
    found = 0
    while data:
        size = struct.unpack_from("!H", data)[0]
        data = data[2 + size:]
        found += 1
    assert found == count, (found, count)
answers(framed, count=1)
answers(*[framed[i:i + 1] for i in range(len(framed))], count=1)
answers(framed * 100, count=100)
answers(b"\\0\\0" * 10, framed, count=1)
answers(framed, b"\\xff\\xff" + b"x" * 1000, count=1)
answers(b"", count=0)
print("all answered")
"""
        self.assertIn("all answered", self.assert_ran(self.towpath("/usr/bin/python3", "-c", program)).out)


class Restart(DnsCase):
    def test_a_socket_that_was_led_is_served_by_the_next_agent(self):
        program = """
import socket, struct, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(0.5)
s.connect(("192.0.2.53", 53))
query = struct.pack("!HHHHHH", 1, 0x100, 1, 0, 0, 0) + b"\\x01a\\x07example\\0\\0\\x01\\0\\x01"
def ask():
    end = time.monotonic() + 10  # while there is no agent a send is refused at once
    while time.monotonic() < end:
        try:
            s.send(query)
            return s.recvfrom(512)[1]
        except OSError:
            continue
print("first", ask(), flush=True)
sys.stdin.readline()
print("second", ask(), flush=True)
"""
        pipe = os.path.join(self.directory, "go")
        os.mkfifo(pipe)
        go = os.open(pipe, os.O_RDWR)
        self.addCleanup(os.close, go)
        running = self.spawn("asker", TOWPATH, "run", "-c", self.config, "--", "sh", "-c",
                             f'exec /usr/bin/python3 -c "$0" < {pipe}', program)
        running.wait_line(r"first \('192.0.2.53', 53\)")
        agent = tree.agent_of(running.pid)
        os.kill(agent, signal.SIGKILL)
        tree.agent_of(running.pid, other_than=(agent,))
        os.write(go, b"\n")
        running.wait_line(r"second \('192.0.2.53', 53\)")


if __name__ == "__main__":
    main()
