"""How long a process takes to start and import the library, beside one that imports only what the library needs."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.plan import Plan
from benchmarks.results import Column, Table

NEEDED, LIBRARY = "pyzmq and msgspec", "pyzmq, msgspec and TradePublisher"
_CODE = {
    NEEDED: "import zmq, msgspec",
    LIBRARY: "import zmq, msgspec; from trading_app import TradePublisher",
}

TABLE = Table("A process that imports and ends", NEEDED, (Column("time", "ms", 1e3, 0, compared=True),))


def measure(_: Path, plan: Plan) -> None:
    seconds: dict[str, list[float]] = {row: [] for row in _CODE}
    for _start in range(plan.starts):
        for row, code in _CODE.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            seconds[row].append(time.perf_counter() - started)
    for row, values in seconds.items():
        TABLE.add(row, time=statistics.median(values))


def beyond_needed() -> float:
    """Seconds that importing `TradePublisher` takes beyond pyzmq and msgspec."""
    return statistics.median(
        library - needed
        for library, needed in zip(TABLE.rows[LIBRARY]["time"], TABLE.rows[NEEDED]["time"], strict=True)
    )
