"""The supervisor: Go static through the proxy, and what its filter costs calls that are none of its business."""

from bed import NAME, go, plain, program
from table import Figure, row

SECCOMP = ("--mode", "seccomp")
N = 300
_CALLS = (("pipe", "write and read of a pipe", "<= 1.03"), ("stat", "stat", "<= 1.03"), ("open", "open and close", "<= 1.03"),
          ("poll", "poll", "<= 1.03"), ("socket", "socket and close", "<= 26"), ("unix", "connect of AF_UNIX", "<= 20"),
          ("epoll", "epoll_ctl and epoll_wait", ""))


@row("seccomp-go-request", [Figure("median_us", "median", goal="<= 1.40"), Figure("p99_us", "p99")], rounds=9)
def _request(bed):
    port = bed.proxy()["http"]
    url = f"http://{NAME}/100"
    return {"floor": bed.run(go(), "via", N, url, f"127.0.0.1:{port}"),
            "towpath": bed.towpath(f"http://127.0.0.1:{port}", go(), "gets", N, url)}


@row("seccomp-go-at-once", [Figure("ms", "50 dials, the proxy answers after 100 ms", "ms", "<= 115 ms", absolute=True)], rounds=5)
def _at_once(bed):
    port = bed.proxy(delay_ms=100)["http"]
    return {"floor": lambda: {"errors": 0}, "towpath": bed.towpath(f"http://127.0.0.1:{port}", go(), "dials", 50, f"{NAME}:8")}


@row("seccomp-go-burst", [Figure("ms", "2000 dials", "ms", "<= 1.30")], rounds=5)
def _burst(bed):
    """The floor asks the proxy itself, in the same number of goroutines."""
    port = bed.proxy()["http"]
    return {"floor": bed.run(go(), "dials-via", 2000, f"{NAME}:8", f"127.0.0.1:{port}"),
            "towpath": bed.towpath(f"http://127.0.0.1:{port}", go(), "dials", 2000, f"{NAME}:8")}


@row("seccomp-connect", [Figure("median_us", "blocking connect to first byte"), Figure("p99_us", "p99")], rounds=7)
def _connect(bed):
    port = bed.proxy()["http"]
    words = ("connect", NAME, 7, N)
    return {"floor": bed.floor("http", port, *words),
            "towpath": bed.towpath(f"http://127.0.0.1:{port}", *plain(*words), options=SECCOMP)}


@row("seccomp-calls", [Figure(f"{key}_ns", title, "ns", goal) for key, title, goal in _CALLS], rounds=5)
def _calls(bed):
    port = bed.proxy()["http"]
    return {"bare": bed.run(program("other_calls")),
            "towpath": bed.towpath(f"http://127.0.0.1:{port}", program("other_calls"), options=SECCOMP)}


@row("seccomp-start", [Figure("median_us", "true under towpath run --mode seccomp", goal="<= 3")], rounds=7)
def _start(bed):
    port = bed.proxy()["http"]
    timer = [program("spawn_time"), 50]
    return {"bare": bed.run(*timer, "/bin/true"),
            "towpath": bed.run(*timer, *bed.towpath_words(f"http://127.0.0.1:{port}", options=SECCOMP), "/bin/true")}


@row("seccomp-start-inside", [Figure("median_us", "true inside the tree", goal="<= 1.05")], rounds=7)
def _inside(bed):
    port = bed.proxy()["http"]
    timed = [program("spawn_time"), 200, "/bin/true"]
    return {"bare": bed.run(*timed), "towpath": bed.towpath(f"http://127.0.0.1:{port}", *timed, options=SECCOMP)}
