"""The command ``trading-feed``: publishes orders, simulated or read from a file."""

import json
import logging
import math
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import click

from trading_app.messages import SIDES, check_symbol
from trading_app.orders import FileError, Order, at_rate, at_speed, play, read, simulate
from trading_app.outbox import open_outbox
from trading_app.outbox_error import OutboxError
from trading_app.publisher import TradePublisher
from trading_app.settings import PublisherSettings, SettingError

_RATE = 10.0


class _Positive(click.FloatRange):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        return self.fail(f"{value!r} is not a number", param, ctx) if math.isnan(number) else number


_POSITIVE = _Positive(min=0, max=1e9, min_open=True)


def _symbols(_ctx: click.Context, _param: click.Parameter, value: str | None) -> list[str]:
    try:
        return [check_symbol(symbol.strip()) for symbol in value.split(",")] if value else []
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@dataclass(frozen=True)
class _Options:
    """The options of the command. `orders` returns the flow that they ask for."""

    rate: float | None
    count: int | None
    duration: float | None
    seed: int | None
    symbols: list[str]
    path: Path | None
    speed: float | None

    def check(self) -> None:
        """Refuse options that contradict each other."""
        if self.count and self.duration:
            raise click.UsageError("--count and --duration exclude each other.")
        if self.speed and (self.rate or not self.path):
            raise click.UsageError("--speed requires --file, and excludes --rate.")
        if self.path and self.seed is not None:
            raise click.UsageError("--seed applies to a simulation, not to --file.")
        if self.path and self.symbols:
            raise click.UsageError("--symbols applies to a simulation. A file has a column for them.")

    def orders(self) -> tuple[Iterator[Order], int | None]:
        """Return the orders, and the largest possible number of them, None if they are endless.

        Raises:
            FileError: the file cannot be replayed.
        """
        rate = self.rate or _RATE
        rows = read(self.path) if self.path else []
        if not self.path:
            orders = simulate(rate, self.seed, symbols=self.symbols)
        else:
            orders = at_speed(rows, self.speed) if self.speed else at_rate(rows, rate)
        lengths = [len(rows)] if self.path else []
        if self.count:
            orders = islice(orders, self.count)
            lengths.append(self.count)
        if duration := self.duration:
            orders = takewhile(lambda order: order.at < duration, orders)
            if not self.speed:
                lengths.append(math.ceil(duration * rate))
        return orders, min(lengths, default=None)


@click.command
@click.option("--rate", type=_POSITIVE, help=f"Trades per second.  [default: {_RATE:g}]")
@click.option("--count", type=click.IntRange(min=1), help="Stop after this number of trades.")
@click.option("--duration", type=_POSITIVE, help="Stop after this number of seconds.")
@click.option("--seed", type=int, help="Make the simulation reproducible.")
@click.option("--symbols", callback=_symbols, help="Simulate a price for each symbol, such as BTC-USD,ETH-USD.")
@click.option("--file", "path", type=click.Path(path_type=Path), help="Replay a .csv or .jsonl file of trades.")
@click.option("--speed", type=_POSITIVE, help="Replay by the ts in the file, at this multiple of the original speed.")
def main(**options: Any) -> None:
    """Send orders to the sidecar, simulated or from a file, until they end or Ctrl-C is pressed.

    The last line of the output is a summary in JSON. Settings come from the environment:
    WEBAPP_ZMQ_ADDR, WEBAPP_SIDECAR_URL, WEBAPP_OUTBOX, WEBAPP_CURVE.
    """
    logging.basicConfig(format="trading-feed: %(message)s")
    flow = _Options(**options)
    flow.check()
    try:
        settings = PublisherSettings.read()
        orders, length = flow.orders()
        outbox = open_outbox(settings.outbox, "feed")
    except (SettingError, FileError, OutboxError) as error:
        raise SystemExit(f"trading-feed: {error}") from None
    with TradePublisher(
        settings.zmq_addr, sidecar_url=settings.sidecar_url, outbox=outbox, curve=settings.curve
    ) as publisher:
        started = time.monotonic()
        trades = _publish(publisher, orders, length)
        seconds = time.monotonic() - started
    click.echo(json.dumps(_summary(publisher, trades, seconds)))
    if problems := list(_problems(publisher, trades)):
        raise SystemExit("\n".join(f"trading-feed: {problem}" for problem in problems))


class _Published:
    """The number and the volume of the published trades, by side. ``problem`` says why the rest was not published."""

    def __init__(self) -> None:
        self.trades = dict.fromkeys(SIDES, 0)
        self.volume = dict.fromkeys(SIDES, 0.0)
        self.problem = ""


def _problems(publisher: TradePublisher, published: _Published) -> Iterator[str]:
    if published.problem:
        yield f"stopped early: {published.problem}"
    if publisher.lost:
        yield f"{publisher.lost} trades were dropped from the full journal"
    if publisher.pending:
        yield (
            f"the sidecar has not committed {publisher.pending} trades. Is it running? With an outbox folder, the next"
            " trading-feed sends them. Without one, they are lost"
        )


def _publish(publisher: TradePublisher, orders: Iterable[Order], length: int | None) -> _Published:
    """Publish the orders until they end or Ctrl-C is pressed."""
    stop = threading.Event()
    published = _Published()

    def flow() -> None:
        trades = play(publisher, orders, stop)
        # Redrawing the bar for each trade would slow down a fast flow.
        steps = max(1, (length or 0) // 200)
        bar = click.progressbar(trades, length=length, file=sys.stderr, update_min_steps=steps, show_pos=True)
        try:
            with bar:
                for trade in bar:
                    published.trades[trade.side] += 1
                    published.volume[trade.side] += trade.qty
        except (OutboxError, RuntimeError) as error:
            published.problem = str(error)

    # The flow has its own thread, so that Ctrl-C stops it between two trades and not during one.
    with _set_on_ctrl_c(stop), ThreadPoolExecutor(1, "flow") as pool:
        pool.submit(flow).result()
    return published


@contextmanager
def _set_on_ctrl_c(event: threading.Event) -> Iterator[None]:
    """Let the first Ctrl-C set the event. A second one has its usual effect."""
    previous = signal.getsignal(signal.SIGINT)

    def handle(*_: object) -> None:
        event.set()
        signal.signal(signal.SIGINT, previous)

    # A shell starts its background jobs with the signal ignored.
    if previous is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _summary(publisher: TradePublisher, published: _Published, seconds: float) -> dict[str, Any]:
    return {
        "published": sum(published.trades.values()),
        "trades": published.trades,
        "volume": {side: round(total, 9) for side, total in published.volume.items()},
        "seconds": round(seconds, 3),
        "pending": publisher.pending,
        "lost": publisher.lost,
    }
