"""System calls that are not ours, with and without the library in the process."""

from bed import NAME, program
from table import Figure, row

FIGURES = [Figure(f"{key}_ns", title, "ns", "<= 1.00" if key in ("pipe", "stat", "open") else "") for key, title in (
    ("pipe", "write and read of a pipe"), ("socketpair", "send and recv"), ("stat", "stat"),
    ("open", "open and close"), ("socket", "socket and close"), ("poll", "poll"),
    ("epoll", "epoll_ctl and epoll_wait"))]


def _calls(bed, *words):
    port = bed.proxy()["http"]
    command = [program("other_calls"), *words]
    # proxychains4 connects without the library's help as well: its figures are for the calls only.
    return {"bare": bed.run(program("other_calls")), "towpath": bed.towpath(f"http://127.0.0.1:{port}", *command),
            "proxychains4": bed.proxychains("http", port, *command)}


@row("calls", FIGURES, rounds=5)
def _fresh(bed):
    return _calls(bed)


@row("calls-after-connect", FIGURES, rounds=5)
def _after_connect(bed):
    return _calls(bed, NAME, 7)
