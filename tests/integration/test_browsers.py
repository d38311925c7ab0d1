"""Browsers with their sandboxes on, as an ordinary user, load a page by a name that only the proxy knows."""

import os
import shutil
import tempfile

from lab import dante, squid
from lab.case import LabCase, main
from lab.origin import Origin

ORIGIN = "127.0.0.80"
NAME = "page.only-at-the-proxy.example"
NOBODY = 65534


class Browsers(LabCase):
    leaks_allowed = True  # both look for their makers' hosts by themselves; what goes past the proxy is looked for by name

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.origin = cls.start(Origin(ORIGIN, 80))
        cls.proxies = [cls.start(server(cls.class_directory, {NAME: ORIGIN}, None)) for server in (squid.Squid, dante.Dante)]

    def check(self, *command):
        os.chown(self.directory, NOBODY, NOBODY)
        short = tempfile.mkdtemp(prefix="lab-")  # Chromium puts a socket there, whose path has a limit
        self.addCleanup(shutil.rmtree, short)
        os.chown(short, NOBODY, NOBODY)
        self.around = ("setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups")
        for server in self.proxies:
            with self.subTest(server.kind):
                self.origin.hits.clear()
                self.proxy_values(server.url)
                os.chown(self.config, NOBODY, NOBODY)
                result = self.towpath(*command, timeout=90, env={"XDG_RUNTIME_DIR": short, "TMPDIR": short})
                self.assertIn("/page", self.origin.paths(), result.err[-3000:])
                self.assertFalse(self.dns.asked(NAME))
                yield result

    def test_chromium(self):
        chromium = self.need("chromium")
        for result in self.check(chromium, "--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
                                 "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
                                 f"--user-data-dir={self.directory}/profile", "--dump-dom", f"http://{NAME}/page"):
            self.assertIn("path=/page", self.assert_ran(result).out)

    def test_firefox(self):
        firefox = self.need("firefox-esr")
        picture = os.path.join(self.directory, "page.png")
        for _ in self.check(firefox, "--headless", "--no-remote", "--profile", self.directory, f"--screenshot={picture}", f"http://{NAME}/page"):
            self.assertTrue(os.path.exists(picture))
            os.unlink(picture)


if __name__ == "__main__":
    main()
