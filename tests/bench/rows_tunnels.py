"""Many open tunnels: what the agent keeps for them."""

import os
import subprocess

from bed import NAME, children, figures, plain
from lab import proc
from table import Figure, row

N = 9500  # with what else a process has open, below the usual limits

FIGURES = [Figure("agent_mb", "memory of the agent", "MB", "<= 40 MB", absolute=True, only=("towpath",)),
           Figure("agent_mb_before", "without tunnels", "MB", absolute=True, only=("towpath",)),
           Figure("agent_fds", "descriptors of the agent", "", absolute=True, only=("towpath",)),
           Figure("agent_fds_before", "without tunnels", "", absolute=True, only=("towpath",))]


def _agent(pid):
    """The agent is the only child of `towpath run`."""
    agent = children(pid)[0]
    with open(f"/proc/{agent}/status") as status:
        memory = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    return memory / 1024, len(os.listdir(f"/proc/{agent}/fd"))


def _hold(bed, count, command):
    process = proc.Process("hold", command, bed.directory, bed.environment, stdin=subprocess.PIPE)
    try:
        process.wait_line(rf"^open={count}$", timeout=120)
        seen = _agent(process.pid) if command[0].endswith("towpath") else (0, 0)
        process.popen.stdin.close()
        code = process.wait(60)
        return figures(proc.Result(code, process.out, process.err)), seen
    except AssertionError as broken:
        return {"errors": 1, "why": str(broken).splitlines()[-1]}, (0, 0)
    finally:
        process.stop(0)


@row("tunnels-open", FIGURES, rounds=1)
def _open(bed):
    port = bed.proxy()["http"]
    words = bed.towpath_words(f"http://127.0.0.1:{port}")

    def measured():
        _, before = _hold(bed, 1, [*words, *plain("hold", NAME, 8, 1)])
        sample, seen = _hold(bed, N, [*words, *plain("hold", NAME, 8, N)])
        return {**sample, "agent_mb": seen[0], "agent_mb_before": before[0], "agent_fds": seen[1],
                "agent_fds_before": before[1]}
    return {"floor": lambda: {"errors": 0}, "towpath": measured}
