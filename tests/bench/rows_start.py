"""What it costs to start a program."""

from bed import program
from table import Figure, row

TRUE = "/bin/true"
LOOP = ["sh", "-c", f"i=0; while [ $i -lt 200 ]; do {TRUE}; i=$((i+1)); done"]


@row("start-run", [Figure("median_us", "true under towpath run", goal="<= 3")], rounds=7)
def _run(bed):
    proxy = bed.proxy()["http"]
    timer = [program("spawn_time"), 50]
    chained = bed.proxychains("http", proxy, TRUE)
    return {"bare": bed.run(*timer, TRUE),
            "towpath": bed.run(*timer, *bed.towpath_words(f"http://127.0.0.1:{proxy}"), TRUE),
            "proxychains4": chained and bed.run(*timer, *chained.args[0])}


def _inside(bed, count, *command):
    proxy = bed.proxy()["http"]
    timed = [program("spawn_time"), count, *command]
    return {"bare": bed.run(*timed), "towpath": bed.towpath(f"http://127.0.0.1:{proxy}", *timed),
            "proxychains4": bed.proxychains("http", proxy, *timed)}


@row("start-inside", [Figure("median_us", "true inside the tree", goal="<= 1.05")], rounds=7)
def _inside_spawn(bed):
    return _inside(bed, 200, TRUE)


@row("start-shell-loop", [Figure("median_us", "200 x true from sh", goal="<= 1.05")], rounds=7)
def _inside_shell(bed):
    return _inside(bed, 1, *LOOP)
