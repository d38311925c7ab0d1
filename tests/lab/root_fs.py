"""Root directories as images have them, made by hand out of this machine's files, and what a release of towpath holds.

    root = root_fs.musl(os.path.join(self.directory, "root"))
    root.add(program("go-static/goserver"), "/usr/bin/coderd")
"""

import glob
import os
import re
import shutil
import subprocess

from lab.case import BUILD, PRELOAD, probe

_REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUSYBOX = "/bin/busybox"
APPLETS = ("basename cat chmod cp cut dirname env false grep head id ln ls mv nc readlink rm sed sh sleep tr true "
           "wget").split()
DEBIAN_PROGRAMS = ("basename cat chmod cp cut dirname env false grep head id ln ls mv readlink rm sed sleep tr true").split()


def release(directory):
    """The tarball of this build, unpacked."""
    packed = directory + "-packed"
    done = subprocess.run([os.path.join(_REPOSITORY, "scripts/package"), "--from", BUILD, "--output", packed],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"scripts/package: {done.stdout}{done.stderr}"
    tarball, = glob.glob(f"{packed}/*.tar.gz")
    os.mkdir(directory)
    subprocess.run(["tar", "-xzf", tarball, "-C", directory, "--strip-components=1"], check=True)
    os.chmod(directory, 0o755)
    return directory


class RootFs:
    def __init__(self, path):
        self.path = path
        os.makedirs(path, exist_ok=True)
        os.chmod(path, 0o755)

    def place(self, inside):
        """Where `inside` lies; its directory is made."""
        place = os.path.join(self.path, inside.lstrip("/"))
        os.makedirs(os.path.dirname(place), exist_ok=True)
        return place

    def add(self, file, inside):
        shutil.copy(file, self.place(inside))

    def write(self, inside, text):
        with open(self.place(inside), "w") as file:
            file.write(text)

    def link(self, inside, target):
        os.symlink(target, self.place(inside))

    def add_dynamic(self, file, inside=None):
        """A program of this machine with the libraries that it, and towpath's library, need."""
        self.add(file, inside or file)
        listed = subprocess.run(["ldd", file, PRELOAD], capture_output=True, text=True, check=False).stdout
        for library in set(re.findall(r"(/\S+) \(0x", listed)):
            self.add(library, library)

    def copy(self, path):
        shutil.copytree(self.path, path, symlinks=True)
        return RootFs(path)


def empty(path):
    return RootFs(path)


def musl(path):
    """As Alpine: musl, and a busybox that is everything else (Debian's, which is linked statically)."""
    root = RootFs(path)
    loader = re.search(r"interpreter: (\S+?)\]", subprocess.run(
        ["readelf", "-lW", probe("names", "musl")], capture_output=True, text=True, check=True).stdout).group(1)
    root.add(os.path.realpath(loader), loader)
    root.add(BUSYBOX, "/bin/busybox")
    for applet in APPLETS:
        root.link(f"/bin/{applet}", "busybox")
    root.add(probe("names", "musl"), "/usr/bin/client")
    _accounts(root)
    return root


def debian(path):
    """dash, coreutils, and a client, with glibc."""
    root = RootFs(path)
    for name in DEBIAN_PROGRAMS:
        root.add_dynamic(os.path.realpath(shutil.which(name, path="/usr/bin:/bin")), f"/usr/bin/{name}")
    root.add_dynamic("/bin/dash")
    root.link("/bin/sh", "dash")
    root.add_dynamic(probe("names"), "/usr/bin/client")
    _accounts(root)
    return root


def distroless(path):
    """glibc and the program: no shell."""
    root = RootFs(path)
    root.add_dynamic(probe("names"), "/usr/bin/client")
    _accounts(root)
    return root


def _accounts(root):
    root.write("/etc/passwd", "root:x:0:0:root:/root:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n")
    root.write("/etc/group", "root:x:0:\nnogroup:x:65534:\n")
