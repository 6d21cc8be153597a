"""A simulated order flow in the background, one for all pages."""

import statistics
import threading
import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

from trading_app.orders import Order, simulate, when_due
from trading_app.outbox_error import OutboxError
from trading_app.publisher import TradePublisher

_WINDOW = 1.0
# Longer than two windows of a flow of one trade a second.
_PAUSE = 2.5
_SAMPLES = 1000


class FlowSettings(Struct, frozen=True):
    """``rate`` is in trades per second, ``buys`` the fraction of buys from 0 to 1."""

    rate: Annotated[float, Meta(gt=0)]
    buys: Annotated[float, Meta(ge=0, le=1)]
    symbols: tuple[str, ...] = ()


class Load(NamedTuple):
    """Recent load on the publisher: ``calls`` of `publish` per second, and their median duration in ``seconds``."""

    calls: float
    seconds: float


class Meter:
    """Counts calls and their durations, in windows of about a second. A window begins with its first calls."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._since = 0.0
        self._calls = 0
        self._times: list[float] = []
        self._last: tuple[float, Load] | None = None

    def add(self, times: list[float]) -> None:
        """Add calls by their durations in seconds."""
        with self._lock:
            now = self._clock()
            if self._calls and now - self._since >= _WINDOW:
                self._close(now)
            if not self._calls:
                self._since = now
            if len(self._times) < _SAMPLES:
                self._times += times[: _SAMPLES - len(self._times)]
            self._calls += len(times)

    def read(self) -> Load | None:
        """The last full window; None if there were no calls lately."""
        with self._lock:
            now = self._clock()
            if self._calls and now - self._since >= _PAUSE:
                self._close(now)
            return self._last[1] if self._last and now - self._last[0] < 2 * _PAUSE else None

    def _close(self, now: float) -> None:
        # Calls that paused, as after a burst, were made within one window.
        seconds = now - self._since if now - self._since < _PAUSE else _WINDOW
        self._last = self._since + seconds, Load(self._calls / seconds, statistics.median(self._times))
        self._calls, self._times = 0, []


class Simulator:
    """Publishes simulated orders from `start` to `stop`, and in bursts. ``problem`` says why one ended by itself."""

    def __init__(self, publisher: TradePublisher) -> None:
        self._publisher = publisher
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._closed = threading.Event()
        self._flow: threading.Thread | None = None
        self._burst: threading.Thread | None = None
        self._settings: FlowSettings | None = None
        self._meter = Meter()
        self.problem = ""

    @property
    def settings(self) -> FlowSettings | None:
        """The settings of the running flow; None if there is none."""
        return self._settings if self._flow and self._flow.is_alive() else None

    @property
    def load(self) -> Load | None:
        """The load on the publisher; None while nothing is published."""
        return self._meter.read()

    def start(self, settings: FlowSettings) -> None:
        """Start a flow, unless one is running."""
        with self._lock:
            if self.settings:
                return
            self._stop.clear()
            self._settings = settings
            orders = simulate(settings.rate, buys=settings.buys, symbols=settings.symbols)
            self._flow = self._run("flow", orders, self._stop)

    def stop(self) -> None:
        with self._lock:
            self._stop.set()
            if self._flow:
                self._flow.join()

    def burst(self, count: int, settings: FlowSettings) -> None:
        """Publish ``count`` orders at once in the background, unless a burst is in progress."""
        with self._lock:
            if self._burst and self._burst.is_alive():
                return
            orders = islice(simulate(1e9, buys=settings.buys, symbols=settings.symbols), count)
            self._burst = self._run("burst", orders, self._closed)

    def close(self) -> None:
        self._closed.set()
        self.stop()
        if self._burst:
            self._burst.join()

    def _run(self, name: str, orders: Iterable[Order], stop: threading.Event) -> threading.Thread:
        thread = threading.Thread(target=self._publish, args=(orders, stop), name=name, daemon=True)
        thread.start()
        return thread

    def _publish(self, orders: Iterable[Order], stop: threading.Event) -> None:
        self.problem = ""
        publish, clock = self._publisher.publish, time.perf_counter
        try:
            for due in when_due(orders, stop):
                times = []
                for order in due:
                    began = clock()
                    publish(order.side, order.qty, symbol=order.symbol, price=order.price)
                    times.append(clock() - began)
                self._meter.add(times)
        except (OutboxError, RuntimeError) as error:
            self.problem = str(error)
