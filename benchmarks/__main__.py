"""Measures this project and its alternatives in turns, and writes docs/benchmarks.md."""

import argparse
import logging
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import imports, publish, receive, recover, report, scrape, visible
from benchmarks.emitters import EMITTERS
from benchmarks.plan import FULL, QUICK, Plan
from benchmarks.programs import NotInstalled

type Measurement = Callable[[Path, Plan], None]


def measurements(plan: Plan) -> dict[str, Measurement]:
    """The measurements of one round, by name."""
    every: dict[str, Measurement] = {f"publish: {name}": partial(publish.measure, name) for name in EMITTERS}
    for senders in receive.TABLES:
        for name in receive.CONTESTANTS:
            every[f"receive: {name}, {senders}"] = partial(receive.measure, senders, name)
    for rate in plan.rates:
        for mode in visible.MODES:
            every[f"visible: {visible.row_of(rate, mode)}"] = partial(visible.measure, rate, mode)
    every["recover"] = recover.measure
    every["imports"] = imports.measure
    every["scrape: sessions"] = scrape.measure_sessions
    every["scrape: trades"] = scrape.measure_trades
    every["scrape: symbols"] = scrape.measure_symbols
    return every


def select(every: dict[str, Measurement], starts: list[str]) -> dict[str, Measurement]:
    """The measurements whose names begin with one of the given starts; all of them if there is none.

    Raises:
        LookupError: no name begins with one of the starts.
    """
    for start in starts:
        if not any(name.startswith(start) for name in every):
            raise LookupError(f"no measurement begins with {start!r}: {', '.join(every)}")
    return {name: every[name] for name in every if name.startswith(tuple(starts) or "")}


def run(plan: Plan, todo: dict[str, Measurement]) -> dict[str, str]:
    """Measure in rounds, each in random order; return what was left out, and why."""
    started, size, left_out = time.monotonic(), len(todo), dict[str, str]()
    for number in range(plan.rounds):
        for done, name in enumerate(random.sample(list(todo), len(todo))):
            minutes, where = (time.monotonic() - started) / 60, f"{number + 1}/{plan.rounds}  {done + 1}/{size}"
            print(f"{minutes:5.1f} min  round {where}  {name}", file=sys.stderr)
            with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                try:
                    todo[name](Path(folder), plan)
                except NotInstalled as reason:
                    left_out[name] = str(reason)
                    del todo[name]
    return left_out


def main() -> None:
    # On SIGTERM, exit normally and end the child processes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(prog="bin/bench", description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one small round, in less than two minutes; docs/benchmarks.md is not changed",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        help="only measurements whose names begin with NAME: publish, receive, ...",
    )
    arguments = parser.parse_args()
    if sys.platform != "linux":
        parser.error("processor time and memory are read from /proc, which needs Linux")
    # Some measurements end a publisher while trades wait: do not log that.
    logging.getLogger("trading_app").setLevel(logging.ERROR)
    plan = QUICK if arguments.quick else FULL
    try:
        todo = select(measurements(plan), arguments.only)
    except LookupError as error:
        parser.error(str(error))
    measured_on = report.machine()
    left_out = run(plan, todo)
    print(measured_on, "", *report.text(left_out, complete=not arguments.only), sep="\n")
    if not (arguments.only or arguments.quick):
        report.write(measured_on, left_out)


if __name__ == "__main__":
    main()
