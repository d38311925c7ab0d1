# suite: quick
"""One process that visits thousands of names: each tunnel is the right one, and the agent does not grow with them."""

from lab.case import LabCase, main
from lab.names_probe import NamesProbe, resident_kb
from lab.origin import RawOrigin
from lab.proxy import Proxy, grant


class Crawler(LabCase):
    count = 2000
    batch = 500

    def visit(self, names):
        """What stood behind each name, and under which address."""
        places = []
        for first in range(0, len(names), self.batch):
            some = names[first:first + self.batch]
            answers = self.probe.ask(*(f"tcp {name} 80" for name in some), timeout=120)
            for name, answer in zip(some, answers):
                self.assertRegex(answer, rf"^OK 198\.1[89]\.\d+\.\d+:80 {name}$")
                places.append(answer.split()[1])
        return places

    def test_every_name_is_a_place_of_its_own(self):
        names = [f"host-{number}.crawled.example" for number in range(self.count)]
        origin = self.use(RawOrigin())
        proxy = self.use(Proxy("http", {name: origin.address for name in names}))
        # The first line through a tunnel is the name that the proxy was asked for.
        proxy.answers = {f"{name}:80": grant(early=f"{name}\n".encode()) for name in names}
        self.proxy_values(proxy.url)
        self.probe = self.use(NamesProbe(self))
        places = self.visit(names[:100])
        agent = self.probe.agent()
        small = resident_kb(agent)
        places += self.visit(names[100:])
        self.assertEqual(len(set(places)), self.count)
        self.assertEqual(proxy.targets(), [f"{name}:80" for name in names])
        # A name costs its text and some tens of bytes; the published page, 3 MB, is touched bit by bit.
        large = resident_kb(agent)
        self.assertLess(large - small, 4096 + self.count // 4)
        # Visited once more, it costs nothing, and is where it was.
        self.assertEqual(self.visit(names), places)
        self.assertLess(resident_kb(agent) - large, 1024)
        self.assertEqual(self.probe.agent(), agent, "it was another agent that did not grow")
        self.assertEqual(self.dns.queries, [])


if __name__ == "__main__":
    main()
