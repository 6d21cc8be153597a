"""The trades counted last."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from msgspec import UNSET

from metrics_sidecar.messages import Side, Trade

KEPT = 1_000


@dataclass(frozen=True, slots=True)
class CountedTrade:
    """A trade as it came, and when, in Unix seconds. What it came without is null."""

    side: Side
    qty: float
    ts: float
    symbol: str | None
    price: float | None
    session: str | None
    seq: int | None
    received_at: float


class Recent:
    """Remembers the last `KEPT` trades, by the batch."""

    def __init__(self) -> None:
        self._batches: deque[tuple[float, Sequence[Trade]]] = deque()
        self._kept = 0

    def add(self, trades: Sequence[Trade], received_at: float) -> None:
        tail = trades[-KEPT:]
        self._batches.append((received_at, tail))
        self._kept += len(tail)
        while self._kept - len(self._batches[0][1]) >= KEPT:
            self._kept -= len(self._batches.popleft()[1])

    def last(self, limit: int) -> list[CountedTrade]:
        """Up to ``limit`` of them, the newest first."""
        newest_first = (
            (trade, received_at) for received_at, batch in reversed(self._batches) for trade in reversed(batch)
        )
        return [_show(trade, received_at) for trade, received_at in islice(newest_first, limit)]


def _show(trade: Trade, received_at: float) -> CountedTrade:
    return CountedTrade(
        side=trade.side,
        qty=trade.qty,
        ts=trade.ts,
        symbol=trade.symbol or None,
        price=None if trade.price is UNSET else trade.price,
        session=trade.session or None,
        seq=trade.seq or None,
        received_at=received_at,
    )
