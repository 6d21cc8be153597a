"""The log: the trades sent by hand, the newest first, and what became of each."""

import streamlit as st

from trading_app.ui.desk import Desk, Sent
from trading_app.ui.numbers import COLOURS
from trading_app.ui.words import clock, duration, number


def log(desk: Desk) -> None:
    st.markdown("**Sent by hand**")
    if not desk.log:
        st.markdown(":small[Nothing yet. Trades sent from the ticket stand here, the newest first.]")
        return
    st.table(
        [
            {
                "Time": clock(entry.trade.ts, "milliseconds"),
                "Side": f":{COLOURS[entry.trade.side]}[{entry.trade.side}]",
                "Quantity": number(entry.trade.qty),
                "State": _state(entry),
            }
            for entry in desk.log
        ]
    )


def _state(entry: Sent) -> str:
    if entry.status == "delivered" and entry.seconds is not None:
        return f"delivered in {duration(entry.seconds)}"
    return entry.status
