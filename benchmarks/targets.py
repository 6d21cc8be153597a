"""The targets, and whether they are reached."""

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks import imports, publish, receive, recover, scrape, visible
from benchmarks.publish import BURST, SUSTAINED

_SYMBOLS = "1 symbol", "100 symbols"


@dataclass(frozen=True)
class Target:
    """A figure that must be at least, or at most, its bound."""

    figure: str
    measured: float
    bound: float
    unit: str
    at_most: bool = True

    @property
    def reached(self) -> bool:
        return self.measured <= self.bound if self.at_most else self.measured >= self.bound

    @property
    def missed_by(self) -> str:
        if self.reached:
            return ""
        return f"{abs(self.measured / self.bound - 1):.0%}" if self.bound else f"{self.measured:,.0f}"

    def markdown(self) -> str:
        goal = f"{'at most' if self.at_most else 'at least'} {_format(self.bound)} {self.unit}"
        verdict = f"**missed by {self.missed_by}**" if not self.reached else "yes"
        return f"| {self.figure} | {goal} | {_format(self.measured)} {self.unit} | {verdict} |"


def targets() -> Iterator[str]:
    """The table of all targets, missed ones first."""
    yield "| figure | to reach | measured | reached |"
    yield "| --- | --- | --- | --- |"
    every = [*_calls(), *_rates(), *_delays(), *_recovery(), *_scrape(), *_imports()]
    yield from (target.markdown() for target in sorted(every, key=lambda target: target.reached))


def _calls() -> Iterator[Target]:
    for shape in BURST, SUSTAINED:
        table = publish.TABLES[shape]
        for journal, bound in ("memory", 1.0), ("durable", 1.5):
            row = f"publish(), {journal} journal"
            for column in "p50", "mean":
                yield Target(f"{row}, {shape.name}, {column}", table.ratio(row, column), bound, "x a raw send")
        row = "publish(), durable journal"
        yield Target(f"{row}, {shape.name}, p99.9", 1e6 * table.median(row, "p99.9"), 100, "us")


def _rates() -> Iterator[Target]:
    of, by = "trades a second", "x the bare loop"
    for (senders, table), bound in zip(receive.TABLES.items(), (1.0, 1.5), strict=True):
        ratio = table.ratio("sidecar, real publishers", of)
        yield Target(f"sidecar, real publishers, from {senders}", ratio, bound, by, at_most=False)
        ratio = table.ratio("sidecar, single messages", of)
        yield Target(f"sidecar, single messages, from {senders}", ratio, 0.6, by, at_most=False)
    ratio = receive.TABLES[4].ratio("sidecar, real publishers", of, "asyncio tutorial, single messages")
    yield Target("sidecar, real publishers, from 4", ratio, 30, "x the asyncio tutorial", at_most=False)
    for row, batches in ((f"sidecar, batches of 500, {symbols}", "sidecar, batches of 500") for symbols in _SYMBOLS):
        for senders, table in receive.TABLES.items():
            ratio = table.ratio(row, of, batches)
            yield Target(f"{row}, from {senders}", ratio, 0.75, "x those without", at_most=False)
    lost = [
        table.worst(row, "lost") for table in receive.TABLES.values() for row in table.rows if row.startswith("sidecar")
    ]
    yield Target("sidecar, lost in all of these", sum(lost), 0, "trades")


def _delays() -> Iterator[Target]:
    for mode, bounds in ("sleeps", {"p50": 1.5, "p99": 5.0}), ("spins", {"p99": 10.0}):
        row = visible.row_of(10_000, mode)
        for column, bound in bounds.items():
            measured = 1e3 * visible.TABLE.median(row, column)
            yield Target(f"publish() to visible at {row}, {column}", measured, bound, "ms")


def _recovery() -> Iterator[Target]:
    table = recover.TABLE
    _, some, many = table.rows
    yield Target(f"{some} in a durable journal, counted in", table.median(some, "time"), 2, "s")
    for row in some, many:
        yield Target(f"{row}, lost or counted twice", table.worst(row, "lost or counted twice"), 0, "trades")
    peak = table.ratio(many, "at the peak", some)
    yield Target(f"{many}, publisher's peak RssAnon", peak, 1.1, f"x that of {some}")


def _scrape() -> Iterator[Target]:
    for table in scrape.BY_SESSIONS, scrape.BY_TRADES:
        *_, row = table.rows
        yield Target(f"scrape with {row}", 1e3 * table.median(row, "time"), 5, "ms")
        yield Target(f"scrape with {row}", table.ratio(row, "time"), 1.25, f"x that of {table.reference}")
        yield Target(f"memory with {row}", 1e-6 * table.median(row, "memory"), 100, "MB")
        yield Target(f"memory with {row}", table.ratio(row, "memory"), 1.1, f"x that of {table.reference}")

    hundred = scrape.row_of_symbols(100)
    yield Target(f"scrape with {hundred}", 1e3 * scrape.BY_SYMBOLS.median(hundred, "time"), 20, "ms")


def _imports() -> Iterator[Target]:
    measured = 1e3 * imports.beyond_needed()
    yield Target("import TradePublisher beyond pyzmq and msgspec", measured, 30, "ms")


def _format(number: float) -> str:
    return f"{number:,.0f}" if number == int(number) or number >= 100 else f"{number:.2f}"
