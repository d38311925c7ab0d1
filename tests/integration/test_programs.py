# suite: quick
"""Programs of every kind reach a name that only the proxy can resolve, and could not without towpath."""

import os
import shutil
import unittest

from lab import dante, netns, squid
from lab.case import LabCase, main
from lab.origin import Origin
from lab.programs import PROGRAMS, make_repository, path_of

ORIGIN = "127.0.0.80"
USERS = {"boat": "horse"}


def name_of(program):
    return f"{path_of(program)[1:]}.only-at-the-proxy.example"


def rows(case):
    """One test per program."""
    for program in case.programs:
        def row(self, program=program):
            self.check(program)
        setattr(case, "test_" + path_of(program)[1:].replace("-", "_").replace(".", "_"), row)
    return case


class Programs(LabCase):
    programs = PROGRAMS

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        content = os.path.join(cls.class_directory, "content")
        os.mkdir(content)
        cls.origin = cls.start(Origin(ORIGIN, 80, content))
        if shutil.which("git"):
            make_repository(content)

    def command(self, program):
        return self.programs[program](self, name_of(program), 80, path_of(program))


class BareTwin(Programs):
    """The other half of every row below: without towpath the name leads nowhere, and nothing else is missing."""

    def check(self, program):
        result = self.bare(*self.command(program))
        self.assertNotEqual(result.code, 0, result.out)
        self.assertNotIn(path_of(program), self.origin.paths())
        self.assertTrue(self.dns.asked(name_of(program)), "the name was not even looked up")
        self.addCleanup(netns.hosts)
        netns.hosts(f"{ORIGIN} {name_of(program)}\n")
        result = self.assert_ran(self.bare(*self.command(program)))
        self.assertIn(f"path={path_of(program)}", result.out)


@rows
class Bare(BareTwin):
    pass


class ThroughProxy(Programs):
    server, users = None, None

    @classmethod
    def setUpClass(cls):
        if not cls.server.PROGRAM:
            raise unittest.SkipTest(f"{cls.server.kind} proxy is not installed")
        super().setUpClass()
        cls.proxy = cls.start(cls.server(cls.class_directory, {name_of(one): ORIGIN for one in cls.programs}, cls.users))

    def check(self, program):
        command = self.command(program)
        self.proxy_values(self.proxy.url)
        result = self.assert_ran(self.towpath(*command))
        self.assertIn(f"path={path_of(program)}", result.out)
        self.assertIn(name_of(program), self.origin.names())
        self.proxy.wait_target(f"{name_of(program)}:80")
        self.assertFalse(self.dns.asked(name_of(program)), "the name was looked up on this side of the proxy")


@rows
class Squid(ThroughProxy):
    server = squid.Squid


@rows
class SquidWithCredentials(ThroughProxy):
    server, users = squid.Squid, USERS


@rows
class Dante(ThroughProxy):
    server = dante.Dante


@rows
class DanteWithCredentials(ThroughProxy):
    server, users = dante.Dante, USERS


if __name__ == "__main__":
    main()
