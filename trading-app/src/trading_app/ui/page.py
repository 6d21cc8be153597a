"""The page: how the loop is, a ticket, an order flow, the numbers, charts, positions, and the tape."""

from pathlib import Path

import streamlit as st

from trading_app.ui.chart import draw_charts
from trading_app.ui.desk import Desk, shared_desk
from trading_app.ui.numbers import draw_numbers
from trading_app.ui.positions import draw_positions
from trading_app.ui.simulator_panel import draw_simulator
from trading_app.ui.status import draw_status
from trading_app.ui.tape import draw_tape
from trading_app.ui.ticket import current_symbol, draw_ticket


@st.fragment(run_every=1.0)
def status(desk: Desk) -> None:
    """How the loop is."""
    draw_status(desk, desk.look(current_symbol(desk)))
    if desk.activity != st.session_state["activity"]:  # on this page or another
        st.rerun()


def orders(desk: Desk) -> None:
    """Ticket and order flow: drawn anew when they are used, and every second while the simulator works."""
    draw_ticket(desk)
    draw_simulator(desk)


@st.fragment(run_every=1.0)
def market(desk: Desk) -> None:
    """What is counted."""
    symbol = current_symbol(desk)
    snapshot = desk.look(symbol)
    with st.container(key="market", gap="small"):
        draw_numbers(snapshot)
        draw_charts(snapshot, symbol)
        draw_positions(snapshot)
    with st.container(key="tape", gap="small"):
        draw_tape(desk, snapshot)


def page(desk: Desk) -> None:
    activity = st.session_state["activity"] = desk.activity
    status(desk)
    with st.container(key="desk"):
        with st.container(key="orders"):
            st.fragment(orders, run_every=1.0 if any(activity) else None)(desk)
        market(desk)


st.set_page_config(page_title="trading-telemetry", page_icon="📈", layout="wide")
st.html(Path(__file__).with_name("page.css"))
page(shared_desk())
