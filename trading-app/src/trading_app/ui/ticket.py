"""The ticket: a quantity, and a button a side."""

import streamlit as st

from trading_app.messages import SIDES
from trading_app.outbox import OutboxError
from trading_app.ui.desk import Desk

_SHORTCUTS = {"buy": "B", "sell": "S"}


def ticket(desk: Desk) -> None:
    with st.form("ticket", enter_to_submit=False):
        # A number field drops what it cannot read: it would make 25 of 2,5.
        quantity = st.text_input("Quantity", value="1")
        pressed = [
            side
            for side, column in zip(SIDES, st.columns(2), strict=True)
            if column.form_submit_button(side.capitalize(), key=side, shortcut=_SHORTCUTS[side], width="stretch")
        ]
    for side in pressed:
        try:
            desk.trade(side, quantity)
        except (ValueError, OutboxError) as error:
            st.toast(f"Nothing was sent: {error}.", icon=":material/error:", duration="long")
