"""The page: how the loop is, a ticket, an order flow, the numbers, the charts, and a log of what was sent."""

import streamlit as st

from trading_app.ui.chart import chart
from trading_app.ui.desk import Desk, shared_desk
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
page(shared_desk())
