"""How the loop is: side-car, Prometheus and Grafana, asked once a second while somebody looks."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from trading_app.client import HttpClient, Unreachable
from trading_app.messages import Side
from trading_app.settings import Settings
from trading_app.totals import Totals, TotalsClient
from trading_app.ui.history import History, Point
from trading_app.ui.prometheus import Prometheus

_INTERVAL = 1.0
# Who has not looked for so long has gone.
_PATIENCE = 3.0
_STALE = 2.0
CHART_SECONDS = 300.0
_CHART_STEP = 2.0
_RATE_SECONDS = 5.0
_DELIVERY_SECONDS = 60.0


@dataclass(frozen=True)
class View:
    """The loop as it was at ``asked_at``, in Unix seconds.

    ``sidecar``, ``prometheus`` and ``grafana`` say why each is away, and are empty where it is not; ``scraped`` says
    whether Prometheus reaches the side-car. ``totals`` are the last known, as of ``totals_at``; None before the first.
    ``rates`` are in trades a second, ``p50`` and ``p99`` of the delivery in seconds; ``lost`` is the
    trades declared gone in the minutes of the chart, whose ``points`` ``source`` has seen.
    """

    asked_at: float = 0.0
    sidecar: str = "not asked yet"
    prometheus: str = "not asked yet"
    grafana: str = "not asked yet"
    scraped: bool = False
    totals: Totals | None = None
    totals_at: float = 0.0
    rates: Mapping[Side, float] | None = None
    p50: float | None = None
    p99: float | None = None
    lost: float = 0.0
    points: tuple[Point, ...] = ()
    source: Literal["Prometheus", "this page"] = "this page"


class Watch:
    """Asks in a thread of its own, so that a neighbour that hangs keeps no page waiting."""

    def __init__(self, settings: Settings) -> None:
        self._sidecar = TotalsClient(settings.sidecar_url)
        self._prometheus = Prometheus(settings.prometheus_url)
        self._grafana = HttpClient(settings.grafana_url)
        self._history = History(CHART_SECONDS)
        self._view = View()
        self._looked_at = -_PATIENCE
        self._closed = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def look(self) -> View:
        """The loop as of about a second ago. The first look in a while waits for the answers, a second at most."""
        with self._changed:
            self._looked_at = time.monotonic()
            self._changed.notify_all()
            self._changed.wait_for(lambda: time.time() - self._view.asked_at < _STALE, timeout=_INTERVAL)
            return self._view

    def close(self) -> None:
        self._closed.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join()
        for neighbour in (self._sidecar, self._prometheus, self._grafana):
            neighbour.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed.is_set() or self._is_watched())
            if self._closed.is_set():
                return
            started = time.monotonic()
            view = self._ask()
            with self._changed:
                self._view = view
                self._changed.notify_all()
            self._closed.wait(max(0.0, started + _INTERVAL - time.monotonic()))

    def _is_watched(self) -> bool:
        return time.monotonic() - self._looked_at < _PATIENCE

    def _ask(self) -> View:
        totals, sidecar = _answer(self._sidecar.ask)
        now = time.time()
        if totals:
            self._history.add(now, totals)
        scraped, prometheus = _answer(self._prometheus.sees_sidecar)
        points, _ = (None, "") if prometheus else _answer(lambda: self._prometheus.points(CHART_SECONDS, _CHART_STEP))
        _, grafana = _answer(lambda: self._grafana.get("/api/health"))
        seen_at, seen = self._history.last or (0.0, None)
        return View(
            asked_at=time.time(),
            sidecar=sidecar,
            prometheus=prometheus,
            grafana=grafana,
            scraped=bool(scraped),
            totals=seen,
            totals_at=seen_at,
            rates=self._history.rates(_RATE_SECONDS, now),
            p50=self._history.delivery(0.5, _DELIVERY_SECONDS, now),
            p99=self._history.delivery(0.99, _DELIVERY_SECONDS, now),
            lost=self._history.lost(CHART_SECONDS, now),
            points=tuple(points or self._history.points()),
            source="Prometheus" if points else "this page",
        )


def _answer[Answer](ask: Callable[[], Answer]) -> tuple[Answer | None, str]:
    """The answer, or None and why there is none."""
    try:
        return ask(), ""
    except Unreachable as error:
        return None, str(error)
