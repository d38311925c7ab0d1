"""A root directory that holds towpath's two files, what a test adds, and nothing else: no /proc, no /dev, no /etc."""

import os
import re
import shutil
import subprocess

from lab.case import PRELOAD, TOWPATH


class Root:
    """`root.path` is the directory; inside it towpath is /towpath and the library lies beside it."""

    def __init__(self, directory, programs=()):
        self.path = os.path.join(directory, "root")
        os.mkdir(self.path)
        os.chmod(self.path, 0o755)
        shutil.copy(TOWPATH, os.path.join(self.path, "towpath"))
        shutil.copy(PRELOAD, os.path.join(self.path, "libtowpath.so"))
        for program in programs:
            self.add(program)

    def add(self, program):
        """A program with the libraries that it and towpath's library need, each at its own place."""
        listed = subprocess.run(["ldd", program, PRELOAD], capture_output=True, text=True, check=False).stdout
        for file in {program, *re.findall(r"(/\S+) \(0x", listed)}:
            place = self.path + file
            os.makedirs(os.path.dirname(place), exist_ok=True)
            shutil.copy(file, place)

    def write(self, name, text):
        with open(os.path.join(self.path, name), "w") as file:
            file.write(text)

    def command(self, *words):
        """A command line that runs in the root."""
        return ["chroot", self.path, *words]
