"""Circumstances of a container: the same tests again under what Docker's default profile refuses and with what it leaves
of root's capabilities, as root and as an ordinary user.

    @docker.too
    class Something(LabCase): ...           # also SomethingAsDockersRoot, SomethingAsDockersUser
"""

import os
import sys

from lab.case import program

USER = 65534


def too(case):
    module = sys.modules[case.__module__]
    for name, base in (("AsDockersRoot", _Docker), ("AsDockersUser", _DockersUser)):
        setattr(module, case.__name__ + name, type(case.__name__ + name, (base, case), {"__module__": case.__module__}))
    return case


class _Docker:
    uid = 0

    def setUp(self):
        super().setUp()
        self.around = (program("static/docker_like"), "-u", str(self.uid))
        os.chown(self.directory, self.uid, self.uid)


class _DockersUser(_Docker):
    uid = USER
