"""A histogram that is cheap enough to observe every trade."""

from bisect import bisect_left, bisect_right
from collections.abc import Collection
from itertools import accumulate, pairwise
from typing import Self


class Histogram:
    """Counts values, in seconds, in buckets. ``bounds`` are the ascending, inclusive upper bounds, without ``+Inf``."""

    def __init__(self, *bounds: float) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def copy(self) -> Self:
        """An independent copy."""
        copied = type(self)(*self._bounds)
        copied._counts, copied.sum = list(self._counts), self.sum
        return copied

    def observe(self, values: Collection[float]) -> None:
        """Count at least one value. Passing many values in one call is cheaper than one call for each."""
        ascending = sorted(values)
        first, last = bisect_left(self._bounds, ascending[0]), bisect_left(self._bounds, ascending[-1])
        # Cumulative counts at the bounds that the values span.
        cumulative = [0, *(bisect_right(ascending, bound) for bound in self._bounds[first:last]), len(ascending)]
        for bucket, (start, end) in enumerate(pairwise(cumulative), first):
            self._counts[bucket] += end - start
        self.sum += sum(values)

    def buckets(self) -> list[tuple[str, float]]:
        """Pairs of ``le`` and cumulative count, ending with ``+Inf``."""
        labels = [*map(str, self._bounds), "+Inf"]
        return list(zip(labels, map(float, accumulate(self._counts)), strict=True))
