"""A histogram of plain numbers, cheap enough to observe every trade."""

from bisect import bisect_left, bisect_right
from collections.abc import Collection
from itertools import accumulate


class Histogram:
    """Counts values, in seconds, into buckets with the given ascending upper bounds (inclusive, as in Prometheus)."""

    def __init__(self, *bounds: float) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, values: Collection[float]) -> None:
        """Count values, in seconds; of many at once each costs less than one by itself."""
        ascending = sorted(values)
        start = 0
        while start < len(ascending):
            bucket = bisect_left(self._bounds, ascending[start])
            end = bisect_right(ascending, self._bounds[bucket], start) if bucket < len(self._bounds) else len(ascending)
            self._counts[bucket] += end - start
            start = end
        self.sum += sum(ascending)

    def buckets(self) -> list[tuple[str, float]]:
        """Pairs of ``le`` and cumulative count, the last of them ``+Inf``."""
        labels = [*map(str, self._bounds), "+Inf"]
        return list(zip(labels, map(float, accumulate(self._counts)), strict=True))
