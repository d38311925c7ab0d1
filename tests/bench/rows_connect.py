"""Blocking connects, one after the other, to the first byte that the origin sends."""

from bed import NAME, ORIGIN, plain
from lab.squid import Squid
from table import Figure, row

N = 500


def _figures(goal):
    return [Figure("median_us", "median", goal=goal), Figure("p99_us", "p99")]


def _through(bed, scheme, port, mode="connect", target=7):
    words = (mode, NAME, target, N)
    return {"floor": bed.floor(scheme, port, *words),
            "towpath": bed.towpath(f"{scheme}://127.0.0.1:{port}", *plain(*words)),
            "proxychains4": bed.proxychains(scheme, port, *plain(*words))}


@row("connect-http", _figures("<= 1.25"), rounds=11)
def _http(bed):
    return _through(bed, "http", bed.proxy()["http"])


@row("connect-socks5", _figures("<= 1.25"), rounds=11)
def _socks5(bed):
    return _through(bed, "socks5", bed.proxy()["socks5"])


@row("connect-lookup", _figures(""), rounds=5)
def _lookup(bed):
    return _through(bed, "http", bed.proxy()["http"], "lookup")


@row("connect-squid", _figures("<= 1.10"), rounds=7)
def _squid(bed):
    squid = bed.use(Squid(bed.directory, names={NAME: ORIGIN}))
    return _through(bed, "http", squid.port, target=bed.proxy()["origin"])


@row("connect-exempt", _figures("<= 1.02"), rounds=11)
def _exempt(bed):
    proxy = bed.proxy()
    command = plain("connect", ORIGIN, proxy["origin"], 2 * N)
    return {"bare": bed.run(*command), "towpath": bed.towpath(f"http://127.0.0.1:{proxy['http']}", *command),
            "proxychains4": bed.proxychains("http", proxy["http"], *command)}


@row("connect-loopback", _figures("<= 1.02"), rounds=11)
def _loopback(bed):
    proxy = bed.proxy()
    command = plain("connect", "127.0.0.1", proxy["origin"], 2 * N)
    return {"bare": bed.run(*command), "towpath": bed.towpath(f"http://127.0.0.1:{proxy['http']}", *command)}
