"""One scrape: its time, its size, and the side-car's memory, by how much it has counted."""

from pathlib import Path

import zmq
from chaos import Sidecar
from plan import Plan
from programs import Child, Scraper, port_of, sidecar, status
from results import Column, Table, percentile
from stack import eventually

from trading_app.messages import Trade, encode

SESSIONS = 1, 1_000, 10_000
COLUMNS = (
    Column("time", "ms", 1e3, 2),
    Column("p99", "ms", 1e3, 2),
    Column("size", "bytes"),
    Column("memory", "MB", 1e-6, 1),
)


def row_of_sessions(sessions: int) -> str:
    return f"{sessions:,} session{'s' * (sessions > 1)}"


BY_SESSIONS = Table(
    "The scrape of a quiet side-car, by sessions", "1 session", COLUMNS, tuple(map(row_of_sessions, SESSIONS))
)
BY_TRADES = Table("The scrape of a quiet side-car, by trades", "1,000 trades", COLUMNS)


def measure_sessions(folder: Path, plan: Plan) -> None:
    with sidecar(folder) as program, zmq.Context() as context, context.socket(zmq.PUSH) as push:
        push.connect(program.address)
        sent = 0
        for sessions in SESSIONS:
            while sent < sessions:
                push.send(encode(Trade("buy", 1.0, 1.0, f"session-{sent}", 1)))
                sent += 1
            wait_for(program, b"sidecar_sessions", sessions)
            look(program, BY_SESSIONS, row_of_sessions(sessions), plan)


def measure_trades(folder: Path, plan: Plan) -> None:
    with sidecar(folder) as program:
        send(program, "first", 1_000)
        wait_for(program, b"trades_total", 1_000)
        look(program, BY_TRADES, BY_TRADES.reference, plan)
        # A million at a time, as a sender makes them all before.
        for start in range(1_000, plan.many, 1_000_000):
            send(program, f"from-{start}", min(1_000_000, plan.many - start))
        wait_for(program, b"trades_total", plan.many)
        look(program, BY_TRADES, f"{plan.many:,} trades", plan)


def send(program: Sidecar, session: str, count: int) -> None:
    with Child("load.py", "push", program.address, session, count) as child:
        child.read()
        child.go()
        child.finish()


def wait_for(program: Sidecar, sample: bytes, expected: int) -> None:
    scraper = Scraper(port_of(program.url))
    assert eventually(lambda: scraper.total(sample) >= expected, 120)


def look(program: Sidecar, table: Table, row: str, plan: Plan) -> None:
    scraper = Scraper(port_of(program.url))
    times = [scraper.time() for _ in range(plan.scrapes)]
    figures = {"time": percentile(times, 50), "p99": percentile(times, 99), "size": len(scraper.scrape())}
    table.add(row, **figures, memory=status(program.pid, "VmRSS"))
