"""The last price of each symbol, now and in the last minutes."""

from collections.abc import Iterable, Mapping
from math import floor

from trading_app.counted import CountedTrade
from trading_app.ui.history import Value


class Prices:
    """The last price in each second of the last ``seconds``, by symbol; "" stands for trades without a symbol."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._by_second: dict[str, dict[int, float]] = {}
        self._last: dict[str, float] = {}
        self._unpriced: set[str] = set()

    def add(self, trades: Iterable[CountedTrade]) -> None:
        """Add the prices of trades, oldest first. A trade may be added more than once."""
        for trade in trades:
            symbol = trade.symbol or ""
            if trade.price is None:
                self._unpriced.add(symbol)
            else:
                self._last[symbol] = trade.price
                self._by_second.setdefault(symbol, {})[floor(trade.received_at)] = trade.price

    def forget(self, now: float, symbols: Iterable[str]) -> None:
        """Drop prices that are too old, and symbols other than ``symbols``."""
        symbols = set(symbols)
        self._unpriced &= symbols
        self._last = {symbol: self._last[symbol] for symbol in symbols if symbol in self._last}
        self._by_second = {
            symbol: {
                second: price for second, price in self._by_second[symbol].items() if second >= now - self._seconds
            }
            for symbol in self._last
        }

    @property
    def last(self) -> Mapping[str, float]:
        """The last price of each symbol that has one."""
        return dict(self._last)

    @property
    def unpriced(self) -> frozenset[str]:
        """The symbols of which a trade without a price was seen."""
        return frozenset(self._unpriced)

    def over_time(self, symbol: str, now: float) -> list[Value]:
        """The last price in each second that has one, and the last of them again at ``now``."""
        by_second = self._by_second.get(symbol, {})
        values = [Value(float(second), by_second[second]) for second in sorted(by_second)]
        return [*values, Value(now, values[-1].value)] if values else []
