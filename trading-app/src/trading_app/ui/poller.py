"""The state of the loop: polls sidecar, Prometheus and Grafana once a second while a page is open."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from trading_app.client import HttpClient
from trading_app.counted import CountedTrade, CountedTradesClient
from trading_app.messages import Side
from trading_app.settings import Settings
from trading_app.totals import Totals, TotalsClient
from trading_app.ui.history import History, Point, Value
from trading_app.ui.prices import Prices
from trading_app.ui.prometheus import Prometheus
from trading_app.unreachable import Unreachable

CHART_SECONDS = 300.0
_INTERVAL = 1.0
# A page asks every two seconds. One that has not asked for so long is closed.
_PATIENCE = 6.0
_CHART_STEP = 2.0
_RATE_SECONDS = 5.0
_DELIVERY_SECONDS = 60.0
# After a pause all that the sidecar keeps, otherwise as many as anyone can read within a second.
_ALL_TRADES, _TRADES = 1000, 100


@dataclass(frozen=True)
class Snapshot:
    """The loop as of ``asked_at``, in Unix seconds.

    ``sidecar``, ``prometheus`` and ``grafana`` say why each cannot be reached, and are empty if it can; ``scraped``
    says whether Prometheus reaches the sidecar. ``totals`` are the last known, as of ``totals_at``; None before the
    first. ``trades`` are the trades counted last, newest first, as of ``trades_at``. ``rates`` are in trades per
    second, ``p50`` and ``p99`` are delivery times in seconds. ``lost`` is the number of trades declared lost within the
    time of the charts. ``points`` and ``positions`` come from ``source``. ``positions`` and ``prices`` hold the symbols
    that open pages show; ``last_prices`` holds all symbols. ``unpriced`` names the symbols with trades known to carry
    no price.
    """

    asked_at: float = 0.0
    sidecar: str = "not asked yet"
    prometheus: str = "not asked yet"
    grafana: str = "not asked yet"
    scraped: bool = False
    totals: Totals | None = None
    totals_at: float = 0.0
    trades: tuple[CountedTrade, ...] = ()
    trades_at: float = 0.0
    rates: Mapping[Side, float] | None = None
    p50: float | None = None
    p99: float | None = None
    lost: float = 0.0
    points: tuple[Point, ...] = ()
    positions: Mapping[str, list[Value]] = field(default_factory=dict)
    prices: Mapping[str, list[Value]] = field(default_factory=dict)
    last_prices: Mapping[str, float] = field(default_factory=dict)
    unpriced: frozenset[str] = frozenset()
    source: Literal["Prometheus", "this page"] = "this page"


class Poller:
    """Polls in a thread of its own, so that a service that hangs blocks no page."""

    def __init__(self, settings: Settings) -> None:
        self._sidecar = TotalsClient(settings.sidecar_url)
        self._trades = CountedTradesClient(settings.sidecar_url)
        self._prometheus = Prometheus(settings.prometheus_url)
        self._grafana = HttpClient(settings.grafana_url)
        self._history = History(CHART_SECONDS)
        self._prices = Prices(CHART_SECONDS)
        self._tape: tuple[CountedTrade, ...] = ()
        self._tape_at = 0.0
        self._snapshot = Snapshot()
        self._looked_at: dict[str, float] = {}
        self._closed = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="poller", daemon=True)
        self._thread.start()

    def look(self, symbol: str = "") -> Snapshot:
        """The loop as of about a second ago, with the charts of ``symbol``.

        The first call after a pause waits for the answers, at most a second.
        """
        with self._changed:
            is_first = not self._is_watched()
            asked_at = self._snapshot.asked_at
            self._looked_at[symbol] = time.monotonic()
            self._changed.notify_all()
            if is_first:
                self._changed.wait_for(lambda: self._snapshot.asked_at > asked_at, timeout=_INTERVAL)
            return self._snapshot

    @property
    def last(self) -> Snapshot:
        """The last snapshot, however old."""
        return self._snapshot

    def close(self) -> None:
        self._closed.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join()
        for client in (self._sidecar, self._trades, self._prometheus, self._grafana):
            client.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed.is_set() or self._is_watched())
                symbols = list(self._looked_at)
            if self._closed.is_set():
                return
            started = time.monotonic()
            snapshot = self._ask(symbols)
            with self._changed:
                self._snapshot = snapshot
                self._changed.notify_all()
            self._closed.wait(max(0.0, started + _INTERVAL - time.monotonic()))

    def _is_watched(self) -> bool:
        now = time.monotonic()
        self._looked_at = {symbol: at for symbol, at in self._looked_at.items() if now - at < _PATIENCE}
        return bool(self._looked_at)

    def _ask(self, symbols: list[str]) -> Snapshot:
        sidecar = self._ask_sidecar()
        now = time.time()
        scraped, prometheus = _answer(self._prometheus.sees_sidecar)
        charts = None if prometheus else self._ask_for_charts(symbols)
        points, positions = charts or (
            self._history.points(),
            {symbol: self._history.positions(symbol) for symbol in symbols},
        )
        _, grafana = _answer(lambda: self._grafana.get("/api/health"))
        last = self._history.last
        return Snapshot(
            asked_at=time.time(),
            sidecar=sidecar,
            prometheus=prometheus,
            grafana=grafana,
            scraped=bool(scraped),
            totals=last.totals if last else None,
            totals_at=last.at if last else 0.0,
            trades=self._tape,
            trades_at=self._tape_at,
            rates=self._history.rates(_RATE_SECONDS, now),
            p50=self._history.delivery(0.5, _DELIVERY_SECONDS, now),
            p99=self._history.delivery(0.99, _DELIVERY_SECONDS, now),
            lost=self._history.lost(CHART_SECONDS, now),
            points=tuple(points),
            positions=positions,
            prices={symbol: self._prices.over_time(symbol, now) for symbol in symbols},
            last_prices=self._prices.last,
            unpriced=self._prices.unpriced,
            source="Prometheus" if charts else "this page",
        )

    def _ask_sidecar(self) -> str:
        """Store what the sidecar answers; return why it cannot be reached, empty if it can."""
        # Trades come first, so that each trade on the tape is in the totals.
        began = time.time()
        limit = _ALL_TRADES if began - self._tape_at > _PATIENCE else _TRADES
        trades, problem = _answer(lambda: self._trades.ask(limit))
        totals, problem = (None, problem) if problem else _answer(self._sidecar.ask)
        if totals and trades is not None:
            now = time.time()
            self._history.add(now, totals)
            self._tape, self._tape_at = tuple(trades), began
            self._prices.add(reversed(trades))
            self._prices.forget(now, totals.by_symbol)
        return problem

    def _ask_for_charts(self, symbols: list[str]) -> tuple[list[Point], dict[str, list[Value]]] | None:
        """Points and positions from Prometheus; None if it has none."""
        points, _ = _answer(lambda: self._prometheus.points(CHART_SECONDS, _CHART_STEP))
        positions, _ = _answer(
            lambda: {symbol: self._prometheus.positions(symbol, CHART_SECONDS, _CHART_STEP) for symbol in symbols}
        )
        return (points, positions) if points and positions is not None else None


def _answer[Answer](ask: Callable[[], Answer]) -> tuple[Answer | None, str]:
    """The answer, or None and the reason."""
    try:
        return ask(), ""
    except Unreachable as error:
        return None, str(error)
