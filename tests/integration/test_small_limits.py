# suite: quick
"""Small limits of the caller: towpath works within them, or says which one is too small. The program keeps its own."""

import socket
import struct

from lab import proxy
from lab.case import LabCase, main
from lab.machine import Machine, address
from lab.origin import RawOrigin

FAR = ("192.0.2.7", 22)
QUESTION = (struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + b"\x03far\x07example\x00" + struct.pack(">HH", 1, 1))


class SmallLimits(LabCase):
    def setUp(self):
        super().setUp()
        self.origin = self.use(RawOrigin(banner=b"hello"))
        self.proxy = self.use(proxy.Proxy("http", {FAR[0]: self.origin.address}))
        self.proxy_values(self.proxy.url)

    def limit(self, *options):
        self.around = (self.need("prlimit"), *options)

    def refused(self, word, options=()):
        result = self.towpath("/bin/true", options=options)
        self.assertEqual((result.code, result.out), (125, ""), result.err)
        self.assertEqual(len(result.err.splitlines()), 1, result.err)
        self.assertIn(word, result.err)

    def test_a_hard_limit_of_descriptors_that_is_too_small(self):
        for mode in ("auto", "seccomp"):
            for number in (4, 16, 32):
                with self.subTest(number=number, mode=mode):
                    self.limit(f"--nofile={number}:{number}")
                    self.refused(f"hard limit of open files (ulimit -Hn) is {number}", ("--mode", mode))

    def test_a_soft_limit_of_four_descriptors_is_the_programs_own(self):
        for mode in ("auto", "seccomp"):
            self.limit("--nofile=4:")
            result = self.assert_ran(self.towpath("/bin/sh", "-c", "ulimit -Sn", options=("--mode", mode)))
            self.assertEqual((result.out, result.err), ("4\n", ""))

    def test_a_hard_limit_of_the_stack_that_is_too_small(self):
        self.limit("--stack=65536:65536")
        self.refused("hard limit of the stack (ulimit -Hs) is 64 KB")

    def test_a_soft_limit_of_the_stack_is_the_programs_own(self):
        """The agent needs more: it reads whole messages of a name server."""
        self.limit("--stack=65536:")
        m = Machine(self)
        agent = m.agent()
        fd = m.open()
        self.assertEqual((m.connect(fd, FAR), m.read(fd)), (0, b"hello"))
        asker, server = m.open(kind=socket.SOCK_DGRAM), address(("192.0.2.53", 53))
        self.assertEqual(m.result("sendto", asker, QUESTION, len(QUESTION), 0, server, len(server)), len(QUESTION))
        self.assertEqual(m.poll(asker, 1), "IN")
        answer = m.read(asker, 512)
        self.assertEqual((answer[:2], struct.unpack(">H", answer[6:8])[0]), (QUESTION[:2], 1))
        self.assertEqual(m.agent(), agent)
        with open(f"/proc/{m.pid}/limits") as file:
            self.assertRegex(file.read(), r"Max stack size +65536 ")


if __name__ == "__main__":
    main()
