"""The page: how the loop is, a ticket, an order flow, the numbers, the charts, and a log of what was sent."""

import threading

import streamlit as st

from trading_app.settings import Settings
from trading_app.ui.chart import chart
from trading_app.ui.desk import Desk
from trading_app.ui.log import log
from trading_app.ui.loop import loop
from trading_app.ui.numbers import draw_numbers
from trading_app.ui.order_flow import order_flow
from trading_app.ui.ticket import ticket

# Grafana's green and red, with a text that can be read on both.
STYLE = """
.st-key-buy button, .st-key-buy button:hover { background: #73BF69; border-color: #73BF69; }
.st-key-sell button, .st-key-sell button:hover { background: #F2495C; border-color: #F2495C; }
:is(.st-key-buy, .st-key-sell) button, :is(.st-key-buy, .st-key-sell) button * { color: #111217; }
:is(.st-key-buy, .st-key-sell) button:hover { filter: brightness(1.1); }
"""


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
                self._desk = kind(Settings.from_environ(port=8501), self._desk.log if self._desk else ())
            return self._desk

    def close(self) -> None:
        if self._desk:
            self._desk.close()


@st.cache_resource(show_spinner=False, on_release=lambda room: room.close())
def room() -> Room:
    return Room()


@st.fragment(run_every=1.0)
def page(desk: Desk) -> None:
    """All that lives: drawn anew every second and after each click."""
    view = desk.look()
    loop(desk, view)
    left, right = st.columns([2, 3], gap="large")
    with left:
        ticket(desk)
        order_flow(desk)
        log(desk)
    with right:
        draw_numbers(view)
        chart(view)


st.set_page_config(page_title="trading-telemetry", page_icon="📈", layout="wide")
st.html(f"<style>{STYLE}</style>")
st.title("trading-telemetry", anchor=False)
st.markdown(
    ":small[A trade made on this page goes over ZeroMQ to the side-car, which counts it exactly once. Prometheus asks"
    " the side-car for its totals every second, and Grafana draws them.]"
)
page(room().desk(Desk))
