"""Completion in the real shells: what TAB offers for a line."""

import os
import pty
import select
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from lab.case import REQUIRE_ALL, TOWPATH

BASH_COMPLETION = "/usr/share/bash-completion/bash_completion"
PATH = os.path.dirname(TOWPATH) + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# COMP_WORDS as readline cuts them: at blanks, and around ":" and "=".
BASH = r"""
compopt() { :; }  # works only while readline completes
[[ -z $FRAMEWORK ]] || . "$FRAMEWORK"
eval "$(towpath completion bash)"
COMP_LINE=$LINE COMP_POINT=${#LINE} COMP_TYPE=9 COMP_KEY=9 COMP_WORDS=()
rest=$LINE
while [[ $rest =~ ^[[:space:]]*([:=]+|[^[:space:]:=]+) ]]; do
  COMP_WORDS+=("${BASH_REMATCH[1]}")
  rest=${rest#"${BASH_REMATCH[0]}"}
done
[[ $LINE != *[[:space:]] ]] || COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_towpath towpath "${COMP_WORDS[COMP_CWORD]}" ''
((${#COMPREPLY[@]} == 0)) || printf '%s\n' "${COMPREPLY[@]}"
"""
# An interactive zsh whose completion tells a pipe what it would offer, one a line, and at last an empty line.
ZSHRC = r"""
unsetopt beep zle_bracketed_paste; PROMPT=
fpath=($FUNCTIONS $fpath)
autoload -Uz compinit && compinit -u -D
exec {tell}>$TELL
compadd() {
  if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return; fi
  local -a hits
  builtin compadd -A hits "$@"
  (( $#hits )) && print -rlu $tell -- $hits
  builtin compadd "$@"
}
finish() { print -u $tell }
comppostfuncs=(finish)
bindkey '^I' complete-word
print -u $tell
"""


def environment(line, directory, **more):
    return {"PATH": PATH, "HOME": directory, "LC_ALL": "C", "TERM": "dumb", "LINE": line, "FRAMEWORK": "", **more}


