"""Order flow: simulated, or replayed from a file."""

import csv
import json
import logging
import math
import random
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice, takewhile
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TextIO

import click
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trading_app.messages import MAX_QTY, SIDES, Side, Trade
from trading_app.outbox import OutboxError, open_outbox
from trading_app.publisher import TradePublisher
from trading_app.settings import SettingError, Settings


class _Positive(click.FloatRange):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        return self.fail(f"{value!r} is no number", param, ctx) if math.isnan(number) else number


_POSITIVE = _Positive(min=0, max=1e9, min_open=True)


class Order(NamedTuple):
    """An order due ``at`` seconds after the start of the flow, of ``qty`` units."""

    at: float
    side: Side
    qty: float


class FileError(Exception):
    """A file that cannot be replayed. The message names the file and the line."""


class Row(BaseModel):
    """A line of a file: ``qty`` in units above 0, ``ts`` in Unix seconds."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    type: Literal["trade"] = "trade"
    side: Side
    qty: Annotated[float, Field(gt=0, le=MAX_QTY)]
    ts: float | None = None


def simulate(rate: float, seed: int | None = None, *, buys: float = 0.5) -> Iterator[Order]:
    """Endless orders, ``rate`` a second, that part of them ``buys``; sizes look like a market's. All from ``seed``."""
    rng = random.Random(seed)  # noqa: S311 - a simulation
    number = 0
    while True:
        side: Side = "buy" if rng.random() < buys else "sell"
        yield Order(number / rate, side, max(0.01, round(rng.lognormvariate(0, 1), 2)))
        number += 1


def read(path: Path) -> list[Row]:
    """The trades of a ``.csv`` file with a header, or of a ``.jsonl`` file.

    Raises:
        FileError: the file cannot be read, or a line of it is not a trade.
    """
    if path.suffix not in _FORMATS:
        raise FileError(f"{path}: neither a .csv nor a .jsonl file")
    lines, validate = _FORMATS[path.suffix]
    rows: list[Row] = []
    number = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, line in lines(file):  # noqa: B007 - the errors name it
                rows.append(validate(line))
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileError(f"{path}: after line {number}: {error}") from None
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"])) or "line"
        raise FileError(f"{path}: line {number}: {field}: {problem['msg']}") from None
    return rows


def _csv_lines(file: TextIO) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(file)
    for row in reader:
        yield reader.line_num, {name: value for name, value in row.items() if name and value}


def _json_lines(file: TextIO) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(file, 1) if line.strip())


_FORMATS: dict[str, tuple[Callable[[TextIO], Iterator[tuple[int, Any]]], Callable[[Any], Row]]] = {
    ".csv": (_csv_lines, Row.model_validate_strings),
    ".jsonl": (_json_lines, partial(Row.model_validate_json, strict=True)),
}


def at_rate(rows: Iterable[Row], rate: float) -> Iterator[Order]:
    """The rows as orders, ``rate`` a second."""
    return (Order(number / rate, row.side, row.qty) for number, row in enumerate(rows))


def at_speed(rows: Sequence[Row], speed: float) -> Iterator[Order]:
    """The rows as orders, as far apart as their ``ts`` are, ``speed`` times as fast.

    Raises:
        FileError: a row has no ``ts``.
    """
    times = [row.ts for row in rows if row.ts is not None]
    if len(times) < len(rows) or times != sorted(times):
        raise FileError("--speed needs a ts in every line of the file, and none before the one above it")
    return (Order((ts - times[0]) / speed, row.side, row.qty) for row, ts in zip(rows, times, strict=True))


def play(publisher: TradePublisher, orders: Iterable[Order], stop: threading.Event) -> Iterator[Trade]:
    """Publish each order when it is due, until there are no more or ``stop`` is set, and yield the trades."""
    start = time.monotonic()
    for order in orders:
        delay = start + order.at - time.monotonic()
        if stop.wait(delay) if delay > 0 else stop.is_set():
            return
        yield publisher.publish(order.side, order.qty)


@click.command
@click.option("--rate", type=_POSITIVE, help="Trades a second.  [default: 10]")
@click.option("--count", type=click.IntRange(min=1), help="Stop after so many trades.")
@click.option("--duration", type=_POSITIVE, help="Stop after so many seconds.")
@click.option("--seed", type=int, help="Make the simulated flow the same every time.")
@click.option("--file", "path", type=click.Path(path_type=Path), help="Replay a .csv or .jsonl file of side, qty, ts.")
@click.option("--speed", type=_POSITIVE, help="Replay by the file's ts, so many times as fast.")
def main(  # noqa: PLR0913, PLR0917 - one parameter an option
    rate: float | None,
    count: int | None,
    duration: float | None,
    seed: int | None,
    path: Path | None,
    speed: float | None,
) -> None:
    """Send order flow to the side-car, simulated or from a file, until it ends or Ctrl-C is pressed.

    The last line it prints is a summary in JSON. Settings come from the environment:
    WEBAPP_ZMQ_ADDR, WEBAPP_SIDECAR_URL, WEBAPP_OUTBOX.
    """
    logging.basicConfig(format="trading-feed: %(message)s")
    if count and duration:
        raise click.UsageError("--count and --duration exclude each other.")
    if speed and (rate or not path):
        raise click.UsageError("--speed goes with --file, and without --rate.")
    if path and seed is not None:
        raise click.UsageError("--seed goes with a simulated flow, not with --file.")
    rate = rate or 10.0
    try:
        settings = Settings.from_environ(port=8000)
        rows = read(path) if path else []
        orders = at_speed(rows, speed) if speed else at_rate(rows, rate) if path else simulate(rate, seed)
        outbox = open_outbox(settings.outbox, "feed")
    except (SettingError, FileError, OutboxError) as error:
        raise SystemExit(f"trading-feed: {error}") from None
    lengths = [len(rows)] if path else []
    if count:
        orders = islice(orders, count)
        lengths.append(count)
    if duration:
        orders = takewhile(lambda order: order.at < duration, orders)
        lengths.append(math.ceil(duration * rate))
    with TradePublisher(settings.zmq_addr, sidecar_url=settings.sidecar_url, outbox=outbox) as publisher:
        _run(publisher, orders, min(lengths, default=None))


def _run(publisher: TradePublisher, orders: Iterable[Order], length: int | None) -> None:
    stop = threading.Event()
    trades = dict.fromkeys(SIDES, 0)
    volume = dict.fromkeys(SIDES, 0.0)
    started = time.monotonic()

    def flow() -> None:
        # Were the bar drawn anew for every trade, a fast flow would wait for the terminal.
        steps = max(1, (length or 0) // 200)
        published = play(publisher, orders, stop)
        with click.progressbar(published, length=length, file=sys.stderr, update_min_steps=steps, show_pos=True) as bar:
            for trade in bar:
                trades[trade.side] += 1
                volume[trade.side] += trade.qty

    # In a thread of its own, so that Ctrl-C stops the flow between two trades and not within one.
    thread = threading.Thread(target=flow, name="flow", daemon=True)
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        stop.set()
        thread.join()
    seconds = time.monotonic() - started
    publisher.close()
    summary = {
        "published": sum(trades.values()),
        "trades": trades,
        "volume": {side: round(total, 9) for side, total in volume.items()},
        "seconds": round(seconds, 3),
        "pending": publisher.pending,
        "lost": publisher.lost,
    }
    click.echo(json.dumps(summary))
    if publisher.pending:
        raise SystemExit(
            f"trading-feed: the side-car has not committed {publisher.pending} trades. Is it running? With an outbox"
            " folder the next trading-feed sends them, without one they are gone"
        )
