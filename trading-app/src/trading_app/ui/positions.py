"""Positions by symbol, and the profit they would make at the last price."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import pyarrow as pa
import streamlit as st

from trading_app.totals import SideTotals, Totals
from trading_app.ui.numbers import NONE
from trading_app.ui.poller import Snapshot

_NO_SYMBOL = "(no symbol)"
_NUMBERS = {
    "Net": ("net", "Units bought less units sold."),
    "Bought": ("bought", "Units bought."),
    "Sold": ("sold", "Units sold."),
    "Avg. buy": ("average_buy", "Turnover of the buys by their volume: too low where some carry no price."),
    "Avg. sell": ("average_sell", "Turnover of the sells by their volume: too low where some carry no price."),
    "Last": ("last", "Price of the last trade."),
    "Turnover": ("turnover", "Sum of quantity times price, of both sides."),
    "Profit": (
        "profit",
        "Sells less buys, plus the net position at the last price. A trade without a price counts as free.",
    ),
}
_COLUMNS = {"Symbol": st.column_config.TextColumn("Symbol", pinned=True)} | {
    name: st.column_config.NumberColumn(name, help=text, format="localized") for name, (_, text) in _NUMBERS.items()
}


class Position(NamedTuple):
    """Quantities in units, prices per unit; None where no price is known."""

    symbol: str
    net: float
    bought: float
    sold: float
    average_buy: float | None
    average_sell: float | None
    last: float | None
    turnover: float | None
    profit: float | None


def positions(totals: Totals, last_prices: Mapping[str, float]) -> Iterator[Position]:
    """A position for each symbol that was traded."""
    for symbol, by_side in totals.by_symbol.items():
        buy, sell = by_side["buy"], by_side["sell"]
        if buy.trades or sell.trades:
            yield _position(symbol, buy, sell, last_prices.get(symbol))


def _position(symbol: str, buy: SideTotals, sell: SideTotals, last: float | None) -> Position:
    net = round(buy.volume - sell.volume, 8)
    turnover = buy.notional + sell.notional
    has_prices = turnover > 0 or last is not None
    return Position(
        symbol or _NO_SYMBOL,
        net,
        buy.volume,
        sell.volume,
        buy.notional / buy.volume if buy.notional else None,
        sell.notional / sell.volume if sell.notional else None,
        last,
        turnover if has_prices else None,
        None if last is None else sell.notional - buy.notional + net * last,
    )


def draw_positions(snapshot: Snapshot) -> None:
    st.markdown("**Positions**")
    rows = list(positions(snapshot.totals, snapshot.last_prices)) if snapshot.totals else []
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


def _rounded(value: float | None) -> float | None:
    """As many decimals as are worth reading."""
    return None if value is None else round(value, 2 if abs(value) >= 100 else 6)
