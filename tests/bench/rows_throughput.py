"""An established plain tunnel: nothing of towpath is in its path, so neither speed nor CPU time may differ."""

from bed import NAME, plain
from table import Figure, row

BYTES = 2_000_000_000
FIGURES = [Figure("mb_s", "throughput", "MB/s", ">= 0.97"), Figure("cpu_ms", "CPU of the client", "ms", "<= 1.05"),
           Figure("parent_cpu_ms", "CPU of the agent", "ms", "<= 1 ms", absolute=True, only=("towpath",))]


def _through(bed, direction):
    port = bed.proxy()["http"]
    words = (direction, NAME, 19 if direction == "down" else 9, BYTES)
    return {"floor": bed.floor("http", port, *words),
            "towpath": bed.towpath(f"http://127.0.0.1:{port}", *plain(*words)),
            "proxychains4": bed.proxychains("http", port, *plain(*words))}


@row("throughput-down", FIGURES, rounds=5)
def _down(bed):
    return _through(bed, "down")


@row("throughput-up", FIGURES, rounds=5)
def _up(bed):
    return _through(bed, "up")
