"""The benchmarks: `scripts/bench [--json] [--rounds N] [--list] [row...]`; docs/benchmarks.md says what they mean.

A row is named by the begin of its name (`connect` is all of connect-http, connect-socks5 ...). The exit status is 1
when something did not work, and 77 where there can be no network namespace. No time is ever wrong.
"""

import argparse
import glob
import importlib
import json
import os
import resource
import shutil
import sys
import tempfile

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from lab import dns, netns, proc  # noqa: E402
from lab.case import TOWPATH  # noqa: E402
import bed as beds  # noqa: E402
import table  # noqa: E402


def main():
    options = arguments()
    for path in sorted(glob.glob(os.path.join(beds.HERE, "rows_*.py"))):
        importlib.import_module(os.path.basename(path)[:-3])
    rows = [one for one in table.ALL if not options.rows or any(map(one.name.startswith, options.rows))]
    if options.list or not rows:
        print("\n".join(one.name for one in table.ALL))
        return 0 if options.list else 2
    if not os.access(TOWPATH, os.X_OK):
        print(f"{TOWPATH} is not built", file=sys.stderr)
        return 2
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    scratch = tempfile.mkdtemp(prefix="towpath-bench-")
    try:
        measure(rows, options, scratch)
    finally:
        proc.stop_all()
        if netns.inside():
            proc.kill(netns.processes())  # what a program left behind lives in our namespace only
        shutil.rmtree(scratch, ignore_errors=True)
    return report(rows, options)


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("rows", nargs="*", help="begins of row names; all without")
    parser.add_argument("--rounds", type=int, help="instead of each row's own number")
    parser.add_argument("--json", action="store_true", help="every sample, as JSON")
    parser.add_argument("--markdown", action="store_true", help="the table for docs/benchmarks.md")
    parser.add_argument("--list", action="store_true", help="the names of the rows")
    return parser.parse_args()


def measure(rows, options, scratch):
    os.chmod(scratch, 0o755)
    os.mkdir(os.path.join(scratch, "etc"))
    netns.enter(os.path.join(scratch, "etc"))
    netns.add_address(beds.ORIGIN + "/32")
    dns.Dns()
    for number, one in enumerate(rows, 1):
        proc.mark()
        directory = os.path.join(scratch, one.name)
        os.mkdir(directory, 0o755)
        print(f"{number}/{len(rows)} {one.name}", file=sys.stderr, flush=True)
        bed = beds.Bed(directory)
        try:
            one.run(bed, options.rounds)
        except beds.Skip as reason:
            one.skipped = str(reason)
        except AssertionError as broken:  # a server that does not start
            one.samples = {"setup": [{"errors": 1, "why": str(broken)}]}
        finally:
            bed.close()
            proc.kill(netns.processes())
            shutil.rmtree(directory, ignore_errors=True)


def report(rows, options):
    wrong = [(one.name, *each) for one in rows for each in one.errors()]
    if options.json:
        print(json.dumps([table.as_json(one) for one in rows], indent=1))
    else:
        print(table.text(rows, options.markdown))
    for name, variant, count, why in wrong:
        print(f"{name}: {variant}: {count} errors: {why}", file=sys.stderr)
    # What another tool cannot do is shown, and is not our failure.
    return 1 if any(variant != "proxychains4" for _, variant, _, _ in wrong) else 0


if __name__ == "__main__":
    sys.exit(main())
