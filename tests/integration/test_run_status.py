"""What `towpath run` leaves to the program and tells its caller: status, arguments, descriptors, environment, limits."""

import json
import os
import re
import resource
import select
import signal
import subprocess

from lab import netns, proc, tree
from lab.case import PRELOAD, main
from lab.tree import RunCase

PYTHON = "/usr/bin/python3"
SHOW_ARGUMENTS = "import json, sys; print(json.dumps(sys.argv[1:]))"
SHOW_ENVIRONMENT = "import json, os; print(json.dumps(dict(os.environ)))"
# Identities rather than numbers alone: what a descriptor is, not only that it is there.
SHOW_DESCRIPTORS = """
import fcntl, os, sys
for entry in sorted(map(int, os.listdir('/proc/self/fd'))):
    try:
        flags = fcntl.fcntl(entry, fcntl.F_GETFL) & ~os.O_CLOEXEC
    except OSError:
        continue
    print(entry, os.readlink(f'/proc/self/fd/{entry}').replace(str(os.getpid()), 'PID'), oct(flags), file=sys.stderr)
"""


class Status(RunCase):
    def test_the_exit_status_is_the_programs(self):
        for code in (0, 1, 2, 77, 124, 125, 126, 127, 128, 130, 200, 255):
            with self.subTest(code=code):
                result = self.towpath("sh", "-c", f"exit {code}")
                self.assertEqual((result.code, result.err), (code, ""))

    def test_what_cannot_be_started_has_the_status_of_env(self):
        self.file("no-bit", "#!/bin/sh\n")
        for command, code, text in (("./none", 127, "No such file"), ("no-such-program", 127, "No such file"),
                                    ("./no-bit", 126, "Permission denied"), (".", 126, "Permission denied"),
                                    ("", 127, "No such file"), ("/etc/hosts/x", 127, "")):
            with self.subTest(command):
                result = self.towpath(command)
                self.assertEqual(result.code, code, result.err)
                self.assertRegex(result.err, f"^towpath: cannot execute {command}: .*{text}.*\n$")

    def test_a_configuration_that_is_wrong_is_125(self):
        self.proxy_values("socks4://127.0.0.1:1")
        self.assertEqual(self.towpath("sh", "-c", "echo started").code, 125)

    def test_death_by_a_signal_is_seen_as_such(self):
        numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGILL, signal.SIGABRT, signal.SIGKILL,
                   signal.SIGSEGV, signal.SIGPIPE, signal.SIGALRM, signal.SIGTERM, signal.SIGUSR1, signal.SIGXCPU,
                   signal.SIGRTMIN, signal.SIGRTMAX)
        for number in numbers:
            with self.subTest(number=number):
                self.assertEqual(self.towpath("sh", "-c", f"kill -{int(number)} $$").code, -number)

    def test_only_the_program_leaves_a_core_file(self):
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)

        def setup():
            resource.setrlimit(resource.RLIMIT_CORE, unlimited)
        try:
            resource.setrlimit(resource.RLIMIT_CORE, unlimited)
        except ValueError:
            self.skipTest("core files are forbidden here")
        caller = self.call("sh", "-c", "kill -SEGV $$", setup=setup)
        status = caller.wait_status()
        self.assertTrue(os.WIFSIGNALED(status))
        self.assertEqual(os.WTERMSIG(status), signal.SIGSEGV)
        self.assertFalse(os.WCOREDUMP(status))

    def test_a_caller_that_ignores_its_children_gets_the_status_too(self):
        line = self.line("sh", "-c", "exit 3")
        ignore = ["perl", "-e", "$SIG{CHLD} = 'IGNORE'; exec @ARGV", *line]
        self.assertEqual(self.start_caller(ignore).wait_code(), 3)

    def test_two_of_them_in_one_another(self):
        self.assertEqual(self.towpath("sh", "-c", 'exec "$@"', "sh", *self.line("sh", "-c", "exit 9")).code, 9)


class Arguments(RunCase):
    def test_they_are_never_read_as_ours(self):
        words = ["--help", "-c", "--config", "--", "", "a\nb", "--version", "-", "--http", "--", "=", "%%", "@file",
                 "[a,b]", "[]", "{}", "'quoted'", '"', "\\", "\udcff"]
        result = self.assert_ran(self.towpath(PYTHON, "-c", SHOW_ARGUMENTS, *words))
        self.assertEqual(json.loads(result.out), words)

    def test_the_double_dash_may_be_left_out(self):
        line = self.line(PYTHON, "-c", SHOW_ARGUMENTS, "-c", "x", "--", "y")
        line.remove("--")
        caller = self.start_caller(line, stdout=subprocess.PIPE)
        self.assertEqual(json.loads(caller.popen.communicate(timeout=proc.scaled(15))[0]), ["-c", "x", "--", "y"])
        caller.status = 0

    def test_a_program_whose_name_looks_like_a_list(self):
        self.assert_ran(self.towpath("[", "1", "=", "1", "]"))
        self.assertEqual(self.towpath("[", "1", "=", "2", "]").code, 1)

    def test_argv_0_is_the_name_that_was_given(self):
        self.assertEqual(self.assert_ran(self.towpath("sh", "-c", "echo $0")).out, "sh\n")

    def test_an_option_of_towpath_that_nobody_knows(self):
        result = self.towpath("sh", "-c", "echo started", options=("--bogus",))
        self.assertEqual((result.code, result.out), (125, ""))
        self.assertIn("--bogus", result.err)


