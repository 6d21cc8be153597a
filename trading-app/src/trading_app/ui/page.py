"""The page: a ticket to trade with, the totals as the side-car counts them, a log of what was sent."""

import threading
from datetime import UTC, datetime

import streamlit as st

from trading_app.messages import SIDES
from trading_app.outbox import OutboxError
from trading_app.settings import Settings
from trading_app.sidecar import SidecarAway, Totals
from trading_app.ui.desk import Desk


class Room:
    """Holds the one desk of the server.

    A hot reload makes `Desk` a new class. The desk of the old one is closed first: two cannot share an outbox.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._desk: Desk | None = None

    def desk(self, kind: type[Desk]) -> Desk:
        with self._lock:
            if type(self._desk) is not kind:
                self.close()
                self._desk = kind(Settings.from_environ(port=8501))
            return self._desk

    def close(self) -> None:
        if self._desk:
            self._desk.close()


@st.cache_resource(show_spinner=False, on_release=lambda room: room.close())
def room() -> Room:
    return Room()


def ticket(desk: Desk) -> None:
    with st.form("ticket", enter_to_submit=False):
        # A number field drops what it cannot read: it would make 25 of 2,5.
        quantity = st.text_input("Quantity", value="1")
        pressed = [
            side
            for side, column in zip(SIDES, st.columns(2), strict=True)
            if column.form_submit_button(side.capitalize(), width="stretch")
        ]
    for side in pressed:
        try:
            desk.trade(side, quantity)
        except (ValueError, OutboxError) as error:
            st.error(f"Nothing was sent: {error}.")


@st.fragment(run_every=1.0)
def live(desk: Desk) -> None:
    """What changes without a click: it is drawn anew every second."""
    totals = desk.totals()
    with st.container():  # one element whatever it says, so that Streamlit keeps those below and does not redraw them
        status(desk, totals)
    for side, column in zip(SIDES, st.columns(2), strict=True):
        trades, volume = ("-", "-") if isinstance(totals, SidecarAway) else (number(by[side]) for by in totals)
        column.metric(f"{side.capitalize()} trades", trades)
        column.metric(f"{side.capitalize()} volume", volume)
    log(desk)


def status(desk: Desk, totals: Totals | SidecarAway) -> None:
    count = desk.waiting
    waiting = "1 trade waits" if count == 1 else f"{count:,} trades wait"
    if isinstance(totals, SidecarAway):
        st.warning(
            f"The side-car is away ({totals})." + (f" {waiting} here, to go on once it is back." if count else "")
        )
    else:
        st.badge("side-car up", icon=":material/check:", color="green")
        if count:
            st.caption(f"{waiting} for the side-car to commit.")
    if desk.lost:
        st.error(f"{desk.lost:,} trades were dropped: too many waited.")


def number(value: float) -> str:
    """All digits that matter, none that do not."""
    return f"{value:,.8f}".rstrip("0").rstrip(".")


def log(desk: Desk) -> None:
    st.subheader("Sent")
    sent = desk.log
    if not sent:
        st.caption("Nothing since the page's server started. Trades sent from the page stand here, the newest first.")
        return
    st.table(
        [
            {
                "Time": datetime.fromtimestamp(trade.ts, UTC).astimezone().strftime("%H:%M:%S.%f")[:-3],
                "Side": trade.side,
                "Quantity": number(trade.qty),
                "State": state,
            }
            for trade, state in sent
        ]
    )


st.set_page_config(page_title="trading-telemetry", page_icon="📈")
st.title("trading-telemetry")
desk = room().desk(Desk)
ticket(desk)
live(desk)
