# suite: quick
"""Trees of programs of every kind: whoever starts whom, however, with whatever environment, the last one in the chain is
tunnelled, or refused with a line that says why. Nobody connects directly."""

import os
import shutil
import struct
import subprocess

from lab import docker, netns, proc
from lab.case import PRELOAD, LabCase, main, probe, program
from lab.origin import Origin, RawOrigin
from lab.proxy import Proxy
from lab.root import Root
from lab.ssh import sshd

NAME = "tunnelled.example"
FAR = "192.0.2.7"
URL = f"http://{NAME}/tree"
NOBODY = 65534


class TreeCase(LabCase):
    def setUp(self):
        super().setUp()
        self.origin = self.use(Origin("127.0.0.80", 80))
        self.proxy = self.use(Proxy("http", {NAME: self.origin.address, FAR: self.origin.address}))
        self.proxy_values(self.proxy.url)
        # Who connects directly meets this one, which no proxy leads to.
        netns.add_address(FAR + "/32")
        self.addCleanup(netns.drop_address, FAR + "/32")
        self.decoy = self.use(Origin(FAR, 80))
        self.addCleanup(lambda: self.assertEqual(self.decoy.hits, [], "a direct connection"))
        self.addCleanup(lambda: proc.kill(netns.guards_and_agents()))
        self.go = program("go-static/goclient")
        self.go_get = [self.go, "get", URL]
        self.static_get = [program("musl/sockets"), "get", "poll", FAR, "80", "/tree"]
        self.curl = [self.need("curl"), "-sS", "--max-time", "15", URL]

    def tunnelled(self, *command, run=None, target=NAME, **more):
        """The command's last program got its answer through the proxy."""
        before = len(self.proxy.connections)
        result = self.assert_ran((run or self.towpath)(*command, **more))
        self.assertIn("path=/tree\n", result.out)
        self.assertEqual(self.proxy.targets()[before:], [f"{target}:80"])
        self.assertFalse(self.dns.asked(NAME))
        return result

    def tunnelled_or_refused(self, result, why):
        """Which of the two it was."""
        if "path=/tree\n" in result.out:
            self.assertEqual(len(self.proxy.targets()), 1)
            return "tunnelled"
        self.assertNotEqual(result.code, 0)
        self.assertRegex(result.err, f"(?m)^towpath: .*({why})")
        self.assertEqual(self.proxy.targets(), [])
        return "refused"

    def copy(self, source, name, mode=0o755):
        path = shutil.copy(source, os.path.join(self.directory, name))
        os.chmod(path, mode)
        return path


