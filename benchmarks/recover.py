"""The time to recover: the sidecar is killed, trades wait in a durable journal, and it starts again."""

import time
from pathlib import Path

from harness.sidecar import Sidecar
from harness.waiting import eventually

from benchmarks.plan import Plan
from benchmarks.programs import Child, Peak, status, total
from benchmarks.results import Column, Table

TABLE = Table(
    "Trades waiting in a durable journal, from the sidecar's start until its totals are exact",
    "none waiting",
    (
        Column("time", "s", 1, 2, compared=True),
        Column("lost or counted twice", "trades"),
        Column("publisher's RssAnon before", "MB", 1e-6, 1),
        Column("at the peak", "MB", 1e-6, 1),
        Column("after", "MB", 1e-6, 1),
    ),
)


def row_of(waiting: int) -> str:
    return f"{waiting:,} waiting" if waiting else TABLE.reference


def measure(folder: Path, plan: Plan) -> None:
    for waiting in 0, plan.waiting, plan.many_waiting:
        (home := folder / str(waiting)).mkdir()
        recover(home, waiting)


def recover(folder: Path, waiting: int) -> None:
    with Sidecar(folder) as program:
        # One trade is committed before the kill: the others wait in the same session.
        count = waiting + 1
        arguments = f"--address={program.address}", f"--url={program.url}", f"--count={count}"
        with Child("load.py", "publish", *arguments, f"--outbox={folder / 'outbox'}") as publisher:
            publisher.read()
            before = status(publisher.pid, "RssAnon")
            program.end()
            with Peak(publisher.pid, "RssAnon") as peak:
                publisher.go()
                publisher.read()
                started = time.perf_counter()
                program.start()
                assert eventually(lambda: total(program.url, b"trades_total") >= count, 300)
                seconds = time.perf_counter() - started
                publisher.read()
            after = status(publisher.pid, "RssAnon")
            wrong = abs(total(program.url, b"trades_total") - count) + total(program.url, b"trades_lost_total")
    TABLE.add(
        row_of(waiting),
        **{
            "time": seconds,
            "lost or counted twice": wrong,
            "publisher's RssAnon before": before,
            "at the peak": peak.bytes,
            "after": after,
        },
    )