class Descriptors(RunCase):
    def test_the_standard_streams_are_the_callers(self):
        result = self.towpath("sh", "-c", "cat; echo error >&2", stdin=b"line\n\0\xff")
        self.assertEqual((result.code, result.err), (0, "error\n"))
        self.assertTrue(result.out.startswith("line\n\0"))

    def test_the_program_has_what_its_caller_gave_it_and_nothing_else(self):
        for name, redirections in (("usual", ""), ("more", "7</dev/zero 9>/dev/full 250</dev/null"),
                                   ("no input", "<&-"), ("no output", ">&-"), ("neither", "<&- >&-"),
                                   ("one left", "0<&- 1>&- 5<>/dev/zero")):
            with self.subTest(name):
                shell = ["sh", "-c", f'exec "$@" {redirections}', "sh"]
                show = [PYTHON, "-c", SHOW_DESCRIPTORS]
                outputs = []
                for line in (shell + show, shell + self.line(*show)):
                    caller = self.start_caller(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
                    outputs.append(caller.popen.communicate(timeout=proc.scaled(15))[1].decode())
                    caller.status = caller.popen.returncode
                    self.assertEqual(caller.status, 0, outputs[-1])
                bare, ours = [[line for line in text.splitlines() if not line.startswith("2 ")] for text in outputs]
                self.assertEqual(bare, ours)

    def test_closed_standard_error(self):
        line = ["sh", "-c", 'exec "$@" 2>&-', "sh", *self.line("sh", "-c", "echo lost >&2 || exit 4")]
        self.assertEqual(self.start_caller(line).wait_code(), 4 if self.bare("sh", "-c", 'sh -c "echo lost >&2" 2>&-')
                         .code else 0)

    def test_a_descriptor_that_the_program_closes_is_closed(self):
        """Neither P nor the agent keeps pipes open: process managers wait for such an end of file."""
        reader, writer = os.pipe()
        stdin_reader, stdin_writer = os.pipe()
        caller = self.call("sh", "-c", f"exec {writer}>&- >&- <&-; exec sleep 1000", pass_fds=(writer,),
                           stdin=stdin_reader, stdout=subprocess.PIPE)
        os.close(writer)
        os.close(stdin_reader)
        self.assert_end_of_file(reader)
        self.assert_end_of_file(caller.popen.stdout.fileno())
        poll = select.poll()
        poll.register(stdin_writer, 0)
        self.assertTrue(poll.poll(proc.scaled(10) * 1000), "somebody still has the reading end of stdin")
        os.kill(caller.pid, signal.SIGTERM)
        self.assertEqual(caller.wait_code(), -signal.SIGTERM)
        for fd in (reader, stdin_writer):
            os.close(fd)

    def test_the_agent_keeps_no_pipe_open_when_the_program_has_ended(self):
        reader, writer = os.pipe()
        script = f"sleep 1000 </dev/null >/dev/null 2>&1 {writer}>&- & echo $!; exit 0"
        caller = self.call("sh", "-c", script, pass_fds=(writer,), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        os.close(writer)
        self.addCleanup(os.close, reader)
        out = self.assert_end_of_file(caller.popen.stdout.fileno())
        self.assertEqual(self.assert_end_of_file(caller.popen.stderr.fileno()), b"")
        self.assert_end_of_file(reader)
        self.assertEqual(caller.wait_code(), 0)
        child = int(out)
        self.assertEqual(tree.stat(child)[1], tree.agents()[0])  # it still runs, as the agent's child
        os.kill(child, signal.SIGKILL)

    def assert_end_of_file(self, fd):
        data = b""
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while poll.poll(proc.scaled(10) * 1000):
            more = os.read(fd, 65536)
            if not more:
                return data
            data += more
        holders = []
        wanted = os.readlink(f"/proc/self/fd/{fd}")
        for pid in netns.processes():
            for entry in os.listdir(f"/proc/{pid}/fd"):
                if os.readlink(f"/proc/{pid}/fd/{entry}") == wanted:
                    holders.append(f"{pid} {tree.name(pid)} has it as {entry}")
        self.fail(f"no end of file after {data!r}: {', '.join(holders)}")


class Environment(RunCase):
    def seen(self, options=(), **variables):
        result = self.towpath(PYTHON, "-c", SHOW_ENVIRONMENT, env=variables, options=options)
        self.assertEqual((result.code, result.err), (0, ""))
        return json.loads(result.out)

    def test_ours_is_added_and_nothing_else_changes(self):
        bare = json.loads(self.bare(PYTHON, "-c", SHOW_ENVIRONMENT, env={"ODD": "a=b\nc", "EMPTY": ""}).out)
        ours = self.seen(ODD="a=b\nc", EMPTY="")
        self.assertEqual(ours.pop("LD_PRELOAD"), PRELOAD)
        ours.pop("TOWPATH_CONTROL")
        self.assertRegex(ours.pop("TOWPATH_NET"), "^[0-9a-f]{32}$")
        self.assertEqual(ours, bare)
        self.assertEqual(self.seen(options=("--net", "off"))["TOWPATH_NET"], "none")

    def test_another_preloaded_library_comes_after_ours(self):
        self.assertEqual(self.seen(LD_PRELOAD="libm.so.6 libdl.so.2")["LD_PRELOAD"],
                         f"{PRELOAD}:libm.so.6 libdl.so.2")
        self.assertEqual(self.seen(LD_PRELOAD="")["LD_PRELOAD"], PRELOAD)

    def test_proxy_variables_that_configured_us_are_kept_from_the_program(self):
        self.config = None
        given = {"http_proxy": "http://user:secret@127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9",
                 "no_proxy": "x.example", "all_proxy": ""}
        result = self.tool("run", "--", PYTHON, "-c", SHOW_ENVIRONMENT, env=given)
        names = {name.lower() for name in json.loads(self.assert_ran(result).out)}
        self.assertFalse(names & {name.lower() for name in given}, names)
        self.assertNotIn("secret", result.out)
        result = self.tool("run", "--keep-proxy-env", "--", PYTHON, "-c", SHOW_ENVIRONMENT, env=given)
        seen = json.loads(self.assert_ran(result).out)
        self.assertEqual({name: seen.get(name) for name in given}, given)


class Surroundings(RunCase):
    def same(self, *command, setup=None):
        bare, ours = self.twins(*command, setup=setup)
        self.assertEqual(re.sub("Seccomp:.*", "Seccomp:\t2", bare), ours)  # the net
        return ours

    def signals(self, setup=None):
        wanted = "^(Sig(Pnd|Blk|Ign|Cgt)|ShdPnd|NoNewPrivs|Seccomp|Umask|Groups|Uid|Gid|Cap.*):"
        return tree.status_fields(self.same("grep", "-E", wanted, "/proc/self/status", setup=setup))

    def test_signals(self):
        self.assertEqual(int(self.signals()["SigBlk"], 16), 0)

    def test_ignored_signals(self):
        def setup():
            for number in (signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR2, signal.SIGXFSZ, signal.SIGTTOU):
                signal.signal(number, signal.SIG_IGN)
        ignored = int(self.signals(setup)["SigIgn"], 16)
        for number in (signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR2, signal.SIGXFSZ, signal.SIGTTOU):
            self.assertTrue(ignored & 1 << number - 1, number)

    def test_blocked_signals(self):
        def setup():
            signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD})
        self.assertEqual(int(self.signals(setup)["SigBlk"], 16), 1 << 14 | 1 << 9 | 1 << 16)

    def test_resource_limits(self):
        def setup():
            for limit, value in ((resource.RLIMIT_NOFILE, 100), (resource.RLIMIT_CORE, 0),
                                 (resource.RLIMIT_STACK, 4 << 20), (resource.RLIMIT_FSIZE, 4096)):
                resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))
        self.assertIn("Max file size             4096 ", self.same("cat", "/proc/self/limits", setup=setup))

    def test_directory_mask_niceness(self):
        def setup():
            os.nice(5)
            os.umask(0o137)
            os.chdir("/usr/share")
        out = self.same("sh", "-c", "pwd; umask; nice; cat /proc/self/oom_score_adj /proc/self/cgroup", setup=setup)
        self.assertTrue(out.startswith("/usr/share\n0137\n"), out)

    def test_session_and_process_group(self):
        caller = self.call("cat", "/proc/self/stat", stdout=subprocess.PIPE)
        fields = caller.popen.communicate(timeout=proc.scaled(15))[0].decode().rpartition(")")[2].split()
        caller.status = 0
        self.assertEqual(fields[2:4], [str(caller.pid)] * 2)

    def test_the_group_of_a_caller_that_leads_one(self):
        caller = self.start_caller(["sh", "-c", '"$@"; exit', "sh", *self.line("cat", "/proc/self/stat")],
                                   stdout=subprocess.PIPE)
        fields = caller.popen.communicate(timeout=proc.scaled(15))[0].decode().rpartition(")")[2].split()
        caller.status = 0
        self.assertEqual(fields[2:4], [str(caller.pid)] * 2)


if __name__ == "__main__":
    main()