@docker.too
class Chains(TreeCase):
    """Through a dynamic program first, so that the library has to hand over to the supervisor."""

    def test_a_shell_that_starts_a_static_go_program(self):
        for command in (self.go_get, self.static_get):
            self.tunnelled("bash", "-c", '"$@"; exit $?', "bash", *command, target=NAME if command is self.go_get else FAR)
            self.tunnelled("bash", "-c", 'exec "$@"', "bash", *command, target=NAME if command is self.go_get else FAR)

    def test_a_static_program_that_starts_a_dynamic_one(self):
        for parent in ([self.go, "exec"], [program("static/sockets"), "exec"], [program("musl/sockets"), "exec"],
                       [self.need("busybox"), "env"]):
            with self.subTest(parent=parent):
                self.tunnelled(*parent, *self.curl)

    def test_there_and_back(self):
        self.tunnelled("bash", "-c", '"$@"; exit $?', "bash", self.go, "exec", "sh", "-c", '"$@"; exit $?', "sh", *self.curl)
        self.tunnelled("bash", "-c", '"$@"; exit $?', "bash", self.go, "exec", *self.curl)
        self.tunnelled(self.go, "exec", "env", "bash", "-c", '"$@"; exit $?', "bash", self.go, "exec", *self.go_get)

    def test_node_starts_a_static_go_program(self):
        script = ('const {status, stdout} = require("child_process").spawnSync(process.argv[1], process.argv.slice(2));'
                  "process.stdout.write(stdout); process.exitCode = status")
        self.tunnelled(self.need("node"), "-e", script, *self.go_get)
        script = ('require("child_process").execFile(process.argv[1], process.argv.slice(2), {env: {}}, '
                  "(error, out) => { process.stdout.write(out); process.exitCode = error ? 1 : 0 })")
        self.tunnelled(self.need("node"), "-e", script, *self.go_get)

    def test_python_starts_programs(self):
        for script in ("import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)",
                       "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:], env={}, close_fds=True).returncode)",
                       "import os, sys; os.execve(sys.argv[1], sys.argv[1:], {})",
                       "import os, shlex, sys; sys.exit(os.waitstatus_to_exitcode(os.system(shlex.join(sys.argv[1:]))))",
                       "import os, sys; p = os.posix_spawn(sys.argv[1], sys.argv[1:], {});"
                       "sys.exit(os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]))"):
            for command in (self.go_get, self.curl):
                with self.subTest(script=script, command=command[0]):
                    self.tunnelled("/usr/bin/python3", "-c", script, *command)

    def test_an_empty_environment_in_the_middle(self):
        for chain in (["env", "-i"], ["bash", "-c", 'exec env -i "$@"', "bash"], [self.go, "exec", "env", "-i"],
                      ["env", "-i", self.go, "exec"], ["env", "-i", "bash", "-c", 'exec env -i "$@"', "bash"]):
            for command in (self.go_get, self.curl, self.static_get):
                with self.subTest(chain=chain, command=command[0]):
                    self.tunnelled(*chain, *command, target=FAR if command is self.static_get else NAME)

    def test_scripts(self):
        script = self.file("script", f"#!{self.need('busybox')} sh\nexec wget -q -O - {URL}\n")
        os.chmod(script, 0o755)
        outer = self.file("outer", f"#!/bin/sh\nexec {script}\n")
        os.chmod(outer, 0o755)
        for command in ([script], [outer], ["bash", "-c", '"$0"; exit $?', script], ["sh", outer], ["env", "-i", script]):
            with self.subTest(command=command):
                self.tunnelled(*command)

    def test_the_name_it_is_called_by(self):
        self.tunnelled("bash", "-c", 'exec -a wget "$@"', "bash", self.need("busybox"), "-q", "-O", "-", URL)

    def test_the_process_stays_the_same(self):
        """No process in between: the number that exec keeps, the program's own file, and nothing left of the way."""
        busybox = self.need("busybox")
        result = self.assert_ran(self.towpath("sh", "-c", f'echo $$; exec {busybox} sh -c "echo \\$\\$; readlink /proc/\\$\\$/exe"'))
        first, second, path = result.out.split()
        self.assertEqual((first, path), (second, os.path.realpath(busybox)))
        line = self.assert_ran(self.towpath("sh", "-c", f"exec {busybox} cat /proc/self/cmdline")).out
        self.assertEqual(line, f"{busybox}\0cat\0/proc/self/cmdline\0")
        shown = self.assert_ran(self.towpath("sh", "-c", f"exec {busybox} ls /proc/self/fd")).out.split()
        self.assertEqual(shown, self.bare("sh", "-c", f"exec {busybox} ls /proc/self/fd").out.split())

    def test_how_it_ended(self):
        for script, code in (("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)):
            result = self.towpath("bash", "-c", '"$@"; exit $?', "bash", self.need("busybox"), "sh", "-c", script)
            self.assertEqual(result.code, code)


def every_way(case):
    """One test per function that starts programs."""
    for how in case.ways:
        def row(self, how=how):
            self.check(how)
        setattr(case, f"test_{how}", row)
    return case


class Ways(TreeCase):
    libc = "glibc"
    ways = ("system", "popen", "posix_spawn", "posix_spawnp", "vfork", "execl", "execlp", "execle", "execv", "execvp", "execve",
            "execvpe", "fexecve", "execveat")

    def check(self, how):
        starts = probe("starts", self.libc)
        commands = [self.go_get, self.curl[:1] + [URL]] if how in ("execl", "execlp", "execle") else [
            self.go_get, self.static_get, self.curl]
        for command in commands:
            for empty in ([], ["-i"]) if how in ("posix_spawn", "posix_spawnp", "vfork", "execle", "execve", "execvpe",
                                                 "fexecve", "execveat") else ([],):
                with self.subTest(command=os.path.basename(command[0]), empty=bool(empty)):
                    self.tunnelled(starts, how, *empty, *command, target=FAR if command is self.static_get else NAME)
        path = self.file("no-bit", "#!/bin/sh\n")
        for wrong in ("/nowhere/program", path, self.directory, self.file("empty", "")):
            with self.subTest(wrong=wrong):
                bare, wrapped = self.bare(starts, how, wrong), self.towpath(starts, how, wrong)
                self.assertEqual(wrapped[:2], bare[:2])


@every_way
class EveryWay(Ways):
    pass


@every_way
class EveryWayUnderMusl(Ways):
    libc = "musl"
    ways = Ways.ways[:-1]  # musl has no execveat


class Alone(TreeCase):
    """LD_PRELOAD alone: no launcher above."""

    def test_dynamic_go(self):
        self.tunnelled(program("go-cgo/goclient"), "get", URL, run=self.preload)

    def test_a_shell_that_starts_static_programs(self):
        for command in (self.go_get, self.static_get):
            self.tunnelled("bash", "-c", '"$@"; exit $?', "bash", *command, run=self.preload,
                           target=FAR if command is self.static_get else NAME)

    def test_a_shell_that_starts_many(self):
        """Each a tree of its own, one after the other and at once."""
        script = 'for i in 1 2 3 4 5; do "$@" & done; "$@"; wait'
        result = self.assert_ran(self.preload("bash", "-c", script, "bash", *self.go_get))
        self.assertEqual(result.out.count("path=/tree\n"), 6)
        self.assertEqual(self.proxy.targets(), [f"{NAME}:80"] * 6)


class Git(TreeCase):
    def test_bash_git_ssh(self):
        ssh, options = sshd(self, self.origin.host)
        self.proxy.names[NAME] = (self.origin.host, 22)
        place = os.path.join(self.directory, "repository.git")
        identity = ["-c", "user.name=lab", "-c", "user.email=lab@example.com"]
        subprocess.run(["git", "init", "-q", "--bare", place], check=True)
        tree = os.path.join(self.directory, "tree")
        for words in (["init", "-q", tree], ["-C", tree, *identity, "commit", "-q", "--allow-empty", "-m", "over the tunnel"],
                      ["-C", tree, "push", "-q", place, "HEAD:refs/heads/main"]):
            subprocess.run(["git", *words], check=True, capture_output=True)
        subprocess.run(["git", "-C", place, "symbolic-ref", "HEAD", "refs/heads/main"], check=True)
        command = " ".join([ssh, *options])
        for start in (["bash", "-c", 'git "$@"; exit $?', "bash"], [self.go, "exec", "git"]):
            with self.subTest(start=start):
                result = self.assert_ran(self.towpath(
                    *start, "ls-remote", f"ssh://root@{NAME}{place}", env={"GIT_SSH_COMMAND": command}))
                self.assertIn("refs/heads/main", result.out)
        self.assertEqual(self.proxy.targets(), [f"{NAME}:22"] * 2)


class Privileged(TreeCase):
    """What the loader gives no library to."""

    def both(self, why, *command, **more):
        seen = set()
        for start in ([], ["bash", "-c", '"$@"; exit $?', "bash"], [self.go, "exec"]):
            with self.subTest(start=start):
                self.proxy.connections.clear()
                seen.add(self.tunnelled_or_refused(self.towpath(*start, *command, **more), why))
        return seen

    def test_a_setuid_program(self):
        for source in (shutil.which("curl"), program("static/sockets"), program("go-static/goclient")):
            with self.subTest(source=source):
                path = self.copy(source, "setuid-" + os.path.basename(source))
                os.chown(path, NOBODY, NOBODY)
                os.chmod(path, 0o4755)
                words = {"curl": self.curl[1:], "sockets": self.static_get[1:], "goclient": self.go_get[1:]}
                self.both("setuid|uid", path, *words[os.path.basename(source)])

    def test_a_program_with_capabilities(self):
        path = self.copy(shutil.which("curl"), "capable")
        try:
            os.setxattr(path, "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0))
        except OSError as error:
            self.skipTest(f"no file capabilities here: {error}")
        self.both("capabilit", path, *self.curl[1:])
        self.around = (program("static/docker_like"), "-u", str(NOBODY))
        os.chown(self.directory, NOBODY, NOBODY)
        self.both("capabilit", path, *self.curl[1:])

    def test_sudo(self):
        sudo = self.need("sudo")
        if self.bare(sudo, "-n", "-u", "nobody", "true").code != 0:
            self.skipTest("sudo refuses root here")
        for command in (self.curl, self.go_get):
            self.proxy.connections.clear()
            result = self.towpath(sudo, "-n", "-u", "nobody", *command)
            # We are root with CAP_SYS_ADMIN here: the filter needs no no_new_privs, and the descendants are covered.
            self.assertEqual(self.tunnelled_or_refused(result, ""), "tunnelled")

    def test_sudo_without_cap_sys_admin(self):
        sudo = self.need("sudo")
        self.around = (program("static/docker_like"),)
        result = self.towpath(sudo, "-n", "-u", "nobody", *self.curl)
        if "path=/tree" not in result.out:
            self.assertNotEqual(result.code, 0)
            self.assertRegex(result.err, "towpath: |sudo: ")
        self.assertFalse(self.dns.asked(NAME))


class Chroots(TreeCase):
    def test_static_in_a_root_without_the_library(self):
        root = Root(self.directory)
        os.unlink(os.path.join(root.path, "libtowpath.so"))
        os.unlink(os.path.join(root.path, "towpath"))
        shutil.copy(program("musl/sockets"), os.path.join(root.path, "sockets"))
        command = ["chroot", root.path, "/sockets", "get", "poll", FAR, "80", "/tree"]
        for options in ((), ("--mode", "seccomp")):
            with self.subTest(options=options):
                self.tunnelled("sh", "-c", '"$@"; exit $?', "sh", *command, options=options, target=FAR)

    def test_dynamic_in_a_root_without_the_library(self):
        root = Root(self.directory)
        names = probe("names")
        root.add(names)
        os.unlink(os.path.join(root.path, "libtowpath.so"))
        os.unlink(os.path.join(root.path, "towpath"))
        decoy = self.use(RawOrigin(FAR, 7, b"direct\n"))
        self.proxy.names[FAR] = self.use(RawOrigin("127.0.0.80", banner=b"through the proxy\n")).address
        result = self.towpath("sh", "-c", '"$@"; exit $?', "sh", *root.command(names), stdin=f"tcp {FAR} 7\n")
        self.assertEqual(decoy.received, [])
        self.assertNotIn("ld.so", result.err)
        if "through the proxy" not in result.out:
            self.assertRegex(result.err, "(?m)^towpath: ")


class Modes(TreeCase):
    def test_seccomp_carries_dynamic_programs_too(self):
        self.tunnelled(*self.curl, options=("--mode", "seccomp"))
        self.tunnelled("bash", "-c", '"$@"; exit $?', "bash", *self.curl, options=("--mode", "seccomp"))
        result = self.towpath("sh", "-c", "cat /proc/self/maps; cat /proc/self/status", options=("--mode", "seccomp"))
        self.assertNotIn(os.path.basename(PRELOAD), result.out)
        self.assertIn("Seccomp:\t2", result.out)

    def test_preload_refuses_what_it_cannot_reach(self):
        for command in (self.go_get, self.static_get, [program("go-cgo/goclient"), "get", URL]):
            result = self.towpath(*command, options=("--mode", "preload"))
            self.assertEqual((result.code, result.out), (125, ""))
            self.assertRegex(result.err, "^towpath: .*(static|Go)")
        self.assertEqual(self.proxy.connections, [])

    def test_auto_says_which(self):
        for command, word in ((self.curl, "preload"), (self.go_get, "seccomp"), (self.static_get, "seccomp")):
            result = self.assert_ran(self.towpath(*command, env={"TOWPATH_LOG": "info"}))
            self.assertRegex(result.err, rf"(?m)^.*\b{word}\b.*$")

    def test_a_mode_that_is_none(self):
        result = self.towpath("true", options=("--mode", "ptrace"))
        self.assertEqual(result.code, 125)
        self.assertRegex(result.err, "auto.*preload.*seccomp")

    def test_a_foreign_listener_above(self):
        """Only one is possible in a tree: somebody else's is a reason to refuse, not to go without."""
        self.around = (program("static/docker_like"), "-l")
        for start in ([], ["bash", "-c", '"$@"; exit $?', "bash"]):
            result = self.towpath(*start, *self.go_get)
            self.assertNotEqual(result.code, 0)
            self.assertRegex(result.err, "(?m)^towpath: .*(listener|seccomp)")
        self.assertEqual(self.proxy.connections, [])
        self.tunnelled(*self.curl)  # which needs none


if __name__ == "__main__":
    main()
