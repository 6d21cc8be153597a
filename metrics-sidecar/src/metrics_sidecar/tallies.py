"""Trades, volume and notional by side and symbol, with a limit on the number of symbols."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sumprod
from typing import NamedTuple

from metrics_sidecar.messages import SIDES, Side, Trade

MAX_SYMBOLS = 100
OTHER = "other"


class Series(NamedTuple):
    """The totals of one side and symbol since ``created``, in Unix seconds; 0 if unknown.

    ``volume`` is in units traded; ``notional`` is the sum of ``qty * price``.
    """

    created: float
    trades: int = 0
    volume: float = 0.0
    notional: float = 0.0


@dataclass(slots=True)
class _Tally:
    created: float
    trades: int = 0
    volume: float = 0.0
    notional: float = 0.0


class Tallies:
    """Counts trades. The first ``max_symbols`` symbols to arrive are admitted; all others count as `OTHER`.

    Args:
        series: initial totals. Their symbols stay admitted.
        max_symbols: limit on admitted symbols. `OTHER` and trades without a symbol do not count towards it.
    """

    def __init__(self, series: Mapping[tuple[Side, str], Series], max_symbols: int) -> None:
        self._by_symbol = _BySymbol(max_symbols)
        for (side, symbol), counted in series.items():
            self._by_symbol.setdefault(symbol, {})[side] = _Tally(*counted)

    def series(self) -> dict[tuple[Side, str], Series]:
        """A copy of the totals, by side and symbol. Each symbol has both sides."""
        return {
            (side, symbol): Series(tally.created, tally.trades, tally.volume, tally.notional)
            for symbol, by_side in self._by_symbol.items()
            for side, tally in by_side.items()
        }

    def count(self, trades: Sequence[Trade], received_at: float) -> None:
        """Count trades. ``received_at``, in Unix seconds, becomes the creation time of newly admitted symbols."""
        by_symbol = self._by_symbol
        by_symbol.now = received_at
        symbols = {trade.symbol for trade in trades}
        if len(symbols) == 1:
            self._count_together(trades, by_symbol[symbols.pop()])
            return
        # With many symbols, grouping the few trades of each costs more than it saves.
        for trade in trades:
            tally = by_symbol[trade.symbol][trade.side]
            qty = trade.qty
            tally.trades += 1
            tally.volume += qty
            tally.notional += qty * (trade.price or 0.0)

    def _count_together(self, trades: Sequence[Trade], by_side: Mapping[Side, _Tally]) -> None:
        for side, tally in by_side.items():
            of_side = [trade for trade in trades if trade.side == side]
            quantities = [trade.qty for trade in of_side]
            tally.trades += len(of_side)
            tally.volume += sum(quantities)
            tally.notional += sumprod(quantities, [trade.price or 0.0 for trade in of_side])


class _BySymbol(dict[str, dict[Side, _Tally]]):
    """The tallies of each symbol; "" for trades without one. Looking up a new symbol admits it, up to the limit."""

    def __init__(self, max_symbols: int) -> None:
        super().__init__()
        self._max_symbols = max_symbols
        self.now = 0.0

    def __missing__(self, symbol: str) -> dict[Side, _Tally]:
        admitted = len(self) - ("" in self) - (OTHER in self)
        if symbol != OTHER and admitted >= self._max_symbols:
            return self[OTHER]
        return self.setdefault(symbol, {side: _Tally(float(self.now)) for side in SIDES})