def bash(line, directory, framework=BASH_COMPLETION):
    return subprocess.run(["bash", "--norc", "-c", BASH], env=environment(line, directory, FRAMEWORK=framework),
                          cwd=directory, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


def bash_alone(line, directory):
    return bash(line, directory, framework="")


def fish(line, directory):
    script = "towpath completion fish | source; complete -C $LINE"
    result = subprocess.run(["fish", "--no-config", "-c", script], env=environment(line, directory), cwd=directory,
                            capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    result.stdout = "".join(row.partition("\t")[0] + "\n" for row in result.stdout.splitlines())
    return result


def zsh(line, directory):
    functions = tempfile.mkdtemp(prefix="functions-")
    script = subprocess.run([TOWPATH, "completion", "zsh"], capture_output=True, text=True, check=True, timeout=20).stdout
    for name, text in (("_towpath", script), (".zshrc", ZSHRC)):
        with open(os.path.join(functions, name), "w") as file:
            file.write(text)
    tell = os.path.join(functions, "tell")
    os.mkfifo(tell)
    told = os.open(tell, os.O_RDWR)
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(directory)
        os.execvpe("zsh", ["zsh", "-i"], environment(line, directory, ZDOTDIR=functions, FUNCTIONS=functions, TELL=tell))
    shown, deadline = b"", time.monotonic() + 60

    def until_empty_line():
        nonlocal shown
        out = b""
        while not out.endswith(b"\n\n") and out != b"\n":
            left = deadline - time.monotonic()
            ready = select.select([told, terminal], [], [], max(left, 0))[0]
            if not ready:
                raise AssertionError(f"zsh says nothing more; its terminal shows {shown!r}")
            if terminal in ready:
                shown += os.read(terminal, 65536)
            if told in ready:
                out += os.read(told, 65536)
        return out.decode()

    try:
        until_empty_line()
        os.write(terminal, line.encode() + b"\t")
        out = until_empty_line()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)
        os.close(told)
        shutil.rmtree(functions)
    return subprocess.CompletedProcess("zsh", 0, out.strip("\n"), "")


SHELLS = {"bash": bash, "bash without bash-completion": bash_alone, "zsh": zsh, "fish": fish}


class Completion(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="completion-")
        self.addCleanup(shutil.rmtree, self.directory)
        for name in ("values.yaml", "with blank.yaml"):
            open(os.path.join(self.directory, name), "w").close()
        os.mkdir(os.path.join(self.directory, "folder"))

    def offers(self, line, *, some=(), none=(), exactly=None, shells=SHELLS):
        for name in shells:
            with self.subTest(line=line, shell=name):
                program = name.partition(" ")[0]
                if not shutil.which(program, path=PATH) or (name == "bash" and not os.path.exists(BASH_COMPLETION)):
                    self.assertFalse(REQUIRE_ALL, f"{name} is missing")
                    continue
                result = SHELLS[name](line, self.directory)
                self.assertEqual(result.stderr, "")
                found = {each.strip() for each in result.stdout.splitlines()}
                if exactly is not None:
                    self.assertEqual(found, set(exactly))
                self.assertLessEqual(set(some), found)
                self.assertEqual(found & set(none), set())

    def test_commands(self):
        self.offers("towpath ", some=("run", "check", "explain", "agent", "completion"), none=("values.yaml", "enter"))
        self.offers("towpath com", exactly=["completion"])
        self.offers("towpath help exp", exactly=["explain"])
        self.offers("towpath --ver", exactly=["--version"])

    def test_options_are_those_of_the_command(self):
        self.offers("towpath check --", some=("--config", "--http", "--https", "--exempt"), none=("--mode", "--peer"))
        self.offers("towpath run --k", exactly=["--keep-proxy-env"])
        self.offers("towpath agent --st", exactly=[])  # not for people

    def test_values(self):
        self.offers("towpath run --mode s", exactly=["seccomp"])
        self.offers("towpath completion ", exactly=["bash", "zsh", "fish"])
        self.offers("towpath explain ", none=("values.yaml", "folder"))
        self.offers("towpath check --http ", none=("values.yaml", "folder"))
        self.offers("towpath check -c val", exactly=["values.yaml"])
        self.offers("towpath run --config val", exactly=["values.yaml"])
        self.offers("towpath run --config with", exactly=["with blank.yaml"],
                    shells=("bash", "bash without bash-completion"))
        self.offers("towpath run --config with", exactly=[r"with\ blank.yaml"], shells=("zsh",))

    def test_a_value_behind_an_equals_sign(self):
        for name, whole in (("bash", "seccomp"), ("fish", "--mode=seccomp"), ("zsh", "seccomp")):
            self.offers("towpath run --mode=s", exactly=[whole], shells=(name,))

    def test_a_program(self):
        for line in ("towpath run xarg", "towpath run -- xarg", "towpath run --http http://p:3128 -c values.yaml xarg",
                     "towpath run --http=http://p:3128 --keep-proxy-env -- xarg"):
            self.offers(line, some=("xargs",), none=("values.yaml",))

    def test_a_programs_arguments_are_completed_as_its_own(self):
        for line in ("towpath run cat val", "towpath run --http http://p:3128 -- cat val"):
            self.offers(line, exactly=["values.yaml"])
        # What only the program's own completion knows: towpath's.
        self.offers("towpath run -- towpath comp", exactly=["completion"], shells=("bash", "zsh", "fish"))
        self.offers("towpath run -- towpath run --http http://a:1 -- towpath run --k", exactly=["--keep-proxy-env"],
                    shells=("bash", "zsh", "fish"))

    def test_nothing_of_towpaths_is_offered_behind_the_program(self):
        self.offers("towpath run -- xargs --ex", none=("--exempt",))


if __name__ == "__main__":
    unittest.main()
