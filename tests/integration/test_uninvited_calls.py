# suite: quick
"""A hook makes no system call that the program did not ask for: a program in a sandbox would die of it."""

import fcntl
import threading

from lab import proxy
from lab.case import LabCase, main, probe
from lab.machine import Machine
from lab.origin import RawOrigin
from lab.proc import wait_until

FAR, OTHER = ("192.0.2.7", 22), ("192.0.2.8", 23)


class UninvitedCalls(LabCase):
    def test_a_locked_up_program_while_others_are_in_mid_handshake(self):
        origin = self.use(RawOrigin())
        gate = threading.Event()
        self.addCleanup(gate.set)
        held, free = proxy.held(proxy.grant(), gate), proxy.grant()
        server = self.use(proxy.Proxy("http", {FAR[0]: origin.address, OTHER[0]: origin.address}, answer=held))
        self.proxy_values(server.url)
        for libc in ("glibc", "musl"):
            with self.subTest(libc=libc):
                gate.clear()
                server.answer = held
                m = Machine(self, libc=libc)
                before = len(server.targets())
                for _ in range(100):
                    fd = m.open(nonblocking=True)
                    m.result("fcntl", fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)  # what it inherits would be its own
                    self.assertEqual(m.connect(fd, FAR), "EINPROGRESS")
                wait_until(lambda: len(server.targets()) == before + 100, "requests at the proxy")
                server.answer = free
                out = self.file('out-' + libc, '')
                command = f"{probe('locked_up', libc)} > {out}; echo status=$? >> {out}"
                m.call("system", command.encode() + b"\0")
                with open(out) as file:
                    self.assertEqual(file.read(), "through connect=0\nstatus=0\n")
                gate.set()


if __name__ == "__main__":
    main()
