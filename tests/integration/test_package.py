"""What an operator installs: `cmake --install` into a DESTDIR, the tarball, the .deb. Each is made of this build, has the
files that it should have and no others, and its two files carry a program through a real squid from where they lie."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import tarfile

from lab import netns, proc
from lab.case import BUILD, REQUIRE_ALL, LabCase, main
from lab.origin import Origin
from lab.squid import Squid

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAME = "only-at-the-proxy.example"
ORIGIN = "127.0.0.33"
EPOCH = 1700000000
DOCS = {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} | {
    str(file.relative_to(ROOT)) for file in (ROOT / "deploy").rglob("*") if file.is_file()} | {
    "README.md", "CHANGELOG.md", "LICENSE"}
LINKED_IN = {"libuv1", "libc-ares", "libyaml-cpp", "libssl", "libidn2", "libunistring", "libc6", "libstdc++", "libgcc",
             "libcli11"}


def below(place):
    """Every file and empty folder, as paths relative to `place`."""
    found = set()
    for folder, folders, files in os.walk(place):
        found |= {os.path.relpath(os.path.join(folder, name), place) for name in files}
        if not folders and not files:
            found.add(os.path.relpath(folder, place))
    return found


def without_licences(names, folder):
    """The names outside of licenses/; inside there must be one for each part that is linked in."""
    inside = {name.removeprefix(folder) for name in names if name.startswith(folder)}
    missing = {part for part in LINKED_IN if not any(name.startswith(part) for name in inside)}
    assert not missing, f"no licence of {missing} among {sorted(inside)}"
    return {name for name in names if not name.startswith(folder)}


class Package(LabCase):
    """Made once for the class: that takes seconds."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.origin = cls.start(Origin(ORIGIN, 80))
        cls.proxy = cls.start(Squid(cls.class_directory, {NAME: ORIGIN}))
        cls.output = os.path.join(cls.class_directory, "package")
        cls.pack(cls.output)
        tarball, = pathlib.Path(cls.output).glob("towpath-*-linux-*.tar.gz")
        cls.tarball = str(tarball)
        deb, = pathlib.Path(cls.output).glob("towpath_*.deb")
        cls.deb = str(deb)
        cls.version = subprocess.run([f"{BUILD}/bin/towpath", "--version"], capture_output=True, text=True,
                                     check=True).stdout.split()[1]
        cls.architecture = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True,
                                          check=True).stdout.strip()

    @classmethod
    def pack(cls, output, umask=0o022, **environment):
        done = subprocess.run([ROOT / "scripts/package", "--from", BUILD, "--output", output], capture_output=True,
                              text=True, check=False, timeout=proc.scaled(100), umask=umask,
                              env={**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH), **environment})
        assert done.returncode == 0, f"scripts/package: {done.stdout}{done.stderr}"
        return done.stdout

    def setUp(self):
        super().setUp()
        self.need("curl")
        self.addCleanup(lambda: proc.kill(netns.guards_and_agents()))
        self.proxy_values(self.proxy.url)

    def carries(self, towpath, library):
        """curl reaches the name through squid, with the launcher and with the library alone, of these files."""
        before = self.proxy.targets().count(f"{NAME}:80")
        curl = ["curl", "-sS", "--noproxy", "*", "--max-time", "10"]
        env = {**self.environment, "TOWPATH_CONFIG": self.config}
        ways = {"run": ([towpath, "run", "--", *curl], env), "preload": (curl, {**env, "LD_PRELOAD": library})}
        for way, (command, environment) in ways.items():
            with self.subTest(way):
                path = f"/{self._testMethodName}-{way}"
                done = self.assert_ran(proc.run(way, [*command, f"http://{NAME}{path}"], self.directory, environment))
                self.assertEqual(done.err, "")
                self.assertIn(f"path={path}", done.out)
        proc.wait_until(lambda: self.proxy.targets().count(f"{NAME}:80") >= before + 2, "two tunnels in squid's log")

    def installed(self):
        files = {f"share/doc/towpath/{page}" for page in DOCS | {"copyright"}}
        files |= {"bin/towpath", "lib/libtowpath.so", "share/man/man1/towpath.1"}
        files |= {"share/bash-completion/completions/towpath", "share/zsh/site-functions/_towpath",
                  "share/fish/vendor_completions.d/towpath.fish"}
        return files

    def test_an_installation_has_these_files_and_its_two_work_from_there(self):
        """The usual prefix of this distribution moves libraries to lib/TRIPLET: not this one, which the launcher must find."""
        for prefix in ("/usr/local", "/usr"):
            with self.subTest(prefix):
                stage = os.path.join(self.directory, "stage" + prefix.replace("/", "-"))
                done = subprocess.run(["cmake", "--install", BUILD, "--prefix", prefix], capture_output=True, text=True,
                                      check=False, umask=0o077, env={**os.environ, "DESTDIR": stage})
                self.assertEqual(done.returncode, 0, done.stderr)
                names = {os.path.relpath(name, prefix.lstrip("/")) for name in below(stage)}
                self.assertEqual(without_licences(names, "share/doc/towpath/licenses/"), self.installed())
                for name in names:
                    mode = os.stat(stage + prefix + "/" + name).st_mode & 0o777
                    self.assertEqual(mode, 0o755 if name == "bin/towpath" else 0o644, name)
        self.carries(f"{stage}/usr/bin/towpath", f"{stage}/usr/lib/libtowpath.so")
        # The agent that the preloaded program started is the one of the same installation.
        self.assertIn(f"{stage}/usr/bin/towpath", {os.readlink(f"/proc/{pid}/exe") for pid in netns.agents()})

    def test_the_tarball_alone_is_enough(self):
        with tarfile.open(self.tarball) as tar:
            for member in tar.getmembers():
                self.assertEqual((member.uid, member.gid, member.mtime), (0, 0, EPOCH), member.name)
                self.assertTrue(member.isfile() or member.isdir(), member.name)
                executable = member.isdir() or os.path.basename(member.name) in ("towpath", "entrypoint.sh", "wrap")
                self.assertEqual(member.mode, 0o755 if executable else 0o644, member.name)
            tar.extractall(self.directory)
        top = os.path.join(self.directory, f"towpath-{self.version}-linux-{self.architecture}")
        expected = DOCS | {"towpath", "libtowpath.so", "towpath.1", "THIRD-PARTY", "SHA256SUMS", "entrypoint.sh", "wrap",
                           "completions/towpath.bash", "completions/_towpath", "completions/towpath.fish"}
        names = below(top)
        self.assertEqual(without_licences(names, "licenses/"), expected)
        with open(f"{top}/SHA256SUMS") as sums:
            told = dict(reversed(line.split()) for line in sums)
        self.assertEqual(told, {name: self.sum(f"{top}/{name}") for name in names - {"SHA256SUMS"}})
        self.carries(f"{top}/towpath", f"{top}/libtowpath.so")

    def test_what_is_linked_in_is_named_with_its_version(self):
        with tarfile.open(self.tarball) as tar:
            names = {name.partition("/")[2] for name in tar.getnames()}
            text = tar.extractfile(f"towpath-{self.version}-linux-{self.architecture}/THIRD-PARTY").read().decode()
        rows = [line.split() for line in text.splitlines() if " licenses/" in line and line.startswith("lib")]
        self.assertEqual({part for part in LINKED_IN if not any(row[0].startswith(part) for row in rows)}, set())
        for package, version, file in rows:
            self.assertIn(file, names)
            known = subprocess.run(["dpkg-query", "-W", "-f", "${Version}\n", package], capture_output=True, text=True,
                                   check=True).stdout
            self.assertIn(version, known.splitlines())

    def test_the_deb_installs_runs_and_goes_without_a_trace(self):
        root = os.path.join(self.directory, "root")
        base = f"{root}/var/lib/dpkg"
        for folder in ("info", "updates", "triggers"):
            os.makedirs(f"{base}/{folder}")
        # A system that has the oldest libc that the documentation names, and nothing else.
        with open(f"{base}/status", "w") as status:
            status.write(f"Package: libc6\nStatus: install ok installed\nArchitecture: {self.architecture}\nVersion: 2.28-10\n"
                         "Maintainer: none\nDescription: none\n\n")
        dpkg = ["dpkg", f"--root={root}", f"--log={self.directory}/dpkg.log", "--force-not-root", "--force-script-chrootless"]
        environment = {**self.environment, "DPKG_MAINTSCRIPT_DEBUG": ""}
        self.assert_ran(proc.run("dpkg", [*dpkg, "-i", self.deb], self.directory, environment))
        names = {name for name in below(root) if not name.startswith("var/")}
        self.assertEqual(without_licences(names, "usr/share/doc/towpath/licenses/"),
                         {f"usr/{name}".replace("/site-functions/", "/vendor-completions/") for name in self.installed()})
        self.carries(f"{root}/usr/bin/towpath", f"{root}/usr/lib/libtowpath.so")
        verified = self.assert_ran(proc.run("dpkg", [*dpkg, "--verify", "towpath"], self.directory, environment))
        self.assertEqual(verified.out, "")
        self.assert_ran(proc.run("dpkg", [*dpkg, "-P", "towpath"], self.directory, environment))
        self.assertEqual({name for name in below(root) if name.startswith("usr/")}, set())

    def test_the_deb_says_what_it_is(self):
        fields = subprocess.run(["dpkg-deb", "-f", self.deb], capture_output=True, text=True, check=True).stdout
        told = dict(line.split(": ", 1) for line in fields.splitlines() if line.strip() and line[0] != " ")
        self.assertEqual((told["Package"], told["Version"], told["Architecture"], told["Section"]),
                         ("towpath", self.version, self.architecture, "net"))
        self.assertEqual(told["Depends"], "libc6 (>= 2.28)")
        self.assertRegex(told["Maintainer"], r"^\S.* <\S+@\S+>$")
        self.assertGreater(int(told["Installed-Size"]), 1000)
        synopsis = told["Description"]
        self.assertFalse(len(synopsis) > 80 or synopsis.endswith(".") or synopsis.startswith("towpath"), synopsis)
        self.assertGreater(sum(line.startswith(" ") for line in fields.splitlines()), 2, "no description")
        control = os.path.join(self.directory, "control")
        subprocess.run(["dpkg-deb", "-e", self.deb, control], check=True)
        self.assertEqual(set(os.listdir(control)), {"control", "md5sums"}, "maintainer scripts")
        listed = subprocess.run(["dpkg-deb", "-c", self.deb], capture_output=True, text=True, check=True).stdout
        for line in listed.splitlines():
            mode, owner, name = line.split()[0], line.split()[1], line.split()[-1]
            self.assertEqual(owner, "root/root", name)
            self.assertIn(mode, ("drwxr-xr-x", "-rwxr-xr-x" if name == "./usr/bin/towpath" else "-rw-r--r--"), name)

    def test_the_sums_beside_the_two_are_right(self):
        with open(f"{self.output}/SHA256SUMS") as file:
            told = dict(reversed(line.split()) for line in file)
        self.assertEqual(told, {os.path.basename(path): self.sum(path) for path in (self.tarball, self.deb)})

    def test_packing_again_gives_the_same_bytes(self):
        """At another time, for a user with other habits."""
        again = os.path.join(self.directory, "again")
        said = self.pack(again, umask=0o077, TZ="Asia/Tokyo", LC_ALL="C.UTF-8", TAR_OPTIONS="--format=pax", GZIP="-1")
        for path in (self.tarball, self.deb):
            name = os.path.basename(path)
            self.assertEqual(self.sum(f"{again}/{name}"), self.sum(path), name)
            self.assertIn(f"{name}: {os.path.getsize(path)} bytes", said)

    def test_it_is_not_packed_when_something_is_wrong_with_it(self):
        """A library that needs more than libc, and an executable that needs a loader: copies of programs that do."""
        for file, other, complaint in (("bin/towpath", "/bin/true", "towpath is not static"),
                                       ("lib/libtowpath.so", "/bin/true", "libtowpath.so needs")):
            with self.subTest(file):
                build = os.path.join(self.directory, "build-" + os.path.basename(file))
                for name in ("bin", "lib"):
                    shutil.copytree(f"{BUILD}/{name}", f"{build}/{name}")
                shutil.copy(other, f"{build}/{file}")
                for name in ("CPackConfig.cmake", "cmake_install.cmake"):
                    text = pathlib.Path(BUILD, name).read_text()
                    pathlib.Path(build, name).write_text(text.replace(f"{BUILD}/bin/", f"{build}/bin/")
                                                         .replace(f"{BUILD}/lib/", f"{build}/lib/"))
                done = subprocess.run([ROOT / "scripts/package", "--from", build, "--output", f"{build}/out"],
                                      capture_output=True, text=True, check=False,
                                      env={**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)})
                self.assertEqual(done.returncode, 1, done.stdout)
                self.assertIn(complaint, done.stderr)
                self.assertFalse(os.path.exists(f"{build}/out"))

    @staticmethod
    def sum(path):
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()


if __name__ == "__main__":
    if not Squid.PROGRAM or not shutil.which("dpkg-deb"):
        print("skipped: squid or dpkg-deb is not installed")
        raise SystemExit(1 if REQUIRE_ALL else 77)
    main()
