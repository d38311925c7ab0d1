"""pselect and ppoll with a signal mask stay atomic while a handshake runs: the signal that the mask lets in ends the wait,
and one that came before the call is not missed."""

import os
import threading

from lab.case import PROBES, LabCase, main
from lab.proxy import Proxy, held


class Masks(LabCase):
    def run_probe(self, how):
        gate = threading.Event()
        proxy = self.use(Proxy("http", {"db.example": ("127.0.0.1", 9)}))
        proxy.answer = held(proxy.answer, gate)
        self.proxy_values(proxy.url)
        self.addCleanup(gate.set)
        return self.assert_ran(self.towpath(os.path.join(PROBES, "masked_wait"), how)).out.split()

    def test_a_signal_during_the_wait_ends_it(self):
        for how in ("pselect", "ppoll"):
            with self.subTest(how=how):
                self.assertEqual(self.run_probe(how), ["connect=EINPROGRESS", "early=EINTR", "late=EINTR", "handled=2"])


if __name__ == "__main__":
    main()
