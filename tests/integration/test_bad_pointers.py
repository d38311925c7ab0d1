# suite: quick
"""A bad pointer is EFAULT, as it is bare, also while a socket of the program is in a handshake."""

import threading

from lab import proxy
from lab.case import LabCase, main
from lab.machine import Machine

BAD = 8


class BadPointers(LabCase):
    def test_waiting_calls_while_a_handshake_runs(self):
        gate = threading.Event()
        self.addCleanup(gate.set)
        server = self.use(proxy.Proxy("http", {}, answer=proxy.held(proxy.refuse(403), gate)))
        self.proxy_values(server.url)
        m = Machine(self)
        fd = m.open(nonblocking=True)
        self.assertEqual(m.connect(fd, ("192.0.2.7", 22)), "EINPROGRESS")
        # Not the timeout: glibc itself reads that one.
        bits = (1 << fd).to_bytes(128, "little")
        for name, *arguments in (("select", fd + 1, BAD, 0, 0, 0), ("select", fd + 1, 0, BAD, 0, 0),
                                 ("select", fd + 1, bits, 0, BAD, 0), ("pselect", fd + 1, 0, 0, BAD, 0, 0),
                                 ("poll", BAD, 1, 0), ("ppoll", BAD, 1, 0, 0)):
            with self.subTest(call=name, arguments=arguments):
                self.assertEqual(m.result(name, *arguments), "EFAULT")


if __name__ == "__main__":
    main()
