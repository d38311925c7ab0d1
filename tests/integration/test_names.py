# suite: quick
"""What a program's libc answers for names under towpath: glibc and musl, every function, every hint."""

import re
import socket

from lab import netns
from lab.case import LabCase, main
from lab.names_probe import NamesProbe, path_of
from lab.origin import RawOrigin
from lab.proxy import Proxy

NAME = "only-at-the-proxy.example"
EXEMPT = "inside.example"
V4 = r"198\.1[89]\.\d+\.\d+"
V6 = r"fd74:6f77:7061:7468::[0-9a-f:]+"


class Lookups(LabCase):
    records = {EXEMPT: ["127.0.0.81"], "six.inside.example": ["127.0.0.82", "2001:db8::82"]}
    libc = "glibc"

    @classmethod
    def setUpClass(cls):
        path_of(cls.libc)  # skips where there is no musl
        super().setUpClass()
        cls.origin = cls.start(RawOrigin(banner=b"at the proxy's side\n"))
        cls.proxy = cls.start(Proxy("http", {NAME: cls.origin.address}))

    def setUp(self):
        super().setUp()
        self.addCleanup(netns.hosts)
        self.proxy_values(self.proxy.url, exempt=EXEMPT)
        self.probe = self.start_probe()

    def start_probe(self, **options):
        return self.use(NamesProbe(self, self.libc, **options))

    def ask(self, *commands):
        return self.probe.ask(*commands)

    def kinds(self, *words):
        """The kinds of sockets that this libc lists where the program asked for none in particular."""
        return [word for word in words if self.libc == "glibc" or not word.startswith("raw")]

    def assert_answer(self, answer, family, address, port, kinds, canonical=None):
        words = answer.split(" ")
        self.assertEqual(words[0], "OK", answer)
        self.assertEqual(len(words) - 1, len(kinds), answer)
        for index, (word, kind) in enumerate(zip(words[1:], kinds)):
            place = rf"\[{address}\]" if family == "inet6" else address
            ending = f"/{re.escape(canonical)}" if canonical and index == 0 else "(/.*)?"
            self.assertRegex(word, rf"^{family}/{kind}/{place}:{port}{ending}$")


