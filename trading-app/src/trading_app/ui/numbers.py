"""The key figures: what the sidecar has counted."""

import time
from collections.abc import Iterator

import streamlit as st

from trading_app.messages import SIDES
from trading_app.ui.formatting import duration, moment, number, per_second
from trading_app.ui.poller import Snapshot

COLOURS = {"buy": "green", "sell": "red"}
# A hyphen would start a list in Markdown.
NONE = "\N{EN DASH}"

_HELP = {
    "Rate": "Trades counted by the sidecar, over the last 5 seconds.",
    "Delivery p50": "Half of the trades of the last minute reached the sidecar within this time.",
    "Delivery p99": "99 of 100 trades of the last minute reached the sidecar within this time.",
}


def numbers(snapshot: Snapshot, now: float) -> Iterator[tuple[str, str]]:
    """Labels and values in the order of the page; ``now`` is a Unix time."""
    totals = snapshot.totals
    for side in SIDES:
        yield f":{COLOURS[side]}[{side.capitalize()} trades]", number(totals.trades(side)) if totals else NONE
    yield "Rate", per_second(sum(snapshot.rates.values())) if snapshot.rates else NONE
    yield "Last trade", moment(totals.last_trade_ts, now) if totals and totals.last_trade_ts else NONE
    yield "Delivery p50", NONE if snapshot.p50 is None else duration(snapshot.p50)
    yield "Delivery p99", NONE if snapshot.p99 is None else duration(snapshot.p99)


def draw_numbers(snapshot: Snapshot) -> None:
    with st.grid(6, min_column_width=100, gap="small"):
        for label, value in numbers(snapshot, time.time()):
            st.metric(label, value, help=_HELP.get(label))
