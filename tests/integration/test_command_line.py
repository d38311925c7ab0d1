"""What is said of words that are no command line, and help."""

import re

from lab.case import main
from lab.tree import RunCase


class CommandLine(RunCase):
    def setUp(self):
        super().setUp()
        self.config = None

    def test_what_was_probably_meant(self):
        for words, text in (((), "no command given: .*run, check"),
                            (("chekc",), "unknown command .*did you mean check"),
                            (("curl", "http://x.example/"), "towpath run -- CMD"),
                            (("help", "rum"), "did you mean run"),
                            (("check", "values.yaml"), "did you mean -c values.yaml"),
                            (("-c", "values.yaml", "run", "--", "true"), "options stand behind the command: towpath run -c"),
                            (("check", "--htp", "x"), "unknown option --htp, did you mean --http"),
                            (("explain", "--peer", "10.0.0.1:1", "x:1"), "--peer requires --inbound"),
                            (("explain", "--inbound"), "--inbound requires --peer"),
                            (("explain",), "HOST:PORT or --inbound"),
                            (("completion", "ksh"), "bash,zsh,fish")):
            with self.subTest(words):
                result = self.tool(*words)
                self.assertEqual((result.code, result.out), (125, ""), result.err)
                self.assertRegex(result.err, f"^towpath: .*{text}.*\n$")

    def test_a_password_in_the_wrong_place_is_not_shown(self):
        for words in (("check", "http://u:hunter2@p:1"), ("--http=http://u:hunter2@p:1", "run", "true"),
                      ("run", "--htp=http://u:hunter2@p:1", "true"), ("http://u:hunter2@p:1",)):
            with self.subTest(words):
                result = self.tool(*words)
                self.assertEqual(result.code, 125)
                self.assertNotIn("hunter2", result.err)

    def test_help_and_version(self):
        top = self.assert_ran(self.tool("help")).out
        self.assertEqual(self.assert_ran(self.tool("--help")).out, top)
        for text in ("Examples:", "Environment:", "Exit status:", "TOWPATH_CONFIG"):
            self.assertIn(text, top)
        self.assertIn("Usage: towpath run [OPTIONS] [--] CMD [ARG...]\n", self.assert_ran(self.tool("help", "run")).out)
        self.assertEqual(self.assert_ran(self.tool("version")).out, self.assert_ran(self.tool("--version")).out)

    def test_nothing_configured_is_said_with_the_remedy(self):
        for words in (("check",), ("explain", "x.example:443")):
            result = self.tool(*words)
            self.assertEqual(result.code, 0)
            self.assertRegex(result.err, "^towpath: warning: neither .*every connection goes direct: give -c FILE.*\n$")

    def test_the_deciding_value_has_a_source(self):
        for words, given, source in ((("--http", "p:1"), {}, "--http"), ((), {"http_proxy": "p:1"}, r"\$http_proxy"),
                                     ((), {"ALL_PROXY": "socks5://p:1"}, r"\$ALL_PROXY")):
            result = self.tool("explain", *words, "x.example:443", env=given)
            self.assertRegex(result.out, rf"\(port 443 uses \S+, from {source}\)\n$")
        self.proxy_values("p:1")
        result = self.tool("explain", "-c", self.config, "x.example:443")
        self.assertRegex(result.out, rf", from {re.escape(self.config)}:3:11: coderd\.proxy\.http\)\n$")


if __name__ == "__main__":
    main()
