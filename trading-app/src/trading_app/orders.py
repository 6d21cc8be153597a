"""Simulates orders or reads them from a file, and publishes each when it is due."""

import csv
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TextIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trading_app.messages import MAX_PRICE, MAX_QTY, SYMBOL, Side, Trade
from trading_app.publisher import TradePublisher

# Shorter waits are skipped: the kernel would wake the thread later than that.
_SHORTEST_WAIT = 0.001
_MOST_AT_ONCE = 1000


class Order(NamedTuple):
    """An order of ``qty`` units at ``price`` per unit, due ``at`` seconds after the start of the flow."""

    at: float
    side: Side
    qty: float
    symbol: str | None = None
    price: float | None = None


class FileError(Exception):
    """A file cannot be replayed. The message names the file and the line."""


class TradeRow(BaseModel):
    """A line of a file: ``qty`` in units above 0, ``ts`` in Unix seconds, ``price`` per unit."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    type: Literal["trade"] = "trade"
    side: Side
    qty: Annotated[float, Field(gt=0, le=MAX_QTY)]
    ts: float | None = None
    symbol: Annotated[str | None, Field(pattern=SYMBOL)] = None
    price: Annotated[float | None, Field(ge=0, le=MAX_PRICE)] = None


def simulate(
    rate: float, seed: int | None = None, *, buys: float = 0.5, symbols: Sequence[str] = ()
) -> Iterator[Order]:
    """Yield orders without end, ``rate`` per second. ``buys`` is the fraction of buy orders, 0 to 1.

    Quantities are log-normal. The price of each symbol is a random walk from 100. The same ``seed`` gives the same
    orders.
    """
    rng = random.Random(seed)  # noqa: S311 - a simulation
    prices = dict.fromkeys(symbols, 100.0)
    for number in count():
        side: Side = "buy" if rng.random() < buys else "sell"
        qty = max(0.01, round(rng.lognormvariate(0, 1), 2))
        symbol = rng.choice(symbols) if symbols else None
        if symbol:
            prices[symbol] = min(max(round(prices[symbol] * rng.lognormvariate(0, 0.0005), 4), 0.0001), MAX_PRICE)
        yield Order(number / rate, side, qty, symbol, prices[symbol] if symbol else None)


def read(path: Path) -> list[TradeRow]:
    """Return the trades of a ``.csv`` file with a header, or of a ``.jsonl`` file.

    Raises:
        FileError: the file cannot be read, or a line is not a trade.
    """
    if path.suffix not in _FORMATS:
        raise FileError(f"{path}: not a .csv or .jsonl file")
    lines, validate = _FORMATS[path.suffix]
    rows: list[TradeRow] = []
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


_FORMATS: dict[str, tuple[Callable[[TextIO], Iterator[tuple[int, Any]]], Callable[[Any], TradeRow]]] = {
    ".csv": (_csv_lines, TradeRow.model_validate_strings),
    ".jsonl": (_json_lines, partial(TradeRow.model_validate_json, strict=True)),
}


def at_rate(rows: Iterable[TradeRow], rate: float) -> Iterator[Order]:
    """Yield the rows as orders, ``rate`` per second."""
    return (Order(number / rate, row.side, row.qty, row.symbol, row.price) for number, row in enumerate(rows))


def at_speed(rows: Sequence[TradeRow], speed: float) -> Iterator[Order]:
    """Return the rows as orders with the intervals between their ``ts``, ``speed`` times as fast.

    Raises:
        FileError: a row has no ``ts``, or an earlier one than the row before it.
    """
    times = [row.ts for row in rows if row.ts is not None]
    if len(times) < len(rows) or times != sorted(times):
        raise FileError("--speed needs a ts in every line of the file, in ascending order")
    return (
        Order((ts - times[0]) / speed, row.side, row.qty, row.symbol, row.price)
        for row, ts in zip(rows, times, strict=True)
    )


def play(publisher: TradePublisher, orders: Iterable[Order], stop: threading.Event) -> Iterator[Trade]:
    """Publish each order when it is due, and yield the trade. Ends with the orders, or once ``stop`` is set."""
    for due in when_due(orders, stop):
        for order in due:
            if stop.is_set():
                return
            yield publisher.publish(order.side, order.qty, symbol=order.symbol, price=order.price)


def when_due(orders: Iterable[Order], stop: threading.Event) -> Iterator[list[Order]]:
    """Yield orders in groups as they become due, until there are no more or ``stop`` is set."""
    start = time.monotonic()
    due: list[Order] = []
    for order in orders:
        delay = start + order.at - time.monotonic()
        if (delay > _SHORTEST_WAIT or len(due) >= _MOST_AT_ONCE) and due:
            yield due
            due = []
        if stop.wait(delay) if delay > _SHORTEST_WAIT else stop.is_set():
            return
        due.append(order)
    yield due
