# suite: quick
"""Programs of every kind reach a name that only the proxy can resolve, and could not without towpath."""

import shutil

from lab import dante, squid
from lab.case import LabCase, main
from lab.origin import Origin
from lab.programs import PROGRAMS, make_repository, path_of

NAME = "only-at-the-proxy.example"
ORIGIN = "127.0.0.80"


class Bare(LabCase):
    """The other half of every row below: without towpath the name leads nowhere."""


class ThroughProxy:
    factory, users = None, None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.origin = cls.start(Origin(ORIGIN, 80, directory=cls.class_directory))
        if shutil.which("git"):
            make_repository(cls.class_directory)
        if cls.factory:
            cls.proxy = cls.start(cls.factory(cls.class_directory, {NAME: ORIGIN}, users=cls.users))

    def reaches_the_name(self, program):
        command = PROGRAMS[program](self, NAME, 80, path_of(program))
        self.proxy_values(self.proxy.url)
        hits = len(self.origin.hits)
        result = self.assert_ran(self.towpath(*command))
        self.assertIn(f"path={path_of(program)}", result.out)
        self.assertGreater(len(self.origin.hits), hits)
        self.proxy.wait_target(f"{NAME}:80")
        self.assertFalse(self.dns.asked(NAME), "the name was looked up here")


class Squid(ThroughProxy, LabCase):
    pass


class SquidWithCredentials(ThroughProxy, LabCase):
    users = {"boat": "horse"}


class Dante(ThroughProxy, LabCase):
    pass


class DanteWithCredentials(ThroughProxy, LabCase):
    users = {"boat": "horse"}


if __name__ == "__main__":
    main()
