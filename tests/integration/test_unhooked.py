# suite: quick
"""Programs that libc's hooks do not reach, static and Go: the rows of test_programs.py once more, through every kind of
proxy, and as in a container."""

import test_programs
import test_programs_tls
from lab import dante, docker, squid
from lab.case import main
from lab.programs import UNHOOKED
from lab.tls import Haproxy
from test_programs import USERS, rows


@rows
class Bare(test_programs.BareTwin):
    programs = UNHOOKED


class OverHttp(test_programs.ThroughProxy):
    programs, server, users = UNHOOKED, squid.Squid, USERS


class OverSocks(test_programs.ThroughProxy):
    programs, server, users = UNHOOKED, dante.Dante, USERS


class OverTls(test_programs_tls.ThroughTls):
    programs, front = UNHOOKED, Haproxy


docker.too(rows(OverHttp))
docker.too(rows(OverSocks))
docker.too(rows(OverTls))

if __name__ == "__main__":
    main()
