"""One scrape: its time, its size, and the side-car's memory, by how much it has counted."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
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
    with running(folder, map(row_of_sessions, SESSIONS)) as programs, zmq.Context() as context:
        for sessions, program in zip(SESSIONS, programs.values(), strict=True):
            with context.socket(zmq.PUSH) as push:
                push.connect(program.address)
                for number in range(sessions):
                    push.send(encode(Trade("buy", 1.0, 1.0, f"session-{number}", 1)))
            wait_for(program, b"sidecar_sessions", sessions)
        look(programs, BY_SESSIONS, plan)


def measure_trades(folder: Path, plan: Plan) -> None:
    many = f"{plan.many:,} trades"
    with running(folder, (BY_TRADES.reference, many)) as programs:
        few_counted, many_counted = programs.values()
        send(few_counted, "first", 1_000)
        wait_for(few_counted, b"trades_total", 1_000)
        # A million at a time, as a sender makes them all before.
        for start in range(0, plan.many, 1_000_000):
            send(many_counted, f"from-{start}", min(1_000_000, plan.many - start))
        wait_for(many_counted, b"trades_total", plan.many)
        look(programs, BY_TRADES, plan)


@contextmanager
def running(folder: Path, rows: Iterable[str]) -> Iterator[dict[str, Sidecar]]:
    """A side-car for each row."""
    with ExitStack() as stack:
        programs = {}
        for row in rows:
            (home := folder / row.replace(" ", "-")).mkdir()
            programs[row] = stack.enter_context(sidecar(home))
        yield programs


def send(program: Sidecar, session: str, count: int) -> None:
    with Child("load.py", "push", program.address, session, count) as child:
        child.read()
        child.go()
        child.finish()


def wait_for(program: Sidecar, sample: bytes, expected: int) -> None:
    scraper = Scraper(port_of(program.url))
    assert eventually(lambda: scraper.total(sample) >= expected, 120)


def look(programs: dict[str, Sidecar], table: Table, plan: Plan) -> None:
    """Scrape all of them in turns: within a minute a machine changes more than they differ."""
    scrapers = {row: Scraper(port_of(program.url)) for row, program in programs.items()}
    times: dict[str, list[float]] = {row: [] for row in programs}
    for _ in range(plan.scrapes):
        for row, scraper in scrapers.items():
            times[row].append(scraper.time())
    for row, program in programs.items():
        figures = {"time": percentile(times[row], 50), "p99": percentile(times[row], 99)}
        size = len(scrapers[row].scrape())
        table.add(row, **figures, size=size, memory=status(program.pid, "VmRSS"))
