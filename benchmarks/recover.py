"""The side-car is killed, trades wait, and it is started again."""

import time
from functools import partial
from pathlib import Path

from chaos import Sidecar
from plan import Plan
from programs import Child, Scraper, port_of, sidecar
from results import Column, Table
from stack import eventually

TABLE = Table(
    "Recovery from SIGKILL, until the totals are exact",
    "start with none waiting",
    (Column("time", "s", 1, 2), Column("lost or counted twice", "trades")),
    ("start with none waiting",),
)


def measure(waiting: int, folder: Path, _: Plan) -> None:
    row = f"{waiting:,} waiting" if waiting else TABLE.reference
    with sidecar(folder) as program:
        # One is counted before the kill: the rest waits for the same session.
        with Child("load.py", "publish", program.address, program.url, waiting + 1) as publisher:
            publisher.read()
            assert eventually(partial(counts, program, 1))
            program.end()
            publisher.go()
            publisher.read()
            started = time.perf_counter()
            program.start()
            assert eventually(partial(counts, program, waiting + 1), 120)
            seconds = time.perf_counter() - started
            publisher.finish()
        wrong = abs(Scraper(port_of(program.url)).total(b"trades_total") - waiting - 1)
    TABLE.add(row, **{"time": seconds, "lost or counted twice": wrong})


def counts(program: Sidecar, count: int) -> bool:
    try:
        return Scraper(port_of(program.url)).total(b"trades_total") >= count
    except OSError:
        return False
