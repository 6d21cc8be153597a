"""The numbers, as the side-car has counted them."""

import time
from collections.abc import Iterator

import streamlit as st

from trading_app.messages import SIDES
from trading_app.ui.watch import View
from trading_app.ui.words import ago, duration, number, rounded

COLOURS = {"buy": "green", "sell": "red"}
_NONE = "-"


_HELP = {
    "Trades a second": "Counted by the side-car, over the last 5 seconds.",
    "Delivery p50": "Half of the trades of the last minute were at the side-car's socket so soon. The log tells of the"
    " commit, which comes later.",
    "Delivery p99": "99 of 100 trades of the last minute were at the side-car's socket so soon.",
}


def numbers(view: View, now: float) -> Iterator[tuple[str, str]]:
    """Labels and values at a Unix time, in the order in which they stand."""
    totals = view.totals
    rows = {
        side: (
            (f":{COLOURS[side]}[{side.capitalize()} trades]", number(totals.trades[side]) if totals else _NONE),
            (f":{COLOURS[side]}[{side.capitalize()} volume]", rounded(totals.volume[side]) if totals else _NONE),
        )
        for side in SIDES
    }
    yield from rows["buy"]
    yield "Net position", rounded(totals.position) if totals else _NONE
    yield from rows["sell"]
    yield "Last trade", ago(now - totals.last_trade_ts) if totals and totals.last_trade_ts else _NONE
    yield "Trades a second", rounded(sum(view.rates.values())) if view.rates else _NONE
    yield "Delivery p50", _NONE if view.p50 is None else duration(view.p50)
    yield "Delivery p99", _NONE if view.p99 is None else duration(view.p99)


def draw_numbers(view: View) -> None:
    with st.grid(3, min_column_width=100):
        for label, value in numbers(view, time.time()):
            st.metric(label, value, help=_HELP.get(label))
