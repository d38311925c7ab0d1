"""What the net costs programs that the library serves: the same rows with it (towpath) and without it (off, the floor)."""

from bed import NAME, ORIGIN, plain, program
from table import Figure, row

TRUE = "/bin/true"
OFF = ("--net", "off")


def _both(bed, *command):
    url = f"http://127.0.0.1:{bed.proxy()['http']}"
    return {"off": bed.towpath(url, *command, options=OFF), "towpath": bed.towpath(url, *command)}


@row("net-connect", [Figure("median_us", "blocking connect through the proxy", goal="<= 1.03")], rounds=11)
def _connect(bed):
    return _both(bed, *plain("connect", NAME, 7, 500))


@row("net-exempt", [Figure("median_us", "blocking connect, direct", goal="<= 1.03")], rounds=11)
def _exempt(bed):
    return _both(bed, *plain("connect", ORIGIN, bed.proxy()["origin"], 1000))


@row("net-calls", [Figure(f"{key}_ns", title, "ns", "<= 1.03") for key, title in (
    ("pipe", "write and read of a pipe"), ("socketpair", "send and recv"), ("stat", "stat"), ("poll", "poll"),
    ("socket", "socket and close"), ("epoll", "epoll_ctl and epoll_wait"))], rounds=7)
def _calls(bed):
    return _both(bed, program("other_calls"))


@row("net-inside", [Figure("median_us", "true inside the tree", goal="<= 1.03")], rounds=7)
def _inside(bed):
    return _both(bed, program("spawn_time"), 200, TRUE)


@row("net-run", [Figure("median_us", "true under towpath run", goal="<= 1.10")], rounds=7)
def _run(bed):
    url = f"http://127.0.0.1:{bed.proxy()['http']}"
    timer = [program("spawn_time"), 50]
    return {"off": bed.run(*timer, *bed.towpath_words(url, options=OFF), TRUE),
            "towpath": bed.run(*timer, *bed.towpath_words(url), TRUE)}
