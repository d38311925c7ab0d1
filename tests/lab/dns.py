"""A scripted name server (UDP) and its log: a test proves by `asked()` which names a program let out.

`records` maps a name to its addresses, IPv4 and IPv6 mixed. A known name without an address of the asked family gets
an empty answer, an unknown one NXDOMAIN; names in `silent` get no answer and names in `broken` SERVFAIL.
"""

import ipaddress
import socket
import struct
import threading

_TYPES = {1: "A", 28: "AAAA"}
_proxy_side = None


class Dns:
    def __init__(self, records=None, address="127.0.0.1", port=53):
        self.records = {name.lower(): addresses for name, addresses in (records or {}).items()}
        self.silent, self.broken = set(), set()
        self.queries = []  # (name, type) in the order of arrival
        self._socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, port))
        self.address = self._socket.getsockname()[:2]
        self._thread = threading.Thread(target=self._serve, name="dns", daemon=True)
        self._thread.start()

    def asked(self, name=None):
        """The distinct names that were asked for, or whether `name` was (search candidates are names of their own)."""
        names = {query for query, _ in self.queries}
        return names if name is None else name.lower() in names

    def stop(self):
        with socket.socket(self._socket.family, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", self.address)
        self._thread.join()
        self._socket.close()

    def _serve(self):
        while True:
            query, sender = self._socket.recvfrom(4096)
            if not query:
                return
            try:
                reply = self._answer(query)
            except (struct.error, IndexError):
                continue
            if reply:
                self._socket.sendto(reply, sender)

    def _answer(self, query):
        name, end = _name(query, 12)
        number, _ = struct.unpack_from("!HH", query, end)
        kind = _TYPES.get(number, str(number))
        self.queries.append((name, kind))
        if name in self.silent:
            return None
        known = self.records.get(name)
        code = 2 if name in self.broken else 3 if known is None else 0
        answers = [] if code else [_record(number, address) for address in known if _fits(kind, address)]
        # Response, recursion desired (copied) and available.
        flags = 0x8080 | (struct.unpack_from("!H", query, 2)[0] & 0x0100) | code
        return query[:2] + struct.pack("!HHHHH", flags, 1, len(answers), 0, 0) + query[12:end + 4] + b"".join(answers)


def proxy_side():
    """The name server of squid and dante, which knows nothing: what only they can resolve is in their hosts files."""
    global _proxy_side
    if _proxy_side is None:
        _proxy_side = Dns(address="127.0.0.53")
    return _proxy_side


def _name(message, at):
    labels = []
    while message[at]:
        labels.append(message[at + 1:at + 1 + message[at]].decode("latin-1"))
        at += 1 + message[at]
    return ".".join(labels).lower(), at + 1


def _fits(kind, address):
    return kind == ("AAAA" if ipaddress.ip_address(address).version == 6 else "A")


def _record(number, address):
    data = ipaddress.ip_address(address).packed
    return struct.pack("!HHHIH", 0xC00C, number, 1, 60, len(data)) + data
