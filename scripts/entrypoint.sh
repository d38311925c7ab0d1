#!/bin/sh
# A container's entrypoint: the program, carried by towpath.
#
#   ENTRYPOINT ["/opt/towpath/entrypoint.sh"]
#   CMD ["coderd", "server"]
#
# Configured by the environment, as `towpath run` is (http_proxy, ..., or TOWPATH_CONFIG). towpath is $TOWPATH, or lies
# beside this file, or in $PATH. Any POSIX shell will do; where there is none: ENTRYPOINT ["/towpath", "run", "--"].
set -eu

die() {
  printf 'entrypoint: %s\n' "$1" >&2
  exit 125
}

[ $# -gt 0 ] || die "no command given: what is to be started belongs into CMD, or behind the image's name"

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
if [ -n "${TOWPATH:-}" ]; then
  towpath=$TOWPATH
  [ -x "$towpath" ] || die "TOWPATH names $towpath, which cannot be executed"
elif [ -x "$here/towpath" ]; then
  towpath=$here/towpath
else
  towpath=$(command -v towpath) ||
    die "towpath is neither beside $0 nor in PATH: copy the two files towpath and libtowpath.so to $here, or set TOWPATH"
fi

# A wrong configuration shows as itself. Warnings are left to `run`, which repeats them.
problems=$("$towpath" check 2>&1 >/dev/null) || {
  printf '%s\n' "$problems" >&2
  die "the configuration has errors (see above), so $1 was not started"
}

# exec: signals and the exit status are the program's, and towpath is the container's first process. --once: where the
# container's program is this script again, or a wrapped one, there is one towpath still.
exec "$towpath" run --once -- "$@"
