# suite: full
"""scripts/entrypoint.sh and scripts/wrap, by busybox ash and by dash, in containers; wrap's promises on this machine too."""

import filecmp
import os
import shutil
import signal
import subprocess
import threading

from lab import oci, root_fs
from lab.case import main, program
from lab.recipes import NAME, RecipeCase

ENTRYPOINT = "/opt/towpath/entrypoint.sh"
WRAP = "/opt/towpath/wrap"
CLIENT_PROGRAM = "/usr/bin/client"
ROOTS = {"ash": root_fs.musl, "dash": root_fs.debian}


class ScriptCase(RecipeCase):
    def made(self, shell, files=("towpath", "libtowpath.so", "entrypoint.sh", "wrap")):
        root = self.trusting(self.image(ROOTS[shell], os.path.join(self.directory, shell)))
        for file in files:
            root.add(os.path.join(self.release, file), f"/opt/towpath/{file}")
        root.add(program("go-static/goserver"), "/usr/bin/coderd")
        return root

    def each(self, **more):
        for shell in ROOTS:
            with self.subTest(shell):
                yield self.made(shell, **more)
                shutil.rmtree(os.path.join(self.directory, shell))

    def proxied(self, kind="http"):
        return self.proxy_environment(self.kinds[kind])


class Entrypoint(ScriptCase):
    def assert_refused(self, root, words, text, **how):
        result = oci.run(self, root, words, **how)
        self.assertEqual((result.code, result.out), (125, ""), result.err)
        self.assertIn(text, result.err)
        return result.err

    def test_it_says_what_is_wrong(self):
        for root in self.each():
            self.assert_refused(root, [ENTRYPOINT], "no command given")
            self.assert_refused(root, [ENTRYPOINT, "sh", "-c", "echo ran"], "TOWPATH names /nowhere", env={"TOWPATH": "/nowhere"})
            said = self.assert_refused(root, [ENTRYPOINT, "sh", "-c", "echo ran"], "sh was not started",
                                       env={"http_proxy": "gopher://proxy"})
            self.assertEqual(said.count("gopher"), 1, said)
        for root in self.each(files=("entrypoint.sh",)):
            self.assert_refused(root, [ENTRYPOINT, "sh", "-c", "echo ran"], "towpath is neither beside")

    def test_where_towpath_is(self):
        for root in self.each(files=("entrypoint.sh",)):
            for file in ("towpath", "libtowpath.so"):
                root.add(os.path.join(self.release, file), f"/elsewhere/{file}")
            url = self.kinds["http"]
            for env in ({"TOWPATH": "/elsewhere/towpath"}, {"PATH": "/usr/bin:/bin:/elsewhere"}):
                self.assert_client(root, [ENTRYPOINT, "client"], url, env={**self.proxied(), **env})

    def test_status_and_signals_are_the_programs(self):
        for root in self.each():
            self.assertEqual(oci.run(self, root, [ENTRYPOINT, "sh", "-c", "exit 7"], env=self.proxied()).code, 7)
            self.assertEqual(oci.run(self, root, [ENTRYPOINT, "/nothing"], env=self.proxied()).code, 127)
            server = oci.start(self, root, [ENTRYPOINT, "coderd", "run"],
                               env={**self.proxied(), "CODERD_ADDRESS": f"127.0.0.1:{self.free_port()}"})
            server.wait_line("listening=")
            server.signal(signal.SIGTERM)  # to runc, which hands it to the first process
            self.assertEqual(server.wait(), 128 + signal.SIGTERM)

    def test_twice_is_once(self):
        names = "cat /proc/[0-9]*/comm"
        for root in self.each():
            result = oci.run(self, root, [ENTRYPOINT, ENTRYPOINT, "sh", "-c", names], env=self.proxied())
            self.assertEqual(result.code, 0, result)
            self.assertEqual([one for one in result.out.split() if one.startswith("towpath")], ["towpath", "towpath-agent"],
                             result)
            self.assertEqual(result.err, "")
            self.assert_client(root, [ENTRYPOINT, ENTRYPOINT, "client"], self.kinds["http"], env=self.proxied())

    def test_a_server_of_the_inner_one(self):
        """A static program, which in dash's tree nobody supervises yet: it has to be taken in, with its clients."""
        url = self.kinds["http"]
        for root in self.each():
            port = self.free_port()
            server = oci.start(self, root, [ENTRYPOINT, "sh", "-c", f"exec {ENTRYPOINT} coderd run"], env={
                **self.proxied(), "CODERD_ADDRESS": f"0.0.0.0:{port}", "PROXY_TRUSTED_ORIGINS": "127.0.0.0/8",
                "PROXY_TRUSTED_HEADERS": "X-Forwarded-For"})
            server.wait_line("listening=")
            self.assert_server_fetches(port, url)
            self.assert_sees_clients(port, "", "  mode http\n  option forwardfor\n", "  mode http")
            server.stop()

    def test_a_variable_of_another_tree_is_not_believed(self):
        """Or a static program would go around the proxy."""
        for root in self.each():
            stolen = oci.run(self, root, [ENTRYPOINT, "sh", "-c", "echo $TOWPATH_CONTROL"], env=self.proxied()).out.strip()
            self.assertTrue(stolen)
            self.assert_client(root, [ENTRYPOINT, "client"], self.kinds["http"],
                               env={**self.proxied(), "TOWPATH_CONTROL": stolen})


