"""A histogram of plain numbers, cheap enough to observe every trade."""

from bisect import bisect_left
from itertools import accumulate


class Histogram:
    """Counts values, in seconds, into buckets with the given ascending upper bounds (inclusive, as in Prometheus)."""

    def __init__(self, *bounds: float) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self.sum += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Pairs of ``le`` and cumulative count, the last of them ``+Inf``."""
        labels = [*map(str, self._bounds), "+Inf"]
        return list(zip(labels, map(float, accumulate(self._counts)), strict=True))