class GetAddrInfo:
    def test_one_ipv4_address_for_whoever_takes_any(self):
        every = self.kinds("stream/6", "dgram/17", "raw/0")
        for command in (f"gai {NAME}", f"gai {NAME} family=unspec", f"gai {NAME} family=inet", f"gai {NAME} flags=passive",
                        f"gai {NAME} flags=addrconfig"):
            with self.subTest(command):
                self.assert_answer(self.ask(command), "inet", V4, 0, every)
        self.assertEqual(self.dns.queries, [])

    def test_one_ipv6_address_for_who_wants_ipv6(self):
        every = self.kinds("stream/6", "dgram/17", "raw/0")
        for flags in ("", " flags=v4mapped", " flags=v4mapped,all", " flags=addrconfig"):
            with self.subTest(flags):
                self.assert_answer(self.ask(f"gai {NAME} family=inet6{flags}"), "inet6", V6, 0, every)
        self.assertEqual(self.dns.queries, [])

    def test_hints_and_services(self):
        for hints, port, kinds in (
                ("service=http type=stream", 80, ["stream/6"]), ("service=80 type=dgram", 80, ["dgram/17"]),
                ("service=443 protocol=6", 443, ["stream/6"]), ("service=domain type=dgram", 53, ["dgram/17"]),
                ("service=80", 80, self.kinds("stream/6", "dgram/17", "raw/0")),
                ("service=8080 type=stream flags=numericserv", 8080, ["stream/6"])):
            with self.subTest(hints):
                self.assert_answer(self.ask(f"gai {NAME} {hints}"), "inet", V4, port, kinds)

    def test_bad_hints_fail_as_they_do_without_towpath(self):
        bare = self.start_probe(bare=True)
        for hints in ("service=nosuch", "service=http flags=numericserv", "family=unix", "flags=bad",
                      "type=stream protocol=17", "flags=numerichost"):
            with self.subTest(hints):
                answer = self.ask(f"gai {NAME} {hints}")
                self.assertNotIn("OK", answer)
                # What bare says of a number is said before any lookup, so that no answer is waited for.
                number = "x" if hints == "flags=numerichost" else "192.0.2.1"
                self.assertEqual(answer, bare.ask(f"gai {number} {hints}"))

    def test_the_canonical_name_is_the_one_that_was_asked_for(self):
        answer = self.ask(f"gai {NAME} type=stream flags=canonname")
        self.assert_answer(answer, "inet", V4, 0, ["stream/6"], NAME)
        answer = self.ask(f"gai {NAME} type=stream flags=canonname family=inet6")
        self.assert_answer(answer, "inet6", V6, 0, ["stream/6"], NAME)
        self.assert_answer(self.ask("gai A-Much-LONGER-name.than-any-address.has.example. type=stream flags=canonname"),
                           "inet", V4, 0, ["stream/6"], "A-Much-LONGER-name.than-any-address.has.example.")

    def test_answers_are_freed(self):
        for flags in ("", " flags=canonname"):
            word, grown = self.probe.ask(f"loop 20000 {NAME}{flags}", timeout=60).split()
            self.assertEqual(word, "OK")
            self.assertLess(int(grown), 400, f"20 kB for every thousand lookups is a leak{flags}")

    def test_numbers_are_numbers(self):
        bare = self.start_probe(bare=True)
        for number in ("127.0.0.1", "192.0.2.1", "::1", "2001:db8::1", "::ffff:192.0.2.1", "127.1", "0x7f000001",
                       "3221225985", "0300.0.2.1", "fe80::1%25lo"):
            with self.subTest(number):
                command = f"gai {number} service=80 type=stream"
                self.assertEqual(self.ask(command), bare.ask(command))
                self.assertIn("OK", self.ask(command))
        self.assertEqual(self.ask("gai 127.0.0.1 family=inet6"), bare.ask("gai 127.0.0.1 family=inet6"))
        self.assertEqual(self.dns.queries, [])

    def test_no_name_is_the_machine_itself(self):
        bare = self.start_probe(bare=True)
        for command in ("gai - service=80 flags=passive", "gai - service=80 type=stream", "gai - service=80 family=inet6",
                        "gai -"):
            self.assertEqual(self.ask(command), bare.ask(command))

    def test_what_is_no_name_does_not_exist(self):
        label = "a" * 63
        longest = ".".join([label] * 3 + ["a" * 61])
        self.assertEqual(len(longest), 253)
        for name in (longest + "a", longest + "ab", "a" * 256, "a" * 1000, "a%20b.example", "a..example", ".example", ".",
                     "a%01b.example", "1:2:3", "a/b.example", "user@host.example", "%ff%fe.example"):
            with self.subTest(name[:40]):
                self.assertEqual(self.ask(f"gai {name}", f"hbn {name}", f"hbn {name} room=1024"),
                                 ["NONAME", "HOST_NOT_FOUND", "HOST_NOT_FOUND"])
        self.assertEqual(self.ask("gai fe80::1%25nosuch"), "NONAME")
        self.assertEqual(self.dns.queries, [])
        # The longest one that is a name, with and without the final dot.
        for name in (longest, longest + "."):
            self.assert_answer(self.ask(f"gai {name} type=stream"), "inet", V4, 0, ["stream/6"])

    def test_names_travel_in_the_form_that_proxies_know(self):
        for name, travels in (("under_score.example", "under_score.example"), ("Upper.EXAMPLE", "upper.example"),
                              ("dot.example.", "dot.example"), ("b%c3%bccher.example", "xn--bcher-kva.example"),
                              ("B%c3%9cCHER.example", "xn--bcher-kva.example"), ("short", "short"),
                              ("xn--bcher-kva.example", "xn--bcher-kva.example"), ("123.example", "123.example")):
            with self.subTest(name):
                self.proxy.names[travels] = self.origin.address
                self.assertRegex(self.ask(f"tcp {name} 80"), f"^OK {V4}:80 at the proxy's side$")
                self.assertEqual(self.proxy.targets()[-1], f"{travels}:80")
        self.assertEqual(self.dns.queries, [])

    def test_exempt_names_are_asked_of_the_own_name_server(self):
        answer = self.ask(f"gai {EXEMPT} service=80 type=stream")
        self.assert_answer(answer, "inet", r"127\.0\.0\.81", 80, ["stream/6"])
        self.assertEqual(sorted(self.dns.queries), [(EXEMPT, "A"), (EXEMPT, "AAAA")])
        self.dns.queries.clear()
        answer = self.ask("gai six.inside.example family=inet6 type=stream")
        self.assert_answer(answer, "inet6", "2001:db8::82", 0, ["stream/6"])
        self.assertEqual(self.dns.queries, [("six.inside.example", "AAAA")])
        self.assertIn(self.ask("gai unknown.inside.example"), ("NONAME", "NODATA"))

    def test_the_machine_itself_is_the_own_resolvers(self):
        netns.hosts("127.0.0.99 in-hosts.example alias\n2001:db8::99 in-hosts.example\n")
        bare = self.start_probe(bare=True)
        for name in ("localhost", "in-hosts.example", "alias", "ip6-localhost"):
            with self.subTest(name):
                command = f"gai {name} type=stream"
                self.assertIn("OK", bare.ask(command))
                self.assertEqual(self.ask(command), bare.ask(command))
        self.assertIn("127.0.0.99", self.ask("gai in-hosts.example family=inet"))
        self.dns.queries.clear()
        own = socket.gethostname()
        netns.hosts(f"127.0.0.98 {own}\n")
        self.assertIn("127.0.0.98", self.ask(f"gai {own} family=inet"))
        netns.hosts()
        self.ask(f"gai {own} family=inet")
        self.assertTrue(self.dns.asked(own), "the own name is not the proxy's business")

    def test_a_hosts_file_that_changes(self):
        self.assert_answer(self.ask("gai changing.example type=stream"), "inet", V4, 0, ["stream/6"])
        netns.hosts("127.0.0.99 changing.example\n")
        self.assert_answer(self.ask("gai changing.example type=stream"), "inet", r"127\.0\.0\.99", 0, ["stream/6"])
        netns.hosts()
        self.assert_answer(self.ask("gai changing.example type=stream"), "inet", V4, 0, ["stream/6"])