class Wrap(ScriptCase):
    def wrap(self, root, *words, code=0):
        """The script in that root, as somebody who builds an image runs it."""
        result = oci.run(self, root, [WRAP, *words], uid=0, readonly=False)
        self.assertEqual(result.code, code, result)
        return result.out + result.err

    def test_there_and_back(self):
        url = self.kinds["socks5"]
        for root in self.each():
            before = root.place("/before")
            shutil.copy2(root.place(CLIENT_PROGRAM), before)
            os.chown(root.place(CLIENT_PROGRAM), 12, 34)
            self.assertIn("is not wrapped", self.wrap(root, CLIENT_PROGRAM, "--status", code=1))
            self.assertIn("is wrapped", self.wrap(root, CLIENT_PROGRAM))
            first = open(root.place(CLIENT_PROGRAM)).read()
            self.assertIn("is wrapped already", self.wrap(root, CLIENT_PROGRAM))
            self.assertEqual(open(root.place(CLIENT_PROGRAM)).read(), first)
            self.assertIn("give its path", self.wrap(root, "client", "--status", code=1))
            self.assert_client(root, ["client"], url, env=self.proxied("socks5"))
            about = os.stat(root.place(CLIENT_PROGRAM))
            self.assertEqual((about.st_uid, about.st_gid, about.st_mode & 0o7777), (12, 34, 0o755))
            for _ in range(2):
                self.wrap(root, CLIENT_PROGRAM, "--undo")
            self.assertTrue(filecmp.cmp(root.place(CLIENT_PROGRAM), before, shallow=False))
            self.assertFalse([one for one in os.listdir(os.path.dirname(root.place(CLIENT_PROGRAM))) if "towpath" in one])
            self.assert_lost(root, ["client"], env=self.proxied("socks5"))

    def test_options(self):
        for root in self.each():
            root.write("/etc/it's.yaml", f"proxy: {{http: '{self.kinds['http']}'}}\n")
            self.wrap(root, CLIENT_PROGRAM, "--", "-c", "/etc/it's.yaml")
            self.assert_client(root, ["client"], self.kinds["http"])

    def test_a_program_that_does_what_its_name_says(self):
        """busybox is the shell, too, that would have to read its own launcher."""
        root = self.made("ash")
        url = self.kinds["http"]
        self.wrap(root, "/bin/busybox")
        with self.through(url, NAME):
            result = oci.run(self, root, ["wget", "-q", "-O", "-", f"http://{NAME}/page"], env=self.proxied())
            self.assertIn("path=/page", result.out, result.err)
        names = oci.run(self, root, ["sh", "-c", "sh -c 'cat /proc/[0-9]*/comm'"], env=self.proxied())
        self.assertEqual([one for one in names.out.split() if one.startswith("towpath")], ["towpath", "towpath-agent"], names)
        self.wrap(root, "/bin/busybox", "--undo")
        self.assertTrue(filecmp.cmp(root.place("/bin/busybox"), root_fs.BUSYBOX, shallow=False))

    def test_the_shell_itself(self):
        root = self.made("dash")
        self.wrap(root, "/bin/dash")
        result = oci.run(self, root, ["sh", "-c", "client; exit 3"], env=self.proxied(), stdin=f"tcp {NAME} {self.raw.port}\n")
        self.assertIn("welcome", result.out, result.err)
        self.assertEqual(result.code, 3)
        self.wrap(root, "/bin/dash", "--undo")

    def test_what_a_wrapped_program_starts(self):
        """A wrapped program in a tree that is carried already: one towpath, by whichever front end."""
        for root in self.each():
            self.wrap(root, CLIENT_PROGRAM)
            self.assert_client(root, [ENTRYPOINT, "sh", "-c", "client"], self.kinds["http"], env=self.proxied())

    def test_an_upgrade(self):
        for root in self.each():
            self.wrap(root, CLIENT_PROGRAM)
            os.unlink(root.place(CLIENT_PROGRAM))
            root.write(CLIENT_PROGRAM, "#!/bin/sh\necho version two\n")
            os.chmod(root.place(CLIENT_PROGRAM), 0o755)
            self.assertIn("was replaced", self.wrap(root, CLIENT_PROGRAM, "--status", code=1))
            self.assertIn("is wrapped again", self.wrap(root, CLIENT_PROGRAM))
            self.assertEqual(oci.run(self, root, ["client"], env=self.proxied()).out, "version two\n")
            self.wrap(root, CLIENT_PROGRAM, "--undo")
            self.assertEqual(open(root.place(CLIENT_PROGRAM)).read(), "#!/bin/sh\necho version two\n")

    def test_what_it_refuses(self):
        for root in self.each():
            for name, mode in (("setuid", 0o4755), ("setgid", 0o2755), ("secret", 0o711), ("data", 0o644)):
                root.add(root.place(CLIENT_PROGRAM), f"/x/{name}")
                os.chmod(root.place(f"/x/{name}"), mode)
            root.link("/x/link", CLIENT_PROGRAM)
            before = sorted(os.listdir(root.place("/x/")))
            for name, text in (("setuid", "setuid"), ("setgid", "setgid"), ("secret", "may not read"), ("link", "symbolic link"),
                               ("data", "not executable"), ("nothing", "no such file"), ("../opt/towpath/towpath", "itself")):
                self.assertIn(text, self.wrap(root, f"/x/{name}", code=1))
            self.assertEqual(sorted(os.listdir(root.place("/x/"))), before)

    def test_there_is_a_program_at_every_moment(self):
        """On this machine: it is looked at without a pause, and started without a pause while it is wrapped."""
        target = os.path.join(self.directory, "true")
        shutil.copy("/bin/true", target)
        seen, codes, done, wrapping = set(), set(), threading.Event(), threading.Event()

        def look():
            while not done.is_set():
                seen.add(os.access(target, os.X_OK))

        def begin():
            while wrapping.is_set():
                codes.add(subprocess.run([target], stderr=subprocess.DEVNULL, check=False).returncode)
        looker = threading.Thread(target=look)
        looker.start()
        try:
            for _ in range(10):
                wrapping.set()
                starter = threading.Thread(target=begin)
                starter.start()
                wrapped = self.bare(os.path.join(self.release, "wrap"), target)
                wrapping.clear()
                starter.join()
                self.assertEqual((wrapped.code, self.bare(os.path.join(self.release, "wrap"), target, "--undo").code), (0, 0))
        finally:
            done.set()
            looker.join()
        self.assertEqual((seen, codes), ({True}, {0}))


class Style(ScriptCase):
    def test_shellcheck(self):
        tool = self.need("shellcheck")
        for name in ("entrypoint.sh", "wrap"):
            self.assert_ran(self.bare(tool, os.path.join(self.release, name)))


if __name__ == "__main__":
    main()
