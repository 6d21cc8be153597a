"""The page: state of the loop, ticket, tape, numbers, charts, positions, and order flow."""

from pathlib import Path

import streamlit as st

from trading_app.ui.chart import draw_charts
from trading_app.ui.clicks import redraw
from trading_app.ui.desk import Desk, shared_desk
from trading_app.ui.numbers import draw_numbers
from trading_app.ui.positions import draw_positions
from trading_app.ui.simulator_panel import draw_simulator
from trading_app.ui.status import draw_status
from trading_app.ui.tape import draw_tape
from trading_app.ui.ticket import current_symbol, draw_ticket

# A redraw costs the server processor time for each open page.
_SECONDS = 2.0


# One fragment: Streamlit's client can crash, or confuse clicks, when several are redrawn at the same time.
@st.fragment(run_every=_SECONDS)
def page(desk: Desk) -> None:
    symbol = current_symbol(desk)
    snapshot = desk.look(symbol)
    with redraw():
        draw_status(desk, snapshot)
        with st.container(key="desk"):
            with st.container(key="trading"):
                # Before the tape, which shows a new trade at once.
                draw_ticket(desk)
                with st.container(key="tape", gap="small"):
                    draw_tape(desk, snapshot)
            with st.container(key="market", gap="small"):
                draw_numbers(snapshot)
                draw_charts(snapshot, symbol)
                draw_positions(snapshot)
            with st.container(key="flow"):
                draw_simulator(desk)


st.set_page_config(page_title="trading-telemetry", page_icon="📈", layout="wide")
st.html(Path(__file__).with_name("page.css"))
page(shared_desk())