class GetHostBy:
    def test_by_name(self):
        for command in (f"hbn {NAME}", f"hbn {NAME} family=inet", f"hbn {NAME} room=100", f"hbn {NAME} room=100 family=inet"):
            self.assertRegex(self.ask(command), f"^OK {NAME} inet/4 {V4}$")
        for command in (f"hbn {NAME} family=inet6", f"hbn {NAME} room=100 family=inet6"):
            self.assertRegex(self.ask(command), f"^OK {NAME} inet6/16 {V6}$")
        self.assertEqual(self.ask(f"hbn {NAME} family=unix"), "HOST_NOT_FOUND")
        self.assertEqual(self.dns.queries, [])

    def test_by_address(self):
        v4, v6 = (self.ask(f"hbn {NAME} family={family}").split()[-1] for family in ("inet", "inet6"))
        self.assertEqual(self.ask(f"hba {v4}"), f"OK {NAME} inet/4 {v4}")
        self.assertEqual(self.ask(f"hba {v4} room=100"), f"OK {NAME} inet/4 {v4}")
        self.assertEqual(self.ask(f"hba {v6}"), f"OK {NAME} inet6/16 {v6}")
        self.assertEqual(self.dns.queries, [])

    def test_every_buffer_is_too_small_until_it_fits(self):
        v4 = self.ask(f"hbn {NAME}").split()[-1]
        for command in (f"hbn {NAME}", f"hbn {NAME} family=inet6", f"hba {v4}"):
            answers = self.ask(*(f"{command} room={size}" for size in range(0, 100)))
            first = next(index for index, answer in enumerate(answers) if answer.startswith("OK"))
            self.assertGreater(first, len(NAME) + 4)
            self.assertEqual(set(answers[:first]), {"NETDB_INTERNAL ERANGE"})
            self.assertEqual(len(set(answers[first:])), 1)

    def test_exempt_numeric_and_local_names_are_the_own_resolvers(self):
        netns.hosts("127.0.0.99 in-hosts.example\n")
        bare = self.start_probe(bare=True)
        for name in (EXEMPT, "in-hosts.example", "localhost", "127.0.0.1", "127.1"):
            for more in ("", " room=1024", " room=4"):
                with self.subTest(name + more):
                    self.assertEqual(self.ask(f"hbn {name}{more}"), bare.ask(f"hbn {name}{more}"))
        self.assertEqual(self.ask("hba 127.0.0.99"), bare.ask("hba 127.0.0.99"))


