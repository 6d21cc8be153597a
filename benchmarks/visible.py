"""The time from the call of publish() until the trade is in a response of /metrics."""

import time
from array import array
from bisect import bisect_left
from itertools import pairwise
from pathlib import Path

from harness.sidecar import Sidecar

from benchmarks.plan import FULL, Plan
from benchmarks.programs import Child, Scraper
from benchmarks.results import Column, Table, percentile

MODES = {
    "sleeps": "the thread sleeps in between",
    "spins": "the thread never sleeps",
    "0.0005": "the same, switch interval 0.5 ms",
}


def row_of(rate: int, mode: str) -> str:
    return f"{rate:,}/s, {MODES[mode]}"


TABLE = Table(
    "publish() to visible",
    "",
    (
        Column("p50", "ms", 1e3, 2),
        Column("p99", "ms", 1e3, 2),
        Column("p99.9", "ms", 1e3, 2),
        Column("one scrape", "ms", 1e3, 2),
        Column("trades a second", ""),
    ),
    tuple(row_of(rate, mode) for rate in FULL.rates for mode in MODES),
)


def measure(rate: int, mode: str, folder: Path, plan: Plan) -> None:
    """A process publishes at a steady rate while this one scrapes /metrics without pause. Each trade is one figure."""
    count, file = int(rate * plan.rate_seconds), folder / "times"
    with (
        Sidecar(folder) as program,
        Child("pace.py", program.address, program.url, rate, count, mode, file) as publisher,
    ):
        scraper = Scraper(program.url)
        publisher.read()
        publisher.go()
        shown, seen_at = [0.0], [time.perf_counter()]
        while shown[-1] < count:
            shown.append(max(shown[-1], scraper.total(b'trades_total{side="sell"}')))
            seen_at.append(time.perf_counter())
        publisher.read()
    called_at = array("d", file.read_bytes())
    delays = [seen_at[bisect_left(shown, number)] - called for number, called in enumerate(called_at, 1)]
    scrapes = [after - before for before, after in pairwise(seen_at)]
    TABLE.add(
        row_of(rate, mode),
        **{
            "p50": percentile(delays, 50),
            "p99": percentile(delays, 99),
            "p99.9": percentile(delays, 99.9),
            "one scrape": percentile(scrapes, 50),
            "trades a second": (count - 1) / (called_at[-1] - called_at[0]),
        },
    )
