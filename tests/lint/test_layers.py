"""Rules about the source tree itself: who may include whom, headers, plain ASCII, length, no machine's own paths."""

import os
import re
import subprocess
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MAY_INCLUDE = {
    "base": set(),
    "proto": {"base"},
    "trap": {"base", "proto"},
    "preload": {"base", "proto", "trap"},
    "config": {"base"},
    "resolver": {"base", "proto"},
    "agent": {"base", "proto", "trap", "config", "resolver"},
    "launcher": {"base", "proto", "trap", "config", "resolver", "agent"},
}
CODE = (".h", ".cpp", ".c", ".def")
SOURCES = CODE + (".py", ".cmake", ".sh")
LONGEST = 500
# Spelled in two parts, so that this file passes its own test.
MACHINE_PATHS = re.compile(r"(?<![\w.$}-])/(?:" + "work|" + "root)/")


def files():
    """Every file that is, or is about to be, in the repository; the tree itself where there is no git."""
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                            capture_output=True, text=True) if os.path.exists(os.path.join(ROOT, ".git")) else None
    if listed is not None and listed.returncode == 0:
        names = listed.stdout.split("\0")
    else:
        names = []
        for place, folders, found in os.walk(ROOT):
            folders[:] = [folder for folder in folders if folder not in (".git", "build", "__pycache__")]
            names += [os.path.relpath(os.path.join(place, name), ROOT) for name in found]
    return sorted(name for name in names if name and os.path.isfile(os.path.join(ROOT, name)))


def text(name):
    with open(os.path.join(ROOT, name), encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def is_source(name):
    return not name.startswith("tests/vectors/") and (
        name.endswith(SOURCES) or name.startswith(("scripts/", ".ci/")) or os.path.basename(name) == "CMakeLists.txt")


class Layers(unittest.TestCase):
    def report(self, problems):
        if problems:
            self.fail("\n" + "\n".join(problems))

    def test_includes_follow_the_table(self):
        problems = []
        for name in filter(lambda one: one.endswith(CODE), files()):
            folder = name.split("/")[0]
            for number, line in enumerate(text(name).splitlines(), 1):
                found = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
                if not found or folder not in MAY_INCLUDE:
                    continue
                target = found.group(1).split("/")[0]
                if "/" not in found.group(1):
                    problems.append(f"{name}:{number}: include {found.group(1)} from the root: {folder}/...")
                elif target != folder and target not in MAY_INCLUDE[folder]:
                    problems.append(f"{name}:{number}: {folder} may not include {target}")
        self.report(problems)

    def test_headers_have_a_guard_and_say_what_they_are_for(self):
        problems = []
        for name in filter(lambda one: one.endswith(".h"), files()):
            lines = [line for line in text(name).splitlines() if line.strip()]
            if lines.count("#pragma once") != 1:
                problems.append(f"{name}: needs one #pragma once")
            first = next((line for line in lines if line != "#pragma once"), "")
            if not first.startswith(("//", "/*")):
                problems.append(f"{name}: begins without a comment")
        self.report(problems)

    def test_sources_are_plain_ascii(self):
        problems = []
        for name in filter(is_source, files()):
            for number, line in enumerate(text(name).splitlines(), 1):
                if not line.isascii():
                    problems.append(f"{name}:{number}: not ASCII")
        self.report(problems)

    def test_no_file_mentions_a_path_of_somebodys_machine(self):
        problems = []
        for name in files():
            for number, line in enumerate(text(name).splitlines(), 1):
                if MACHINE_PATHS.search(line):
                    problems.append(f"{name}:{number}: {line.strip()[:100]}")
        self.report(problems)

    def test_files_can_be_read_in_one_go(self):
        lengths = {name: len(text(name).splitlines()) for name in filter(is_source, files())}
        self.report([f"{name}: {length} lines, more than {LONGEST}" for name, length in lengths.items()
                     if length > LONGEST])

    def test_scripts_are_executable(self):
        self.report([f"{name}: not executable" for name in files() if name.startswith(("scripts/", ".ci/"))
                     and not os.access(os.path.join(ROOT, name), os.X_OK)])


if __name__ == "__main__":
    unittest.main()
