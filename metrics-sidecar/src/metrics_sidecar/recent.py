"""The most recently counted trades."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from msgspec import UNSET

from metrics_sidecar.messages import Side, Trade

KEPT = 1_000


@dataclass(frozen=True, slots=True)
class CountedTrade:
    """A counted trade. Fields that the message did not have are None. ``received_at`` is in Unix seconds."""

    side: Side
    qty: float
    ts: float
    symbol: str | None
    price: float | None
    session: str | None
    seq: int | None
    received_at: float


class Recent:
    """Keeps the last `KEPT` trades, and at most one batch more."""

    def __init__(self) -> None:
        self._batches: deque[tuple[float, Sequence[Trade]]] = deque()
        self._kept = 0

    def add(self, trades: Sequence[Trade], received_at: float) -> None:
        """Add a batch, which must not change afterwards. ``received_at`` is in Unix seconds."""
        tail = trades[-KEPT:]
        self._batches.append((received_at, tail))
        self._kept += len(tail)
        while self._kept - len(self._batches[0][1]) >= KEPT:
            self._kept -= len(self._batches.popleft()[1])

    def last(self, limit: int) -> list[CountedTrade]:
        """The last ``limit`` trades, newest first; fewer if fewer were counted."""
        newest_first = (
            (trade, received_at) for received_at, batch in reversed(self._batches) for trade in reversed(batch)
        )
        return [_counted(trade, received_at) for trade, received_at in islice(newest_first, limit)]


def _counted(trade: Trade, received_at: float) -> CountedTrade:
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
