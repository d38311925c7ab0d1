"""docs/towpath.1 says what the parser knows, no more and no less, and is clean to groff."""

import os
import re
import shutil
import subprocess
import unittest

from lab.case import REQUIRE_ALL, TOWPATH

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "towpath.1")


def text():
    with open(PAGE, encoding="ascii") as file:
        return file.read()


def part(whole, macro, name):
    """What stands under `.Sh name` or `.Ss name`."""
    found = re.search(rf"(?ms)^\.{macro} {re.escape(name)}\n(.*?)(?=^\.S[hs] |\Z)", whole)
    return found.group(1) if found else ""


def documented(section):
    """{"--config", "-c"}: of the items of a section."""
    out = set()
    for item in re.findall(r"(?m)^\.It (Fl .*)$", section):
        out |= {"--" + name for name in re.findall(r"Fl Fl ([a-z][\w-]*)", item)}
        out |= {"-" + name for name in re.findall(r"Fl (\w)(?= |$)", item)}
    return out


def helped(*words):
    return subprocess.run([TOWPATH, "help", *words], capture_output=True, text=True, check=True, timeout=20).stdout


def known(help_text):
    """The options in a help text, but for those of every command."""
    section = re.search(r"(?ms)^Options:\n(.*?)\n(?=\n|\Z)", help_text).group(1)
    names = re.findall(r"(?m)^  (-\S+)", section)
    return {name for group in names for name in group.split(",")} - {"-h", "--help"}


class ManPage(unittest.TestCase):
    def test_it_has_the_commands_of_the_parser(self):
        listed = re.search(r"(?ms)^Commands:\n(.*?)\n\n", helped()).group(1)
        commands = re.findall(r"(?m)^  (\w+)", listed)
        self.assertIn("run", commands)
        sections = re.search(r"(?ms)^\.Sh COMMANDS\n(.*?)^\.Sh ", text()).group(1)
        self.assertEqual(re.findall(r"(?m)^\.Ss (\w+)$", sections), commands)

    def test_each_command_has_the_options_of_the_parser(self):
        common = documented(part(text(), "Sh", "OPTIONS"))
        self.assertIn("-c", common)
        for command in re.findall(r"(?m)^\.Ss (\w+)$", text()):
            with self.subTest(command):
                section = part(text(), "Ss", command)
                listed = documented(section) | (common if ".Sx OPTIONS" in section else set())
                self.assertEqual(listed, known(helped(command)))

    def test_it_names_every_variable_of_the_help(self):
        for name in re.findall(r"\b(?:TOWPATH_[A-Z_]+|[a-z]+_proxy)\b", helped()):
            self.assertRegex(part(text(), "Sh", "ENVIRONMENT"), rf"\b{name}\b")

    def test_groff_has_nothing_to_say(self):
        if not shutil.which("groff"):
            self.assertFalse(REQUIRE_ALL, "groff is missing")
            self.skipTest("groff is missing")
        result = subprocess.run(["groff", "-ww", "-mandoc", "-Tutf8", PAGE], capture_output=True, text=True, timeout=60)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertIn("EXIT STATUS", re.sub(r"\x1b\[[0-9;]*m|.\x08", "", result.stdout))


if __name__ == "__main__":
    unittest.main()
