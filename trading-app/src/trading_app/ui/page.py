"""The page: a ticket to trade with, the totals as the side-car counts them, a log of what was sent."""

from datetime import UTC, datetime

import streamlit as st

from trading_app.messages import SIDES
from trading_app.outbox import OutboxError
from trading_app.settings import Settings
from trading_app.ui.desk import Desk


# A hot reload makes Desk a new class: keyed by it, the desk of the old code is closed and one of the new code opened.
@st.cache_resource(max_entries=1, on_release=Desk.close, show_spinner=False, hash_funcs={type: id})
def open_desk(kind: type[Desk]) -> Desk:
    return kind(Settings.from_environ(port=8501))


def ticket(desk: Desk) -> None:
    # With a default of its own the field would turn text into that default, and a trade of it.
    st.session_state.setdefault("qty", 1.0)
    with st.form("ticket", enter_to_submit=False):
        qty = st.number_input("Quantity", value=None, step=1.0, format="%g", key="qty")
        pressed = [
            side
            for side, column in zip(SIDES, st.columns(2), strict=True)
            if column.form_submit_button(side.capitalize(), width="stretch")
        ]
    for side in pressed:
        try:
            desk.trade(side, qty)
        except (ValueError, OutboxError) as error:
            st.error(f"Nothing was sent: {error}.")


@st.fragment(run_every=1.0)
def live(desk: Desk) -> None:
    """What changes without a click: it is drawn anew every second."""
    totals = desk.totals()
    if totals is None:
        st.warning(f"The side-car is away. {desk.waiting:,} trades wait here and go on by themselves once it is back.")
    else:
        st.badge("side-car up", icon=":material/check:", color="green")
    if desk.lost:
        st.error(f"{desk.lost:,} trades were lost: too many waited.")
    for side, column in zip(SIDES, st.columns(2), strict=True):
        trades, volume = (f"{totals.trades[side]:,.0f}", f"{totals.volume[side]:,g}") if totals else ("-", "-")
        column.metric(f"{side.capitalize()} trades", trades)
        column.metric(f"{side.capitalize()} volume", volume)
    log(desk)


def log(desk: Desk) -> None:
    st.subheader("Sent")
    sent = desk.log
    if not sent:
        st.caption("Nothing yet. The trades you send stand here, the newest first.")
        return
    st.table(
        [
            {
                "Time": datetime.fromtimestamp(trade.ts, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3],
                "Side": trade.side,
                "Quantity": f"{trade.qty:,g}",
                "State": status,
            }
            for trade, status in sent
        ]
    )


st.set_page_config(page_title="trading-telemetry", page_icon=":material/candlestick_chart:")
st.title("trading-telemetry")
desk = open_desk(Desk)
ticket(desk)
live(desk)
