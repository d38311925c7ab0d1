"""Rows, what was measured for them, and how that is printed."""

import dataclasses
import statistics

ALL = []  # every Row, in the order of definition


@dataclasses.dataclass
class Figure:
    """A line of the table: what `key` was for each variant. `goal` is for the ratio towpath / floor, or `absolute`."""
    key: str
    title: str
    unit: str = "us"
    goal: str = ""        # "<= 1.25" or ">= 0.95"; shown, never asserted
    absolute: bool = False
    only: tuple = ()      # the variants that have this figure


@dataclasses.dataclass
class Row:
    """`measure(bed)` returns {variant: function, ...}; the first is the floor. One call of each is a round."""
    name: str
    figures: list
    measure: object
    rounds: int
    once: tuple = ()      # variants that take too long for more than two rounds
    samples: dict = dataclasses.field(default_factory=dict)
    skipped: str = ""

    def run(self, bed, rounds=None):
        variants = {name: call for name, call in self.measure(bed).items() if call}
        self.samples = {name: [] for name in variants}
        for number in range(rounds or self.rounds):
            for name, call in variants.items():
                if name not in self.once or number < 2:
                    self.samples[name].append(call())

    def errors(self):
        """[(variant, number of errors, the first one's text)]"""
        found = []
        for variant, samples in self.samples.items():
            wrong = [sample for sample in samples if sample["errors"]]
            if wrong:
                found.append((variant, int(sum(sample["errors"] for sample in wrong)), wrong[0].get("why", "")))
        return found

    def values(self, figure, variant):
        if figure.only and variant not in figure.only:
            return []
        return [sample[figure.key] for sample in self.samples.get(variant, []) if figure.key in sample]

    def ratios(self, figure, variant):
        """Each within its round: what disturbs the machine disturbs both."""
        floor = next(iter(self.samples))
        pairs = zip(self.samples[floor], self.samples.get(variant, []))
        return [other[figure.key] / base[figure.key] for base, other in pairs
                if base.get(figure.key) and figure.key in other]


def row(name, figures, rounds=5, once=()):
    """Decorates the function that says how a row is measured."""
    def add(measure):
        ALL.append(Row(name, figures, measure, rounds, once))
        return measure
    return add


def lines(one):
    """A row as lines of cells."""
    if one.skipped:
        return [[one.name, "", "skipped: " + one.skipped, "", "", "", "", "", ""]]
    out, floor = [], next(iter(one.samples), "")
    for figure in one.figures:
        ratio = [] if figure.absolute else one.ratios(figure, "towpath")
        other = [] if figure.absolute else one.ratios(figure, "proxychains4")
        out.append([
            one.name, figure.title, _number(one.values(figure, floor), figure.unit),
            _number(one.values(figure, "towpath"), figure.unit), _ratio(ratio),
            f"{min(ratio):.2f} .. {max(ratio):.2f}" if ratio else "", _goal(figure, one),
            _number(one.values(figure, "proxychains4"), figure.unit), _ratio(other)])
    return out


HEAD = ["row", "figure", "floor", "towpath", "ratio", "spread", "goal", "proxychains4", "ratio"]


def text(rows, markdown=False):
    cells = [HEAD] + [line for one in rows for line in lines(one)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(HEAD))]
    if not markdown:
        skipped = {line[2] for line in cells if line[2].startswith("skipped")}
        widths[2] = max(len(line[2]) for line in cells if line[2] not in skipped)
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in cells)
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in cells)


def as_json(one):
    return {"row": one.name, "skipped": one.skipped, "samples": one.samples,
            "errors": [dict(zip(("variant", "count", "why"), wrong)) for wrong in one.errors()],
            "figures": [{"key": figure.key, "title": figure.title, "unit": figure.unit, "goal": figure.goal,
                         "towpath": _median(one.values(figure, "towpath")),
                         "ratio": None if figure.absolute else _median(one.ratios(figure, "towpath")),
                         "proxychains4_ratio": None if figure.absolute else _median(one.ratios(figure, "proxychains4"))}
                        for figure in one.figures] if one.samples else []}


def _goal(figure, one):
    if not figure.goal:
        return ""
    sign, number = figure.goal.split()[:2]
    reached = _median(one.values(figure, "towpath") if figure.absolute else one.ratios(figure, "towpath"))
    if reached is None:
        return figure.goal
    reached = round(reached, 2)
    missed = reached > float(number) if sign == "<=" else reached < float(number)
    return figure.goal + (" (missed)" if missed else "")


def _median(values):
    return statistics.median(values) if values else None


def _number(values, unit):
    if not values:
        return ""
    value = statistics.median(values)
    return f"{value:,.{0 if value >= 100 or value == int(value) else 1 if value >= 10 else 2}f} {unit}".strip()


def _ratio(values):
    return f"{statistics.median(values):.2f}" if values else ""