class GetNameInfo:
    def test_a_synthetic_address_has_a_name(self):
        for family in ("inet", "inet6"):
            address = self.ask(f"hbn {NAME} family={family}").split()[-1]
            for flags, expected in (("", f"OK {NAME} http"), (" flags=namereqd", f"OK {NAME} http"),
                                    (" flags=numericserv", f"OK {NAME} 80"),
                                    (" flags=numerichost", f"OK {address} http"), (" service=0", f"OK {NAME} "),
                                    (" host=0", "OK  http"), (f" host={len(NAME) + 1}", f"OK {NAME} http"),
                                    (f" host={len(NAME)}", "OVERFLOW"), (" host=1", "OVERFLOW"), (" service=3", "OVERFLOW")):
                with self.subTest(family + flags):
                    self.assertEqual(self.ask(f"gni {address} 80{flags}"), expected)
        self.assertEqual(self.dns.queries, [])

    def test_other_addresses_are_the_own_resolvers(self):
        bare = self.start_probe(bare=True)
        for command in ("gni 127.0.0.1 80", "gni 127.0.0.1 80 flags=numerichost,numericserv", "gni ::1 443",
                        "gni 127.0.0.1 80 host=2"):
            self.assertEqual(self.ask(command), bare.ask(command))

    def test_a_synthetic_address_that_stands_for_nothing(self):
        self.assertEqual(self.ask("gni 198.18.255.1 80"), "OK 198.18.255.1 http")
        self.assertEqual(self.ask("gni 198.18.255.1 80 flags=namereqd"), "NONAME")


class Always:
    def test_the_address_is_the_same_on_every_run_and_for_every_agent(self):
        commands = [f"gai name-{number}.example family={family} type=stream" for number in range(20)
                    for family in ("inet", "inet6")]
        first = self.ask(*commands)
        self.assertEqual(len(set(first)), 40)
        other = self.start_probe()
        # In another order, so that only the name can tell which address it gets.
        self.assertEqual(other.ask(*reversed(commands)), first[::-1])
        self.probe.kill_agent()
        self.assertEqual(self.ask(*reversed(commands)), first[::-1])
        self.assertRegex(self.ask(f"tcp {NAME} 80"), "at the proxy's side")

    def test_an_address_from_before_the_agent_died_still_stands_for_its_name(self):
        self.assertRegex(self.ask(f"tcp {NAME} 80"), "at the proxy's side")
        self.probe.kill_agent()
        self.assertRegex(self.ask("again"), f"^OK {V4}:80 at the proxy's side$")
        self.assertEqual(self.proxy.targets()[-2:], [f"{NAME}:80"] * 2)


class Glibc(GetAddrInfo, GetHostBy, GetNameInfo, Always, Lookups):
    pass


class Musl(GetAddrInfo, GetHostBy, GetNameInfo, Always, Lookups):
    libc = "musl"


class OnlyLoopback(LabCase):
    """AI_ADDRCONFIG leaves families out that the machine has no address of: a name stands for one all the same."""

    def test_addrconfig_with_nothing_but_lo(self):
        proxy = self.use(Proxy("http"))
        self.proxy_values(proxy.url)
        apart = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "apart"]
        probe = self.use(NamesProbe(self, prefix=apart))
        for family, address in (("unspec", V4), ("inet6", V6)):
            self.assertRegex(probe.ask(f"gai {NAME} flags=addrconfig family={family} type=stream"), address)


class Python(LabCase):
    """The socket module's own words for the same calls."""

    def test_gethostbyname_getfqdn_and_friends(self):
        proxy = self.use(Proxy("http"))
        self.proxy_values(proxy.url)
        script = f"""
import socket
address = socket.gethostbyname("{NAME}")
print(address, socket.gethostbyname_ex("{NAME}") == ("{NAME}", [], [address]))
print(socket.gethostbyaddr(address)[0], socket.getfqdn("{NAME}"), socket.getfqdn(address))
print(socket.getnameinfo((address, 80), 0), len(socket.getaddrinfo("{NAME}", 80, type=socket.SOCK_STREAM)))
try:
    socket.gethostbyname("no name.example")
except socket.gaierror as error:
    print(error.errno == socket.EAI_NONAME)
"""
        lines = self.assert_ran(self.towpath("/usr/bin/python3", "-c", script)).out.splitlines()
        self.assertRegex(lines[0], f"^{V4} True$")
        self.assertEqual(lines[1:], [f"{NAME} {NAME} {NAME}", f"('{NAME}', 'http') 1", "True"])
        self.assertEqual(self.dns.queries, [])


if __name__ == "__main__":
    main()
