"""A simulated order flow in the background, one for all pages."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from trading_app.orders import Order, play, simulate
from trading_app.outbox import OutboxError
from trading_app.publisher import TradePublisher


@dataclass(frozen=True)
class Mix:
    """``rate`` in trades a second, ``buys`` the part of them that buys, from 0 to 1."""

    rate: float
    buys: float


class Flow:
    """Publishes simulated orders from `start` to `stop`. ``problem`` says why it ended by itself, and is empty else."""

    def __init__(self, publisher: TradePublisher) -> None:
        self._publisher = publisher
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._mix: Mix | None = None
        self.problem = ""

    @property
    def mix(self) -> Mix | None:
        """What is running; None while nothing is."""
        return self._mix if self._thread and self._thread.is_alive() else None

    def start(self, mix: Mix) -> None:
        """Start, unless it runs: the first of two pages wins."""
        with self._lock:
            if self.mix:
                return
            self._stop.clear()
            self._mix = mix
            self._thread = threading.Thread(target=self._run, args=(mix,), name="flow", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        with self._lock:
            self._stop.set()
            if self._thread:
                self._thread.join()

    def burst(self, count: int, buys: float) -> None:
        """Publish so many orders at once."""
        self._publish(islice(simulate(1e9, buys=buys), count), threading.Event())

    def _run(self, mix: Mix) -> None:
        self._publish(simulate(mix.rate, buys=mix.buys), self._stop)

    def _publish(self, orders: Iterable[Order], stop: threading.Event) -> None:
        self.problem = ""
        try:
            for _ in play(self._publisher, orders, stop):
                continue
        except OutboxError as error:
            self.problem = str(error)
