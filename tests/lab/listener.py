"""What every scripted end of the lab is: a listener, and a thread for each client."""

import socket
import threading


class Listener:
    """The last line of a constructor is `self.listen()`. `serve(client, peer)` has the client's socket; the end is its."""

    def listen(self, address="127.0.0.1", port=0):
        self.closing = threading.Event()
        self.sockets = []  # clients, and what `serve` adds; ended by stop()
        self._listener = socket.create_server((address, port), backlog=128,
                                              family=socket.AF_INET6 if ":" in address else socket.AF_INET)
        self.host, self.port = self._listener.getsockname()[:2]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def stop(self):
        self.closing.set()
        end(self._listener)
        self._thread.join()
        self.end_connections()

    def end_connections(self):
        """Those of now; new ones are served."""
        for one in list(self.sockets):
            end(one)

    def _accept(self):
        while not self.closing.is_set():
            try:
                client, peer = self._listener.accept()
            except OSError:
                return
            self.sockets.append(client)
            threading.Thread(target=self.serve, args=(client, peer), daemon=True).start()


def end(one):
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    one.close()
