"""Positions by symbol, and their profit at the last price."""

from collections.abc import Container, Iterator, Mapping
from typing import NamedTuple

import pyarrow as pa
import streamlit as st

from trading_app.totals import SideTotals, Totals
from trading_app.ui.numbers import NONE
from trading_app.ui.poller import Snapshot

_NO_SYMBOL = "(no symbol)"
_NUMBERS = {
    "Net": ("net", "Units bought minus units sold."),
    "Bought": ("bought", "Units bought."),
    "Sold": ("sold", "Units sold."),
    "Avg. buy": (
        "average_buy",
        "Turnover by volume of the buys. Empty if some are known to carry no price.",
    ),
    "Avg. sell": (
        "average_sell",
        "Turnover by volume of the sells. Empty if some are known to carry no price.",
    ),
    "Last": ("last", "Price of the last trade that the page has seen. It sees the newest 100 of each poll."),
    "Turnover": ("turnover", "Sum of quantity times price of both sides. Trades without a price add nothing."),
    "Profit": (
        "profit",
        "Sells minus buys, plus the net position at the last price. Empty if some trades are known to carry no price.",
    ),
}
_COLUMNS = {"Symbol": st.column_config.TextColumn("Symbol", pinned=True)} | {
    name: st.column_config.NumberColumn(name, help=text, format="localized") for name, (_, text) in _NUMBERS.items()
}


class Position(NamedTuple):
    """Quantities in units, prices per unit; None where prices are missing."""

    symbol: str
    net: float
    bought: float
    sold: float
    average_buy: float | None
    average_sell: float | None
    last: float | None
    turnover: float | None
    profit: float | None


def positions(totals: Totals, last_prices: Mapping[str, float], unpriced: Container[str]) -> Iterator[Position]:
    """A position for each symbol that was traded; ``unpriced`` are the symbols with trades that carry no price."""
    for symbol, by_side in totals.by_symbol.items():
        buy, sell = by_side["buy"], by_side["sell"]
        if buy.trades or sell.trades:
            yield _position(symbol, buy, sell, last_prices.get(symbol), has_all_prices=symbol not in unpriced)


def _position(symbol: str, buy: SideTotals, sell: SideTotals, last: float | None, *, has_all_prices: bool) -> Position:
    net = round(buy.volume - sell.volume, 8)
    turnover = buy.notional + sell.notional
    average_buy, average_sell = (_average(side) if has_all_prices else None for side in (buy, sell))
    # A volume without a turnover has no prices: its average is unknown, and so is the profit.
    is_known = has_all_prices and all(side.notional or not side.volume for side in (buy, sell))
    return Position(
        symbol or _NO_SYMBOL,
        net,
        buy.volume,
        sell.volume,
        average_buy,
        average_sell,
        last,
        turnover if turnover or last is not None else None,
        sell.notional - buy.notional + net * last if is_known and last is not None else None,
    )


def _average(side: SideTotals) -> float | None:
    return side.notional / side.volume if side.notional else None


def draw_positions(snapshot: Snapshot) -> None:
    st.markdown("**Positions**")
    totals = snapshot.totals
    rows = list(positions(totals, snapshot.last_prices, snapshot.unpriced)) if totals else []
    if not rows:
        st.markdown(":small[No trades yet.]")
        return
    columns = {"Symbol": [row.symbol for row in rows]} | {
        name: [_rounded(getattr(row, field)) for row in rows] for name, (field, _) in _NUMBERS.items()
    }
    st.dataframe(
        pa.table(columns),
        hide_index=True,
        column_config=_COLUMNS,
        key="positions",
        placeholder=NONE,
        alt="Positions by symbol",
    )
    if unpriced := [symbol or _NO_SYMBOL for symbol in sorted(snapshot.unpriced)]:
        st.markdown(f":small[No averages and profit where some trades carry no price: {', '.join(unpriced)}.]")


def _rounded(value: float | None) -> float | None:
    """As many decimals as are worth reading."""
    return None if value is None else round(value, 2 if abs(value) >= 100 else 6)
