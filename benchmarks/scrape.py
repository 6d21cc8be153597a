"""The time and size of a scrape, and the sidecar's memory, by the number of things counted."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import zmq
from harness.sidecar import Sidecar
from harness.waiting import eventually

from benchmarks.plan import Plan
from benchmarks.programs import Scraper, status, total
from benchmarks.results import Column, Table, percentile
from trading_app.messages import SIDES, Trade, encode

_COLUMNS = (
    Column("time", "ms", 1e3, 2, compared=True),
    Column("p99", "ms", 1e3, 2),
    Column("size", "bytes"),
    Column("memory", "MB", 1e-6, 1, compared=True),
)
BY_SESSIONS = Table("The scrape of a quiet sidecar, by sessions", "1 session", _COLUMNS)
BY_TRADES = Table("The scrape of a quiet sidecar, by trades", "1,000 trades", _COLUMNS)
BY_SYMBOLS = Table("The scrape of a quiet sidecar, by symbols", "no symbol", _COLUMNS)
_UNTRACKED = b'{"type": "trade", "side": "buy", "qty": 1.0, "ts": 1.0}\n'


def row_of_sessions(sessions: int) -> str:
    return f"{sessions:,} session{'s' * (sessions > 1)}"


def row_of_trades(trades: int) -> str:
    return f"{trades:,} trades"


def row_of_symbols(symbols: int) -> str:
    return f"{symbols:,} symbols" if symbols else "no symbol"


def measure_sessions(folder: Path, plan: Plan) -> None:
    with sidecars(folder, map(row_of_sessions, plan.sessions)) as programs:
        for sessions, program in zip(plan.sessions, programs.values(), strict=True):
            send(program, (encode(Trade("buy", 1.0, 1.0, f"session-{number}", 1)) for number in range(sessions)))
            assert eventually(lambda: total(program.url, b"sidecar_sessions") >= sessions, 120)  # noqa: B023
        look(programs, BY_SESSIONS, plan)


def measure_trades(folder: Path, plan: Plan) -> None:
    counts = 1_000, plan.many
    with sidecars(folder, map(row_of_trades, counts)) as programs:
        for count, program in zip(counts, programs.values(), strict=True):
            send(program, (_UNTRACKED * 500 for _ in range(count // 500)))
            assert eventually(lambda: total(program.url, b"trades_total") >= count, 120)  # noqa: B023
        look(programs, BY_TRADES, plan)


def measure_symbols(folder: Path, plan: Plan) -> None:
    with sidecars(folder, map(row_of_symbols, plan.symbols)) as programs:
        for symbols, program in zip(plan.symbols, programs.values(), strict=True):
            count = 2 * max(symbols, 1)
            send(program, map(encode, trades_of_symbols(symbols, count)))
            assert eventually(lambda: total(program.url, b"trades_total") >= count, 120)  # noqa: B023
        look(programs, BY_SYMBOLS, plan)


def trades_of_symbols(symbols: int, count: int) -> Iterator[Trade]:
    for seq in range(1, count + 1):
        symbol = f"SYM{seq // 2 % symbols}-USD" if symbols else None
        yield Trade(SIDES[seq % 2], 1.0, 1.0, "symbols", seq, symbol, 1.0 if symbol else None)


@contextmanager
def sidecars(folder: Path, rows: Iterable[str]) -> Iterator[dict[str, Sidecar]]:
    """A sidecar for each row."""
    with ExitStack() as stack:
        programs = {}
        for row in rows:
            programs[row] = stack.enter_context(Sidecar(folder / row.replace(" ", "-")))
        yield programs


def send(program: Sidecar, frames: Iterable[bytes]) -> None:
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        push.connect(program.address)
        for frame in frames:
            push.send(frame)


def look(programs: dict[str, Sidecar], table: Table, plan: Plan) -> None:
    """Scrape all of them in turns: a machine's speed changes more within a minute than they differ."""
    scrapers = {row: Scraper(program.url) for row, program in programs.items()}
    times: dict[str, list[float]] = {row: [] for row in programs}
    for _ in range(plan.scrapes):
        for row, scraper in scrapers.items():
            times[row].append(scraper.time())
    for row, program in programs.items():
        figures = {"time": percentile(times[row], 50), "p99": percentile(times[row], 99)}
        size = len(scrapers[row].scrape())
        table.add(row, **figures, size=size, memory=status(program.pid, "VmRSS"))
