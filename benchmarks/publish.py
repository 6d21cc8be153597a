"""The cost of one trade in the application's thread."""

import time
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from statistics import fmean

from benchmarks.emitters import EMITTERS, Emit
from benchmarks.plan import Plan
from benchmarks.results import Column, Table, percentile


@dataclass(frozen=True)
class Shape:
    """``burst`` consecutive calls after a pause in seconds, measured for ``weight`` times as long."""

    name: str
    burst: int
    pause: float
    weight: int = 1


BURST = Shape("bursts of 100 calls", 100, 0.01)
SUSTAINED = Shape("bursts of 20,000 calls", 20_000, 0.25)
ALONE = Shape("one call a millisecond", 1, 0.001, weight=2)
TABLES = {
    shape: Table(
        f"In the caller's thread: {shape.name}",
        "raw send",
        (
            Column("p50", "us", 1e6, 2, compared=True),
            Column("mean", "us", 1e6, 2, compared=True),
            Column("p99", "us", 1e6, 1),
            Column("p99.9", "us", 1e6, 1),
            Column("max", "us", 1e6, 0),
        ),
        tuple(EMITTERS),
    )
    for shape in (BURST, SUSTAINED, ALONE)
}


def measure(name: str, folder: Path, plan: Plan) -> None:
    with EMITTERS[name](folder) as emit:
        for shape, table in TABLES.items():
            mean, calls = timed(emit, shape, plan.call_seconds * shape.weight)
            percents = {f"p{percent:g}": percentile(calls, percent) for percent in (50, 99, 99.9)}
            table.add(name, mean=mean, max=max(calls), **percents)


def timed(emit: Emit, shape: Shape, seconds: float) -> tuple[float, list[float]]:
    """The mean of a call in seconds, from bursts timed as a whole, and the time of each call in bursts between them."""
    clock = time.perf_counter
    means, calls = list[float](), list[float]()
    # 20,000 HTTP POSTs would take much longer: a burst takes at most about a second.
    burst = min(shape.burst, int(1 / min(time_of(emit) for _ in range(10))))
    end = clock() + seconds
    while not calls or clock() < end:
        time.sleep(shape.pause)
        started = clock()
        for _ in repeat(None, burst):
            emit()
        means.append((clock() - started) / burst)
        time.sleep(shape.pause)
        for _ in repeat(None, burst):
            started = clock()
            emit()
            calls.append(clock() - started)
    return fmean(means), calls


def time_of(emit: Emit) -> float:
    started = time.perf_counter()
    emit()
    return time.perf_counter() - started
