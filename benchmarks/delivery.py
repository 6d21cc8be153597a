"""What tracked delivery costs: each figure is a ratio of two things measured in this run, taken in turns.

.venv/bin/python benchmarks/delivery.py
"""

import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import zmq

from trading_app.messages import Side, Trade, check_order, encode
from trading_app.outbox import FileOutbox, MemoryOutbox
from trading_app.publisher import TradePublisher

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from chaos import Sidecar
from stack import eventually

ROUNDS = 5
CALLS = 5_000
MESSAGES = 200_000

type Timed = dict[str, list[float]]


def main() -> None:
    # Ended by a time-out, it ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    calls: Timed = {}
    rates: Timed = {}
    for number in range(ROUNDS):
        print(f"round {number + 1} of {ROUNDS}", file=sys.stderr)
        time_calls(calls)
        time_side_car(rates)
    report("one call, median", calls, "us", 1e6)
    report("side-car, state on", rates, "trades/s", 1)
    print("\nof the same rounds, median and range")
    for outbox in "memory", "durable":
        pairs = zip(calls[f"tracked, {outbox} outbox"], calls["untracked"], strict=True)
        costs = [1e6 * (tracked - plain) for tracked, plain in pairs]
        print(f"  tracking, {outbox} outbox, costs {spread(costs)} us a trade")
    kept = [100 * tracked / plain for tracked, plain in zip(rates["tracked"], rates["untracked"], strict=True)]
    print(f"  the side-car keeps {spread(kept)} % of its rate")


def time_calls(calls: Timed) -> None:
    """The publisher's calls, against a side-car that is there."""
    with tempfile.TemporaryDirectory() as folder, closing(Sidecar(Path(folder))) as sidecar, zmq.Context() as context:
        sidecar.start()
        eventually(sidecar.is_up)
        with context.socket(zmq.PUSH) as push:
            push.connect(sidecar.address)
            message = encode(Trade("buy", 1.0, time.time(), "bench", 1))
            push.send(message)  # connects
            plain = UntrackedPublisher(push)
            record(calls, "raw send of the same bytes", lambda: push.send(message))
            record(calls, "untracked", lambda: plain.publish("buy"))
        for name, outbox in (
            ("tracked, memory outbox", MemoryOutbox()),
            ("tracked, durable outbox", FileOutbox(Path(folder) / "outbox")),
        ):
            with TradePublisher(sidecar.address, sidecar_url=sidecar.url, outbox=outbox) as publisher:
                publisher.publish("buy")
                record(calls, name, partial(publisher.publish, "buy"))


class UntrackedPublisher:
    """What a thread-safe publisher does that keeps nothing and numbers nothing."""

    def __init__(self, push: zmq.Socket[bytes]) -> None:
        self._push = push
        self._lock = threading.Lock()

    def publish(self, side: Side, qty: float = 1.0) -> Trade:
        trade = Trade(*check_order(side, qty), time.time(), "", 0)
        message = f'{{"type":"trade","side":"{trade.side}","qty":{trade.qty!r},"ts":{trade.ts!r}}}'.encode()
        with self._lock:
            self._push.send(message, zmq.NOBLOCK)
        return trade


def record(calls: Timed, name: str, call: Callable[[], object]) -> None:
    """Time single calls, far enough apart that none waits for the one before."""
    times = []
    for _ in range(CALLS):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
        if not len(times) % 100:
            time.sleep(0.005)
    calls.setdefault(name, []).append(statistics.median(times))


def time_side_car(rates: Timed) -> None:
    """From the first message sent until the metrics show the last one."""
    for name, fields in (("untracked", b""), ("tracked", b',"session":"bench","seq":%d')):
        head = b'{"type":"trade","side":"buy","qty":1.0,"ts":1790000000.5'
        messages = [head + (fields % seq if fields else b"") + b"}" for seq in range(1, MESSAGES + 1)]
        with (
            tempfile.TemporaryDirectory() as folder,
            closing(Sidecar(Path(folder))) as sidecar,
            zmq.Context() as context,
        ):
            sidecar.start()
            eventually(sidecar.is_up)
            with context.socket(zmq.PUSH) as push:
                push.connect(sidecar.address)
                started = time.perf_counter()
                for message in messages:
                    push.send(message)
                eventually(partial(has_counted_all, sidecar), 120)
                rates.setdefault(name, []).append(MESSAGES / (time.perf_counter() - started))


def has_counted_all(sidecar: Sidecar) -> bool:
    return sidecar.samples()['trades_total{side="buy"}'] == MESSAGES


def report(title: str, figures: Timed, unit: str, scale: float) -> None:
    """The median of the rounds, their spread, and the ratio to the first line."""
    first = statistics.median(next(iter(figures.values())))
    print(f"\n{title}, {unit}: median (range), ratio to the first")
    for name, rounds in figures.items():
        print(f"  {name:28} {spread([scale * value for value in rounds]):40} {statistics.median(rounds) / first:6.2f}")


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):,.2f} ({min(values):,.2f} to {max(values):,.2f})"


if __name__ == "__main__":
    main()
