"""A histogram of plain numbers, cheap enough to observe every trade."""

from bisect import bisect_left, bisect_right
from collections.abc import Collection
from itertools import accumulate, pairwise
from typing import Self


class Histogram:
    """Counts values, in seconds, into buckets with the given ascending upper bounds (inclusive, as in Prometheus)."""

    def __init__(self, *bounds: float) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def copy(self) -> Self:
        """One that stays as this one is now."""
        copied = type(self)(*self._bounds)
        copied._counts, copied.sum = list(self._counts), self.sum
        return copied

    def observe(self, values: Collection[float]) -> None:
        """Count values, in seconds, one or more; of many at once each costs less than one by itself."""
        ascending = sorted(values)
        first, last = bisect_left(self._bounds, ascending[0]), bisect_left(self._bounds, ascending[-1])
        # How many are at most as large as each bound, and before that none.
        upto = [0, *(bisect_right(ascending, bound) for bound in self._bounds[first:last]), len(ascending)]
        for bucket, (start, end) in enumerate(pairwise(upto), first):
            self._counts[bucket] += end - start
        self.sum += sum(values)

    def buckets(self) -> list[tuple[str, float]]:
        """Pairs of ``le`` and cumulative count, the last of them ``+Inf``."""
        labels = [*map(str, self._bounds), "+Inf"]
        return list(zip(labels, map(float, accumulate(self._counts)), strict=True))
