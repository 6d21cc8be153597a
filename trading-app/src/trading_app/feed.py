"""The command ``trading-feed``: order flow, simulated or replayed from a file."""

import json
import logging
import math
import sys
import threading
import time
from collections.abc import Iterable
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import click

from trading_app.messages import SIDES, check_symbol
from trading_app.orders import FileError, Order, at_rate, at_speed, play, read, simulate
from trading_app.outbox import OutboxError, open_outbox
from trading_app.publisher import TradePublisher
from trading_app.settings import SettingError, Settings


class _Positive(click.FloatRange):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        return self.fail(f"{value!r} is no number", param, ctx) if math.isnan(number) else number


_POSITIVE = _Positive(min=0, max=1e9, min_open=True)


def _symbols(_ctx: click.Context, _param: click.Parameter, value: str | None) -> list[str]:
    try:
        return [check_symbol(symbol.strip()) for symbol in value.split(",")] if value else []
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command
@click.option("--rate", type=_POSITIVE, help="Trades a second.  [default: 10]")
@click.option("--count", type=click.IntRange(min=1), help="Stop after so many trades.")
@click.option("--duration", type=_POSITIVE, help="Stop after so many seconds.")
@click.option("--seed", type=int, help="Make the simulated flow the same every time.")
@click.option("--symbols", callback=_symbols, help="Simulate a random walk of prices for each: BTC-USD,ETH-USD")
@click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path),
    help="Replay a .csv or .jsonl file of trades.",
)
@click.option("--speed", type=_POSITIVE, help="Replay by the file's ts, so many times as fast.")
def main(  # noqa: PLR0913, PLR0917 - one parameter an option
    rate: float | None,
    count: int | None,
    duration: float | None,
    seed: int | None,
    symbols: list[str],
    path: Path | None,
    speed: float | None,
) -> None:
    """Send order flow to the sidecar, simulated or from a file, until it ends or Ctrl-C is pressed.

    The last line it prints is a summary in JSON. Settings come from the environment:
    WEBAPP_ZMQ_ADDR, WEBAPP_SIDECAR_URL, WEBAPP_OUTBOX, WEBAPP_CURVE.
    """
    logging.basicConfig(format="trading-feed: %(message)s")
    if count and duration:
        raise click.UsageError("--count and --duration exclude each other.")
    if speed and (rate or not path):
        raise click.UsageError("--speed goes with --file, and without --rate.")
    if path and seed is not None:
        raise click.UsageError("--seed goes with a simulated flow, not with --file.")
    if path and symbols:
        raise click.UsageError("--symbols goes with a simulated flow. A file has a column for them.")
    rate = rate or 10.0
    try:
        settings = Settings.from_environ(port=8000)
        rows = read(path) if path else []
        replayed = at_speed(rows, speed) if speed else at_rate(rows, rate)
        orders = replayed if path else simulate(rate, seed, symbols=symbols)
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
    with TradePublisher(
        settings.zmq_addr, sidecar_url=settings.sidecar_url, outbox=outbox, curve=settings.curve
    ) as publisher:
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
            f"trading-feed: the sidecar has not committed {publisher.pending} trades. Is it running? With an outbox"
            " folder the next trading-feed sends them, without one they are gone"
        )
