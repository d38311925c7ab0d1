"""Many non-blocking connects from one event loop. The loop must not be held, and a refusal must be an error."""

from bed import NAME, NODE, PYTHON, need, plain, script
from table import Figure, row

BURST = [Figure("total_ms", "until the last first byte", "ms", "<= 1.3")]
FIFTY = [Figure("total_ms", "until the last first byte", "ms", "<= 115 ms", absolute=True),
         Figure("held_ms", "loop held at most", "ms", "<= 5 ms", absolute=True)]
LOOP = [FIFTY[0], Figure("held_ms", "loop held at most", "ms", absolute=True),
        Figure("held_more_ms", "of that not by the program itself", "ms", "<= 5 ms", absolute=True)]


def _with_c(bed, count, port=7, scheme="http", **how):
    proxy, words = bed.proxy(**how)[scheme], ("at_once", NAME, port, count)
    return {"floor": bed.floor(scheme, proxy, *words),
            "towpath": bed.towpath(f"{scheme}://127.0.0.1:{proxy}", *plain(*words)),
            "proxychains4": bed.proxychains(scheme, proxy, *plain(*words))}


def _refusals(measure):
    """Errors are what is right here: as many as connects, with the errno of a refusal (EACCES or ECONNREFUSED)."""
    def measured():
        sample = measure()
        refused = sample["errors"] - sample.get("stale", 0)
        wrong = sample.get("stale", 0) + (refused != 50 or sample.get("first_errno") not in (13, 111))
        return {**sample, "refused": refused, "errors": wrong}
    return measured


@row("50-slow-epoll", FIFTY, rounds=5, once=("proxychains4",))
def _epoll(bed):
    return _with_c(bed, 50, delay_ms=100)


@row("50-slow-epoll-socks5", FIFTY, rounds=5, once=("proxychains4",))
def _epoll_socks5(bed):
    return _with_c(bed, 50, delay_ms=100, scheme="socks5")


@row("50-refused-epoll", FIFTY + [Figure("refused", "true errors", "of 50", ">= 50", absolute=True),
                                    Figure("stale", "events of closed sockets", "", "<= 0", absolute=True)], rounds=3,
     once=("proxychains4",))
def _epoll_refused(bed):
    return {name: measure and _refusals(measure) for name, measure in _with_c(bed, 50, port=1, delay_ms=100).items()}


@row("2000-at-once", BURST, rounds=7)
def _burst(bed):
    return _with_c(bed, 2000)


@row("2000-at-once-5ms", BURST, rounds=5, once=("proxychains4",))
def _burst_slow(bed):
    return _with_c(bed, 2000, delay_ms=5)


def _with_interpreter(bed, *interpreter):
    port = bed.proxy(delay_ms=100)["http"]
    held = []  # by the program itself, in the floor run of the same round

    def floor():
        sample = run_floor()
        held.append(sample.get("held_ms", 0))
        return sample

    def less_floor(measure):
        def measured():
            sample = measure()
            if "held_ms" in sample:
                sample["held_more_ms"] = max(0.0, sample["held_ms"] - held[-1])
            return sample
        return measure and measured

    run_floor = bed.run(*interpreter, "floor", port, NAME, 7, 50)
    command = [*interpreter, "plain", 0, NAME, 7, 50]
    return {"floor": floor, "towpath": less_floor(bed.towpath(f"http://127.0.0.1:{port}", *command)),
            "proxychains4": less_floor(bed.proxychains("http", port, *command))}


@row("50-slow-node", LOOP, rounds=5, once=("proxychains4",))
def _node(bed):
    return _with_interpreter(bed, need(NODE, "node"), script("at_once.js"))


@row("50-slow-asyncio", LOOP, rounds=5, once=("proxychains4",))
def _asyncio(bed):
    return _with_interpreter(bed, PYTHON, script("at_once.py"))
