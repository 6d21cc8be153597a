"""The totals of the last minutes, as polled, and the rates and positions they imply."""

import math
from collections import deque
from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

from trading_app.messages import SIDES, Side
from trading_app.totals import Totals


class Point(NamedTuple):
    """``at`` in Unix seconds, ``rates`` in trades per second."""

    at: float
    rates: Mapping[Side, float]


class Value(NamedTuple):
    """A position in units, or a price per unit, at a Unix time."""

    at: float
    value: float


class Seen(NamedTuple):
    """Totals, the Unix time of the poll, and the rates since the poll before; None without one."""

    at: float
    totals: Totals
    rates: Mapping[Side, float] | None


class History:
    """The totals polled in the last ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._seen: deque[Seen] = deque()

    def add(self, at: float, totals: Totals) -> None:
        while self._seen and self._seen[0].at < at - self._seconds:
            self._seen.popleft()
        self._seen.append(Seen(at, totals, _rates(self.last, at, totals) if self.last else None))

    @property
    def last(self) -> Seen | None:
        return self._seen[-1] if self._seen else None

    def points(self) -> list[Point]:
        """One point for each poll that has rates."""
        return [Point(seen.at, seen.rates) for seen in self._seen if seen.rates]

    def positions(self, symbol: str) -> list[Value]:
        """The net position at each poll."""
        return [Value(seen.at, seen.totals.position(symbol)) for seen in self._seen]

    def rates(self, seconds: float, now: float) -> Mapping[Side, float] | None:
        """Trades per second over the last ``seconds``; None with fewer than two polls in that time."""
        recent = self._recent(seconds, now)
        return _rates(recent[0], recent[-1].at, recent[-1].totals) if len(recent) > 1 else None

    def delivery(self, quantile: float, seconds: float, now: float) -> float | None:
        """A quantile of the delivery times of the last ``seconds``, in seconds; None without trades."""
        recent = self._recent(seconds, now)
        if len(recent) < 2:
            return None
        before, after = recent[0].totals.delivery, recent[-1].totals.delivery
        counts = {le: count - before.get(le, 0.0) for le, count in after.items()}
        # Counts that fell: the sidecar was restarted in between.
        return _quantile(quantile, after if min(counts.values(), default=0.0) < 0 else counts)

    def lost(self, seconds: float, now: float) -> float:
        """The number of trades declared lost in the last ``seconds``."""
        lost = [seen.totals.lost for seen in self._recent(seconds, now)]
        # A total that fell started at 0 again.
        return sum(after - before if after >= before else after for before, after in pairwise(lost))

    def _recent(self, seconds: float, now: float) -> list[Seen]:
        return [seen for seen in self._seen if seen.at >= now - seconds]


def _rates(before: Seen, at: float, totals: Totals) -> Mapping[Side, float]:
    # Totals that fell: the state was deleted, and they started at 0 again.
    return {
        side: max(0.0, totals.trades(side) - before.totals.trades(side)) / max(at - before.at, 1e-3) for side in SIDES
    }


def _quantile(quantile: float, counts: Mapping[float, float]) -> float | None:
    """As Prometheus computes it: linear within a bucket, and at most the last finite bound."""
    wanted = quantile * counts.get(math.inf, 0.0)
    lower = below = 0.0
    for le, count in sorted(counts.items()):
        if count >= wanted > below:
            return lower if le == math.inf else lower + (le - lower) * (wanted - below) / (count - below)
        lower, below = le, count
    return None
